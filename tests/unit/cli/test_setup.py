"""An installation is made whole or not at all, and never over another one."""

from __future__ import annotations

import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from gateway.config import load
from gateway.errors import ConfigurationError
from gateway.install import create, demonstration
from tests.servers.gateway_process import installation
from tests.unit.cli.here import Program
from vault.crypto.sshsig import fingerprint, public_line
from vault.errors import StorageFull
from vault.keys.root import load_root_key
from vault.store import Store

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def made():
    with installation() as made:
        yield made


@pytest.fixture
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """An RSA host key takes seconds; these tests need none."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    monkeypatch.setattr(create.ssh_keys, "new_host_keys", lambda: {"ssh-host-ed25519": pem})


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.usefixtures("quick_keys")
def test_a_new_installation_opens_with_its_root_key_and_is_its_owner_s_alone(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "deep" / "var"
    assert create.create(folder, NOW) == folder / "config.toml"
    assert {path.name for path in folder.iterdir()} == {"config.toml", "root.key", "vault", "run"}
    config = load(folder / "config.toml")
    Store.open(config.store_path, load_root_key(config.root_key)).close()
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode & 0o077 == 0, f"{path} has mode {mode:o}"


@pytest.mark.usefixtures("quick_keys")
def test_an_empty_folder_is_used_and_what_else_lies_in_one_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    create.create(tmp_path, NOW)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "config.toml").is_file()


@pytest.mark.parametrize("name", ["config.toml", "root.key", "vault", "demo"])
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_init_refuses_a_folder_that_holds_any_part_of_an_installation(
    tmp_path: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    match kind:
        case "file":
            (tmp_path / name).write_text("precious")
        case "folder":
            (tmp_path / name).mkdir()
        case _:
            (tmp_path / name).symlink_to("nowhere")
    before = listing(tmp_path)
    line = Program(capsys)("init", tmp_path).one_line(2)
    assert line.endswith(f"expected no installation, found {name}")
    assert listing(tmp_path) == before


@pytest.mark.usefixtures("quick_keys")
def test_init_twice_is_refused_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = Program(capsys)
    assert program("init", tmp_path / "v").code == 0
    key = (tmp_path / "v" / "root.key").read_bytes()
    before = listing(tmp_path)
    program("init", tmp_path / "v", "--demo").one_line(2)
    assert (tmp_path / "v" / "root.key").read_bytes() == key
    assert listing(tmp_path) == before


@pytest.mark.usefixtures("quick_keys")
@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("step", ["create_durably", "sync_directory", "_demonstrate", "rename"])
def test_a_failure_at_any_step_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, existed: bool
) -> None:
    folder = tmp_path / "a" / "var"
    if existed:
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("mine")
    before = listing(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise StorageFull("disk: expected room, found none")

    moved = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if target.name == "config.toml":
            raise OSError(28, "No space left on device")
        return moved(self, target)

    if step == "rename":
        monkeypatch.setattr(Path, "rename", rename)
    else:
        monkeypatch.setattr(create, step, full)
    with pytest.raises((StorageFull, ConfigurationError)):
        create.create(folder, NOW, demo=True)
    assert listing(tmp_path) == before


@pytest.mark.usefixtures("quick_keys")
def test_a_place_that_is_no_folder_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    Program(capsys)("init", tmp_path / "file").one_line(2)
    Program(capsys)("init", tmp_path / "file" / "below").one_line(2)


def test_a_folder_whose_sockets_would_have_too_long_a_path_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Program(capsys)("init", tmp_path / ("d" * 110)).one_line(2)
    assert "sockets.directory" in line
    assert list(tmp_path.iterdir()) == []


def test_the_demonstration_has_a_key_for_each_account_and_no_key_twice(made) -> None:
    accounts = {account["name"]: account for account in made.json("account", "list")}
    assert {name: account["role"] for name, account in accounts.items()} == demonstration.ACCOUNTS
    for name, account in accounts.items():
        path = made.key(name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        key = load_ssh_private_key(path.read_bytes(), None)
        line = path.with_suffix(".pub").read_text()
        assert line.startswith(public_line(key) + " ")
        assert account["keys"] == [fingerprint(line)]
    assert len({account["keys"][0] for account in accounts.values()}) == len(accounts)
    assert accounts["acme"]["client"] == "acme"
    assert accounts["accountant"]["clients"] == ["acme"]
    assert accounts["officer1"]["clients"] == []


def test_the_demonstration_s_client_and_rules_are_in_force(made) -> None:
    client = made.json("client", "show", "acme")
    assert client["name"] == "Acme Demonstration Ltd"
    assert client["emails"] == ["owner@example.com", "@example.com"]
    assert (client["jurisdiction"], client["fiscal_year_end"]) == ("cn", "12-31")
    assert load(made.config).retention.packs == ["cn", "demo"]
    assert any(rule["rule"].startswith("demo-note") for rule in made.json("retention", "rules"))


def test_openssh_reads_the_demonstration_s_keys_and_known_hosts(made) -> None:
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(made.key("acme"))], capture_output=True, check=True
    )
    assert b"ED25519" in shown.stdout
    found = subprocess.run(
        ["ssh-keygen", "-F", f"[127.0.0.1]:{made.sftp_port}", "-f", str(made.demo / "known_hosts")],
        capture_output=True,
        check=True,
    )
    assert b"ssh-ed25519" in found.stdout


def test_the_sample_message_has_crlf_lines_and_its_attachment() -> None:
    attachment = demonstration.invoice("N-1", "2026-01-02", "2026-02-02")
    data = demonstration.message("a@example.com", "b@intake.localhost", "i.xml", attachment)
    assert b"\n" not in data.replace(b"\r\n", b"")
    import email
    from email.policy import default

    (part,) = email.message_from_bytes(data, policy=default).iter_attachments()
    assert part.get_filename() == "i.xml"
    assert part.get_payload(decode=True) == attachment


def test_the_demonstration_is_added_only_to_an_untouched_list_of_packs() -> None:
    with installation(lambda text: text.replace('"cn", "demo"', '"demo", "cn"')) as other:
        other.demo.rename(other.folder / "demo-away")
        with pytest.raises(ConfigurationError, match=r"retention\.packs"):
            create._demonstrate(load(other.folder / create.CONFIG), NOW)
        assert not other.demo.exists()


@pytest.mark.usefixtures("quick_keys")
def test_init_tells_where_everything_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Program(capsys).json("init", tmp_path / "v")
    assert Path(data["configuration"]) == tmp_path / "v" / "config.toml"
    assert Path(data["root_key"]).is_file()
    assert data["demonstration"] is None
    assert msgspec.json.decode(msgspec.json.encode(data)) == data
