"""SSH packets on the wire (RFC 4253, section 6), for speed and against hostile lengths.

Promises: no packet longer than `MAX_PACKET` is allocated for, no identification line longer than
`MAX_BANNER` is waited for. With AES-GCM (RFC 5647, as OpenSSH uses it), and with AES in counter mode
under a MAC over the ciphertext (OpenSSH PROTOCOL, section 1.5), a packet costs at most one system call:
what the kernel has is taken at once, and packets are cut from it where they lie. Data of channels is
handed on as a view that holds until the next packet is read.

Leaves out: everything else. The clear packets of the first key exchange, and those of old clients whose
MAC is over the plaintext (docs/adr/0012), go through paramiko's own code, fed from the same buffer.

Rules: one thread reads. A connection keeps the kind of cipher it began with, so that the ways of
counting packets never have to agree. Nothing is decrypted before its MAC was compared. Keys are renewed
after `REKEY` bytes (RFC 4253, section 9: 1 GiB), and a peer that ignores that is cut off after as much
again.
"""

from __future__ import annotations

import contextlib
import hmac
import socket
import struct
import time
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidTag
from paramiko.common import MSG_CHANNEL_DATA
from paramiko.message import Message
from paramiko.packet import Packetizer
from paramiko.ssh_exception import SSHException

from vault.crypto.buffers import untouched

MAX_PACKET: Final = 256 * 1024  # OpenSSH's PACKET_MAX_SIZE
MAX_BANNER: Final = 8192  # OpenSSH's limit for everything before the identification line ends
REKEY: Final = 1024**3
_BUFFER: Final = 2 * MAX_PACKET
_TAG: Final = 16
_BLOCK: Final = 16
_SMALL: Final = 4096  # a read below this may be a step of a dialogue that waits for our ACK
_LENGTH: Final = struct.Struct(">I")
_DATA: Final = struct.Struct(">II")  # channel, length; the message number stands before them


class ChannelData(Message):
    """CHANNEL_DATA, taken apart without copying: `data` holds until the next packet is read."""

    def __init__(self, payload: memoryview) -> None:
        """Take a payload apart (raises SSHException where it is not what it says)."""
        super().__init__()
        if len(payload) < 1 + _DATA.size:
            raise SSHException("channel data: expected a channel and a length, found the end")
        channel, length = _DATA.unpack_from(payload, 1)
        self._channel = int(channel)
        if length != len(payload) - 1 - _DATA.size:
            raise SSHException(
                f"channel data: expected {length} bytes, found {len(payload) - 1 - _DATA.size}"
            )
        self.data = payload[1 + _DATA.size :]

    def get_int(self) -> int:
        """The channel's number (all that paramiko's loop asks of this message)."""
        return self._channel


