"""The doctor sees what is wrong with an installation, says how to mend it, and changes nothing."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import delete, insert

from gateway.cli.commands import doctor
from gateway.config import load
from gateway.core.clock import SETTING_MARK, Mark
from gateway.doctor import host
from gateway.inspect.formats import archive_stream
from tests.servers.gateway_process import installation
from tests.unit.cli.here import Program
from vault.catalogue.schema import settings
from vault.catalogue.store import Transaction
from vault.keys.root import FileRootKey
from vault.storage import leases
from vault.store import Store

NOW = datetime.now(UTC)


@pytest.fixture
def made():
    with installation() as made:
        yield made


def look(made, now: datetime = NOW) -> list[doctor.Finding]:
    return doctor.examine(load(made.config), now)


def about(findings: list[doctor.Finding], subject: str) -> list[str]:
    return [finding.level for finding in findings if finding.subject.startswith(subject)]


def test_a_fresh_installation_has_no_problem_and_its_weaknesses_are_named(
    made, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = look(made)
    assert [finding for finding in findings if finding.level == "problem"] == []
    assert about(findings, "demonstration pack") == ["weak"]
    assert about(findings, "demonstration accounts") == ["weak"]
    assert about(findings, "keyring copies") == ["weak"]
    assert about(findings, "root key") == ["weak"]
    assert about(findings, "core") == ["note"]
    assert about(findings, "notices") == ["note"]
    done = Program(capsys, made.config)("doctor", "--json")
    assert done.code == 0
    assert {finding["subject"] for finding in done.data} == {f.subject for f in findings}
    assert all(set(f) == {"level", "subject", "what", "mend"} for f in done.data)


def test_findings_come_the_gravest_first(made) -> None:
    made.config.chmod(0o666)
    levels = [finding.level for finding in look(made)]
    assert levels == sorted(levels, key=["problem", "weak", "note"].index)
    assert levels[0] == "problem"


@pytest.mark.parametrize(("mode", "problem"), [(0o600, False), (0o644, False), (0o620, True)])
def test_a_configuration_that_others_can_change_is_a_problem(
    made, capsys: pytest.CaptureFixture[str], mode: int, problem: bool
) -> None:
    made.config.chmod(mode)
    done = Program(capsys, made.config)("doctor")
    assert done.code == int(problem)
    assert ("configuration" in done.out) == problem
    assert done.err == ""


def test_a_root_key_that_others_can_read_is_a_problem_and_hides_no_other_check(made) -> None:
    (made.folder / "root.key").chmod(0o644)
    findings = look(made)
    assert about(findings, "root key") == ["problem"]
    assert about(findings, "installation") == ["problem"]
    assert about(findings, "keyring copies") == ["weak"]


def test_another_root_key_is_a_problem(made) -> None:
    (made.folder / "root.key").unlink()
    FileRootKey.create(made.folder / "root.key")
    assert about(look(made), "installation") == ["problem"]


@pytest.mark.parametrize("name", [".", "keyrings", "catalogue.sqlite3", "blobs"])
def test_a_store_that_others_can_look_into_is_a_problem(made, name: str) -> None:
    path = made.folder / "vault" / name
    path.chmod(path.stat().st_mode | 0o004)
    assert about(look(made), f"store {path}").count("problem") == 1


@pytest.mark.parametrize(
    ("name", "mode"),
    [("config.toml", 0o666), ("root.key", 0o644), ("vault", 0o755), ("vault/keyrings", 0o750)],
)
def test_the_chmod_that_a_finding_names_mends_it(made, name: str, mode: int) -> None:
    (made.folder / name).chmod(mode)
    named = [
        found[0]
        for finding in look(made)
        if finding.level == "problem" and (found := re.match(r"chmod \S+ \S+[^; ]", finding.mend))
    ]
    assert len(named) == 1
    subprocess.run(named[0].split(), check=True, timeout=10)
    assert [finding for finding in look(made) if finding.level == "problem"] == []


def test_a_catalogue_that_is_gone_beside_keyrings_is_not_to_be_made_anew(made) -> None:
    (made.folder / "vault" / "catalogue.sqlite3").unlink()
    (finding,) = (each for each in look(made) if each.subject.startswith("store "))
    assert "do not make a new store here" in finding.mend
    assert "`strongroom backup restore`" in finding.mend


def test_a_missing_store_is_a_problem_and_is_not_made(made) -> None:
    made.configure(lambda text: text.replace('path = "vault"', 'path = "nowhere"'))
    assert about(look(made), "store") == ["problem"]
    assert not (made.folder / "nowhere").exists()


def test_a_file_system_that_does_not_tell_writers_is_named_and_nothing_stays_of_the_try(
    made, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((made.folder / "vault").rglob("*"))
    assert about(look(made), "leases") == []

    def without(fd: int) -> bool:
        raise OSError(errno.EINVAL, "injected")

    monkeypatch.setattr(leases, "has_writer", without)
    assert about(look(made), "leases") == ["weak"]
    assert [path for path in sorted((made.folder / "vault").rglob("*")) if path not in before] == []


def test_a_store_that_another_process_holds_is_no_problem(made) -> None:
    store = Store.open(made.folder / "vault", FileRootKey.load(made.folder / "root.key"))
    try:
        findings = look(made)
    finally:
        store.close()
    assert about(findings, "installation") == []
    assert set(about(findings, "core")) == {"note"}


@pytest.mark.parametrize(
    ("ago", "problem"),
    [
        (timedelta(0), False),
        (timedelta(minutes=-9), False),
        (timedelta(minutes=-11), True),
        (timedelta(days=29), False),
        (timedelta(days=31), True),
        (timedelta(days=4000), True),
    ],
)
def test_a_clock_that_does_not_fit_what_the_store_knows_is_a_problem(
    made, ago: timedelta, problem: bool
) -> None:
    """The store was last known right `ago` (negative: it will be)."""
    store = Store.open(made.folder / "vault", FileRootKey.load(made.folder / "root.key"))
    mark = Mark(datetime.now(UTC) - ago, 10_000)

    def known(tx: Transaction) -> None:
        tx.connection.execute(delete(settings).where(settings.c.key == SETTING_MARK))
        value = msgspec.json.encode(mark).decode()
        tx.connection.execute(insert(settings), {"key": SETTING_MARK, "value": value})

    store.catalogue.write(known)
    store.close()
    assert about(look(made), "clock") == ["problem"] * problem


def test_free_space_below_the_minimum_is_a_problem_and_near_it_a_weakness(made) -> None:
    free = os.statvfs(made.folder).f_bavail * os.statvfs(made.folder).f_frsize
    for minimum, level in ((free * 2, ["problem"]), (free // 3, ["weak"]), (1, [])):
        text = made.config.read_text()
        made.config.write_text(text.replace("[store]", f"[store]\nminimum_free = {minimum}"))
        assert about(look(made), "free space") == level
        made.config.write_text(text)


@pytest.mark.parametrize(
    ("listen", "tls", "weak"),
    [
        ("127.0.0.1:25", False, False),
        ("[::1]:25", False, False),
        ("localhost:25", False, False),
        ("0.0.0.0:25", False, True),
        ("[::]:25", False, True),
        ("192.0.2.1:25", True, False),
    ],
)
def test_mail_in_the_clear_beyond_the_machine_is_weak(
    made, listen: str, tls: bool, weak: bool
) -> None:
    (made.folder / "pem").write_text("x")
    more = 'tls_certificate = "pem"\ntls_key = "pem"\n' if tls else ""
    made.configure(
        lambda text: text.replace(f'"127.0.0.1:{made.smtp_port}"\n', f'"{listen}"\n{more}')
    )
    assert about(look(made), "e-mail door") == ["weak"] * weak


def test_a_certificate_that_is_not_there_is_a_problem(made) -> None:
    made.configure(
        lambda text: text.replace("[smtp]", '[smtp]\ntls_certificate = "c"\ntls_key = "k"')
    )
    assert about(look(made), "smtp.tls") == ["problem", "problem"]


@pytest.mark.parametrize(
    ("names", "days", "other_key", "levels"),
    [
        (["intake.localhost"], 40, False, []),
        (["*.localhost", "mail.example"], 40, False, []),
        (["intake.localhost"], 29, False, ["weak"]),
        (["intake.localhost"], -1, False, ["problem"]),
        (["mail.example"], 40, False, ["weak"]),
        (["*.intake.localhost"], 40, False, ["weak"]),
        (["intake.localhost"], 40, True, ["problem"]),
    ],
    ids=["fine", "wildcard", "ends soon", "ended", "another name", "other wildcard", "another key"],
)
def test_what_is_wrong_with_the_certificate_is_told(made, names, days, other_key, levels) -> None:
    now = datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "intake.localhost")])
    certificate = (
        x509.CertificateBuilder(subject, subject, keys[0].public_key(), 1)
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        .sign(keys[0], hashes.SHA256())
    )
    (made.folder / "c").write_bytes(certificate.public_bytes(Encoding.PEM))
    (made.folder / "k").write_bytes(
        keys[other_key].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    made.configure(
        lambda text: text.replace("[smtp]", '[smtp]\ntls_certificate = "c"\ntls_key = "k"')
    )
    assert about(look(made), "smtp.tls") == levels


def test_copies_are_looked_at_where_they_are_to_go(made) -> None:
    (made.folder / "here").mkdir()
    made.configure(
        lambda text: (
            text + '[[keyring.copies]]\nname = "here"\ndirectory = "here"\n'
            '[[keyring.copies]]\nname = "gone"\ndirectory = "gone"\n'
        )
    )
    findings = look(made)
    assert about(findings, "keyring copy here") == ["weak"]
    assert about(findings, "keyring copy gone") == ["problem"]


def test_a_copy_that_is_behind_and_one_that_nobody_settled_are_told_with_since_and_why(
    made, capsys: pytest.CaptureFixture[str]
) -> None:
    text = made.config.read_text()
    made.config.write_text(text + '[[keyring.copies]]\nname = "gone"\ndirectory = "gone"\n')
    told = [finding for finding in look(made) if finding.subject == "keyring copies at gone"]
    assert [finding.level for finding in told] == ["weak"]
    assert "behind since 20" in told[0].what
    program = Program(capsys, made.config)
    (row,) = program.json("keys", "copies")
    assert (row["state"], row["waiting"]) == ("behind", 2)
    assert "gone" in program("keys", "copies").out
    made.config.write_text(text)
    told = [finding for finding in look(made) if finding.subject == "keyring copies at gone"]
    assert "taken out of the configuration" in told[0].what
    words = ("keys", "settle", "gone", "--statement", "it never was there")
    assert "officer" in program(*words).one_line(1)
    assert program(
        *words, "--as", "officer1", "--key", made.folder / "demo" / "officer1"
    ).out.startswith("Place gone settled")
    assert not [finding for finding in look(made) if finding.subject == "keyring copies at gone"]
    assert [row["state"] for row in program.json("keys", "copies")] == ["settled"]


@pytest.mark.parametrize(("mode", "problems"), [(0o600, 0), (0o644, 1), (None, 1)])
def test_a_secret_of_a_copy_that_others_can_read_or_that_is_missing_is_a_problem(
    made, mode: int | None, problems: int
) -> None:
    if mode is not None:
        (made.folder / "s3").touch(mode=mode)
        (made.folder / "s3").chmod(mode)
    made.configure(
        lambda text: (
            text + '[[keyring.copies]]\nname = "far"\ns3 = "s3://bucket"\ncredentials = "s3"\n'
        )
    )
    assert about(look(made), "keyring copy far") == ["problem"] * problems


@pytest.mark.parametrize(
    ("policy", "level"), [("off", "weak"), ("auto", "weak"), ("required", "problem")]
)
def test_an_antivirus_that_does_not_answer_is_as_bad_as_the_policy_says(
    made, policy: str, level: str
) -> None:
    made.configure(
        lambda text: text.replace(
            'clamd = "auto"', f'clamd = "{policy}"\nclamd_address = "unix:{made.folder}/none"'
        )
    )
    assert about(look(made), "antivirus") == [level]


def test_disabled_demonstration_accounts_are_named_no_more(
    made, capsys: pytest.CaptureFixture[str]
) -> None:
    program = Program(capsys, made.config)
    for account in program.json("account", "list"):
        assert program("account", "disable", account["name"]).code == 0
    assert about(look(made), "demonstration accounts") == []


@pytest.mark.parametrize(
    ("device", "uuid", "weak"),
    [
        ("/dev/sr-swap9", None, True),
        ("/swapfile", None, True),
        ("/dev/zram0", None, False),
        ("/dev/dm-7", "CRYPT-PLAIN-swap", False),
        ("/dev/dm-7", "LVM-abc", True),
    ],
)
def test_swap_that_is_not_encrypted_is_weak(
    tmp_path: Path, device: str, uuid: str | None, weak: bool
) -> None:
    swaps = tmp_path / "swaps"
    swaps.write_text(f"Filename\tType\tSize\tUsed\tPriority\n{device} partition 1 0 -2\n")
    if uuid is not None:
        folder = tmp_path / "block" / Path(device).name / "dm"
        folder.mkdir(parents=True)
        (folder / "uuid").write_text(uuid + "\n")
    assert bool(list(host.swap(swaps, tmp_path / "block"))) == weak


def test_without_the_systems_archive_library_the_package_is_named(monkeypatch) -> None:
    assert list(host.archives()) == []
    monkeypatch.setattr(archive_stream, "_library", lambda: None)
    (finding,) = host.archives()
    assert finding.level == "weak"
    assert "apt install libarchive13" in finding.mend


def test_no_swap_is_nothing_to_say(tmp_path: Path) -> None:
    (tmp_path / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
    assert list(host.swap(tmp_path / "swaps", tmp_path)) == []


def test_a_relay_without_an_officer_or_admin_who_is_told_is_weak(made) -> None:
    made.configure(
        lambda text: (
            text + '\n[relay]\naddress = "127.0.0.1:2526"\ntls = "none"\nsender = "a@b.example"\n'
        )
    )
    assert about(look(made), "notices") == ["weak"]
