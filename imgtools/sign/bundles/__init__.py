"""Sigstore bundles: DSSE envelopes, in-toto statements and what proves them."""
