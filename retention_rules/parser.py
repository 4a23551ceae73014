"""Reading rule packs: strict TOML in, a complete and consistent `Pack` out.

Promises: nothing is guessed or ignored. An unknown key, a missing key, a wrong type, an unknown
record class, time zone or trigger, a duplicate reference: each is a RulePackError with the pack
file, the key path, what was expected and what was found. A pack is taken whole or not at all.
Leaves out: what the rules mean (`decision`) and whether they are good law (their publisher's word).
Rules: the format is RULES.md, section 1. The only I/O of the package is here: `load_rulebook` reads
the shipped packs from the package and others from one directory; a name found in both places is
refused, since a local file must not silently stand in for a shipped law.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from retention_rules.classes import RECORD_CLASSES
from retention_rules.errors import PeriodError, RulePackError
from retention_rules.model import (
    ANY_JURISDICTION,
    CLAIM_LEVELS,
    CONFIDENCES,
    EVENT_PREFIX,
    EXPIRY_ACTIONS,
    KINDS,
    SIMPLE_TRIGGERS,
    SUSPENSIONS,
    Archive,
    Basis,
    Pack,
    RecordClass,
    Rule,
    RuleBook,
    Stub,
)
from retention_rules.periods import parse_period, zone

MAX_PACK_BYTES: Final = 1024 * 1024

_SLUG: Final = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*", re.ASCII)
_T = TypeVar("_T", bound=str)
_MISSING: Final = object()

_TYPE_NAMES: Final[Mapping[type, str]] = {
    str: "text",
    int: "an integer",
    bool: "true or false",
    float: "a number",
    list: "a list",
    dict: "a table",
    date: "a date",
}


def _name_of(value: object) -> str:
    """The name of a value in an error: its kind, and itself where that is short and harmless."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    if type(value) in {int, bool, float, date}:
        return str(value).lower() if isinstance(value, bool) else str(value)
    return _TYPE_NAMES.get(type(value), f"a {type(value).__name__}")


class _Table:
    """One TOML table being read: every key is asked for once, and `close` refuses what is left."""

    def __init__(self, pack: str, path: str, value: object) -> None:
        self._pack = pack
        self._path = path
        if not isinstance(value, dict):
            raise self.fault("", "a table", _name_of(value))
        self._left: dict[str, object] = dict(value)
        self._known: list[str] = []

    def fault(self, key: str, expected: str, found: str) -> RulePackError:
        """The error to raise about one key of this table (about the table itself if empty)."""
        path = ".".join(part for part in (self._path, key) if part)
        return RulePackError(self._pack, path, expected=expected, found=found)

    def _take(self, key: str, kind: type, default: object) -> Any:
        self._known.append(key)
        value = self._left.pop(key, _MISSING)
        if value is _MISSING:
            if default is _MISSING:
                raise self.fault(key, _TYPE_NAMES[kind], "nothing")
            return default
        # The exact type: true is not the integer 1, and a date-time is not a date.
        if type(value) is not kind:
            raise self.fault(key, _TYPE_NAMES[kind], _name_of(value))
        return value

    def text(self, key: str, *, empty: bool = False) -> str:
        value: str = self._take(key, str, _MISSING)
        if not empty and (not value or value.isspace()):
            raise self.fault(key, "text that is not empty", _name_of(value))
        if not value.isprintable():
            raise self.fault(key, "printable text on one line", "control characters")
        return value

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if key in self._left else self._take(key, str, None)

    def slug(self, key: str) -> str:
        value = self.text(key)
        if _SLUG.fullmatch(value) is None:
            raise self.fault(key, "lower-case letters, digits and hyphens", _name_of(value))
        return value

    def number(self, key: str) -> int:
        value: int = self._take(key, int, _MISSING)
        if value < 1:
            raise self.fault(key, "an integer from 1", str(value))
        return value

    def flag(self, key: str) -> bool:
        value: bool = self._take(key, bool, False)
        return value

    def day(self, key: str) -> date:
        value: date = self._take(key, date, _MISSING)
        return value

    def optional_day(self, key: str) -> date | None:
        value: date | None = self._take(key, date, None)
        return value

    def choice(self, key: str, choices: Sequence[_T], *, default: _T | None = None) -> _T:
        if default is not None and key not in self._left:
            self._known.append(key)
            return default
        value = self.text(key)
        for choice in choices:
            if choice == value:
                return choice
        raise self.fault(key, "one of " + ", ".join(choices), _name_of(value))

    def slugs(
        self, key: str, *, required: bool = False, unique: bool = True, slug: bool = True
    ) -> tuple[str, ...]:
        values: list[object] = self._take(key, list, _MISSING if required else [])
        if required and not values:
            raise self.fault(key, "at least one entry", "an empty list")
        found: list[str] = []
        for index, value in enumerate(values):
            where = f"{key}[{index}]"
            if not isinstance(value, str):
                raise self.fault(where, "text", _name_of(value))
            if slug and _SLUG.fullmatch(value) is None:
                raise self.fault(where, "lower-case letters, digits and hyphens", _name_of(value))
            if unique and value in found:
                raise self.fault(where, "each entry once", f"{value!r} again")
            found.append(value)
        return tuple(found)

    def choices(self, key: str, choices: Sequence[_T]) -> tuple[_T, ...]:
        found: list[_T] = []
        for index, value in enumerate(self.slugs(key)):
            match = next((choice for choice in choices if choice == value), None)
            if match is None:
                raise self.fault(f"{key}[{index}]", "one of " + ", ".join(choices), _name_of(value))
            found.append(match)
        return tuple(found)

    def period(self, key: str, *, instead: str | None = None) -> str:
        value = self.text(key)
        if value == instead:
            return value
        try:
            parse_period(value)
        except PeriodError as error:
            raise self.fault(
                key, "an ISO 8601 period of at most 200 years, such as P30Y", repr(value)
            ) from error
        return value

    def table(self, key: str) -> _Table:
        value = self._take(key, dict, _MISSING)
        return _Table(self._pack, f"{self._path}.{key}" if self._path else key, value)

    def optional_table(self, key: str) -> _Table | None:
        if key not in self._left:
            self._known.append(key)
            return None
        return self.table(key)

    def tables(self, key: str) -> list[_Table]:
        values: list[object] = self._take(key, list, [])
        base = f"{self._path}.{key}" if self._path else key
        return [_Table(self._pack, f"{base}[{index}]", value) for index, value in enumerate(values)]

    def close(self) -> None:
        """Refuse the first key nobody asked for, naming those that exist."""
        for key in self._left:
            raise self.fault(key, "one of " + ", ".join(sorted(self._known)), "an unknown key")


