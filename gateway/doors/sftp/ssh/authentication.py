"""User authentication of the door (RFC 4252, RFC 4256): parsed strictly, and decided by the core.

Promises, where paramiko leaves it open:
- a request is parsed strictly; unknown methods and `none` fail, never fall through;
- an answer to a query that was not asked ends the connection, and its count is checked before any loop;
- a factor counts only when the core, which verifies user signatures itself, says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    AUTH_FAILED,
    AUTH_PARTIALLY_SUCCESSFUL,
    AUTH_SUCCESSFUL,
    MSG_SERVICE_REQUEST,
    MSG_USERAUTH_INFO_RESPONSE,
    MSG_USERAUTH_REQUEST,
    cMSG_USERAUTH_INFO_REQUEST,
    cMSG_USERAUTH_PK_OK,
)
from paramiko.message import Message
from paramiko.ssh_exception import SSHException
from paramiko.transport import Transport

from gateway.wire.channel import Channel
from gateway.wire.messages import (
    AuthenticateCode,
    AuthenticateKey,
    AuthenticatePassword,
    AuthenticationResult,
)

MAX_TEXT: Final = 1024  # user names, passwords, codes
# What the listener is told of a connection: keys exchanged, a factor refused, logged in.
EXCHANGED, FAILED, PROVEN = b"x", b"f", b"o"


class Door(Transport):
    """What authentication needs of the connection it belongs to."""

    core: Channel
    role: str
    say: Callable[[bytes], None]
    # paramiko's own, left out of its type stubs:
    _send_message: Callable[[Message], None]

    def announce_host_keys(self) -> None:
        """Tell the client which host keys there are (OpenSSH's hostkeys-00)."""
        raise NotImplementedError


class StrictAuthHandler(AuthHandler):
    """User authentication (RFC 4252, RFC 4256), parsed strictly and decided by the core."""

    transport: Door
    # paramiko's own, left out of its type stubs:
    _parse_service_request: Callable[[Message], None]
    _send_auth_result: Callable[[str | None, str, int], None]

    def __init__(self, transport: Door) -> None:
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
            self.transport.say(PROVEN)
            self._send_auth_result(self.auth_username, method, AUTH_SUCCESSFUL)
            self.transport.announce_host_keys()
            return
        if result.outcome == "partial":
            self._methods = result.methods
            self._send_auth_result(self.auth_username, method, AUTH_PARTIALLY_SUCCESSFUL)
            return
        if method in {"password", "keyboard-interactive"}:
            self.transport.say(FAILED)
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
