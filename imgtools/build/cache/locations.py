"""What the values of --cache-from and --cache-to mean: repositories, one tag for each key.

Pure. buildah's form is a repository; BuildKit's `type=registry,ref=REPOSITORY` is understood
too, and `oci:DIRECTORY` for a layout on disk, as kaniko has it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable

from imgtools.build.cache.documents import tag_of
from imgtools.errors import InvalidInput, InvalidReference, Unsupported
from imgtools.frozen import dataclass
from imgtools.spec.reference import ImageName, Reference

_IGNORED = ("mode", "ignore-error", "image-manifest", "oci-mediatypes")
"""Options of BuildKit's that ask for what is done anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLocation:
    """A repository or layout: `rest` is without tag."""

    transport: str
    rest: str

    def name(self, key: str) -> ImageName:
        """Where the record of `key` is."""
        return ImageName(transport=self.transport, rest=f"{self.rest}:{tag_of(key)}")

    def __str__(self) -> str:
        return self.rest.removeprefix("//") if self.transport == "docker" else f"oci:{self.rest}"


def cache_locations(values: Iterable[str]) -> tuple[CacheLocation, ...]:
    """The locations of all values, each once; raises InvalidInput, Unsupported."""
    found = dict.fromkeys(location for value in values for location in _parsed(value))
    return tuple(found)


def _parsed(value: str) -> list[CacheLocation]:
    if value.startswith("type="):
        return [_of_buildkit(value)]
    # A list of repositories may also come as one value, as in buildah.
    return [_location(part.strip(), value) for part in value.split(",")]


def _of_buildkit(value: str) -> CacheLocation:
    parts = [field.partition("=") for field in next(csv.reader([value]))]
    fields = {key: text for key, _, text in parts}
    kind = fields.pop("type")
    if kind not in ("registry", "local"):
        raise Unsupported(f"a cache of type {kind} is not supported: {value!r}")
    where = "ref" if kind == "registry" else ("dest" if "dest" in fields else "src")
    reference = fields.pop(where, "")
    for name in fields:
        if name not in _IGNORED:
            raise InvalidInput(f"cache {value!r}: type {kind} has no option {name!r}")
    if not reference:
        raise InvalidInput(f"cache {value!r}: {where} is missing")
    return _location(reference if kind == "registry" else f"oci:{reference}", value)


def _location(text: str, value: str) -> CacheLocation:
    if text.startswith("oci:"):
        path = text[len("oci:") :]
        if not path or ":" in path:
            raise InvalidInput(f"cache {value!r}: expected oci:DIRECTORY, without a tag")
        return CacheLocation(transport="oci", rest=path)
    try:
        found = Reference.parse(text.removeprefix("docker://"), default_tag="")
    except InvalidReference as e:
        raise InvalidInput(f"cache {value!r}: {e.reason}", hint=e.hint) from e
    if found.tag or found.digest is not None:
        raise InvalidInput(
            f"cache {value!r}: a cache is a repository, without tag or digest",
            hint=f"give {found.name}",
        )
    return CacheLocation(transport="docker", rest=f"//{found.name}")
