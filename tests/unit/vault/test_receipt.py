"""Receipts as files: signed, verified offline, refused when anything about them is not right."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.names import safe_name
from tests.unit.cli.here import Program
from vault.certificate.receipt import (
    MAX_RECEIPT,
    Receipt,
    ReceiptError,
    Same,
    Title,
    json_file,
    json_schema,
    json_size,
    text_file,
    text_size,
    verify_receipt,
)
from vault.ledger.note import verifier_key

ORIGIN = "strongroom.invalid/01m80j643x9jaj7mxafcg8nj02"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
VKEY = verifier_key(ORIGIN, KEY.public_key())
OTHER = verifier_key(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32).public_key())
PUBLISHED = Path(__file__).resolve().parents[3] / "docs" / "receipt.schema.json"
AT = "2026-11-22T08:00:00.000000+00:00"
RECEIPT = Receipt(
    client="acme",
    document="01M80J643X9JAJ7MXAFCG8NJ02",
    name="发票 März.xml",
    size=3,
    sha256="ab" * 32,
    received_at=AT,
    channel="sftp",
    same_bytes_as=Same(document="01M80J643X9JAJ7MXAFCG8NJ01", received_at=AT),
    state="FILED",
    state_since=AT,
    verdict="accepted",
    record_class="invoice",
    record_class_title=Title(zh="发票", en="Invoice"),
    fiscal_year=2025,
    kept="until",
    kept_until=AT,
)


def test_the_published_schema_is_the_one_of_this_format():
    """To renew it: `strongroom receipt schema > docs/receipt.schema.json`."""
    assert PUBLISHED.read_bytes() == json_schema()


@settings(max_examples=60)
@given(st.text(max_size=80), st.integers(min_value=0, max_value=2**50))
def test_whatever_a_name_holds_both_forms_verify_and_have_the_size_foretold(name, size):
    receipt = msgspec.structs.replace(RECEIPT, name=safe_name(name), size=size)
    text, data = text_file(receipt, ORIGIN, KEY), json_file(receipt, ORIGIN, KEY)
    assert (text_size(receipt, ORIGIN), json_size(receipt, ORIGIN)) == (len(text), len(data))
    assert verify_receipt(data, [OTHER, VKEY])["name"] == receipt.name
    assert verify_receipt(text, [VKEY])["size"] == str(size)


def test_a_name_can_not_add_a_line_to_what_is_signed():
    for separator in "\x85\u2028\u2029":
        receipt = msgspec.structs.replace(RECEIPT, name=f"a{separator}verdict: accepted")
        assert verify_receipt(text_file(receipt, ORIGIN, KEY), [VKEY])["name"] == (
            "a verdict: accepted"
        )


def spoilt():
    whole = json.loads(json_file(RECEIPT, ORIGIN, KEY))
    yield "size", {**whole, "receipt": {**whole["receipt"], "size": 4}}
    yield "more", {**whole, "receipt": {**whole["receipt"], "more": 1}}
    yield "fewer", {**whole, "receipt": {k: v for k, v in whole["receipt"].items() if k != "size"}}
    yield "format", {**whole, "receipt": {**whole["receipt"], "format": "strongroom-receipt-v2"}}
    yield "digest", {**whole, "receipt": {**whole["receipt"], "sha256": "ab"}}
    yield "type", {**whole, "receipt": {**whole["receipt"], "size": "3"}}
    yield "signature", {**whole, "signature": whole["signature"][:-4] + "AAA="}
    yield "two lines", {**whole, "signature": whole["signature"] + "\n\n" + whole["signature"]}
    yield "none", {**whole, "signature": ""}
    yield "list", [whole]


@pytest.mark.parametrize(("name", "file"), list(spoilt()), ids=lambda each: str(each)[:9])
def test_a_json_receipt_in_which_anything_is_not_right_is_refused(name, file):
    del name
    with pytest.raises(ReceiptError):
        verify_receipt(json.dumps(file).encode(), [VKEY])


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\xff\xfe", b"{" * 100, b" " * (MAX_RECEIPT + 1), b"Strongroom receipt\n"]
)
def test_what_is_no_receipt_is_refused(data):
    with pytest.raises(ReceiptError):
        verify_receipt(data, [VKEY])


def test_the_command_verifies_both_forms_and_its_exit_code_says_so(tmp_path, capsys):
    text, data, keys = tmp_path / "a.txt", tmp_path / "a.json", tmp_path / "keys"
    text.write_bytes(text_file(RECEIPT, ORIGIN, KEY))
    data.write_bytes(json_file(RECEIPT, ORIGIN, KEY))
    keys.write_text(f"{OTHER}\n{VKEY}\n", "ascii")
    strongroom = Program(capsys)
    done = strongroom("receipt", "verify", "--vkey", str(keys), str(text), str(data))
    assert done.code == 0
    assert done.out.count("Verified") == 2
    done = strongroom("receipt", "verify", "--vkey", OTHER, str(data), str(text), "--json")
    assert done.code == 1
    assert [result["passed"] for result in json.loads(done.out)] == [False, False]
    # Without a key there is nothing to verify by: a receipt's own word is none.
    done = strongroom("receipt", "verify", str(data), "-c", str(tmp_path / "none.toml"))
    assert done.code == 2
