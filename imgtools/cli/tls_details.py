"""Reads the file of --tls-details, as containers-tls-details.yaml(5) describes it."""

from __future__ import annotations

from imgtools.errors import Unsupported
from imgtools.transport.options import TlsDetails


def read_tls_details(path: str) -> TlsDetails:
    """The details in the file at `path`; raises NotFound, InvalidInput, Unsupported."""
    raise Unsupported(f"--tls-details {path}: is not supported by this version")
