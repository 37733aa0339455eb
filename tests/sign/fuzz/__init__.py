"""Signatures, policies and what proves them, changed at random: nothing invalid is admitted.

`python -m tests.sign.fuzz N SEED` changes N things; the test suite a few hundred. What counts as
invalid is known by construction: whoever signs here keeps a ledger of what was signed.
"""
