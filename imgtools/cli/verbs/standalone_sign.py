"""`imgtools standalone-sign`: sign a manifest in a file with an OpenPGP key."""

from __future__ import annotations

import time

import click

from imgtools.cli.command import verb


@verb("standalone-sign", short_help="Sign a manifest in a file with an OpenPGP key.")
@click.argument("words", nargs=-1, metavar="MANIFEST DOCKER-REFERENCE KEY-FINGERPRINT")
@click.option(
    "--output", "-o", type=click.Path(), metavar="SIGNATURE", help="Write the signature there."
)
@click.option(
    "--passphrase-file",
    type=click.Path(),
    metavar="PATH",
    help="Take the passphrase of the key from the first line of PATH.",
)
def command(words: tuple[str, ...], output: str | None, passphrase_file: str | None) -> None:
    """Sign the manifest in the file MANIFEST as DOCKER-REFERENCE, with the secret key
    KEY-FINGERPRINT (a mail address or key id will do too) of the user's GnuPG key ring.

    Without --passphrase-file GnuPG's agent asks for the passphrase.
    """
    if len(words) != 3 or not output:
        raise click.UsageError(
            "usage: standalone-sign MANIFEST DOCKER-REFERENCE KEY-FINGERPRINT -o SIGNATURE"
        )
    from imgtools import __version__
    from imgtools.cli.sign_files import read_file, write_output
    from imgtools.cli.verbs.manifest_digest import manifest_digest
    from imgtools.sign.keys.passphrase import read_passphrase_file
    from imgtools.sign.openpgp.gpg import sign_message
    from imgtools.sign.payload import make_payload
    from imgtools.spec.strict_json import MANIFEST_LIMIT

    path, reference, key = words
    digest = manifest_digest(read_file(path, "manifest", MANIFEST_LIMIT), "sha256")
    passphrase = read_passphrase_file(passphrase_file) if passphrase_file else None
    creator = f"imgtools {__version__}"
    payload = make_payload("simple", digest, reference, creator, int(time.time()))
    write_output(output, sign_message(payload, key, passphrase=passphrase))
