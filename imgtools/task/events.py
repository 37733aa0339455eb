"""Progress events: frozen values that work reports and anybody may render.

`item` names the piece of work (a digest, a tag); the events of one item come in order, those
of several are interleaved and come from several threads.
"""

from __future__ import annotations

from collections.abc import Callable

from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """Work on `item` begins; `total` is in bytes, None when unknown."""

    item: str
    what: str
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Advanced:
    """`amount` more bytes of `item` are done; `kept` ones were there from an earlier run, so
    that they are not moved now. A negative amount takes back what was said before."""

    item: str
    amount: int
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """Work on `item` is over; `outcome` is one word such as stored, mounted, present."""

    item: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should know; `level` is info or warning."""

    level: str
    text: str


Event = Started | Advanced | Finished | Note
Progress = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The progress listener that does nothing."""
