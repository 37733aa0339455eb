"""`imgtools manifest-digest`: compute the digest of a manifest file."""

from __future__ import annotations

import sys

import click

from imgtools.blob.files import storage_errors
from imgtools.cli.command import verb
from imgtools.cli.output import flush, write_text
from imgtools.errors import InvalidJSON, LimitExceeded
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest
from imgtools.spec.schema1 import payload_digest


@verb("manifest-digest", short_help="Compute the digest of a manifest file.")
@click.argument("file", type=click.Path(), metavar="MANIFEST-FILE")
@click.option(
    "--algorithm",
    "--manifest-digest",
    type=click.Choice(["sha256", "sha384", "sha512"]),
    default="sha256",
    help="Algorithm of the digest (default: sha256).",
)
def command(file: str, algorithm: str) -> None:
    """Print the digest that names the manifest in MANIFEST-FILE ("-" is standard input).

    It is the digest of the file's bytes, but for a signed schema 1 manifest, which is named
    by the digest of what was signed.
    """
    content = _read(file)
    write_text(f"{manifest_digest(content, algorithm)}\n")
    flush()


def manifest_digest(content: bytes, algorithm: str) -> Digest:
    """The digest of a manifest; what is no manifest at all is taken as bytes, as in skopeo.

    Raises InvalidManifest when the signatures of a schema 1 manifest contradict each other.
    """
    try:
        value = strict_json.loads(content, "manifest")
    except InvalidJSON:
        value = None
    if isinstance(value, dict) and value.get("schemaVersion") == 1 and "signatures" in value:
        return payload_digest(content, algorithm)
    return Digest.of(content, algorithm)


def _read(path: str) -> bytes:
    limit = strict_json.MANIFEST_LIMIT
    with storage_errors(path):
        if path == "-":
            content = sys.stdin.buffer.read(limit + 1)
        else:
            with open(path, "rb") as file:
                content = file.read(limit + 1)
    if len(content) > limit:
        raise LimitExceeded(f"manifest {path}", limit)
    return content
