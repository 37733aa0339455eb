"""Decides which paths of a context are ignored, as BuildKit's walk over a context does.

The last pattern that matches a path or one of its parents decides. As in that walk a negated
pattern that matches a parent counts for what is below only if that parent was ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

from imgtools.build.ignore.gomatch import compile_pattern
from imgtools.build.ignore.patterns import Pattern, compile_run, parse_pattern
from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring patterns that are all negated, or all not: their order makes no difference."""

    negated: bool
    matches: Callable[[str], bool]


class Matcher:
    """The patterns of one ignore file, or of `--exclude`, in their order.

    It remembers what it found for directories, so that asking for the paths of a walk takes one
    step each. Not for use by several threads at once. Raises InvalidInput for a bad pattern.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        parsed = [found for text in patterns if (found := parse_pattern(text)) is not None]
        self.patterns: tuple[Pattern, ...] = tuple(parsed)
        self._runs = tuple(
            _Run(negated, compile_run(list(run)))
            for negated, run in groupby(parsed, key=lambda pattern: pattern.negated)
        )
        self._kept = tuple(_below(pattern) for pattern in parsed if pattern.negated)
        self._directories: dict[str, int] = {"": 0}

    @property
    def has_exceptions(self) -> bool:
        """Whether any pattern is negated."""
        return bool(self._kept)

    def ignored(self, path: str) -> bool:
        """Whether `path` is ignored: relative to the context, `/` between its elements, clean.
        The context itself ("." or "") never is."""
        if path in ("", ".") or not self._runs:
            return False
        cut = path.rfind("/")
        inherited = self._state(path[:cut]) if cut > 0 else 0
        return self._evaluate(path, inherited)[1]

    def could_contain(self, path: str) -> bool:
        """Whether something below the directory `path` may not be ignored. A walk has to look
        into an ignored directory only then."""
        if not self.ignored(path):
            return True
        elements = path.split("/")
        return any(below(elements) for below in self._kept)

    def _state(self, directory: str) -> int:
        """Which runs matched `directory` or a parent of it: bit N for run N."""
        known = self._directories
        if directory in known:
            return known[directory]
        pending = []
        while directory not in known:
            pending.append(directory)
            directory = directory[: max(directory.rfind("/"), 0)]
        state = known[directory]
        for parent in reversed(pending):
            state = known[parent] = self._evaluate(parent, state)[0]
        return state

    def _evaluate(self, path: str, inherited: int) -> tuple[int, bool]:
        """The runs that match `path`, given those of its parent, and whether it is ignored."""
        ignored = False
        state = inherited
        for index, run in enumerate(self._runs):
            if inherited >> index & 1:
                ignored = not run.negated
            elif run.negated == ignored and run.matches(path):
                state |= 1 << index
                ignored = not run.negated
        return state, ignored


def _below(pattern: Pattern) -> Callable[[list[str]], bool]:
    """A test for whether `pattern` may match something below a directory, given as elements."""
    tests = []
    texts = pattern.text.split("/")
    for text in texts:
        # `**` and classes, which may take a slash, do not keep to one element.
        if "**" in text or "[" in text or "]" in text or text.endswith("\\"):
            break
        tests.append(compile_pattern(text).fullmatch)
    depth = len(texts) if len(tests) == len(texts) else None
    return lambda path: (
        (depth is None or len(path) < depth)
        and all(test(element) for test, element in zip(tests, path, strict=False))
    )
