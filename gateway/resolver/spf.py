"""SPF: whether a host may send mail in a domain's name (RFC 7208).

Promises: `check` answers with one of the seven results and never raises on what a stranger published or said.
It asks at most as many questions as section 4.6.4 allows: ten terms that look something up, ten names for one
`mx` or `ptr`, two answers that hold nothing. A resolver that does not answer is `temperror`.

Leaves out: explanations (`exp`): what a domain's owner would have a stranger told, nobody here says. Asking
the network: `Lookup` does.

>>> [str(each) for each in parse("v=spf1 ip4:192.0.2.0/24 -all")]
['+ip4:192.0.2.0/24', '-all']
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Result = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
Type = Literal["TXT", "A", "AAAA", "MX", "PTR"]
Lookup: TypeAlias = Callable[[str, Type], Awaitable[list[str]]]
"""The values of a name's records of a type: none where there is no such name (raises `Later`).

TXT: the strings of a record joined, as latin-1. MX: the exchanges by preference.
"""
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_TERMS: Final = 10
MOST_NAMES: Final = 10
MOST_VOID: Final = 2
_LONGEST_NAME: Final = 253

_QUALIFIED: Final[dict[str, Result]] = {
    "+": "pass",
    "-": "fail",
    "~": "softfail",
    "?": "neutral",
}
_MECHANISMS: Final = frozenset({"all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"})
_LOOKING_UP: Final = frozenset({"include", "a", "mx", "ptr", "exists", "redirect"})
# Section 12: the grammar.
_DIRECTIVE: Final = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9._-]*)(?::([^\s/]\S*?))?((?:/\S*)?)\Z")
_MODIFIER: Final = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)=(\S*)\Z")
_CIDR: Final = re.compile(r"(?:/(0|[1-9]\d{0,2}))?(?://(0|[1-9]\d{0,2}))?\Z")
_MACRO: Final = re.compile(r"%(?:\{([A-Za-z])(\d*)(r?)([.+,/_=-]*)\}|([%_-]))|%", re.IGNORECASE)
_LETTERS: Final = frozenset("slodiphv")
_DOMAIN_END: Final = re.compile(
    r"(?:\.(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])\.?"
    r"|%\{[slodiphv]\d*r?[.+,/_=-]*\})\Z",
    re.IGNORECASE,
)
_SAFE: Final = re.compile(r"[\x21-\x7e]*\Z")


class Later(Exception):
    """The resolver did not answer, or could not find out."""


class _PermError(Exception):
    """What was published can't be followed."""


class _Void(_PermError):
    """Too many questions had no answer."""


@dataclass(frozen=True)
class Term:
    """A mechanism or the modifier `redirect`. `value`: what stands behind its colon or equals sign."""

    qualifier: str
    name: str
    value: str
    ip4_length: int = 32
    ip6_length: int = 128
    spelt: str = ""

    def __str__(self) -> str:
        return f"{self.qualifier}{self.spelt}"


async def check(address: str, sender: str, helo: str, lookup: Lookup) -> tuple[Result, str]:
    """Whether the host at `address` may send for `sender` (section 2.4; HELO for a null sender, 2.3).

    Args:
        address: of the host that sent, IPv4 or IPv6 in text; an IPv4-mapped one counts as IPv4.
        sender: the envelope's; "" for a null one.
        helo: the name it gave itself.

    Returns:
        The result, and the domain it is about, in lower case.
    """
    local, at, domain = sender.rpartition("@")
    if not at or not local:
        local = "postmaster"
    if not at:
        domain = sender or helo
    domain = domain.lower()
    try:
        host = ipaddress.ip_address(address)
    except ValueError:
        return "none", domain
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    evaluation = _Evaluation(host, f"{local}@{domain}", helo, lookup)
    try:
        return await evaluation.of(domain), domain
    except Later:
        return "temperror", domain
    except _PermError:
        return "permerror", domain


