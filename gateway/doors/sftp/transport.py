"""SSH transport and authentication: paramiko's, with what it leaves open closed.

Closed here (each was found by reading or running paramiko 5.1):
- packets longer than OpenSSH's 256 KiB are refused before anything is allocated for them;
- only strong algorithms are offered; certificate algorithms are neither offered nor accepted;
- a user authentication request is parsed strictly; unknown methods and `none` fail, never fall through;
- an answer to a query that was not asked ends the connection, and its count is checked before any loop;
- a factor counts only when the core, which verifies user signatures itself, says so;
- channels are counted, only sessions with the subsystem `sftp` are served.

The host key is not here: `RemoteHostKey` asks the core to sign the exchange hash.
"""

from __future__ import annotations

import socket
from typing import Any, ClassVar, Final

from paramiko import PKey, ServerInterface, Transport
from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    MSG_SERVICE_REQUEST,
    MSG_USERAUTH_INFO_RESPONSE,
    MSG_USERAUTH_REQUEST,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
    cMSG_USERAUTH_INFO_REQUEST,
    cMSG_USERAUTH_PK_OK,
)
from paramiko.message import Message
from paramiko.packet import Packetizer
from paramiko.ssh_exception import SSHException

from gateway.wire.channel import Channel
from gateway.wire.messages import (
    AuthenticateCode,
    AuthenticateKey,
    AuthenticatePassword,
    AuthenticationResult,
    ExchangeSignature,
    HostKey,
    SignExchange,
)

MAX_PACKET: Final = 256 * 1024  # OpenSSH's PACKET_MAX_SIZE
MAX_CHANNELS: Final = 10  # OpenSSH's MaxSessions
MAX_TEXT: Final = 1024  # user names, passwords, codes
WINDOW: Final = 512 * 1024  # measured: larger windows cost paramiko a shift of its whole buffer
PACKET: Final = 32 * 1024
IDENT: Final = "Strongroom"
_CERTIFICATE: Final = "-cert-v01@openssh.com"


class CappedPacketizer(Packetizer):
    """A packetizer that allocates for no packet longer than `MAX_PACKET`."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Read `n` bytes; a length announced beyond the cap, or below zero, ends the connection."""
        if not 0 <= n <= MAX_PACKET + 64:
            raise SSHException(f"packet: expected at most {MAX_PACKET} bytes, found {n}")
        data: bytes = super().read_all(n, check_rekey)
        return data


class RemoteHostKey(PKey):
    """A host key whose private half stays in the core."""

    def __init__(self, core: Channel, key: HostKey) -> None:
        self._core = core
        self._name = key.algorithm
        self._blob = key.blob

    def get_name(self) -> str:
        return self._name

    def asbytes(self) -> bytes:
        return self._blob

    def can_sign(self) -> bool:
        return True

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> Any:
        """Have the core sign an exchange hash."""
        reply, _ = self._core.call(SignExchange(bytes(data), algorithm or self._name))
        assert isinstance(reply, ExchangeSignature)
        return reply.signature


