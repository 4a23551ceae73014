"""What the parts of a certificate are made of: one kind of struct, and the types of its fields.

Promises: a part takes no field more and no field less, and a value outside its type is refused
when it is read.

Leaves out: the parts themselves (`model`, `enrolment`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from vault.errors import VaultError

# \Z, not $: the latter lets a newline through.
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Name = Annotated[str, Meta(pattern=r"^[0-9A-Za-z_][0-9A-Za-z._@:/+-]{0,127}\Z")]
Words = Annotated[str, Meta(max_length=2000)]
Line = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f\u2028\u2029]+\Z")]
Armored = Annotated[str, Meta(max_length=16 * 1024)]
Moment = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class CertificateError(VaultError):
    """A certificate is malformed, not in its one form, or contradicts itself."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every part of a certificate: immutable, no field more, no field less."""
