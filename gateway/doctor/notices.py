"""Findings about receipts and notices: what is not configured, behind or failed.

Leaves out: a certificate near its end (`doors`), which a notice tells of, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.config import Config
from gateway.doctor.finding import Finding
from gateway.readable import moment


def said(
    config: Config, state: dict[str, Any], accounts: list[dict[str, Any]]
) -> Iterator[Finding]:
    """Whether anybody is told anything, and what did not get through."""
    targets = state["notices"]["targets"]
    if not any(each["configured"] for each in targets):
        yield Finding(
            "note",
            "notices",
            "neither [relay] nor [[webhook]] is configured: nobody is told of a quarantine or a late backup",
            "configure one, as config.example.toml shows; then `strongroom notice test`",
        )
    for each in targets:
        if each["behind"] or (each["waiting"] and not each["configured"]):
            why = each["failure"] or "not taken yet, or no courier runs"
            yield Finding(
                "problem" if each["configured"] else "weak",
                each["target"],
                f"{each['waiting']} notices wait"
                + (
                    f": {why}"
                    if each["configured"]
                    else ", and it is not in the configuration any more"
                ),
                "mend what it says; `strongroom notice test` shows whether it works",
            )
        if each["failed"]:
            yield Finding(
                "weak",
                each["target"],
                f"{each['failed']} notices failed for good within a week, the last"
                f" {moment(each['failed_last'])}: {each['failed_why']}",
                "`strongroom notice list` shows to whom; correct the addresses, or the relay",
            )
    if config.relay.address and not any(
        each["notices"] for each in accounts if each["role"] in {"officer", "admin"}
    ):
        yield Finding(
            "weak",
            "notices",
            "no officer and no admin has an address: nobody is told by mail what must be acted on",
            "`strongroom account change NAME --email ADDRESS`",
        )
