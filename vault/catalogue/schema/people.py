"""Tables of clients and accounts: who they are, their keys, what they may see, and what officers sign."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from vault.catalogue.schema.base import ID, TIME, metadata

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
    Column("email", LargeBinary),  # for notices; sealed under the house's "accounts" key
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

# Passwords of devices that send mail for a client's account; shown once, good for nothing else.
app_passwords = Table(
    "app_passwords",
    metadata,
    Column("id", ID, primary_key=True),
    Column("account_id", ID, ForeignKey("accounts.id"), nullable=False),
    Column("selector", String(8), nullable=False),  # its beginning, which says which of them it is
    Column("label", String(64), nullable=False),
    Column("password_hash", Text, nullable=False),  # argon2id, PHC string
    Column("created_at", TIME, nullable=False),
    Column("created_by", String(64), nullable=False),  # an account's id, or "console"
    Column("last_used_at", TIME),
    Column("removed_at", TIME),
    Index("ix_app_passwords_account", "account_id", "selector", unique=True),
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
