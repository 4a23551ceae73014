"""What every place promises, tested against each: a folder, OpenSSH's server, an S3 service (moto)."""

from __future__ import annotations

import os
import stat
import subprocess
import urllib.request
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from gateway.config import KeyringCopy
from gateway.courier.places import s3 as s3_place
from gateway.courier.places.open import open_place
from gateway.process.secret import read_secret
from tests.support.sshd import MISSING, Sshd, free_port, ssh_key
from vault.errors import PlaceError, PlaceMissing
from vault.storage.places import MAX_PART, PIECE, DirectoryPlace

BAD_NAMES = ["", ".", "..", "/a", "a/", "a//b", "a/../b", ".hidden", "a/.b", "a b", "a\n", "a\0", "é",
             "a/b/c/d/e/f/g/h/i", "x" * (MAX_PART + 1), "a\\b", "../../etc/passwd"]  # fmt: skip
GOOD_NAMES = [
    "a",
    "A-1_b.c",
    "_",
    "a/b/c/d/e/f/g/h",
    "blobs/0f/01JD000000000000000000000A",
    "x" * MAX_PART,
]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    if MISSING:
        pytest.skip(MISSING)
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    secret = tmp_path_factory.mktemp("s3") / "credentials"
    secret.touch(mode=0o600)
    secret.write_text('# for tests\naccess_key_id = "test"\nsecret_access_key = "test"\n')
    yield f"http://{host}:{port}", secret
    server.stop()


def bucket(endpoint: str, name: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).close()


def section(request, kind: str, tmp_path: Path) -> tuple[KeyringCopy, Path | None]:
    """A section of the configuration for an empty place, and the folder behind it if there is one."""
    if kind == "directory":
        folder = tmp_path / "place"
        folder.mkdir()
        return KeyringCopy(name="there", directory=str(folder)), folder
    if kind == "sftp":
        server = request.getfixturevalue("sshd")
        folder = tmp_path / "place"
        folder.mkdir()
        return (
            KeyringCopy(
                name="there",
                sftp=server.address(folder),
                host_key=server.host_key,
                key=str(server.key),
            ),
            folder,
        )
    endpoint, secret = request.getfixturevalue("s3")
    name = f"b{abs(hash(tmp_path.name)) % 10**12}"
    bucket(endpoint, name)
    prefix = "" if kind == "s3" else "/below/here"
    return (
        KeyringCopy(name="there", s3=f"s3://{name}{prefix}", endpoint=endpoint, credentials=str(secret)),
        None,
    )  # fmt: skip


@pytest.fixture(params=["directory", "sftp", "s3", "s3-prefix"])
def place(request, tmp_path):
    configured, _ = section(request, request.param, tmp_path)
    opened = open_place(configured, Path)
    yield opened
    opened.close()
    opened.close()  # twice is allowed


@pytest.fixture(params=["directory", "sftp"])
def folder_place(request, tmp_path):
    """A place with a folder behind it that the test can look into: (place, folder)."""
    configured, folder = section(request, request.param, tmp_path)
    opened = open_place(configured, Path)
    yield opened, folder
    opened.close()


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(place, name: str) -> bytes:
    return b"".join(place.get(name))


# ── the contract ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_name_is_refused_by_every_call_before_anything_is_touched(place, name):
    for call in (
        lambda: place.put(name, [b"x"]),
        lambda: read(place, name),
        lambda: place.remove(name),
        lambda: list(place.names(name)) if name not in {"", "a/"} else place.remove(name),
    ):
        with pytest.raises(RuntimeError):
            call()
    assert list(place.names()) == []


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_what_was_put_under_a_name_comes_back_and_is_listed_with_its_size(place, name):
    place.put(name, [b"sealed ", b"", b"bytes"])
    assert read(place, name) == b"sealed bytes"
    assert list(place.names()) == [(name, 12)]


