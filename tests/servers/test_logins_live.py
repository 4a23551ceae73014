"""Logins with real clients under the default policy, and what ends a live session."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import asyncssh
import paramiko
import pyotp
import pytest

from gateway.errors import Refusal
from tests.support.sftp import Gateway, until

SECRET = "correct horse battery"


def policy(template: Path, staff: str) -> Path:
    """A copy of an installation with another policy for staff, beside the first."""
    folder = template.parent / staff.replace("+", "-")
    if not folder.exists():
        shutil.copytree(template, folder, symlinks=True)
        config = folder / "config.toml"
        text = config.read_text("utf-8")
        assert 'staff = "key"' in text
        config.write_text(text.replace('staff = "key"', f'staff = "{staff}"'), "utf-8")
    return folder


@pytest.fixture(scope="module")
def gateway(template):
    with Gateway(policy(template, "key+code")) as running:
        yield running


@pytest.fixture(scope="module")
def codes(gateway):
    """The accountant's codes: enrolled anew for each, because one is good only once in half a minute."""

    def fresh() -> str:
        uri = gateway.admin.call("account.totp", name="accountant")["totp_uri"]
        return pyotp.parse_uri(uri).now()

    fresh()  # who has no code is not asked for one
    return fresh


def askpass(gateway: Gateway, answer: str) -> dict[str, str]:
    """An environment in which OpenSSH's questions get this answer."""
    script = gateway.folder / "askpass"
    secret = gateway.folder / "answer"
    secret.touch(mode=0o600)
    secret.write_text(answer + "\n", "utf-8")
    script.write_text(f'#!/bin/sh\nexec cat "{secret}"\n', "utf-8")
    script.chmod(0o700)
    return {**os.environ, "SSH_ASKPASS": str(script), "SSH_ASKPASS_REQUIRE": "force"}


def openssh(gateway: Gateway, user: str, answer: str, methods: str) -> subprocess.CompletedProcess:
    command = [word.replace("BatchMode=yes", "BatchMode=no") for word in gateway.sftp_command(user)]
    # `-b` sets BatchMode, which asks nothing; the batch comes by standard input all the same.
    at = command.index("-b")
    del command[at : at + 2]
    command[1:1] = ["-o", f"PreferredAuthentications={methods}", "-o", "NumberOfPasswordPrompts=1"]
    return subprocess.run(
        command, input="ls /\n", capture_output=True, text=True, timeout=30, check=False,
        env=askpass(gateway, answer),
    )  # fmt: skip


def test_openssh_logs_staff_in_with_key_and_code_and_not_with_one_of_them(gateway, codes):
    both = "publickey,keyboard-interactive"
    done = openssh(gateway, "accountant", codes(), both)
    assert "clients" in done.stdout, done.stderr
    assert "clients" not in openssh(gateway, "accountant", "000000", both).stdout
    assert "clients" not in gateway.sftp("ls /\n", "accountant").stdout
    assert "clients" not in openssh(gateway, "accountant", codes(), "keyboard-interactive").stdout
    # An auditor without a code stays outside, a client with its key does not need one.
    assert gateway.sftp("ls /\n", "auditor").returncode != 0
    assert gateway.sftp("ls /\n", "acme").returncode == 0


async def test_asyncssh_logs_staff_in_with_key_and_code(gateway, codes):
    class Client(asyncssh.SSHClient):
        def kbdint_auth_requested(self):
            return ""

        def kbdint_challenge_received(self, name, instructions, lang, prompts):
            return [codes() for _ in prompts]

    async def listed():
        connection, _ = await asyncssh.create_connection(
            Client, "127.0.0.1", gateway.port, username="accountant",
            client_keys=[str(gateway.key("accountant"))], known_hosts=None, agent_path=None,
        )  # fmt: skip
        async with connection, connection.start_sftp_client() as sftp:
            return await sftp.listdir("/")

    assert "clients" in await listed()


def test_paramiko_logs_staff_in_with_key_and_code(gateway, codes):
    transport = paramiko.Transport(("127.0.0.1", gateway.port))
    try:
        transport.start_client(timeout=10)
        key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("accountant")))
        assert transport.auth_publickey("accountant", key) == ["keyboard-interactive"]
        assert not transport.is_authenticated()
        transport.auth_interactive("accountant", lambda *_: [codes()])
        assert transport.is_authenticated()
        sftp = paramiko.SFTPClient.from_transport(transport)
        assert sftp is not None
        assert "clients" in sftp.listdir("/")
    finally:
        transport.close()


