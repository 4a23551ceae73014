"""`strongroom disposal`: proposing, approving and executing the end of documents.

Promises: an approval is the approver's own signature over a statement that names the batch and its
register. It is made here from `--key`, and shown before it is made; or it is made elsewhere: `disposal
statement` prints the exact text, and `--signature` takes what `ssh-keygen -Y sign` made of it.
Leaves out: what is due and who may decide, which the core says (`gateway.core.disposal`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gateway.cli.support import output, signing
from gateway.cli.support.command import Ask, Shown, command, listing, sentence
from gateway.cli.support.options import REQUIRED, As, Key, flag, new_group, option
from gateway.cli.support.output import Column
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
    Column("waiting_for", "WAITING FOR"),
    Column("certificate", "CERTIFICATE"),
)
_REGISTER = (
    Column("document_id", "DOCUMENT"),
    Column("record_class", "CLASS"),
    Column("fiscal_year", "YEAR"),
    Column("received_on", "RECEIVED"),
    Column("size", "SIZE", output.size, right=True),
    Column("eligible_at", "ELIGIBLE", output.moment),
    Column("rule", "RULE"),
)
_APPROVALS = (
    Column("name", "ACCOUNT"),
    Column("role", "ROLE"),
    Column("decision", "DECISION"),
    Column("signed_at", "SIGNED", output.moment),
)


@command(group, act="disposal.propose", signed=True)
def propose(
    ask: Ask,
    client: str = option("--client", "Only of this client.", metavar="SLUG"),
    document: list[str] | None = option(
        "--document", "Only these documents; repeatable.", None, metavar="ID"
    ),
    whole_client: bool = flag(
        "--whole-client", "The end of --client: every document of it, and its keyring with them."
    ),
) -> Shown:
    """Propose what is due now, one batch per client."""
    documents = [each.upper() for each in document or []]
    data = ask(client=client, documents=documents, whole_client=whole_client)
    return listing(data, _COLUMNS, "Nothing is due that is not proposed already.")


@command(group, act="disposal.list")
def list_all(ask: Ask) -> Shown:
    """List all batches, the newest last."""
    return listing(ask(), _COLUMNS, "No batches.")


@command(group, act="disposal.show")
def show(ask: Ask, batch: Batch) -> Shown:
    """Show a batch with its register and approvals."""
    data = ask(id=batch)
    facts = {name: value for name, value in data.items() if name not in {"register", "approvals"}}

    def show() -> None:
        output.details(facts, {"proposed_at": output.moment})
        output.say()
        output.heading("Register")
        output.table(data["register"], _REGISTER, "Empty.")
        output.say()
        output.heading("Decisions")
        output.table(data["approvals"], _APPROVALS, "None yet.")

    return Shown(data, show)


@command(group, act="disposal.statement")
def statement(
    ask: Ask,
    batch: Batch,
    as_name: str = option("--as", "Whose decision it is.", REQUIRED, metavar="NAME"),
    decision: Literal["approve", "reject"] = option("--decision", "Which decision.", REQUIRED),
) -> Shown:
    """Print the exact text to sign elsewhere (`ssh-keygen -Y sign -n NAMESPACE -f KEY FILE`)."""
    data = ask(id=batch, account=as_name, decision=decision)

    def show() -> None:
        output.write_text(data["statement"])
        output.hint(f"Sign it in the namespace {data['namespace']}, byte for byte as printed.")

    return Shown(data, show)


@command(group, "approve")
def approve(
    ask: Ask, batch: Batch, as_name: As = "", key: Key = None, signature: Signature = None
) -> Shown:
    """Approve a batch with your own signature (an officer's act)."""
    return _decide(ask, "approve", batch, as_name, key, signature)


@command(group, "reject")
def reject(
    ask: Ask, batch: Batch, as_name: As = "", key: Key = None, signature: Signature = None
) -> Shown:
    """Reject a batch with your own signature (an officer's act)."""
    return _decide(ask, "reject", batch, as_name, key, signature)


def _decide(
    ask: Ask, decision: str, batch: str, name: str, key: Path | None, signature: Path | None
) -> Shown:
    if not name or (key is None) == (signature is None):
        raise ConfigurationError(
            f"disposal {decision}: expected --as NAME and one of --key FILE and --signature FILE,"
            " found otherwise"
        )
    arguments: dict[str, Any] = {"id": batch, "account": name, "decision": decision}
    with ask.console() as console:
        if signature is not None:
            armored = output.read_text(signature, MAX_ARMORED)
        else:
            asked = console.act("disposal.statement", arguments).data
            armored = _signed(ask, signing.required(name, key), asked)
        data = console.act("disposal.decide", {**arguments, "signature": armored}).data
    done = {"approve": "approved", "reject": "rejected"}[decision]
    return sentence(data, f"Batch {data['id']} {done} by {name}; it is now {data['state']}.")


def _signed(ask: Ask, person: signing.Person, asked: dict[str, Any]) -> str:
    """A person's signature over a statement of the core's, which is shown before it is signed."""
    if not ask.as_json:
        output.heading("You sign:")
        output.say("\n".join(output.plain(line) for line in asked["statement"].splitlines()))
    return person.sign(asked["statement"].encode(), asked["namespace"])


@command(group, act="disposal.execute", signed=True)
def execute(ask: Ask, batch: Batch) -> Shown:
    """Destroy an approved batch (an officer's or archivist's act, of one who did not approve it)."""
    data = ask(id=batch)
    return sentence(
        data,
        f"Batch {data['id']} is {data['state']}; its certificate is {data['certificate']}.",
    )


@command(group, "witness", signed=True, must_sign=True)
def witness(ask: Ask, batch: Batch) -> Shown:
    """Sign, after an execution you watched, that register and items agreed (监销)."""
    return _attest(ask, id=batch, kind="witness")


@command(group, "sanitised", signed=True, must_sign=True)
def sanitised(
    ask: Ask,
    batch: Batch,
    medium: str = option("--medium", "What was sanitised: make and model.", REQUIRED),
    serial: str = option("--serial", "Its serial number.", REQUIRED),
    method: str = option(
        "--method", "Standard and technique: NIST SP 800-88 Purge, say.", REQUIRED
    ),
    performed_on: str = option("--performed-on", "On which day.", REQUIRED, metavar="YYYY-MM-DD"),
    place: str = option("--place", "Where.", REQUIRED),
) -> Shown:
    """State, with your signature, that a medium that held a batch was sanitised (claim level L3)."""
    return _attest(
        ask,
        id=batch,
        kind="sanitised",
        medium=medium,
        serial=serial,
        method=method,
        performed_on=performed_on,
        place=place,
    )


def _attest(ask: Ask, **what: str) -> Shown:
    assert ask.person is not None
    arguments = {**what, "account": ask.person.name}
    with ask.console() as console:
        asked = console.act("disposal.attestation", arguments).data
        armored = _signed(ask, ask.person, asked)
        data = console.act("disposal.attest", {**arguments, "signature": armored}).data
    return sentence(data, f"Recorded. A follow-up certificate says so: {data['certificate']}.")
