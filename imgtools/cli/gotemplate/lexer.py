"""Text of a template -> tokens, as in Go's text/template/parse.

Outside of {{ }} everything is text; inside, white space separates operands and is
therefore a token itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from imgtools.cli.gotemplate.values import TemplateError

KEYWORDS = frozenset(
    "block break continue define else end if range template with".split()  # noqa: SIM905
)
_SPACE = " \t\r\n"
_TERMINATORS = frozenset(_SPACE + ".,|:()")
_WORD = r"[^\W\d]\w*"
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\r\n]+)
    |(?P<declare>:=)|(?P<assign>=)|(?P<pipe>\|)|(?P<lparen>\()|(?P<rparen>\))|(?P<comma>,)
    |(?P<string>"(?:\\[^\n]|[^"\\\n])*")|(?P<raw>`[^`]*`)|(?P<char>'(?:\\[^\n]|[^'\\\n])*')
    |(?P<number>[+-]?(?:\d|\.\d)(?:[eEpP][+-]?\d|[\w.])*)
    |(?P<field>\.{_WORD})|(?P<dot>\.)|(?P<variable>\$\w*)|(?P<word>{_WORD})""",
    re.VERBOSE,
)
_QUOTES = {
    '"': "unterminated quoted string",
    "`": "unterminated raw quoted string",
    "'": "unterminated character constant",
}


class Token(NamedTuple):
    kind: str
    text: str
    pos: int


def error_at(name: str, source: str, pos: int, message: str) -> TemplateError:
    """A parse error, placed as Go does: by line."""
    return TemplateError(f"template: {name}:{source.count(chr(10), 0, pos) + 1}: {message}")


def tokens(name: str, source: str) -> Iterator[Token]:
    """The tokens of `source`; the last has the kind eof. Raises TemplateError."""
    pos, trim_next = 0, False
    while True:
        start = source.find("{{", pos)
        text = source[pos:] if start < 0 else source[pos:start]
        trim_this = start >= 0 and source[start + 2 : start + 3] == "-"
        trim_this = trim_this and source[start + 3 : start + 4] in tuple(_SPACE)
        kept = text.lstrip(_SPACE) if trim_next else text
        if trim_this:
            kept = kept.rstrip(_SPACE)
        if kept:
            yield Token("text", kept, pos)
        if start < 0:
            yield Token("eof", "", len(source))
            return
        inside = start + (4 if trim_this else 2)
        if source.startswith("/*", inside):
            pos, trim_next = _comment(name, source, inside)
            continue
        yield Token("left", "{{", start)
        for token in _action(name, source, inside):
            yield token
        pos = token.pos + len(token.text)
        trim_next = token.text.startswith(" -")


def _comment(name: str, source: str, pos: int) -> tuple[int, bool]:
    end = source.find("*/", pos)
    if end < 0:
        raise error_at(name, source, pos, "unclosed comment")
    for closing, trims in (("}}", False), (" -}}", True)):
        if source.startswith(closing, end + 2):
            return end + 2 + len(closing), trims
    if source[end + 2 : end + 3] in tuple(_SPACE) and source.startswith("-}}", end + 3):
        return end + 6, True
    raise error_at(name, source, end, "comment ends before closing delimiter")


def _action(name: str, source: str, pos: int) -> Iterator[Token]:
    """The tokens up to and including the closing delimiter, whose text has its trim marker."""
    depth = 0
    while True:
        closing = next(
            (
                width
                for marker, width in (("}}", 0), ("-}}", 1))
                if source.startswith(marker, pos + width)
                and (not width or source[pos : pos + 1] in tuple(_SPACE))
            ),
            None,
        )
        if closing is not None:
            if depth:
                raise error_at(name, source, pos, "unclosed left paren")
            yield Token("right", " -}}" if closing else "}}", pos)
            return
        found = _TOKEN.match(source, pos)
        if found is None:
            if (complaint := _complaint(source, pos)) is not None:
                raise error_at(name, source, pos, complaint)
            yield Token("other", source[pos], pos)
            pos += 1
            continue
        kind, text = found.lastgroup or "", found.group()
        if kind == "space" and source.startswith("-}}", found.end()):
            text = text[:-1]
            if not text:
                continue
        depth += (kind == "lparen") - (kind == "rparen")
        if depth < 0:
            raise error_at(name, source, pos, "unexpected right paren")
        following = source[pos + len(text) : pos + len(text) + 1]
        if kind in ("field", "variable", "word") and not (
            not following or following in _TERMINATORS or source.startswith("}}", pos + len(text))
        ):
            raise error_at(name, source, pos, f"bad character {describe(following)}")
        if kind == "word" and text in KEYWORDS:
            kind = "keyword"
        yield Token(kind, text, pos)
        pos += len(text)


def _complaint(source: str, pos: int) -> str | None:
    """What is wrong with the character at `pos`; None leaves it to the parser."""
    if pos >= len(source):
        return "unclosed action"
    if (quote := source[pos]) in _QUOTES:
        return _QUOTES[quote]
    if quote == ":":
        return "expected :="
    if quote in "+-":
        return f'illegal number syntax: "{quote}"'
    if quote.isascii() and quote.isprintable():
        return None
    return f"unrecognized character in action: {describe(quote)}"


def describe(char: str) -> str:
    """A character as Go's %#U shows it."""
    return f"U+{ord(char):04X} '{char}'"