def test_a_password_alone_is_enough_for_a_client_and_not_for_staff(gateway):
    for name in ("acme", "accountant"):
        gateway.admin.call("account.password", name=name, password=SECRET)
    assert "inbox" in openssh(gateway, "acme", SECRET, "password").stdout
    assert "clients" not in openssh(gateway, "accountant", SECRET, "password").stdout
    gateway.admin.call("account.password", name="acme", password="")
    assert "inbox" not in openssh(gateway, "acme", SECRET, "password").stdout


def login(gateway: Gateway, user: str) -> paramiko.Transport:
    transport = paramiko.Transport(("127.0.0.1", gateway.port))
    key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key(user)))
    transport.connect(username=user, pkey=key)
    sftp = paramiko.SFTPClient.from_transport(transport)
    assert sftp is not None
    assert sftp.listdir("/")
    return transport


def ended_after(transport: paramiko.Transport, seconds: float = 5) -> float:
    """How long it took until the session was over."""
    begun = time.monotonic()
    transport.join(seconds)
    assert not transport.is_alive()
    return time.monotonic() - begun


def test_a_session_ends_within_two_seconds_of_its_accounts_expiry(gateway):
    end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.5)
    gateway.admin.call("account.change", name="acme", expires=end.isoformat())
    transport = login(gateway, "acme")
    try:
        assert transport.is_active()
        ended_after(transport)
        late = dt.datetime.now(dt.UTC) - end
        assert dt.timedelta(0) <= late < dt.timedelta(seconds=2)
        assert gateway.sftp("ls /\n").returncode != 0
    finally:
        transport.close()
        gateway.admin.call("account.change", name="acme", expires="")
    assert gateway.sftp("ls /\n").returncode == 0


def test_a_session_ends_within_two_seconds_of_a_change_of_what_let_it_in(gateway):
    """Hours, networks, a key that is removed (and given again)."""
    fingerprint = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("acme"))).fingerprint
    public = gateway.key("acme").with_suffix(".pub").read_text("ascii")
    day = f"{dt.datetime.now(dt.UTC) + dt.timedelta(days=3):%a}"
    for act, change, back in (
        ("account.change", {"hours": f"{day} 08:00-09:00"}, {"hours": ""}),
        ("account.change", {"networks": ["192.0.2.0/24"]}, {"networks": []}),
        ("account.key", {"remove": fingerprint}, {"add": public}),
    ):
        transport = login(gateway, "acme")
        try:
            gateway.admin.call(act, name="acme", **change)
            assert ended_after(transport) < 2
        finally:
            transport.close()
        assert gateway.sftp("ls /\n").returncode != 0, change
        gateway.admin.call(act, name="acme", **back)
        assert gateway.sftp("ls /\n").returncode == 0, back


def test_penalties_are_shown_survive_a_restart_and_can_be_lifted(template):
    with Gateway(template, login="") as gateway:
        # Silence and nonsense are what a scanner sends; its source is this machine's.
        for number in range(12):
            with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n" if number % 2 else b"SSH-2.0-x\r\n")
        transport = paramiko.Transport(("127.0.0.1", gateway.port))
        transport.start_client(timeout=20)
        for _ in range(4):
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_password("acme", "a guess")
        transport.close()
        shown = until(lambda: gateway.admin.call("status")["penalised"])
        assert [each["source"] for each in shown] == ["127.0.0.1"]
        assert shown[0]["events"]["failed"] == 4
        time.sleep(1.2)  # what changed is written once a second
        log = gateway.core.log()
        gateway.door.stop()
        gateway.core.stop()
        assert log.count("login failed") == 3  # the first, second and fourth
        assert "source=127.0.0.1" in log
        gateway.start_core()
        gateway.start_door()
        assert gateway.admin.call("penalty.list")[0]["until"] >= shown[0]["until"]
        assert gateway.sftp("ls /\n").returncode == 0  # a right login is none of that
        gateway.admin.call("penalty.lift", source="127.0.0.1")
        assert gateway.admin.call("penalty.list") == []
        with pytest.raises(Refusal):
            gateway.admin.call("penalty.lift", source="192.0.2.77")
