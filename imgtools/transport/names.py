"""Names of local images: `path`, `path:reference` and `path:@position`.

Pure: nothing here looks at the file system. The first colon ends the path, as in skopeo.
"""

from __future__ import annotations

import re

from imgtools.errors import InvalidReference
from imgtools.frozen import dataclass

# containers/image oci/internal: components of alphanumerics joined by separators.
_REF_NAME = re.compile(
    r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*"
    r"(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*"
)
_REF_LIMIT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalName:
    """A path with, at most, one of a reference and a position counted from 0."""

    path: str
    ref: str = ""
    position: int | None = None


def parse_local_name(transport: str, rest: str) -> LocalName:
    """The parts of `rest`; raises InvalidReference naming `transport:rest`."""
    text = f"{transport}:{rest}"
    path, _, ref = rest.partition(":")
    if not path or "\0" in rest:
        raise InvalidReference(text, f"a name is {transport}:path, then optionally :reference")
    if not ref.startswith("@"):
        return LocalName(path=path, ref=ref)
    digits = ref[1:]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise InvalidReference(text, f"{ref!r} is not a position such as @0")
    return LocalName(path=path, position=int(digits))


def parse_target_name(transport: str, rest: str) -> LocalName:
    """Like `parse_local_name`, for something to be written: a position makes no sense."""
    name = parse_local_name(transport, rest)
    if name.position is not None:
        raise InvalidReference(f"{transport}:{rest}", "a position can only be read, not written")
    return name


def check_ref_name(transport: str, name: LocalName) -> None:
    """Raise InvalidReference unless the reference can be a layout's `ref.name`."""
    if name.ref and (len(name.ref) > _REF_LIMIT or not _REF_NAME.fullmatch(name.ref)):
        raise InvalidReference(
            f"{transport}:{name.path}:{name.ref[:200]}",
            "the reference is not letters and digits joined by one of - . _ : @ + /",
        )
