"""What a hostile client tries on the sftp door, each beside the stock class where that is cheap.

The stock class is paramiko's own server with its own example-like interface. A test that shows it failing
documents why the door replaces that part; should paramiko mend it, the test says so.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
import time

import paramiko
import pytest
from paramiko.common import (
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_PK_OK,
    MSG_USERAUTH_SUCCESS,
    cMSG_CHANNEL_DATA,
    cMSG_CHANNEL_OPEN,
    cMSG_SERVICE_REQUEST,
    cMSG_USERAUTH_INFO_RESPONSE,
    cMSG_USERAUTH_REQUEST,
)
from paramiko.message import Message

from tests.support.sftp import Gateway, until

CERTIFICATE = "ssh-ed25519-cert-v01@openssh.com"


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """paramiko logs what hostile clients do; nothing of that is news here."""
    logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


@pytest.fixture(scope="module")
def gateway(template):
    with Gateway(template) as running:
        yield running


class Recorder(paramiko.ServerInterface):
    """A stock server's decisions: notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check_auth_none(self, username):
        self.asked.append("none")
        return paramiko.AUTH_FAILED

    def check_auth_publickey(self, username, key):
        self.asked.append("publickey")
        return paramiko.AUTH_SUCCESSFUL

    def check_auth_interactive_response(self, responses):
        self.asked.append(f"responses {len(responses)}")
        return paramiko.AUTH_FAILED

    def get_allowed_auths(self, username):
        return "publickey,keyboard-interactive"

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED


@contextlib.contextmanager
def stock_server():
    """paramiko's Transport as a server; yields its port and what its interface was asked."""
    recorder = Recorder()
    transports: list[paramiko.Transport] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    transport = paramiko.Transport(connection)
                    transport.add_server_key(KEY)
                    transports.append(transport)
                    transport.start_server(event=threading.Event(), server=recorder)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], recorder
    for transport in transports:
        transport.close()


KEY = paramiko.RSAKey.generate(2048)


class Hostile(paramiko.Transport):
    """A client that has exchanged keys, and then sends what it likes."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port))
        self.answers: list[tuple[int, bytes]] = []
        self.start_client(timeout=10)

    def run(self):
        # Everything above the transport layer is noted instead of handled.
        read = self.packetizer.read_message

        def noting():
            while True:
                kind, message = read()
                if kind < 50 and kind != 6:
                    return kind, message
                self.answers.append((kind, message.asbytes()))

        self.packetizer.read_message = noting
        super().run()

    def send(self, *fields: bytes | int | str | bool) -> None:
        message = Message()
        for field in fields:
            if isinstance(field, bool):
                message.add_boolean(field)
            elif isinstance(field, int):
                message.add_int(field)
            elif isinstance(field, bytes):
                message.add_bytes(field)
            else:
                message.add_string(field)
        self._send_message(message)

    def request_service(self) -> None:
        self.send(cMSG_SERVICE_REQUEST, "ssh-userauth")
        self.wait_for(6)

    def wait_for(self, *kinds: int, seconds: float = 20) -> int:
        """Wait for an answer of one of these kinds; forget it and what came before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for place, (kind, _) in enumerate(self.answers):
                if kind in kinds:
                    del self.answers[: place + 1]
                    return kind
            time.sleep(0.01)
        raise AssertionError(f"expected a message of {kinds}, found {self.answers}")

    def ended(self, seconds: float = 20) -> bool:
        self.join(seconds)
        return not self.is_alive()


@contextlib.contextmanager
def hostile(port: int):
    client = Hostile(port)
    try:
        yield client
    finally:
        client.close()


def closed_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the other end hangs up in that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        connection.settimeout(max(0.05, deadline - time.monotonic()))
        try:
            if not connection.recv(65536):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True
    return False


def blob(gateway: Gateway, user: str) -> bytes:
    return paramiko.Ed25519Key.from_private_key_file(str(gateway.key(user))).asbytes()


# ── packets ──


