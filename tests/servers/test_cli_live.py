"""The command line against a running gateway: the same answers, the same proofs, an orderly life."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.commands import documents
from gateway.cli.support.connection import at_console
from gateway.cli.support.signing import person
from gateway.config import load
from gateway.errors import Refusal
from gateway.install import demonstration
from tests.servers.gateway_process import Gateway, Installation, environment, installation, running
from tests.unit.cli.here import Program
from tests.unit.cli.test_acts import replay

pytestmark = pytest.mark.skipif(
    shutil.which("scp") is None or shutil.which("ssh-keygen") is None,
    reason="the OpenSSH client is not installed",
)


def send(made: Installation, *files: Path) -> None:
    """Send files as the demonstration's client, by scp."""
    subprocess.run(
        ["scp", "-q", *made.ssh_options("acme"), *map(str, files), "acme@127.0.0.1:/inbox/"],
        check=True,
        timeout=60,
    )


def settled(found: list[Any]) -> bool:
    return all(document["state"] not in {"PARTIAL", "RECEIVED"} for document in found)


@pytest.fixture(scope="module")
def filled() -> Iterator[tuple[Installation, Gateway]]:
    """A whole gateway with four filed documents; tests may read, and add to it."""
    with installation() as made, running(made) as gateway:
        note = made.sample(demonstration.NOTE)
        names = [made.folder / name for name in ("n1.txt", "n2.txt", "n3.txt")]
        for number, name in enumerate(names):
            name.write_bytes(note.read_bytes() + b"%d\n" % number)
        send(made, made.sample(demonstration.INVOICE), *names)
        made.wait_for(lambda found: len(found) == 4 and settled(found))
        yield made, gateway


READING = [
    ["client", "list"],
    ["client", "show", "acme"],
    ["account", "list"],
    ["document", "list"],
    ["document", "list", "--state", "filed", "--class", "invoice"],
    ["hold", "list", "--released"],
    ["retention", "rules"],
    ["retention", "preview", "--at", "2100-01-01"],
    ["disposal", "list"],
    ["certificate", "list"],
    ["keys", "status"],
]


def test_with_a_core_and_without_one_the_answers_are_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with installation() as made:
        program = Program(capsys, made.config)
        with running(made, "core", "sftp", "inspect"):
            send(made, made.sample(demonstration.INVOICE), made.sample(demonstration.NOTE))
            found = made.wait_for(lambda found: len(found) == 2 and settled(found))
            program.json("hold", "place", "--client", "acme", "--reason", "a dispute")
            asked = [*READING, *(["document", "show", each["id"]] for each in found)]
            asked += [["retention", "explain", each["id"]] for each in found]
            live = [program(*command, "--json").out for command in asked]
            assert program.json("status")["serving"] is True
        for command, answer in zip(asked, live, strict=True):
            assert program(*command, "--json").out == answer, command
        assert program.json("status")["serving"] is False
        assert program.json("check", "--read-data")["findings"] == []
        listed = json.loads(live[READING.index(["document", "list"])])
        assert {"id", "client", "name", "state", "record_class", "fiscal_year", "received_at",
                "size", "sha256", "eligible_at"} <= set(listed[0])  # fmt: skip


def test_a_statement_signed_once_is_no_second_act_on_any_connection(filled) -> None:
    made, _ = filled
    config = load(made.config)
    with at_console(config) as desk:
        replay(made, desk, desk)
    with at_console(config) as desk, at_console(config) as again:
        replay(made, desk, again)


def test_an_act_under_another_person_s_key_is_refused(filled) -> None:
    made, _ = filled
    with at_console(load(made.config)) as desk:
        hold = desk.act("hold.place", {"client": "acme", "reason": "x"}).data["id"]
        with pytest.raises(Refusal, match="a registered key of an active account"):
            desk.act("hold.release", {"hold": hold}, person("officer1", made.key("officer2")))
        with pytest.raises(Refusal, match="a registered key of an active account"):
            desk.act("hold.release", {"hold": hold}, person("nobody", made.key("officer1")))
        for name in ("officer1", "officer2"):
            desk.act("hold.release", {"hold": hold}, person(name, made.key(name)))


