"""`strongroom status` and `check`: what is there, and whether it is whole.

Promises: what needs a person's attention stands in capitals.
Leaves out: how the machine is set up (`doctor`), and the ledger's own verification (`ledger`).
"""

from __future__ import annotations

from typing import Any

from gateway.cli.support import output
from gateway.cli.support.command import Ask, Shown, command, findings
from gateway.cli.support.options import flag
from gateway.cli.support.output import Column

_SHOWN = 10
_FINDINGS = (
    Column("subject", "SUBJECT"),
    Column("problem", "PROBLEM"),
    Column("action", "WHAT TO DO"),
)


@command(None, act="status")
def status(ask: Ask) -> Shown:
    """Show in one screen what is there, what waits, and what is behind."""
    data = ask()
    return Shown(data, lambda: _show(data))


def _show(data: dict[str, Any]) -> None:
    output.details(
        {
            "gateway": "serving" if data["serving"] else "not running (the store is at rest)",
            "documents": _counts(data["documents"]),
            "waiting": _counts(data["waiting"]),
            "in_review": data["documents"].get("REVIEW", 0),
            "disposal_batches": _counts(data["batches"]),
            "mail_senders": _senders(data["mail"]),
            "mailboxes": _mailboxes(data["mailboxes"]),
            "holds": data["holds"],
            "access_requests": data["access_requests"],
            "clients": data["clients"],
            "antivirus": _antivirus(data["clamd"]),
            "backups": _backups(data["backups"]),
            "fixity": _fixity(data["fixity"]),
            "keys_of_officers": _enrolments(data["enrolments"]),
            "quorum_of_officers": _quorum(data["quorum"]),
            "waits_for_a_second_officer": _seconds(data["second_signatures"]),
            "last_check": _last_check(data["check"]),
            "keyrings": _keyrings(data["keyrings_broken"]),
            "key_copies_behind": data["copies_behind"],
            "catalogue": _catalogue(data["changed_at_rest"]),
            "ledger": _ledger(data["ledger"]),
            "ledger_published": _published(data["ledger"]["places"]),
            "notices": _notices(data["notices"]["targets"]),
            "not_as_it_should_be": _conditions(data["conditions"]),
            "penalised": _penalised(data["penalised"]),
            "could_not_connect": _mismatched(data["mismatches"]),
            "free_space": output.size(data["free_bytes"]),
            "clock": _clock(data["clock"]),
            "now": output.moment(data["now"]),
        }
    )


def _mailboxes(mailboxes: list[dict[str, Any]]) -> str:
    said = []
    for each in mailboxes:
        if each["heard"] is None:
            state = "not heard of since the core began"
        elif each["fault"]:
            state = f"{each['fault']} (since {output.moment(each['since'])})"
        else:
            state = f"looked into {output.moment(each['heard'])}"
        more = f"; {each['not_taken']} of nobody we know" if each["not_taken"] else ""
        said.append(f"{each['name']}: {state}{more}")
    return "; ".join(said) or "none"


def _senders(mail: dict[str, Any]) -> str:
    said = []
    if mail["waiting"]:
        since = output.moment(mail["waiting_since"])
        said.append(f"{mail['waiting']} not judged yet, since {since}")
    if mail["unproven"]:
        said.append(f"{mail['unproven']} put aside: they proved nothing")
    return "; ".join(said) or "all judged"


def _catalogue(changed: str | None) -> str:
    if changed is None:
        return "as it was closed last"
    return f"CHANGED WHILE IT WAS CLOSED: {changed}; `strongroom check` says what to do"


def _ledger(state: dict[str, Any]) -> str:
    if state["fault"]:
        return f"NOT WHOLE: {state['fault'].removeprefix('ledger: ')}"
    return f"{state['entries']} entries, {state['origin']}"


def _keyrings(broken: list[dict[str, str]]) -> list[str]:
    """A line for each client whose keyring did not open when it was needed."""
    return [
        f"that of {each['client']} DOES NOT OPEN: {each['problem']}; `strongroom check` says what to do"
        for each in broken
    ] or ["all that were needed opened"]


def _clock(state: dict[str, Any]) -> str:
    if not state["believed"]:
        return f"NOT BELIEVED, nothing is ended or removed: {state['reason']}"
    if state["moved_hours"] is not None:
        return (
            f"believed; it went {state['moved_hours']} hours further than the machine while stopped"
        )
    return "believed"


def _enrolments(keys: list[dict[str, Any]]) -> list[str]:
    """A line for each key of an officer that does not count yet, so that the others can object."""
    return [
        f"{each['name']} {each['fingerprint']} by {' and '.join(each['enrolled_by'])}: "
        + (
            f"counts from {output.moment(each['counts_from'])}"
            if each["counts_from"]
            else "a second officer has yet to sign"
        )
        for each in keys
    ] or ["all count"]


def _quorum(quorum: dict[str, Any]) -> list[str]:
    """How many officers can sign, and a line for each recovery that runs or waits for its review."""
    lost = quorum["lost"] and "; the quorum is LOST: `strongroom account recover`"
    return [f"{quorum['can_sign']} can sign{lost or ''}"] + [
        f"RECOVERY of {each['name']} {each['fingerprint']} by {each['begun_by']}, begun"
        f" {output.moment(each['begun_at'])}: "
        + (
            f"counts since {output.moment(each['counts_from'])}, not reviewed yet"
            if each["counts"]
            else f"counts from {output.moment(each['counts_from'])} unless an officer objects"
        )
        for each in quorum["recoveries"]
    ]


