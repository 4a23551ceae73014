"""Debian's dovecot on loopback, with one mailbox and a certificate of its own making."""

from __future__ import annotations

import imaplib
import os
import pwd
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.gateway_process import free_ports

MISSING = shutil.which("dovecot") is None
USER, PASSWORD = "intake", "a password of tests"


class Dovecot:
    """A running server. `without`: capabilities it does not tell of."""

    def __init__(self, folder: Path, without: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.clear_port, self.port = free_ports(2)
        self.certificate = folder / "cert.pem"
        self._make_certificate()
        (folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        nobody = pwd.getpwnam("nobody")
        mail = folder / "mail"
        mail.mkdir()
        os.chown(mail, nobody.pw_uid, nobody.pw_gid)
        hidden = f"imap_capability = {self._capabilities(without)}\n" if without else ""
        (folder / "dovecot.conf").write_text(
            f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = maildir:{folder}/mail/%u
first_valid_uid = 1
{hidden}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {self.clear_port}
  }}
  inet_listener imaps {{
    port = {self.port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = static
  args = uid={nobody.pw_uid} gid={nobody.pw_gid} home={folder}/mail/%u
}}
"""
        )
        self._start()

    def _capabilities(self, without: tuple[str, ...]) -> str:
        known = "IMAP4rev1 LITERAL+ IDLE UIDPLUS MOVE ID NAMESPACE"
        return " ".join(each for each in known.split() if each not in without)

    def _start(self) -> None:
        command = ["dovecot", "-F", "-c", str(self.folder / "dovecot.conf")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client().logout()
                return
            except (OSError, imaplib.IMAP4.error):
                log = self.folder / "log"
                said = log.read_text() if log.exists() else ""
                assert self._process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.1)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def restart(self) -> None:
        self.stop()
        self._start()

    def client(self) -> imaplib.IMAP4_SSL:
        context = ssl.create_default_context(cafile=str(self.certificate))
        client = imaplib.IMAP4_SSL("localhost", self.port, ssl_context=context, timeout=10)
        client.login(USER, PASSWORD)
        return client

    def deliver(self, *messages: bytes, folder: str = "INBOX") -> None:
        client = self.client()
        for message in messages:
            done, said = client.append(folder, "", "", message)
            assert done == "OK", said
        client.logout()

    def flags(self, folder: str = "INBOX") -> list[str]:
        """The flags of each message that is there."""
        client = self.client()
        try:
            done, count = client.select(folder, readonly=True)
            if done != "OK" or count == [b"0"]:
                return []
            _, found = client.fetch("1:*", "(FLAGS)")
            return [each.decode() for each in found if each]
        finally:
            client.logout()

    def renumber(self) -> None:
        """Give all messages other numbers, as a server does that was moved."""
        self.stop()
        for path in (self.folder / "mail" / USER).glob("dovecot*"):
            path.unlink()
        time.sleep(1.1)  # the new UIDVALIDITY is the time in seconds
        self._start()

    def _make_certificate(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        descriptor = os.open(self.folder / "key.pem", os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )


@contextmanager
def dovecot(without: tuple[str, ...] = ()) -> Iterator[Dovecot]:
    folder = Path(tempfile.mkdtemp(prefix="sr-dc-", dir="/tmp"))
    folder.chmod(0o755)
    server: Dovecot | None = None
    try:
        server = Dovecot(folder, without)
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
