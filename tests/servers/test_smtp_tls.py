"""TLS at the mail door: what is spoken, and a certificate that is renewed while it serves."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.servers.test_smtp_door import CLIENT, MESSAGE, SENDER, free_port, running


def pair(name, days=2, make=lambda: ec.generate_private_key(ec.SECP256R1())):
    """(certificate, key), both PEM."""
    key = make()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=40))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return signed.public_bytes(Encoding.PEM), pem


def put(folder, certificate, key):
    """As programs that renew do: beside the old ones, then in their place."""
    for name, data in (("cert.pem", certificate), ("key.pem", key)):
        new = folder / f"{name}.new"
        new.touch(mode=0o600)
        new.write_bytes(data)
        new.replace(folder / name)


@pytest.fixture
def secured(tmp_path):
    """A door with TLS on all its entrances; its `tls` folder has the files."""
    folder = tmp_path / "tls"
    folder.mkdir()
    put(folder, *pair("first.test"))
    ports = {"submission_listen": free_port(), "submissions_listen": free_port()}
    with running(
        tmp_path,
        timeout=20.0,
        tls_certificate=str(folder / "cert.pem"),
        tls_key=str(folder / "key.pem"),
        **{key: f"127.0.0.1:{port}" for key, port in ports.items()},
    ) as door:
        door.tls, door.implicit = folder, ports["submissions_listen"]
        yield door


def served_name(door):
    pem = ssl.get_server_certificate(("127.0.0.1", door.implicit), timeout=20)
    found = x509.load_pem_x509_certificate(pem.encode())
    return found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value


def until(what, seconds=20):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "what was waited for never came"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "ecdsa"),
        (lambda: rsa.generate_private_key(65537, 2048), "rsa"),
    ],
    ids=["ecdsa", "rsa"],
)
def test_a_renewed_certificate_is_served_to_new_connections_and_running_ones_go_on(
    secured, make, kind
):
    assert served_name(secured) == "first.test"
    line = secured.connect()
    line.reply()
    line.ask("EHLO c")
    line.ask("STARTTLS")
    line.start_tls()
    line.ask("EHLO c")
    line.ask(f"MAIL FROM:<{SENDER}>")
    line.ask(f"RCPT TO:<{CLIENT}>")
    assert line.ask("DATA").startswith("354 ")
    put(secured.tls, *pair(f"second-{kind}.test", make=make))
    secured.process.send_signal(signal.SIGHUP)
    until(lambda: served_name(secured) == f"second-{kind}.test")
    line.send(MESSAGE + b".\r\n")
    assert line.reply().startswith("250 ")
    assert secured.core.stored[0].content == MESSAGE


@pytest.mark.parametrize("fault", ["garbage", "another key", "gone", "empty", "endless"])
def test_a_pair_that_can_not_be_used_is_said_and_the_old_one_stays(secured, fault):
    certificate, key = pair("second.test")
    match fault:
        case "garbage":
            put(secured.tls, b"no PEM at all", key)
        case "another key":
            put(secured.tls, certificate, pair("third.test")[1])
        case "gone":
            (secured.tls / "key.pem").unlink()
        case "empty":
            put(secured.tls, b"", b"")
        case "endless":
            put(secured.tls, certificate, b"#" * 2_000_000)
    secured.process.send_signal(signal.SIGHUP)
    until(lambda: "certificate not renewed" in secured.log.read_text())
    assert "the old one stays" in secured.log.read_text()
    assert served_name(secured) == "first.test"
    # Once it is mended it is taken.
    put(secured.tls, certificate, key)
    secured.process.send_signal(signal.SIGHUP)
    until(lambda: served_name(secured) == "second.test")


def openssl(secured, *arguments):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    ran = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{secured.implicit}", *arguments],
        input="QUIT\r\n", check=False, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_tls_is_refused_even_by_a_client_that_would_do_anything(secured, version):
    said = openssl(secured, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "Cipher is (NONE)" in said or "alert protocol version" in said
    assert "220 " not in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_current_tls_is_spoken(secured, version):
    said = openssl(secured, version, "-quiet")
    assert "220 intake.test ESMTP" in said


@pytest.mark.parametrize(
    "suite",
    ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"],
)
def test_suites_without_forward_secrecy_or_authentication_of_what_they_carry_are_refused(
    secured, suite
):
    said = openssl(secured, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    assert "Cipher is (NONE)" in said


def test_a_clear_text_client_at_the_tls_entrance_hears_nothing_and_holds_nothing(secured):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", secured.implicit), 20) as raw:
            raw.sendall(b"EHLO client.example\r\n" * 3)
            with contextlib.suppress(ConnectionError):
                assert b"220" not in raw.recv(4096)
    assert served_name(secured) == "first.test"


def test_submission_without_a_certificate_is_refused_with_the_key_that_lacks(tmp_path):
    from gateway.config import decode
    from gateway.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"smtp\.submission_listen: .*tls_certificate"):
        decode(b'[smtp]\nsubmission_listen = "127.0.0.1:587"\n', tmp_path / "c.toml")