def _trigger(table: _Table) -> str:
    value = table.text("trigger")
    if value in SIMPLE_TRIGGERS:
        return value
    name = value.removeprefix(EVENT_PREFIX)
    if name == value or _SLUG.fullmatch(name) is None:
        raise table.fault(
            "trigger", "one of " + ", ".join(SIMPLE_TRIGGERS) + " or event:<name>", repr(value)
        )
    return value


def _archive(table: _Table | None) -> Archive | None:
    if table is None:
        return None
    archive = Archive(
        after=table.period("after"),
        maximum_deferral=table.period("maximum_deferral"),
        consent_role=table.slug("consent_role"),
        checks=table.slugs("checks"),
    )
    table.close()
    return archive


def _stub(table: _Table | None) -> Stub | None:
    if table is None:
        return None
    keep = table.slugs("keep", required=True)
    stub = Stub(keep=keep, period=table.period("period", instead="permanent"))
    table.close()
    return stub


def _rule(table: _Table, classes: Mapping[str, RecordClass]) -> Rule:
    """Read one rule. Order: identity, scope, computation, procedure, basis, validity."""
    # 1. Identity and scope.
    rule_id, version = table.slug("id"), table.number("version")
    title_en, title_zh = table.text("title_en"), table.text("title_zh")
    jurisdiction = table.text("jurisdiction")
    if jurisdiction != ANY_JURISDICTION and _SLUG.fullmatch(jurisdiction) is None:
        raise table.fault("jurisdiction", "a lower-case code or *", repr(jurisdiction))
    record_classes = table.slugs("record_classes", required=True)
    for index, key in enumerate(record_classes):
        if key not in classes:
            raise table.fault(f"record_classes[{index}]", "a known record class", repr(key))

    # 2. Computation. A permanent rule has nothing to compute; every other one needs both.
    kind = table.choice("kind", KINDS)
    trigger = period = None
    if kind != "permanent":
        trigger, period = _trigger(table), table.period("period")
    else:
        for key in ("trigger", "period"):
            if table.optional_text(key) is not None:
                raise table.fault(key, "nothing, the rule being permanent", "a value")
    time_zone = table.text("time_zone")
    try:
        zone(time_zone)
    except PeriodError as error:
        raise table.fault(
            "time_zone", "an IANA time zone known to this system (tzdata)", repr(time_zone)
        ) from error

    # 3. Validity.
    effective_from, effective_to = table.day("effective_from"), table.optional_day("effective_to")
    if effective_to is not None and effective_to <= effective_from:
        raise table.fault("effective_to", f"a date after {effective_from}", str(effective_to))

    # 4. Basis.
    basis_table = table.table("basis")
    basis = Basis(basis_table.text("citation"), basis_table.text("url", empty=True))
    basis_table.close()
    if basis.url and not basis.url.startswith("https://"):
        raise table.fault("basis.url", "an https address or nothing", repr(basis.url))

    # 5. Procedure.
    rule = Rule(
        id=rule_id,
        version=version,
        title_en=title_en,
        title_zh=title_zh,
        jurisdiction=jurisdiction,
        record_classes=record_classes,
        entity_types=table.slugs("entity_types"),
        requires=table.slugs("requires"),
        kind=kind,
        trigger=trigger,
        period=period,
        fallback=table.choice("fallback", ("block",), default="block"),
        time_zone=time_zone,
        suspend_if=table.choices("suspend_if", SUSPENSIONS),
        on_expiry=table.choice("on_expiry", EXPIRY_ACTIONS),
        approval_roles=table.slugs("approval_roles", required=True, unique=False),
        appraisal_roles=table.slugs("appraisal_roles", unique=False),
        witness_roles=table.slugs("witness_roles", unique=False),
        minimum_claim_level=table.choice("minimum_claim_level", CLAIM_LEVELS),
        archive=_archive(table.optional_table("archive")),
        stub=_stub(table.optional_table("stub")),
        original_format_required=table.flag("original_format_required"),
        paper_warning=table.flag("paper_warning"),
        basis=basis,
        effective_from=effective_from,
        effective_to=effective_to,
        verified_on=table.day("verified_on"),
        confidence=table.choice("confidence", CONFIDENCES),
    )
    table.close()
    return rule


