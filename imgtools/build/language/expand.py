"""Expands the variables in a word of a Containerfile and takes its quotes and escapes away.

The rules are those of BuildKit's shell lexer (frontend/dockerfile/shell), which takes after the
POSIX shell: `$x`, `${x}` and `${x-w}`, `${x+w}`, `${x?w}` with and without colon, `${x#p}`,
`${x##p}`, `${x%p}`, `${x%%p}`, `${x/p/r}`, `${x//p/r}`. Nothing is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn, TypeVar

from imgtools.build.language import substrings
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass

# Both keep a word of a few bytes from taking all memory or the whole stack.
MAX_GROWTH = 4 * 1024 * 1024
MAX_DEPTH = 64

# What unicode.IsSpace of Go calls a space; str.isspace() knows four more.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SPLIT = re.compile(f"([{_SPACES}]+)")
_SPECIAL_PARAMETERS = "@*#?-$!0"


@dataclass(frozen=True, slots=True)
class Expanded:
    """A word after expansion, with the names of the variables that were looked up in it and
    were there (`matched`) or not (`unmatched`)."""

    text: str
    matched: frozenset[str] = frozenset()
    unmatched: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """`raw_quotes` and `raw_escapes`: they stay in the result; `quotes`: ' and " quote at all;
    `keep_unset`: a variable that is not set stays as it is written."""

    escape: str
    raw_quotes: bool = False
    raw_escapes: bool = False
    quotes: bool = True
    keep_unset: bool = False


def expand_word(
    word: str,
    variables: Mapping[str, str],
    *,
    escape: str = "\\",
    raw_quotes: bool = False,
    raw_escapes: bool = False,
    quotes: bool = True,
    keep_unset: bool = False,
) -> Expanded:
    """`word` with its variables expanded and without its quotes and escapes; not split.

    `escape` is the escape character of the file. With `raw_quotes` and `raw_escapes` those stay
    in the text; without `quotes` they are ordinary characters; with `keep_unset` a variable
    that is not set stays as written. Raises InvalidInput, with the word and the reason, for an
    open quote or brace, a form that does not exist, a variable that `?` demands, a pattern that
    is malformed, and for more growth or depth than a Containerfile needs.
    """
    rules = _Rules(
        escape=escape,
        raw_quotes=raw_quotes,
        raw_escapes=raw_escapes,
        quotes=quotes,
        keep_unset=keep_unset,
    )
    lexer = _Lexer(word, variables, rules)
    text = lexer.run(_Text())
    return Expanded(text.text(), frozenset(lexer.matched), frozenset(lexer.unmatched))


def expand_words(
    word: str,
    variables: Mapping[str, str],
    *,
    escape: str = "\\",
    raw_quotes: bool = False,
    raw_escapes: bool = False,
    keep_unset: bool = False,
) -> tuple[str, ...]:
    """`word` expanded as by `expand_word`, then split at the spaces that are neither quoted nor
    escaped, those that came out of a variable included. Raises InvalidInput as that does."""
    rules = _Rules(
        escape=escape, raw_quotes=raw_quotes, raw_escapes=raw_escapes, keep_unset=keep_unset
    )
    return _Lexer(word, variables, rules).run(_Words()).words()


def expand_heredoc(content: str, variables: Mapping[str, str]) -> Expanded:
    """The body of a here-document whose delimiter is not quoted: quotes are ordinary, and the
    escape is the backslash whatever the file says. Raises InvalidInput as `expand_word` does."""
    return expand_word(content, variables, quotes=False)


class _Text:
    """Collects one text."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def add(self, text: str) -> None:
        """Text whose spaces separate words."""
        self._pieces.append(text)

    def add_quoted(self, text: str) -> None:
        """Text whose spaces do not."""
        self._pieces.append(text)

    def text(self) -> str:
        """All that was added."""
        return "".join(self._pieces)