@pytest.mark.parametrize("size", [0, 1, 32768, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
def test_lengths_around_every_boundary_come_back_in_pieces_of_at_most_one_mebibyte(place, size):
    data = os.urandom(size)
    pieces = [data[at : at + 100_000] for at in range(0, size, 100_000)]
    place.put("a/b", iter(pieces))
    found = list(place.get("a/b"))
    assert b"".join(found) == data
    assert all(0 < len(piece) <= PIECE for piece in found)


def test_an_object_without_content_is_there_all_the_same(place):
    place.put("empty", [])
    assert list(place.get("empty")) == []
    assert list(place.names()) == [("empty", 0)]


def test_putting_again_replaces_with_longer_and_with_shorter_content(place):
    for content in (b"first", b"a longer second", b"3"):
        place.put("k", [content])
        assert read(place, "k") == content
    assert list(place.names()) == [("k", 1)]


@pytest.mark.parametrize("before", [0, 3, 20])
def test_a_source_that_fails_passes_its_own_error_through_and_leaves_the_old_content(place, before):
    place.put("k", [b"old"])

    def failing():
        for _ in range(before):
            yield b"n" * PIECE
        raise FileNotFoundError("the source's own")

    with pytest.raises(FileNotFoundError, match="the source's own"):
        place.put("k", failing())
    assert read(place, "k") == b"old"
    assert list(place.names()) == [("k", 3)]
    place.put("k", [b"new"])  # the place is as usable as before
    assert read(place, "k") == b"new"


def test_a_name_that_was_never_put_is_missing_and_not_an_unreachable_place(place):
    place.put("a/b", [b"x"])
    for name in ("a/c", "b", "b/c"):
        with pytest.raises(PlaceMissing):
            read(place, name)
        assert place.remove(name) is False
    assert list(place.names("b")) == []


def test_removing_says_whether_it_was_there_and_it_is_gone_afterwards(place):
    place.put("a/b", [b"x"])
    assert place.remove("a/b") is True
    assert place.remove("a/b") is False
    with pytest.raises(PlaceMissing):
        read(place, "a/b")
    assert list(place.names()) == []


def test_names_are_listed_below_a_folder_and_not_below_one_that_only_begins_alike(place):
    for name in ("blobs/aa/1", "blobs/ab/2", "blobsx/3", "top"):
        place.put(name, [name.encode()])
    everything = [("blobs/aa/1", 10), ("blobs/ab/2", 10), ("blobsx/3", 8), ("top", 3)]
    assert sorted(place.names()) == everything
    assert sorted(place.names("blobs")) == everything[:2]
    assert sorted(place.names("blobs/")) == everything[:2]
    assert sorted(place.names("blobs/aa")) == everything[:1]


def test_a_second_opening_sees_what_the_first_put(request, place, tmp_path):
    place.put("k", [b"kept"])
    place.close()
    assert read(place, "k") == b"kept"  # closing lets go of connections, not of the place


def test_twenty_names_and_more_than_one_page_of_them_are_all_listed(place):
    names = [f"n/{number:03}" for number in range(120)]
    for name in names:
        place.put(name, [b"x"])
    assert sorted(name for name, _ in place.names("n")) == names


# ── places with a folder behind them ─────────────────────────────────────────────────────────────


def test_a_folder_that_is_not_there_is_an_unreachable_place_and_is_never_made(folder_place):
    place, folder = folder_place
    place.put("a/b", [b"x"])
    folder.rename(folder.with_name("away"))
    for call in (
        lambda: place.put("a/b", [b"y"]),
        lambda: place.put("c", [b"y"]),
        lambda: read(place, "a/b"),
        lambda: list(place.names()),
        lambda: place.remove("a/b"),
    ):
        with pytest.raises(PlaceError, match="mounted"):
            call()
    assert not folder.exists()
    folder.with_name("away").rename(folder)
    assert read(place, "a/b") == b"x"


def test_files_are_nobody_else_s_and_so_are_the_folders_made_for_them(folder_place):
    place, folder = folder_place
    place.put("a/b", [b"x"])
    assert stat.S_IMODE((folder / "a" / "b").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o700


def test_what_a_crashed_put_left_is_no_name_and_goes_with_the_next_put(folder_place):
    place, folder = folder_place
    place.put("k", [b"old"])
    place.put("probe", interrupted := watching(folder))
    (leftover,) = interrupted.seen
    place.remove("probe")
    (folder / leftover.replace("probe", "k")).write_bytes(b"half of something longer than the next")
    assert list(place.names()) == [("k", 3)]
    place.put("k", [b"new"])
    assert listing(folder) == ["k"]
    assert read(place, "k") == b"new"


def test_what_a_crashed_put_left_goes_with_the_removal_too(folder_place):
    """A leftover of a keyring is a copy of keys: "removed" has to include it, even if the name itself is gone."""
    place, folder = folder_place
    place.put("probe", interrupted := watching(folder))
    place.remove("probe")
    (leftover,) = interrupted.seen
    (folder / leftover).write_bytes(b"half")
    assert place.remove("probe") is False
    assert listing(folder) == []


class watching:  # noqa: N801  reads as a word where it is used
    """Pieces that note which files are in a folder while they are being put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: set[str] = set()

    def __iter__(self):
        yield b"one"
        self.seen.update(listing(self.folder))
        self.seen.discard("k")
        yield b"two"


def test_other_people_s_files_at_the_place_are_left_alone_and_not_listed(folder_place):
    place, folder = folder_place
    (folder / "lost found").write_text("a space")
    (folder / ".hidden").write_text("a dot")
    (folder / "link").symlink_to("/etc/hostname")
    assert list(place.names()) == []
    assert place.remove("k") is False
    assert len(listing(folder)) == 3


def test_a_folder_that_may_not_be_written_to_is_a_refusal(folder_place):
    place, folder = folder_place
    (folder / "k").mkdir()
    with pytest.raises(PlaceError):
        place.put("k", [b"x"])  # a folder has the name
    assert listing(folder) == ["k"]


def test_a_local_folder_syncs_file_and_folder_before_put_returns(tmp_path, monkeypatch):
    order = []
    real_sync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync",
        lambda fd: (order.append("dir" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), real_sync(fd)),
    )  # fmt: skip
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (order.append("rename"), real_replace(self, to))[1]
    )
    DirectoryPlace(tmp_path).put("k", [b"x"])
    assert order == ["file", "rename", "dir"]


def test_a_failed_sync_is_an_error_and_the_old_content_stays(tmp_path, monkeypatch):
    place = DirectoryPlace(tmp_path)
    place.put("k", [b"old"])

    def failing(fd):
        raise OSError(5, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(PlaceError):
            place.put("k", [b"new"])
    assert read(place, "k") == b"old"
    assert listing(tmp_path) == ["k"]


# ── OpenSSH's server ─────────────────────────────────────────────────────────────────────────────


def sftp_section(server, folder, **changes):
    values = {
        "name": "there",
        "sftp": server.address(folder),
        "host_key": server.host_key,
        "key": str(server.key),
    }
    return KeyringCopy(**values | changes)


def test_a_server_with_another_host_key_is_refused_before_a_login_or_a_byte(sshd, tmp_path):
    other = ssh_key(tmp_path / "other").with_suffix(".pub").read_text().strip()
    folder = tmp_path / "place"
    folder.mkdir()
    place = open_place(sftp_section(sshd, folder, host_key=other), Path)
    with pytest.raises(PlaceError, match="host key of the configuration"):
        place.put("k", [b"x"])
    assert listing(folder) == []


def test_a_pinned_key_of_a_type_the_server_does_not_have_is_refused(sshd, tmp_path):
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "ec")], check=True
    )
    pinned = (tmp_path / "ec.pub").read_text().strip()
    place = open_place(sftp_section(sshd, tmp_path, host_key=pinned), Path)
    with pytest.raises(PlaceError):
        list(place.names())


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_private_key_that_others_can_read_is_refused_before_connecting(sshd, tmp_path, mode):
    key = tmp_path / "key"
    key.write_bytes(sshd.key.read_bytes())
    key.chmod(mode)
    place = open_place(sftp_section(sshd, tmp_path, key=str(key)), Path)
    with pytest.raises(PlaceError, match=rf"mode 0600 .*found {mode:04o}"):
        list(place.names())


def test_an_account_that_is_not_let_in_is_told_without_its_key(sshd, tmp_path):
    stranger = ssh_key(tmp_path / "stranger")
    place = open_place(sftp_section(sshd, tmp_path, key=str(stranger)), Path)
    with pytest.raises(PlaceError, match=r"expected user .* to be let in"):
        list(place.names())


@pytest.mark.parametrize(
    ("content", "words"), [("nonsense", "private key"), ("", "private key"), (None, "readable")]
)
def test_a_key_file_that_is_none_is_told(sshd, tmp_path, content, words):
    key = tmp_path / "key"
    if content is not None:
        key.touch(mode=0o600)
        key.write_text(content)
    with pytest.raises(PlaceError, match=words):
        list(open_place(sftp_section(sshd, tmp_path, key=str(key)), Path).names())


def test_a_key_with_a_passphrase_is_refused_because_nobody_is_there_to_type_it(sshd, tmp_path):
    key = tmp_path / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(key)], check=True
    )
    with pytest.raises(PlaceError, match="passphrase"):
        list(open_place(sftp_section(sshd, tmp_path, key=str(key)), Path).names())


def test_a_place_goes_on_by_itself_when_its_server_is_back(tmp_path):
    if MISSING:
        pytest.skip(MISSING)
    server = Sshd(tmp_path / "own")
    try:
        place = open_place(sftp_section(server, server.home), Path)
        place.put("k", [b"old"])
        server.stop()
        for call in (lambda: place.put("k", [b"new"]), lambda: read(place, "k")):
            with pytest.raises(PlaceError):
                call()
        server.start()
        assert read(place, "k") == b"old"
        place.put("k", [b"new"])
        assert read(place, "k") == b"new"
        place.close()
    finally:
        server.stop()


def test_a_host_that_accepts_and_then_says_nothing_does_not_hold_the_courier(tmp_path, monkeypatch):
    import socket

    from gateway.courier.places import sftp

    monkeypatch.setattr(sftp, "CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        port = silent.getsockname()[1]
        key = ssh_key(tmp_path / "key")
        configured = KeyringCopy(
            name="there",
            sftp=f"sftp://somebody@127.0.0.1:{port}/x",
            host_key=key.with_suffix(".pub").read_text().strip(),
            key=str(key),
        )
        with pytest.raises(PlaceError):
            list(open_place(configured, Path).names())


def test_a_path_below_the_login_s_own_folder_is_written_with_a_tilde():
    configured = KeyringCopy(name="x", sftp="sftp://u@[::1]:2200/~/copies")
    assert configured.sftp_address() == ("u", "::1", 2200, "copies")
    assert KeyringCopy(name="x", sftp="sftp://u@h/a b").sftp_address() == ("u", "h", 22, "/a b")


# ── S3 ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_around_the_size_of_one_part_nothing_is_lost(request, tmp_path, extra, monkeypatch):
    monkeypatch.setattr(s3_place, "PART", 5 * PIECE)  # the least that the service allows
    configured, _ = section(request, "s3", tmp_path)
    place = open_place(configured, Path)
    data = os.urandom(PIECE) * 5 + b"x" * (PIECE + extra)
    place.put("k", [data[at : at + PIECE] for at in range(0, len(data), PIECE)])
    assert read(place, "k") == data


def test_a_bucket_that_is_not_there_is_an_unreachable_place_and_never_a_missing_name(s3, tmp_path):
    endpoint, secret = s3
    place = open_place(
        KeyringCopy(name="x", s3="s3://no-such-bucket", endpoint=endpoint, credentials=str(secret)),
        Path,
    )
    for call in (
        lambda: place.put("k", [b"x"]),
        lambda: read(place, "k"),
        lambda: list(place.names()),
        lambda: place.remove("k"),
    ):
        with pytest.raises(PlaceError, match="NoSuchBucket"):
            call()


def test_a_service_that_is_away_is_told_in_one_sentence(s3):
    _, secret = s3
    endpoint = f"http://127.0.0.1:{free_port()}"
    place = open_place(
        KeyringCopy(name="x", s3="s3://bucket", endpoint=endpoint, credentials=str(secret)), Path
    )
    with pytest.raises(
        PlaceError, match=r"^s3://bucket: expected to write k, found no connection$"
    ):
        place.put("k", [b"x"])


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("access_key_id = 'a'", 0o644, "mode 0600"),
        ("access_key_id = a\n", 0o600, "missing"),
        ("", 0o600, "missing"),
        ("access_key_id = a\naccess_key_id = b\nsecret_access_key = c\n", 0o600, "another line"),
        ("access_key_id = a\nsecret_access_key = c\npassword = d\n", 0o600, "another line"),
        ("sesame-open", 0o600, "another line"),
    ],
)
def test_credentials_that_are_open_or_wrong_are_refused_without_being_quoted(
    s3, tmp_path, text, mode, words
):
    secret = tmp_path / "credentials"
    secret.write_text(text)
    secret.chmod(mode)
    configured = KeyringCopy(name="x", s3="s3://bucket", endpoint=s3[0], credentials=str(secret))
    with pytest.raises(PlaceError, match=words) as caught:
        list(open_place(configured, Path).names())
    assert "sesame" not in str(caught.value)


def test_a_secret_that_is_a_folder_or_a_fifo_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(PlaceError, match="regular file"):
        read_secret(tmp_path / "fifo")
    with pytest.raises(PlaceError):
        read_secret(tmp_path)


@pytest.mark.parametrize(
    ("mode", "taken"), [(0o440, True), (0o400, True), (0o444, False), (0o460, False)]
)
def test_a_secret_from_systemd_may_have_its_group_bits_and_only_there(
    tmp_path, monkeypatch, mode, taken
):
    secret = tmp_path / "copies.key"
    secret.write_text("secret")
    secret.chmod(mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    if taken:
        assert read_secret(secret) == "secret"
    else:
        with pytest.raises(PlaceError, match="mode 0600"):
            read_secret(secret)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/elsewhere")
    if mode & 0o077:
        with pytest.raises(PlaceError, match="mode 0600"):
            read_secret(secret)
