"""Which of a repository's tags are wanted: all, those matching an expression, or those whose
version satisfies a constraint. Pure; invalid expressions are refused when a filter is made.
"""

from __future__ import annotations

from typing import Protocol


class TagFilter(Protocol):
    """A choice of tags."""

    def __call__(self, tag: str) -> bool:
        """Whether `tag` is wanted."""
        ...


class EveryTag:
    """All tags."""

    def __call__(self, tag: str) -> bool:
        """True."""
        return True


class MatchingTags:
    """Tags in which a regular expression of Go (RE2 syntax) is found anywhere."""

    def __init__(self, expression: str) -> None:
        """Raises InvalidInput for an expression that is invalid or not of both dialects."""
        from imgtools.spec.regular import RegularExpression

        self.expression = expression
        self._compiled = RegularExpression(expression)

    def __call__(self, tag: str) -> bool:
        """Whether the expression is found in `tag`; the time it takes is bounded."""
        return self._compiled.found_in(tag)


class VersionTags:
    """Tags that are versions and satisfy a constraint."""

    def __init__(self, constraint: str) -> None:
        """Raises InvalidConstraint."""
        from imgtools.sync.semver import Constraint

        self.constraint = Constraint(constraint)

    def __call__(self, tag: str) -> bool:
        """Whether `tag` is a version that satisfies the constraint."""
        from imgtools.sync.semver import InvalidVersion, Version

        try:
            version = Version.parse(tag)
        except InvalidVersion:
            return False
        return self.constraint.allows(version)
