"""One rule for names from outside."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tree import check_name
from gateway.names import NAME_LIMIT, safe_name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("C:\\invoices\\March.pdf", "March.pdf"),
        ("../../etc/passwd", "passwd"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("a/", "a"),
        ("fdp\u202eexe.pdf", "fdpexe.pdf"),
        ("\udce9t\u00e9.pdf", "t\u00e9.pdf"),
        ("发票" * 200 + ".pdf", "发票" * 41 + "发" + ".pdf"),
        ("a\x00b\nc.txt", "abc.txt"),
    ],
)
def test_a_name_from_outside_becomes_one_harmless_segment(name, safe):
    assert safe_name(name) == safe


@given(st.text(max_size=600))
def test_whatever_comes_in_is_a_name_that_the_view_accepts(name):
    safe = safe_name(name)
    check_name(safe)
    assert 0 < len(safe.encode()) <= NAME_LIMIT


def test_a_name_of_megabytes_takes_no_longer_than_a_long_one():
    begun = time.process_time()
    for character in ("a", "发", ".", " ", "\u0301"):
        safe_name(character * 4_000_000)
    # Quadratic, one of these alone took minutes; no other figure is read into this bound.
    assert time.process_time() - begun < 5
