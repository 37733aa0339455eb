"""Tests that imgtools and the newest other clients and registries understand each other.

`scripts/interop` builds those from their Go modules and runs this; `make test` does not.
"""
