"""Active and deceptive content of a PDF, seen by qpdf under limits.

Promises: every object of the file is visited (within a budget, said when it is spent); what acts by
itself, starts programs, reaches outside the file, or makes viewers disagree about the content is
named by a code. Leaves out: rendering, and the meaning of JavaScript (its presence is enough).

Rules: `pdf.launch` is `found`; everything else is `suspect`: forms with scripts and portfolios are
used in honest trade. A link that a person must click (URI, GoTo) is nothing. A file that qpdf has to
repair is `pdf.damaged`: two viewers may repair it differently (PDF Insecurity, "content masking").
Embedded files are normal (Factur-X, ISO 19005-3; timesheets): the caller takes them out.

Sources: ISO 32000-1 section 12.6 (actions), 7.11 (file specifications), 7.5 (file structure).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from gateway.inspect.document import MIB, Document, Examination, Limits, error_code, read_exactly
from gateway.inspect.formats import pdf_expansion
from gateway.inspect.scan import pdf_attachments, pdf_pages, pdf_structure

if TYPE_CHECKING:
    import pikepdf

NAME: Final = "pdf"
_HEADER_WINDOW: Final = 1024
_MAX_OBJECTS: Final = 200_000
_MAX_NODES: Final = 2_000_000
_MAX_NESTING: Final = 100
_MAX_CHAIN: Final = 32

_ACTIONS: Final = {
    "/JavaScript": "pdf.javascript",
    "/SubmitForm": "pdf.submit_form",
    "/ImportData": "pdf.import_data",
    "/GoToR": "pdf.remote_target",
    "/GoToE": "pdf.embedded_target",
    "/Thread": "pdf.thread_target",
    "/Rendition": "pdf.media",
    "/Movie": "pdf.media",
    "/Sound": "pdf.media",
    "/RichMediaExecute": "pdf.media",
    "/GoTo3DView": "pdf.media",
}
_ANNOTATIONS: Final = {
    "/RichMedia": "pdf.media",
    "/3D": "pdf.media",
    "/Movie": "pdf.media",
    "/Sound": "pdf.media",
}
_FILTERS: Final = frozenset(
    f"/{name}"
    for name in (
        *("ASCIIHexDecode", "ASCII85Decode", "LZWDecode", "FlateDecode", "RunLengthDecode"),
        *("CCITTFaxDecode", "JBIG2Decode", "DCTDecode", "JPXDecode", "Crypt"),
        *("AHx", "A85", "LZW", "Fl", "RL", "CCF", "DCT"),
    )
)
# Repairs that change nothing that can be seen; every other warning counts as damage.
_HARMLESS_WARNINGS: Final = (
    "MediaBox is ",
    "setting missing or invalid /Type",
    "xref entry for the xref stream itself is missing",
)
_OUTSIDE: Final = re.compile(r"^(\\\\|//|file:|smb:|javascript:|data:)", re.IGNORECASE)
_RAW_CODES: Final = (
    (re.compile(rb"/Launch\b"), "pdf.launch"),
    (re.compile(rb"/(?:JavaScript|JS)\b"), "pdf.javascript"),
    (re.compile(rb"/(?:OpenAction|AA)\b"), "pdf.automatic_action"),
    (re.compile(rb"/(?:SubmitForm|ImportData)\b"), "pdf.submit_form"),
    (re.compile(rb"/(?:EmbeddedFile|EmbeddedFiles)\b"), "pdf.embedded_file"),
    (re.compile(rb"/XFA\b"), "pdf.xfa"),
)


def limit_library() -> None:
    """Set qpdf's process-wide limits: by default its decoders have none. Once per process."""
    from pikepdf import settings

    settings.set_qpdf_limits(
        doc_max_warnings=100,
        parser_max_nesting=200,
        max_stream_filters=10,
        dct_max_memory=128 * MIB,
        flate_max_memory=128 * MIB,
        run_length_max_memory=128 * MIB,
        png_max_memory=128 * MIB,
        tiff_max_memory=128 * MIB,
    )


def looks_like_pdf(head: bytes) -> bool:
    """Whether a reader would open this as PDF or FDF (a header within the first 1024 bytes)."""
    start = head[:_HEADER_WINDOW]
    return b"%PDF-" in start or b"%FDF-" in start


