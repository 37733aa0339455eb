"""The options that ask for signatures (skopeo's --sign-by and its kin), and the signers that
they mean. Keys are loaded when the signers are made, before anything is read or written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imgtools.cli.sign_passphrase import passphrase
from imgtools.cli.state import Cli
from imgtools.errors import InvalidInput, Unsupported
from imgtools.frozen import dataclass

if TYPE_CHECKING:
    from imgtools.sign.protocols import ImageSigner, KeySigner

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRequest:
    """What the options ask for: `gpg` keys, `sigstore_keys` (files), `parameters` (files of
    --sign-by-sigstore), and the name to sign, "" for the destination's own."""

    gpg: tuple[str, ...] = ()
    sigstore_keys: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    passphrase_file: str | None = None
    identity: str = ""

    @property
    def wanted(self) -> bool:
        """Whether anything is to be signed."""
        return bool(self.gpg or self.sigstore_keys or self.parameters)


def sign_flags(function: F) -> F:
    """The options, as skopeo copy and sync, podman push and buildah have them."""
    text = click.option
    for option in (
        text("--sign-by", multiple=True, metavar="KEY",
             help="Sign with the GPG key KEY (a fingerprint), as simple signing."),
        text("--sign-by-sigstore-private-key", multiple=True, metavar="PATH", type=click.Path(),
             help="Sign with the private key in PATH, as a sigstore attachment."),
        text("--sign-by-sigstore", multiple=True, metavar="PATH", type=click.Path(),
             help="Sign as the parameter file PATH says (containers-sigstore-signing-params)."),
        text("--sign-by-sq-fingerprint", multiple=True, hidden=True),
        text("--sign-passphrase-file", metavar="PATH", type=click.Path(),
             help="Take the passphrase of the key from the first line of PATH."),
        text("--sign-identity", metavar="NAME:TAG", default="",
             help="Sign by this name instead of the destination's."),
    ):  # fmt: skip
        function = option(function)
    return function


def sign_request(kwargs: dict[str, Any]) -> SignRequest:
    """What the options ask for, taken out of `kwargs`; raises Unsupported, InvalidInput."""
    if kwargs.pop("sign_by_sq_fingerprint"):
        raise Unsupported(
            "--sign-by-sq-fingerprint is not supported: there is no Sequoia here",
            hint="--sign-by makes the same signatures with a key of GnuPG",
        )
    request = SignRequest(
        gpg=kwargs.pop("sign_by"),
        sigstore_keys=kwargs.pop("sign_by_sigstore_private_key"),
        parameters=kwargs.pop("sign_by_sigstore"),
        passphrase_file=kwargs.pop("sign_passphrase_file"),
        identity=kwargs.pop("sign_identity"),
    )
    if not request.wanted and (request.passphrase_file or request.identity):
        raise InvalidInput("--sign-passphrase-file and --sign-identity need a --sign-by option")
    return request


def make_signers(cli: Cli, request: SignRequest) -> tuple[ImageSigner, ...]:
    """The signers that are asked for, with their keys loaded.

    Raises NotFound, StorageError, InvalidKey for keys, InvalidInput where there is no
    passphrase to be had.
    """
    made: list[ImageSigner] = []
    if request.gpg:
        from imgtools.sign.keys.passphrase import read_passphrase_file
        from imgtools.sign.simple_signer import SimpleSigner

        file = request.passphrase_file
        secret = read_passphrase_file(file) if file else None
        made += [SimpleSigner(key, creator=creator(), passphrase=secret) for key in request.gpg]
    if request.sigstore_keys:
        from imgtools.sign.key_signers import AttachmentSigner

        for path in request.sigstore_keys:
            key = load_key(cli, path, request.passphrase_file)
            made.append(AttachmentSigner(key, creator=creator()))
    if request.parameters:
        from imgtools.cli.sign_parameters import parameter_signers

        made += parameter_signers(cli, request.parameters, request.passphrase_file)
    return tuple(made)


def load_key(cli: Cli, path: str, passphrase_file: str | None) -> KeySigner:
    """The private key in the file `path`; a passphrase is asked for only if it needs one.

    Raises InvalidKey, InvalidInput, StorageError, LimitExceeded.
    """
    from imgtools.sign.keys.private import load_private_key
    from imgtools.sign.material import read_material

    return load_private_key(
        read_material(path), lambda: passphrase(cli.settings, path, passphrase_file), path
    )


def creator() -> str:
    """What our signatures say who made them."""
    from imgtools import __version__

    return f"imgtools {__version__}"