def announce(port: int, length: int) -> bool:
    """Announce a packet of a length in the clear and send a little of it; whether one is cut off."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"SSH-2.0-Hostile\r\n")
        connection.sendall(struct.pack(">IB", length, 4))
        with contextlib.suppress(OSError):
            connection.sendall(bytes(64 * 1024))
        return closed_within(connection, 1.5)


@pytest.mark.parametrize("length", [2**31 - 4, 2**32 - 1, 256 * 1024 + 4100])
def test_a_packet_beyond_the_cap_ends_the_connection(gateway, length):
    assert announce(gateway.port, length)


def test_the_stock_class_waits_for_two_gibibytes():
    with stock_server() as (port, _):
        assert not announce(port, 2**31 - 4)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_packet_too_short_to_be_one_ends_the_connection(gateway, length):
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(b"SSH-2.0-Hostile\r\n" + struct.pack(">IB", length, 4) + bytes(64))
        assert closed_within(connection, 20)


def test_a_banner_without_end_ends_the_connection(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        ended = False
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"x" * 100_000)
            ended = closed_within(connection, 3)
        with contextlib.suppress(OSError):
            ended = ended or closed_within(connection, 1)
        assert ended or (connection.fileno() >= 0 and closed_within(connection, 1))


def test_every_message_number_before_the_key_exchange_is_survived(gateway):
    """None of the 255 numbers, sent in the clear instead of KEXINIT, gets an answer or harms the door."""
    before = gateway.door.process.pid
    for number in range(1, 256):
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            payload = bytes([number]) + bytes(18)
            packet = struct.pack(">IB", 1 + len(payload) + 4, 4) + payload + bytes(4)
            connection.sendall(b"SSH-2.0-Hostile\r\n" + packet + packet)
            connection.shutdown(socket.SHUT_WR)
            assert closed_within(connection, 20), number
    assert gateway.door.process.poll() is None
    assert gateway.door.process.pid == before
    assert gateway.sftp("ls /\n").returncode == 0


def test_every_message_number_before_login_gives_nothing(gateway):
    """After the key exchange, before login: no message logs in, opens a channel, or goes unanswered for long."""
    for number in [*range(2, 20), *range(21, 30), *range(50, 110), 150, 192, 255]:
        with hostile(gateway.port) as client:
            client.request_service()
            for tail in (b"", bytes(40)):
                with contextlib.suppress(Exception):
                    client.send(bytes([number]) + tail)
            with contextlib.suppress(Exception):
                client.send(cMSG_USERAUTH_REQUEST, "acme", "ssh-connection", "none")
                client.wait_for(MSG_USERAUTH_FAILURE, seconds=0.05)
            got = {kind for kind, _ in client.answers}
            assert MSG_USERAUTH_SUCCESS not in got, number
            assert 91 not in got, number  # CHANNEL_OPEN_CONFIRMATION
    assert gateway.sftp("ls /\n").returncode == 0


# ── login ──


def test_a_login_has_a_deadline_from_the_first_moment(template):
    """Silent, after the key exchange, or dripping a banner: cut off when the grace is over."""
    with Gateway(template, sftp="login_grace = 1.5") as gateway:
        started = time.monotonic()
        with (
            socket.create_connection(("127.0.0.1", gateway.port)) as silent,
            hostile(gateway.port) as exchanged,
            socket.create_connection(("127.0.0.1", gateway.port)) as dripping,
        ):
            exchanged.request_service()

            def drip() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        dripping.sendall(b"x")
                        time.sleep(0.2)

            threading.Thread(target=drip, daemon=True).start()
            assert closed_within(silent, 20)
            assert exchanged.ended()
            assert closed_within(dripping, 20)
        assert 1.0 < time.monotonic() - started < 4.0
        until(lambda: not gateway.children())


def test_the_stock_class_has_no_deadline_after_the_key_exchange():
    with stock_server() as (port, _), hostile(port) as client:
        client.request_service()
        assert not client.ended(2.0)


def info_response(client: Hostile, count: int) -> None:
    client.send(cMSG_USERAUTH_INFO_RESPONSE, count, "123456")


@pytest.mark.parametrize("count", [0, 1, 2**32 - 1])
def test_an_answer_to_no_question_ends_the_connection(gateway, count):
    with hostile(gateway.port) as client:
        client.request_service()
        info_response(client, count)
        assert client.ended()
    assert MSG_USERAUTH_SUCCESS not in {kind for kind, _ in client.answers}


def test_the_stock_class_takes_an_answer_to_no_question():
    with stock_server() as (port, recorder), hostile(port) as client:
        client.request_service()
        info_response(client, 1)
        until(lambda: "responses 1" in recorder.asked)


@pytest.mark.parametrize("method", ["none", "hostbased", "gssapi-with-mic", "x" * 900])
def test_unknown_methods_and_none_fail(gateway, method):
    with hostile(gateway.port) as client:
        client.request_service()
        client.send(cMSG_USERAUTH_REQUEST, "acme", "ssh-connection", method)
        assert client.wait_for(MSG_USERAUTH_FAILURE) == MSG_USERAUTH_FAILURE


def test_the_stock_class_takes_an_unknown_method_for_none():
    with stock_server() as (port, recorder), hostile(port) as client:
        client.request_service()
        client.send(cMSG_USERAUTH_REQUEST, "acme", "ssh-connection", "made-up")
        until(lambda: recorder.asked == ["none"])


def send_probe(client: Hostile, user: str, algorithm: str, key: bytes) -> int:
    """An unsigned probe: PK_OK says that the key would do, FAILURE that it would not."""
    message = Message()
    message.add_bytes(cMSG_USERAUTH_REQUEST)
    for text in (user, "ssh-connection", "publickey"):
        message.add_string(text)
    message.add_boolean(False)
    message.add_string(algorithm)
    message.add_string(key)
    client._send_message(message)
    return client.wait_for(MSG_USERAUTH_PK_OK, MSG_USERAUTH_FAILURE, MSG_USERAUTH_SUCCESS)


def test_a_certificate_algorithm_is_refused(gateway):
    """Even around a key that is registered: nothing here validates certificates."""
    known = blob(gateway, "acme")
    key = Message(known)
    key.get_text()
    raw = key.get_string()
    certificate = Message()
    certificate.add_string(CERTIFICATE)
    certificate.add_string(os.urandom(32))
    certificate.add_string(raw)
    certificate.add_bytes(bytes(64))
    for name, body in ((CERTIFICATE, certificate.asbytes()), (CERTIFICATE, known)):
        with hostile(gateway.port) as client:
            client.request_service()
            assert send_probe(client, "acme", name, body) == MSG_USERAUTH_FAILURE
    with hostile(gateway.port) as client:
        client.request_service()
        assert send_probe(client, "acme", "ssh-ed25519", known) == MSG_USERAUTH_PK_OK


def test_the_stock_class_takes_a_certificate_for_its_key():
    with stock_server() as (port, recorder), hostile(port) as client:
        client.request_service()
        certificate = Message()
        certificate.add_string("ssh-rsa-cert-v01@openssh.com")
        certificate.add_string(os.urandom(32))
        certificate.add_mpint(KEY.public_numbers.e)
        certificate.add_mpint(KEY.public_numbers.n)
        certificate.add_bytes(bytes(64))
        answer = send_probe(
            client, "acme", "rsa-sha2-512-cert-v01@openssh.com", certificate.asbytes()
        )
        assert answer == MSG_USERAUTH_PK_OK
        assert recorder.asked == ["publickey"]


def test_an_unsigned_probe_proves_nothing(gateway):
    """After a probe that was acceptable: no channel, no second factor, no success."""
    with hostile(gateway.port) as client:
        client.request_service()
        assert (
            send_probe(client, "acme", "ssh-ed25519", blob(gateway, "acme")) == MSG_USERAUTH_PK_OK
        )
        client.send(cMSG_CHANNEL_OPEN, "session", 0, 65536, 32768)
        assert client.wait_for(92, 91) == 92
        client.send(cMSG_USERAUTH_REQUEST, "acme", "ssh-connection", "keyboard-interactive", "", "")
        assert (
            client.wait_for(MSG_USERAUTH_FAILURE, 60, MSG_USERAUTH_SUCCESS) == MSG_USERAUTH_FAILURE
        )


def test_the_stock_interface_is_asked_before_the_signature_is_seen():
    """`check_auth_publickey` runs on the probe: who marks a factor there marks it unproven."""
    with stock_server() as (port, recorder), hostile(port) as client:
        client.request_service()
        assert send_probe(client, "acme", "rsa-sha2-512", KEY.asbytes()) == MSG_USERAUTH_PK_OK
        assert recorder.asked == ["publickey"]


def refusal(gateway: Gateway, user: str, key: paramiko.PKey) -> tuple[str, str]:
    transport = paramiko.Transport(("127.0.0.1", gateway.port))
    try:
        transport.start_client(timeout=10)
        with pytest.raises(paramiko.AuthenticationException) as error:
            transport.auth_publickey(user, key)
        return type(error.value).__name__, str(error.value)
    finally:
        transport.close()


def test_an_unknown_user_and_a_wrong_key_are_refused_alike(gateway):
    """Neither words, methods nor type of the refusal tell which accounts there are."""
    other = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("auditor")))
    refusals = {
        refusal(gateway, user, other) for user in ("acme", "officer1", "nobody", "root", "'; --")
    }
    assert len(refusals) == 1, refusals


def test_another_accounts_key_opens_nothing(gateway):
    with hostile(gateway.port) as client:
        client.request_service()
        answer = send_probe(client, "acme", "ssh-ed25519", blob(gateway, "auditor"))
        assert answer == MSG_USERAUTH_FAILURE


def test_a_second_user_on_one_connection_ends_it(gateway):
    with hostile(gateway.port) as client:
        client.request_service()
        client.send(cMSG_USERAUTH_REQUEST, "acme", "ssh-connection", "none")
        client.wait_for(MSG_USERAUTH_FAILURE)
        client.send(cMSG_USERAUTH_REQUEST, "officer1", "ssh-connection", "none")
        assert client.ended()


def test_guessing_ends_after_the_configured_attempts(template):
    with Gateway(template, sftp="max_attempts = 3") as gateway, hostile(gateway.port) as client:
        client.request_service()
        for _ in range(3):
            client.send(cMSG_USERAUTH_REQUEST, "acme", "ssh-connection", "password", False, "guess")
            client.wait_for(MSG_USERAUTH_FAILURE)
        client.send(cMSG_USERAUTH_REQUEST, "acme", "ssh-connection", "password", False, "guess")
        assert client.ended()


# ── algorithms ──


def test_only_strong_algorithms_are_offered(gateway):
    """Exactly the lists of the design, in the server's own KEXINIT."""
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(b"SSH-2.0-Asking\r\n")
        reader = connection.makefile("rb")
        while not reader.readline().startswith(b"SSH-"):
            pass
        length, padding = struct.unpack(">IB", reader.read(5))
        message = Message(reader.read(length - 1)[: length - 1 - padding])
    message.get_bytes(17)
    kex, keys, ciphers, _, macs, _, compression, _ = (message.get_list() for _ in range(8))
    exchange = {"mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"}
    assert set(kex) - {"kex-strict-s-v00@openssh.com"} <= exchange
    assert "kex-strict-s-v00@openssh.com" in kex
    assert set(keys) == {"ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"}
    assert ciphers == ["aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr"]
    assert macs == ["hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com"]
    assert compression == ["none"]


