"""Signing under certificates of a sigstore: tokens, Fulcio, Rekor, timestamps."""
