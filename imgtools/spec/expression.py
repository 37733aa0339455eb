"""Regular expressions that never take long, whatever the expression and the text.

Python's engine goes back and tries again, which for some expressions takes longer than anybody
waits. This one is in all states at once (Thompson's construction), so that its time is bounded
by the length of the text times that of the expression, as in Go's RE2. What characters a class
or an escape means is still Python's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from imgtools.errors import InvalidInput

_MOST_STEPS = 5000
_MOST_PARTS = 50_000
"""Of an expression with its repetitions written out."""
_MOST_REMEMBERED = 2000

_TOKEN = re.compile(
    r"""(?P<edge>\\[AZbB]|\^)
    | (?P<open>\((?:\?(?:P<\w+>|(?P<flags>[a-zA-Z]*(?:-[a-zA-Z]+)?)(?P<end>[:)])))?)
    | (?P<close>\))
    | (?P<or>\|)
    | (?P<repeat>(?:[*+?]|\{(?P<least>[0-9]+)(?P<comma>,(?P<most>[0-9]*))?\})\??)
    | (?P<atom>\[\^?\]?(?:\\.|[^\]\\])*\]|\\x[0-9a-fA-F]{2}|\\.|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ASCII = tuple(map(chr, range(128)))
_TIMES = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class _Atom(NamedTuple):
    """One character out of these."""

    characters: frozenset[str]


class _Edge(NamedTuple):
    """A place between characters, as in `re`."""

    kind: str


class _Sequence(NamedTuple):
    parts: tuple[_Part, ...]


class _Choice(NamedTuple):
    parts: tuple[_Part, ...]


class _Repeat(NamedTuple):
    """A part at least and at most so often; None is without end."""

    part: _Part
    least: int
    most: int | None


_Part = _Atom | _Edge | _Sequence | _Choice | _Repeat


class _Step(NamedTuple):
    """A state, and those that come next: after one of `characters`, or at once, for an
    `edge` only there."""

    characters: frozenset[str] | None
    edge: str
    next: tuple[int, ...]


class Expression:
    """A compiled expression; `found_in` answers."""

    def __init__(self, text: str) -> None:
        """Take an expression that `re` accepts, without look-around and back references.

        Raises InvalidInput when it is too long with its repetitions written out, and
        RecursionError.
        """
        self._steps: list[_Step] = []
        self._parts = 0
        self._end = self._add()
        self._start = self._compiled(_Parser(text).whole(), self._end)
        self._reached: dict[tuple[frozenset[int], bool, bool, bool], frozenset[int]] = {}
        self._moved: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def found_in(self, tag: str) -> bool:
        """Whether some part of `tag` matches; a character beyond ASCII matches nothing."""
        states: frozenset[int] = frozenset()
        for position in range(len(tag) + 1):
            before = position > 0 and _is_word(tag[position - 1])
            behind = position < len(tag) and _is_word(tag[position])
            place = (states, position == 0, position == len(tag), before != behind)
            if place not in self._reached:
                _keep_small(self._reached)
                self._reached[place] = self._reach(*place)
            reached = self._reached[place]
            if self._end in reached:
                return True
            if position == len(tag):
                return False
            move = (reached, tag[position])
            if move not in self._moved:
                _keep_small(self._moved)
                self._moved[move] = self._move(*move)
            states = self._moved[move]
        return False

    def _reach(
        self, states: Iterable[int], at_start: bool, at_end: bool, at_word: bool
    ) -> frozenset[int]:
        """The states that need no character from `states`, or from a beginning here."""
        holds = {
            "": True, "^": at_start, r"\A": at_start, r"\Z": at_end,
            r"\b": at_word, r"\B": not at_word,
        }  # fmt: skip
        found: set[int] = set()
        left = [self._start, *states]
        while left:
            number = left.pop()
            if number in found:
                continue
            found.add(number)
            step = self._steps[number]
            if step.characters is None and holds[step.edge]:
                left.extend(step.next)
        return frozenset(found)

    def _move(self, states: Iterable[int], character: str) -> frozenset[int]:
        found: set[int] = set()
        for number in states:
            step = self._steps[number]
            if step.characters is not None and character in step.characters:
                found.update(step.next)
        return frozenset(found)

    # --- from parts to steps ----------------------------------------------------------------

    def _add(
        self, *following: int, characters: frozenset[str] | None = None, edge: str = ""
    ) -> int:
        self._steps.append(_Step(characters, edge, following))
        return len(self._steps) - 1

    def _compiled(self, part: _Part, following: int) -> int:
        """The state from which `part` leads to `following`."""
        self._parts += 1
        if self._parts > _MOST_PARTS or len(self._steps) > _MOST_STEPS:
            raise InvalidInput("it repeats too much")
        match part:
            case _Atom(characters):
                return self._add(following, characters=characters)
            case _Edge(kind):
                return self._add(following, edge=kind)
            case _Sequence(parts):
                for each in reversed(parts):
                    following = self._compiled(each, following)
                return following
            case _Choice(parts):
                return self._add(*(self._compiled(each, following) for each in parts))
            case _Repeat(repeated, least, most):
                return self._repeated(repeated, least, most, following)

    def _repeated(self, part: _Part, least: int, most: int | None, following: int) -> int:
        if most is None:
            loop = self._add()
            again = self._compiled(part, loop)
            self._steps[loop] = _Step(None, "", (again, following))
            following = loop
        else:
            end = following
            for _ in range(most - least):
                following = self._add(self._compiled(part, following), end)
        for _ in range(least):
            following = self._compiled(part, following)
        return following


