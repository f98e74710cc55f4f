"""Texts compared as people see them."""

import unicodedata
from collections.abc import Iterable

# Characters without a glyph that are in no category of their own: variation selectors, the combining grapheme joiner,
# fillers of Hangul. Source: Default_Ignorable_Code_Point in
# https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt
_IGNORABLE = {
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0),
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
}


def as_seen(text: str) -> str:
    """The text as it is compared: without invisible characters, accents composed, case folded, spaces at the ends
    removed and those in between reduced to one each."""
    if text.isascii() and text.isprintable():
        return " ".join(text.casefold().split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    visible = "".join(
        " " if char.isspace() else char
        for char in folded
        if char.isspace() or (unicodedata.category(char) not in {"Cc", "Cf"} and ord(char) not in _IGNORABLE)
    )
    return " ".join(visible.split())


def all_as_seen(texts: Iterable[str]) -> set[str]:
    return {as_seen(text) for text in texts}
