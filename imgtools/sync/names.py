"""What images are called at the destination. Pure.

Names are made as skopeo makes them: the last component of the source's name, or with
`scoped` the whole of it, below the destination, and then the suffix.
"""

from __future__ import annotations

import posixpath
from typing import Literal

from imgtools.errors import InvalidReference
from imgtools.spec.reference import ImageName, Reference

Place = Literal["docker", "dir"]


def destination_name(
    place: Place, base: str, image: str, *, scoped: bool = False, suffix: str = ""
) -> ImageName:
    """The destination of the image whose source is called `image`, below `base`.

    `image` is a reference (`host/repo:tag`) or a path below the source directory. Raises
    InvalidReference when what comes out is no name.
    """
    last = image if scoped else _last(image)
    path = _join(base, last) + suffix
    if place == "dir":
        return ImageName(transport="dir", rest=path)
    return ImageName(transport="docker", rest=f"//{Reference.parse(path)}")


def directory_image(path: str, base: str) -> str:
    """By what an image in the directory `path` is called, when `base` was searched."""
    return path.removeprefix(base) or _last(base)


def _join(*parts: str) -> str:
    """Elements joined and cleaned as Go's path.Join does."""
    joined = posixpath.normpath("/".join(part for part in parts if part))
    return "/" + joined.lstrip("/") if joined.startswith("//") else joined


def _last(path: str) -> str:
    """The last element of a path, as Go's path.Base has it."""
    return posixpath.basename(path.rstrip("/")) or ("/" if path else ".")


def repository_of(text: str) -> Reference:
    """The repository `text`; raises InvalidReference when it names an image."""
    reference = Reference.parse(text, default_tag="")
    if reference.tag or reference.digest is not None:
        raise InvalidReference(text, "it names an image, not a repository")
    return reference
