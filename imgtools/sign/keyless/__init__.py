"""Signing with keys that live for minutes: identity tokens, Fulcio, Rekor and timestamps."""
