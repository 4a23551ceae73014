"""7z, rar, tar and compressed files come apart inside their limits, and nothing in them is a path or a link."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile

import libarchive
import pytest

from gateway.core.reasons import sentences
from gateway.inspect import inspection
from gateway.inspect.classify import media
from gateway.inspect.document import MIB, Document, Limits
from gateway.inspect.formats import archive_stream, rar_headers
from gateway.inspect.scan import yara
from gateway.inspect.unpack import archives
from tests.support.parts import Parts
from tests.unit.inspect.test_corpus import CORPUS

RULES = yara.RuleSet.load()
NOTE = b"Invoice\nInvoice number: 1\nDate: 2026-01-31\nTotal: 1.00 EUR\n"


@pytest.fixture(autouse=True, scope="module")
def _names_in_utf8():
    archive_stream.preload()


def document(data, name="name", depth=0):
    return Document("d", io.BytesIO(data), len(data), name, "sftp", depth)


def inspect(data, name="name", depth=0, **limits):
    parts = Parts()
    verdict = inspection.inspect(
        document(data, name, depth), Limits(**limits), parts, rules=RULES, clamd=None
    )
    return verdict, parts


def codes(verdict):
    return ", ".join(scan.detail for scan in verdict.scans if scan.outcome != "clean")


def tar(*members, mode="w"):
    """A tar of (name, content) or of `TarInfo`s."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as made:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                made.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def made(kind, *members):
    """An archive that libarchive itself writes."""
    pieces = []
    with libarchive.custom_writer(
        lambda data: pieces.append(bytes(data)) or len(data), kind
    ) as writer:
        for name, content in members:
            writer.add_file_from_memory(name, len(content), content)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (tar(("a/发票.txt", NOTE), ("b.txt", b"second")), archive_stream.TAR),
        (tar(("a/发票.txt", NOTE), ("b.txt", b"second"), mode="w:gz"), archive_stream.GZIP),
        (tar(("a/发票.txt", NOTE), ("b.txt", b"second"), mode="w:bz2"), archive_stream.BZIP2),
        (tar(("a/发票.txt", NOTE), ("b.txt", b"second"), mode="w:xz"), archive_stream.XZ),
        (made("7zip", ("a/发票.txt", NOTE), ("b.txt", b"second")), archive_stream.SEVEN_ZIP),
    ],
)
def test_every_file_becomes_a_part_byte_for_byte_and_the_archive_is_what_they_came_in(
    data, media_type
):
    verdict, parts = inspect(data)
    assert verdict.media_type == media_type
    assert parts.taken == [("发票.txt", NOTE), ("b.txt", b"second")]
    assert verdict.classification.record_class == "correspondence"
    assert {scan.outcome for scan in verdict.scans} <= {"clean", "skipped"}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (gzip.compress(NOTE, mtime=0), "report.csv.gz"),
        (bz2.compress(NOTE), "report.csv.bz2"),
        (lzma.compress(NOTE), "report.csv.xz"),
    ],
)
def test_a_compressed_file_holds_one_document_with_its_own_name(data, name):
    assert inspect(data, name)[1].taken == [("report.csv", NOTE)]


def test_a_name_in_gb18030_is_read_as_its_maker_wrote_it_and_its_bytes_are_kept():
    raw = "发票-2025年3月.txt".encode("gb18030")
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, encoding="gb18030"
    ) as archive:
        info = tarfile.TarInfo("发票-2025年3月.txt")
        info.size = len(NOTE)
        archive.addfile(info, io.BytesIO(NOTE))
    _verdict, parts = inspect(buffer.getvalue())
    assert parts.taken == [("发票-2025年3月.txt", NOTE)]
    assert parts.name_bytes == [raw]


