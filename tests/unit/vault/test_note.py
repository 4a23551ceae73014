"""Signed notes, checkpoints and proofs: what others signed verifies, and nothing else does."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vectors.corpus import corpus_file
from vault.ledger.merkle import Frontier, inclusion_proof, leaf_hash
from vault.ledger.note import (
    Checkpoint,
    NoteError,
    encode_proof,
    parse_proof,
    sign_note,
    verifier_key,
    verify_note,
    verify_proof,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NAME = "ledger.example/log"
VKEY = verifier_key(NAME, KEY.public_key())
TEXT = "ledger.example/log\n5\n" + base64.b64encode(bytes(32)).decode() + "\n"
NOTE = sign_note(TEXT, NAME, KEY)

# The example of the Go checksum database's note package.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_NOTE = (
    GO_TEXT
    + "\n\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXg"
    "KvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
TESSERA_VKEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"


def signature_line(name, data):
    return f"\u2014 {name} {base64.b64encode(data).decode()}\n"


# -- notes -----------------------------------------------------------------------------------


def test_a_note_signed_by_another_implementation_verifies():
    """The published example of the format's origin."""
    assert verify_note(GO_NOTE, GO_VKEY) == GO_TEXT


@pytest.mark.parametrize("size", range(15))
def test_another_logs_checkpoints_verify(size):
    """Tessera's test log, every size."""
    note = corpus_file(f"crypto-vectors/tessera/log/checkpoint.{size}").read_text()
    checkpoint = Checkpoint.parse(verify_note(note, TESSERA_VKEY))
    assert (checkpoint.origin, checkpoint.size) == ("example.com/log/testdata", size)


@pytest.mark.parametrize(
    "name",
    [
        "tree/checkpoint",
        "witness2/88ad7a28caeb0b2aa890fdf0304c2fcaf59fca2ee140134ff8c1300bac493482/checkpoint",
        "witness/000de184301123b9278c086a7d9f68c9577e83872224c197058fd90784ea9706/checkpoint",
    ],
)
def test_a_note_of_other_signature_types_parses_and_is_signed_by_nobody_we_know(name):
    """Cosignatures and RFC 6962 signatures are skipped, and then no signature is left."""
    note = corpus_file(f"crypto-vectors/sunlight/{name}").read_text()
    with pytest.raises(NoteError, match="found none"):
        verify_note(note, VKEY)
    assert Checkpoint.parse(note.split("\n\n")[0] + "\n").size == 300


def test_signatures_of_others_are_ignored_beside_ours():
    """Witnesses may add lines before and behind; same name or same id alone is a stranger's."""
    key_id = base64.b64decode(NOTE.rsplit(" ", 1)[1])[:4]
    head, ours = TEXT + "\n", NOTE.removeprefix(TEXT + "\n")
    stranger = signature_line("witness.example", bytes(72))
    same_name = signature_line(NAME, b"\0\0\0\0" + bytes(64))
    same_id = signature_line("other.example", key_id + bytes(64))
    assert verify_note(head + stranger + same_name + ours + same_id, VKEY) == TEXT
    assert verify_note(head + stranger * 63 + ours, VKEY) == TEXT
    with pytest.raises(NoteError, match="at most 64"):
        verify_note(head + stranger * 64 + ours, VKEY)
    with pytest.raises(NoteError, match="found none"):
        verify_note(head + stranger + same_name + same_id, VKEY)


def test_a_false_signature_of_ours_spoils_the_note_even_beside_a_true_one():
    """Somebody tried to forge it; there is nothing to be gained from such a note."""
    key_id = base64.b64decode(NOTE.rsplit(" ", 1)[1])[:4]
    for false in (key_id + bytes(64), key_id + bytes(63), key_id + b"x"):
        with pytest.raises(NoteError, match="false one"):
            verify_note(NOTE + signature_line(NAME, false), VKEY)


def test_every_changed_character_of_a_note_is_refused():
    """Text, separators and signature alike."""
    for at in range(len(NOTE)):
        for new in ("", "x" if NOTE[at] != "x" else "y", NOTE[at] * 2):
            changed = NOTE[:at] + new + NOTE[at + 1 :]
            if changed != NOTE:
                with pytest.raises(NoteError):
                    verify_note(changed, VKEY)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        "\n\n",
        TEXT,
        TEXT + "\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE + "x",
        NOTE.replace("\n", "\r\n"),
        NOTE.replace("\u2014", "-"),
        NOTE.replace("\u2014 ", "\u2014  "),
        "\n" + NOTE.removeprefix(TEXT),
        NOTE.replace("\n\n", "\n"),
        NOTE[:-1] + " \n",
        NOTE[:-2] + "\n",
        NOTE.replace("5", "5\t"),
        NOTE.replace("5", "5\udc80"),
        NOTE + " " * (1 << 20),
    ],
    ids=range(18),
)
def test_a_malformed_note_is_refused(note):
    """One form, or none."""
    with pytest.raises(NoteError):
        verify_note(note, VKEY)


