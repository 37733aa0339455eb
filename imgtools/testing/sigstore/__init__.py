"""Sigstore for tests: an authority, logs and timestamps that need no network.

`LocalSigstore` has them all; see `imgtools.testing.sigstore.local`.
"""

from imgtools.testing.sigstore.local import LocalSigstore

__all__ = ["LocalSigstore"]
