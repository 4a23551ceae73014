"""What lies in a backup: names, sealed objects, manifests, amendments; and the way there through a courier."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import create_engine, insert, select

from gateway.config import BackupSection, BackupTarget, Config, decode
from gateway.core.outbound.backup.target import Listing
from gateway.core.outbound.transfers import BULK, TransferQueue
from gateway.courier.transfers import PROBE, Places, perform
from gateway.errors import ConfigurationError
from gateway.wire.messages import Transfer, TransferReport
from vault.backup import amendments
from vault.backup import format as backup_format
from vault.catalogue.schema import backup_amendments, backups, metadata
from vault.crypto.sealed import CHUNK
from vault.errors import IntegrityError, PlaceError, PlaceMissing
from vault.ledger.note import verifier_key
from vault.storage.places import check_name

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
STORE = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
BACKUP = "01M8149YW8X55Y79XADRANZ0F7"
SECRET = bytes(range(32))
ORIGIN = f"strongroom.invalid/{STORE.lower()}"


def sealed(data: bytes, name: str = "amendments/000000000001", store: str = STORE) -> bytes:
    with tempfile.TemporaryFile() as file:
        writer = backup_format.ObjectWriter(file.fileno(), SECRET, store, name)
        writer.write(data)
        size = writer.finish()
        found = os.pread(file.fileno(), size + 1, 0)
    assert len(found) == size
    return found


def opened(
    data: bytes,
    name: str = "amendments/000000000001",
    store: str = STORE,
    secret: bytes = SECRET,
) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        with backup_format.open_object(file.fileno(), secret, store, name) as reader:
            return reader.readall()


# ── names ────────────────────────────────────────────────────────────────────────────────────────


def test_every_name_of_a_backup_is_one_that_a_place_takes():
    for name in (
        backup_format.MARKER,
        backup_format.blob_name(STORE),
        backup_format.catalogue_name(BACKUP),
        backup_format.manifest_name(BACKUP),
        backup_format.amendment_name(10**12 - 1),
    ):
        assert check_name(name) == name
    assert (
        backup_format.blob_name(STORE).split("/")[1]
        == hashlib.sha256(STORE.encode()).hexdigest()[:2]
    )


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("amendments/000000000007", 7),
        ("amendments/7", None),
        ("amendments/0000000000007", None),
        ("amendments/00000000000x", None),
        ("blobs/000000000007", None),
        ("amendments/000000000007/x", None),
    ],
)
def test_only_twelve_digits_are_an_amendment_s_number(name, number):
    assert backup_format.amendment_number(name) == number


def test_only_what_has_a_manifest_is_a_backup_and_the_oldest_comes_first():
    names = [
        f"snapshots/{BACKUP}/manifest",
        f"snapshots/{BACKUP}/catalogue",
        f"snapshots/{STORE}/manifest",
        "snapshots/01M8149YW8X55Y79XADRANZ0F8/catalogue",
        "snapshots/not-an-id/manifest",
        "blobs/aa/manifest",
    ]
    assert backup_format.backups_in(names) == [STORE, BACKUP]


# ── sealed objects ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 16 * CHUNK, 40 * CHUNK + 5])
def test_an_object_opens_to_the_bytes_it_was_given(size):
    data = os.urandom(size)
    assert opened(sealed(data)) == data


@pytest.mark.parametrize(
    "change",
    [
        {"name": "amendments/000000000002"},
        {"name": f"snapshots/{BACKUP}/catalogue"},
        {"store": BACKUP},
        {"secret": bytes(32)},
    ],
)
def test_an_object_does_not_open_under_another_name_store_or_secret(change):
    with pytest.raises(IntegrityError):
        opened(sealed(b"x" * 100), **change)


def test_no_byte_of_an_object_can_be_changed_cut_or_added():
    whole = sealed(b"some lines")
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(IntegrityError):
            opened(changed)
    for length in range(len(whole)):
        with pytest.raises(IntegrityError):
            opened(whole[:length])
    with pytest.raises(IntegrityError):
        opened(whole + b"\0")


# ── manifests ────────────────────────────────────────────────────────────────────────────────────

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
VKEY = verifier_key(ORIGIN, KEY.public_key())
MANIFEST = backup_format.Manifest(
    backup=BACKUP, catalogue_sha256="00" * 32, catalogue_size=5, checkpoint="c\n",
    created_at=NOW.isoformat(), documents=3, late=(backup_format.Late(STORE, 9, "11" * 32),), ledger_size=7,
    store=STORE, target="disk", vkey=VKEY,
)  # fmt: skip


def read(data: bytes, **change) -> backup_format.Manifest:
    given = {"secret": SECRET, "vkey": VKEY, "store_id": STORE, "backup_id": BACKUP, **change}
    return backup_format.read_manifest(data, **given)


def test_a_manifest_comes_back_as_it_was_signed():
    data = backup_format.sign_manifest(MANIFEST, SECRET, ORIGIN, KEY)
    assert msgspec.structs.replace(read(data), tag="") == MANIFEST
    assert data.startswith(b"strongroom-backup-v1\n")


def test_no_byte_of_a_manifest_can_be_changed_cut_or_added():
    data = backup_format.sign_manifest(MANIFEST, SECRET, ORIGIN, KEY)
    for at in range(len(data)):
        with pytest.raises(IntegrityError):
            read(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(IntegrityError):
            read(data[:at])
    with pytest.raises(IntegrityError):
        read(data + b"x\n")


@pytest.mark.parametrize(
    "change", [{"store_id": BACKUP}, {"backup_id": STORE}, {"secret": bytes(32)}]
)
def test_a_manifest_is_of_one_store_backup_and_keyring(change):
    with pytest.raises(IntegrityError):
        read(backup_format.sign_manifest(MANIFEST, SECRET, ORIGIN, KEY), **change)


def test_after_a_change_of_the_ledger_s_key_the_keyring_vouches_for_the_old_one_and_nobody_else_can():
    present = verifier_key(ORIGIN, Ed25519PrivateKey.generate().public_key())
    data = backup_format.sign_manifest(MANIFEST, SECRET, ORIGIN, KEY)
    assert read(data, vkey=present).vkey == VKEY
    # A stranger's key in a manifest of their own making, without the keyring's secret.
    stranger = Ed25519PrivateKey.generate()
    own = msgspec.structs.replace(MANIFEST, vkey=verifier_key(ORIGIN, stranger.public_key()))
    with pytest.raises(IntegrityError):
        read(backup_format.sign_manifest(own, bytes(32), ORIGIN, stranger))


# ── amendments ───────────────────────────────────────────────────────────────────────────────────

HEAD = amendments.Head(1, 0, STORE, "disk", NOW.isoformat(), 5)
_line = msgspec.json.Encoder(order="sorted").encode


def lines_of(data: bytes, number: int = 1) -> list[amendments.Line]:
    name = backup_format.amendment_name(number)
    with tempfile.TemporaryFile() as file:
        file.write(sealed(data, name))
        file.flush()
        with backup_format.open_object(file.fileno(), SECRET, STORE, name) as reader:
            return list(amendments.read(reader, number, STORE))


def test_an_amendment_is_read_line_by_line():
    wrapping = amendments.Wrapping(STORE, "0" * 32, bytes(61))
    stone = amendments.Tombstone(BACKUP, STORE, STORE, NOW.isoformat())
    closing = amendments.Closing(STORE)
    given = [HEAD, *[wrapping, stone] * 9000, closing]
    assert lines_of(b"".join(_line(each) + b"\n" for each in given)) == given


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}\n",
        _line(HEAD),  # a last line without its end
        _line(amendments.Closing(STORE)) + b"\n",  # no head
        (_line(HEAD) + b"\n") * 2,
        _line(msgspec.structs.replace(HEAD, number=2)) + b"\n",
        _line(msgspec.structs.replace(HEAD, store=BACKUP)) + b"\n",
        _line(HEAD) + b"\n" + b'{"type":"wrapping"}\n',
        _line(HEAD) + b"\n" + b" " * 10_000,
    ],
)
def test_what_is_no_amendment_is_refused(data):
    with pytest.raises(IntegrityError):
        lines_of(data)


def test_only_targets_with_a_backup_made_or_under_way_are_told():
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    row = {
        "started_at": "", "ledger_size": 0, "documents": 0, "blobs": 0, "bytes": 0,
        "manifest_digest": "", "failure": "",
    }  # fmt: skip
    with engine.begin() as connection:
        for number, (target, state) in enumerate(
            [("a", "done"), ("a", "done"), ("b", "running"), ("c", "failed"), ("d", "removed"), ("e", "done")]
        ):  # fmt: skip
            connection.execute(
                insert(backups), {"id": str(number), "target": target, "state": state, **row}
            )
        told = backup_format.request_amendment(
            connection, ["a", "b", "c", "d", "f"], ["g2", "g1", "g1"], NOW
        )
        assert told == 2
        rows = connection.execute(select(backup_amendments)).all()
    assert {(each.target, each.groups) for each in rows} == {
        ("a", '["g1","g2"]'),
        ("b", '["g1","g2"]'),
    }


# ── snapshots ────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_is_of_one_moment_plain_once_and_without_a_journal(tmp_path):
    source = sqlite3.connect(tmp_path / "catalogue.sqlite3")
    source.execute("PRAGMA journal_mode=WAL")
    source.execute("CREATE TABLE t (x)")
    source.execute("INSERT INTO t VALUES (1)")
    source.commit()
    copy = tmp_path / "catalogue.sqlite3.backup-x"
    backup_format.take_snapshot(tmp_path / "catalogue.sqlite3", copy)
    source.execute("INSERT INTO t VALUES (2)")
    source.commit()
    with backup_format.snapshot_connection(copy) as connection:
        assert connection.exec_driver_sql("SELECT x FROM t").scalars().all() == [1]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.glob("*.backup-x*")} == {copy.name}
    with pytest.raises(FileExistsError):
        backup_format.take_snapshot(tmp_path / "catalogue.sqlite3", copy)
    source.close()


# ── the way there ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def places(tmp_path):
    (tmp_path / "place").mkdir()
    target = BackupTarget(name="disk", directory=str(tmp_path / "place"))
    opened = Places(Config(backup=BackupSection(targets=[target])))
    yield opened
    opened.close()


def do(places: Places, verb: str, name: str, content: bytes = b"") -> tuple[TransferReport, bytes]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        report = perform(Transfer(1, "disk", verb, name), file.fileno(), places)  # type: ignore[arg-type]
        return report, os.pread(file.fileno(), 1 << 24, 0)


@pytest.mark.parametrize(
    "size", [0, 1, PROBE - 1, PROBE, PROBE + 1, 2 * PROBE, 3 * PROBE + 7, 1 << 21]
)
def test_a_probe_has_the_whole_size_and_digest_and_both_ends_at_their_places(places, size):
    data = os.urandom(size)
    put, _ = do(places, "put", "blobs/aa/x", data)
    assert (put.outcome, put.size, put.sha256) == ("done", size, hashlib.sha256(data).digest())
    got, found = do(places, "get", "blobs/aa/x")
    assert (got.size, got.sha256, found) == (size, put.sha256, data)
    probe, found = do(places, "probe", "blobs/aa/x")
    assert (probe.size, probe.sha256) == (size, put.sha256)
    assert len(found) == size
    assert found[:PROBE] == data[:PROBE]
    assert found[-PROBE:] == data[-PROBE:]


def test_a_carry_that_can_t_be_done_says_which_way(places, tmp_path):
    assert do(places, "get", "blobs/aa/x")[0].outcome == "missing"
    assert do(places, "remove", "blobs/aa/x")[0].outcome == "done"
    unknown = perform(Transfer(1, "nobody", "remove", "a"), None, places)
    assert (unknown.outcome, "nobody" in unknown.detail) == ("failed", True)
    (tmp_path / "place").rmdir()
    assert do(places, "names", "blobs")[0].outcome == "failed"


def test_a_listing_finds_sizes_by_name_and_keeps_order(places):
    for number in (3, 1, 2):
        do(places, "put", f"blobs/aa/{number}", b"x" * number)
    do(places, "put", "other", b"")
    with tempfile.TemporaryFile() as file:
        perform(Transfer(1, "disk", "names", "blobs"), file.fileno(), places)
        found = Listing(file)
    assert list(found.names()) == ["blobs/aa/1", "blobs/aa/2", "blobs/aa/3"]
    assert [found.size(f"blobs/aa/{number}") for number in (1, 2, 3, 4)] == [1, 2, 3, None]
    found.close()


async def test_every_carry_ends_even_if_the_courier_goes_away_or_never_comes():
    queue = TransferQueue(patience=0.05)
    with pytest.raises(PlaceError, match="courier"):
        await queue.transfer("disk", "remove", "a")
    # Claimed, it may take longer than anyone waits to be claimed; then the courier is gone.
    carrying = asyncio.create_task(queue.transfer("disk", "remove", "a"))
    claimed = await queue.worker().claim()
    assert claimed is not None
    await asyncio.sleep(0.2)
    assert not carrying.done()
    queue.lost(claimed[0].transfer_id)
    with pytest.raises(PlaceError, match="courier gone"):
        await carrying
    # A report that nobody waits for changes nothing; "missing" is an answer of its own.
    queue.report(TransferReport(claimed[0].transfer_id, "done"))
    file = tempfile.TemporaryFile()  # noqa: SIM115  closed while it is carried
    carrying = asyncio.create_task(queue.transfer("disk", "get", "a", file.fileno()))
    claimed = await queue.worker().claim()
    assert claimed is not None
    assert claimed[1] is not None
    os.close(claimed[1])
    file.close()
    queue.report(TransferReport(claimed[0].transfer_id, "missing"))
    with pytest.raises(PlaceMissing):
        await carrying
    assert await queue.worker().claim(wait=0.01) is None


@pytest.mark.parametrize("verb", ["put", "get", "probe"])
async def test_a_carry_ends_when_nothing_moves_any_more_and_goes_on_as_long_as_it_moves(
    tmp_path, verb
):
    """A dead mount: the courier hangs, his connection is dropped, and a late report changes nothing."""
    dropped: list[str] = []
    queue = TransferQueue(patience=5, stalled=0.2)
    with (tmp_path / "file").open("wb+", buffering=0) as file:
        file.write(b"x" * 1000)
        file.seek(0)
        carrying = asyncio.create_task(queue.transfer("disk", verb, "a", file.fileno()))
        claimed = await queue.worker(lambda: dropped.append(verb)).claim()
        assert claimed is not None
        carry, descriptor = claimed
        assert descriptor is not None
        # Slow, and moving: three times as long as it may stand still.
        for done in range(1, 7):
            await asyncio.sleep(0.1)
            if verb == "get":
                os.pwrite(descriptor, b"y", 1000 + done)
            else:
                os.lseek(descriptor, done, os.SEEK_SET)
            assert not carrying.done()
        async with asyncio.timeout(2):
            with pytest.raises(PlaceError, match="progress"):
                await carrying
        assert dropped == [verb]
        os.close(descriptor)
        queue.report(TransferReport(carry.transfer_id, "done"))


async def test_a_carry_without_a_file_ends_too_when_its_courier_hangs():
    queue = TransferQueue(patience=5, stalled=0.1)
    carrying = asyncio.create_task(queue.transfer("disk", "remove", "a"))
    assert await queue.worker().claim() is not None
    async with asyncio.timeout(2):
        with pytest.raises(PlaceError, match="progress"):
            await carrying


@pytest.mark.parametrize("verb", ["put", "probe"])
def test_what_a_courier_has_done_is_seen_from_its_file(places, verb):
    """Both ends share the open file: its position says how far a carry is."""
    content = os.urandom(3 << 20)
    do(places, "put", "blobs/a", content)
    with tempfile.TemporaryFile() as file:
        file.write(content if verb == "put" else b"")
        file.flush()
        file.seek(0)
        ours = os.dup(file.fileno())
        perform(Transfer(1, "disk", verb, "blobs/a"), file.fileno(), places)
        assert os.lseek(ours, 0, os.SEEK_CUR) == len(content)
        os.close(ours)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[backup.targets]]\nname='a'\n", "exactly one of"),
        ("[[backup.targets]]\nname='a'\ndirectory='x'\ns3='s3://bucket'\n", "exactly one of"),
        ("[[backup.targets]]\nname='a'\ndirectory='x'\nkeep_days=0\n", "keep_days"),
        ("[[backup.targets]]\nname='a'\ndirectory='x'\nevery_hours=-1\n", "every_hours"),
        ("[backup]\nverify_percent=0\n", "verify_percent"),
        ("[[backup.targets]]\nname='a'\ndirectory='x'\n" * 2, "distinct names"),
    ],
)
def test_a_wrong_target_is_told_with_its_key(text, word):
    with pytest.raises(ConfigurationError, match=word):
        decode(text.encode(), Path("config.toml"))


async def test_what_is_of_bulk_takes_some_of_the_hands_only_and_loses_no_patience_meanwhile():
    """A long backup keeps nothing else waiting, and one backup does not fail for another's sake."""
    queue = TransferQueue(patience=0.05, stalled=5)
    many = [
        asyncio.create_task(queue.transfer("disk", "remove", f"blobs/{n}", bulk=True))
        for n in range(BULK + 1)
    ]
    await asyncio.sleep(0)
    claimed = [await queue.worker().claim() for _ in range(BULK)]
    assert await queue.worker().claim(wait=0.01) is None
    urgent = asyncio.create_task(queue.transfer("disk", "remove", "keyring"))
    last = await queue.worker().claim()
    assert last is not None
    assert last[0].name == "keyring"
    await asyncio.sleep(0.3)  # far longer than its patience, but others are at work
    assert not many[-1].done()
    for each in (*claimed, last):
        assert each is not None
        queue.report(TransferReport(each[0].transfer_id, "done"))
    await urgent
    rest = await queue.worker().claim()
    assert rest is not None
    queue.report(TransferReport(rest[0].transfer_id, "done"))
    await asyncio.gather(*many)
