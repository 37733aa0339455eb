"""What goes with the manifests of a copy beside them: signatures carried along or made anew.

The copy knows which manifests arrive, and when; what is attached to them, and how, is known to
whoever gives it an `Attaching`. Nothing here knows what a signature is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from imgtools.frozen import dataclass
from imgtools.spec.descriptor import Descriptor
from imgtools.transport.base import Destination


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving:
    """A manifest of the image that is copied: `old` at the source, `new` as it will be, or is,
    at the destination; None while that is not known. `top` is what gets the name."""

    old: Descriptor
    new: Descriptor | None
    top: bool = False


class Attaching(Protocol):
    """Asked twice: before anything is written, and before the name is given."""

    def check(self, images: Sequence[Arriving]) -> bool:
        """Whether there is anything to attach. Raises now what would go wrong later;
        manifests whose `new` is None will change."""
        ...

    def attach(self, images: Sequence[Arriving], destination: Destination) -> None:
        """Put what belongs to the manifests; all of them are there, but for the name."""
        ...
