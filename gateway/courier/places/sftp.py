"""A place on another host, reached by SFTP; paramiko as a client.

Promises: the port of `vault.storage.places`. The server is who the configuration says (its host key
is pinned; there is no first trust), we are who our key says, and nothing is written before both are settled.
One connection, opened when it is needed and again after any failure; every wait has an end.

Durability: what is put is synced by the server before it takes its name, and again after
(`fsync@openssh.com`, where it is offered: the second sync carries the rename into the journal of the usual
file systems). A server without that extension, and the removal of a name on any server, are as durable as
its file system makes them. `posix-rename@openssh.com` is needed: without it nothing can be replaced at once.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hmac
import io
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import paramiko
from paramiko.message import Message
from paramiko.sftp import CMD_EXTENDED, CMD_INIT, CMD_VERSION

from gateway.config import SftpAddress
from gateway.process.secret import read_secret
from vault.errors import PlaceError, PlaceMissing
from vault.storage.places import PIECE, check_name, check_prefix, is_name

CONNECT_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 60.0
_SFTP_VERSION: Final = 3
_FSYNC: Final = "fsync@openssh.com"
_RENAME: Final = "posix-rename@openssh.com"
_READ_AHEAD: Final = 64  # requests of 32 KiB under way at once
_KEX: Final = (
    "mlkem768x25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "diffie-hellman-group16-sha512",
)
_CIPHERS: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr")
_MACS: Final = ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-256")
_RSA: Final = ("rsa-sha2-512", "rsa-sha2-256")  # an ssh-rsa host key signs with these


class _Client(paramiko.SFTPClient):
    """paramiko's client, which forgets what the server offers; this one remembers."""

    extensions: frozenset[str]

    def _send_version(self) -> int:
        hello = Message()
        hello.add_int(_SFTP_VERSION)
        link = cast("Any", self)  # the type stubs leave out what a subclass may use
        link._send_packet(CMD_INIT, hello)
        kind, data = link._read_packet()
        answer = Message(data)
        version = answer.get_int()
        if kind != CMD_VERSION or version != _SFTP_VERSION:
            raise paramiko.SFTPError(f"expected SFTP version 3, found {version}")
        offered = set()
        while answer.get_remainder():
            offered.add(answer.get_text())
            answer.get_string()
        self.extensions = frozenset(offered)
        return version

    def sync(self, file: paramiko.SFTPFile) -> None:
        """Have the server fsync an open file."""
        cast("Any", self)._request(CMD_EXTENDED, _FSYNC, file.handle)


