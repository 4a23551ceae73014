"""What a message has to show for its sender: signatures, seals, and the judgement of a host that is believed.

Promises: a message is read here and nothing of it leaves but the domains it names and what holds of them.
It takes two turns, as no inspector has a network: the first says whose keys are needed (`wanted`), the
second judges by them. The author is one address or none: what two readers take for different ones is none.

Leaves out: what follows from it (`gateway.core.intake.alignment`).

Rules: a signature counts only if it covers From and the whole body (no `l=`: what could be appended is
not signed), with SHA-256 and, for RSA, at least 1024 bits (RFC 8301). At most `SIGNATURES` are tried, those
of the author's own domain first. What a stranger wrote takes time in proportion to its length, and no message
ends in an exception: one that always did would be looked at again for ever.

Sources: RFC 6376 (DKIM), RFC 8617 (ARC), RFC 8601 (Authentication-Results), RFC 5322, section 3.6.2 (From).
"""

from __future__ import annotations

import email.headerregistry
import email.policy
import email.utils
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import dkim
import dkim.canonicalization
import dkim.util

from gateway.inspect.document import Document, Limits
from gateway.wire.messages import MailReport, MethodResult, Proving, Signature

SIGNATURES: Final = 5
MOST_BITS: Final = 1024  # fewer are no key (RFC 8301, section 3.2)
_METHODS: Final = 32
_CHAIN: Final = frozenset({"arc-seal", "arc-message-signature", "arc-authentication-results"})
_SEALS: Final = 50  # RFC 8617, section 4.2.1
_HEADER: Final = 256 * 1024  # bytes: no genuine header is longer
_FIELD: Final = (
    8 * 1024
)  # bytes of a signature or a seal: what reads them is quadratic in white space
_AUTHOR: Final = 4 * 1024  # bytes of From; likewise
_SEALERS: Final = 64  # that a report holds
_NAME: Final = 253  # RFC 1035, section 2.3.4
_DOMAIN: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}\Z")
_ADDRESS: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\]{1,64}@([^\s@<>,;:\"()\[\]\\]{1,253})\Z")
_PIECE: Final = re.compile(r'\\.|["();]|[^\\"();]+|\\', re.DOTALL)
_QUOTED: Final = re.compile(r"[\s;]")
_LOOKS_LIKE_FROM: Final = re.compile(rb"^from[ \t]+:", re.IGNORECASE | re.MULTILINE)
_WORD: Final = re.compile(r"[a-z0-9_.-]{1,32}\Z")


class _Later(Exception):
    """A key is not at hand."""


def _strip_trailing_whitespace(content: bytes) -> bytes:
    """RFC 6376, section 3.4.4: no white space before a line's end.

    In the library's place: there a run of spaces takes its length squared, so that a small message holds an
    inspector until it is ended, each time it is looked at.
    """
    *lines, rest = content.split(b"\r\n")
    return b"\r\n".join([*(line.rstrip(b"\t ") for line in lines), rest])


dkim.canonicalization.strip_trailing_whitespace = _strip_trailing_whitespace


def prove(document: Document, limits: Limits, proving: Proving) -> MailReport:
    """Judge a message by what is at hand of its signers' keys (raises Unreadable: it is too large)."""
    raw = document.whole(limits)
    try:
        found = _Report(raw, proving).read()
    except Exception:  # noqa: BLE001  it would be raised by the same message again, and that one waited for ever
        found = {"author_fault": "malformed"}
    return MailReport(
        document.document_id,
        len(raw),
        hashlib.sha256(raw).digest(),
        **found,  # type: ignore[arg-type]
    )


class _Report:
    """One message and what is known of its signers' keys."""

    def __init__(self, raw: bytes, proving: Proving) -> None:
        self._raw = raw
        self._records: Mapping[str, list[str]] = proving.records or {}
        self._listing = proving.records is None
        self._upstream = proving.upstream.lower()

    def read(self) -> dict[str, object]:
        """The fields of a `MailReport` that the message itself gives."""
        end = re.search(rb"\r?\n\r?\n", self._raw[: _HEADER + 4])
        if end is None and len(self._raw) > _HEADER:
            return {"author_fault": "header_too_long"}
        header = self._raw[: end.start() if end else None]
        if b"\0" in header or re.search(rb"\r(?!\n)", header):
            return {"author_fault": "ambiguous"}  # some programs see a line's end there
        if _LOOKS_LIKE_FROM.search(header):
            return {"author_fault": "ambiguous"}  # some show it, and the library skips it
        try:
            fields, _ = dkim.rfc822_parse(self._raw[: end.end() if end else None])
        except (dkim.DKIMException, IndexError):
            return {"author_fault": "header_malformed"}
        headers = [(name.decode("ascii").lower(), value) for name, value in fields]
        author, fault = author_of([value for name, value in headers if name == "from"])
        found: dict[str, object] = {"author": author, "author_fault": fault}
        found["upstream"] = self._judgement(headers)
        names = [value for name, value in headers if name == "dkim-signature"]
        signatures = self._ordered(names, author.rpartition("@")[2])
        seals = _tags([value for name, value in headers if name == "arc-seal"])
        chained = _tags([value for name, value in headers if name == "arc-message-signature"])
        if self._listing:
            found["wanted"] = sorted(
                {_key_name(tags) for _, tags in signatures if not _fault(tags)}
                | {_key_name(tags) for tags in [*seals, *chained][: 2 * _SEALS]} - {""}
            )[:64]
            return found
        found["signatures"] = [self._signature(index, tags) for index, tags in signatures]
        if seals:
            named = {tags["d"].lower() for tags in [*seals, *chained]}
            found |= self._chain(named, [value for name, value in headers if name in _CHAIN])
        return found

    def _ordered(self, values: list[bytes], domain: str) -> list[tuple[int, dict[str, str]]]:
        """The signatures to try, with their places in the header: those of the author's domain first."""
        tags = [(index, _parsed(value)) for index, value in enumerate(values)]

        def foreign(entry: tuple[int, dict[str, str]]) -> int:
            signer = entry[1].get("d", "").lower()
            if not signer or not domain:
                return 2
            related = f".{signer}".endswith(f".{domain}") or f".{domain}".endswith(f".{signer}")
            return 0 if signer == domain else 1 if related else 2

        return sorted(tags, key=foreign)[:SIGNATURES]

    def _signature(self, index: int, tags: dict[str, str]) -> Signature:
        domain = tags.get("d", "").lower()[:253]
        if fault := _fault(tags):
            return Signature(domain, "fail", fault)
        try:
            verifier = dkim.DKIM(self._raw, minkey=MOST_BITS)
            holds = verifier.verify(index, dnsfunc=self._key)
        except _Later:
            return Signature(domain, "later", "no key at hand")
        except Exception as error:  # noqa: BLE001  the library raises anything on hostile fields
            return Signature(domain, "fail", type(error).__name__)
        return Signature(domain, "pass" if holds else "fail", "" if holds else "not right")

    def _chain(self, named: set[str], values: list[bytes]) -> dict[str, object]:
        """Whether the chain of seals holds, whose it is, and what the first sealer had found.

        Args:
            named: the domains that its fields name, in lower case.
            values: its fields.
        """
        if len(named) > _SEALERS or any(len(value) > _FIELD for value in values):
            return {"chain": "fail"}
        try:
            state, results, _ = dkim.ARC(self._raw, minkey=MOST_BITS).verify(dnsfunc=self._key)
        except _Later:
            return {"chain": "later", "sealers": sorted(named)}
        except Exception:  # noqa: BLE001  likewise
            return {"chain": "fail"}
        if state != dkim.CV_Pass:
            return {"chain": "fail"}
        # From the last set to the first, each with the domains that signed and sealed it.
        sealers = {
            result[which].decode("ascii", "replace").lower()[:253]
            for result in results
            for which in ("as-domain", "ams-domain")
        }
        first = results[-1]["aar-value"].decode("utf-8", "replace")
        return {
            "chain": "pass",
            "sealers": sorted(sealers),
            "sealed": list(methods(_parts(first)[2:])),  # behind `i=1;` and the server's name
        }

    def _judgement(self, headers: list[tuple[str, bytes]]) -> list[MethodResult]:
        """What the configured host has found: its topmost field, which is the one it put there itself."""
        if not self._upstream:
            return []
        for name, value in headers:
            if name != "authentication-results":
                continue
            server, *rest = _parts(value.decode("utf-8", "replace"))
            if (server.split() or [""])[0].lower() == self._upstream:
                return list(methods(rest))
        return []

    def _key(self, name: bytes, timeout: float = 0) -> bytes | None:
        """The text of a key's name, as the library asks for it (raises `_Later`)."""
        del timeout
        asked = name.decode("ascii", "replace").rstrip(".").lower()
        if asked not in self._records:
            raise _Later
        texts = self._records[asked]
        # RFC 6376, section 3.6.2.2: of several records none counts.
        return texts[0].encode("latin-1", "replace") if len(texts) == 1 else None


def author_of(values: list[bytes]) -> tuple[str, str]:
    """The address that From names, in lower case, or "" and what is wrong.

    Two readers have to agree: what one mail program shows as the author must be what was judged.
    """
    if len(values) != 1:
        return "", "none" if not values else "several"
    if len(values[0]) > _AUTHOR:
        return "", "malformed"
    text = values[0].decode("utf-8", "replace").replace("\r\n", "").strip()
    try:
        parsed = email.policy.default.header_factory("from", text)
        assert isinstance(parsed, email.headerregistry.UniqueAddressHeader)
        found = {each.addr_spec.lower() for each in parsed.addresses}
        others = {address.lower() for _, address in email.utils.getaddresses([text]) if address}
    except Exception:  # noqa: BLE001  the standard library raises anything on hostile fields
        return "", "malformed"
    if len(found) != 1:
        return "", "several" if found else "none"
    (author,) = found
    match = _ADDRESS.match(author)
    if others != found or match is None or text.count("<") > 1:
        return "", "ambiguous"
    domain = _ascii(match[1])
    if len(domain) > _NAME or not _DOMAIN.match(domain):
        return "", "malformed"
    return f"{author.rpartition('@')[0]}@{domain}", ""


def methods(parts: Sequence[str]) -> Iterator[MethodResult]:
    """The judgements of `Authentication-Results` behind its server's name (RFC 8601, section 2.2)."""
    for number, part in enumerate(parts):
        words = part.split()
        if number >= _METHODS or not words or "=" not in words[0]:
            continue
        method, _, result = words[0].lower().partition("=")
        method = method.partition("/")[0]
        if not _WORD.match(method) or not _WORD.match(result):
            continue
        properties: dict[str, str] = {}
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if equals:
                properties.setdefault(name.lower(), value.lower())
        wanted = {
            "dkim": ("header.d", "header.i"),
            "spf": ("smtp.mailfrom", "smtp.helo"),
            "dmarc": ("header.from",),
        }.get(method, ())
        about = next((properties[name] for name in wanted if properties.get(name)), "")
        yield MethodResult(method, result, about.rpartition("@")[2][:253])


def _parts(text: str) -> list[str]:
    """What stands between the semicolons of a field, without comments; [""] where it can't be told.

    A semicolon or a space within quotation marks belongs to a value: `smtp.mailfrom="a; dkim=pass"@b.example`
    is one address that a stranger chose.
    """
    parts: list[list[str]] = [[]]
    depth, quoted = 0, False
    for piece in _PIECE.findall(text):
        if quoted:
            quoted = piece != '"'
            if quoted:
                parts[-1].append(_QUOTED.sub("_", piece[1:] if piece[0] == "\\" else piece))
        elif piece in {"(", ")"}:
            depth += 1 if piece == "(" else -1
            parts[-1].append(" ")
        elif depth:
            continue
        elif piece == '"':
            quoted = True
        elif piece == ";":
            parts.append([])
        else:
            parts[-1].append(piece)
        if depth < 0:
            return [""]
    return [""] if depth or quoted else ["".join(part) for part in parts]


def _tags(values: list[bytes]) -> list[dict[str, str]]:
    return [tags for value in values if not _unnamed(tags := _parsed(value))]


def _parsed(value: bytes) -> dict[str, str]:
    if len(value) > _FIELD:
        return {}
    try:
        found = dkim.util.parse_tag_value(value)
    except dkim.util.InvalidTagValueList:
        return {}
    return {
        name.decode("ascii", "replace"): text.decode("ascii", "replace")
        for name, text in found.items()
    }


def _fault(tags: dict[str, str]) -> str:
    """Why a signature does not count whatever its key; "" for none."""
    if _unnamed(tags):
        return "malformed"
    if "l" in tags:
        return "covers a part of the body only"
    if tags.get("a", "").lower() not in {"rsa-sha256", "ed25519-sha256"}:
        return "algorithm"
    covered = [name.strip().lower() for name in tags.get("h", "").split(":")]
    return "" if "from" in covered else "does not cover From"


def _unnamed(tags: dict[str, str]) -> bool:
    """Whether a signature does not say under which name its key is."""
    return not _DOMAIN.match(_key_name(tags))


def _key_name(tags: dict[str, str]) -> str:
    return f"{tags.get('s', '')}._domainkey.{tags.get('d', '')}".lower()[:254]


def _ascii(domain: str) -> str:
    """A domain in the form it has in the DNS (RFC 5890); what has none stays as it is."""
    try:
        return domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return domain
