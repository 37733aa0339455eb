"""What a copy is asked to do, as frozen data.

Nothing here knows a transport; a command line or a library caller fills it in, and wrong
combinations are refused when the value is made.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform

Mode = Literal["system", "all", "index-only", "platforms"]
Format = Literal["", "oci", "v2s2", "v2s1"]
Target = Literal["none", "gzip", "zstd"]
"""What a layer is compressed with after a copy."""

_LEVELS = {"gzip": (1, 9), "zstd": (1, 20)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which manifests of an index are copied; a source that is no index is copied whole.

    `system` is the one instance for `platform` (None: that of this machine), `all` the whole
    tree, `index-only` the index without any instance, and `platforms` an index of the
    instances for `platforms` only: rewritten, or with `sparse` byte for byte as it is.
    """

    mode: Mode = "system"
    platform: Platform | None = None
    platforms: tuple[Platform, ...] = ()
    sparse: bool = False

    def __post_init__(self) -> None:
        if (self.mode == "platforms") != bool(self.platforms):
            raise InvalidInput("a list of platforms is given exactly when the mode is 'platforms'")
        if self.sparse and self.mode != "platforms":
            raise InvalidInput("a sparse index needs a list of platforms")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """What changes on the way; by default nothing does.

    `format` converts manifests. `compression` with `compression_level` compresses layers that
    are uncompressed or compressed otherwise and not yet at the destination;
    `force_compression` also those that are. `compress` and `decompress` are for dir:
    destinations. `accept_uncompressed` keeps uncompressed layers of a source that makes its
    manifest up (docker-archive:, tarball:), which otherwise are compressed with gzip.
    `preserve_digests` makes any needed change of a manifest an error. `additional_tags` says
    that the destination gives the image more names than its own. `referrers` also copies
    what refers to the copied manifests. `remove_signatures` admits the loss of signatures
    that the source keeps beside the image and no destination can, and `signatures_carried` says
    that who attaches something to each manifest sees to them. `blobs_likely` says that
    the destination may have some of the blobs although its name holds nothing yet, so that
    asking is worth it, and `differs` that the names are known to differ, so that the source
    is read at once. `entire` reads all manifests of the image even where nothing has to be
    moved, for who attaches something to each. `tmpdir` is where recompressed layers are
    spooled (None: the system's).
    """

    selection: Selection = field(default_factory=Selection)
    format: Format = ""
    compression: Literal["", "gzip", "zstd"] = ""
    compression_level: int | None = None
    force_compression: bool = False
    compress: bool = False
    decompress: bool = False
    accept_uncompressed: bool = False
    preserve_digests: bool = False
    additional_tags: tuple[str, ...] = ()
    referrers: bool = False
    remove_signatures: bool = False
    signatures_carried: bool = False
    blobs_likely: bool = False
    differs: bool = False
    entire: bool = False
    tmpdir: str | None = None

    def __post_init__(self) -> None:
        if self.compress and self.decompress:
            raise InvalidInput("layers cannot be both compressed and decompressed")
        if self.force_compression and not self.compression:
            raise InvalidInput("forcing a compression format needs the name of the format")
        if self.compression_level is not None:
            kind = self.compression or "gzip"
            lowest, highest = _LEVELS[kind]
            if not lowest <= self.compression_level <= highest:
                raise InvalidInput(
                    f"{kind} level {self.compression_level} is not in {lowest} to {highest}"
                )

    @property
    def touches_layers(self) -> bool:
        """Whether a change of compression was asked for."""
        return bool(self.compression) or self.compress or self.decompress
