"""`imgtools add`: add files, URLs and archives to a working container."""

from __future__ import annotations

from imgtools.cli.working_copy import add as command

__all__ = ["command"]
