"""Who signs, for the verbs `sign` and `attest`: keys, commands that hold keys, certificates, GnuPG.

These verbs can make every format; the --sign-by options of copy and others make those of skopeo
(see sign_flags).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imgtools.cli.command import go_bool
from imgtools.cli.sign_flags import creator, load_key
from imgtools.cli.sign_keyless import (
    bundle_log_of_key,
    check_flags,
    keyless_flags,
    keyless_signers,
    log_of_key,
)
from imgtools.cli.state import Cli
from imgtools.errors import InvalidInput

if TYPE_CHECKING:
    from imgtools.sign.protocols import ImageSigner, KeySigner

F = TypeVar("F", bound=Callable[..., Any])

_RESERVED = ("creator", "timestamp", "docker-reference")


def key_flags(function: F) -> F:
    """The options that name a key."""
    for option in (
        click.option("--key", "keys", multiple=True, metavar="PATH", type=click.Path(),
                     help="Sign with the private key in PATH (cosign's, skopeo's, or PEM)."),
        click.option("--sign-passphrase-file", metavar="PATH", type=click.Path(),
                     help="Take the passphrase of the key from the first line of PATH."),
        click.option("--signer-command", metavar="COMMAND",
                     help="Sign with what COMMAND answers, for keys in a KMS or HSM."),
        click.option("--signer-key", metavar="PATH", type=click.Path(),
                     help="The public key of --signer-command."),
        go_bool("--signer-digest", help="Give --signer-command the SHA-256 of what it signs."),
    ):  # fmt: skip
        function = option(function)
    return function


def maker_flags(function: F) -> F:
    """All options that say who signs an image, and in what form."""
    for option in (
        key_flags,
        keyless_flags,
        click.option("--annotations", "-a", "said", multiple=True, metavar="NAME=VALUE",
                     help="Say NAME=VALUE in the signature, which verifiers can ask for."),
        click.option("--sign-by-sigstore-private-key", "keys_too", multiple=True, hidden=True,
                     type=click.Path()),
        click.option("--sign-by", "gpg", multiple=True, metavar="KEY",
                     help="Sign with the GPG key KEY, as simple signing."),
        click.option("--format", "formats", default="sigstore", metavar="FORMAT",
                     type=click.Choice(["sigstore", "bundle", "both"]),
                     help="sigstore (an attachment, the default), bundle (a referrer, as of "
                          "cosign 3), or both."),
    ):  # fmt: skip
        function = option(function)
    return function


def makers(cli: Cli, kwargs: dict[str, Any]) -> tuple[ImageSigner, ...]:
    """The signers that the options of `maker_flags` ask for, with their keys loaded.

    Raises InvalidInput, InvalidKey, Unsupported, StorageError and LimitExceeded.
    """
    made: list[ImageSigner] = []
    keys = key_signers(cli, kwargs)
    check_flags(kwargs, with_key=bool(keys))
    for key in keys:
        made += _of_key(cli, key, kwargs)
    if kwargs["keyless"]:
        made += keyless_signers(cli, kwargs, annotations_of(kwargs["said"]))
    if kwargs["gpg"]:
        from imgtools.sign.keys.passphrase import read_passphrase_file
        from imgtools.sign.simple_signer import SimpleSigner

        file = kwargs["sign_passphrase_file"]
        secret = read_passphrase_file(file) if file else None
        made += [
            SimpleSigner(
                key,
                creator=creator(),
                annotations=annotations_of(kwargs["said"]),
                passphrase=secret,
            )
            for key in kwargs["gpg"]
        ]
    return tuple(made)


def key_signers(cli: Cli, kwargs: dict[str, Any]) -> tuple[KeySigner, ...]:
    """The keys that the options of `key_flags` name; raises as `makers`."""
    file = kwargs["sign_passphrase_file"]
    paths = (*kwargs["keys"], *kwargs.get("keys_too", ()))
    found: list[KeySigner] = [load_key(cli, path, file) for path in paths]
    command, public = kwargs["signer_command"], kwargs["signer_key"]
    if bool(command) != bool(public):
        raise InvalidInput("--signer-command and --signer-key are given together, or not at all")
    if command:
        import shlex

        from imgtools.sign.keys.external import ExternalSigner
        from imgtools.sign.keys.public import load_public_key
        from imgtools.sign.material import read_material

        try:
            words = tuple(shlex.split(command))
        except ValueError as e:
            raise InvalidInput(f"--signer-command {command!r}: {e}") from e
        key = load_public_key(read_material(public), public)
        found.append(ExternalSigner(command=words, public=key, digest=kwargs["signer_digest"]))
    return tuple(found)


def _of_key(cli: Cli, key: KeySigner, kwargs: dict[str, Any]) -> list[ImageSigner]:
    from imgtools.sign.key_signers import AttachmentSigner, BundleSigner

    made: list[ImageSigner] = []
    formats, said = kwargs["formats"], annotations_of(kwargs["said"])
    if formats in ("sigstore", "both"):
        log = log_of_key(cli, kwargs)
        made.append(AttachmentSigner(key, creator=creator(), annotations=said, log=log))
    if formats in ("bundle", "both"):
        made.append(BundleSigner(key, annotations=said, log=bundle_log_of_key(cli, kwargs)))
    return made


def annotations_of(words: Sequence[str]) -> dict[str, str]:
    """The annotations that NAME=VALUE options give.

    Raises InvalidInput for other forms, for a name with several values, and for names that
    signatures have a meaning for.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise InvalidInput(f"--annotations {word!r}: expected NAME=VALUE")
        if name in _RESERVED:
            raise InvalidInput(f"--annotations: {name} is for what signatures say themselves")
        if found.setdefault(name, value) != value:
            raise InvalidInput(f"--annotations: {name} has two values")
    return found
