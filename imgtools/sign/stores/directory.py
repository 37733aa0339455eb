"""Signatures in `dir:`, beside the manifests that they sign.

Those of the top manifest are `signature-N`, those of an instance `HEX.signature-N`; what is
written appears with the image, when its destination commits.
"""

from __future__ import annotations

from collections.abc import Sequence

from imgtools.errors import LimitExceeded
from imgtools.sign.model import SIGNATURES_LIMIT, Format, Signature
from imgtools.sign.openpgp.blob import decode_blob, encode_blob
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.transport.directory import DirectorySource
from imgtools.transport.directory_writer import DirectoryDestination


class DirectorySignatures:
    """Reads the signatures of the image in a `dir:` source."""

    def __init__(self, source: DirectorySource) -> None:
        """The source stays the caller's."""
        self._source = source

    def signatures(self, digest: Digest) -> tuple[Signature, ...]:
        """See SignatureReader."""
        top = self._source.resolve().digest
        contents = self._source.signatures(None if digest == top else digest)
        where = f"{self._source.origin.name}, signature"
        if len(contents) > SIGNATURES_LIMIT:
            raise LimitExceeded(where, SIGNATURES_LIMIT, unit="signatures")
        return tuple(decode_blob(c, f"{where} {number}") for number, c in enumerate(contents, 1))


class DirectorySignatureWriter:
    """Puts signatures into a `dir:` destination that is being written."""

    def __init__(self, destination: DirectoryDestination, top: Digest) -> None:
        """`top` is the digest of the manifest that becomes the directory's own."""
        self._destination = destination
        self._top = top
        self._put: dict[Digest, tuple[bytes, ...]] = {}

    @property
    def holds(self) -> frozenset[Format]:
        """Simple signatures and attachments' layers."""
        return frozenset(("simple", "sigstore"))

    def preflight(self) -> None:
        """Nothing can go wrong that the image's own files would not meet."""

    def put(self, subject: Descriptor, signatures: Sequence[Signature]) -> int:
        """See SignatureWriter; those that are there already are the ones put before, because
        the directory's old image and its signatures go. Raises Unsupported for a bundle,
        LimitExceeded, StorageError."""
        digest = subject.digest
        present = self._put.get(digest, ())
        blobs = dict.fromkeys((*present, *map(encode_blob, signatures)))
        if len(blobs) > SIGNATURES_LIMIT:
            raise LimitExceeded(f"the image {digest}", SIGNATURES_LIMIT, unit="signatures")
        self._destination.put_signatures(None if digest == self._top else digest, tuple(blobs))
        self._put[digest] = tuple(blobs)
        return len(blobs) - len(present)
