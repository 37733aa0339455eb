"""Which paths COPY --parents takes: the pattern language of ignore files, the other way round.

A path is taken if the pattern matches it or a directory above it; a directory is looked into
as long as the pattern may match below it.
"""

from __future__ import annotations

from imgtools.build.ignore.gomatch import compile_pattern
from imgtools.build.ignore.matcher import Matcher


class ParentsFilter:
    """One pattern, relative to the pivot; "" takes everything."""

    def __init__(self, pattern: str) -> None:
        """Raises InvalidInput for a malformed pattern."""
        self._everything = not pattern
        # A leading ! would negate; in a path it is a letter.
        self._matcher = Matcher([f"\\{pattern}" if pattern.startswith("!") else pattern])
        elements = pattern.split("/")
        deep = next((i for i, e in enumerate(elements) if "**" in e), len(elements))
        self._deep = deep < len(elements)
        self._elements = [compile_pattern(element) for element in elements[:deep]]

    def includes(self, path: str) -> bool:
        """Whether `path` is copied for itself."""
        return self._everything or self._matcher.ignored(path)

    def may_contain(self, directory: str) -> bool:
        """Whether something in `directory`, or it itself, may be copied."""
        if self.includes(directory):
            return True
        parts = directory.split("/")
        if len(parts) > len(self._elements) and not self._deep:
            return False
        pairs = zip(self._elements, parts, strict=False)
        return all(element.fullmatch(part) for element, part in pairs)
