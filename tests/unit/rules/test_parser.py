"""Packs are read strictly, and an error says exactly where and what."""

from __future__ import annotations

from pathlib import Path

import pytest

from retention_rules.classes import RECORD_CLASSES
from retention_rules.errors import RulePackError
from retention_rules.parser import MAX_PACK_BYTES, load_rulebook, parse_pack, shipped_packs

GOOD = """\
[pack]
name = "house"
version = 1
title_en = "House rules"
title_zh = "内部规则"

[[record_class]]
key = "minutes"
title_en = "Minutes"
title_zh = "会议纪要"

[[rule]]
id = "house-minutes"
version = 2
title_en = "Minutes"
title_zh = "会议纪要"
jurisdiction = "*"
record_classes = ["minutes", "contract"]
entity_types = ["company"]
requires = ["signed"]
kind = "minimum"
trigger = "event:meeting_held"
fallback = "block"
period = "P6Y"
time_zone = "Europe/Berlin"
suspend_if = ["legal_hold"]
on_expiry = "review"
approval_roles = ["officer", "officer"]
appraisal_roles = ["archivist"]
witness_roles = ["archivist"]
minimum_claim_level = "L2"
original_format_required = true
paper_warning = true
effective_from = 2020-01-01
effective_to = 2030-01-01
verified_on = 2026-01-01
confidence = "low"
basis = { citation = "Articles of association, 12", url = "https://example.org/12" }
archive = { after = "P1Y", maximum_deferral = "P3Y", consent_role = "archivist", checks = ["safety"] }
stub = { keep = ["document_id"], period = "P10Y" }
"""


def parse(text: str) -> None:
    parse_pack(text.encode(), file="house.toml")


def test_a_complete_pack_is_read_field_by_field() -> None:
    pack = parse_pack(GOOD.encode(), file="house.toml")
    assert (pack.name, pack.version, pack.title_zh) == ("house", 1, "内部规则")
    assert [item.key for item in pack.record_classes] == ["minutes"]
    (rule,) = pack.rules
    assert rule.ref == "house-minutes@2"
    assert rule.record_classes == ("minutes", "contract")
    assert (rule.entity_types, rule.requires) == (("company",), ("signed",))
    assert (rule.kind, rule.trigger, rule.period) == ("minimum", "event:meeting_held", "P6Y")
    assert rule.approval_roles == ("officer", "officer")
    assert rule.archive is not None
    assert (rule.archive.after, rule.archive.checks) == ("P1Y", ("safety",))
    assert rule.stub is not None
    assert rule.stub.period == "P10Y"
    assert rule.effective_to is not None
    assert (rule.original_format_required, rule.paper_warning) == (True, True)


def test_optional_keys_may_be_left_out_and_a_stub_may_be_permanent() -> None:
    text = GOOD
    for key in ("entity_types", "requires", "fallback", "suspend_if", "appraisal_roles"):
        text = "\n".join(line for line in text.splitlines() if not line.startswith(key))
    for key in ("witness_roles", "original_format", "paper_warning", "effective_to", "archive"):
        text = "\n".join(line for line in text.splitlines() if not line.startswith(key))
    text = text.replace('period = "P10Y"', 'period = "permanent"')
    (rule,) = parse_pack(text.encode(), file="house.toml").rules
    assert rule.fallback == "block"
    assert rule.archive is None
    assert rule.stub is not None
    assert rule.stub.period == "permanent"


