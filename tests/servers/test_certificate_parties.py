"""Certificates and their prints, verified by parties that are not us.

Poppler's `pdfsig` (NSS), `qpdf`, `pdfdetach`, `pdffonts`, pyHanko's validator, ssh-keygen, and
`docs/verify_certificate.py`, which shares no code with the product.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.unit.vault.test_certificate_sample import (
    COPIES,
    LOG_KEY,
    OFFICERS,
    ORIGIN,
    PROPOSED,
    VKEY,
    approval,
    issue,
    make_body,
    outcomes,
    register,
    sanitisation,
    witness,
)
from vault.certificate.model import (
    Certificate,
    Check,
    Executor,
    Text,
    certificate_to_json,
    make_claim,
    register_digest,
)
from vault.certificate.pdf.fonts import find_fonts
from vault.certificate.pdf.render_process import print_certificate
from vault.certificate.signing import SigningIdentity
from vault.certificate.statements import APPROVAL_NAMESPACE
from vault.certificate.verify import verify_certificate
from vault.crypto.sshsig import sign
from vault.ledger.note import verifier_key

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs" / "verify_certificate.py"


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(each) for each in arguments], capture_output=True, text=True, check=False, timeout=120
    )


# --- the print -------------------------------------------------------------------------------------


class Printed:
    """A certificate printed and signed, as files, with the signer's certificate in an NSS database."""

    def __init__(self, folder: Path) -> None:
        self.identity = SigningIdentity.create(ORIGIN, datetime.now(UTC))
        self.certificate = issue(make_body())
        self.data = print_certificate(self.certificate, "both", self.identity)
        self.path = folder / "certificate.pdf"
        self.path.write_bytes(self.data)
        self.empty, self.trusting = (self._database(folder / name) for name in ("empty", "nss"))
        if shutil.which("certutil"):
            signer = folder / "signer.pem"
            signer.write_text(self.identity.authority_pem)
            added = run(
                "certutil", "-A", "-d", f"sql:{self.trusting}", "-n", "gateway", "-t", "C,C,C",
                "-i", signer,
            )  # fmt: skip
            assert added.returncode == 0, added.stderr

    @staticmethod
    def _database(folder: Path) -> Path:
        folder.mkdir()
        if shutil.which("certutil"):
            made = run("certutil", "-N", "-d", f"sql:{folder}", "--empty-password")
            assert made.returncode == 0, made.stderr
        return folder


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Printed:
    return Printed(tmp_path_factory.mktemp("printed"))


def pdfsig(path: Path, database: Path) -> str:
    return run("pdfsig", "-nssdir", f"sql:{database}", path).stdout


@needs("pdfsig")
@needs("certutil")
def test_pdfsig_finds_the_signature_valid_over_the_whole_file(printed: Printed) -> None:
    said = pdfsig(printed.path, printed.trusting)
    assert "Signature is Valid." in said
    assert "Certificate is Trusted." in said
    assert "Total document signed" in said
    assert "ETSI.CAdES.detached" in said
    assert f"CN=Strongroom {ORIGIN}" in said
    assert "SHA-256" in said


@needs("pdfsig")
@needs("certutil")
def test_pdfsig_does_not_trust_a_signer_it_was_not_given(printed: Printed) -> None:
    said = pdfsig(printed.path, printed.empty)
    assert "Signature is Valid." in said
    assert "Certificate is Trusted." not in said


