"""Mirrors many images at once: between registries, and to and from directories."""
