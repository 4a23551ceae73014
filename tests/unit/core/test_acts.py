"""The table of acts in the documentation is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.core.admin.acts import ACTS
from gateway.core.admin.register import CONSOLE, OFFICER, STAFF, Nothing, act

TABLE = Path(__file__).parents[3] / "docs" / "acts.md"
ROW = re.compile(r"^\| `([a-z -]+)` \| ([a-z, ]+) \|", re.MULTILINE)


def roles(text: str) -> set[str]:
    return set(text.split(", ")) if text != "console, staff" else {CONSOLE, *STAFF}


def test_every_act_stands_in_the_table_with_those_who_may_do_it():
    listed = {
        act.replace(" ", "."): roles(who) for act, who in ROW.findall(TABLE.read_text("utf-8"))
    }
    assert listed == {name: set(act.roles) for name, act in ACTS.items()}


def test_a_name_is_entered_once():
    async def again(context: object, arguments: Nothing) -> None:
        """Would take the place of another act."""

    known = ACTS["hold.release"]
    with pytest.raises(RuntimeError, match=r"hold\.release"):
        act("hold.release", OFFICER)(again)
    assert ACTS["hold.release"] is known
