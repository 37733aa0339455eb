"""Registries whose answers were tampered with, by the thousand.

`python -m tests.fuzz --answers 100000 --jobs 2` runs commands against a registry behind a
proxy that changes what it says; the suite runs a few hundred. What must hold: an exit code,
one line of ours per error, nothing false accepted, no waiting, little memory.
"""