def test_links_and_devices_are_said_and_never_followed():
    def entry(name, kind, target=""):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    verdict, parts = inspect(
        tar(
            ("a.txt", NOTE),
            entry("soft", tarfile.SYMTYPE, "/etc/passwd"),
            entry("hard", tarfile.LNKTYPE, "a.txt"),
            entry("device", tarfile.CHRTYPE),
            entry("folder", tarfile.DIRTYPE),
        )
    )
    assert parts.names == ["a.txt"]
    for code in ("archive.symlink", "archive.hardlink", "archive.special_file"):
        assert code in codes(verdict)


def test_a_name_that_leads_out_is_one_segment_and_is_said():
    verdict, parts = inspect(tar(("../../etc/cron.d/x", NOTE), ("/absolute", NOTE)))
    assert parts.names == ["x", "absolute"]
    assert "archive.escaping_name" in codes(verdict)


def test_a_bomb_is_told_by_its_ratio_before_it_has_grown():
    verdict, parts = inspect(gzip.compress(b"A" * 64 * MIB))
    assert verdict.unreadable == "over_limit"
    assert parts.taken == []


@pytest.mark.parametrize(
    ("limits", "depth"),
    [({"max_expand_bytes": 100}, 0), ({"max_parts": 1}, 0), ({"max_depth": 2}, 2)],
)
def test_limits_on_bytes_number_and_depth_end_it(limits, depth):
    data = tar(("a", NOTE), ("b", NOTE))
    verdict, parts = inspect(data, depth=depth, **limits)
    assert verdict.unreadable == "over_limit"
    assert len(parts.taken) < 2


def test_a_file_of_holes_that_is_said_to_be_endless_ends_at_the_limit():
    info = tarfile.TarInfo("holes")
    info.size = 0
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "holes",
        "GNU.sparse.realsize": str(2**50),
    }
    sparse = f"1\n{2**50 - 1}\n1\n".encode().ljust(512, b"\0") + b"x"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info.size = len(sparse)
        archive.addfile(info, io.BytesIO(sparse))
    verdict, parts = inspect(buffer.getvalue())
    assert verdict.unreadable
    assert parts.taken == []


def test_compression_in_compression_is_one_layer_at_a_time():
    inner = gzip.compress(NOTE)
    for _ in range(6):
        inner = gzip.compress(inner)
    verdict, parts = inspect(inner, "x.gz")
    assert verdict.unreadable == "over_limit"
    assert parts.taken == []


@pytest.mark.parametrize("cut", [1, 30, 100, 700, 2000])
def test_what_is_cut_is_never_whole(cut):
    for data in (
        tar(("a.txt", NOTE * 40), mode="w:gz"),
        made("7zip", ("a.txt", os.urandom(3000))),
        tar(("a.txt", NOTE * 40)),
    ):
        if cut < len(data):
            verdict, _parts = inspect(data[:-cut] if cut < len(data) - 8 else data[:9])
            assert (
                verdict.unreadable or verdict.classification.record_class != "correspondence"
            ) or data.endswith(bytes(1024))


def test_system_files_in_it_are_passed_over_and_named_with_their_rule():
    verdict, parts = inspect(tar(("x/.DS_Store", b"\0\0\0\1Bud1" + bytes(50)), ("a.txt", NOTE)))
    assert parts.names == ["a.txt"]
    assert verdict.ignored == ["system-file: .DS_Store"]


def test_of_very_many_system_files_the_number_is_said():
    litter = [(f"{n}/.DS_Store", b"\0\0\0\1Bud1" + bytes(8)) for n in range(300)]
    verdict, parts = inspect(tar(("a.txt", NOTE), *litter))
    assert parts.names == ["a.txt"]
    assert len(verdict.ignored) == 200
    assert verdict.ignored[-1] == "more: 101 others"


def test_an_archive_of_nothing_is_for_a_person():
    assert inspect(tar())[0].classification.record_class != "correspondence"


