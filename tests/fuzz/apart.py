"""The target of a fuzzer (atheris): taking messages and archives apart. Run by `test_apart.py`, and by hand:

    .venv/bin/python tests/fuzz/apart.py -max_total_time=600 FOLDER tests/fuzz/seeds

A seed's first byte says what is taken apart. Whatever the bytes are, names are segments and limits hold; a crash,
a hang or memory without bound is the fuzzer's to see.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["gateway.inspect", "gateway.names", "email"]):
    from gateway.inspect import unlock
    from gateway.inspect.document import Document, Limits, Unreadable
    from gateway.inspect.formats import archive_stream, zip_layout
    from gateway.inspect.unpack import archives, mail, outlook, tnef
    from gateway.names import safe_name

LIMITS = Limits(max_expand_bytes=1 << 20, max_parts=50, max_whole_bytes=1 << 20)
KINDS = (
    "mail",
    "tnef",
    "outlook",
    archive_stream.TAR,
    archive_stream.SEVEN_ZIP,
    archive_stream.RAR,
    archive_stream.GZIP,
    archive_stream.XZ,
    archive_stream.BZIP2,
    "zip",
    "locked",
)
PASSWORDS = ["wrong", "abc123"]


class Sink:
    """Counts what is taken out, and keeps none of it."""

    def __init__(self) -> None:
        self.parts = self.size = 0

    def add(self, name, chunks, name_bytes=b""):
        assert safe_name(name) == name, "a name that is no segment"
        assert isinstance(name_bytes, bytes)
        for chunk in chunks:
            self.size += len(chunk)
        self.parts += 1
        return str(self.parts)


def run(kind, data):
    """Take the bytes apart as that kind."""
    sink = Sink()
    document = Document("d", io.BytesIO(data), len(data), "name", "part", 0)
    match kind:
        case "mail":
            mail.unpack_mail(document, LIMITS, sink)
        case "tnef":
            tnef.unpack(document, LIMITS, sink)
        case "outlook":
            outlook.unpack(document, LIMITS, sink)
        case "zip":
            try:
                opened = zip_layout.open_zip(document, LIMITS, max_members=1000)
                zip_layout.unpack_zip(opened, document, LIMITS, sink)
            except Unreadable:
                pass
        case "locked":
            try:
                unlocked = unlock.open_locked(document, PASSWORDS, LIMITS)
            except Unreadable:
                return
            if unlocked is not None and unlocked.kind in unlock.MEDIA_TYPES:
                archives.unpack(
                    document, unlock.MEDIA_TYPES[unlocked.kind], LIMITS, sink, [unlocked.password]
                )
        case _:
            archives.unpack(document, kind, LIMITS, sink)
    assert sink.parts <= LIMITS.max_parts, "more parts than allowed"
    assert sink.size <= LIMITS.max_expand_bytes, "more bytes than allowed"


def one_input(data):
    """What the fuzzer calls."""
    if data:
        run(KINDS[data[0] % len(KINDS)], data[1:])


if __name__ == "__main__":
    archive_stream.preload()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
