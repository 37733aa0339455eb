"""The values of --output: where a build's result goes beside, or instead of, the store.

Pure. The grammar is that of BuildKit's exporters as `docker buildx build --output` takes them,
and buildah's: a bare path is a directory, "-" a tar on standard output.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Literal, cast

from imgtools.build.outputs.model import Compression, Form
from imgtools.errors import InvalidInput, Unsupported
from imgtools.frozen import dataclass

Kind = Literal["local", "tar", "oci", "docker", "image", "cacheonly"]
_KINDS = ("local", "tar", "oci", "docker", "image", "registry", "cacheonly")
_LEVELS = {"gzip": (1, 9), "zstd": (1, 20)}
STDOUT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One value of --output.

    `dest` is a path, or "-" for standard output. `names` are what the image is called there,
    or in registries with `push`. `archive` false writes a directory where an archive is
    usual. `platform_split` puts each platform's tree in a directory of its own (None: when
    there are several).
    """

    kind: Kind
    dest: str = ""
    names: tuple[str, ...] = ()
    push: bool = False
    archive: bool = True
    form: Form = field(default_factory=Form)
    oci_types: bool | None = None
    platform_split: bool | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def parse_export(value: str) -> Export:
    """The export that `value` means; raises InvalidInput, naming it, or Unsupported."""
    if value == STDOUT:
        return Export(kind="tar", dest=STDOUT)
    if not value:
        raise InvalidInput("--output is empty")
    fields = _fields(value)
    if len(fields) == 1 and not fields[0].startswith("type="):
        return Export(kind="local", dest=value)
    pairs: dict[str, str] = {}
    for text in fields:
        key, equals, rest = text.partition("=")
        key = key.strip().lower()
        if not equals:
            raise InvalidInput(f"--output {value!r}: {text!r} is not KEY=VALUE")
        if key in pairs:
            raise InvalidInput(f"--output {value!r}: {key} is given twice")
        pairs[key] = rest
    kind = pairs.pop("type", "")
    if kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise InvalidInput(f"--output {value!r}: the type is {kind!r}, expected one of {known}")
    export = Export(kind=cast("Kind", kind))
    if kind == "registry":
        export = Export(kind="image", push=True)
    for key, rest in pairs.items():
        export = _with(export, key, rest, value)
    return _checked(export, value)


def _fields(value: str) -> list[str]:
    try:
        rows = list(csv.reader([value], strict=True))
    except csv.Error as e:
        raise InvalidInput(f"--output {value!r} is not comma-separated: {e}") from e
    return rows[0]


def _with(export: Export, key: str, text: str, value: str) -> Export:
    if key.startswith("annotation.") and export.kind in ("oci", "image"):
        return replace(export, annotations={**export.annotations, key[len("annotation.") :]: text})
    setter = _SETTERS.get(key)
    if setter is None or export.kind not in setter[0]:
        raise InvalidInput(f"--output {value!r}: type {export.kind} has no option {key!r}")
    try:
        return setter[1](export, text)
    except ValueError as e:
        raise InvalidInput(f"--output {value!r}: {key}={text}: {e}") from e


def _flag(text: str) -> bool:
    found = {"true": True, "1": True, "false": False, "0": False, "": True}.get(text.lower())
    if found is None:
        raise ValueError("expected true or false")
    return found


def _names(text: str) -> tuple[str, ...]:
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise ValueError("expected a name")
    return found


def _compression(export: Export, text: str) -> Export:
    found = {"uncompressed": "none", "gzip": "gzip", "zstd": "zstd"}.get(text)
    if found is None:
        raise ValueError("expected uncompressed, gzip or zstd (estargz is not written)")
    form = replace(export.form, compression=cast("Compression", found))
    return replace(export, form=form)


def _level(export: Export, text: str) -> Export:
    if not text.isascii() or not text.isdigit():
        raise ValueError("expected a number")
    return replace(export, form=replace(export.form, level=int(text[:6])))


_TREES = ("local", "tar")
_IMAGES = ("oci", "docker", "image")
_Setter = Callable[[Export, str], Export]
_SETTERS: Mapping[str, tuple[tuple[str, ...], _Setter]] = {
    "dest": (("local", "tar", "oci", "docker"), lambda e, v: replace(e, dest=v)),
    "name": (_IMAGES, lambda e, v: replace(e, names=_names(v))),
    "push": (("image",), lambda e, v: replace(e, push=_flag(v))),
    "tar": (("oci", "docker"), lambda e, v: replace(e, archive=_flag(v))),
    "compression": (_IMAGES, _compression),
    "compression-level": (_IMAGES, _level),
    "force-compression": (
        _IMAGES,
        lambda e, v: replace(e, form=replace(e.form, force=_flag(v))),
    ),
    "oci-mediatypes": (_IMAGES, lambda e, v: replace(e, oci_types=_flag(v))),
    "platform-split": (_TREES, lambda e, v: replace(e, platform_split=_flag(v))),
}


def _checked(export: Export, value: str) -> Export:
    if export.kind in ("local", "tar", "oci") and not export.dest:
        raise InvalidInput(f"--output {value!r}: dest is missing")
    if export.kind == "docker" and not export.dest:
        raise Unsupported(
            f"--output {value!r}: there is no docker daemon to load into",
            hint="give dest=FILE and load that",
        )
    if export.dest == STDOUT and (export.kind == "local" or not export.archive):
        raise InvalidInput(f"--output {value!r}: a directory cannot go to standard output")
    if export.kind == "docker" and not export.archive:
        raise InvalidInput(f"--output {value!r}: a docker archive is always a tar")
    form = export.form
    if form.level is not None:
        kind = form.compression or "gzip"
        lowest, highest = _LEVELS.get(kind, (0, -1))
        if not lowest <= form.level <= highest:
            raise InvalidInput(
                f"--output {value!r}: compression-level {form.level} is not one of {kind}",
                hint=f"{kind} has {lowest} to {highest}" if highest > 0 else None,
            )
    return export