class _Parser:
    """Takes an expression apart that `re` has found to be one."""

    def __init__(self, text: str) -> None:
        self.tokens = list(_TOKEN.finditer(text))
        self.position = 0

    def whole(self) -> _Part:
        """The expression."""
        return self.choice(ignore_case=False)

    def choice(self, *, ignore_case: bool) -> _Part:
        """Alternatives up to the end or a closing parenthesis, which is left."""
        choices: list[_Part] = []
        parts: list[_Part] = []
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            if token["close"]:
                break
            self.position += 1
            if token["or"]:
                choices.append(_Sequence(tuple(parts)))
                parts = []
            elif token["repeat"]:
                parts.append(_Repeat(parts.pop(), *_times(token)))
            elif token["edge"]:
                parts.append(_Edge(token[0]))
            elif token["atom"]:
                parts.append(_atom(token[0], ignore_case=ignore_case))
            else:
                wanted = _ignores_case(token["flags"], ignore_case)
                if token["end"] == ")":
                    ignore_case = wanted
                    continue
                parts.append(self.choice(ignore_case=wanted))
                self.position += 1
        choices.append(_Sequence(tuple(parts)))
        return choices[0] if len(choices) == 1 else _Choice(tuple(choices))


def _times(token: re.Match[str]) -> tuple[int, int | None]:
    if token["least"] is None:
        return _TIMES[token["repeat"][0]]
    least = min(int(token["least"][:9]), _MOST_PARTS)
    if token["comma"] is None:
        return least, least
    return least, min(int(token["most"][:9]), _MOST_PARTS) if token["most"] else None


def _ignores_case(flags: str | None, before: bool) -> bool:
    on, _, off = (flags or "").partition("-")
    return "i" not in off and ("i" in on or before)


def _atom(text: str, *, ignore_case: bool) -> _Atom:
    """What one character of an expression, an escape or a class matches."""
    matches = re.compile(text, re.ASCII | (re.IGNORECASE if ignore_case else 0)).match
    return _Atom(frozenset(each for each in _ASCII if matches(each)))


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _keep_small(known: dict[Any, frozenset[int]]) -> None:
    """Forget what was found when it is so much that keeping it costs more than it saves."""
    if len(known) >= _MOST_REMEMBERED:
        known.clear()
