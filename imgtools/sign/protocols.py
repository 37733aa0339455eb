"""What the parts of signing ask of each other.

Readers and writers know the places where signatures are kept, signers make them; none of them
knows policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from imgtools.sign.bundles.statement import Statement
from imgtools.sign.model import Claim, Format, Signature
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest


class SignatureReader(Protocol):
    """A place where the signatures of one image (and of its instances) are kept."""

    def signatures(self, digest: Digest) -> tuple[Signature, ...]:
        """All signatures of the manifest `digest` that are here, in their order.

        Empty only when the place says that there are none. Raises Denied, RegistryError,
        ConnectionFailed, StorageError, LimitExceeded, InvalidSignature (what is there is no
        signature) and what else reading raises: never "none" for what could not be read.
        """
        ...


class SignatureWriter(Protocol):
    """A place where the signatures of one image (and of its instances) are put."""

    @property
    def holds(self) -> frozenset[Format]:
        """The formats that can be kept here."""
        ...

    def preflight(self) -> None:
        """Raise now what can be known to go wrong before anything is uploaded."""
        ...

    def put(self, subject: Descriptor, signatures: Sequence[Signature]) -> int:
        """Keep `signatures` with those that are there already, each once; how many are new.

        Raises what writing raises, and Conflict when others write at the same time for too
        long.
        """
        ...


class KeySigner(Protocol):
    """Makes signatures over bytes with one private key, wherever that key is."""

    @property
    def public_pem(self) -> bytes:
        """The public key, PKIX PEM."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`: ECDSA (DER) or RSA PKCS #1 v1.5 over SHA-256, or pure
        Ed25519. Raises InvalidKey, StorageError or Unsupported."""
        ...


class ImageSigner(Protocol):
    """Makes the signature of a manifest under a name."""

    @property
    def format(self) -> Format:
        """What it makes."""
        ...

    def preflight(self) -> None:
        """Load keys and tokens now, so that nothing fails for them after an upload."""
        ...

    def sign(self, subject: Descriptor, reference: str) -> Signature:
        """A signature of `subject` by the name `reference` (host/repository:tag, or with
        digest). Raises InvalidKey, Denied, ConnectionFailed and what the maker raises."""
        ...

    def made(self, signature: Signature) -> Claim | None:
        """What `signature` claims if this signer made it, else None; so that nothing is
        signed twice alike."""
        ...


class StatementSigner(Protocol):
    """Makes attestations: signed in-toto statements, in the form of one place."""

    @property
    def format(self) -> Format:
        """ "bundle" for referrers, "sigstore" for the envelopes that cosign 2 attached."""
        ...

    def preflight(self) -> None:
        """Load keys and tokens now, so that nothing fails for them after an upload."""
        ...

    def seal(self, statement: bytes) -> Signature:
        """`statement` (JSON), signed. Raises InvalidKey, Denied, ConnectionFailed,
        InvalidSignature and what the maker raises."""
        ...

    def sealed(self, signature: Signature) -> Statement | None:
        """What `signature` states if this signer made it, else None; so that nothing is
        attested twice alike."""
        ...
