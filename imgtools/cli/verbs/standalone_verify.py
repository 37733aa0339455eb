"""`imgtools standalone-verify`: verify the OpenPGP signature of a manifest, both in files."""

from __future__ import annotations

import click

from imgtools.cli.command import verb
from imgtools.cli.output import flush, write_text
from imgtools.errors import InvalidInput, InvalidKey, InvalidSignature

_ANY = ["any"]
_KEYS_LIMIT = 32 * 1024 * 1024


@verb("standalone-verify", short_help="Verify the signature of a manifest, both in files.")
@click.argument("words", nargs=-1, metavar="MANIFEST DOCKER-REFERENCE KEY-FINGERPRINTS SIGNATURE")
@click.option(
    "--public-key-file",
    type=click.Path(),
    metavar="PATH",
    help="Take public keys from PATH instead of the user's GnuPG key ring.",
)
def command(words: tuple[str, ...], public_key_file: str | None) -> None:
    """Verify that the file SIGNATURE is a signature of the manifest in the file MANIFEST as
    DOCKER-REFERENCE, by one of the keys KEY-FINGERPRINTS.

    KEY-FINGERPRINTS are separated by commas; with --public-key-file, "any" stands for all
    keys in that file.
    """
    if len(words) != 4:
        raise click.UsageError(
            "usage: standalone-verify MANIFEST DOCKER-REFERENCE KEY-FINGERPRINTS SIGNATURE"
        )
    from imgtools.cli.sign_files import read_file
    from imgtools.cli.verbs.manifest_digest import manifest_digest
    from imgtools.sign.model import PAYLOAD_LIMIT
    from imgtools.sign.openpgp.gpg import verify_message
    from imgtools.sign.payload import parse_payload
    from imgtools.spec.strict_json import MANIFEST_LIMIT

    path, reference, listed, signature = words
    wanted = listed.split(",")
    if wanted == _ANY and not public_key_file:
        raise InvalidInput(
            "any fingerprint is for the keys of --public-key-file only",
            hint="name the fingerprints, or give a file of public keys",
        )
    manifest = read_file(path, "manifest", MANIFEST_LIMIT)
    blob = read_file(signature, "signature", PAYLOAD_LIMIT)
    ring, accepted = _keys(wanted, public_key_file)
    found = verify_message(blob, [ring], signature)
    matched = [key for key in (found.signing_fingerprint, found.primary_fingerprint)
               if accepted is None or key in accepted]  # fmt: skip
    if not matched:
        raise InvalidSignature(
            f"{signature} is signed by the key {found.primary_fingerprint}, expected {listed}"
        )
    claim = parse_payload(found.payload, kind="simple")
    _check_reference(claim.reference, reference)
    actual = manifest_digest(manifest, claim.digest.algorithm)
    if actual != claim.digest:
        raise InvalidSignature(
            f"{signature} is of the manifest {claim.digest}, and {path} is {actual}"
        )
    fingerprint = matched[0] if accepted is not None else found.primary_fingerprint
    write_text(f"Signature verified using fingerprint {fingerprint}, digest {claim.digest}\n")
    flush()


def _keys(wanted: list[str], file: str | None) -> tuple[bytes, frozenset[str] | None]:
    """The key ring, and the fingerprints that are accepted of it, None for all."""
    from imgtools.cli.sign_files import read_file
    from imgtools.sign.openpgp.gpg import export_keys

    if file and wanted == _ANY:
        return read_file(file, "key ring", _KEYS_LIMIT), None
    fingerprints = [text.strip().replace(" ", "").upper() for text in wanted]
    accepted = frozenset(fingerprints)
    if file:
        return read_file(file, "key ring", _KEYS_LIMIT), accepted
    ring = export_keys(fingerprints)
    if not ring:
        raise InvalidKey(
            f"the user's key ring has no key {', '.join(fingerprints)}",
            hint="import it with gpg --import, or name a file with --public-key-file",
        )
    return ring, accepted


def _check_reference(signed: str, expected: str) -> None:
    """Raise InvalidSignature unless both names are the same once they are normalised."""
    from imgtools.spec.reference import Reference

    if Reference.parse(signed, default_tag="") != Reference.parse(expected, default_tag=""):
        raise InvalidSignature(f"the signature is of {signed!r}, and not of {expected!r}")
