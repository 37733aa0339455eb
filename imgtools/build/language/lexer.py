"""Lines of a file to logical lines: continuations joined, comments and empty lines left out.

The rules are those of BuildKit's frontend/dockerfile/parser. A logical line remembers where
each of its pieces stood, so that an error can point at the very character.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

from imgtools.build.language.errors import ContainerfileError, brief
from imgtools.build.language.model import Heredoc
from imgtools.build.language.source import SPACE_CHARACTERS, Source
from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """`offset` in a logical line is line `number` (from 1), character `column` (from 0)."""

    offset: int
    number: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalLine:
    """An instruction as one line: `first` and `last` are its lines in the file, counted from 1;
    `comments` those above it; `gap` the first empty line among its continuations, 0 for none;
    `damaged` the first of its lines that was not UTF-8, 0 for none."""

    source: Source
    text: str
    first: int
    last: int
    pieces: tuple[Piece, ...]
    comments: tuple[str, ...] = ()
    gap: int = 0
    damaged: int = 0

    def error(
        self, reason: str, offset: int | None = None, *, hint: str | None = None
    ) -> ContainerfileError:
        """An error at the character `offset` of the text; without it, of the whole line."""
        number, column = self.first, 0
        if offset is not None:
            index = bisect_right(self.pieces, offset, key=lambda piece: piece.offset) - 1
            piece = self.pieces[max(index, 0)]
            number, column = piece.number, piece.column + offset - piece.offset + 1
            column = min(column, len(self.source.lines[number - 1]) + 1)
        return self.source.error(reason, number, last=self.last, column=column, hint=hint)


class Lexer:
    """Goes through a file once, from line `start` (from 0)."""

    def __init__(self, source: Source, escape: str, start: int = 0) -> None:
        self._source = source
        self._escape = escape
        self._at = start

    @property
    def line(self) -> int:
        """How many lines have been read, that is the number of the last one."""
        return self._at

    def next_line(self) -> LogicalLine | None:
        """The next instruction, None at the end of the file."""
        lines, comments = self._source.lines, list[str]()
        while self._at < len(lines):
            written = lines[self._at]
            text = written.lstrip(SPACE_CHARACTERS)
            self._at += 1
            if text.startswith("#"):
                # A comment without a text ends a paragraph of comments.
                if comment := text[1:].strip(SPACE_CHARACTERS):
                    comments.append(comment)
                else:
                    comments.clear()
            elif text:
                return self._joined(text, len(written) - len(text), tuple(comments))
        return None

    def _joined(self, text: str, column: int, comments: tuple[str, ...]) -> LogicalLine:
        lines, damaged = self._source.lines, self._source.damaged
        first, gap = self._at, 0
        text, more = self._without_continuation(text)
        texts, pieces, size = [text], [Piece(0, first, column)], len(text)
        spoilt = first if first in damaged else 0
        while more and self._at < len(lines):
            text = lines[self._at]
            self._at += 1
            start = text.lstrip(SPACE_CHARACTERS)[:1]
            if start == "#":
                continue
            if not start:
                gap = gap or self._at
                continue
            if self._at in damaged:
                spoilt = spoilt or self._at
            text, more = self._without_continuation(text)
            texts.append(text)
            pieces.append(Piece(size, self._at, 0))
            size += len(text)
        return LogicalLine(
            source=self._source,
            text="".join(texts),
            first=first,
            last=self._at,
            pieces=tuple(pieces),
            comments=comments,
            gap=gap,
            damaged=spoilt,
        )

    def _without_continuation(self, text: str) -> tuple[str, bool]:
        """The line without the escape character at its end, and whether it had one. Blanks may
        follow it; two escape characters are not one."""
        stripped = text.rstrip(" \t")
        if stripped.endswith(self._escape) and not stripped.endswith(self._escape * 2):
            return stripped[:-1], True
        return text, False

    def heredoc(self, mark: Heredoc, line: LogicalLine, offset: int) -> Heredoc:
        """Reads the body of a here-document whose mark is at `offset` of `line`; tabs stay.
        Raises ContainerfileError for a file that ends before the document does."""
        start = self._at
        end = self._end_of(mark)
        if end is None:
            raise line.error(
                f"the here-document {brief(mark.name)} does not end",
                offset,
                hint=f"end it with a line that is {brief(mark.name)} and nothing else",
            )
        self._at = end + 1
        for number in range(start + 1, end + 1) if self._source.damaged else ():
            if number in self._source.damaged:
                raise self._source.error(
                    "a here-document is not UTF-8", number, hint="save the file as UTF-8"
                )
        content = "\n".join(self._source.raw[start:end])
        return replace(mark, content=f"{content}\n" if end > start else "")

    def _end_of(self, mark: Heredoc) -> int | None:
        """The index of the line that ends a here-document, None if there is none."""
        lines = self._source.lines
        if not mark.strip_tabs:
            try:
                return lines.index(mark.name, self._at)
            except ValueError:
                return None
        for index in range(self._at, len(lines)):
            if lines[index].lstrip("\t") == mark.name:
                return index
        return None
