"""Text for people and JSON for machines: nothing that a terminal would obey gets out.

Names, labels and commands come from whoever made the image; in what people read, every
character that is not plainly visible is an escape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from imgtools.spec import strict_json

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
# DEL and the C1 controls, which JSON leaves alone, and what reorders text on a line.
_UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile(f"{_UNSAFE.pattern}|[\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` with a backslash escape for everything that is not visible on a line.

    Bytes that are not UTF-8 (surrogate escapes) are shown as \\xNN; a backslash stays one.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def json_line(value: Any) -> str:
    """Compact JSON, safe to show; a lone surrogate is an escape, so that os.fsencode gives
    back the byte of a file name that it stands for."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _escaped_json(_SURROGATE, text)


def json_text(value: Any) -> str:
    """Indented JSON as skopeo prints it, but for characters that a terminal might obey,
    which are escapes here."""
    return _escaped_json(_UNSAFE, strict_json.dumps_indented(value))


def _escaped_json(characters: re.Pattern[str], text: str) -> str:
    return characters.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def human_size(size: int | None) -> str:
    """Bytes as 12.3 MB (powers of 1000), "-" when unknown."""
    if size is None or size < 0:
        return "-"
    amount = float(size)
    for unit in _UNITS:
        if amount < 999.95 or unit == _UNITS[-1]:
            break
        amount /= 1000
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table with two spaces between columns; cells are made printable."""
    cells = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