class _Words(_Text):
    """Collects words; none is empty, as in BuildKit."""

    def __init__(self) -> None:
        super().__init__()
        self._words: list[str] = []

    def add(self, text: str) -> None:
        for index, piece in enumerate(_SPLIT.split(text)):
            if index % 2:
                self._finish()
            else:
                self._pieces.append(piece)

    def words(self) -> tuple[str, ...]:
        """The words so far."""
        self._finish()
        return tuple(self._words)

    def _finish(self) -> None:
        if word := self.text():
            self._words.append(word)
        self._pieces.clear()


_Sink = TypeVar("_Sink", bound=_Text)


class _Lexer:
    """One pass over one word."""

    def __init__(self, word: str, variables: Mapping[str, str], rules: _Rules) -> None:
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()
        self._word = word
        self._at = 0
        self._variables = variables
        self._rules = rules
        self._raw_escapes = rules.raw_escapes
        self._depth = 0
        self._room = MAX_GROWTH
        quotes = "'\"" if rules.quotes else ""
        self._plain = re.compile(f"[^$<}}/{quotes}{re.escape(rules.escape)}]+|[}}/]")
        self._quoted = re.compile(f'[^$"{re.escape(rules.escape)}]+')

    def run(self, sink: _Sink) -> _Sink:
        """Everything, into `sink`."""
        self._until("", sink)
        return sink

    def _fail(self, reason: str) -> NoReturn:
        raise InvalidInput(f"cannot expand {_shown(self._word)}: {reason}")

    def _peek(self) -> str:
        return self._word[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._peek()
        self._at += 1
        return character

    def _until(self, stop: str, sink: _Text) -> None:
        """Reads up to the character `stop`, and over it; to the end if it is empty."""
        while character := self._peek():
            if character == stop:
                self._at += 1
                return
            if character == "$":
                sink.add(self._dollar())
            elif character == "<":
                sink.add_quoted(self._redirection())
            elif character == "'" and self._rules.quotes:
                sink.add_quoted(self._single_quoted())
            elif character == '"' and self._rules.quotes:
                sink.add_quoted(self._double_quoted())
            elif character == self._rules.escape:
                self._at += 1
                sink.add_quoted((character if self._raw_escapes else "") + self._take())
            else:
                sink.add(self._run_of(self._plain))
        if stop:
            self._fail(f"missing {stop!r}")

    def _run_of(self, expression: re.Pattern[str]) -> str:
        found = expression.match(self._word, self._at)
        end = found.end() if found else self._at + 1
        text = self._word[self._at : end]
        self._at = end
        return text

    def _redirection(self) -> str:
        """`<`, or `<<` with the blanks behind it: a here-document's name may follow those."""
        found = re.compile("<(?:<[\t\r ]*)?").match(self._word, self._at)
        text = found[0] if found else ""
        self._at += len(text)
        return text

    def _single_quoted(self) -> str:
        end = self._word.find("'", self._at + 1)
        if end < 0:
            self._fail("a single quote is not closed")
        quoted = self._word[self._at : end + 1]
        self._at = end + 1
        return quoted if self._rules.raw_quotes else quoted[1:-1]

    def _double_quoted(self) -> str:
        quote = '"' if self._rules.raw_quotes else ""
        pieces = [quote]
        self._at += 1
        while (character := self._peek()) != '"':
            if not character:
                self._fail("a double quote is not closed")
            elif character == "$":
                pieces.append(self._dollar())
            elif character == self._rules.escape:
                self._at += 1
                pieces.append(self._escaped_in_quotes())
            else:
                pieces.append(self._run_of(self._quoted))
        self._at += 1
        return "".join([*pieces, quote])

    def _escaped_in_quotes(self) -> str:
        """Between double quotes only the quote, the dollar and the escape itself can be escaped;
        before anything else the escape is a character."""
        escape = self._rules.escape
        kept = escape if self._raw_escapes else ""
        if (character := self._peek()) and character in ('"', "$", escape):
            self._at += 1
            return kept + character
        return kept + escape if character else kept

    def _dollar(self) -> str:
        """What `$...` at the current place stands for."""
        self._at += 1
        if self._peek() == "{":
            self._at += 1
            return self._braced()
        if not (name := self._name()):
            return "$"
        value = self._look_up(name)
        if value is None:
            return f"${name}" if self._rules.keep_unset else ""
        return value

    def _name(self) -> str:
        """A name, a number or one of the shell's special parameters; "" for anything else."""
        first = self._peek()
        if first.isdecimal():
            return self._run_of(re.compile(r"\d+"))
        if first and first in _SPECIAL_PARAMETERS:
            return self._take()
        start = self._at
        while (character := self._peek()) and (
            character == "_" or character.isalpha() or character.isdecimal()
        ):
            self._at += 1
        return self._word[start : self._at]

    def _look_up(self, name: str) -> str | None:
        value = self._variables.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        if value is not None:
            self._room -= len(value)
            if self._room < 0:
                self._fail(f"the result is longer than {MAX_GROWTH} characters")
        return value

    def _braced(self) -> str:
        """What `${...}` stands for; the place is behind the opening brace."""
        if not self._peek():
            self._fail("missing '}'")
        if self._peek() in "{}:":
            self._fail("bad substitution")
        name = self._name()
        modifier = self._take()
        if not modifier:
            self._fail("missing '}'")
        if modifier == "}":
            value = self._look_up(name)
            if value is None:
                return f"${{{name}}}" if self._rules.keep_unset else ""
            return value
        if modifier == "/":
            return self._replaced(name)
        colon = modifier == ":"
        if colon:
            modifier = self._take()
        if modifier not in tuple("-+?#%") or (colon and modifier in "#%"):
            self._fail(f"unsupported modifier {':' * colon + modifier!r}")
        word = self._nested("}", raw_escapes=modifier in "#%")
        value = self._look_up(name)
        if value is None and self._rules.keep_unset:
            return f"${{{name}{':' * colon}{modifier}{word}}}"
        if modifier in "#%":
            return self._trimmed(modifier, value or "", word)
        return self._chosen(modifier, name, value, word, empty_counts=not colon)

    def _chosen(
        self, modifier: str, name: str, value: str | None, word: str, *, empty_counts: bool
    ) -> str:
        """`-`, `+` and `?`: a value counts if it is set and, without colon, even if empty."""
        if value is not None and (value or empty_counts):
            return word if modifier == "+" else value
        if modifier == "?":
            missing = "unset" if value is None else "empty"
            self._fail(f"{name}: {word or f'is not allowed to be {missing}'}")
        return word if modifier == "-" else ""

    def _trimmed(self, modifier: str, value: str, pattern: str) -> str:
        longest = pattern.startswith(modifier)
        trim = substrings.trim_prefix if modifier == "#" else substrings.trim_suffix
        try:
            return trim(value, pattern[1:] if longest else pattern, longest=longest)
        except InvalidInput as error:
            self._fail(error.message)

    def _replaced(self, name: str) -> str:
        every = self._peek() == "/"
        if every:
            self._at += 1
        pattern = self._nested("/", raw_escapes=True)
        replacement = self._nested("}", raw_escapes=True)
        value = self._look_up(name)
        if value is None and self._rules.keep_unset:
            return f"${{{name}{'//' if every else '/'}{pattern}/{replacement}}}"
        try:
            return substrings.replace(
                value or "", pattern, replacement, every=every, limit=MAX_GROWTH
            )
        except InvalidInput as error:
            self._fail(error.message)

    def _nested(self, stop: str, *, raw_escapes: bool) -> str:
        """The expanded word inside braces, up to `stop`."""
        if self._depth == MAX_DEPTH:
            self._fail(f"substitutions are nested more than {MAX_DEPTH} deep")
        outer = self._raw_escapes
        self._depth += 1
        self._raw_escapes = raw_escapes
        sink = _Text()
        self._until(stop, sink)
        self._raw_escapes = outer
        self._depth -= 1
        return sink.text()


def _shown(word: str) -> str:
    return repr(word if len(word) <= 200 else word[:200] + "…")