class StrictAuthHandler(AuthHandler):
    """User authentication (RFC 4252, RFC 4256), parsed strictly and decided by the core."""

    transport: DoorTransport

    def __init__(self, transport: DoorTransport) -> None:
        super().__init__(transport)
        self._query_open = False
        self._methods = ["publickey", "password"]

    @property
    def _server_handler_table(self) -> dict[int, Any]:
        return {
            MSG_SERVICE_REQUEST: self._parse_service_request,
            MSG_USERAUTH_REQUEST: self._parse_userauth_request,
            MSG_USERAUTH_INFO_RESPONSE: self._parse_userauth_info_response,
        }

    def _parse_userauth_request(self, message: Message) -> None:
        if self.authenticated:
            return  # RFC 4252, section 5.3: later requests are ignored
        self._query_open = False
        user = _text(message, "user name")
        service = _text(message, "service")
        method = _text(message, "method")
        if service != "ssh-connection":
            raise SSHException("userauth: expected the service ssh-connection")
        if self.auth_username not in {None, user}:
            raise SSHException("userauth: expected one user per connection, found a second")
        self.auth_username = user
        core = self.transport.core
        result = AuthenticationResult("failed", self._methods)
        if method == "publickey":
            signed = message.get_boolean()
            algorithm = _text(message, "algorithm")
            blob = message.get_string()
            signature = message.get_string() if signed else None
            if algorithm in self.transport.preferred_pubkeys:
                result, _ = core.call(AuthenticateKey(user, algorithm, blob, signature))
            if result.outcome == "acceptable":
                reply = Message()
                reply.add_byte(cMSG_USERAUTH_PK_OK)
                reply.add_string(algorithm)
                reply.add_string(blob)
                self.transport._send_message(reply)
                return
        elif method == "password":
            change = message.get_boolean()
            password = _text(message, "password")
            if not change:
                result, _ = core.call(AuthenticatePassword(user, password))
        elif method == "keyboard-interactive" and method in self._methods:
            self._ask_code()
            return
        self._answer(method, result)

    def _ask_code(self) -> None:
        reply = Message()
        reply.add_byte(cMSG_USERAUTH_INFO_REQUEST)
        reply.add_string("")
        reply.add_string("")
        reply.add_string("")
        reply.add_int(1)
        reply.add_string("One-time code: ")
        reply.add_boolean(False)
        self.transport._send_message(reply)
        self._query_open = True

    def _parse_userauth_info_response(self, message: Message) -> None:
        if self.authenticated or not self._query_open or self.auth_username is None:
            raise SSHException("userauth: expected no answer, as nothing was asked")
        self._query_open = False
        if message.get_int() != 1:
            raise SSHException("userauth: expected one answer, found another number")
        code = _text(message, "code")
        result, _ = self.transport.core.call(AuthenticateCode(self.auth_username, code))
        self._answer("keyboard-interactive", result)

    def _answer(self, method: str, result: AuthenticationResult) -> None:
        """Tell the client; partial success names what is still wanted."""
        if result.outcome == "granted":
            self.transport.role = result.role
            self._send_auth_result(self.auth_username, method, AUTH_SUCCESSFUL)
            return
        if result.outcome == "partial":
            self._methods = result.methods
            from paramiko.common import AUTH_PARTIALLY_SUCCESSFUL

            self._send_auth_result(self.auth_username, method, AUTH_PARTIALLY_SUCCESSFUL)
            return
        self._send_auth_result(self.auth_username, method, AUTH_FAILED)

    @property
    def methods(self) -> str:
        """The methods that can go on, as the failure message lists them."""
        return ",".join(self._methods)


def _text(message: Message, what: str) -> str:
    """A short UTF-8 string of a message."""
    raw = message.get_string()
    if len(raw) > MAX_TEXT:
        raise SSHException(f"userauth: expected a {what} of at most {MAX_TEXT} bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SSHException(f"userauth: expected a {what} in UTF-8") from error


class DoorTransport(Transport):
    """A server transport with strong algorithms only."""

    _CLIENT_ID: ClassVar[str] = IDENT
    _preferred_ciphers = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr")
    _preferred_macs = ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com")
    _preferred_keys = ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256")
    _preferred_kex = tuple(
        name
        for name in ("mlkem768x25519-sha256", "curve25519-sha256@libssh.org")
        if name in Transport._preferred_kex
    )

    def __init__(self, connection: socket.socket, core: Channel, host_keys: list[HostKey]) -> None:
        super().__init__(
            connection,
            default_window_size=WINDOW,
            default_max_packet_size=PACKET,
            packetizer_class=CappedPacketizer,
        )
        self.core = core
        self.role = ""
        for key in host_keys:
            remote = RemoteHostKey(core, key)
            if key.algorithm == "ssh-rsa":
                self.server_key_dict["rsa-sha2-512"] = remote
                self.server_key_dict["rsa-sha2-256"] = remote
            else:
                self.server_key_dict[key.algorithm] = remote

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Host key algorithms, certificate variants left out: there is no such key here."""
        return tuple(name for name in super().preferred_keys if not name.endswith(_CERTIFICATE))

    def _parse_newkeys(self, message: Message) -> None:
        if self.auth_handler is None:
            self.auth_handler = StrictAuthHandler(self)
        super()._parse_newkeys(message)


class DoorServer(ServerInterface):
    """What may be asked of an authenticated connection: sessions with the subsystem sftp."""

    def __init__(self, transport: DoorTransport) -> None:
        self._transport = transport
        self._channels = 0

    def get_allowed_auths(self, username: str) -> str:
        del username
        handler = self._transport.auth_handler
        return handler.methods if isinstance(handler, StrictAuthHandler) else "publickey,password"

    def check_auth_none(self, username: str) -> int:
        del username
        return AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del chanid
        if kind != "session":
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        if self._channels >= MAX_CHANNELS:
            return OPEN_FAILED_RESOURCE_SHORTAGE
        self._channels += 1
        return OPEN_SUCCEEDED