@pytest.mark.parametrize(
    "cipher", ["aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr"]
)
@pytest.mark.parametrize("key", ["ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"])
def test_every_offered_algorithm_works_and_carries_a_rekey(gateway, tmp_path, cipher, key):
    """OpenSSH with each cipher and host key, exchanging keys anew every 300 kB."""
    data = os.urandom(2_000_000)
    (tmp_path / "x").write_bytes(data)
    known = tmp_path / "known"
    import subprocess

    done = subprocess.run(
        ["sftp", *gateway.options("acme"), "-P", str(gateway.port), "-c", cipher,
         "-o", f"HostKeyAlgorithms={key}", "-o", "RekeyLimit=300K",
         "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=no",
         "-b", "-", "acme@127.0.0.1"],
        input=f"put {tmp_path}/x /inbox/{cipher[:9]}-{key}\n",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # (the options of `gateway.options` come first and win; known hosts there hold the ed25519 key)
    if key != "ssh-ed25519":
        assert "Host key verification failed" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    import hashlib

    found = gateway.documents()[f"{cipher[:9]}-{key}"]
    assert found["sha256"] == hashlib.sha256(data).hexdigest()


# ── sessions ──


def test_channels_are_capped(gateway):
    key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("acme")))
    transport = paramiko.Transport(("127.0.0.1", gateway.port))
    try:
        transport.connect(username="acme", pkey=key)
        channels = [transport.open_session() for _ in range(10)]
        with pytest.raises(paramiko.ChannelException, match="Resource shortage"):
            transport.open_session()
        # Closing one makes room for another: the cap is on what is open.
        channels.pop().close()
        until(lambda: _opens(transport))
    finally:
        transport.close()