def test_an_accountant_exports_a_document_s_own_bytes_and_a_stranger_does_not(
    filled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, _ = filled
    program = Program(capsys, made.config)
    invoice = next(d for d in program.json("document", "list") if d["record_class"] == "invoice")
    target = tmp_path / "out.xml"
    command = ["document", "export", invoice["id"], "--output", str(target)]
    for refused in ([], made.signed("officer1"), made.signed("auditor"), made.signed("acme")):
        done = program(*command, *refused)
        assert "expected" in done.one_line(1)
        assert not target.exists()
    data = program.json(*command, *made.signed("accountant"))
    assert target.read_bytes() == made.sample(demonstration.INVOICE).read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert data["sha256"] == invoice["sha256"]
    assert program(*command, *made.signed("accountant")).code == 2


def test_a_long_list_is_whole_whatever_the_size_of_its_pages(
    filled, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = filled
    program = Program(capsys, made.config)
    whole = [document["id"] for document in program.json("document", "list")]
    assert len(whole) >= 4
    for page in (1, 2, len(whole), len(whole) + 1):
        monkeypatch.setattr(documents, "_PAGE", page)
        assert [each["id"] for each in program.json("document", "list")] == whole
        for limit in (1, 3):
            listed = program.json("document", "list", "--limit", limit)
            assert [each["id"] for each in listed] == whole[:limit]
        after = program.json("document", "list", "--after", whole[1])
        assert [each["id"] for each in after] == whole[2:]


def test_an_approval_signed_elsewhere_by_openssh_counts_and_proof_follows(
    filled, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = filled
    program = Program(capsys, made.config)
    (batch,) = program.json("disposal", "propose")
    # One approver signs here, the other elsewhere, with nothing but OpenSSH and the printed text.
    program.json("disposal", "approve", batch["id"], *made.signed("officer1"))
    printed = program(
        "disposal", "statement", batch["id"], "--as", "officer2", "--decision", "approve"
    )
    namespace = program.json(
        "disposal", "statement", batch["id"], "--as", "officer2", "--decision", "approve"
    )["namespace"]
    assert namespace in printed.err
    statement = tmp_path / "statement"
    statement.write_bytes(printed.out.encode())
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", made.key("officer2"), statement],
        check=True,
        capture_output=True,
    )
    signature = ["--signature", f"{statement}.sig"]
    wrong = program("disposal", "reject", batch["id"], "--as", "officer2", *signature)
    assert wrong.code == 1
    assert program("disposal", "execute", batch["id"], *made.signed("officer3")).code == 1
    decided = program.json("disposal", "approve", batch["id"], "--as", "officer2", *signature)
    assert decided["state"] == "APPROVED"
    assert program("disposal", "execute", batch["id"], *made.signed("officer2")).code == 1

    done = program.json("disposal", "execute", batch["id"], *made.signed("officer3"))
    proof, paper = tmp_path / "c.json", tmp_path / "c.pdf"
    shown = program.json(
        "certificate", "show", done["certificate"], "--output", str(proof), "--pdf", str(paper)
    )
    assert proof.read_text("utf-8") == shown["json"]
    assert paper.read_bytes() == base64.b64decode(shown["pdf"])
    assert paper.read_bytes().startswith(b"%PDF-")

    # Offline, with the key from three places; then with another ledger's key, and with a changed file.
    vkey = tmp_path / "ledger.vkey"
    vkey.write_text(shown["vkey"] + "\n")

    monkeypatch.chdir(tmp_path)
    offline = Program(capsys)

    def verify(*options: object) -> tuple[int, Any]:
        done = offline("certificate", "verify", proof, "--json", *options)
        return done.code, done.data[0]

    for options in (("--vkey", vkey), ("--vkey", shown["vkey"]), ("-c", made.config)):
        code, result = verify(*options)
        assert (code, result["passed"]) == (0, True)
        assert "own word" not in result["key_source"]
    code, result = verify()
    assert (code, result["passed"]) == (0, True)
    assert "own word" in result["key_source"]
    foreign = shown["vkey"].replace("strongroom.invalid", "elsewhere.invalid")
    code, result = verify("--vkey", foreign)
    assert (code, result["passed"]) == (1, False)
    proof.write_text(shown["json"].replace('"L2"', '"L1"').replace("officer3", "officer9"))
    code, result = verify("--vkey", shown["vkey"])
    assert (code, result["passed"]) == (1, False)
    assert program.json("ledger", "verify")["findings"] == []


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("strongroom: ")]
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return said[0]


def test_a_second_core_is_refused_and_does_not_disturb_the_first(filled) -> None:
    made, _ = filled
    assert "found another process" in one_line(made.cli("core"), 2)
    assert "found another process" in one_line(made.cli("run"), 2)
    assert made.json("status")["serving"] is True


def test_a_port_in_use_is_told_with_its_key(filled) -> None:
    made, _ = filled
    assert "sftp.listen" in one_line(made.cli("sftp"), 2)
    assert "smtp.listen" in one_line(made.cli("smtp"), 2)


def test_run_ends_with_2_and_one_line_when_a_door_can_t_open() -> None:
    with installation() as made, socket.create_server(("127.0.0.1", made.sftp_port)):
        assert "sftp.listen" in one_line(made.cli("run"), 2)
        assert made.json("status")["serving"] is False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_stops_in_order_and_leaves_no_process_and_no_socket(number: signal.Signals) -> None:
    with installation() as made, running(made) as gateway:
        process = gateway.processes["run"]
        roles = children(process.pid)
        assert len(roles) == 5
        process.send_signal(number)
        assert process.wait(30) == 0
        assert [pid for pid in roles if alive(pid)] == []
        assert list((made.folder / "run").glob("*.sock")) == []
        assert "Traceback" not in gateway.stderr()


def test_no_role_outlives_a_supervisor_that_was_killed() -> None:
    with installation() as made, running(made) as gateway:
        roles = children(gateway.processes["run"].pid)
        gateway.kill("run")
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in roles):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert made.json("check")["findings"] == []


