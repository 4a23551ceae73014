"""`strongroom notice`: what the gateway said by itself, and whether the ways it says it work."""

from __future__ import annotations

from typing import Literal

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command, listing
from gateway.cli.support.options import argument, new_group, option
from gateway.cli.support.output import Column

group = new_group("Notices: receipts and notices by mail and webhook.")

_COLUMNS = (
    Column("created_at", "SINCE", output.moment),
    Column("kind", "ABOUT"),
    Column("to", "TO"),
    Column("target", "BY"),
    Column("state", "STATE"),
    Column("attempts", "ATTEMPTS", right=True),
    Column("next_attempt_at", "NEXT", output.moment),
    Column("failure", "WHY"),
)


@command(group, act="notice.list")
def list_all(
    ask: Ask,
    state: Literal[
        "", "waiting", "sent", "refused", "given-up", "withheld", "joined", "moot"
    ] = option("--state", "Only these: waiting, sent, refused, given-up, withheld, joined, moot."),
    limit: int = option("--limit", "At most so many, the newest.", 100),
) -> Shown:
    """List what was sent, waits or failed, and to whom."""
    return listing(ask(state=state, limit=limit), _COLUMNS, "No notices.")


@command(group, act="notice.test", signed=True)
def send_test(
    ask: Ask,
    target: str = argument("TARGET", "`relay`, or `webhook:NAME`."),
    account: str = option(
        "--account", "For the relay: the account that gets the mail.", metavar="NAME"
    ),
) -> Shown:
    """Send a test notice now, and show how that went."""
    data = ask(target=target, account=account)

    def show() -> None:
        if data["state"] == "sent":
            output.say(f"Sent: {output.plain(target)} has taken it.")
        else:
            output.say(f"NOT SENT ({output.plain(data['state'])}): {output.plain(data['failure'])}")

    return Shown(data, show)
