"""Messages out of state after a login, and what the stock classes do where the door does not follow them."""

from __future__ import annotations

import base64
import contextlib
import logging
import subprocess
import sys
from unittest import mock

import paramiko
import pytest
from paramiko.common import (
    MSG_CHANNEL_OPEN_SUCCESS,
    MSG_REQUEST_FAILURE,
    MSG_USERAUTH_SUCCESS,
    cMSG_CHANNEL_OPEN,
    cMSG_CHANNEL_REQUEST,
    cMSG_USERAUTH_REQUEST,
)

from gateway.core.login import ssh_keys
from gateway.core.login.accounts import login_statement
from tests.servers.test_sftp_hardening import Hostile, Recorder, hostile, stock_server
from tests.support.sftp import Gateway, until
from tests.support.wire import private_key
from vault.crypto import sshsig


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """paramiko logs what hostile clients do; nothing of that is news here."""
    logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


@pytest.fixture(scope="module")
def gateway(template):
    with Gateway(template) as running:
        yield running


def log_in(client: Hostile, gateway: Gateway, user: str = "acme") -> None:
    """A login by hand, so that the client knows nothing of it and sends what it likes afterwards."""
    key = private_key(gateway.key(user))
    blob = base64.b64decode(sshsig.public_line(key).split()[1])
    client.request_service()
    signed = key.sign(login_statement(client.session_id, user, "ssh-ed25519", blob))
    signature = ssh_keys.string(b"ssh-ed25519") + ssh_keys.string(signed)
    message = paramiko.Message()
    message.add_bytes(cMSG_USERAUTH_REQUEST)
    for text in (user, "ssh-connection", "publickey"):
        message.add_string(text)
    message.add_boolean(True)
    message.add_string("ssh-ed25519")
    message.add_string(blob)
    message.add_string(signature)
    client._send_message(message)
    client.wait_for(MSG_USERAUTH_SUCCESS)


def open_sftp(client: Hostile) -> None:
    client.send(cMSG_CHANNEL_OPEN, "session", 0, 2**20, 32768)
    client.wait_for(MSG_CHANNEL_OPEN_SUCCESS)
    client.send(cMSG_CHANNEL_REQUEST, 0, "subsystem", True, "sftp")
    client.wait_for(99)


def answered(client: Hostile) -> bool:
    return any(kind == MSG_REQUEST_FAILURE for kind, _ in client.answers)


# Not these: DISCONNECT ends the connection as it should, and paramiko's client sends the key exchange's own.
NUMBERS = [n for n in range(2, 256) if not 20 <= n <= 49]


@pytest.mark.parametrize("with_channel", [False, True], ids=["logged-in", "with-a-channel"])
def test_every_message_number_after_a_login_gives_nothing_and_harms_nobody(gateway, with_channel):
    """Empty, zeros, and as many ones: no second login, no channel nobody opened, no door that ends."""
    door = gateway.door.process.pid
    rest = list(NUMBERS)
    survived = 0
    while rest:
        with hostile(gateway.port) as client:
            log_in(client, gateway)
            if with_channel:
                open_sftp(client)
            while rest and client.is_alive():
                number = rest.pop(0)
                for tail in (b"", bytes(40), b"\xff" * 40):
                    with contextlib.suppress(Exception):
                        client.send(bytes([number]) + tail)
                # It is over, or it still answers what it should: each number was taken before the next.
                with contextlib.suppress(Exception):
                    client.send(b"\x50", "keepalive@openssh.com", True)
                until(lambda: answered(client) or not client.is_alive(), 5, 0.002)
                survived += client.is_alive()
                got = {kind for kind, _ in client.answers}
                assert not {MSG_USERAUTH_SUCCESS, MSG_CHANNEL_OPEN_SUCCESS} & got, number
                client.answers.clear()
    # Numbers that nobody knows are answered and ignored (RFC 4253, section 11.4).
    assert survived > len(NUMBERS) * 3 // 4
    until(lambda: not gateway.children())
    assert gateway.door.process.poll() is None
    assert gateway.door.process.pid == door
    assert gateway.sftp("ls /\n").returncode == 0


