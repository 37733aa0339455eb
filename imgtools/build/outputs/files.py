"""The files in which a build leaves its outcome: --iidfile, --metadata-file, --sbom-output and
their kin.

Each appears whole or not at all. What is no regular file (/dev/stdout, a pipe) is written to
directly.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from imgtools.blob.files import storage_errors, write_all, write_file
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest


def write_image_id(path: str, image_id: Digest, *, raw: bool = False) -> None:
    """The id of the image, or the digest of an index: `sha256:HEX`, with `raw` only HEX, and
    no line end, as buildah does. Raises StorageError, NotFound."""
    text = image_id.hex if raw else str(image_id)
    _write(path, text.encode())


def metadata(
    top: Descriptor,
    config: Descriptor | None,
    names: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What --metadata-file has, under the keys of buildah and buildx: of an index without a
    config. `more` is added, such as `buildx.build.provenance`."""
    found: dict[str, Any] = {}
    if config is not None:
        found["containerimage.config.digest"] = str(config.digest)
    found["containerimage.descriptor"] = top.to_json()
    found["containerimage.digest"] = str(top.digest)
    if names:
        found["image.name"] = ",".join(names)
    return dict(sorted({**found, **(more or {})}.items()))


def write_json_file(path: str, content: Mapping[str, Any]) -> None:
    """Write what `metadata` made, or another object; raises StorageError, NotFound."""
    _write(path, strict_json.dumps_indented(dict(content), "  ").encode() + b"\n")


def _write(path: str, content: bytes) -> None:
    with storage_errors(path):
        try:
            special = not stat.S_ISREG(os.stat(path).st_mode)
        except FileNotFoundError:
            special = False
        if special:
            with open(path, "wb", buffering=0) as file:
                write_all(file, content)
            return
        # A link is the user's way to say where the file is.
        path = os.path.realpath(path)
    write_file(path, content)
