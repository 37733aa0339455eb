"""The files in which a build leaves its outcome: --iidfile, --metadata-file, --sbom-output and
their kin.

Each appears whole or not at all. What is no regular file (/dev/stdout, a pipe) is written to
directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgtools.blob.files import write_all
from imgtools.blob.placing import HERE, Placing
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest


def write_image_id(
    path: str, image_id: Digest, *, raw: bool = False, files: Placing = HERE
) -> None:
    """The id of the image, or the digest of an index: `sha256:HEX`, with `raw` only HEX, and
    no line end, as buildah does. Raises StorageError, NotFound."""
    text = image_id.hex if raw else str(image_id)
    write_text(path, text, files)


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


def write_json_file(path: str, content: Mapping[str, Any], files: Placing = HERE) -> None:
    """Write what `metadata` made, or another object; raises StorageError, NotFound."""
    write_text(path, strict_json.dumps_indented(dict(content), "  ") + "\n", files)


def write_text(path: str, text: str, files: Placing) -> None:
    """Write a file of `text`; raises StorageError, NotFound."""
    with files.replacing(path) as file:
        write_all(file, text.encode())