# (what to replace, with what, the exact text after "house.toml: ")
FAULTS = [
    ('name = "house"', 'name = "haus"', "pack.name: expected 'house', found 'haus'"),
    ('name = "house"\nversion = 1', 'name = "house"', "pack.version: expected an integer, found nothing"),
    (
        'name = "house"\nversion = 1',
        'name = "house"\nversion = true',
        "pack.version: expected an integer, found true",
    ),
    ('name = "house"\nversion = 1', 'name = "house"\nversion = 0', "pack.version: expected an integer from 1, found 0"),
    ("[pack]", "[pack]\ncolour = 1", "pack.colour: expected one of name, title_en, title_zh, version, found an unknown key"),
    ("[pack]", "colour = 1\n[pack]", "colour: expected one of pack, record_class, rule, found an unknown key"),
    ('key = "minutes"', 'key = "contract"', "record_class[0].key: expected a record class that is not defined yet, found 'contract'"),
    ('key = "minutes"', 'key = "../x"', "record_class[0].key: expected lower-case letters, digits and hyphens, found '../x'"),
    ("version = 2", 'version = "2"', "rule[0].version: expected an integer, found '2'"),
    ('id = "house-minutes"', 'id = "House"', "rule[0].id: expected lower-case letters, digits and hyphens, found 'House'"),
    ('title_en = "Minutes"\ntitle_zh = "会议纪要"\njur', 'title_en = " "\ntitle_zh = "会议纪要"\njur', "rule[0].title_en: expected text that is not empty, found ' '"),
    ('title_en = "Minutes"\ntitle_zh = "会议纪要"\njur', 'title_en = "a\\u0007"\ntitle_zh = "会议纪要"\njur', "rule[0].title_en: expected printable text on one line, found control characters"),
    ('jurisdiction = "*"', 'jurisdiction = "CN"', "rule[0].jurisdiction: expected a lower-case code or *, found 'CN'"),
    ('["minutes", "contract"]', "[]", "rule[0].record_classes: expected at least one entry, found an empty list"),
    ('["minutes", "contract"]', '["minutes", "memo"]', "rule[0].record_classes[1]: expected a known record class, found 'memo'"),
    ('["minutes", "contract"]', '["minutes", "minutes"]', "rule[0].record_classes[1]: expected each entry once, found 'minutes' again"),
    ('["minutes", "contract"]', '["minutes", 7]', "rule[0].record_classes[1]: expected text, found 7"),
    ('["minutes", "contract"]', '"minutes"', "rule[0].record_classes: expected a list, found 'minutes'"),
    ('kind = "minimum"', 'kind = "min"', "rule[0].kind: expected one of minimum, maximum, permanent, found 'min'"),
    ('kind = "minimum"', 'kind = "permanent"', "rule[0].trigger: expected nothing, the rule being permanent, found a value"),
    ('trigger = "event:meeting_held"', "", "rule[0].trigger: expected text, found nothing"),
    (
        '"event:meeting_held"',
        '"meeting"',
        ("rule[0].trigger: expected one of fiscal_year_end, calendar_year_end, filing, deadline, "
        "received, document_date or event:<name>, found 'meeting'"),
    ),
    (
        '"event:meeting_held"',
        '"event:"',
        ("rule[0].trigger: expected one of fiscal_year_end, calendar_year_end, filing, deadline, "
        "received, document_date or event:<name>, found 'event:'"),
    ),
    ('fallback = "block"', 'fallback = "received"', "rule[0].fallback: expected one of block, found 'received'"),
    ('period = "P6Y"', 'period = "6 years"', "rule[0].period: expected an ISO 8601 period of at most 200 years, such as P30Y, found '6 years'"),
    ('period = "P6Y"', "", "rule[0].period: expected text, found nothing"),
    ('"Europe/Berlin"', '"Berlin"', "rule[0].time_zone: expected an IANA time zone known to this system (tzdata), found 'Berlin'"),
    ('["legal_hold"]', '["tea"]', "rule[0].suspend_if[0]: expected one of legal_hold, unsettled_debt, open_matter, open_assessment, found 'tea'"),
    ('on_expiry = "review"', 'on_expiry = "shred"', "rule[0].on_expiry: expected one of review, destroy, transfer, return, found 'shred'"),
    ('["officer", "officer"]', "[]", "rule[0].approval_roles: expected at least one entry, found an empty list"),
    ('"L2"', '"L4"', "rule[0].minimum_claim_level: expected one of L0, L1, L2, L3, found 'L4'"),
    ("paper_warning = true", 'paper_warning = "yes"', "rule[0].paper_warning: expected true or false, found 'yes'"),
    ("effective_from = 2020-01-01", "effective_from = 2020-01-01T00:00:00", "rule[0].effective_from: expected a date, found a datetime"),
    ("effective_to = 2030-01-01", "effective_to = 2020-01-01", "rule[0].effective_to: expected a date after 2020-01-01, found 2020-01-01"),
    ("verified_on = 2026-01-01", "", "rule[0].verified_on: expected a date, found nothing"),
    ('confidence = "low"', 'confidence = "sure"', "rule[0].confidence: expected one of high, medium, low, found 'sure'"),
    ('citation = "Articles of association, 12", ', "", "rule[0].basis.citation: expected text, found nothing"),
    ("https://example.org/12", "http://example.org/12", "rule[0].basis.url: expected an https address or nothing, found 'http://example.org/12'"),
    ('url = "https', 'page = 3, url = "https', "rule[0].basis.page: expected one of citation, url, found an unknown key"),
    ('after = "P1Y"', 'after = "1"', "rule[0].archive.after: expected an ISO 8601 period of at most 200 years, such as P30Y, found '1'"),
    ('period = "P10Y"', 'period = "ever"', "rule[0].stub.period: expected an ISO 8601 period of at most 200 years, such as P30Y, found 'ever'"),
    ('keep = ["document_id"]', "keep = []", "rule[0].stub.keep: expected at least one entry, found an empty list"),
    ("[[rule]]", "[[rule]]\nperid = 1", "rule[0].perid: expected one of "),
    ("[[rule]]", "[rule]", "rule: expected a list, found a table"),
    ("[[rule]]", "[[rules]]", "rules: expected one of pack, record_class, rule, found an unknown key"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), FAULTS, ids=[item[2][:60] for item in FAULTS])
