"""Runs BuildKit's own data for its parser: syntax trees, refusals, lines and JSON forms.

The data is read out of a source tree of moby/buildkit; nothing of it is kept here. A tree is
compared in the form of BuildKit's Node.Dump: one line per instruction in parentheses, its flags
as a list, its arguments quoted as by Go's strconv.Quote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from imgtools.build.language.directives import read_directives
from imgtools.build.language.jsonform import json_form
from imgtools.build.language.parser import parse
from imgtools.build.language.source import read_source
from imgtools.build.language.statements import GRAMMARS, Statement, statements
from imgtools.errors import Error, InvalidInput

Outcome = tuple[str, bool, str]
"""The name of a case, whether it passed, and the difference if not."""


def run(anchors: str) -> Iterator[Outcome]:
    """All cases of the tree `anchors`/buildkit."""
    parser = Path(anchors) / "buildkit" / "frontend" / "dockerfile" / "parser"
    for folder in sorted((parser / "testfiles").iterdir()):
        yield _tree(folder)
    for folder in sorted((parser / "testfiles-negative").iterdir()):
        yield _refusal(folder)
    yield from _lines(parser)
    yield from _json(parser)


def _tree(folder: Path) -> Outcome:
    name = f"parser/{folder.name}"
    expected = (folder / "result").read_bytes().decode()
    try:
        actual = dump(read(folder / "Dockerfile")) + "\n"
    except Error as e:
        return name, False, e.message
    return _compared(name, expected, actual)


def _refusal(folder: Path) -> Outcome:
    name = f"parser-negative/{folder.name}"
    try:
        parse((folder / "Dockerfile").read_bytes(), "Dockerfile")
    except InvalidInput:
        return name, True, ""
    return name, False, "accepted"


def _lines(parser: Path) -> Iterator[Outcome]:
    """The lines of each instruction, and of all together, as BuildKit's test has them."""
    test = (parser / "parser_test.go").read_text()
    body = test[test.index("func TestParseIncludesLineNumbers") :]
    bounds = [
        int(_found(rf"\((?:t, )?(\d+), ast\.{field}\)", body)) for field in ("StartLine", "EndLine")
    ]
    table = body[body.index("[][]int{") : body.index("for i,")]
    expected = [(int(a), int(b)) for a, b in re.findall(r"\{(\d+), (\d+)\}", table)]
    found = [(each.line.first, each.last) for each in read(parser / "testfile-line" / "Dockerfile")]
    whole = [found[0][0], found[-1][1]] if found else []
    for index, lines in enumerate(expected):
        actual = found[index] if index < len(found) else None
        yield _compared(
            f"parser-line/{index}",
            f"{lines} of {len(expected)} in {bounds}",
            f"{actual} of {len(found)} in {whole}",
        )


def _json(parser: Path) -> Iterator[Outcome]:
    test = (parser / "json_test.go").read_text(encoding="utf-8")
    good = test.index("var validJSONArraysOfStrings")
    for text in re.findall(r"`([^`]*)`", test[:good]):
        try:
            yield f"json-invalid/{text}", False, f"gave {json_form(text)!r}"
        except InvalidInput:
            yield f"json-invalid/{text}", True, ""
    for text, listed in re.findall(r"^\s*`([^`]*)`:\s*\{(.*)\},$", test[good:], re.MULTILINE):
        # The strings are Go's literals; those here mean the same in JSON, all but \x.
        literals = re.sub(r"\\x([0-9a-f]{2})", r"\\u00\1", f"[{listed}]")
        expected = tuple(json.loads(literals))
        yield _compared(f"json-valid/{text}", repr(expected), repr(json_form(text)))


def _found(expression: str, text: str) -> str:
    match = re.search(expression, text)
    if match is None:
        raise LookupError(f"BuildKit's test has no {expression}")
    return match[1]


def _compared(name: str, expected: str, actual: str) -> Outcome:
    return name, expected == actual, "" if expected == actual else f"{expected!r} != {actual!r}"


def read(path: Path) -> list[Statement]:
    """The statements of a file."""
    source = read_source(path.read_bytes(), path.name)
    directives, start = read_directives(source)
    return list(statements(source, directives.escape, start))


def dump(tree: Iterable[Statement]) -> str:
    """Statements as BuildKit dumps them."""
    return "\n".join(f"({_dumped(statement)})" for statement in tree)


def _dumped(statement: Statement) -> str:
    words = [statement.written.lower()]
    if statement.flags:
        words.append(f"[{' '.join(quote(flag.text) for flag in statement.flags)}]")
    if statement.inner is not None:
        words.append(f"({_dumped(statement.inner)})")
    elif statement.keyword not in GRAMMARS:
        words.append('""')
    return " ".join([*words, *map(quote, statement.arguments)])


def quote(text: str) -> str:
    """A string as Go's strconv.Quote writes it."""
    named = {
        "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
        "\v": "\\v", "\\": "\\\\", '"': '\\"',
    }  # fmt: skip
    quoted = []
    for character in text:
        code = ord(character)
        if character in named:
            quoted.append(named[character])
        elif character.isprintable():
            quoted.append(character)
        elif code < 0x20 or code == 0x7F:
            quoted.append(f"\\x{code:02x}")
        else:
            quoted.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return f'"{"".join(quoted)}"'
