"""`strongroom disposal`: propose, list, show, statement, approve, reject, execute.

An approval is the approver's own signature over a statement that names the batch and its register. It is
made here from `--key`, or elsewhere: `disposal statement` prints the exact text, and `--signature` takes
what `ssh-keygen -Y sign` made of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gateway.cli.support import output, signing
from gateway.cli.support.connection import ask, at_desk
from gateway.cli.support.options import As, ConfigPath, Json, Key, new_group
from gateway.cli.support.output import Column
from gateway.config import load
from gateway.errors import ConfigurationError
from vault.crypto.sshsig import MAX_ARMORED

group = new_group("Disposal: proposed by the clock, approved by two people, executed by a third.")

Batch = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's id.")]
Signature = Annotated[
    Path | None,
    typer.Option(
        "--signature", metavar="FILE", help="A signature made elsewhere, instead of --key."
    ),
]

_COLUMNS = (
    Column("id", "BATCH"),
    Column("client", "CLIENT"),
    Column("state", "STATE"),
    Column("items", "ITEMS", right=True),
    Column("proposed_at", "PROPOSED", output.moment),
    Column("waiting_for", "WAITS FOR"),
    Column("certificate", "CERTIFICATE"),
)
_REGISTER = (
    Column("document_id", "DOCUMENT"),
    Column("record_class", "CLASS"),
    Column("fiscal_year", "YEAR"),
    Column("received_on", "RECEIVED"),
    Column("size", "SIZE", output.size, right=True),
    Column("eligible_at", "MAY GO", output.moment),
    Column("rule", "RULE"),
)
_APPROVALS = (
    Column("name", "ACCOUNT"),
    Column("role", "ROLE"),
    Column("decision", "DECISION"),
    Column("signed_at", "SIGNED", output.moment),
)


@group.command("propose")
def propose(
    client: Annotated[
        str, typer.Option("--client", metavar="SLUG", help="Only of this client.")
    ] = "",
    document: Annotated[
        list[str] | None,
        typer.Option("--document", metavar="ID", help="Only these documents; repeatable."),
    ] = None,
    whole_client: Annotated[
        bool,
        typer.Option(
            "--whole-client",
            help="The end of --client: every document of it, and its keyring with them.",
        ),
    ] = False,
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Propose what is due now, one batch per client."""
    person = signing.person(as_name, key)
    arguments = {
        "client": client,
        "documents": [each.upper() for each in document or []],
        "whole_client": whole_client,
    }
    data = ask(config, "disposal.propose", arguments, person).data
    output.listing(data, as_json, _COLUMNS, "Nothing is due that is not proposed already.")


@group.command("list")
def list_all(config: ConfigPath = None, as_json: Json = False) -> None:
    """List all batches, the newest last."""
    data = ask(config, "disposal.list").data
    output.listing(data, as_json, _COLUMNS, "No batches.")


@group.command("show")
def show(batch: Batch, config: ConfigPath = None, as_json: Json = False) -> None:
    """Show a batch with its register and approvals."""
    data = ask(config, "disposal.show", {"id": batch}).data
    if as_json:
        output.json_document(data)
        return
    facts = {name: value for name, value in data.items() if name not in {"register", "approvals"}}
    output.details(facts, {"proposed_at": output.moment})
    output.say()
    output.heading("Register")
    output.table(data["register"], _REGISTER, "Empty.")
    output.say()
    output.heading("Decisions")
    output.table(data["approvals"], _APPROVALS, "None yet.")