def test_without_the_library_it_waits_and_the_reason_says_so(monkeypatch):
    monkeypatch.setattr(archive_stream, "_library", lambda: None)
    verdict, parts = inspect(tar(("a", NOTE)))
    assert parts.taken == []
    assert "archive.library_missing" in codes(verdict)
    reason = "unjudged:suspect:format:archive.library_missing"
    assert "machine" in sentences(reason).why


def test_a_text_with_octal_digits_at_the_place_of_the_sum_is_no_tar():
    data = bytearray(b"a" * 1024)
    data[148:156] = b"0012345\0"
    assert media.detect(document(bytes(data)))[1] != archive_stream.TAR


# ── the corpus ───────────────────────────────────────────────────────────────────────────────────

rars = pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of sample documents is not here")
RAR = CORPUS / "archives" / "libarchive"


@rars
@pytest.mark.parametrize(
    "name",
    [
        "test_read_format_rar5_encrypted.rar",
        "test_read_format_rar5_encrypted_filenames.rar",
        "test_read_format_rar5_solid_encrypted.rar",
        "test_read_format_rar4_encrypted_filenames.rar",
        "test_read_format_rar4_solid_encrypted.rar",
        "test_read_format_rar_encryption_data.rar",
    ],
)
def test_a_rar_with_a_password_is_told_from_a_damaged_one(name):
    verdict, _parts = inspect((RAR / name).read_bytes())
    assert verdict.unreadable == "encrypted"


@rars
def test_one_volume_of_several_is_never_taken_for_the_whole():
    first = (RAR / "test_read_format_rar5_multiarchive_solid.part01.rar").read_bytes()
    assert rar_headers.look(document(first)).volume
    assert inspect(first)[0].unreadable == "malformed"


@rars
@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("test_read_format_rar5_stored_manyfiles.rar", ["make_uue.tcl", "cebula.txt", "test.bin"]),
        ("test_read_format_rar_noeof.rar", ["test.txt"]),
        ("test_read_format_7zip_lzma2.7z", ["file1"]),
    ],
)
def test_archives_of_other_programs_open(name, members):
    verdict, parts = inspect((RAR / name).read_bytes())
    assert parts.names == members
    assert not verdict.unreadable


@rars
@pytest.mark.parametrize(
    "path",
    sorted(
        path
        for pattern in ("*.tar", "*.tbz", "*.txz", "*.tgz")
        for path in (CORPUS / "archives").rglob(pattern)
    ),
    ids=lambda path: path.name,
)
def test_every_file_that_pythons_tarfile_finds_is_found(path):
    data = path.read_bytes()
    verdict, parts = inspect(data, path.name)
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            theirs = [archive.extractfile(each).read() for each in archive if each.isreg()]
    except (tarfile.TarError, OverflowError):
        assert verdict.unreadable or "not_opened" in codes(verdict)
        return
    ours = [content for _, content in parts.taken]
    assert sorted(ours) == sorted(theirs) or verdict.unreadable or "not_opened" in codes(verdict)


@rars
@pytest.mark.parametrize(
    "path", sorted((CORPUS / "archives").rglob("*.zip*")), ids=lambda path: path.name
)
def test_every_file_that_pythons_zipfile_finds_is_found(path):
    data = path.read_bytes()
    verdict, parts = inspect(data, path.name)
    if verdict.unreadable:
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        theirs = [archive.read(each) for each in archive.infolist() if not each.is_dir()]
    assert sorted(content for _, content in parts.taken) == sorted(theirs)


def test_a_reader_that_fails_is_not_taken_for_the_end_of_the_archive():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 60_000:
                raise OSError("medium")
            return super().read(size)

    data = tar(("a", os.urandom(200_000)), ("b", NOTE))
    parts = Parts()
    found = archives.unpack(
        Document("d", Broken(data), len(data), "x", "sftp", 0), archive_stream.TAR, Limits(), parts
    )
    assert found.result.scan().outcome == "error"
    assert parts.taken == []
