"""The root key file: whom it may belong to, who may read it, and what it may contain."""

import base64
import os
import stat

import pytest

from vault.errors import IntegrityError, KeyUnavailable, RootKeyRefused, StoreExists
from vault.keys.root import CREDENTIAL, CredentialRootKey, FileRootKey, load_root_key

GOOD = b"strongroom-root-key-v1 " + base64.b64encode(bytes(range(32))) + b"\n"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    """The tests may themselves run under systemd."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.fixture
def key_file(tmp_path):
    def make(content=GOOD, mode=0o600):
        path = tmp_path / "root.key"
        path.write_bytes(content)
        path.chmod(mode)
        return path

    return make


@pytest.mark.parametrize("mode", [0o601, 0o602, 0o604, 0o610, 0o620, 0o640, 0o440, 0o644, 0o777])
def test_any_access_of_group_or_others_is_refused_with_both_modes_named(key_file, mode):
    """The operator reads what was expected and what was found."""
    path = key_file(mode=mode)
    with pytest.raises(RootKeyRefused) as caught:
        FileRootKey.load(path)
    assert str(path) in str(caught.value)
    assert "0600" in str(caught.value)
    assert f"{mode:04o}" in str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_its_owner_alone_is_accepted(key_file, mode):
    """Read-only is as good as read-write."""
    assert len(FileRootKey.load(key_file(mode=mode)).id) == 16


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(key_file):
    """Whoever owns the file can read it, whatever its mode."""
    path = key_file()
    os.chown(path, 12345, 0)
    with pytest.raises(RootKeyRefused, match="12345"):
        FileRootKey.load(path)


def test_only_a_regular_file_is_a_root_key(tmp_path, key_file):
    """Links, pipes (which must not hang) and directories are refused; nothing there is said so."""
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(key_file())
    os.mkfifo(pipe, 0o600)
    (tmp_path / "directory").mkdir(mode=0o700)
    for name in ("link", "pipe", "directory"):
        with pytest.raises(RootKeyRefused, match="regular file"):
            FileRootKey.load(tmp_path / name)
    with pytest.raises(KeyUnavailable):
        FileRootKey.load(tmp_path / "absent")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        GOOD[:-2],
        GOOD + b"\n",
        GOOD + b"x",
        b" " + GOOD,
        GOOD.replace(b"v1 ", b"v1  "),
        GOOD.replace(b"v1", b"v2"),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD * 2,
        GOOD * 200,
        b"strongroom-root-key-v1 " + base64.b64encode(bytes(31)) + b"\n",
        b"strongroom-root-key-v1 " + base64.b64encode(bytes(33)) + b"\n",
        b"strongroom-root-key-v1 " + bytes(range(32)).hex().encode() + b"\n",
        GOOD.replace(b"8=", b"9="),  # the same bytes with stray bits in the last digit
        "strongroom-root-key-v1 ключ\n".encode(),
    ],
    ids=range(16),
)
def test_other_content_is_refused_with_one_message_that_shows_none_of_it(key_file, content):
    """A malformed key may still be most of a key."""
    path = key_file(content)
    with pytest.raises(RootKeyRefused) as caught:
        FileRootKey.load(path)
    assert str(caught.value) == (
        f"root key {path}: expected one line, strongroom-root-key-v1 and the base64 of 32 bytes, "
        "found other content"
    )


def test_a_missing_final_newline_is_tolerated(key_file):
    """Credential tools strip it; the key is the same."""
    with_newline = FileRootKey.load(key_file(GOOD)).id
    assert FileRootKey.load(key_file(GOOD[:-1])).id == with_newline


def test_create_makes_a_private_file_that_loads_as_the_same_key(tmp_path):
    """The file is one line with mode 0600, and is never replaced."""
    path = tmp_path / "root.key"
    made = FileRootKey.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().count(b"\n") == 1
    before = path.read_bytes()
    with pytest.raises(StoreExists):
        FileRootKey.create(path)
    assert path.read_bytes() == before
    wrapped = made.wrap(bytes(32), purpose="p", subject="s")
    loaded = FileRootKey.load(path)
    assert loaded.id == made.id
    assert loaded.unwrap(wrapped, purpose="p", subject="s") == bytes(32)


def test_a_crashed_creation_leaves_no_key_behind_once_repeated(tmp_path, monkeypatch):
    """The temporary file of the first attempt holds a root key."""

    def crash(*_, **__):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", crash)
        patch.setattr(os, "unlink", crash)
        with pytest.raises(SystemExit):
            FileRootKey.create(tmp_path / "root.key")
    assert len(list(tmp_path.iterdir())) == 1
    FileRootKey.create(tmp_path / "root.key")
    assert [entry.name for entry in tmp_path.iterdir()] == ["root.key"]


def test_what_a_root_key_wraps_is_bound_to_purpose_subject_and_key(tmp_path):
    """Two root keys never open each other's wrappings."""
    one, two = (FileRootKey.create(tmp_path / name) for name in "ab")
    assert one.id != two.id
    wrapped = one.wrap(bytes(32), purpose="p", subject="s")
    for root, purpose, subject in ((two, "p", "s"), (one, "q", "s"), (one, "p", "t")):
        with pytest.raises(IntegrityError):
            root.unwrap(wrapped, purpose=purpose, subject=subject)


def test_the_public_id_is_no_part_of_the_key():
    """It is derived one-way, and two keys that differ in a bit share nothing."""
    key = bytes(range(32))
    root = FileRootKey(key)
    assert root.id not in key.hex()
    assert root.id != FileRootKey(bytes([1, *key[1:]])).id


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600])
def test_a_systemd_credential_may_be_readable_by_its_group(tmp_path, monkeypatch, mode):
    """systemd grants the service access by group or access list; a configured file may not."""
    path = tmp_path / CREDENTIAL
    path.write_bytes(GOOD)
    path.chmod(mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_root_key("").id == load_root_key(str(path)).id == FileRootKey(bytes(range(32))).id
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    if mode == 0o440:
        with pytest.raises(RootKeyRefused):
            load_root_key(str(path))


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o404, 0o441])
def test_a_credential_open_to_others_or_writable_by_a_group_is_refused(tmp_path, monkeypatch, mode):
    """What systemd makes looks different."""
    path = tmp_path / CREDENTIAL
    path.write_bytes(GOOD)
    path.chmod(mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(RootKeyRefused, match="0440"):
        load_root_key("")


def test_without_a_path_and_without_a_credential_there_is_no_root_key(tmp_path, monkeypatch):
    """Nothing is invented or searched for."""
    with pytest.raises(KeyUnavailable):
        load_root_key("")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(KeyUnavailable):
        load_root_key("")
    with pytest.raises(RuntimeError):
        CredentialRootKey.create(tmp_path / CREDENTIAL)
    assert list(tmp_path.iterdir()) == []
