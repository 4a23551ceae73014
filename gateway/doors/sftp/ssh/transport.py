"""SSH transport and authentication: paramiko's, with what it leaves open closed.

Promises (each fault was found by reading or running paramiko 5.1):
- packets are our own (`packets`): none longer than OpenSSH's 256 KiB is allocated for;
- only strong algorithms are offered; certificate algorithms are neither offered nor accepted;
- user authentication is our own (`authentication`);
- there is one key exchange before the login, not as many as a client likes;
- extension notices, whose count is the client's word, are passed over;
- channels are our own (`channels`), counted, and serve only sessions with the subsystem `sftp`.

The host key is not here: `RemoteHostKey` asks the core to sign the exchange, which it hashes itself, and in
which its own cookie stands.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import struct
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

from paramiko import PKey, ServerInterface, Transport
from paramiko.common import (
    AUTH_FAILED,
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_OPEN_SUCCESS,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_EXT_INFO,
    MSG_GLOBAL_REQUEST,
    MSG_NAMES,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    cMSG_KEXINIT,
    cMSG_UNIMPLEMENTED,
)
from paramiko.message import Message
from paramiko.ssh_exception import IncompatiblePeer, SSHException

from gateway.doors.sftp.ssh.authentication import EXCHANGED, Door, StrictAuthHandler
from gateway.doors.sftp.ssh.channels import PACKET, WINDOW, DoorChannel, Session
from gateway.doors.sftp.ssh.packets import DoorPacketizer
from gateway.wire.channel import Channel
from gateway.wire.messages import (
    ExchangeSignature,
    Greeting,
    HostKey,
    HostKeyProofs,
    Mismatch,
    ProveHostKeys,
    SignExchange,
)

MAX_CHANNELS: Final = 10  # OpenSSH's MaxSessions
IDENT: Final = "Strongroom"
HOST_KEYS: Final = b"hostkeys-00@openssh.com"  # OpenSSH's PROTOCOL, section 2.5
PROVE_HOST_KEYS: Final = b"hostkeys-prove-00@openssh.com"
_CERTIFICATE: Final = "-cert-v01@openssh.com"
# Programs that have neither AES-GCM nor a MAC over the ciphertext (docs/adr/0012).
_NO_BETTER: Final = re.compile(r"SSH-2\.0-libssh2_1\.(?:\d|10)(?:[._-]|$)")
_FOR_THEM: Final = ("hmac-sha2-512", "hmac-sha2-256")
_PARAMIKO: Final[Any] = Transport  # as it is, with what its type stubs leave out


class RemoteHostKey(PKey):
    """A host key whose private half stays in the core."""

    def __init__(self, transport: DoorTransport, key: HostKey) -> None:
        self._transport = transport
        self._name = key.algorithm
        self._blob = key.blob

    def get_name(self) -> str:
        return self._name

    def asbytes(self) -> bytes:
        return self._blob

    def can_sign(self) -> bool:
        return True

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> Any:
        """Have the core sign an exchange, given its hash."""
        transcript = self._transport.hashed
        if hashlib.sha256(transcript).digest() != data:
            raise RuntimeError("key exchange: expected the hash of what was hashed last")
        reply, _ = self._transport.core.call(SignExchange(transcript, algorithm or self._name))
        assert isinstance(reply, ExchangeSignature)
        return reply.signature


class DoorTransport(Door):
    """A server transport with strong algorithms only, and channels of our own."""

    packetizer: DoorPacketizer
    # paramiko's own, left out of its type stubs:
    _channels: Any
    _handler_table: dict[int, Callable[[Message], None]]
    _next_channel: Callable[[], int]
    kex_engine: Any

    _CLIENT_ID: ClassVar[str] = IDENT
    # RFC 8731 names what libssh had introduced under its own domain.
    _kex_info: ClassVar[dict[str, Any]] = {
        **_PARAMIKO._kex_info,
        "curve25519-sha256": _PARAMIKO._kex_info["curve25519-sha256@libssh.org"],
    }
    _preferred_kex = (
        "mlkem768x25519-sha256",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
    )
    _preferred_ciphers = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr")
    _preferred_macs = ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com")
    _preferred_keys = ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256")
    _channel_handler_table: ClassVar[dict[int, Any]] = {
        MSG_CHANNEL_REQUEST: DoorChannel.request,
        MSG_CHANNEL_DATA: DoorChannel.data,
        MSG_CHANNEL_EXTENDED_DATA: DoorChannel.extended_data,
        MSG_CHANNEL_WINDOW_ADJUST: DoorChannel.adjust,
        MSG_CHANNEL_EOF: DoorChannel.eof,
        MSG_CHANNEL_CLOSE: DoorChannel.close,
        MSG_CHANNEL_SUCCESS: DoorChannel.reply_to_us,
        MSG_CHANNEL_FAILURE: DoorChannel.reply_to_us,
    }

    def __init__(
        self,
        connection: socket.socket,
        core: Channel,
        greeting: Greeting,
        start: Callable[[], Session],
        say: Callable[[bytes], None],
    ) -> None:
        """`start` makes the session of a channel whose client asked for sftp; `say` tells the listener."""
        super().__init__(
            connection,
            default_window_size=WINDOW,
            default_max_packet_size=PACKET,
            packetizer_class=DoorPacketizer,
        )
        # paramiko looks ten times a second whether it was closed; our packetizer wakes its reader.
        connection.settimeout(None)
        self.core = core
        self.role = ""
        self.say = say
        self._announced = [key.blob for key in greeting.announced]
        self._cookie = greeting.cookie  # the core's, for the first KEXINIT
        self.mismatch: Mismatch | None = None
        self.hashed = b""  # by the exchange under way: what the core signs the hash of
        self._start = start
        self._open: dict[int, DoorChannel] = {}
        self.ended, self._ended = os.pipe()  # readable at its end: when the connection is over
        self._held: list[bytes] = []
        for number in range(256):
            # paramiko answers what it has a name for; any other number ends its loop with a KeyError.
            if number not in MSG_NAMES:
                self._handler_table.setdefault(number, self._not_implemented)
        self._handler_table[MSG_EXT_INFO] = _pass_over
        for number in (MSG_CHANNEL_OPEN_SUCCESS, MSG_CHANNEL_OPEN_FAILURE):
            self._handler_table[number] = _pass_over  # we open no channel
        for key in greeting.host_keys:
            remote = RemoteHostKey(self, key)
            if key.algorithm == "ssh-rsa":
                self.server_key_dict["rsa-sha2-512"] = remote
                self.server_key_dict["rsa-sha2-256"] = remote
            else:
                self.server_key_dict[key.algorithm] = remote

    @property
    def preferred_kex(self) -> tuple[str, ...]:
        """Key exchanges that the installed cryptography library offers."""
        return tuple(name for name in super().preferred_kex if name in self._kex_info)

    @property
    def preferred_macs(self) -> tuple[str, ...]:
        """MACs over the ciphertext; to a program that has none of them, over the plaintext as well."""
        offered = tuple(super().preferred_macs)
        return offered + _FOR_THEM if _NO_BETTER.match(self.remote_version) else offered

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Host key algorithms, certificate variants left out: there is no such key here."""
        return tuple(name for name in super().preferred_keys if not name.endswith(_CERTIFICATE))

    # ── what channels need ──

    @property
    def may_send(self) -> bool:
        """False while keys are being renewed."""
        return self.clear_to_send.is_set()

    def emit(self, payload: bytes) -> None:
        """Send a message, or keep it until the keys have been renewed."""
        if self.may_send:
            self.packetizer.send_message(payload)
        else:
            self._held.append(payload)

    def cork(self) -> None:
        """Gather what is sent."""
        self.packetizer.cork()

    def uncork(self) -> None:
        """Send what was gathered."""
        self.packetizer.uncork()

    def forget(self, number: int) -> None:
        """A channel is gone; its number may be used again."""
        self._open.pop(number, None)
        self._channels.delete(number)

    def run(self) -> None:
        """Serve the connection (this is the thread's own)."""
        try:
            super().run()
        finally:
            os.close(self._ended)

    def hang_up(self) -> None:
        """End the connection from another thread."""
        self.packetizer.close()

    # ── messages ──

    def _send_message(self, message: Message) -> None:
        if self._cookie and message.asbytes().startswith(cMSG_KEXINIT):
            # paramiko draws a cookie of its own. The first is the core's, which thereby knows that the
            # session identifier belongs to this connection.
            raw = message.asbytes()
            raw = raw[:1] + self._cookie + raw[1 + len(self._cookie) :]
            self.local_kex_init = self._latest_kex_init = raw
            self._cookie = b""
            message = Message(raw)
        self.packetizer.send_message(message)

    def _negotiate_keys(self, message: Message) -> None:
        if self.initial_kex_done and not self.role:
            raise SSHException("key exchange: expected one before the login, found a second")
        try:
            _PARAMIKO._negotiate_keys(self, message)
        except IncompatiblePeer:
            message.rewind()
            self.mismatch = self._mismatch(message)
            raise
        if self.kex_engine.hash_algo is not hashlib.sha256:
            raise RuntimeError("key exchange: expected one that hashes with SHA-256")
        self.kex_engine.hash_algo = self._hash

    def _mismatch(self, message: Message) -> Mismatch | None:
        """The list of algorithms in a client's KEXINIT that has nothing in common with ours."""
        offer = _PARAMIKO._really_parse_kex_init(self, message)
        ours = {
            "key exchange": (offer["kex_algo_list"], self.preferred_kex),
            "host key": (
                offer["server_key_algo_list"],
                [name for name in self.preferred_keys if name in self.server_key_dict],
            ),
            "cipher": (offer["client_encrypt_algo_list"], self.preferred_ciphers),
            "MAC": (offer["client_mac_algo_list"], self.preferred_macs),
            "compression": (offer["client_compress_algo_list"], self.preferred_compression),
        }
        for lacking, (theirs, known) in ours.items():
            if not set(theirs) & set(known):
                return Mismatch(
                    _printable(self.remote_version)[:255],
                    cast("Any", lacking),
                    _printable(",".join(theirs))[:1000],
                )
        return None

    def _hash(self, data: bytes) -> Any:
        self.hashed = data
        return hashlib.sha256(data)

    def _parse_newkeys(self, message: Message) -> None:
        if self.auth_handler is None:
            self.auth_handler = StrictAuthHandler(self)
            self.say(EXCHANGED)
        _PARAMIKO._parse_newkeys(self, message)
        self.hashed = b""  # the shared secret was in it
        held, self._held = self._held, []
        for payload in held:
            self.emit(payload)
        for channel in list(self._open.values()):
            channel.work()

    def _not_implemented(self, message: Message) -> None:
        """A message nobody knows is answered, and otherwise ignored (RFC 4253, section 11.4)."""
        reply = Message()
        reply.add_byte(cMSG_UNIMPLEMENTED)
        reply.add_int(message.seqno)
        self._send_message(reply)

    def announce_host_keys(self) -> None:
        """Tell a client that has logged in all host keys that it should know."""
        if self._announced:
            request = Message()
            request.add_byte(bytes((MSG_GLOBAL_REQUEST,)))
            request.add_string(HOST_KEYS)
            request.add_boolean(False)
            for blob in self._announced:
                request.add_string(blob)
            self.emit(request.asbytes())

    def _parse_global_request(self, message: Message) -> None:
        """Proof of announced host keys; nothing else global is served (a keep-alive gets its no)."""
        name = message.get_binary()
        if not message.get_boolean():
            return
        if name == PROVE_HOST_KEYS and self.role:
            blobs = _strings(message.get_remainder())
            if blobs and len(set(blobs)) == len(blobs) and set(blobs) <= set(self._announced):
                proofs, _ = self.core.call(ProveHostKeys(blobs))
                assert isinstance(proofs, HostKeyProofs)
                reply = Message()
                reply.add_byte(bytes((MSG_REQUEST_SUCCESS,)))
                for signature in proofs.signatures:
                    reply.add_string(signature)
                self.emit(reply.asbytes())
                return
        self.emit(bytes((MSG_REQUEST_FAILURE,)))

    def _parse_channel_open(self, message: Message) -> None:
        kind, remote = message.get_binary(), message.get_int()
        window, packet = message.get_int(), message.get_int()
        reason = 0
        if kind != b"session":
            reason = OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        elif len(self._open) >= MAX_CHANNELS:
            reason = OPEN_FAILED_RESOURCE_SHORTAGE
        if reason:
            empty = struct.pack(">II", 0, 0)  # no text, no language
            self.emit(struct.pack(">BII", MSG_CHANNEL_OPEN_FAILURE, remote, reason) + empty)
            return
        local = self._next_channel()
        channel = DoorChannel(self, local, remote, window, packet, self._start)
        self._open[local] = channel  # paramiko's own map holds it weakly
        self._channels.put(local, channel)
        self.channels_seen[local] = True
        self.emit(struct.pack(">BIIII", MSG_CHANNEL_OPEN_SUCCESS, remote, local, WINDOW, PACKET))


def _printable(text: str) -> str:
    return re.sub(r"[^ -~]", "?", text)


def _strings(data: bytes) -> list[bytes]:
    """SSH strings up to the end; none if they don't fill it exactly, or are more than a few."""
    found: list[bytes] = []
    while data:
        if len(data) < 4 or len(found) == MAX_CHANNELS:
            return []
        (length,) = struct.unpack_from(">I", data)
        if length > len(data) - 4:
            return []
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def _pass_over(message: Message) -> None:
    """Ignore a message that changes nothing here."""
    del message


class DoorServer(ServerInterface):
    """The little that paramiko still asks: which methods can go on."""

    def __init__(self, transport: DoorTransport) -> None:
        self._transport = transport

    def get_allowed_auths(self, username: str) -> str:
        del username
        handler = self._transport.auth_handler
        return handler.methods if isinstance(handler, StrictAuthHandler) else "publickey,password"

    def check_auth_none(self, username: str) -> int:
        del username
        return AUTH_FAILED
