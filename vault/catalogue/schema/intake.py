"""Tables of documents: the documents, their folders, what they take up, and who asked to open one."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from vault.catalogue.schema.base import GROUP, ID, TIME, metadata

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
    Index(
        "ix_documents_due",
        "state",
        "eligible_at",
        sqlite_where=text("eligible_at IS NOT NULL"),
        postgresql_where=text("eligible_at IS NOT NULL"),
    ),
    Index(  # what of one client falls due, without reading what does not
        "ix_documents_client_due",
        "client_id",
        "state",
        "eligible_at",
        sqlite_where=text("eligible_at IS NOT NULL"),
        postgresql_where=text("eligible_at IS NOT NULL"),
    ),
    Index(
        "ix_documents_parent",
        "parent_id",
        sqlite_where=text("parent_id IS NOT NULL"),
        postgresql_where=text("parent_id IS NOT NULL"),
    ),
    Index("ix_documents_group", "group_id"),
    Index(
        "ix_documents_batch",
        "batch_id",
        sqlite_where=text("batch_id IS NOT NULL"),
        postgresql_where=text("batch_id IS NOT NULL"),
    ),
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