def _opens(transport: paramiko.Transport) -> bool:
    try:
        transport.open_session()
    except paramiko.ChannelException:
        return False
    return True


def test_only_sessions_with_the_subsystem_sftp_are_served(gateway):
    """No shell, no command, no terminal, no forwarding, no other subsystem."""
    key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("acme")))
    transport = paramiko.Transport(("127.0.0.1", gateway.port))
    try:
        transport.connect(username="acme", pkey=key)
        for ask in (
            lambda channel: channel.invoke_shell(),
            lambda channel: channel.exec_command("id"),
            lambda channel: channel.get_pty(),
            lambda channel: channel.invoke_subsystem("shell"),
        ):
            with pytest.raises(paramiko.SSHException):
                ask(transport.open_session())
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("127.0.0.1", 22), ("127.0.0.1", 1))
        with pytest.raises(paramiko.SSHException):
            transport.request_port_forward("127.0.0.1", 0)
    finally:
        transport.close()


def test_a_client_that_ignores_its_window_is_cut_off(gateway):
    """Data beyond the window, which stock paramiko buffers without limit, ends the connection."""
    key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("acme")))
    transport = paramiko.Transport(("127.0.0.1", gateway.port))
    transport.connect(username="acme", pkey=key)
    channel = transport.open_session()  # no subsystem: nobody reads it
    message = Message()
    message.add_bytes(cMSG_CHANNEL_DATA)
    message.add_int(channel.remote_chanid)
    message.add_string(bytes(30_000))
    raw = Message(message.asbytes())
    with contextlib.suppress(Exception):
        for _ in range(1000):  # 30 MB
            transport._send_message(raw)
    transport.join(20)
    assert not transport.is_active()


