"""The fonts of a certificate: where on this system there are some with Chinese characters.

Promises: `find_fonts` names a serif and a sans face that have Chinese and Latin glyphs and may be
embedded, or says that there are none.

Leaves out: loading and subsetting them (`page`).

Rule: the package `pylopdf_fonts_zh_cn` (Noto, SIL OFL 1.1) comes first, so that a print looks the same
everywhere; then the places where distributions put Noto CJK.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

import msgspec

_FONT_PACKAGE: Final = "pylopdf_fonts_zh_cn"
_INSTALLED: Final = (
    "/usr/share/fonts/opentype/noto/Noto{style}CJK-Regular.ttc",
    "/usr/share/fonts/google-noto-{folder}-cjk-fonts/Noto{style}CJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/Noto{style}CJK-Regular.ttc",
)
# The face with the forms used in mainland China, in every Noto CJK collection.
COLLECTION_FACE: Final = 2


class Fonts(msgspec.Struct, frozen=True):
    """Font files with Chinese and Latin glyphs (OTF, TTF, or a Noto CJK collection)."""

    serif: Path
    sans: Path


def find_fonts() -> Fonts | None:
    """The fonts of rule 1 that this system has, or None."""
    spec = importlib.util.find_spec(_FONT_PACKAGE)
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent
        fonts = Fonts(folder / "NotoSerifSC-Regular.otf", folder / "NotoSansSC-Regular.otf")
        if fonts.serif.is_file() and fonts.sans.is_file():
            return fonts
    for pattern in _INSTALLED:
        pair = [Path(pattern.format(style=it, folder=it.lower())) for it in ("Serif", "Sans")]
        present = [path for path in pair if path.is_file()]
        if present:
            return Fonts(present[0], present[-1])
    return None
