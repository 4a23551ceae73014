"""Mail's senders: who can hand in documents in the name of a client, and what keeps mail from being judged.

Promises: looks, and changes nothing.
Leaves out: mail that can be read on its way (`doors`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.config import Config
from gateway.doctor.finding import Finding
from gateway.readable import moment

_PUBLISHED: Final = frozenset({"dkim", "spf"})
_PATIENCE: Final = timedelta(hours=1)
_NAMED: Final = 5


def proofs(config: Config, entries: list[dict[str, Any]]) -> Iterator[Finding]:
    """Entries that take anything, and such that nothing here can judge."""
    open_ = sorted({each["client"] for each in entries if "nothing" in each["proofs"]})
    if open_:
        yield Finding(
            "weak",
            "senders of mail",
            f"anybody can hand in documents by mail in the name of {_some(open_)}: their addresses have"
            " nothing to show",
            "`strongroom client senders` lists them;"
            " `strongroom client change SLUG --email ADDRESS=dkim,spf`",
        )
    judged = sorted(
        {
            each["client"]
            for each in entries
            if _PUBLISHED & set(each["proofs"]) and "nothing" not in each["proofs"]
        }
    )
    if judged and not config.resolver.addresses:
        yield Finding(
            "problem",
            "resolver",
            f"mail of {_some(judged)} is judged by what domains publish, and resolver.addresses names nobody"
            " to ask: it is kept, and opened by nobody",
            "set resolver.addresses, and enable the resolver (docs/operate.md)",
        )


def waiting(state: dict[str, Any], now: datetime) -> Iterator[Finding]:
    """Mail that could not be judged for long."""
    mail = state["mail"]
    since = mail["waiting_since"]
    if since and now - datetime.fromisoformat(since) > _PATIENCE:
        yield Finding(
            "problem",
            "senders of mail",
            f"{mail['waiting']} messages are not judged yet, the first since {moment(since)}",
            "see that the resolver runs and its DNS resolvers answer; the log says which message waits",
        )


def mailboxes(state: dict[str, Any]) -> Iterator[Finding]:
    """Mailboxes that can't be looked into, and mail in them that nobody takes."""
    for each in state["mailboxes"]:
        if each["fault"]:
            yield Finding(
                "problem",
                f"mailbox {each['name']}",
                f"since {moment(each['since'])}: {each['fault']}",
                "see its section [[mailbox]], and restart the mailbox door after a change of its password",
            )
        elif state["serving"] and each["heard"] is None:
            yield Finding(
                "weak",
                f"mailbox {each['name']}",
                "nobody has looked into it since the core began",
                "see that the mailbox door runs (`strongroom mailbox`, or its unit)",
            )
        if each["not_taken"]:
            yield Finding(
                "note",
                f"mailbox {each['name']}",
                f"{each['not_taken']} messages in it are of nobody whom their client knows, or for no client",
                "look into the mailbox; `strongroom client senders` lists who is known",
            )


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} others" if more > 0 else "")