class SftpPlace:
    """A folder on a host."""

    def __init__(self, address: SftpAddress, host_key: str, key: Path) -> None:
        """`host_key`: the pinned line (`ssh-ed25519 AAAA…`); `key`: our private key's file, unencrypted."""
        self._address = address
        self._host_key = host_key.split()[:2]
        self._key = key
        self._transport: paramiko.Transport | None = None
        self._open: _Client | None = None

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """See `Place.put`; durability as the module says."""
        path = self._path(name)
        with self._speaking("write", name) as client:
            if _RENAME not in client.extensions:
                raise PlaceError(f"{self._where}: expected a server with {_RENAME}, found none")
            self._make_folders(client, name)
            file = client.open(_temporary(path), "wb")
        try:
            with self._speaking("write", name):
                # Before the first byte. Sealed or not, it is nobody else's. Some servers refuse.
                with contextlib.suppress(PermissionError):
                    file.chmod(0o600)
                file.set_pipelined(True)
            size = 0
            for piece in pieces:
                with self._speaking("write", name):
                    file.write(piece)
                size += len(piece)
            with self._speaking("write", name):
                self._finish(client, file, path, size)
        except BaseException:
            # The leftover goes with the next put, or with `remove`, if it can't go now.
            with contextlib.suppress(Exception):
                file.close()
                client.remove(_temporary(path))
            raise
        with self._speaking("write", name):
            file.close()

    def _finish(self, client: _Client, file: paramiko.SFTPFile, path: str, size: int) -> None:
        """Sync, compare the size, take the name, sync again."""
        file.set_pipelined(False)
        file.flush()
        # Answers to the writes come before the answer to this; a refused one shows in the size, too.
        found = file.stat().st_size
        if found != size:
            raise PlaceError(f"{self._where}: expected {size} bytes written, found {found}")
        synced = _FSYNC in client.extensions
        if synced:
            client.sync(file)
        client.posix_rename(_temporary(path), path)  # The commit point.
        if synced:
            client.sync(file)

    def get(self, name: str) -> Iterator[bytes]:
        """See `Place.get`."""
        path = self._path(name)
        with self._speaking("read", name) as client:
            file = client.open(path, "rb")
            size = file.stat().st_size or 0
            if size > PIECE:
                file.prefetch(size, _READ_AHEAD)
        try:
            while True:
                with self._speaking("read", name):
                    piece = file.read(PIECE)
                if not piece:
                    return
                yield piece
        finally:
            with contextlib.suppress(Exception):
                file.close()

    def names(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """See `Place.names`; one folder's listing is held at a time."""
        waiting = [check_prefix(prefix)]
        while waiting:
            folder = waiting.pop()
            try:
                with self._speaking("list", folder or ".") as client:
                    found = client.listdir_attr(
                        self._path(folder) if folder else self._address.path
                    )
            except PlaceMissing:
                continue
            for entry in found:
                name = f"{folder}/{entry.filename}" if folder else entry.filename
                if not is_name(name):
                    continue
                if stat.S_ISDIR(entry.st_mode or 0):
                    waiting.append(name)
                elif stat.S_ISREG(entry.st_mode or 0):
                    yield name, entry.st_size or 0

    def remove(self, name: str) -> bool:
        """See `Place.remove`."""
        path = self._path(name)
        with self._speaking("remove", name) as client, contextlib.suppress(FileNotFoundError):
            client.remove(_temporary(path))
        try:
            with self._speaking("remove", name) as client:
                client.remove(path)
        except PlaceMissing:
            return False
        return True

    def close(self) -> None:
        """See `Place.close`."""
        transport, self._transport, self._open = self._transport, None, None
        if transport is not None:
            transport.close()

    # ── the connection ──

    @property
    def _where(self) -> str:
        return f"sftp://{self._address.host}:{self._address.port}"

    def _path(self, name: str) -> str:
        return f"{self._address.path.rstrip('/')}/{check_name(name)}"

    @contextmanager
    def _speaking(self, action: str, name: str) -> Iterator[_Client]:
        """A connected client; what goes wrong leaves as PlaceError or PlaceMissing."""
        try:
            if self._open is None:
                self._open = self._connect()
            yield self._open
        except FileNotFoundError as error:
            # A folder that is not there any more must not look like a name that is not there.
            client, self._open = self._open, None
            if client is not None and self._is_folder(client):
                self._open = client
                raise PlaceMissing(f"{self._where}: expected {name}, found none") from error
            self.close()
            raise self._no_folder() from error
        except (PlaceError, PlaceMissing):
            raise
        except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
            # A refusal in the protocol (an OSError of paramiko's making) leaves the connection sound.
            refused = isinstance(error, OSError) and error.errno in {None, errno.EACCES}
            channel = self._open.get_channel() if self._open is not None else None
            if not refused or channel is None or channel.closed or isinstance(error, TimeoutError):
                self.close()
            raise PlaceError(
                f"{self._where}: expected to {action} {name}, found {_reason(error)}"
            ) from error

    def _connect(self) -> _Client:
        # 1. Our key, before anything is said.
        key = _private_key(self._key)
        # 2. The server's key, compared before we say who we are.
        address = (self._address.host, self._address.port)
        kind, expected = self._host_key[0], base64.b64decode(self._host_key[1])
        transport = paramiko.Transport(socket.create_connection(address, CONNECT_SECONDS))
        try:
            transport.banner_timeout = CONNECT_SECONDS
            transport.handshake_timeout = CONNECT_SECONDS
            transport.auth_timeout = CONNECT_SECONDS
            options = transport.get_security_options()
            options.kex = _known(_KEX, options.kex)
            options.ciphers = _known(_CIPHERS, options.ciphers)
            options.digests = _known(_MACS, options.digests)
            options.key_types = _known(_RSA if kind == "ssh-rsa" else (kind,), options.key_types)
            transport.start_client(timeout=CONNECT_SECONDS)
            if not hmac.compare_digest(transport.get_remote_server_key().asbytes(), expected):
                raise PlaceError(
                    f"{self._where}: expected the host key of the configuration, found another"
                )
            # 3. Log in, and see that the folder is there.
            transport.auth_publickey(self._address.user, key)
            channel = transport.open_session(timeout=CONNECT_SECONDS)
            channel.settimeout(ANSWER_SECONDS)
            channel.invoke_subsystem("sftp")
            client = _Client(channel)
            if not self._is_folder(client):
                raise self._no_folder()
        except paramiko.AuthenticationException as error:
            transport.close()
            raise PlaceError(
                f"{self._where}: expected user {self._address.user} to be let in with"
                f" {self._key}, found a refusal"
            ) from error
        except BaseException:
            transport.close()
            raise
        self._transport = transport
        return client

    def _is_folder(self, client: _Client) -> bool:
        try:
            return stat.S_ISDIR(client.stat(self._address.path).st_mode or 0)
        except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError):
            return False

    def _no_folder(self) -> PlaceError:
        return PlaceError(
            f"{self._where}: expected a folder {self._address.path} (is it mounted?), found none"
        )

    def _make_folders(self, client: _Client, name: str) -> None:
        folder = self._address.path.rstrip("/")
        for part in name.split("/")[:-1]:
            folder = f"{folder}/{part}"
            try:
                client.stat(folder)
            except FileNotFoundError:
                client.mkdir(folder, 0o700)


def _temporary(path: str) -> str:
    """Always the same, so that the next put of this name replaces what a crash left."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.tmp"


def _known(wanted: tuple[str, ...], offered: Any) -> tuple[str, ...]:
    """Those of `wanted` that the library knows, in our order (raises PlaceError if there are none)."""
    chosen = tuple(name for name in wanted if name in offered)
    if not chosen:
        raise PlaceError(f"algorithms: expected one of {', '.join(wanted)} to be known, found none")
    return chosen


def _private_key(path: Path) -> paramiko.PKey:
    text = read_secret(path)
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text))
        except paramiko.PasswordRequiredException as error:
            raise PlaceError(
                f"{path}: expected a private key without a passphrase, found one with"
            ) from error
        except (paramiko.SSHException, ValueError, TypeError):
            continue
    raise PlaceError(f"{path}: expected an OpenSSH private key, found other content")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, EOFError):
        return "that the connection ended"
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode.get(error.errno, str(error.errno)) + f" ({error.strerror})"
    return str(error)[:120] or type(error).__name__