def scan(document: Document, limits: Limits) -> tuple[Examination, list[tuple[str, bytes]]]:
    """Examine a PDF.

    Returns:
        What was seen, and the embedded files as (name, content), for the caller to examine.
    """
    import pikepdf

    limit_library()
    result = Examination(NAME, f"pikepdf {pikepdf.__version__}")
    embedded: list[tuple[str, bytes]] = []
    try:
        pdf = pikepdf.open(document.stream(), suppress_warnings=True)
    except pikepdf.PasswordError:
        result.unreadable = "encrypted"
        result.mark("pdf.encrypted")
        _scan_raw(document, result)
        return result, embedded
    except pikepdf.PdfError:
        # Viewers repair more than qpdf does: judge the bytes, and never call it clean.
        result.unreadable = "malformed"
        result.mark("pdf.unreadable")
        _scan_raw(document, result)
        return result, embedded
    with contextlib.closing(pdf):
        # The structure goes first: qpdf repairs the page tree when it is touched.
        steps: list[Callable[[], None]] = [
            lambda: pdf_structure.check_structure(document, pdf, result),
            lambda: _check_objects(pdf, result),
            lambda: _check_loops(pdf, result),
        ]
        if pdf_expansion.is_modest(pdf, document.size):
            steps += [
                lambda: pdf_pages.check(pdf, result, document.size, limits.max_pages),
                lambda: embedded.extend(pdf_attachments.find(pdf, result, limits)),
            ]
        else:
            result.unreadable = "over_limit"
            result.mark("pdf.expands_too_far")
        for step in steps:
            try:
                step()
            except (pikepdf.PdfError, ValueError, TypeError, KeyError, RecursionError) as error:
                result.fail(error_code("pdf", error))
        if any(not _harmless(str(warning)) for warning in pdf.get_warnings()):
            result.mark("pdf.damaged")
    return result, embedded


def _harmless(warning: str) -> bool:
    return any(text in warning for text in _HARMLESS_WARNINGS)


