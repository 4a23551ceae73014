"""Whether an account may be logged in: limits to the minute, factors by policy, and no limit misread as none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from gateway.core.login.limits import (
    LimitError,
    Limits,
    admits,
    lacks,
    parse_addresses,
    parse_expiry,
    parse_hours,
    refusal,
)
from gateway.process.sources import parse_networks, source_of

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("hours", "moment", "allowed"),
    [
        ("Mon-Fri 08:00-19:00", "2026-11-23T08:00", True),  # a Monday
        ("Mon-Fri 08:00-19:00", "2026-11-23T07:59:59", False),
        ("Mon-Fri 08:00-19:00", "2026-11-23T18:59:59", True),
        ("Mon-Fri 08:00-19:00", "2026-11-23T19:00", False),
        ("Mon-Fri 08:00-19:00", "2026-11-28T12:00", False),  # a Saturday
        ("Mon-Fri 08:00-19:00, Sat 09:00-12:00", "2026-11-28T11:59", True),
        ("Sun 00:00-24:00", "2026-11-29T23:59", True),
        ("Sun 00:00-24:00", "2026-11-30T00:00", False),
        ("Fri 22:00-06:00", "2026-11-28T05:59", True),  # goes on into Saturday
        ("Fri 22:00-06:00", "2026-11-28T06:00", False),
        ("Fri 22:00-06:00", "2026-11-27T05:00", False),  # nothing began on Thursday
        ("Sat-Mon 08:00-09:00", "2026-11-29T08:30", True),  # days around the end of the week
        ("Sat-Mon 08:00-09:00", "2026-11-24T08:30", False),
    ],
)
def test_hours_hold_by_the_firms_clock_from_the_first_minute_to_the_last(hours, moment, allowed):
    limits = Limits(hours=parse_hours(hours))
    assert (refusal(limits, at(moment), BERLIN, None) is None) == allowed


def test_hours_follow_the_firms_summer_time():
    limits = Limits(hours=parse_hours("Mon-Sun 08:00-19:00"))
    seven = datetime(2026, 1, 10, 7, 30, tzinfo=UTC)
    six = datetime(2026, 7, 10, 6, 30, tzinfo=UTC)
    assert refusal(limits, seven, BERLIN, None) is None  # 08:30 in winter
    assert refusal(limits, six, BERLIN, None) is None  # 08:30 in summer
    assert refusal(limits, six.replace(month=1), BERLIN, None) == "hours"


@pytest.mark.parametrize(
    "text",
    [
        "", "Mon", "mon-fri 08:00-19:00", "Mon-Fri 8:00-19:00", "Mon-Fri 08:00-24:01", "Mon 24:00-24:00",
        "Mon 08:60-09:00", "Mon 08:00-08:00", "Mon 25:00-26:00", "Montag 08:00-09:00", "Mon 08:00-19:00,",
        ", ".join(["Mon 08:00-09:00"] * 15),
    ],
)  # fmt: skip
def test_hours_that_say_something_else_are_refused(text):
    with pytest.raises(LimitError):
        parse_hours(text)


def test_a_day_of_expiry_ends_with_that_day_in_the_firms_zone():
    limits = Limits(expires_at=parse_expiry("2027-03-28", BERLIN))  # the day summer time begins
    end = at("2027-03-29T00:00")
    assert limits.expires_at == end
    assert refusal(limits, end - timedelta(microseconds=1), BERLIN, None) is None
    assert refusal(limits, end, BERLIN, None) == "expired"


@pytest.mark.parametrize("text", ["", "soon", "2027-02-30", "2027-03-31T12:00", "9999-12-31"])
def test_an_expiry_without_a_zone_or_a_day_is_refused(text):
    with pytest.raises(LimitError):
        parse_expiry(text, BERLIN)


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("192.0.2.7", True), ("::ffff:192.0.2.7", True), ("192.0.3.7", False), ("2001:db8::5", True),
        ("2001:db9::5", False), ("", False), ("nonsense", False), ("fe80::1%eth0", False),
    ],
)  # fmt: skip
def test_networks_hold_for_both_families_and_admit_no_address_that_is_none(peer, allowed):
    limits = Limits(networks=parse_networks(["192.0.2.0/24", "2001:db8::/32"]))
    assert (refusal(limits, at("2026-11-23T08:00"), BERLIN, peer) is None) == allowed


@pytest.mark.parametrize("text", ["192.0.2.1/24", "x", "", "192.0.2.0/33"])
def test_a_network_with_host_bits_or_none_is_refused(text):
    with pytest.raises(LimitError):
        parse_addresses([text])


@pytest.mark.parametrize(
    "damaged",
    [{"expires_at": "soon"}, {"networks": "[1"}, {"networks": '["x"]'}, {"hours": "always"}],
)
def test_limits_that_can_not_be_read_admit_nobody(damaged):
    row = SimpleNamespace(
        **{"id": "a", "expires_at": None, "networks": None, "hours": None} | damaged
    )
    assert admits(row, at("2026-11-23T08:00"), BERLIN, "192.0.2.1") == "expired"


@pytest.mark.parametrize(
    ("policy", "has", "missing"),
    [
        ("any", {"keys": 0, "password": True, "code": False}, []),
        ("any", {"keys": 0, "password": False, "code": True}, ["a key or a password"]),
        ("key", {"keys": 0, "password": True, "code": True}, ["a key"]),
        ("key+code", {"keys": 1, "password": False, "code": True}, []),
        ("key+code", {"keys": 1, "password": True, "code": False}, ["a one-time code"]),
        ("key+code", {"keys": 0, "password": True, "code": False}, ["a key", "a one-time code"]),
        ("any+code", {"keys": 0, "password": True, "code": True}, []),
    ],
)
def test_what_an_account_lacks_for_its_policy_is_named(policy, has, missing):
    assert lacks(policy, **has) == missing


def test_a_source_is_one_ipv4_address_or_one_ipv6_network_of_64():
    assert source_of("192.0.2.1") == source_of("::ffff:192.0.2.1") != source_of("192.0.2.2")
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:ffff:ffff:ffff")
    assert source_of("2001:db8::1") != source_of("2001:db8:0:1::1")
