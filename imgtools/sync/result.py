"""What a sync did: per image what became of it, and what failed. Frozen data."""

from __future__ import annotations

from typing import Literal

from imgtools.errors import Error
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest

OutcomeWord = Literal["new", "changed", "same", "failed", "skipped"]
"""Skipped is what was not begun because something had failed before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an image, or of something attached to one.

    `digest` is that of the manifest as stored at the destination; `moved` are bytes of blobs.
    """

    source: str
    destination: str
    outcome: OutcomeWord
    digest: Digest | None = None
    moved: int = 0
    error: Error | None = None
    attached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """All outcomes: images in the order of the plan, then referrers.

    `failures` are sources that could not be listed; `sources` counts those with images.
    """

    outcomes: tuple[Outcome, ...]
    sources: int
    failures: tuple[tuple[str, Error], ...] = ()

    @property
    def errors(self) -> tuple[Error, ...]:
        """Everything that went wrong."""
        return (
            *(error for _, error in self.failures),
            *(outcome.error for outcome in self.outcomes if outcome.error is not None),
        )

    @property
    def moved(self) -> int:
        """Bytes of blobs that were stored."""
        return sum(outcome.moved for outcome in self.outcomes)

    def count(self, *words: OutcomeWord) -> int:
        """How many images, without referrers, came out so."""
        return sum(o.outcome in words for o in self.outcomes if not o.attached)
