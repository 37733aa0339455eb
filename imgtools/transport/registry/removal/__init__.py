"""Deleting from a registry, and nothing that was not meant."""