def test_open_files_are_capped_with_a_sentence(gateway):
    with gateway.paramiko() as client:
        opened = [client.open(f"/inbox/cap-{number}", "wb") for number in range(64)]
        with pytest.raises(OSError, match="At most 64 files"):
            client.open("/inbox/cap-64", "wb")
        opened[0].close()
        client.open("/inbox/cap-65", "wb").close()


def test_check_file_is_neither_advertised_nor_answered(gateway):
    """The stock class advertises it, and loops for ever on a length beyond the end."""
    with gateway.paramiko() as client:
        with pytest.raises(OSError, match="does not know this request"):
            client.open("/inbox/check", "wb").check("sha256", 0, 2**62)
        assert client.listdir("/") == ["inbox", "receipts"]


def extensions(gateway: Gateway) -> dict[bytes, bytes]:
    """What the VERSION packet advertises."""
    key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key("acme")))
    transport = paramiko.Transport(("127.0.0.1", gateway.port))
    try:
        transport.connect(username="acme", pkey=key)
        channel = transport.open_session()
        channel.invoke_subsystem("sftp")
        channel.sendall(struct.pack(">IBI", 5, 1, 3))
        size = struct.unpack(">I", channel.recv(4))[0]
        body = b""
        while len(body) < size:
            body += channel.recv(size - len(body))
    finally:
        transport.close()
    message = Message(body[5:])
    found = {}
    while message.get_remainder():
        name = message.get_string()
        found[name] = message.get_string()
    return found


