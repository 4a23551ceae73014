"""The tables of the catalogue.

What stands here in plain is what the gateway needs to decide by: states, dates, classes, sizes, opaque
identifiers. What says something about a person or a company (a document's name, sender, subject, digest
and extracted facts, a client's name and addresses, the reason of a hold) is sealed: under the document's
key, or under a key of the client's keyring, and is noise once that key is gone. Looking up by name goes
through blind indexes. Times are ISO 8601 in UTC with microseconds, so that text order is time order.

The schema changes by Alembic migrations only (`vault/catalogue/migrations`); a test holds the two together.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

REVISION: Final = "0009"  # of the newest migration

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID: Final = String(26)
GROUP: Final = String(32)
TIME: Final = String(32)  # "2026-11-22T01:02:03.000004+00:00"

# Facts about the store itself: its id, the public check value of its root key, the ledger's origin.
settings = Table(
    "settings",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

clients = Table(
    "clients",
    metadata,
    Column("id", ID, primary_key=True),
    Column("slug", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),  # open | closed
    Column("jurisdiction", String(16), nullable=False),
    Column("entity_type", String(32), nullable=False),
    Column("fiscal_year_end", String(5), nullable=False),  # MM-DD
    Column("custody_role", String(16), nullable=False),  # record_copy | working_copy
    Column("profile", LargeBinary, nullable=False),  # sealed under the keyring's "profile" key
    Column("created_at", TIME, nullable=False),
    # Its quota: NULL as configured, 0 no limit.
    Column("quota_bytes", BigInteger),
    Column("quota_files", BigInteger),
    Column("quota_file_size", BigInteger),  # bytes of one document
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("client_id", ID, ForeignKey("clients.id")),  # for the role client
    Column("state", String(16), nullable=False),  # active | disabled
    Column("password_hash", Text),  # argon2id, PHC string
    Column("totp", LargeBinary),  # secret, sealed under the house's "accounts" key
    Column("totp_last_step", Integer),  # a code is good once (RFC 6238, section 5.2)
    Column("created_at", TIME, nullable=False),
    Column("expires_at", TIME),  # none: no expiry
    Column("networks", Text),  # JSON list of networks it may come from; none: any
    # Who gave it its password or code: an account's id, "console" once there were officers, else "".
    Column("secrets_by", String(64), nullable=False, server_default=""),
    Column("hours", Text),  # "Mon-Fri 08:00-19:00", by the firm's clock; none: any
)

account_keys = Table(
    "account_keys",
    metadata,
    Column("account_id", ID, ForeignKey("accounts.id"), nullable=False),
    Column("fingerprint", String(64), nullable=False),  # SHA256:…
    Column("algorithm", String(64), nullable=False),
    Column("blob", LargeBinary, nullable=False),
    Column("added_at", TIME, nullable=False),
    Column("removed_at", TIME),
    # From when it counts for what an officer signs; none: a second officer has yet to sign for it.
    Column("counts_from", TIME),
    # Accounts, by comma, or one and `root-key`; `console`; empty: in the founding days; `unknown`: before it
    # was kept.
    Column("enrolled_by", String(64), nullable=False, server_default=""),
    PrimaryKeyConstraint("account_id", "fingerprint"),
)

# Acts of officers that take two: the first signature, until the second comes.
second_signatures = Table(
    "second_signatures",
    metadata,
    Column("act", String(32), nullable=False),
    Column("digest", String(64), nullable=False),  # of the act with its arguments
    Column("account_id", ID, ForeignKey("accounts.id"), nullable=False),
    Column("subject", ID, nullable=False),  # what it is about
    Column("arguments", Text, nullable=False),  # JSON: what the second officer has to say as well
    Column("signed_at", TIME, nullable=False),
    PrimaryKeyConstraint("act", "digest", "account_id"),
)

# Recoveries of a lost quorum: a key that the holder of the root key and one officer gave to an officer.
recoveries = Table(
    "recoveries",
    metadata,
    Column("id", ID, primary_key=True),
    Column("account_id", ID, ForeignKey("accounts.id"), nullable=False),  # whose key it is
    Column("fingerprint", String(64), nullable=False),
    Column("made", Boolean, nullable=False),  # the account was made by it
    Column("begun_at", TIME, nullable=False),
    Column("begun_by", ID, ForeignKey("accounts.id"), nullable=False),
    Column("counts_from", TIME, nullable=False),
    Column("proof", String(64), nullable=False, unique=True),  # SHA-256 of it: one proof, one act
    Column("announced_at", TIME),  # the log and the ledger have that it counts
    Column("ended_at", TIME),  # someone objected in time
    Column("ended_by", String(64)),
    Column("reviewed_at", TIME),
    Column("reviewed_by", String(64)),  # accounts, by comma
)

# Sources (an IPv4 address, an IPv6 /64) that logins failed from, so that a restart forgives nothing.
login_sources = Table(
    "login_sources",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("until", TIME, nullable=False),  # penalised until then
    Column("since", TIME, nullable=False),
    Column("touched_at", TIME, nullable=False),  # when the budgets were last reckoned
    Column(
        "budget", Float, nullable=False
    ),  # guesses left at accounts that never logged in from there
    Column("reserve", Float, nullable=False),  # more, for those that nobody guessed at
    Column("events", Text, nullable=False),  # JSON: what happened, how often
)

# What one source tried at one account: failures, and when it last logged in rightly from there.
login_lanes = Table(
    "login_lanes",
    metadata,
    Column("source", String(64), nullable=False),
    Column("account_id", ID, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("budget", Float, nullable=False),
    Column("touched_at", TIME, nullable=False),
    Column("trusted_at", TIME),
    PrimaryKeyConstraint("source", "account_id"),
)

# Which clients' documents an accountant (or archivist) may see.
grants = Table(
    "grants",
    metadata,
    Column("account_id", ID, ForeignKey("accounts.id"), nullable=False),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("granted_at", TIME, nullable=False),
    PrimaryKeyConstraint("account_id", "client_id"),
)

# Folders a client made in its inbox. Names are sealed under the client's "profile" key.
folders = Table(
    "folders",
    metadata,
    Column("id", ID, primary_key=True),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("parent_id", ID, ForeignKey("folders.id")),
    Column("name", LargeBinary, nullable=False),
    Column("name_index", LargeBinary, nullable=False),
    Column("created_at", TIME, nullable=False),
    Index("ix_folders_lookup", "client_id", "parent_id", "name_index"),
)

documents = Table(
    "documents",
    metadata,
    Column("id", ID, primary_key=True),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("parent_id", ID, ForeignKey("documents.id")),  # the container it came out of
    Column("folder_id", ID, ForeignKey("folders.id")),  # of the client's inbox
    Column("channel", String(8), nullable=False),  # sftp | smtp | part
    Column("submitter", ID),  # account, where there was one
    Column("depth", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(64), nullable=False),  # code: why it stands where it stands
    Column("received_at", TIME, nullable=False),
    Column("state_since", TIME, nullable=False),
    Column("size", Integer, nullable=False),  # plaintext bytes
    # Key and metadata: NULL once destroyed.
    Column("group_id", GROUP),
    Column("wrapped_key", LargeBinary),
    Column("sealed_metadata", LargeBinary),
    Column("name_index", LargeBinary),
    Column("digest_index", LargeBinary),
    # What inspection said.
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", TIME),
    Column(
        "lane", BigInteger, nullable=False, server_default="0"
    ),  # who sent it, blinded; 0 once judged
    Column("media_type", String(128)),
    Column("record_class", String(64)),
    Column("fiscal_year", Integer),
    Column("document_date", String(10)),
    Column("confidence", Float, nullable=False),
    Column("confirmed", Boolean, nullable=False),  # a person classified it
    Column("scans", Text),  # JSON: scanner, outcome, version; no document text
    # What the retention rules said, with the inputs (JSON), as computed last.
    Column("rule", String(128)),
    Column("eligible_at", TIME),
    Column("decision", Text),
    Column("restricted", Boolean, nullable=False),
    Column("batch_id", ID),
    Column("destroyed_at", TIME),
    Column("same_as", ID),  # the earliest document of the client that had the same bytes
    Index("ix_documents_tree", "client_id", "state", "fiscal_year", "record_class", "id"),
    Index("ix_documents_name", "client_id", "name_index"),
    Index("ix_documents_digest", "client_id", "digest_index"),
    Index("ix_documents_folder", "client_id", "folder_id", "id"),
    Index("ix_documents_work", "state", "next_attempt_at"),
    Index(
        "ix_documents_lanes",
        "client_id",
        "lane",
        "reason",
        "next_attempt_at",
        sqlite_where=text("state = 'RECEIVED'"),
        postgresql_where=text("state = 'RECEIVED'"),
    ),
    Index("ix_documents_due", "state", "eligible_at"),
    Index("ix_documents_parent", "parent_id"),
    Index("ix_documents_group", "group_id"),
    Index("ix_documents_batch", "batch_id"),
)

# What each client keeps, partial uploads included: counted by triggers on `documents` (migration 0004), so
# that no path that changes a state can forget it, and no quota has to count rows.
usage = Table(
    "usage",
    metadata,
    Column("client_id", ID, ForeignKey("clients.id"), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
)

# Who asked to open a document of a restricted class, and what an officer decided.
access_requests = Table(
    "access_requests",
    metadata,
    Column("id", ID, primary_key=True),
    Column("account_id", ID, ForeignKey("accounts.id"), nullable=False),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("document_id", ID, ForeignKey("documents.id"), nullable=False),
    Column("record_class", String(64)),  # of the document, and with the next the folder it lies in
    Column("fiscal_year", Integer),
    Column("state", String(16), nullable=False),  # waiting | approved | denied | lapsed | revoked
    Column("scope", String(16), nullable=False),  # document | folder
    Column("requested_at", TIME, nullable=False),
    Column("decided_at", TIME),
    Column("decided_by", String(64)),
    Column("reason", LargeBinary),  # of a denial, sealed under the client's "profile" key
    Column("until", TIME),
    Column("ended_at", TIME),  # lapsed or revoked
    Column("ended_by", String(64)),
    Index("ix_access_requests_asked", "account_id", "state", "document_id"),
    Index("ix_access_requests_waiting", "state", "requested_at"),
)

# Key groups: a mirror of the keyrings without the keys, so that lookups need no unsealing.
groups = Table(
    "groups",
    metadata,
    Column("id", GROUP, primary_key=True),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("kind", String(8), nullable=False),  # intake | cohort
    Column("label", String(128), nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("closed_at", TIME),  # from here on it takes nothing more: it is about to end
    Column("ended_at", TIME),  # nothing lives in it any more
    Column("dropped_at", TIME),  # its key has left the keyring
    Index("ix_groups_label", "client_id", "kind", "label"),
)

# Every group that ever wrapped a document's key: destroying the document ends those that live.
wrappings = Table(
    "wrappings",
    metadata,
    Column("document_id", ID, ForeignKey("documents.id"), nullable=False),
    Column("group_id", GROUP, ForeignKey("groups.id"), nullable=False),
    Column("wrapped_at", TIME, nullable=False),
    PrimaryKeyConstraint("document_id", "group_id"),
    Index("ix_wrappings_group", "group_id"),
)

holds = Table(
    "holds",
    metadata,
    Column("id", ID, primary_key=True),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("document_id", ID, ForeignKey("documents.id")),  # NULL: the whole client
    Column("placed_by", String(64), nullable=False),
    Column("placed_at", TIME, nullable=False),
    Column("reason", LargeBinary, nullable=False),  # sealed under the client's "profile" key
    Column("released_by", String(64)),
    Column("released_at", TIME),
    Index("ix_holds_scope", "client_id", "released_at"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", ID, primary_key=True),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("scope", String(16), nullable=False, server_default="documents"),  # or client: its end
    Column("state", String(16), nullable=False),
    Column("proposed_at", TIME, nullable=False),
    Column("proposed_by", String(64), nullable=False),
    Column("register", LargeBinary, nullable=False),  # canonical JSON of what is approved
    Column("register_digest", String(64), nullable=False),
    Column("executor", String(64)),
    Column("started_at", TIME),
    Column("finished_at", TIME),
    Column("progress", Text, nullable=False),  # JSON: what execution must remember between steps
    Index("ix_batches_state", "state"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("batch_id", ID, ForeignKey("batches.id"), nullable=False),
    Column("account_id", ID, ForeignKey("accounts.id"), nullable=False),
    Column("role", String(16), nullable=False),
    Column("decision", String(16), nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("signature", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("signed_at", TIME, nullable=False),
    Column("enrolment", Text),  # JSON: how its key was enrolled when it signed; none: not known
    PrimaryKeyConstraint("batch_id", "account_id"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("id", ID, primary_key=True),
    Column("batch_id", ID, ForeignKey("batches.id"), nullable=False),
    Column("client_id", ID, ForeignKey("clients.id"), nullable=False),
    Column("issued_at", TIME, nullable=False),
    Column("level", String(2), nullable=False),
    Column("follows", ID),  # the certificate whose claim this one raises
    Column("document", LargeBinary, nullable=False),  # the JSON certificate
    Column("printed", LargeBinary, nullable=False),  # the same as PDF
    Index("ix_certificates_batch", "batch_id"),
)

# Media that a person reports sanitised, for claim level L3: an officer's signed statement.
sanitisations = Table(
    "sanitisations",
    metadata,
    Column("id", ID, primary_key=True),
    Column("batch_id", ID, ForeignKey("batches.id"), nullable=False),
    Column("account_id", ID, ForeignKey("accounts.id"), nullable=False),
    Column("recorded_at", TIME, nullable=False),
    Column("facts", Text, nullable=False),  # JSON: medium, serial, method, day, place
    Column("statement", LargeBinary, nullable=False),  # the text that was signed
    Column("signature", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("enrolment", Text),  # as in approvals
    Index("ix_sanitisations_batch", "batch_id"),
)

# What a restore replays before anything is served.
tombstones = Table(
    "tombstones",
    metadata,
    Column("document_id", ID, primary_key=True),
    Column("client_id", ID, nullable=False),
    Column("batch_id", ID, nullable=False),
    Column("destroyed_at", TIME, nullable=False),
)

# The ledger (vault/catalogue/ledger.py).
ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
)

ledger_nodes = Table(
    "ledger_nodes",
    metadata,
    Column("level", Integer, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("level", "idx"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", Integer, primary_key=True, autoincrement=False),
    Column("signed_at", TIME, nullable=False),
    Column("note", Text, nullable=False),
)

# Deliveries of sealed keyring files to their registered copies.
errands = Table(
    "errands",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("target", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", TIME),
    Column("delivered_at", TIME),
    Column("failure", Text, nullable=False),
    Index("ix_errands_open", "delivered_at", "next_attempt_at"),
    sqlite_autoincrement=True,
)

# Places that hold copies of keyrings, and those that did: one taken out of the configuration stays here
# until it is settled, because what lies there still opens what it held.
copy_places = Table(
    "copy_places",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("place", Text, nullable=False),  # folder or address, as configured
    Column("keeps_days", Integer, nullable=False),  # how long the place keeps what was replaced
    Column("registered_at", TIME, nullable=False),
    Column("withdrawn_at", TIME),  # taken out of the configuration
    Column("settled_at", TIME),  # a person says that nothing is left there
    Column("settled_by", String(64)),
    Column("statement", LargeBinary),  # what that person said, sealed under the house's keyring
)

# What each place was seen to hold: a row a delivery, the last one is how it is now.
copy_states = Table(
    "copy_states",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("target", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("epoch", Integer, nullable=False),  # 0: removed there
    Column("digest", String(64), nullable=False),  # SHA-256 of the sealed file
    Column("delivered_at", TIME, nullable=False),
    Index("ix_copy_states_target", "target", "owner", "id"),
    sqlite_autoincrement=True,
)

# Backups: one row a run.
backups = Table(
    "backups",
    metadata,
    Column("id", ID, primary_key=True),
    Column("target", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # running | done | failed | removed
    Column("started_at", TIME, nullable=False),
    Column("finished_at", TIME),
    Column("ledger_size", Integer, nullable=False),
    Column("documents", Integer, nullable=False),  # stored documents it covers
    Column("blobs", Integer, nullable=False),  # sealed files copied by this run
    Column("bytes", Integer, nullable=False),
    Column("manifest_digest", String(64), nullable=False),
    Column("verified_at", TIME),
    Column("failure", Text, nullable=False),
    Index("ix_backups_target", "target", "id"),
)

# Sealed files that a backup target holds, with the digest of their sealed bytes.
backup_blobs = Table(
    "backup_blobs",
    metadata,
    Column("target", String(64), nullable=False),
    Column("document_id", ID, nullable=False),
    Column("size", Integer, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("stored_at", TIME, nullable=False),
    PrimaryKeyConstraint("target", "document_id"),
)

# What a backup must be told after it was made: groups that ended since, so that survivors' new wrappings
# and the tombstones reach it.
backup_amendments = Table(
    "backup_amendments",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("target", String(64), nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("groups", Text, nullable=False),  # JSON list of group ids
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", TIME),
    Column("delivered_at", TIME),
    Column("failure", Text, nullable=False),
    Index("ix_backup_amendments_open", "delivered_at", "next_attempt_at"),
    sqlite_autoincrement=True,
)

# Rotations of keys: what is to be re-wrapped, and how far it has come.
rotations = Table(
    "rotations",
    metadata,
    Column("id", ID, primary_key=True),
    Column("kind", String(8), nullable=False),  # groups | root | ledger
    Column("client_id", ID),  # groups: of one client only
    Column("cutoff", TIME, nullable=False),  # groups made before this
    Column("state", String(16), nullable=False),  # running | done
    Column("started_by", String(64), nullable=False),
    Column("started_at", TIME, nullable=False),
    Column("finished_at", TIME),
    Column("moved", Integer, nullable=False),  # keys re-wrapped
    Index("ix_rotations_state", "state"),
)

# The ledger's verifier keys in their order; each but the first was introduced by the one before it.
ledger_keys = Table(
    "ledger_keys",
    metadata,
    Column("since", Integer, primary_key=True, autoincrement=False),  # checkpoints above this size
    Column("vkey", Text, nullable=False),
    Column("handover", Text, nullable=False),  # signed note of the key before; empty for the first
    Column("added_at", TIME, nullable=False),
)

# Scheduled reading of a share of the store.
fixity_runs = Table(
    "fixity_runs",
    metadata,
    Column("id", ID, primary_key=True),
    Column("started_at", TIME, nullable=False),
    Column("finished_at", TIME),
    Column(
        "upto", String(26), nullable=False
    ),  # the last document it came to: the next run goes on
    Column("documents_read", Integer, nullable=False),
    Column("bytes_read", Integer, nullable=False),
    Column("findings", Text, nullable=False),  # JSON list of subject, problem, action
)

# How far the checkpoints that go to other places have come.
checkpoint_places = Table(
    "checkpoint_places",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("size", Integer, nullable=False),  # of the checkpoint that the place was seen to hold
    Column("tiles", Integer, nullable=False),  # entries that its tiles cover
    Column("delivered_at", TIME),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", TIME),
    Column("failure", Text, nullable=False),
    Column("alarmed_at", TIME),  # since when it holds what is not of our history
)