def test_a_role_that_dies_is_started_again() -> None:
    with installation() as made, running(made) as gateway:
        victim = next(pid for pid in children(gateway.processes["run"].pid) if named(pid, "sftp"))
        os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while "sftp: restarted" not in gateway.stderr():
            assert time.monotonic() < deadline, gateway.stderr()
            time.sleep(0.1)
        assert "sftp: ended with signal 9" in gateway.stderr()
        time.sleep(2)
        send(made, made.sample(demonstration.NOTE))


def test_the_tour_works_as_pasted_into_another_terminal() -> None:
    """What `run` prints is run as it is; only waiting for the inspectors is put in between."""
    with installation() as made, running(made) as gateway:
        # The doors answer a moment before the tour is printed.
        deadline = time.monotonic() + 30
        while True:
            tour = gateway.stdout().partition("another terminal in this folder:")[2]
            if tour.count("scp ") == 2 and "ledger verify" in tour:
                break
            assert time.monotonic() < deadline, tour
            time.sleep(0.2)
        waiting = f"until [ $({documents_command(made)} | grep -c '\"FILED\"') -ge 4 ]; do sleep 0.3; done\n"
        script = re.sub(r"^# What arrived", waiting + "\\g<0>", tour, flags=re.MULTILINE)
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=made.folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert "Verified." in done.stdout
        assert "The ledger is whole." in done.stdout
        note = made.sample(demonstration.NOTE).read_bytes()
        assert (made.folder / "fetched-note.txt").read_bytes() == note
        assert len(list(made.folder.glob("certificate-*.pdf"))) == 1
        states = {d["name"]: d["state"] for d in made.json("document", "list")}
        assert states.pop("") == "DESTROYED"  # the name of what is destroyed is gone with it
        assert set(states.values()) == {"FILED"}


def documents_command(made: Installation) -> str:
    return f"{sys.executable} -m gateway.cli document list -c {made.config} --json"


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [int(child) for child in found]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def named(pid: int, role: str) -> bool:
    return role.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
