"""The public sigstore as the sigstore package knows it: whom to trust, and where its services are.

Both documents come with the package, and are read from there without a network and without
importing it. What its operators changed since the package was made is not in them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from imgtools.blob.files import storage_errors
from imgtools.errors import Unsupported

_STORE = "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"


def public_root() -> bytes:
    """The trusted_root.json of the public sigstore. Raises Unsupported when the package has
    none, StorageError."""
    return _document("trusted_root.json")


def public_signing_config() -> bytes:
    """Its signing_config.json (version 0.2): the URLs of its services. Raises like
    `public_root`."""
    return _document("signing_config.v0.2.json")


def _document(name: str) -> bytes:
    spec = find_spec("sigstore")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(place, "_store", _STORE, name)
        if path.is_file():
            with storage_errors(str(path)):
                return path.read_bytes()
    raise Unsupported(
        f"the installed sigstore package has no {name} of the public sigstore",
        hint="name the file: --trusted-root or --trust-config",
    )
