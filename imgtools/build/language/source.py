"""The bytes of a Containerfile as lines: byte order mark, line ends, encoding and size.

Nothing is lost that a here-document may want to keep: `raw` still has the carriage returns.
"""

from __future__ import annotations

from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.model import Location
from imgtools.errors import LimitExceeded
from imgtools.frozen import dataclass

MAX_SIZE = 64 * 1024 * 1024
"""Bytes of a Containerfile; real ones have a few thousand."""

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""What Go's unicode.IsSpace calls a space, as the inside of a character class. The classes and
methods of Python know four more."""

SPACE_CHARACTERS = SPACES.replace("\u2000-\u200a", "".join(map(chr, range(0x2000, 0x200B))))
"""The same, one after the other, for str.strip."""

_BOM = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file: `lines` without their ends, `raw` with the carriage returns that may precede a
    newline, `damaged` the numbers (from 1) of the lines that were not UTF-8: there U+FFFD
    stands for what could not be read."""

    name: str
    lines: tuple[str, ...]
    raw: tuple[str, ...]
    damaged: frozenset[int] = frozenset()

    def error(
        self, reason: str, number: int, *, last: int = 0, column: int = 0, hint: str | None = None
    ) -> ContainerfileError:
        """An error at line `number`; `column` counts from 1, 0 for none."""
        return ContainerfileError(
            reason,
            Location(file=self.name, first=number, last=max(number, last)),
            excerpt=self.lines[number - 1] if 0 < number <= len(self.lines) else "",
            column=column,
            hint=hint,
        )


def read_source(content: bytes, name: str) -> Source:
    """A file's lines. Raises LimitExceeded, and ContainerfileError for what is no text."""
    if len(content) > MAX_SIZE:
        raise LimitExceeded(name, MAX_SIZE)
    for mark, encoding in _OTHER_ENCODINGS:
        if content.startswith(mark):
            raise Source(name=name, lines=(), raw=()).error(
                f"the file is in {encoding}", 1, hint="save it as UTF-8"
            )
    content = content.removeprefix(_BOM)
    if (zero := content.find(b"\0")) >= 0:
        raise Source(name=name, lines=(), raw=()).error(
            "the file has a NUL byte, so it is no text", content.count(b"\n", 0, zero) + 1
        )
    try:
        return _lines(content.decode(), name, frozenset())
    except UnicodeDecodeError:
        damaged = frozenset(
            number for number, line in enumerate(content.split(b"\n"), 1) if not _is_utf8(line)
        )
        return _lines(content.decode("utf-8", "replace"), name, damaged)


def source_of_text(text: str, name: str) -> Source:
    """The lines of a text that is in memory; what UTF-8 cannot say becomes U+FFFD."""
    return read_source(text.encode("utf-8", "surrogatepass"), name)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _lines(text: str, name: str, damaged: frozenset[int]) -> Source:
    raw = text.split("\n")
    if not raw[-1]:
        raw.pop()
    kept = tuple(raw)
    lines = tuple(line.rstrip("\r") for line in kept) if "\r" in text else kept
    return Source(name=name, lines=lines, raw=kept, damaged=damaged)
