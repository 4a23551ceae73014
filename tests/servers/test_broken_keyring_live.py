"""A client's keyring that does not open: neutral words at both doors, the finding and its remedy at the console."""

from __future__ import annotations

import re
import shutil
import smtplib
import subprocess
from pathlib import Path

import pytest

from gateway.install import demonstration
from tests.servers.gateway_process import environment, installation, running

TELLING = re.compile(r"keyring|epoch|tag|administrator|vault|closed", re.IGNORECASE)


@pytest.fixture
def made(tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir(mode=0o700)
    section = f'\n[[keyring.copies]]\nname = "disk"\ndirectory = "{copies}"\n'
    with installation(lambda text: text + section) as made:
        made.copies = copies  # type: ignore[attr-defined]
        with running(made, "core", "courier"):
            made.wait_for(lambda _: len(list(copies.glob("*.keyring"))) >= 2)
        yield made


def keyring(made) -> Path:
    (path,) = (
        each
        for each in (made.folder / "vault" / "keyrings").glob("*.keyring")
        if each.stem != "house"
    )
    return path


@pytest.fixture(params=["changed", "gone"])
def broken(made, request):
    """The client's keyring, broken."""
    path = keyring(made)
    good = path.read_bytes()
    if request.param == "gone":
        path.unlink()
    else:
        path.write_bytes(good[:-20] + bytes([good[-20] ^ 1]) + good[-19:])
    return path


def sent_over_sftp(made, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sftp", "-b", "-", *made.ssh_options("acme"), "acme@127.0.0.1"],
        input=f"put {file} /inbox/sent.txt\n",
        env=environment(),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def mailed(made) -> tuple[int, bytes]:
    with smtplib.SMTP("127.0.0.1", made.smtp_port, timeout=60) as door:
        door.ehlo("client.example.com")
        door.mail(demonstration.SENDER)
        return door.rcpt(f"{demonstration.CLIENT}@intake.localhost")


@pytest.mark.skipif(shutil.which("sftp") is None, reason="no OpenSSH client here")
def test_doors_are_neutral_and_the_console_names_finding_and_remedy(made, broken, tmp_path):
    (tmp_path / "sent.txt").write_text("sent")
    with running(made, "core", "sftp", "smtp"):
        # 1. Over SFTP: nothing taken, nothing told that a client can't use, nothing false.
        done = sent_over_sftp(made, tmp_path / "sent.txt")
        assert done.returncode != 0
        said = done.stderr.replace(str(tmp_path), "").replace("/inbox/sent.txt", "")
        assert not TELLING.search(said.replace("Connection closed", "")), said
        # 2. By mail: put off for a time, so that the sender's server keeps it.
        code, text = mailed(made)
        assert code == 451
        assert not TELLING.search(text.decode()), text
        # 3. At the console: which client, what is wrong, where copies are, the command.
        shown = made.cli("client", "show", "acme")
        assert shown.returncode == 1
        (line,) = shown.stderr.splitlines()
        assert "keyring of client acme" in line
        assert "expected" in line
        assert "disk (epoch" in line
        assert f"strongroom keys restore acme {broken.name}" in line
        assert "told" not in line
        # 4. Nothing else is in the way; status and doctor name it, too.
        assert made.json("client", "list")[0]["slug"] == "acme"
        assert made.cli("document", "list").returncode == 0
        status = made.json("status")
        assert [each["client"] for each in status["keyrings_broken"]] == ["acme"]
        assert "DOES NOT OPEN" in made.cli("status").stdout
        assert "keyring of client acme" in made.cli("doctor").stdout
        # 5. What the line says, done: everything is as before.
        command = re.search(r"`strongroom (keys restore acme) \S+`", line)[1].split()
        assert made.cli(*command, str(made.copies / broken.name)).returncode == 0
        assert made.cli("client", "show", "acme").returncode == 0
        assert made.json("status")["keyrings_broken"] == []
        assert made.json("check")["findings"] == []
        assert sent_over_sftp(made, tmp_path / "sent.txt").returncode == 0


def test_where_no_core_runs_the_line_is_the_same(made, broken):
    shown = made.cli("client", "show", "acme")
    assert shown.returncode == 1
    assert f"strongroom keys restore acme {broken.name}" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
