"""What the values of -t and --manifest mean: names in the store, or places to copy to.

Pure. As in buildah a name with a transport (`oci:dir`, `docker://host/name`) is a place, any
other a name of the store, with localhost in front where it has no registry.
"""

from __future__ import annotations

from collections.abc import Iterable

from imgtools.errors import InvalidReference
from imgtools.frozen import dataclass
from imgtools.spec.reference import ImageName, Reference
from imgtools.transport.table import TRANSPORTS

LOCALHOST = "localhost"
_WRITABLE = tuple(name for name in TRANSPORTS if name != "tarball")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputNames:
    """Each once, in the order given: full names in the store, and places to copy to."""

    local: tuple[str, ...] = ()
    places: tuple[ImageName, ...] = ()


def output_names(values: Iterable[str]) -> OutputNames:
    """What the values of -t mean; raises InvalidReference."""
    local: dict[str, None] = {}
    places: dict[ImageName, None] = {}
    for value in values:
        place = as_place(value)
        if place is None:
            local[local_name(value)] = None
        else:
            places[place] = None
    return OutputNames(local=tuple(local), places=tuple(places))


def as_place(value: str) -> ImageName | None:
    """`transport:rest`, None for a name of the store (`docker:tag` is one, `docker://` not)."""
    transport, colon, rest = value.partition(":")
    if not colon or transport not in _WRITABLE:
        return None
    if transport in ("docker", "docker-daemon") and not rest.startswith("//"):
        return None if transport == "docker" else ImageName.parse(value, TRANSPORTS)
    return ImageName.parse(value, TRANSPORTS)


def local_name(value: str) -> str:
    """The full name of an image in the store: `NAME` is `localhost/NAME:latest`.

    Raises InvalidReference, also for a name with a digest, which only what is finished has.
    """
    first, slash, _ = value.partition("/")
    has_registry = slash and ("." in first or ":" in first or first == LOCALHOST)
    try:
        found = Reference.parse(value if has_registry else f"{LOCALHOST}/{value}")
    except InvalidReference as e:
        raise InvalidReference(value, e.reason, hint=e.hint) from e
    if found.digest is not None:
        raise InvalidReference(
            value, "an image cannot be named by a digest before it is built", hint="give a tag"
        )
    return str(found)