@needs("pdfsig")
@needs("certutil")
def test_pdfsig_finds_a_changed_file_changed(printed: Printed, tmp_path: Path) -> None:
    """Bits at a tenth, a half and nine tenths of what is printed, and pages added behind it."""
    end = printed.data.rindex(b"/Contents")
    changed = tmp_path / "changed.pdf"
    for place in (end // 10, end // 2, end * 9 // 10):
        spoiled = bytearray(printed.data)
        spoiled[place] ^= 0x01
        changed.write_bytes(spoiled)
        assert "Signature is Valid." not in pdfsig(changed, printed.trusting)
    changed.write_bytes(printed.data + b"\n% more\n")
    assert "Total document signed" not in pdfsig(changed, printed.trusting)


@needs("qpdf")
def test_qpdf_finds_no_fault(printed: Printed) -> None:
    done = run("qpdf", "--check", printed.path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "No syntax or stream encoding errors found" in done.stdout


@needs("pdfdetach")
def test_pdfdetach_gives_the_certificate_byte_by_byte(printed: Printed, tmp_path: Path) -> None:
    out = tmp_path / "certificate.json"
    assert run("pdfdetach", "-save", "1", "-o", out, printed.path).returncode == 0
    assert out.read_bytes() == certificate_to_json(printed.certificate)
    assert verify_certificate(out.read_bytes(), VKEY).passed


@needs("pdffonts")
@pytest.mark.skipif(find_fonts() is None, reason="no font with Chinese characters is installed")
def test_every_font_is_embedded_as_a_subset(printed: Printed) -> None:
    lines = run("pdffonts", printed.path).stdout.splitlines()[2:]
    assert len(lines) == 2
    for line in lines:
        assert line.split()[-5:-2] == ["yes", "yes", "yes"], line


def test_pyhankos_validator_agrees_and_finds_changes_forbidden(printed: Printed) -> None:
    from pyhanko.keys.internal import translate_pyca_cryptography_cert_to_asn1
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.validation import async_validate_pdf_signature
    from pyhanko_certvalidator import ValidationContext

    root = translate_pyca_cryptography_cert_to_asn1(printed.identity.authority)

    def status(data: bytes) -> Any:
        embedded = PdfFileReader(io.BytesIO(data)).embedded_signatures[0]
        context = ValidationContext(trust_roots=[root], allow_fetching=False)
        return asyncio.run(async_validate_pdf_signature(embedded, context))

    good = status(printed.data)
    assert good.valid
    assert good.intact
    assert good.trusted
    assert good.bottom_line
    assert good.coverage.name == "ENTIRE_FILE"
    assert good.docmdp_ok
    spoiled = bytearray(printed.data)
    spoiled[len(spoiled) // 2] ^= 0x01
    assert not status(bytes(spoiled)).bottom_line


# --- the certificate -------------------------------------------------------------------------------


def load() -> Callable[[bytes, list[str]], str]:
    spec = importlib.util.spec_from_file_location("verify_certificate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[bytes, list[str]], str] = module.verify
    return found


third_party = load()
BODY = make_body()
GOOD = issue(BODY)
DATA = certificate_to_json(GOOD)
FIRST = BODY.approvals[0]


def accepted(data: bytes, *vkeys: str) -> bool:
    try:
        return third_party(data, list(vkeys)).startswith("Verified: ")
    except Exception:
        return False


def test_the_short_verifier_is_short_and_imports_nothing_of_ours() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}


RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ENTRIES = register()
SOUND = {
    "the sample": BODY,
    "many items": make_body(60),
    "keys of all types": make_body(
        approvals=(
            approval("officer-chen", ENTRIES, key=RSA_KEY),
            approval("officer-li", ENTRIES, key=ec.derive_private_key(9, ec.SECP384R1())),
            approval("officer-sun", ENTRIES, key=ec.derive_private_key(9, ec.SECP521R1())),
        )
    ),
    "no more than L0": make_body(checks=()),
    "L2": make_body(copies=COPIES[:2]),
    "L3, witnessed": make_body(
        copies=COPIES[:2], sanitisations=(sanitisation(),), witnesses=(witness(ENTRIES),)
    ),
    "a follow-up": make_body(copies=COPIES[:2], follows="C-2056-0000"),
    "an item withdrawn": make_body(
        outcomes=(
            msgspec.structs.replace(
                BODY.outcomes[0],
                result="withdrawn", destroyed_at=None, ledger_index=None, reason="a hold came",
            ),
            *BODY.outcomes[1:],
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_both_verifiers_accept_what_is_sound(name: str) -> None:
    data = certificate_to_json(issue(SOUND[name]))
    assert verify_certificate(data, VKEY).passed
    assert accepted(data, VKEY)


def text(old: str, new: str) -> bytes:
    spoiled = DATA.decode().replace(old, new, 1).encode()
    assert spoiled != DATA
    return spoiled


def body(**changes: Any) -> bytes:
    """A changed body that a dishonest gateway put into its own ledger, properly proven."""
    return certificate_to_json(issue(msgspec.structs.replace(BODY, **changes)))


def ledger(**changes: Any) -> bytes:
    changed = msgspec.structs.replace(GOOD.ledger, **changes)
    return certificate_to_json(Certificate(format=GOOD.format, body=BODY, ledger=changed))


def first(**changes: Any) -> tuple[Any, ...]:
    return (msgspec.structs.replace(FIRST, **changes), *BODY.approvals[1:])


OTHER_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
OTHER = verifier_key(ORIGIN, OTHER_KEY.public_key())
LARGER = register(4)
SECOND = timedelta(seconds=1)

TAMPERED: dict[str, bytes] = {
    "a byte behind the end": DATA + b"\n",
    "another layout": DATA.replace(b"\n", b"\r\n"),
    "a field twice": text('"client": "acme"', '"client": "acme", "client": "acme"'),
    "another format": text("certificate-v1", "certificate-v2"),
    "another client": text('"client": "acme"', '"client": "acmf"'),
    "another size": text('"size": 48211', '"size": 48212'),
    "a live copy called destroyed": text('"state": "live"', '"state": "destroyed"'),
    "a check made up": text("3 wrapped keys tried, 0 opened", "9 wrapped keys tried, 0 opened"),
    "another day of destruction": text("2056-02-01T06:00:00Z", "2056-02-01T06:00:01Z"),
    "an entry of another kind": certificate_to_json(issue(BODY, kind="disposal.approved")),
    "an entry of another batch": certificate_to_json(issue(BODY, subject="B-2056-0002")),
    "an entry without the digest": certificate_to_json(issue(BODY, facts={})),
    "an entry that names another place": certificate_to_json(issue(BODY, seq=5042)),
    "an entry that is not in the tree": ledger(
        entry=GOOD.ledger.entry.replace(b'"actor":"core"', b'"actor":"cora"')
    ),
    "no proof": ledger(proof=""),
    "a proof of another index": ledger(proof=GOOD.ledger.proof.replace("index 5043", "index 5042")),
    "a proof cut short": ledger(proof="\n".join(GOOD.ledger.proof.split("\n")[:6])),
    "a checkpoint of another size": ledger(proof=GOOD.ledger.proof.replace("\n5100\n", "\n5101\n")),
    "another ledger's name": ledger(origin="other.example.org"),
    "another ledger's key": ledger(vkey=OTHER),
    "a gateway of another name": body(
        gateway=msgspec.structs.replace(BODY.gateway, origin="other.example.org")
    ),
    "a register of more": body(register=LARGER, outcomes=outcomes(LARGER)),
    "a register of more, with its digest": body(
        register=LARGER, outcomes=outcomes(LARGER), register_digest=register_digest(LARGER)
    ),
    "an outcome left out": body(outcomes=BODY.outcomes[:-1]),
    "outcomes in another order": body(outcomes=BODY.outcomes[::-1]),
    "one approver": body(approvals=BODY.approvals[:1]),
    "no approver": body(approvals=()),
    "one key for two": body(
        approvals=(FIRST, approval("officer-li", ENTRIES, key=OFFICERS["officer-chen"]))
    ),
    "an approver who executed": body(executor=Executor(account="officer-li", role="officer")),
    "a rejection": body(approvals=(FIRST, approval("officer-li", ENTRIES, decision="reject"))),
    "a rejection called an approval": body(approvals=first(decision="reject")),
    "an approval in another role": body(approvals=first(role="admin")),
    "an approval by another person": body(approvals=first(account="officer-xu")),
    "an approval with another key named": body(approvals=first(fingerprint="SHA256:" + "A" * 43)),
    "an approval without a signature": body(approvals=first(signature="")),
    "an approval for another purpose": body(
        approvals=first(signature=sign(OFFICERS["officer-chen"], FIRST.statement.encode(), "file"))
    ),
    "an approval of another text": body(
        approvals=first(
            statement=FIRST.statement.replace("B-2056-0001", "B-2056-0002"),
            signature=sign(
                OFFICERS["officer-chen"],
                FIRST.statement.replace("B-2056-0001", "B-2056-0002").encode(),
                APPROVAL_NAMESPACE,
            ),
        )
    ),
    "a witness of another register": body(witnesses=(witness(LARGER),)),
    "a witness who approved": body(witnesses=(witness(ENTRIES, account="officer-li"),)),
    "a sanitisation of another medium": body(
        sanitisations=(msgspec.structs.replace(sanitisation(), serial="X"),)
    ),
    "destroyed before it was due": certificate_to_json(
        issue(
            make_body(
                register=(
                    msgspec.structs.replace(ENTRIES[0], eligible_at=PROPOSED + SECOND),
                    *ENTRIES[1:],
                )
            )
        )
    ),
    "destroyed before execution": body(executed_at=BODY.executed_at + timedelta(days=1)),
    "issued before destruction": body(issued_at=BODY.executed_at + SECOND),
    "a claim too high": body(claim=make_claim("L2")),
    "a claim of media nobody spoke of": body(claim=make_claim("L3"), copies=COPIES[:2]),
    "a claim with a failed check": body(
        checks=(*BODY.checks, Check(name="any", result="failed", detail="1 found"))
    ),
    "a claim in other words": body(
        claim=msgspec.structs.replace(make_claim("L1"), sentence=make_claim("L2").sentence)
    ),
    "no limits": body(limits=Text(en="None.", zh="无。")),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_both_verifiers_refuse_what_was_tampered_with(name: str) -> None:
    assert not verify_certificate(TAMPERED[name], VKEY).passed
    assert not accepted(TAMPERED[name], VKEY)


def test_both_verifiers_refuse_another_ledgers_key_and_none_at_all() -> None:
    assert not accepted(DATA, OTHER)
    assert not accepted(DATA)
    assert accepted(DATA, OTHER, VKEY)
    assert not verify_certificate(DATA, OTHER).passed
    assert not verify_certificate(DATA, []).passed
    assert verifier_key(ORIGIN, LOG_KEY.public_key()) == VKEY


def test_both_verifiers_refuse_a_file_with_any_bit_turned() -> None:
    for byte in range(0, len(DATA), 97):
        spoiled = bytearray(DATA)
        spoiled[byte] ^= 0x01
        assert not verify_certificate(bytes(spoiled), VKEY).passed, byte
        assert not accepted(bytes(spoiled), VKEY), byte


def test_the_short_verifier_runs_as_a_program_and_says_what_it_saw(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    path.write_bytes(DATA)
    good = run(sys.executable, "-I", SCRIPT, path, VKEY)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("Verified: certificate C-2056-0001, claim L1, signed by\n")
    assert f"officer-chen {FIRST.fingerprint}" in good.stdout
    for arguments in ((path,), (path, OTHER), (tmp_path / "none", VKEY), ()):
        bad = run(sys.executable, "-I", SCRIPT, *arguments)
        assert bad.returncode == 1
        assert bad.stdout == ""
        assert bad.stderr.startswith("NOT VERIFIED: ")


@needs("ssh-keygen")
def test_openssh_verifies_the_statements_of_approver_and_witness(tmp_path: Path) -> None:
    watched = witness(ENTRIES)
    for person, namespace in ((FIRST, APPROVAL_NAMESPACE), (watched, "strongroom-witness-v1")):
        signature = tmp_path / "signature"
        signature.write_text(person.signature)
        done = subprocess.run(
            ["ssh-keygen", "-Y", "check-novalidate", "-n", namespace, "-s", str(signature)],
            input=person.statement.encode(), capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert person.fingerprint.encode() in done.stdout