def test_a_fault_is_refused_with_its_key_path_and_what_was_expected_and_found(
    old: str, new: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(RulePackError) as caught:
        parse(GOOD.replace(old, new, 1))
    text = str(caught.value)
    assert text.startswith(f"house.toml: {message}")
    if not message.endswith("one of "):
        assert text == f"house.toml: {message}"


def test_the_same_reference_twice_in_a_pack_is_refused() -> None:
    again = GOOD[GOOD.index("[[rule]]") :]
    with pytest.raises(RulePackError, match=r"rule\[1\].id: .*house-minutes@2 again"):
        parse(GOOD + again)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\xff\xfe", "an invalid byte at offset 0"),
        (b"[pack", "Expected"),
        (b"a = 1\na = 2", "Cannot overwrite"),
        (b"#" * (MAX_PACK_BYTES + 1), f"{MAX_PACK_BYTES + 1} bytes"),
        (b"a = " + b"[" * 100_000, ""),
    ],
)
def test_a_file_that_is_no_toml_is_refused(data: bytes, found: str) -> None:
    with pytest.raises(RulePackError) as caught:
        parse_pack(data, file="house.toml")
    assert str(caught.value).startswith("house.toml: expected ")
    assert found in str(caught.value)


# --- books -----------------------------------------------------------------------------------------


def test_every_shipped_pack_loads_alone_and_together() -> None:
    assert {"cn", "demo"} <= set(shipped_packs())
    for name in shipped_packs():
        assert load_rulebook([name]).rules
    assert load_rulebook(shipped_packs()).rule("cn-order79-01-source-vouchers@1") is not None


def test_a_book_knows_the_fixed_classes_and_those_of_its_packs(tmp_path: Path) -> None:
    (tmp_path / "house.toml").write_text(GOOD, encoding="utf-8")
    book = load_rulebook(["cn", "house"], tmp_path)
    assert set(book.record_classes) == {*RECORD_CLASSES, "minutes"}
    assert book.rule("house-minutes@2") is not None
    assert book.rule("house-minutes@1") is None
    assert load_rulebook([]).rules == ()


def test_a_local_file_cannot_stand_in_for_a_shipped_pack(tmp_path: Path) -> None:
    (tmp_path / "cn.toml").write_text(GOOD.replace("house", "cn"), encoding="utf-8")
    with pytest.raises(RulePackError, match="another name than that of a shipped pack"):
        load_rulebook(["cn"], tmp_path)


@pytest.mark.parametrize("name", ["../etc", "CN", "", "a/b", "a.toml", "house\n"])
def test_a_pack_name_is_never_a_path(name: str, tmp_path: Path) -> None:
    with pytest.raises(RulePackError, match="names of lower-case letters"):
        load_rulebook([name], tmp_path)


def test_a_missing_pack_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(
        RulePackError, match=r"fr.toml: expected a shipped pack \(cn, demo.*neither"
    ):
        load_rulebook(["fr"], tmp_path)
    with pytest.raises(RulePackError, match="no directory"):
        load_rulebook(["fr"])


def test_a_pack_named_twice_or_colliding_with_another_is_refused(tmp_path: Path) -> None:
    (tmp_path / "house.toml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(RulePackError, match="each pack once"):
        load_rulebook(["house", "house"], tmp_path)
    (tmp_path / "two.toml").write_text(GOOD.replace('"house"', '"two"'), encoding="utf-8")
    with pytest.raises(RulePackError, match=r"two\.toml: record_class: expected a class no"):
        load_rulebook(["house", "two"], tmp_path)
    renamed = GOOD.replace('"house"', '"two"').replace('"minutes"', '"memos"')
    (tmp_path / "two.toml").write_text(renamed, encoding="utf-8")
    with pytest.raises(RulePackError, match="a reference no other pack has, found house-minutes@2"):
        load_rulebook(["house", "two"], tmp_path)
