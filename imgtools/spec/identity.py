"""Identities derived from a config: chain_id (OCI image-spec "config.md", "Layer ChainID")
and image id (the digest of the config)."""

from __future__ import annotations

from collections.abc import Sequence

from imgtools.spec.digest import Digest


def chain_ids(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    """The chain_id after each layer, oldest first."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(chain_id_on(chain[-1] if chain else None, diff_id))
    return tuple(chain)


def chain_id_on(parent: Digest | None, diff_id: Digest) -> Digest:
    """The ChainID of a layer on top of the one with the ChainID `parent`."""
    if parent is None:
        return diff_id
    return Digest.of(f"{parent} {diff_id}".encode(), diff_id.algorithm)


def chain_id(diff_ids: Sequence[Digest]) -> Digest | None:
    """The chain_id of the whole sequence, None for an image without layers."""
    return chain_ids(diff_ids)[-1] if diff_ids else None


def image_id(config: bytes) -> Digest:
    """The image id: the sha256 of the config as it is stored."""
    return Digest.of(config)