@group.command("statement")
def statement(
    batch: Batch,
    as_name: Annotated[str, typer.Option("--as", metavar="NAME", help="Whose decision it is.")],
    decision: Annotated[
        Literal["approve", "reject"], typer.Option("--decision", help="Which decision.")
    ],
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Print the exact text to sign elsewhere (`ssh-keygen -Y sign -n NAMESPACE -f KEY FILE`)."""
    arguments = {"id": batch, "account": as_name, "decision": decision}
    data = ask(config, "disposal.statement", arguments).data
    if as_json:
        output.json_document(data)
    else:
        output.write_text(data["statement"])
        output.hint(f"Sign it in the namespace {data['namespace']}, byte for byte as printed.")


@group.command("approve")
def approve(
    batch: Batch,
    as_name: As = "",
    key: Key = None,
    signature: Signature = None,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Approve a batch with your own signature (an officer's act)."""
    _decide("approve", batch, as_name, key, signature, config, as_json)


@group.command("reject")
def reject(
    batch: Batch,
    as_name: As = "",
    key: Key = None,
    signature: Signature = None,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Reject a batch with your own signature (an officer's act)."""
    _decide("reject", batch, as_name, key, signature, config, as_json)


def _decide(
    decision: str,
    batch: str,
    name: str,
    key: Path | None,
    signature: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    if not name or (key is None) == (signature is None):
        raise ConfigurationError(
            f"disposal {decision}: expected --as NAME and one of --key FILE and --signature FILE,"
            " found otherwise"
        )
    arguments: dict[str, Any] = {"id": batch, "account": name, "decision": decision}
    with at_desk(load(config)) as desk:
        if signature is not None:
            armored = output.read_text(signature, MAX_ARMORED)
        else:
            assert key is not None
            asked = desk.act("disposal.statement", arguments).data
            if not as_json:
                output.heading("You sign:")
                output.say(
                    "\n".join(output.plain(line) for line in asked["statement"].splitlines())
                )
            armored = signing.sign(key, asked["statement"].encode(), asked["namespace"])
        data = desk.act("disposal.decide", {**arguments, "signature": armored}).data
    if as_json:
        output.json_document(data)
    else:
        done = {"approve": "approved", "reject": "rejected"}[decision]
        output.say(f"Batch {data['id']} {done} by {name}; it is now {data['state']}.")


@group.command("execute")
def execute(
    batch: Batch,
    config: ConfigPath = None,
    as_name: As = "",
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Destroy an approved batch (an officer's or archivist's act, of one who did not approve it)."""
    data = ask(config, "disposal.execute", {"id": batch}, signing.person(as_name, key)).data
    output.outcome(
        data,
        as_json,
        f"Batch {data['id']} is {data['state']}; its certificate is {data['certificate']}.",
    )


@group.command("witness")
def witness(
    batch: Batch,
    as_name: As = "",
    key: Key = None,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Sign, after an execution you watched, that register and items agreed (监销)."""
    _attest({"id": batch, "kind": "witness"}, as_name, key, config, as_json)


@group.command("sanitised")
def sanitised(
    batch: Batch,
    medium: Annotated[str, typer.Option("--medium", help="What was sanitised: make and model.")],
    serial: Annotated[str, typer.Option("--serial", help="Its serial number.")],
    method: Annotated[
        str, typer.Option("--method", help="Standard and technique: NIST SP 800-88 Purge, say.")
    ],
    performed_on: Annotated[
        str, typer.Option("--performed-on", metavar="YYYY-MM-DD", help="On which day.")
    ],
    place: Annotated[str, typer.Option("--place", help="Where.")],
    as_name: As = "",
    key: Key = None,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """State, with your signature, that a medium that held a batch was sanitised (claim level L3)."""
    facts = {
        "medium": medium,
        "serial": serial,
        "method": method,
        "performed_on": performed_on,
        "place": place,
    }
    _attest({"id": batch, "kind": "sanitised", **facts}, as_name, key, config, as_json)


def _attest(
    what: dict[str, Any], name: str, key: Path | None, config: Path | None, as_json: bool
) -> None:
    signing.required(name, key)
    assert key is not None
    arguments = {**what, "account": name}
    with at_desk(load(config)) as desk:
        asked = desk.act("disposal.attestation", arguments).data
        if not as_json:
            output.heading("You sign:")
            output.say("\n".join(output.plain(line) for line in asked["statement"].splitlines()))
        armored = signing.sign(key, asked["statement"].encode(), asked["namespace"])
        data = desk.act("disposal.attest", {**arguments, "signature": armored}).data
    output.outcome(
        data, as_json, f"Recorded. A follow-up certificate says so: {data['certificate']}."
    )
