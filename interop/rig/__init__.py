"""The other programs, as objects: clients that push and pull, registries that run on loopback."""

from __future__ import annotations

from interop.rig.images import (
    Image,
    blobs_below,
    entries,
    files_in,
    kinds,
    named,
    one_image,
    unpacked,
)
from interop.rig.peers import CANNOT_PULL, CANNOT_PUSH, PEERS, Peer, make_peer, pairs
from interop.rig.registries import REGISTRIES, Registry

__all__ = [
    "CANNOT_PULL",
    "CANNOT_PUSH",
    "PEERS",
    "REGISTRIES",
    "Image",
    "Peer",
    "Registry",
    "blobs_below",
    "entries",
    "files_in",
    "kinds",
    "make_peer",
    "named",
    "one_image",
    "pairs",
    "unpacked",
]
