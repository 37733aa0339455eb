"""The kinds of keys that we make, without what making them takes."""

from __future__ import annotations

DEFAULT_KIND = "ecdsa-p256"
"""What every verifier of container images knows; skopeo makes no other."""

KINDS = (
    "ecdsa-p256",
    "ecdsa-p384",
    "ecdsa-p521",
    "rsa-2048",
    "rsa-3072",
    "rsa-4096",
    "ed25519",
)
