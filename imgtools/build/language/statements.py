"""Statements: what a file consists of before anybody asks what an instruction means.

A statement is a keyword, its flags and its arguments, split by the grammar of its keyword, with
the here-documents that follow. This is the level of BuildKit's syntax tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from imgtools.build.language.arguments import blank_separated, pairs, shell_words
from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.flags import Flag, take_flags
from imgtools.build.language.heredocs import marks_in
from imgtools.build.language.jsonform import json_form
from imgtools.build.language.lexer import Lexer, LogicalLine
from imgtools.build.language.model import Heredoc
from imgtools.build.language.source import SPACE_CHARACTERS, Source
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass

GRAMMARS = {
    "ADD": "list",
    "ARG": "names",
    "CMD": "command",
    "COPY": "list",
    "ENTRYPOINT": "command",
    "ENV": "pairs",
    "EXPOSE": "words",
    "FROM": "words",
    "HEALTHCHECK": "check",
    "LABEL": "pairs",
    "MAINTAINER": "text",
    "ONBUILD": "trigger",
    "RUN": "command",
    "SHELL": "command",
    "STOPSIGNAL": "text",
    "USER": "text",
    "VOLUME": "list",
    "WORKDIR": "text",
}
"""Every instruction, and how the rest of its line is split."""

_KEYWORD = re.compile(r"[^\t\v\f\r ]*")
_BLANKS = re.compile(r"[\t\v\f\r ]*")
_FIRST_WORD = re.compile(r"([^\t\n\v\f\r ]*)[\t\n\v\f\r ]*")
_TAKE_HEREDOCS = ("ADD", "COPY", "RUN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement: the text of `line` from `start` on.

    `keyword` is in upper case, `written` as in the file; `rest` is what follows the flags, and
    `rest_at` where it begins in the line. `arguments` come from `rest`; `json` says that they
    were given in JSON form; for ENV and LABEL they are triples of name, value and "=" or "".
    `inner` is the statement inside ONBUILD (not inside a second one). `heredocs` still have
    their tabs; `last` is the line in which the last of them ends.
    """

    line: LogicalLine
    start: int
    keyword: str
    written: str
    flags: tuple[Flag, ...]
    rest: str
    rest_at: int
    arguments: tuple[str, ...]
    json: bool
    inner: Statement | None = None
    heredocs: tuple[Heredoc, ...] = ()
    last: int

    def error(
        self, reason: str, offset: int | None = None, *, hint: str | None = None
    ) -> ContainerfileError:
        """An error at `offset` of the line, or at the keyword."""
        return self.line.error(reason, self.start if offset is None else offset, hint=hint)

    def error_at(self, word: str, reason: str, *, hint: str | None = None) -> ContainerfileError:
        """An error at a word of `rest`."""
        found = self.rest.find(word) if word else -1
        return self.error(reason, self.rest_at + max(found, 0), hint=hint)


def statements(source: Source, escape: str, start: int = 0) -> Iterator[Statement]:
    """The statements of a file from its line `start` (from 0) on. Raises ContainerfileError."""
    lexer = Lexer(source, escape, start)
    while (line := lexer.next_line()) is not None:
        start = len(line.text) - len(line.text.lstrip(SPACE_CHARACTERS))
        statement = _split(line, start, len(line.text.rstrip(SPACE_CHARACTERS)), escape)
        yield _with_heredocs(statement, lexer)


def _split(
    line: LogicalLine, start: int, end: int, escape: str, *, inside: bool = False
) -> Statement:
    text = line.text
    found = _KEYWORD.match(text, start, end)
    written = found[0] if found else ""
    keyword = written.upper() if written.isascii() else written
    blanks = _BLANKS.match(text, start + len(written), end)
    flags, at = take_flags(line, blanks.end() if blanks else end, end, escape)
    rest = text[at:end].lstrip(SPACE_CHARACTERS)
    at = end - len(rest)
    inner = None
    if keyword == "ONBUILD" and rest and not inside:
        inner = _split(line, at, end, escape, inside=True)
    try:
        arguments, json = _arguments(keyword, rest, escape)
    except InvalidInput as e:
        raise line.error(e.message, at, hint=e.hint) from e
    return Statement(
        line=line,
        start=start,
        keyword=keyword,
        written=written,
        flags=flags,
        rest=rest,
        rest_at=at,
        arguments=arguments,
        json=json,
        inner=inner,
        last=line.last,
    )


def _arguments(keyword: str, rest: str, escape: str) -> tuple[tuple[str, ...], bool]:
    """The arguments of an instruction, and whether they are in JSON form."""
    grammar = GRAMMARS.get(keyword)
    if not rest or grammar in (None, "trigger"):
        return (), False
    if grammar == "text":
        return (rest,), False
    if grammar == "words":
        return blank_separated(rest), False
    if grammar == "names":
        return shell_words(rest, escape), False
    if grammar == "pairs":
        return pairs(rest, escape, keyword), False
    if grammar == "check":
        word = _FIRST_WORD.match(rest)
        kind, command = (word[1], rest[word.end() :]) if word else (rest, "")
        arguments, json = _arguments("CMD", command, escape)
        return (kind, *arguments), json
    strings = json_form(rest)
    if strings is not None:
        return strings, True
    return ((rest,) if grammar == "command" else blank_separated(rest)), False


def _with_heredocs(statement: Statement, lexer: Lexer) -> Statement:
    taker = statement.inner or statement
    if taker.json or taker.keyword not in _TAKE_HEREDOCS:
        return statement
    try:
        marks = marks_in(statement.line.text)
    except InvalidInput as e:
        raise statement.error(e.message, hint=e.hint) from e
    if not marks:
        return statement
    line, offset, documents = statement.line, 0, list[Heredoc]()
    for mark in marks:
        offset = max(line.text.find("<<", offset), 0)
        documents.append(lexer.heredoc(mark, line, offset))
        offset += 2
    return replace(statement, heredocs=tuple(documents), last=lexer.line)