def test_a_text_with_empty_lines_is_split_at_the_last_one():
    """So an attacker cannot move the boundary."""
    text = "one\n\n\u2014 fake c2lnbmF0dXJl\n\ntwo\n"
    assert verify_note(sign_note(text, NAME, KEY), VKEY) == text


@pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "null\0\n", "cr\r\n", "\udc80\n"])
def test_a_text_that_no_note_may_carry_is_not_signed(text):
    """What could not be verified is not produced."""
    with pytest.raises(NoteError):
        sign_note(text, NAME, KEY)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "a\u00a0b", "a\u3000b", "\t"])
def test_a_key_name_with_spaces_or_plus_is_refused(name):
    """It would be ambiguous in a signature line or in a verifier key."""
    with pytest.raises(NoteError):
        sign_note(TEXT, name, KEY)
    with pytest.raises(RuntimeError):
        verifier_key(name, KEY.public_key())


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        NAME,
        VKEY.rsplit("+", 1)[0],
        VKEY + "=",
        VKEY[:-4],
        VKEY.replace("+", " "),
        VKEY.replace(NAME, "another.example"),
        VKEY.replace(NAME, ""),
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("c74f20a3", "C74F20A3"),
        GO_VKEY.replace("+AR", "+BR"),
    ],
)
def test_a_malformed_verifier_key_is_refused(vkey):
    """The id is checked against the key, so a typing error is found before it says "unsigned"."""
    with pytest.raises(NoteError, match="verifier key"):
        verify_note(GO_NOTE, vkey)


def test_a_verifier_key_whose_base64_holds_plus_signs_works():
    """Names and ids hold none, so the first two separate."""
    number = 0
    while (
        "+"
        not in base64.b64encode(
            b"\x01"
            + (key := Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")))
            .public_key()
            .public_bytes_raw()
        ).decode()
    ):
        number += 1
    note = sign_note("text\n", "name", key)
    assert verify_note(note, verifier_key("name", key.public_key())) == "text\n"


# -- checkpoints -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint("o", 0, bytes(32)),
        Checkpoint("ledger.example/log", 2**63 - 1, bytes(range(32)), ("one", "two words")),
    ],
)
def test_a_checkpoint_comes_back_as_it_was_encoded(checkpoint):
    """Both ends of the range of sizes, with and without extension lines."""
    assert Checkpoint.parse(checkpoint.encode()) == checkpoint


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "o\n5\n",
        f"o\n5\n{ROOT}",
        f"\n5\n{ROOT}\n",
        f"o\n05\n{ROOT}\n",
        f"o\n00\n{ROOT}\n",
        f"o\n+5\n{ROOT}\n",
        f"o\n-5\n{ROOT}\n",
        f"o\n 5\n{ROOT}\n",
        f"o\n\u0665\n{ROOT}\n",
        f"o\n5_0\n{ROOT}\n",
        f"o\n{2**63}\n{ROOT}\n",
        f"o\n{'9' * 5000}\n{ROOT}\n",
        f"o\n5\n{ROOT[:-1]}\n",
        f"o\n5\n{ROOT[:-2]}B=\n",
        f"o\n5\n {ROOT}\n",
        f"o\n5\n{base64.b64encode(bytes(31)).decode()}\n",
        f"o\n5\n{ROOT}\n\n",
        f"o\n5\n{ROOT}\n\nextension\n",
        f"o\r\n5\r\n{ROOT}\r\n",
    ],
    ids=range(21),
)
def test_a_checkpoint_in_any_other_form_is_refused(text):
    """A tree head has one text."""
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint("", 1, bytes(32)),
        Checkpoint("a\nb", 1, bytes(32)),
        Checkpoint("o", -1, bytes(32)),
        Checkpoint("o", 2**63, bytes(32)),
        Checkpoint("o", 1, bytes(31)),
        Checkpoint("o", 1, bytes(32), ("",)),
        Checkpoint("o", 1, bytes(32), ("a\n9\nb",)),
    ],
)
def test_a_checkpoint_without_an_encoding_is_misuse(checkpoint):
    """Above all, no field can smuggle in a line."""
    with pytest.raises(RuntimeError):
        checkpoint.encode()