def parse_pack(data: bytes, *, file: str) -> Pack:
    """Read one pack file.

    Args:
        file: the file's name (`cn.toml`); its stem must be the pack's name, and errors carry it.

    Raises:
        RulePackError: the pack is not what RULES.md says.
    """
    if len(data) > MAX_PACK_BYTES:
        raise RulePackError(
            file, "", expected=f"at most {MAX_PACK_BYTES} bytes", found=f"{len(data)} bytes"
        )
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RulePackError(
            file, "", expected="UTF-8", found=f"an invalid byte at offset {error.start}"
        ) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RulePackError(file, "", expected="TOML", found=str(error)) from error

    root = _Table(file, "", document)
    head = root.table("pack")
    name, version = head.slug("name"), head.number("version")
    title_en, title_zh = head.text("title_en"), head.text("title_zh")
    head.close()
    if f"{name}.toml" != file:
        raise head.fault("name", repr(file.removesuffix(".toml")), repr(name))

    own: dict[str, RecordClass] = {}
    for table in root.tables("record_class"):
        item = RecordClass(table.slug("key"), table.text("title_en"), table.text("title_zh"))
        table.close()
        if item.key in RECORD_CLASSES or item.key in own:
            raise table.fault("key", "a record class that is not defined yet", repr(item.key))
        own[item.key] = item

    rules: list[Rule] = []
    for table in root.tables("rule"):
        rule = _rule(table, {**RECORD_CLASSES, **own})
        if any(rule.ref == other.ref for other in rules):
            raise table.fault("id", "each id and version once", f"{rule.ref} again")
        rules.append(rule)
    root.close()
    return Pack(name, version, title_en, title_zh, tuple(own.values()), tuple(rules))


def shipped_packs() -> tuple[str, ...]:
    """The names of the packs that come with the package, sorted."""
    folder = resources.files("retention_rules") / "packs"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def _read(name: str, directory: Path | None) -> bytes:
    file = f"{name}.toml"
    shipped = resources.files("retention_rules") / "packs" / file
    local = directory / file if directory is not None else None
    try:
        in_directory = local is not None and local.is_file()
        if name in shipped_packs():
            if in_directory:
                raise RulePackError(
                    file,
                    "",
                    expected="another name than that of a shipped pack",
                    found=f"a file of this name in {directory}",
                )
            return shipped.read_bytes()
        if local is None or not in_directory:
            known = ", ".join(shipped_packs())
            raise RulePackError(
                file,
                "",
                expected=f"a shipped pack ({known}) or a file in {directory or 'no directory'}",
                found="neither",
            )
        with local.open("rb") as stream:
            return stream.read(MAX_PACK_BYTES + 1)
    except OSError as error:
        raise RulePackError(
            file, "", expected="a readable file", found=error.strerror or "an error"
        ) from error


def load_rulebook(names: Sequence[str], directory: Path | None = None) -> RuleBook:
    """Load the named packs: shipped ones from the package, others from `directory`.

    Across packs, a reference `id@version` and a pack's own record class may occur once.

    Raises:
        RulePackError: a pack is not there, or not what RULES.md says; a partial book is never returned.
    """
    packs: list[Pack] = []
    classes = dict(RECORD_CLASSES)
    refs: set[str] = set()
    for name in names:
        file = f"{name}.toml"
        if _SLUG.fullmatch(name) is None:
            raise RulePackError(
                "packs", "", expected="names of lower-case letters and digits", found=repr(name)
            )
        if any(pack.name == name for pack in packs):
            raise RulePackError(file, "", expected="each pack once", found="it twice")
        pack = parse_pack(_read(name, directory), file=file)
        for item in pack.record_classes:
            if item.key in classes:
                raise RulePackError(
                    file,
                    "record_class",
                    expected="a class no other pack defines",
                    found=repr(item.key),
                )
            classes[item.key] = item
        for rule in pack.rules:
            if rule.ref in refs:
                raise RulePackError(
                    file, "rule", expected="a reference no other pack has", found=rule.ref
                )
            refs.add(rule.ref)
        packs.append(pack)
    return RuleBook(tuple(packs), classes)
