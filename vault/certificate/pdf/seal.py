"""The electronic signature on a print: PAdES baseline B-B, without the key.

Promises: `sealed` returns the print with one certification signature (ETSI EN 319 142-1, level B-B;
SubFilter ETSI.CAdES.detached) that permits no change after it. It holds no key: the signature itself is
asked of the process that does, through `Seal.sign`. The same print gives the same bytes.

Leaves out: time-stamps and revocation (levels B-T and above): there is no authority to ask. When the
certificate was issued is proven by the ledger, not by this signature; its time is the certificate's own.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from pyhanko.keys.internal import translate_pyca_cryptography_cert_to_asn1
from pyhanko.pdf_utils.content import RawContent
from pyhanko.pdf_utils.generic import ByteStringObject
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.layout import BoxConstraints
from pyhanko.pdf_utils.writer import BasePdfFileWriter
from pyhanko.sign.ades.api import CAdESSignedAttrSpec
from pyhanko.sign.fields import MDPPerm, SigFieldSpec, SigSeedSubFilter
from pyhanko.sign.signers import PdfSignatureMetadata, PdfSigner, Signer
from pyhanko.sign.signers.pdf_signer import PdfSigningSession
from pyhanko.stamp import StaticStampStyle
from pyhanko_certvalidator.registry import SimpleCertificateStore

from vault.certificate.signing import SIGNATURE

FIELD: Final = "StrongroomSignature"
_DIGEST: Final = "sha256"


@dataclass(frozen=True)
class Seal:
    """The signer of a print, and how to ask the process that holds the key.

    `sign` takes the DER of the signed attributes (RFC 5652, 5.4) and returns SIGNATURE bytes: RSA with
    SHA-256, PKCS #1 v1.5. It is called once.
    """

    certificate: x509.Certificate
    authority: x509.Certificate
    sign: Callable[[bytes], bytes] = field(repr=False)

    @property
    def name(self) -> str:
        """The signer's name, as the certificate has it."""
        names = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if names else ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, hex."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()


def sealed(
    printed: bytes, seal: Seal, at: datetime, page: int, box: tuple[int, int, int, int]
) -> bytes:
    """`printed` with its signature.

    Args:
        at: the time the signature states.
        page: the page, from zero, that shows it.
        box: where on it, in points from its lower left corner; what is printed there stays visible.
    """
    writer = _Update(io.BytesIO(printed))
    # Random otherwise: the second half of a file's id changes with every update (ISO 32000-2, 14.4).
    writer._document_id[1] = ByteStringObject(hashlib.sha256(printed).digest()[:16])
    metadata = PdfSignatureMetadata(
        field_name=FIELD,
        md_algorithm=_DIGEST,
        name=seal.name,
        subfilter=SigSeedSubFilter.PADES,
        certify=True,
        docmdp_permissions=MDPPerm.NO_CHANGES,
        cades_signed_attr_spec=CAdESSignedAttrSpec(),
    )
    # The words are on the page already; the field over them shows nothing of its own.
    nothing = RawContent(b"", box=BoxConstraints(width=box[2] - box[0], height=box[3] - box[1]))
    signer = _Sealer(
        metadata,
        signer=_Remote(seal),
        stamp_style=StaticStampStyle(border_width=0, background=nothing),
        new_field_spec=SigFieldSpec(FIELD, on_page=page, box=box),
    )
    signer.at = at
    signed: io.BytesIO = signer.sign_pdf(writer)
    return signed.getvalue()


class _Update(IncrementalPdfFileWriter):
    """pyHanko's writer of updates, which leaves the metadata as printed, without the clock's time."""

    def _update_meta(self) -> None:
        """Do nothing (called by pyHanko)."""


class _Remote(Signer):
    """pyHanko's signer for a key that is not here."""

    def __init__(self, seal: Seal) -> None:
        issuer = translate_pyca_cryptography_cert_to_asn1(seal.authority)
        chain = SimpleCertificateStore.from_certs([issuer])  # type: ignore[no-untyped-call]
        super().__init__(
            signing_cert=translate_pyca_cryptography_cert_to_asn1(seal.certificate),
            cert_registry=chain,
        )
        self._seal = seal

    async def async_sign_raw(
        self, data: bytes, digest_algorithm: str, dry_run: bool = False
    ) -> bytes:
        """Ask for the signature; a dry run wants to know its length only (called by pyHanko)."""
        if digest_algorithm != _DIGEST:
            raise RuntimeError(f"signature: expected {_DIGEST}, found {digest_algorithm}")
        return bytes(SIGNATURE) if dry_run else self._seal.sign(data)


class _Sealer(PdfSigner):
    """pyHanko's signer of files, with the time given to it instead of the clock's."""

    at: datetime

    def init_signing_session(
        self, pdf_out: BasePdfFileWriter, existing_fields_only: bool = False
    ) -> PdfSigningSession:
        """As its parent's (called by pyHanko)."""
        session = super().init_signing_session(pdf_out, existing_fields_only)
        session.system_time = self.at
        return session