def test_a_second_login_on_a_connection_changes_nothing(gateway):
    """Requests after the success are passed over (RFC 4252, section 5.3): it stays the first account's."""
    with hostile(gateway.port) as client:
        log_in(client, gateway)
        client.send(cMSG_USERAUTH_REQUEST, "officer1", "ssh-connection", "none")
        client.send(cMSG_USERAUTH_REQUEST, "acme", "ssh-connection", "password", False, "x")
        client.send(b"\x50", "keepalive@openssh.com", True)
        client.wait_for(82)
        assert not {51, 52, 60} & {kind for kind, _ in client.answers}


# ── the stock classes ──


LOOPS = """
import io, paramiko
from paramiko.sftp_server import SFTPServer
handle = paramiko.SFTPHandle()
handle.readfile = io.BytesIO(b"ten bytes.")
handle.stat = lambda: paramiko.SFTPAttributes()
handle.read = lambda offset, length: b"ten bytes."[offset:offset + length]
server = object.__new__(SFTPServer)
server.file_table = {b"1": handle}
server._response = server._send_status = lambda *rest: print("answered")
request = paramiko.Message()
for part in (b"1", b"md5,sha1"):
    request.add_string(part)
request.add_int64(0)
request.add_int64(1000)
request.add_int(0)
request.rewind()
print("asked", flush=True)
server._check_file(7, request)
"""


def test_a_second_key_exchange_before_the_login_ends_the_connection(gateway):
    """Each costs the host key's signature, which an RSA key of 4096 bits makes in milliseconds."""
    client = Hostile(gateway.port)
    with pytest.raises((paramiko.SSHException, EOFError)):
        client.renegotiate_keys()
    until(lambda: not client.is_active())
    assert "key exchange" not in gateway.core.log()  # the door has not even asked
    client.close()


def test_keys_can_be_renewed_after_the_login_a_bounded_number_of_times(gateway):
    """The core ends it: a door that was taken over is bound as well."""
    with gateway.paramiko() as client:
        transport = client.get_channel().get_transport()
        for _ in range(33):  # 16 GiB in a client that renews every 512 MiB
            transport.renegotiate_keys()
        assert sorted(client.listdir("/")) == ["inbox", "receipts"]
        with contextlib.suppress(paramiko.SSHException, EOFError):
            for _ in range(100):
                transport.renegotiate_keys()
        assert not transport.is_active()
    until(lambda: "expected few of them" in gateway.core.log())


def test_the_stock_server_exchanges_keys_with_strangers_without_end():
    with stock_server() as (port, _):
        client = Hostile(port)
        for _ in range(20):
            client.renegotiate_keys()
        assert client.is_active()
        client.close()


def test_the_stock_check_file_never_answers_beyond_the_end():
    """The door does not know the request at all (test_sftp_hardening)."""
    child = subprocess.Popen([sys.executable, "-c", LOOPS], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "asked\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1.5)
    finally:
        child.kill()
        child.wait()
    assert child.stdout.read() == ""


def test_the_stock_server_commits_what_a_broken_connection_left():
    """`finish_subsystem` closes handles as CLOSE does; the door commits at CLOSE only."""
    channel = mock.MagicMock()
    channel.get_transport().get_log_channel.return_value = "stock"
    server = paramiko.SFTPServer(channel, "sftp", paramiko.ServerInterface())
    closed = []
    handle = paramiko.SFTPHandle()
    handle.close = lambda: closed.append("close")
    server.file_table[b"1"] = handle
    server.finish_subsystem()
    assert closed == ["close"]


def test_the_stock_server_opens_channels_without_end(monkeypatch):
    """The door opens ten (test_sftp_hardening)."""
    monkeypatch.setattr(
        Recorder, "check_auth_none", lambda self, username: paramiko.AUTH_SUCCESSFUL
    )
    monkeypatch.setattr(
        Recorder,
        "check_channel_request",
        lambda self, kind, chanid: paramiko.common.OPEN_SUCCEEDED,
    )
    with stock_server() as (port, _):
        transport = paramiko.Transport(("127.0.0.1", port))
        try:
            transport.start_client(timeout=10)
            transport.auth_none("anyone")
            assert len([transport.open_session(timeout=5) for _ in range(60)]) == 60
        finally:
            transport.close()