class _Evaluation:
    """One check with what it has spent."""

    def __init__(self, host: Address, sender: str, helo: str, lookup: Lookup) -> None:
        self._host = host
        self._sender = sender
        self._helo = helo
        self._lookup = lookup
        self._terms = 0
        self._void = 0

    async def of(self, domain: str, *, inside: bool = False) -> Result:
        """The result for a domain. `inside`: it was included by another, which needs it to be right."""
        # Section 4.3: what is no domain name of several labels is none.
        if not _is_domain(domain):
            if inside:
                raise _PermError
            return "none"
        # Section 4.5: exactly one record.
        texts = await self._lookup(domain, "TXT")
        records = [text for text in texts if re.match(r"v=spf1(?: |\Z)", text, re.IGNORECASE)]
        if not records:
            if inside:
                raise _PermError
            return "none"
        if len(records) > 1:
            raise _PermError
        terms = parse(records[0])
        # Sections 4.6.2 and 6.1: mechanisms from left to right; the redirection where none matched.
        redirect = next((term for term in terms if term.name == "redirect"), None)
        for term in terms:
            if term.name != "redirect" and await self._matches(term, domain):
                return _QUALIFIED[term.qualifier]
        if redirect is None or any(term.name == "all" for term in terms):
            return "neutral"
        self._spend()
        return await self.of(await self._expand(redirect.value, domain), inside=True)

    async def _matches(self, term: Term, domain: str) -> bool:
        if term.name in _LOOKING_UP:
            self._spend()
        target = domain
        if term.value and term.name not in {"ip4", "ip6"}:
            target = await self._expand(term.value, domain)
        match term.name:
            case "all":
                return True
            case "ip4" | "ip6":
                return self._within(ipaddress.ip_address(term.value), term)
            case "include":
                result = await self.of(target, inside=True)
                return result == "pass"
            case "a":
                return await self._hosted(target, term)
            case "mx":
                exchanges = await self._ask(target, "MX")
                if len(exchanges) > MOST_NAMES:
                    raise _PermError
                for exchange in exchanges:
                    if await self._hosted(exchange, term, counted=False):
                        return True
                return False
            case "exists":
                return bool(await self._ask(target, "A"))
            case _:  # ptr, section 5.5
                names = await self._names()
                ends = "." + target.lower().rstrip(".")
                return any(f".{name.lower().rstrip('.')}".endswith(ends) for name in names)

    async def _hosted(self, name: str, term: Term, *, counted: bool = True) -> bool:
        kind: Type = "A" if self._host.version == 4 else "AAAA"
        found = await (self._ask(name, kind) if counted else self._lookup_name(name, kind))
        return any(self._within(ipaddress.ip_address(each), term) for each in found)

    def _within(self, address: Address, term: Term) -> bool:
        if address.version != self._host.version:
            return False
        length = term.ip4_length if address.version == 4 else term.ip6_length
        network = ipaddress.ip_network((address, length), strict=False)
        return self._host in network

    async def _names(self) -> list[str]:
        """The names of the host that lead back to it; none where they can't be had (section 5.5)."""
        try:
            names = (await self._ask(self._host.reverse_pointer, "PTR"))[:MOST_NAMES]
        except Later:
            return []
        kind: Type = "A" if self._host.version == 4 else "AAAA"
        proven = []
        for name in names:
            try:
                addresses = await self._lookup_name(name, kind)
            except Later:
                continue
            if any(ipaddress.ip_address(each) == self._host for each in addresses):
                proven.append(name)
        return proven

    async def _ask(self, name: str, kind: Type) -> list[str]:
        found = await self._lookup_name(name, kind)
        if not found:
            self._void += 1
            if self._void > MOST_VOID:
                raise _Void
        return found

    async def _lookup_name(self, name: str, kind: Type) -> list[str]:
        """Records of a name that may be too long or empty: then it has none."""
        if not name.rstrip(".") or any(not 0 < len(e) <= 63 for e in name.rstrip(".").split(".")):
            return []
        return await self._lookup(name, kind)

    def _spend(self) -> None:
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise _PermError

    # ── macros, section 7 ──

    async def _expand(self, text: str, domain: str) -> str:
        parts = []
        end = 0
        for found in _MACRO.finditer(text):
            parts.append(text[end : found.start()])
            parts.append(await self._macro(found, domain))
            end = found.end()
        name = "".join((*parts, text[end:]))
        # Section 7.3: of a name that is too long, labels on the left are left out.
        while len(name.rstrip(".")) > _LONGEST_NAME and "." in name:
            name = name.partition(".")[2]
        return name

    async def _macro(self, found: re.Match[str], domain: str) -> str:
        letter, digits, reverse, delimiters, escaped = found.groups()
        if escaped:
            return {"%": "%", "_": " ", "-": "%20"}[escaped]
        local, _, of_sender = self._sender.rpartition("@")
        match letter.lower():
            case "s":
                value = self._sender
            case "l":
                value = local
            case "o":
                value = of_sender
            case "d":
                value = domain
            case "i":
                value = self._dotted()
            case "p":
                value = await self._validated(domain)
            case "h":
                value = self._helo
            case _:
                value = "in-addr" if self._host.version == 4 else "ip6"
        labels = re.split(f"[{re.escape(delimiters)}]", value) if delimiters else value.split(".")
        if reverse:
            labels.reverse()
        if digits:
            labels = labels[-int(digits) :]
        value = ".".join(labels)
        return urllib.parse.quote(value, safe="-._~") if letter.isupper() else value

    def _dotted(self) -> str:
        if isinstance(self._host, ipaddress.IPv4Address):
            return str(self._host)
        return ".".join(self._host.exploded.replace(":", "").upper()).lower()

    async def _validated(self, domain: str) -> str:
        """The host's name for `%{p}`: one of the domain, one below it, any, or "unknown"."""
        names = await self._names()
        for name in names:
            if name.lower().rstrip(".") == domain:
                return name.rstrip(".")
        for name in names:
            if name.lower().rstrip(".").endswith(f".{domain}"):
                return name.rstrip(".")
        return names[0].rstrip(".") if names else "unknown"