# -- proofs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ledger():
    """A log of 21 entries: its proof texts by index."""
    frontier, nodes = Frontier(), {}
    for number in range(21):
        for level, index, value in frontier.append(leaf_hash(b"entry %d" % number)):
            nodes[level, index] = value
    note = sign_note(Checkpoint(NAME, 21, frontier.root()).encode(), NAME, KEY)
    return [
        encode_proof(
            number,
            inclusion_proof(number, 21, lambda level, index: nodes[level, index]),
            note,
            b"\xffextra" if number % 2 else None,
        )
        for number in range(21)
    ]


def test_each_proof_shows_its_entry_at_its_index(ledger):
    """With the key alone, and with the origin named."""
    for number, text in enumerate(ledger):
        leaf = leaf_hash(b"entry %d" % number)
        shown = verify_proof(text, leaf, VKEY, NAME)
        assert (shown.index, shown.checkpoint.size) == (number, 21)
        assert verify_proof(text, leaf, VKEY) == shown
        assert parse_proof(text).extra == (b"\xffextra" if number % 2 else None)


def test_a_proof_shows_nothing_else(ledger):
    """Another entry, another index, another log, another key."""
    leaf = leaf_hash(b"entry 7")
    other = Ed25519PrivateKey.generate()
    for text, shown, vkey, origin in (
        (ledger[7], leaf_hash(b"entry 8"), VKEY, NAME),
        (ledger[8], leaf, VKEY, NAME),
        (ledger[7].replace("index 7", "index 6"), leaf, VKEY, NAME),
        (ledger[7].replace("index 7", "index 28"), leaf, VKEY, NAME),
        (ledger[7], leaf, VKEY, "another.example/log"),
        (ledger[7], leaf, verifier_key(NAME, other.public_key()), NAME),
        (ledger[7], leaf[:31], VKEY, NAME),
    ):
        with pytest.raises(NoteError):
            verify_proof(text, shown, vkey, origin)


def test_a_log_that_signs_under_another_origin_than_its_key_name_must_be_asked_for_by_name():
    """By default the two are the same, as logs do it."""
    frontier = Frontier()
    frontier.append(leaf_hash(b"x"))
    note = sign_note(Checkpoint("elsewhere", 1, frontier.root()).encode(), NAME, KEY)
    text = encode_proof(0, [], note, None)
    with pytest.raises(NoteError, match="origin"):
        verify_proof(text, leaf_hash(b"x"), VKEY)
    assert verify_proof(text, leaf_hash(b"x"), VKEY, "elsewhere").index == 0


def test_every_changed_character_of_a_proof_is_refused(ledger):
    """All that is in the text is checked, but for the extra data, which is nobody's word."""
    text, leaf = ledger[4], leaf_hash(b"entry 4")
    for at in range(len(text)):
        for new in ("", "x" if text[at] != "x" else "y"):
            with pytest.raises(NoteError):
                verify_proof(text[:at] + new + text[at + 1 :], leaf, VKEY, NAME)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("c2sp.org/tlog-proof@v1\n", ""),
        ("proof@v1", "proof@v2"),
        ("index 4\n", ""),
        ("index 4", "index 04"),
        ("index 4", "index -4"),
        ("index 4", "index  4"),
        ("index 4", f"index {2**63}"),
        ("index 4\n", "index 4\nindex 4\n"),
        ("index 4\n", "extra\nindex 4\n"),
        ("index 4\n", "extra x\nindex 4\n"),
        ("index 4\n", "index 4\nextra AAAA\n"),
        ("index 4\n", "extra AAAA\nextra AAAA\nindex 4\n"),
        ("index 4\n", f"index 4\n{base64.b64encode(bytes(31)).decode()}\n"),
        ("index 4\n", "index 4\n" + f"{ROOT}\n" * 64),
        ("\n\n", "\n\n\n"),
        ("\n", "\r\n"),
    ],
)
def test_a_proof_in_any_other_form_is_refused(ledger, old, new):
    """Strict to the line."""
    text = ledger[4]
    assert old in text
    with pytest.raises(NoteError):
        verify_proof(text.replace(old, new, 1), leaf_hash(b"entry 4"), VKEY, NAME)


def test_a_proof_without_an_encoding_is_misuse():
    """Hashes of the wrong size, too many of them, or an index no log has."""
    for index, hashes in ((-1, []), (2**63, []), (0, [bytes(31)]), (0, [bytes(32)] * 64)):
        with pytest.raises(RuntimeError):
            encode_proof(index, hashes, NOTE, None)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text("\n\u2014 +aA=0", max_size=200))
def test_no_text_makes_the_parsers_raise_anything_but_a_note_error(text):
    """Notes and proofs come from strangers."""
    for call in (
        lambda: verify_note(text, VKEY),
        lambda: verify_note(NOTE, text),
        lambda: Checkpoint.parse(text),
        lambda: parse_proof(text),
    ):
        try:
            call()
        except NoteError:
            continue
