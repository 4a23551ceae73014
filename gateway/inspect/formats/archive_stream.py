"""Archives read by libarchive, in the jail: 7z, rar, tar, single compressed files, and zips with a password.

Promises: only the formats and filters named here are ever enabled, so that the rest of the library's parsers
can't be reached; bytes come from the document by callback, nothing is written, nothing is held but a window;
names are bytes and never paths. What the library says is a failure ends as `Unreadable`, never as an end of
the archive.
Leaves out: what becomes of members (`unpack.archives`), and limits on their number and bytes, which the
caller counts while it reads; memory and processor time are the sandbox's.

Rules: libarchive is a library of the system and may be missing. It is loaded once, by the manager, before it
forks (`preload`): a worker in its sandbox looks for nothing. Names inside 7z and rar are UTF-16, which the
library converts into the process's character set: `preload` makes that UTF-8.

Sources: libarchive's manual pages archive_read_open(3), archive_read_format(3), archive_entry_paths(3).
"""

from __future__ import annotations

import contextlib
import ctypes
import locale
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, Self

from gateway.inspect.document import KIB, Document, Unreadable

LIBRARY: Final = "libarchive.so.13"
SEVEN_ZIP: Final = "application/x-7z-compressed"
RAR: Final = "application/vnd.rar"
TAR: Final = "application/x-tar"
GZIP: Final = "application/gzip"
BZIP2: Final = "application/x-bzip2"
XZ: Final = "application/x-xz"
ZIP: Final = "application/zip"

# What is enabled for each, and nothing else. `raw` is a compressed file that holds one file and no archive.
_FORMATS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    SEVEN_ZIP: (("7zip",), ()),
    RAR: (("rar", "rar5"), ()),
    TAR: (("tar",), ()),
    GZIP: (("tar", "raw"), ("gzip",)),
    BZIP2: (("tar", "raw"), ("bzip2",)),
    XZ: (("tar", "raw"), ("xz",)),
    ZIP: (("zip_seekable",), ()),
}
OPENED: Final = frozenset(_FORMATS) - {ZIP}
"""Media types that are taken apart this way; zip has a reader of its own unless a password is needed."""

_READ: Final = 64 * KIB
_PIECE: Final = 256 * KIB
_FILTERS: Final = (
    2  # the one that is enabled, and libarchive's own "none"; gzip in gzip is a bomb's way
)
_EOF: Final = 1
_RAW: Final = b"raw"

_SKIP: Final = ctypes.CFUNCTYPE(
    ctypes.c_longlong, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_longlong
)

Kind = Literal["file", "folder", "symlink", "hardlink", "special"]


@dataclass(frozen=True, slots=True)
class Member:
    """An entry. `name` as it stands in the archive; `size` None where the archive does not state it."""

    name: bytes
    kind: Kind
    size: int | None
    encrypted: bool
    raw: bool  # the one file of a compressed file that is no archive: it has no name of its own


