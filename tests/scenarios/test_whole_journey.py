"""The whole journey with nothing but real programs: `strongroom run`, OpenSSH, swaks, clamd, the command line.

One installation, all roles under the supervisor in their own processes, the inspectors jailed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.servers.clamd_server import CLAMD, EICAR, clamd_running
from tests.servers.gateway_process import environment, installation, running

pytestmark = pytest.mark.skipif(
    CLAMD is None or not shutil.which("sftp") or not shutil.which("swaks"),
    reason="clamd, sftp or swaks is not installed",
)

MARK = b"XYLOPHONE-4711-QUARTZ"  # looked for in every file of the installation


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """clamd, an installation that requires it, and the gateway running on it."""
    with clamd_running(tmp_path_factory.mktemp("clamd")) as clamd:

        def edit(text: str) -> str:
            wanted = f'clamd = "required"\nclamd_address = "{clamd.address}"'
            assert 'clamd = "auto"' in text
            return text.replace('clamd = "auto"', wanted)

        with installation(edit) as made, running(made) as gateway:
            yield made, gateway, clamd


def sftp(made, account: str, commands: str, *, ok: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["sftp", "-b", "-", *made.ssh_options(account), f"{account}@127.0.0.1"],
        input=commands,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode == 0) == ok, done.stderr + done.stdout
    return done


def swaks(made, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["swaks", "--server", f"127.0.0.1:{made.smtp_port}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def judged(made, count: int) -> dict[str, dict]:
    """All documents by name, once that many are there and none waits any more."""
    documents = made.wait_for(
        lambda found: len(found) >= count and not [d for d in found if d["state"] == "RECEIVED"],
        90,
    )
    return {document["name"]: document for document in documents}


def test_the_journey_from_upload_and_mail_to_certificate(world, tmp_path):
    made, _gateway, _clamd = world
    note = made.sample("demonstration-note.txt").read_bytes() + b"\n" + MARK + b"\n"
    folder = tmp_path / "send"
    (folder / "2026").mkdir(parents=True)
    (folder / "2026" / "note.txt").write_bytes(note)
    shutil.copy(made.sample("invoice.xml"), folder / "invoice.xml")
    (folder / "virus.txt").write_bytes(EICAR)

    # In: a folder by SFTP, a message with an attachment by mail.
    sftp(made, "acme", f"put -r {folder}/. /inbox\n")
    sent = swaks(
        made, "--from", "owner@example.com", "--to", "acme+march@intake.localhost",
        "--attach-name", "rechnung.xml", "--attach-type", "application/xml",
        "--attach", f"@{made.sample('invoice.xml')}", "--header", "Subject: Documents for March",
    )  # fmt: skip
    assert sent.returncode == 0, sent.stdout
    found = judged(made, 5)
    assert found["note.txt"]["record_class"] == "demonstration-note"
    assert (found["invoice.xml"]["state"], found["invoice.xml"]["record_class"]) == (
        "FILED", "invoice",
    )  # fmt: skip
    assert found["virus.txt"]["state"] == "QUARANTINED"
    message = next(d for d in found.values() if d["channel"] == "smtp")
    assert (message["state"], message["record_class"]) == ("FILED", "correspondence")
    assert found["rechnung.xml"]["parent"] == message["id"]
    assert found["rechnung.xml"]["state"] == "FILED"

    # Out: what the accountant gets is what was sent, and the quarantined file is nowhere.
    year = found["invoice.xml"]["fiscal_year"]
    listing = sftp(
        made,
        "accountant",
        f"ls /clients/acme/{year}/invoice\nls /clients/acme/*\nls /review/acme\n",
    ).stdout
    assert "virus" not in listing
    sftp(made, "accountant", f"get /clients/acme/{year}/invoice/invoice.xml {tmp_path}/back.xml\n")
    assert (tmp_path / "back.xml").read_bytes() == made.sample("invoice.xml").read_bytes()
    refused = sftp(made, "officer1", "get /clients/acme/x y\n", ok=False)
    assert "not found" in refused.stderr.lower() or "no such file" in refused.stderr.lower()
    receipts = sftp(made, "acme", "ls -1 /receipts\n").stdout
    assert found["virus.txt"]["id"] in receipts

    # At rest: no file of the installation holds a byte run of what was sent.
    for path in made.folder.rglob("*"):
        if path.is_file() and not path.is_relative_to(made.demo):
            assert MARK not in path.read_bytes(), path

    # Out of the world: proposed, approved twice, executed by a third, certified.
    explained = made.cli("retention", "explain", found["note.txt"]["id"])
    assert "demo" in explained.stdout
    assert made.cli("disposal", "propose").returncode == 0
    (batch,) = made.json("disposal", "list")
    for officer in ("officer1", "officer2"):
        assert made.cli("disposal", "approve", batch["id"], *made.signed(officer)).returncode == 0
    wrong = made.cli("disposal", "execute", batch["id"], *made.signed("officer1"))
    assert wrong.returncode == 1
    assert len(wrong.stderr.strip().splitlines()) == 1
    done = made.json("disposal", "execute", batch["id"], *made.signed("officer3"))
    shown = made.cli(
        "certificate", "show", done["certificate"],
        "--output", str(tmp_path / "c.json"), "--pdf", str(tmp_path / "c.pdf"),
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF-")
    after = {d["id"]: d for d in made.json("document", "list")}
    assert after[found["note.txt"]["id"]]["state"] == "DESTROYED"
    assert not list((made.folder / "vault/blobs").rglob(found["note.txt"]["id"]))
    gone = sftp(made, "accountant", f"ls /clients/acme/{found['note.txt']['fiscal_year']}/"
                "demonstration-note/note.txt\n", ok=False)  # fmt: skip
    assert "not found" in gone.stderr.lower() or "no such file" in gone.stderr.lower()

    # The certificate verifies elsewhere, with nothing but the file and the ledger's public key.
    vkey = made.json("ledger", "checkpoint")["vkey"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "c.json", elsewhere)
    verify = ["python3", "-m", "gateway.cli", "certificate", "verify", "c.json", "--vkey", vkey]
    verify[0] = os.environ.get("PYTHON", subprocess.sys.executable)
    verified = subprocess.run(
        verify, cwd=elsewhere, env=environment(), capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    forged = (elsewhere / "c.json").read_text().replace("officer2", "officer3")
    (elsewhere / "c.json").write_text(forged)
    verified = subprocess.run(
        verify, cwd=elsewhere, env=environment(), capture_output=True, text=True, check=False
    )
    assert verified.returncode == 1

    # And all of it holds together.
    assert made.cli("check", "--read-data").returncode == 0
    assert made.cli("ledger", "verify").returncode == 0
    kinds = {json.loads(line)["kind"] for line in _entries(made)}
    assert {"session.opened", "document.received", "document.opened", "document.destroyed"} <= kinds


def _entries(made) -> list[str]:
    target = made.folder / "entries.jsonl"
    target.unlink(missing_ok=True)
    assert made.cli("ledger", "export", str(target)).returncode == 0
    return target.read_text().splitlines()


def test_mail_for_nobody_and_from_nobody_is_refused_with_a_reason(world):
    made, _gateway, _clamd = world
    unknown = swaks(made, "--from", "owner@example.com", "--to", "nobody@intake.localhost")
    assert unknown.returncode != 0
    assert "550" in unknown.stdout
    assert "No client of that name" in unknown.stdout
    stranger = swaks(made, "--from", "mallory@elsewhere.example", "--to", "acme@intake.localhost")
    assert "550" in stranger.stdout
    assert "No client of that name" in stranger.stdout
    relay = swaks(made, "--from", "owner@example.com", "--to", "someone@example.org")
    assert "550" in relay.stdout


def test_with_the_antivirus_gone_documents_wait_and_when_it_is_back_they_go_on(world, tmp_path):
    made, _gateway, clamd = world
    clamd.freeze()
    try:
        (tmp_path / "later.xml").write_bytes(
            made.sample("invoice.xml").read_bytes().replace(b"<cbc:ID>", b"<cbc:ID>L", 1)
        )
        sftp(made, "acme", f"put {tmp_path}/later.xml /inbox/later.xml\n")
        time.sleep(3)
        waiting = {d["name"]: d for d in made.json("document", "list")}["later.xml"]
        assert waiting["state"] == "RECEIVED"
        assert (
            "later"
            not in sftp(
                made, "accountant", "-ls /clients/acme/*/invoice\n-ls /review/acme\n"
            ).stdout
        )
    finally:
        clamd.thaw()
    made.wait_for(
        lambda found: {each["name"]: each["state"] for each in found}["later.xml"] == "FILED"
    )


@pytest.mark.parametrize("role", ["sftp", "inspect", "smtp", "courier", "core"])
def test_a_role_that_dies_is_said_and_comes_back(world, role):
    made, gateway, _clamd = world
    pid = _pid_of(made, gateway, role)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:
        said = gateway.stdout() + gateway.stderr()
        if f"{role}: ended with signal 9" in said and f"{role}: restarted" in said:
            break
        assert time.monotonic() < deadline, said[-2000:]
        time.sleep(0.2)
    deadline = time.monotonic() + 60
    while True:
        try:
            sftp(made, "acme", "ls /inbox\n")
            break
        except AssertionError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def _pid_of(made, gateway, role: str) -> int:
    """The supervisor's child that plays a role."""
    supervisor = gateway.processes["run"].pid
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    for pid in map(int, children):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if role.encode() in words:
            return pid
    raise AssertionError(f"no child of {supervisor} is {role}")


def test_it_stops_in_order_when_told(world):
    made, gateway, _clamd = world
    assert gateway.stop("run") == 0
    assert not list((made.folder / "run").glob("*.sock"))
    assert made.cli("check", "--read-data").returncode == 0
