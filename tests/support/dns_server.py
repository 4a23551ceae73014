"""A DNS server on loopback for tests: says what it is told to, over UDP and TCP, and can fail in the usual ways."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SILENT = "silent"  # never answers
BROKEN = "broken"  # SERVFAIL


class DnsServer:
    """Records by (name, type): lists of texts; or for a name `SILENT` or `BROKEN`."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.moods: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.over_tcp = 0
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self.port = self._udp.getsockname()[1]
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind(("127.0.0.1", self.port))
        self._tcp.listen(16)
        for serve in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def text(self, name: str, *texts: str) -> None:
        """Publish TXT records; each longer than 255 characters is cut into strings."""
        cut = [
            " ".join(f'"{text[at : at + 255]}"' for at in range(0, max(1, len(text)), 255))
            for text in texts
        ]
        self.records[name.lower(), "TXT"] = cut

    def close(self) -> None:
        for end in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _answer(self, packet: bytes, *, limit: int) -> bytes | None:
        query = dns.message.from_wire(packet)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        mood = self.moods.get(name)
        if mood == SILENT:
            return None
        if mood == BROKEN:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer.to_wire()
        if not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif found := self.records.get((name, kind)):
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
        wire = answer.to_wire(max_size=65535)
        if len(wire) > limit:
            answer.answer.clear()
            answer.flags |= dns.flags.TC
            wire = answer.to_wire()
        return wire

    def _serve_udp(self) -> None:
        while True:
            try:
                packet, sender = self._udp.recvfrom(4096)
            except OSError:
                return
            if not packet:  # it was shut down
                return
            wire = self._answer(packet, limit=1232)
            if wire is not None:
                with contextlib.suppress(OSError):
                    self._udp.sendto(wire, sender)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            self.over_tcp += 1
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                length = int.from_bytes(connection.recv(2, socket.MSG_WAITALL))
                wire = self._answer(connection.recv(length, socket.MSG_WAITALL), limit=65535)
                if wire is not None:
                    connection.sendall(len(wire).to_bytes(2) + wire)


@contextlib.contextmanager
def dns_server() -> Iterator[DnsServer]:
    server = DnsServer()
    try:
        yield server
    finally:
        server.close()
