"""SPF against the openspf test suite for RFC 7208 (release 2014.04), whose file and licence lie beside the vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.resolver import spf

SUITE = Path(__file__).parents[2] / "vectors" / "spf-rfc7208.yml"
SCENARIOS = list(yaml.safe_load_all(SUITE.read_text(encoding="utf-8")))
CASES = [
    pytest.param(scenario["zonedata"], case, id=f"{number}-{name}")
    for number, scenario in enumerate(SCENARIOS)
    for name, case in scenario["tests"].items()
]


class Zone:
    """What the suite publishes, as a resolver would answer it."""

    def __init__(self, data: dict[str, list[Any]]) -> None:
        self._records = {name.lower(): entries for name, entries in data.items()}
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, name: str, kind: spf.Type) -> list[str]:
        self.asked.append((name, kind))
        return self._find(name.rstrip(".").lower(), kind)

    def _find(self, name: str, kind: str) -> list[str]:
        found: list[str] = []
        entries = self._records.get(name, [])
        typed = any(isinstance(entry, dict) and "TXT" in entry for entry in entries)
        mx: list[tuple[int, str]] = []
        for entry in entries:
            if entry == "TIMEOUT":  # of every other type
                if not found:
                    raise spf.Later
                continue
            ((type_, value),) = entry.items()
            if type_ == "SPF":  # the suite's records serve both types, unless it says otherwise
                if typed:
                    continue
                type_ = "TXT"
            if type_ == "CNAME":
                return self._find(value.lower(), kind)
            if type_ != kind or value == "NONE":
                continue
            if value == "TIMEOUT":
                raise spf.Later
            if kind == "MX":
                mx.append((value[0], value[1]))
            elif kind == "TXT":
                found.append("".join(value) if isinstance(value, list) else value)
            else:
                found.append(value)
        return found or [name for _, name in sorted(mx)]


@pytest.mark.parametrize(("zone", "case"), CASES)
async def test_the_suite_of_the_openspf_project(zone: dict[str, list[Any]], case: Any) -> None:
    result, _ = await spf.check(
        case["host"], case.get("mailfrom") or "", case.get("helo") or "", Zone(zone)
    )
    wanted = case["result"]
    assert result in (wanted if isinstance(wanted, list) else [wanted]), case.get("spec")


async def test_a_record_that_includes_itself_ends() -> None:
    zone = Zone({"loop.example": [{"TXT": "v=spf1 include:loop.example -all"}]})
    assert (await spf.check("192.0.2.1", "a@loop.example", "h.example", zone))[0] == "permerror"
    assert len(zone.asked) <= 12


async def test_a_null_sender_is_judged_by_the_name_the_host_gave() -> None:
    zone = Zone({"mail.example.org": [{"TXT": "v=spf1 ip6:2001:db8::/32 -all"}]})
    assert await spf.check("2001:db8::1", "", "mail.example.org", zone) == (
        "pass",
        "mail.example.org",
    )
    assert (await spf.check("2001:db9::1", "", "mail.example.org", zone))[0] == "fail"
