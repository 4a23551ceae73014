"""What one source may send in a time, and that others do not notice."""

from __future__ import annotations

import ipaddress

from gateway.doors.smtp.rates import MOST, TOO_MANY, TOO_MUCH, Rates

A, B = "192.0.2.1", "198.51.100.7"


def test_a_minutes_messages_come_at_once_and_then_evenly():
    rates = Rates(60, 0, ())
    assert [rates.begin(A, 0.0) for _ in range(61)] == [""] * 60 + [TOO_MANY]
    assert rates.begin(B, 0.0) == ""
    assert rates.begin(A, 0.5) == TOO_MANY
    assert rates.begin(A, 1.0) == ""
    assert rates.begin(A, 1.0) == TOO_MANY
    assert [rates.begin(A, 1000.0) for _ in range(61)] == [""] * 60 + [TOO_MANY]


def test_bytes_are_counted_after_a_message_and_come_back_within_the_hour():
    rates = Rates(0, 3600, ())
    assert rates.begin(A, 0.0) == ""
    rates.took(A, 4600, 0.0)
    assert rates.begin(A, 999.0) == TOO_MUCH
    assert rates.begin(A, 1001.0) == ""
    assert rates.begin(B, 0.0) == ""


def test_an_ipv6_customer_is_one_source():
    rates = Rates(1, 0, ())
    assert rates.begin("2001:db8::1", 0.0) == ""
    assert rates.begin("2001:db8::ffff", 0.0) == TOO_MANY
    assert rates.begin("2001:db8:0:1::1", 0.0) == ""


def test_without_limits_and_for_exempt_networks_nothing_is_counted():
    rates = Rates(0, 0, ())
    rates.took(A, 10**12, 0.0)
    assert rates.begin(A, 0.0) == ""
    rates = Rates(1, 1, (ipaddress.ip_network("192.0.2.0/24"),))
    rates.took(A, 100, 0.0)
    assert {rates.begin(A, 0.0) for _ in range(9)} == {""}
    assert len(rates) == 0


def test_memory_is_bounded_and_the_busiest_are_remembered():
    rates = Rates(2, 0, ())
    rates.begin(A, 0.0)
    rates.begin(A, 0.0)
    for number in range(2 * MOST):
        rates.begin(str(ipaddress.ip_address(0x0A000000 + number)), 0.0)
        assert len(rates) <= MOST
    assert rates.begin(A, 0.0) == TOO_MANY