def _scan_raw(document: Document, result: Examination) -> None:
    """Look for the names of actions in the bytes of what can't be parsed (also in FDF)."""
    document.source.seek(0)
    data = read_exactly(document.source, min(document.size, pdf_structure.STRUCTURE_BYTES))
    # Names may be written with #xx escapes to hide from exactly this look (section 7.3.5).
    plain = re.sub(rb"#([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), data)
    for pattern, code in _RAW_CODES:
        if pattern.search(plain):
            result.mark(code)


# ── 1: every object ──────────────────────────────────────────────────────────────────────────────


def _check_objects(pdf: pikepdf.Pdf, result: Examination) -> None:
    import pikepdf

    nodes = 0
    for index, top in enumerate(pdf.objects):
        if index >= _MAX_OBJECTS:
            result.fail("pdf.too_many_objects")
            return
        for node in _nodes(top, result):
            nodes += 1
            if nodes > _MAX_NODES:
                result.fail("pdf.too_many_objects")
                return
            if isinstance(node, (pikepdf.Dictionary, pikepdf.Stream)):
                _check_dictionary(node, result)


def _nodes(top: Any, result: Examination) -> Iterator[Any]:
    """All containers directly inside an object, without following references."""
    import pikepdf

    stack: list[tuple[Any, int]] = [(top, 0)]
    while stack:
        node, depth = stack.pop()
        if not isinstance(node, (pikepdf.Dictionary, pikepdf.Stream, pikepdf.Array)):
            continue
        yield node
        if depth > _MAX_NESTING:
            result.fail("pdf.nested_too_deep")
            continue
        children = node if isinstance(node, pikepdf.Array) else [value for _, value in node.items()]
        stack.extend(
            (child, depth + 1)
            for child in children
            if isinstance(child, pikepdf.Object) and not child.is_indirect
        )


def _check_dictionary(node: Any, result: Examination) -> None:
    import pikepdf

    kind = _name(node.get("/S"))
    subtype = _name(node.get("/Subtype"))
    if kind == "/Launch":
        result.mark("pdf.launch", found=True)
    elif kind in _ACTIONS:
        result.mark(_ACTIONS[kind])
    elif kind == "/URI" and _OUTSIDE.match(_text(node.get("/URI"))):
        result.mark("pdf.outside_reference")
    if "/JS" in node:
        result.mark("pdf.javascript")
    if subtype in _ANNOTATIONS:
        result.mark(_ANNOTATIONS[subtype])
    if subtype == "/FileAttachment" and not _has_file(node.get("/FS")):
        result.mark("pdf.file_attachment")  # one that has its file with it is taken out
    if "/RF" in node:
        result.mark("pdf.embedded_file")  # files related to an attached one, which few readers show
    if "/XFA" in node:
        result.mark("pdf.xfa")
    if "/OpenAction" in node and _acts(node.get("/OpenAction")):
        result.mark("pdf.automatic_action")
    if isinstance(node.get("/AA"), pikepdf.Dictionary) and len(node["/AA"]) > 0:
        result.mark("pdf.automatic_action")
    if "/Ref" in node and subtype == "/Form":
        result.mark("pdf.outside_reference")
    if "/EF" not in node and _name(node.get("/Type")) in {"/Filespec", "/F"}:
        result.mark("pdf.outside_reference")
    if any(_OUTSIDE.match(_text(node.get(key))) for key in ("/F", "/UF", "/DOS", "/Unix", "/Mac")):
        result.mark("pdf.outside_reference")
    if isinstance(node, pikepdf.Stream):
        _check_stream(node, result)


def _check_stream(node: Any, result: Examination) -> None:
    if "/F" in node:
        result.mark("pdf.outside_reference")  # the stream's data would come from another file
    filters = node.get("/Filter")
    names = [filters] if filters is None or _name(filters) else list(filters)
    if any(_name(item) not in _FILTERS for item in names if item is not None):
        result.mark("pdf.unknown_filter")
    if len(names) > 6:
        result.mark("pdf.many_filters")
    extends = node.get("/Extends")
    if extends is not None and getattr(extends, "objgen", None) == node.objgen:
        result.mark("pdf.loop")
    if node.get("/FunctionType") == 4 and node.read_raw_bytes()[: 64 * 1024].count(b"copy") > 16:
        result.mark("pdf.exhausting_function")


def _has_file(spec: Any) -> bool:
    import pikepdf

    return isinstance(spec, pikepdf.Dictionary) and "/EF" in spec


def _acts(action: Any) -> bool:
    """Whether what happens on opening is more than showing a place in this document."""
    import pikepdf

    if not isinstance(action, pikepdf.Dictionary):
        return False  # a destination
    return _name(action.get("/S")) != "/GoTo" or "/Next" in action


# ── 2: loops ─────────────────────────────────────────────────────────────────────────────────────


def _check_loops(pdf: pikepdf.Pdf, result: Examination) -> None:
    """Chains of actions (`/Next`) and outlines that never end."""
    import pikepdf

    for index, top in enumerate(pdf.objects):
        if index >= _MAX_OBJECTS or "pdf.loop" in result.suspect:
            break
        if isinstance(top, pikepdf.Dictionary) and "/Next" in top and _endless(top):
            result.mark("pdf.loop")
    outlines = pdf.Root.get("/Outlines")
    seen: set[Any] = set()
    stack = [outlines]
    while stack and len(seen) < 20_000:
        node = stack.pop()
        if not isinstance(node, pikepdf.Dictionary):
            continue
        if node.is_indirect and node.objgen in seen:
            result.mark("pdf.loop")
            return
        seen.add(node.objgen if node.is_indirect else len(seen))
        stack.extend(node.get(key) for key in ("/First", "/Next"))


def _endless(action: Any) -> bool:
    """Whether a chain of actions returns to itself or is too long to be meant for a person."""
    import pikepdf

    if "/S" not in action:
        return False
    seen: set[Any] = set()
    node = action
    for _step in range(_MAX_CHAIN):
        if node.is_indirect:
            if node.objgen in seen:
                return True
            seen.add(node.objgen)
        following = node.get("/Next")
        if isinstance(following, pikepdf.Array):
            following = following[0] if len(following) else None
        if not isinstance(following, pikepdf.Dictionary):
            return False
        node = following
    return True


def _name(value: Any) -> str:
    import pikepdf

    return str(value) if isinstance(value, pikepdf.Name) else ""


def _text(value: Any) -> str:
    import pikepdf

    return str(value)[:2000] if isinstance(value, pikepdf.String) else ""
