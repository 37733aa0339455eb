"""What is in a sigstore bundle, as it was parsed: nothing here has been verified.

The names are those of the protocol buffers (protobuf-specs, sigstore_bundle.proto); bytes are
decoded, integers are integers, and what a bundle may leave out is None or empty.
"""

from __future__ import annotations

from dataclasses import field

from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """DSSE: `payload` of `payload_type`, with the raw `signatures` over both (see
    `dsse.pre_authentication`). Key ids are hints for nobody and were left out."""

    payload_type: str
    payload: bytes = field(repr=False)
    signatures: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSignature:
    """The signature of a message that is elsewhere; `digest` is what the bundle says of it."""

    digest: Digest | None
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """Where an entry stands in a log of `tree_size` entries, and the signed head of that log."""

    log_index: int
    root_hash: bytes
    tree_size: int
    hashes: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """An entry of a transparency log; `integrated_time` is in seconds, 0 where the log does
    not vouch for a time (Rekor v2), `promise` is the SET of Rekor v1."""

    log_index: int
    log_id: bytes
    kind: str
    version: str
    integrated_time: int
    body: bytes = field(repr=False)
    promise: bytes | None = None
    proof: InclusionProof | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One bundle: exactly one of `envelope` and `message`, and either `certificates` (DER, the
    leaf first) or the hint of a public key.

    `version` is (0, 1), (0, 2) or (0, 3). `key_hint` is None where there are certificates; it
    is whatever the signer chose and never selects a key.
    """

    media_type: str
    version: tuple[int, int]
    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    key_hint: str | None = None
    entries: tuple[LogEntry, ...] = ()
    timestamps: tuple[bytes, ...] = field(default=(), repr=False)
    envelope: Envelope | None = None
    message: MessageSignature | None = None
