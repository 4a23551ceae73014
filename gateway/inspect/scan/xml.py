"""XML read without trusting it: no DTD, no entities, no network, no huge trees.

Promises: `parse` gives a tree or raises `Unreadable`; nothing is fetched and nothing is expanded.
`scan` names what an XML should not carry: a document type declaration, entities, active SVG or HTML, a style
sheet (but for those that invoices name). Leaves out: validation and signatures.

Source: OWASP XXE guidance; XML 1.0 section 2.8 (doctype), 4.2 (entities).
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from gateway.inspect.document import MIB, Document, Examination, Limits, Unreadable
from gateway.inspect.formats import invoices
from gateway.inspect.formats.references import place

if TYPE_CHECKING:
    from lxml.etree import XMLParser, _Element

NAME: Final = "xml"
MAX_XML: Final = 32 * MIB
_PROLOG: Final = 64 * 1024
_DOCTYPE: Final = re.compile(r"<!\s*(DOCTYPE|ENTITY)\b", re.IGNORECASE)
_SCRIPT: Final = re.compile(r"<(\w+:)?(script|iframe|foreignObject)\b", re.IGNORECASE)
_STYLESHEET: Final = re.compile(r"<\?xml-stylesheet\b([^>]{0,2000})", re.IGNORECASE)
_STYLE_TARGET: Final = re.compile(r"\bhref\s{0,20}=\s{0,20}(?:\"([^\"]*)\"|'([^']*)')")

_SAFE: Final[dict[str, Any]] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "dtd_validation": False,
    "attribute_defaults": False,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}


def looks_like_xml(head: bytes) -> bool:
    """Whether a reader would take this for XML."""
    start = decode_head(head[:4096]).lstrip("\ufeff \t\r\n")
    return start.startswith("<?xml") or bool(re.match(r"<[A-Za-z_!][\w:.-]*[\s/>!]", start))


def decode_head(data: bytes) -> str:
    """Markup as text for a look at its declarations, whatever its encoding; never fails."""
    if data.startswith((b"\xff\xfe", b"<\0")):
        return data.decode("utf-16-le", "replace")
    if data.startswith((b"\xfe\xff", b"\0<")):
        return data.decode("utf-16-be", "replace")
    return data.removeprefix(codecs.BOM_UTF8).decode("latin-1")


def parse(data: bytes) -> _Element:
    """Parse XML into a tree.

    Raises:
        Unreadable: not well-formed, too large, or with a document type declaration.
    """
    from lxml import etree

    if len(data) > MAX_XML:
        raise Unreadable("over_limit", f"XML: expected at most {MAX_XML} bytes, found {len(data)}")
    if _DOCTYPE.search(decode_head(data[:_PROLOG])):
        raise Unreadable("malformed", "XML: it holds a document type declaration")
    try:
        root = etree.fromstring(data, _parser(recover=False))
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        # The library's message quotes the document: only its class goes on.
        raise Unreadable(
            "malformed", f"XML: expected a well-formed document, found {type(error).__name__}"
        ) from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise Unreadable("malformed", "XML: it holds a document type declaration")
    return root


def parse_broken(data: bytes) -> _Element | None:
    """The readable part of XML that `parse` refuses, to examine what it holds; None: nothing."""
    from lxml import etree

    if len(data) > MAX_XML or _DOCTYPE.search(decode_head(data)):
        return None
    try:
        return etree.fromstring(data, _parser(recover=True))
    except (etree.XMLSyntaxError, ValueError, LookupError):
        return None


def stream(chunks: Iterable[bytes], names: tuple[str, ...], clear: str) -> Iterator[_Element]:
    """The elements with these local names, in the order of their ends, without holding the tree.

    Args:
        clear: local name of the elements that are forgotten as soon as they were given out.

    Raises:
        Unreadable: not well-formed.
    """
    from lxml import etree

    wanted = [f"{{*}}{name}" for name in (*names, clear)]
    parser = etree.XMLPullParser(events=("end",), tag=wanted, recover=False, **_SAFE)
    try:
        for chunk in chunks:
            parser.feed(chunk)
            for _event, item in cast("Iterator[tuple[str, _Element]]", parser.read_events()):
                yield item
                if not str(item.tag).endswith("}" + clear):
                    continue
                item.clear()
                parent = item.getparent()
                # One by one: taking out a slice counts all children each time.
                while parent is not None and (before := item.getprevious()) is not None:
                    parent.remove(before)
        parser.close()
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        raise Unreadable(
            "malformed", f"XML: expected a well-formed document, found {type(error).__name__}"
        ) from None


def _parser(*, recover: bool) -> XMLParser:
    from lxml import etree

    return etree.XMLParser(recover=recover, **_SAFE)


def scan(document: Document, limits: Limits) -> Examination:
    """Examine an XML document (also SVG and XHTML)."""
    from lxml import etree

    result = Examination(NAME, f"lxml {etree.__version__}")
    if document.size > min(MAX_XML, limits.max_whole_bytes):
        result.unreadable = "over_limit"
        return result
    data = document.whole(limits)
    text = decode_head(data)
    if _DOCTYPE.search(text):
        result.mark("xml.doctype")
    if re.search(r"<!\s*ENTITY\b", text, re.IGNORECASE):
        result.mark("xml.entity")
    if _SCRIPT.search(text):
        result.mark("xml.active_content")
    known = False
    try:
        known = invoices.read_tree(parse(data)) is not None
    except Unreadable as error:
        result.unreadable = error.reason
    if not all(known and _is_ordinary_style(found[1]) for found in _STYLESHEET.finditer(text)):
        result.mark("xml.stylesheet")
    return result


def _is_ordinary_style(instruction: str) -> bool:
    """Whether an invoice names a style sheet as its senders do: a neighbour's name, or a web address.

    Neither is fetched here, and browsers apply none from elsewhere. One within the file, or on another
    computer, is not ordinary.
    """
    target = _STYLE_TARGET.search(instruction)
    if target is None:
        return False
    name = html.unescape(target[1] or target[2] or "").strip()
    return bool(name) and not name.startswith("#") and place(name) in {"inside", "web"}