def test_what_is_advertised_is_implemented_and_no_more(gateway):
    offered = extensions(gateway)
    assert b"check-file" not in offered
    assert set(offered) <= {
        b"posix-rename@openssh.com", b"limits@openssh.com", b"statvfs@openssh.com",
        b"fstatvfs@openssh.com", b"fsync@openssh.com", b"lsetstat@openssh.com",
    }  # fmt: skip


def test_connections_from_one_source_are_capped(template):
    """At the cap, one that has not logged in makes room; sessions that are logged in do not."""
    with Gateway(template, sftp="max_connections_per_source = 2") as gateway:
        with (
            socket.create_connection(("127.0.0.1", gateway.port)) as first,
            socket.create_connection(("127.0.0.1", gateway.port)) as second,
        ):
            assert first.recv(4) == second.recv(4) == b"SSH-"
            with socket.create_connection(("127.0.0.1", gateway.port)) as third:
                assert third.recv(4) == b"SSH-"
                assert closed_within(first, 20)
                assert not closed_within(second, 0.2)
        until(lambda: not gateway.children())
        held = [keep_open(gateway, "acme") for _ in range(2)]
        try:
            with socket.create_connection(("127.0.0.1", gateway.port)) as third:
                assert closed_within(third, 20)
            assert all(transport.is_active() for transport in held)
        finally:
            for transport in held:
                transport.close()
        until(lambda: gateway.sftp("ls /\n").returncode == 0)


def test_connections_are_capped_in_all(template):
    with Gateway(template, sftp="max_connections = 1") as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port)) as first:
            assert first.recv(4) == b"SSH-"
            with socket.create_connection(("127.0.0.1", gateway.port)) as second:
                assert second.recv(4) == b"SSH-"
                assert closed_within(first, 20)
        until(lambda: not gateway.children())
        held = keep_open(gateway, "acme")
        try:
            with socket.create_connection(("127.0.0.1", gateway.port)) as second:
                assert closed_within(second, 20)
            assert held.is_active()
        finally:
            held.close()


def test_an_idle_session_ends(template):
    with Gateway(template, sftp="idle_timeout = 1.0") as gateway, gateway.paramiko() as client:
        assert client.listdir("/")
        time.sleep(2.5)
        with pytest.raises((EOFError, OSError)):
            client.listdir("/")


# ── what an administrator ends ──


def keep_open(gateway: Gateway, user: str) -> paramiko.Transport:
    key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key(user)))
    transport = paramiko.Transport(("127.0.0.1", gateway.port))
    transport.connect(username=user, pkey=key)
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    assert client.listdir("/")
    return transport


@pytest.mark.parametrize(
    ("user", "act", "arguments"),
    [
        ("auditor", "account.disable", {"name": "auditor"}),
        ("accountant", "account.revoke", {"name": "accountant", "client": "acme"}),
    ],
)
def test_taking_a_right_away_ends_live_sessions_within_two_seconds(template, user, act, arguments):
    """Idle or not, and only the sessions of that account."""
    with Gateway(template) as gateway:
        ended, other = keep_open(gateway, user), keep_open(gateway, "acme")
        try:
            started = time.monotonic()
            name = arguments.pop("name")
            channel_act(gateway, act, {"name": name, **arguments})
            ended.join(20)
            assert not ended.is_alive()
            assert time.monotonic() - started < 2
            assert other.is_active()
        finally:
            ended.close()
            other.close()
        again = gateway.sftp("ls /\n", user)
        assert (again.returncode == 0) == (act == "account.revoke")


def channel_act(gateway: Gateway, act: str, arguments: dict) -> None:
    from gateway.wire.channel import Channel
    from gateway.wire.messages import AdminCall

    channel = Channel.connect(gateway.folder / "run" / "admin.sock", timeout=30)
    try:
        channel.call(AdminCall(act, arguments))
    finally:
        channel.close()


def test_a_core_that_goes_away_ends_idle_sessions(template):
    with Gateway(template) as gateway:
        ended = keep_open(gateway, "acme")
        gateway.core.process.kill()
        ended.join(20)
        assert not ended.is_alive()
        until(lambda: not gateway.children())