class DoorPacketizer(Packetizer):
    """paramiko's packetizer with caps, a buffer, and AES-GCM where the packets lie."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._connection = connection
        self._buffer = untouched(_BUFFER)
        self._start = self._end = 0
        self._plain = untouched(MAX_PACKET + _BLOCK)  # a cipher wants a block to spare
        self._received = self._sent = 0
        self._read_count = 0
        self._rekey_wanted = False
        self._cipher_in: Any = None
        self._cipher_out: Any = None
        self._fixed_in = self._fixed_out = b""
        self._counter_in = self._counter_out = 0
        self._mac_in: Any = None
        self._mac_out: Any = None
        self._number_in = self._number_out = 0  # sequence numbers, where a MAC is over them
        self._kind: Literal["aead", "etm", "other"] | None = None
        self._corked: list[bytes | bytearray] | None = None
        self._hung_up = False
        self.heard = time.monotonic()  # when the peer last sent anything

    # ── the socket ──

    def _fill(self, wanted: int) -> None:
        """Have `wanted` bytes in the buffer (raises EOFError, OSError)."""
        if self._end - self._start >= wanted:
            return
        if len(self._buffer) - self._start < wanted:
            left = self._end - self._start
            self._buffer[:left] = bytes(self._buffer[self._start : self._end])
            self._start, self._end = 0, left
        while self._end - self._start < wanted:
            count = self._connection.recv_into(self._buffer[self._end :])
            if count == 0:
                raise EOFError
            if count < _SMALL:
                # Nagle's algorithm at the other end holds its next message back until this one is
                # acknowledged, which the kernel would delay by 40 ms.
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            self._end += count
            self.heard = time.monotonic()

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """`n` bytes; a length announced beyond the cap, or below zero, ends the connection."""
        del check_rekey
        if not 0 <= n <= MAX_PACKET + 64:
            raise SSHException(f"packet: expected at most {MAX_PACKET} bytes, found {n}")
        self._fill(n)
        data = bytes(self._buffer[self._start : self._start + n])
        self._start += n
        return data

    def readline(self, timeout: float) -> str:
        """A line of the identification exchange, without its end (raises SSHException, EOFError)."""
        del timeout  # the listener's deadline for logins covers this
        size = 0
        while True:
            held = bytes(self._buffer[self._start : self._end])
            end = held.find(b"\n", size)
            if end >= 0:
                break
            size = len(held)
            if size > MAX_BANNER:
                raise SSHException(f"identification: expected a line of at most {MAX_BANNER} bytes")
            self._fill(size + 1)
        self._start += end + 1
        return held[:end].rstrip(b"\r").decode("utf-8", "replace")

    def write_all(self, out: Any) -> None:
        """Send bytes, or keep them while corked (raises EOFError)."""
        if self._corked is not None:
            self._corked.append(out)
            return
        try:
            self._connection.sendall(out)
        except OSError as error:
            raise EOFError from error

    def cork(self) -> None:
        """Gather what is sent from now on."""
        if self._corked is None:
            self._corked = []

    def uncork(self) -> None:
        """Send what was gathered, at once (raises EOFError)."""
        gathered, self._corked = self._corked, None
        if gathered:
            self.write_all(gathered[0] if len(gathered) == 1 else b"".join(gathered))

    def close(self) -> None:
        """Close the socket, and wake the thread that reads from it."""
        if not self._hung_up:
            self._hung_up = True
            with contextlib.suppress(OSError):  # the peer may have closed it already
                self._connection.shutdown(socket.SHUT_RDWR)
        super().close()

    def start_handshake(self, timeout: float) -> None:
        """No timer (a thread each) of paramiko's: the listener keeps the deadline for logins."""

    # ── keys ──

    def set_inbound_cipher(self, *args: Any, **kwargs: Any) -> None:
        """Take the peer's new key."""
        first = self._cipher_in is None
        super().set_inbound_cipher(*args, **kwargs)
        self._same_kind(**kwargs)
        self._received = 0
        if kwargs["aead"]:
            self._cipher_in = kwargs["block_engine"]
            self._fixed_in = kwargs["iv_in"][:4]
            self._counter_in = int.from_bytes(kwargs["iv_in"][4:], "big")
        elif kwargs["etm"]:
            self._cipher_in = kwargs["block_engine"]
            self._mac_in = hmac.new(kwargs["mac_key"], digestmod=kwargs["mac_engine"])
            if first:
                self._number_in = self._counted("in")

    def set_outbound_cipher(self, *args: Any, **kwargs: Any) -> None:
        """Take our new key."""
        first = self._cipher_out is None
        super().set_outbound_cipher(*args, **kwargs)
        self._same_kind(**kwargs)
        self._sent = 0
        self._rekey_wanted = False
        if kwargs["aead"]:
            self._cipher_out = kwargs["block_engine"]
            self._fixed_out = kwargs["iv_out"][:4]
            self._counter_out = int.from_bytes(kwargs["iv_out"][4:], "big")
        elif kwargs["etm"]:
            self._cipher_out = kwargs["block_engine"]
            self._mac_out = hmac.new(kwargs["mac_key"], digestmod=kwargs["mac_engine"])
            if first:
                self._number_out = self._counted("out")

    def _counted(self, direction: str) -> int:
        """How many packets paramiko has counted: the clear ones before the first key."""
        return int(getattr(self, f"_Packetizer__sequence_number_{direction}"))

    def reset_seqno_in(self) -> None:
        """Count from nought: strict key exchange (OpenSSH PROTOCOL, section 1.10)."""
        super().reset_seqno_in()
        self._number_in = 0

    def reset_seqno_out(self) -> None:
        """Count from nought, the other way."""
        super().reset_seqno_out()
        self._number_out = 0

    def _same_kind(self, *, aead: bool, etm: bool, **_: Any) -> None:
        kind: Literal["aead", "etm", "other"] = "aead" if aead else "etm" if etm else "other"
        if self._kind not in {None, kind}:
            raise SSHException("rekey: expected the same kind of cipher as before, found another")
        self._kind = kind

    def need_rekey(self) -> bool:
        """Whether keys should be renewed."""
        return self._rekey_wanted or bool(super().need_rekey())

    # ── packets ──

    def read_message(self) -> tuple[int, Message]:
        """The next message: its number, and it (raises SSHException, EOFError, OSError)."""
        if self._cipher_in is None:
            number, message = super().read_message()
            if number == MSG_CHANNEL_DATA:
                body = message.asbytes()
                return number, ChannelData(memoryview(bytes([number]) + body))
            return number, message
        self._fill(4)
        (length,) = _LENGTH.unpack_from(self._buffer, self._start)
        if not _BLOCK <= length <= MAX_PACKET or length % _BLOCK:
            raise SSHException(
                f"packet: expected whole blocks of at most {MAX_PACKET} bytes, found {length}"
            )
        tag = _TAG if self._mac_in is None else self._mac_in.digest_size
        self._fill(4 + length + tag)
        if self._mac_in is None:
            self._open_aead(length)
        else:
            self._open_etm(length, tag)
        self._start += 4 + length + tag
        if self._start == self._end:
            self._start = self._end = 0
        self._count_received(length + 4 + tag)
        padding = self._plain[0]
        if padding < 4 or padding + 2 > length:
            raise SSHException(f"packet: expected padding within it, found {padding} bytes")
        payload = self._plain[1 : length - padding]
        number = payload[0]
        if number == MSG_CHANNEL_DATA:
            return number, ChannelData(payload)
        message = Message(bytes(payload[1:]))
        # Only MSG_UNIMPLEMENTED quotes it, for a peer's log.
        message.seqno = self._read_count & 0xFFFFFFFF
        return number, message

    def _open_aead(self, length: int) -> None:
        """Decrypt the packet at the front of the buffer into `_plain` (raises SSHException)."""
        start = self._start + 4
        nonce = self._fixed_in + self._counter_in.to_bytes(8, "big")
        self._counter_in = (self._counter_in + 1) & 0xFFFFFFFFFFFFFFFF
        try:
            self._cipher_in.decrypt_into(
                nonce,
                self._buffer[start : start + length + _TAG],
                self._buffer[self._start : start],
                self._plain[:length],
            )
        except InvalidTag as error:
            raise SSHException("packet: expected one that authenticates, found another") from error

    def _open_etm(self, length: int, tag: int) -> None:
        """The same in counter mode, once the MAC over number, length and ciphertext is right."""
        start, end = self._start + 4, self._start + 4 + length
        mac = self._mac_in.copy()
        mac.update(_LENGTH.pack(self._number_in))
        mac.update(self._buffer[self._start : end])
        self._number_in = (self._number_in + 1) & 0xFFFFFFFF
        if not hmac.compare_digest(mac.digest(), self._buffer[end : end + tag]):
            raise SSHException("packet: expected one that authenticates, found another")
        self._cipher_in.update_into(self._buffer[start:end], self._plain)

    def _count_received(self, size: int) -> None:
        self._read_count += 1
        self._received += size
        if self._received >= REKEY:
            self._rekey_wanted = True
            if self._received >= 2 * REKEY:
                raise SSHException("rekey: expected the peer to take part, found it ignored")

    def send_message(self, data: Any) -> None:
        """Send a message (paramiko's `Message`, or the bytes of one)."""
        if self._cipher_out is None:
            super().send_message(data if isinstance(data, Message) else Message(data))
            return
        payload = data.asbytes() if isinstance(data, Message) else data
        size = len(payload)
        padding = _BLOCK - (size + 1) % _BLOCK
        if padding < 4:
            padding += _BLOCK
        # Padding of zeros: under an AEAD or a cipher stream its content gives nothing away.
        plain = b"".join((bytes((padding,)), payload, bytes(padding)))
        out = self._seal_aead(plain) if self._mac_out is None else self._seal_etm(plain)
        self._sent += len(out)
        if self._sent >= REKEY:
            self._rekey_wanted = True
        self.write_all(out)

    def _seal_aead(self, plain: bytes) -> bytearray:
        length = len(plain)
        out = bytearray(4 + length + _TAG)
        _LENGTH.pack_into(out, 0, length)
        view = memoryview(out)
        nonce = self._fixed_out + self._counter_out.to_bytes(8, "big")
        self._counter_out = (self._counter_out + 1) & 0xFFFFFFFFFFFFFFFF
        self._cipher_out.encrypt_into(nonce, plain, view[:4], view[4:])
        return out

    def _seal_etm(self, plain: bytes) -> bytearray:
        length = len(plain)
        out = bytearray(4 + length + self._mac_out.digest_size)  # room enough for a spare block
        _LENGTH.pack_into(out, 0, length)
        view = memoryview(out)
        self._cipher_out.update_into(plain, view[4:])
        mac = self._mac_out.copy()
        mac.update(_LENGTH.pack(self._number_out))
        mac.update(view[: 4 + length])
        self._number_out = (self._number_out + 1) & 0xFFFFFFFF
        view[4 + length :] = mac.digest()
        return out
