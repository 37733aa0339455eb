"""The forms an image can have, and what to say to either tool to reach one.

Names are the same for imgtools and skopeo; so are the flags of the registries.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.debian import TAG, Made, file_digest
from tests.rig import RegistryServer

FORMS = ("docker", "oci", "oci-archive", "docker-archive", "dir")
WITH_INDEX = tuple(form for form in FORMS if form != "docker-archive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Somewhere an image can be: its name, and the registry it is in, if it is in one."""

    form: str
    name: str
    registry: RegistryServer | None = None

    def flags(self, side: str = "") -> list[str]:
        """Flags to reach it as `src`, `dest` or by a verb with one image."""
        return self.registry.skopeo_flags(side) if self.registry else []


def place(form: str, directory: Path, registry: RegistryServer, repository: str) -> Place:
    """A place of that form, in `directory` or in `registry`."""
    match form:
        case "docker":
            name = f"docker://{registry.host}/{repository}:{TAG}"
            return Place(form=form, name=name, registry=registry)
        case "oci":
            rest = f"{directory}/layout:{TAG}"
        case "oci-archive":
            rest = f"{directory}/oci.tar:{TAG}"
        case "docker-archive":
            rest = f"{directory}/docker.tar:example.com/app:{TAG}"
        case _:
            rest = f"{directory}/dir"
    return Place(form=form, name=f"{form}:{rest}")


def tree_digests(directory: Path) -> dict[str, str]:
    """The files of a `dir:` image and the digests of their content."""
    return {path.name: file_digest(path) for path in directory.iterdir()}


def check_identical(directory: Path, made: Made) -> None:
    """`directory` is the `dir:` form of `made`, byte for byte."""
    assert tree_digests(directory) == tree_digests(made.directory)


def unpacked_digest(path: Path) -> str:
    """The digest of a layer's content, be it gzip or plain."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        decoder = zlib.decompressobj(wbits=31) if packed else None
        while data := file.read(1 << 20):
            hasher.update(decoder.decompress(data) if decoder else data)
    if decoder:
        assert decoder.eof
        assert not decoder.unused_data
    return "sha256:" + hasher.hexdigest()


def check_equivalent(directory: Path, made: Made, *, same_config: bool = True) -> dict[str, Any]:
    """`directory` is a `dir:` image with the config and the unpacked layers of `made`.

    Every blob is there under its digest and size; returns the manifest.
    """
    manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_bytes())
    for blob in (manifest["config"], *manifest["layers"]):
        file = directory / blob["digest"][7:]
        assert (file_digest(file), file.stat().st_size) == (blob["digest"], blob["size"])
    config = (directory / manifest["config"]["digest"][7:]).read_bytes()
    if same_config:
        assert config == made.config
    assert json.loads(config)["rootfs"]["diff_ids"] == list(made.diff_ids)
    unpacked = [unpacked_digest(directory / b["digest"][7:]) for b in manifest["layers"]]
    assert unpacked == list(made.diff_ids)
    return manifest
