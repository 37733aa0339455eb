"""`imgtools untrusted-signature-dump-without-verification`: what a signature claims.

For looking into a signature that does not verify; nothing that is shown was proved, and none
of it may decide anything.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from imgtools.cli.command import verb
from imgtools.cli.output import flush, write_text


@verb("untrusted-signature-dump-without-verification", short_help="Show what is NOT verified.")
@click.argument("words", nargs=-1, metavar="SIGNATURE")
def command(words: tuple[str, ...]) -> None:
    """Show what the file SIGNATURE claims, WITHOUT VERIFYING IT: anybody can write that."""
    if len(words) != 1:
        raise click.UsageError("usage: untrusted-signature-dump-without-verification SIGNATURE")
    from imgtools.cli.sign_files import read_file
    from imgtools.sign.model import PAYLOAD_LIMIT
    from imgtools.sign.openpgp.packets import read_message
    from imgtools.sign.payload import parse_payload
    from imgtools.spec.strict_json import dumps_indented

    message = read_message(read_file(words[0], "signature", PAYLOAD_LIMIT), words[0])
    claim = parse_payload(message.payload, kind="simple")
    value: dict[str, Any] = {
        "UntrustedDockerManifestDigest": str(claim.digest),
        "UntrustedDockerReference": claim.reference,
        "UntrustedCreatorID": claim.creator or None,
        "UntrustedTimestamp": _time(claim.timestamp),
        "UntrustedShortKeyIdentifier": message.key_id,
    }
    write_text(dumps_indented(value) + "\n")
    flush()


def _time(seconds: int | None) -> str | None:
    """RFC 3339, None for what is no time that this can write."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None
