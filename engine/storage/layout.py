"""Where everything of a store is, as pure computing of paths.

All of it lies in the directory `imgtools` of the place that containers/storage calls its graph
root. The place may be shared with podman and buildah; their files are never read nor written.

    imgtools/store.json                     driver and ownership of the store, fixed when made
    imgtools/layers/sha256/HEX/meta.json    a layer, by its chain_id
    imgtools/layers/sha256/HEX/diff         its own content (overlay), or
    imgtools/layers/sha256/HEX/tree         the whole tree up to it (flat; overlay every so often)
    imgtools/layers/sha256/HEX/owners       who owns what in the whole tree, where recorded
    imgtools/snapshots/ID/meta.json         a snapshot
    imgtools/snapshots/ID/upper, work       what was changed (overlay), or
    imgtools/snapshots/ID/tree              the whole tree (flat)
    imgtools/snapshots/ID/merged            where it is mounted for people (overlay), if it is
    imgtools/tmp/                           what is being made or removed, see `workspace`
"""

from __future__ import annotations

import os
import re

from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest

OURS = "imgtools"
META = "meta.json"
OWNERS = "owners"
DIFF = "diff"
TREE = "tree"
UPPER = "upper"
WORK = "work"
MERGED = "merged"

_SNAPSHOT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def checked_id(snapshot_id: str) -> str:
    """`snapshot_id`, fit for a file name: letters, digits and `_.-`, 128 at most, a letter or
    digit first. Raises InvalidInput."""
    if not _SNAPSHOT_ID.fullmatch(snapshot_id):
        raise InvalidInput(
            f"invalid snapshot id {snapshot_id[:140]!r}: expected letters, digits, '_', '.', '-'"
        )
    return snapshot_id


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of the store whose graph root is `root`."""

    root: str

    @property
    def base(self) -> str:
        """The directory that everything is in."""
        return os.path.join(self.root, OURS)

    @property
    def store_file(self) -> str:
        """What was decided once for the whole store."""
        return os.path.join(self.base, "store.json")

    @property
    def layers(self) -> str:
        """A directory per digest algorithm, with a directory per layer."""
        return os.path.join(self.base, "layers")

    @property
    def snapshots(self) -> str:
        """A directory per snapshot."""
        return os.path.join(self.base, "snapshots")

    @property
    def tmp(self) -> str:
        """What is being made or removed; on the same file system as the rest."""
        return os.path.join(self.base, "tmp")

    def layer(self, chain_id: Digest) -> str:
        """The directory of a layer."""
        return os.path.join(self.layers, chain_id.algorithm, chain_id.hex)

    def snapshot(self, snapshot_id: str) -> str:
        """The directory of a snapshot; raises InvalidInput for an id that is none."""
        return os.path.join(self.snapshots, checked_id(snapshot_id))
