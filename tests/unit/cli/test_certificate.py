"""`strongroom certificate` offline: the keys one trusts, several files at once, and the schema."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.unit.cli.here import Program
from tests.unit.vault.test_certificate_sample import COPIES, ORIGIN, VKEY, issue, make_body
from vault.certificate.model import certificate_to_json, json_schema, make_claim
from vault.ledger.note import verifier_key

OTHER = verifier_key(
    ORIGIN, ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32).public_key()
)
FIRST = make_body()
SECOND = msgspec.structs.replace(
    FIRST,
    certificate_id="C-2056-0002",
    follows=FIRST.certificate_id,
    issued_at=FIRST.issued_at + timedelta(days=90),
    copies=COPIES[:2],
    claim=make_claim("L2"),
)


@pytest.fixture
def program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Program:
    """In an empty folder: without an installation to ask."""
    monkeypatch.chdir(tmp_path)
    return Program(capsys)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    path = tmp_path / "first.json"
    path.write_bytes(certificate_to_json(issue(FIRST)))
    return path


def test_any_of_the_keys_given_is_enough(program: Program, first: Path) -> None:
    done = program("certificate", "verify", first, "--vkey", OTHER, "--vkey", VKEY)
    assert done.code == 0
    assert done.out.rstrip().endswith("Verified.")
    assert program("certificate", "verify", first, "--vkey", OTHER).code == 1


def test_a_file_holds_keys_line_by_line_and_is_named(
    program: Program, first: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{OTHER}\n\n{VKEY}\n")
    (result,) = program.json("certificate", "verify", first, "--vkey", keys)
    assert result["passed"]
    assert result["key_source"] == str(keys)


def test_an_empty_file_of_keys_is_never_replaced_by_the_certificates_own_word(
    program: Program, first: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("\n")
    done = program("certificate", "verify", first, "--vkey", keys)
    assert done.code == 1
    assert "NOT VERIFIED" in done.out


def test_without_any_key_it_says_that_the_file_only_agrees_with_itself(
    program: Program, first: Path
) -> None:
    done = program("certificate", "verify", first)
    assert done.code == 0
    assert "only with itself" in done.out
    assert "Verified." not in done.out


def test_a_follow_up_is_compared_with_the_certificate_beside_it(
    program: Program, first: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second.json"
    second.write_bytes(certificate_to_json(issue(SECOND)))
    results = program.json("certificate", "verify", second, first, "--vkey", VKEY)
    assert results[0]["steps"][-1]["detail"] == "L1 in C-2056-0001, L2 here, 0 statements more"
    changed = msgspec.structs.replace(SECOND, groups_ended=("G01",))
    second.write_bytes(certificate_to_json(issue(changed)))
    done = program("certificate", "verify", second, first, "--vkey", VKEY)
    assert done.code == 1
    assert "FAIL  succession" in done.out
    # Alone, nothing shows that it differs.
    assert program("certificate", "verify", second, "--vkey", VKEY).code == 0


def test_the_schema_is_printed_as_it_is_published(program: Program) -> None:
    done = program("certificate", "schema")
    assert done.code == 0
    assert json.loads(done.out) == json.loads(json_schema())
