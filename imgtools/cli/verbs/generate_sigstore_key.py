"""`imgtools generate-sigstore-key`: make a key pair for sigstore signatures."""

from __future__ import annotations

import click

from imgtools.cli.command import verb
from imgtools.cli.output import flush, write_text
from imgtools.cli.sign_passphrase import passphrase
from imgtools.cli.state import Cli
from imgtools.sign.keys.kinds import DEFAULT_KIND, KINDS


@verb("generate-sigstore-key", short_help="Make a key pair for signing images.")
@click.argument("words", nargs=-1, metavar="")
@click.option(
    "--output-prefix",
    metavar="PREFIX",
    help="Write the keys to PREFIX.pub and PREFIX.private.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(),
    metavar="PATH",
    help="Take the passphrase of the private key from the first line of PATH.",
)
@click.option(
    "--type",
    "kind",
    type=click.Choice(KINDS),
    default=DEFAULT_KIND,
    metavar="KIND",
    help=f"The kind of key: {', '.join(KINDS)} (default: {DEFAULT_KIND}, which every verifier "
    "knows).",
)
@click.pass_obj
def command(
    cli: Cli,
    words: tuple[str, ...],
    output_prefix: str | None,
    passphrase_file: str | None,
    kind: str,
) -> None:
    """Make a private key, encrypted under a passphrase, and its public key.

    skopeo, podman and cosign sign with the private key and verify with the public one. Without
    --passphrase-file the passphrase is that of the variable COSIGN_PASSWORD, or is asked for.
    Files that exist are never overwritten.
    """
    if words or not output_prefix:
        raise click.UsageError("usage: generate-sigstore-key --output-prefix PREFIX")
    from imgtools.cli.gotemplate.literals import quote
    from imgtools.sign.keys.generate import check_absent, generate, pair_paths, write_pair

    # Before anybody types a passphrase for nothing; write_pair looks again.
    private, public = pair_paths(output_prefix)
    check_absent(public)
    check_absent(private)
    secret = passphrase(cli.settings, private, passphrase_file, new=True)
    write_pair(output_prefix, *generate(secret, kind))
    write_text(f"Key written to {quote(private)} and {quote(public)}\n")
    flush()