@cache
def _library() -> Any:
    """The binding with what it lacks; None where the system has no libarchive."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    # By name: the binding would start programs to look for it.
    os.environ.setdefault("LIBARCHIVE", LIBRARY)
    try:
        from libarchive import ffi
    except (ImportError, OSError, AttributeError):
        return None
    pointer, number = ffi.c_archive_p, ctypes.c_int
    try:
        ffi.get_read_format_function("rar5")
        ffi.get_read_format_function("zip_seekable")
        ffi.ffi("entry_is_encrypted", [pointer], number)
        ffi.ffi("read_has_encrypted_entries", [pointer], number)
        ffi.ffi("read_set_skip_callback", [pointer, _SKIP], number, ffi.check_int)
    except (AttributeError, ValueError):
        return None  # older than 3.4, which knows RAR 5
    return ffi


def available() -> bool:
    """Whether libarchive is there."""
    return _library() is not None


def preload() -> None:
    """Load the library now, and have names converted to UTF-8."""
    if available():
        for name in ("C.UTF-8", "en_US.UTF-8"):
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_CTYPE, name)
                return


class ArchiveStream:
    """An archive, read from its beginning to its end. `close` it, or use it in a `with`."""

    def __init__(self, document: Document, media_type: str, passwords: Sequence[str] = ()) -> None:
        """Open an archive (raises Unreadable).

        Args:
            media_type: one of those named above: nothing else is tried.
            passwords: tried where members are encrypted (zip only).
        """
        ffi = _library()
        if ffi is None:
            raise RuntimeError("libarchive: expected it loaded, found none")
        self._ffi = ffi
        self._source = document.source
        self._size = document.size
        self._held = b""
        self._error: BaseException | None = None
        # References: the library calls them as long as the archive is open.
        self._calls = (
            ffi.READ_CALLBACK(self._read),
            ffi.SEEK_CALLBACK(self._seek),
            _SKIP(self._skip),
        )
        self._source.seek(0)
        self._archive = ffi.read_new()
        self._buffer = ctypes.create_string_buffer(_PIECE)
        self.unlocks = bool(passwords)
        try:
            formats, filters = _FORMATS[media_type]
            for name in formats:
                ffi.get_read_format_function(name)(self._archive)
            for name in filters:
                ffi.get_read_filter_function(name)(self._archive)
            for password in passwords:
                if password and "\0" not in password:
                    ffi.read_add_passphrase(self._archive, password.encode())
            ffi.read_set_seek_callback(self._archive, self._calls[1])
            ffi.read_set_skip_callback(self._archive, self._calls[2])
            with self._said("open"):
                ffi.read_open(self._archive, None, ffi.NO_OPEN_CB, self._calls[0], ffi.NO_CLOSE_CB)
            if ffi.filter_count(self._archive) > _FILTERS:
                raise Unreadable("over_limit", "archive: expected one compression, found several")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free what the library holds."""
        archive, self._archive = self._archive, None
        if archive is not None:
            with contextlib.suppress(self._ffi.ArchiveError):
                self._ffi.read_free(archive)

    def __iter__(self) -> Iterator[Member]:
        """The entries; the bytes of one are read, or not, before the next is asked for."""
        ffi = self._ffi
        entry = ctypes.c_void_p()
        while True:
            with self._said("header"):
                if ffi.read_next_header(self._archive, ctypes.byref(entry)) == _EOF:
                    return
            yield Member(
                ffi.entry_pathname(entry) or b"",
                _kind(ffi, entry),
                ffi.entry_size(entry) if ffi.entry_size_is_set(entry) else None,
                bool(ffi.entry_is_encrypted(entry)),
                (ffi.format_name(self._archive) or b"") == _RAW,
            )

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the present entry (raises Unreadable)."""
        while True:
            with self._said("data"):
                length = self._ffi.read_data(self._archive, self._buffer, _PIECE)
            if length <= 0:
                if length < 0:
                    raise Unreadable("malformed", "archive: expected intact data, found a warning")
                return
            yield self._buffer.raw[:length]

    @contextlib.contextmanager
    def _said(self, what: str) -> Iterator[None]:
        """Translate what the library raises; what went wrong while it read the document goes first."""
        try:
            yield
        except self._ffi.ArchiveError as error:
            if self._error is not None:
                raise self._error from None
            # Before a format is chosen the library has nobody to ask, and crashes on the question.
            locked = what != "open" and self._ffi.read_has_encrypted_entries(self._archive) > 0
            # For RAR 5 the library has no other sign of it than its sentence.
            locked = locked or "ncrypt" in str(error) or "passphrase" in str(error)
            raise Unreadable(
                "encrypted" if locked else "malformed",
                f"archive: expected its {what} to be read, found error {error.errno}",
            ) from None

    # ── called by the library ──

    def _read(self, _archive: object, _context: object, buffer: Any) -> int:
        try:
            self._held = self._source.read(_READ) or b""
        except BaseException as error:  # noqa: BLE001  nothing may be raised through the library
            self._error = error
            return -30
        buffer[0] = ctypes.cast(ctypes.c_char_p(self._held), ctypes.c_void_p)
        return len(self._held)

    def _seek(self, _archive: object, _context: object, offset: int, whence: int) -> int:
        try:
            base = {0: 0, 1: self._source.tell(), 2: self._size}[whence]
            if not 0 <= base + offset <= self._size:
                return -30
            return self._source.seek(base + offset)
        except BaseException as error:  # noqa: BLE001
            self._error = error
            return -30

    def _skip(self, _archive: object, _context: object, request: int) -> int:
        try:
            at = self._source.tell()
            return self._source.seek(min(self._size, at + max(0, request))) - at
        except BaseException as error:  # noqa: BLE001
            self._error = error
            return -30


def _kind(ffi: Any, entry: ctypes.c_void_p) -> Kind:
    mode = ffi.entry_filetype(entry)
    if ffi.entry_hardlink(entry):
        return "hardlink"
    if stat.S_ISLNK(mode) or ffi.entry_symlink(entry):
        return "symlink"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if mode == 0 or stat.S_ISREG(mode) else "special"
