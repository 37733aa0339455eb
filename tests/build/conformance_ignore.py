"""The tables of patterns that moby's and containers' matchers share, run against our matcher."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from imgtools.build.ignore.matcher import Matcher
from imgtools.errors import InvalidInput
from tests.build.go_tables import STRING, table, unquote

Case = tuple[str, bool, str]

_FUNCTION = re.compile(r"^func (Test\w+)\(.*?^}", re.MULTILINE | re.DOTALL)
_CALL = re.compile(rf"\bMatches\(({STRING}), \[\]string\{{(.*?)\}}\)")


def run(anchors: Path) -> Iterator[Case]:
    """The name of each case, whether it passed, and the difference if not.

    `anchors` holds a source tree of container-libs in `container-libs`.
    """
    file = anchors / "container-libs/storage/pkg/fileutils/fileutils_test.go"
    source = file.read_text("utf-8")
    yield from _one_pattern(source)
    yield from _lists(source)
    yield from _elements(source)


def _one_pattern(source: str) -> Iterator[Case]:
    """Rows of pattern, path, whether the pattern is bad, whether it matches; the second table
    is for all systems but Windows."""
    markers = ("tests := []matchesTestCase", "append(tests, []matchesTestCase")
    rows = chain.from_iterable(_rows(source, marker) for marker in markers)
    for number, (pattern, path, bad, matches) in enumerate(rows, start=1):
        yield _case(f"ignore:{number}", [pattern], path, _wanted(bad, matches))


def _lists(source: str) -> Iterator[Case]:
    """Test functions that ask once and say in an `if` what is wrong."""
    for function in _FUNCTION.finditer(source):
        call = _CALL.search(function[0])
        if call is None:
            continue
        patterns = [unquote(literal) for literal in re.findall(STRING, call[2])]
        rest = function[0][call.end() :]
        wanted = (
            None if "err == nil {" in rest else re.search(r"if !match(es)? \{", rest) is not None
        )
        yield _case(f"ignore-lists:{function[1]}", patterns, unquote(call[1]), wanted)


def _elements(source: str) -> Iterator[Case]:
    """Rows of pattern, name, whether it matches, and the error or nil."""
    for number, row in enumerate(_rows(source, "var matchTests = []matchTest"), start=1):
        pattern, name, matches, error = row
        wanted = _wanted("false" if error == "nil" else "true", matches)
        yield _case(f"ignore-names:{number}", [pattern], name, wanted)


def _rows(source: str, marker: str) -> Iterator[list[str]]:
    rows = table(source, marker)
    assert isinstance(rows, list)
    for row in rows:
        assert isinstance(row, list)
        yield [str(field) for field in row]


def _wanted(bad: str, matches: str) -> bool | None:
    return None if bad == "true" else matches == "true"


def _case(name: str, patterns: Sequence[str], path: str, wanted: bool | None) -> Case:
    """A case; None stands for a pattern that is refused."""
    try:
        got: bool | None = Matcher(patterns).ignored(path)
    except InvalidInput:
        got = None
    return name, got == wanted, f"{patterns} on {path!r}: expected {wanted}, got {got}"
