"""What all tables share: the metadata they enter, and the types of ids, key groups and times."""

from __future__ import annotations

from typing import Final

from sqlalchemy import MetaData, String

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