def parse(record: str) -> list[Term]:
    """The terms of a record that count (raises `_PermError`: it breaks the grammar of section 12)."""
    if not _SAFE.match(record.replace(" ", "")):
        raise _PermError
    terms: list[Term] = []
    seen: set[str] = set()
    for word in record.split(" ")[1:]:
        if not word:
            continue
        modifier = _MODIFIER.match(word)
        if modifier:
            name = modifier[1].lower()
            if name in {"redirect", "exp"}:
                # Section 6: either at most once, with a domain.
                if name in seen:
                    raise _PermError
                seen.add(name)
                _expect_domain(modifier[2])
                if name == "redirect":
                    terms.append(Term("", name, modifier[2], spelt=word))
            else:
                _expect_macros(modifier[2])
            continue
        terms.append(_directive(word))
    return terms


def _directive(word: str) -> Term:
    found = _DIRECTIVE.match(word)
    if found is None or found[2].lower() not in _MECHANISMS:
        raise _PermError
    qualifier, name, value, rest = found[1] or "+", found[2].lower(), found[3] or "", found[4]
    spelt = word[len(found[1]) :]
    if name in {"ip4", "ip6"}:
        return _network(qualifier, name, word.partition(":")[2], spelt)
    if name in {"a", "mx"}:
        value, four, six = _with_lengths(word, value, rest)
        if value:
            _expect_domain(value)
        return Term(qualifier, name, value, four, six, spelt)
    # A slash belongs to the domain where no length may stand.
    value = word.partition(":")[2] if ":" in word else ""
    if ":" not in word and rest:
        raise _PermError
    if name == "all":
        if ":" in word:
            raise _PermError
    elif name in {"include", "exists"} or ":" in word:
        _expect_domain(value)
    return Term(qualifier, name, value, spelt=spelt)


def _with_lengths(word: str, value: str, rest: str) -> tuple[str, int, int]:
    """Domain and prefix lengths of `a` and `mx`: a domain may hold slashes, the lengths come last."""
    if ":" in word and not value:
        raise _PermError
    whole = f"{value}{rest}"
    cut = re.search(r"(?:/(?:0|[1-9]\d*))?(?://(?:0|[1-9]\d*))?\Z", whole)
    assert cut is not None
    lengths = _CIDR.match(cut[0])
    if lengths is None:
        raise _PermError
    domain = whole[: cut.start()]
    if domain.startswith("/") or re.search(r"/\d*\Z", domain):
        raise _PermError
    return domain, _length(lengths[1], 32), _length(lengths[2], 128)


def _length(text: str | None, most: int) -> int:
    length = most if text is None else int(text)
    if length > most:
        raise _PermError
    return length


def _network(qualifier: str, name: str, text: str, spelt: str) -> Term:
    address, slash, length = text.partition("/")
    most = 32 if name == "ip4" else 128
    try:
        parsed = (ipaddress.IPv4Address if name == "ip4" else ipaddress.IPv6Address)(address)
    except ValueError as error:
        raise _PermError from error
    if slash and not re.fullmatch(r"0|[1-9]\d{0,2}", length):
        raise _PermError
    bits = _length(length if slash else None, most)
    return Term(qualifier, name, str(parsed), bits, bits, spelt)


def _expect_domain(text: str) -> None:
    """A domain-spec of section 7.1: macros, and at its end a label or a macro."""
    _expect_macros(text)
    if not _DOMAIN_END.search(text):
        raise _PermError


def _expect_macros(text: str) -> None:
    for found in _MACRO.finditer(text):
        letter, digits, *_ = found.groups()
        if found[0] == "%" or (
            letter and (letter.lower() not in _LETTERS or (digits and int(digits) == 0))
        ):
            raise _PermError


def _is_domain(domain: str) -> bool:
    labels = domain.rstrip(".").split(".")
    return (
        len(domain) <= _LONGEST_NAME
        and len(labels) > 1
        and all(0 < len(label) <= 63 for label in labels)
    )
