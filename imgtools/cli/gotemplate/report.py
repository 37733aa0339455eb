"""What containers/common does around a template: escapes, "table", JSON and columns.

`skopeo inspect` and podman's commands treat their --format so; buildah hands it to the
template unchanged.
"""

from __future__ import annotations

import re

_JSON = re.compile(r"\s*(?:json|\{\{\s*json\s*\.?\s*\}\})\s*")
_MIN_WIDTH = 8
_PADDING = 2


def is_json(template: str) -> bool:
    """Whether --format asks for the document itself: json, or {{json .}} and nothing else."""
    return _JSON.fullmatch(template) is not None


def normalize(template: str) -> str:
    r"""`template` with \t and \n replaced, and ending in a newline.

    After the prefix "table " all spaces outside of {{ }} separate columns; the prefix itself
    is dropped, because one image has no header.
    """
    table = template.startswith("table ")
    text = template.removeprefix("table ") if table else template
    text = text.replace("\\t", "\t").replace("\\n", "\n")
    if table:
        parts = re.split(r"(\{\{.*?\}\})", text, flags=re.DOTALL)
        text = "".join(p if i % 2 else p.replace(" ", "\t") for i, p in enumerate(parts))
    return text if text.endswith("\n") else text + "\n"


def align(text: str) -> str:
    """`text` with its tab-terminated cells padded to columns, as Go's text/tabwriter does.

    A column is a run of adjacent lines that have a cell there; it is 8 wide or as wide as
    its widest cell and two spaces.
    """
    if "\t" not in text:
        return text
    lines = [line.split("\t") for line in text.split("\n")]
    widths = [[0] * (len(line) - 1) for line in lines]
    for column in range(max(len(line) for line in lines) - 1):
        start = 0
        while start < len(lines):
            end = start
            while end < len(lines) and column < len(lines[end]) - 1:
                end += 1
            cells = [len(lines[i][column]) + _PADDING for i in range(start, end)]
            for i in range(start, end):
                widths[i][column] = max(_MIN_WIDTH, *cells)
            start = end + 1
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(line, sizes, strict=False)) + line[-1]
        for line, sizes in zip(lines, widths, strict=True)
    )