def _last_check(last: dict[str, Any] | None) -> str:
    if last is None:
        return "none yet: `strongroom check`"
    if not last["findings"]:
        return f"{output.moment(last['at'])}, everything as it should be"
    return (
        f"{output.moment(last['at'])}, {last['findings']} FINDINGS:"
        f" {', '.join(last['subjects'][:3])}; `strongroom check` shows them"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _backups(state: dict[str, Any]) -> list[str]:
    """A line for each target, and one for a restore."""
    lines = []
    for target in state["targets"]:
        made = output.moment(target["made_at"]) if target["made_at"] else "none yet"
        notes = [f"{target['name']}: {made}"]
        if target["overdue"]:
            notes.append("OVERDUE")
        notes += [
            f"{each['id']} is FROM THE FUTURE ({output.moment(each['started_at'])})"
            for each in target["from_the_future"]
        ]
        if target["failure"]:
            notes.append(f"last run failed: {target['failure']}")
        if target["amendments_behind"]:
            notes.append(f"{target['amendments_behind']} amendments behind since"
                         f" {output.moment(target['behind_since'])}")  # fmt: skip
        lines.append(", ".join(notes))
    if state["restored_at_size"] is not None:
        lines.append(
            f"this store was restored from a backup of {state['restored_at_size']} entries"
        )
    return lines or ["none configured"]


def _published(places: list[dict[str, Any]]) -> list[str]:
    """A line for each place of the ledger."""
    lines = []
    for place in places:
        done = place["delivered_at"]
        notes = [
            f"{place['name']}: {place['size']} entries {output.moment(done)}"
            if done
            else f"{place['name']}: nothing yet"
        ]
        if place["alarmed_at"]:
            notes.append(
                f"ALARM since {output.moment(place['alarmed_at'])}: it holds another history"
            )
        elif place["behind_since"]:
            notes.append(f"BEHIND since {output.moment(place['behind_since'])}")
        if place["failure"]:
            notes.append(place["failure"])
        lines.append(", ".join(notes))
    return lines or ["nowhere: add [[ledger.places]], so that a rewritten history shows"]


def _notices(targets: list[dict[str, Any]]) -> list[str]:
    """A line for each way by which something is said."""
    lines = []
    for each in targets:
        notes = [f"{each['target']}: {each['waiting']} waiting"]
        if not each["configured"]:
            notes.append("NOT IN THE CONFIGURATION any more")
        elif each["behind"]:
            notes.append(f"BEHIND: {each['failure'] or 'not taken yet'}")
        if each["failed"]:
            notes.append(
                f"{each['failed']} FAILED within a week, the last {output.moment(each['failed_last'])}:"
                " `strongroom notice list`"
            )
        lines.append(", ".join(notes))
    return lines or ["nobody is told anything: add [relay] or [[webhook]]"]


def _conditions(standing: list[dict[str, Any]]) -> list[str]:
    """A line for each condition that notices tell of."""
    return [
        f"{each['topic']} {each['subject']}: since {output.moment(each['since'])}"
        for each in standing
    ] or ["nothing known"]


def _penalised(sources: list[dict[str, Any]]) -> list[str]:
    """A line for each source that logins fail from, the longest first."""
    lines = [
        f"{each['source']}: {_counts(each['events'])}, until {output.moment(each['until'])}"
        for each in sources[:_SHOWN]
    ]
    if len(sources) > _SHOWN:
        lines.append(f"and {len(sources) - _SHOWN} more: `strongroom penalty list`")
    return lines or ["nobody"]


def _seconds(acts: list[dict[str, Any]]) -> list[str]:
    return [
        f"{each['act'].replace('.', ' ')} {each['subject']}{_said(each)}: signed by {each['signed_by']}"
        f" {output.moment(each['signed_at'])}, until {output.moment(each['until'])}"
        for each in acts
    ] or ["nothing"]


def _said(act: dict[str, Any]) -> str:
    """What else the first officer has signed, as the second has to."""
    more = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in act["arguments"].items()
        if value and str(value).upper() != act["subject"]
    ]
    return f" ({', '.join(more)})" if more else ""


def _mismatched(programs: list[dict[str, Any]]) -> list[str]:
    """A line for each program that has no algorithm in common with the SFTP door."""
    lines = [
        f"{each['source']} ({each['program'] or 'unnamed'}): no common {each['lacking']},"
        f" {each['count']} times, last {output.moment(each['last_at'])}"
        for each in programs[:_SHOWN]
    ]
    if len(programs) > _SHOWN:
        lines.append(f"and {len(programs) - _SHOWN} more: `strongroom doctor`")
    return lines or ["nobody"]


def _fixity(run: dict[str, Any] | None) -> str:
    if run is None:
        return "nothing read yet"
    found = run["findings"]
    return (
        f"{run['documents']} documents ({output.size(run['bytes'])}) read"
        f" {output.moment(run['at'])}, "
        + ("all as received" if not found else f"{len(found)} FINDINGS: run `strongroom check`")
    )


def _antivirus(clamd: dict[str, Any]) -> str:
    policy = str(clamd["policy"])
    if policy == "off":
        return "clamd off by configuration"
    if clamd["adopted_at"]:
        return f"clamd {policy}, in use since {output.moment(clamd['adopted_at'])}"
    return f"clamd {policy}, not seen yet"


@command(None, act="check", signed=True)
def check(
    ask: Ask,
    read_data: bool = flag("--read-data", "Also decrypt and re-hash every document."),
    acknowledge: bool = flag(
        "--acknowledge",
        "Answer, as an officer, for a change of the catalogue's file while it was closed.",
    ),
) -> Shown:
    """Check every invariant of the store; exit code 1 if anything is found."""
    return findings(ask(read_data=read_data, acknowledge=acknowledge), _FINDINGS)
