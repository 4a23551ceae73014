"""The table of acts in the documentation is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.core.admin.acts import ACTS, CONSOLE, STAFF

TABLE = Path(__file__).parents[3] / "docs" / "acts.md"
ROW = re.compile(r"^\| `([a-z -]+)` \| ([a-z, ]+) \|", re.MULTILINE)


def roles(text: str) -> set[str]:
    return set(text.split(", ")) if text != "console, staff" else {CONSOLE, *STAFF}


def test_every_act_stands_in_the_table_with_those_who_may_do_it():
    listed = {
        act.replace(" ", ".", 1): roles(who) for act, who in ROW.findall(TABLE.read_text("utf-8"))
    }
    assert listed == {name: set(act.roles) for name, act in ACTS.items()}
