"""--sign-by-sigstore: signing as a file says, containers-sigstore-signing-params.yaml(5).

A file has a private key or Fulcio, and Rekor's URL, which Fulcio needs. Fields that are not known
are errors, as they are to skopeo: whoever misspells one would sign in another way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgtools.cli.sign_flags import creator, load_key
from imgtools.cli.sign_keyless import known_root, service_client
from imgtools.cli.sign_token import token_source
from imgtools.cli.state import Cli
from imgtools.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imgtools.sign.protocols import ImageSigner
    from imgtools.spec.yaml_tree import Node

_LIMIT = 1024 * 1024
_TOP = ("privateKeyFile", "privateKeyPassphraseFile", "rekorURL")
_FULCIO = (
    "fulcioURL",
    "oidcMode",
    "oidcIDToken",
    "oidcIssuerURL",
    "oidcClientID",
    "oidcClientSecret",
)


def parameter_signers(
    cli: Cli, paths: Sequence[str], passphrase_file: str | None
) -> list[ImageSigner]:
    """The signers of the files at `paths`, each of one attachment.

    `passphrase_file` is that of keys whose file names none. Raises NotFound, StorageError,
    LimitExceeded, InvalidInput (also for a token that is none), InvalidKey, Denied for a token
    that has expired, and Unsupported for what needs a browser.
    """
    return [_signer(cli, path, passphrase_file) for path in paths]


def _signer(cli: Cli, path: str, passphrase_file: str | None) -> ImageSigner:
    fields, fulcio = _read(path)
    if fields["privateKeyFile"] and fulcio is not None:
        raise InvalidInput(f"{path} has both privateKeyFile and fulcio: expected one of them")
    if fields["privateKeyPassphraseFile"] and not fields["privateKeyFile"]:
        raise InvalidInput(f"{path} has a privateKeyPassphraseFile without a privateKeyFile")
    if fulcio is not None:
        return _by_fulcio(cli, path, fulcio, fields["rekorURL"])
    if not fields["privateKeyFile"]:
        raise InvalidInput(f"{path} says neither privateKeyFile nor fulcio: expected one of them")
    return _by_key(cli, fields, passphrase_file)


def _by_key(cli: Cli, fields: dict[str, str], passphrase_file: str | None) -> ImageSigner:
    from imgtools.sign.key_signers import AttachmentSigner
    from imgtools.sign.keyless.rekor import key_log

    file = fields["privateKeyPassphraseFile"] or passphrase_file
    key, log = load_key(cli, fields["privateKeyFile"], file), None
    if url := fields["rekorURL"]:
        log = key_log(service_client(cli), url, known_root(url))
    return AttachmentSigner(key, creator=creator(), log=log)


def _by_fulcio(cli: Cli, path: str, fulcio: dict[str, str], rekor: str) -> ImageSigner:
    from imgtools.sign.keyless.certified import Certifier
    from imgtools.sign.keyless.services import LogService, Services
    from imgtools.sign.keyless.signers import KeylessAttachmentSigner
    from imgtools.sign.keyless.web import service_url

    if not fulcio["fulcioURL"]:
        raise InvalidInput(f"{path}: fulcio has no fulcioURL")
    if not rekor:
        raise InvalidInput(
            f"{path} has fulcio without rekorURL",
            hint="certificates of minutes need a log that says when they were used",
        )
    url = fulcio["fulcioURL"]
    for each in (url, rekor):
        service_url(each, "")
    source = token_source(
        cli.settings, _static_token(path, fulcio), None, what=f"the oidcIDToken of {path}"
    )
    source()
    services = Services(authority=url, logs=(LogService(url=rekor),), root=known_root(url, rekor))
    web = service_client(cli)
    return KeylessAttachmentSigner(
        services, Certifier(services, source, web), web, creator=creator()
    )


def _static_token(path: str, fulcio: dict[str, str]) -> str:
    """The token in the file; raises InvalidInput, and Unsupported for other modes. How to get
    a token that is there already (oidcIssuerURL and its kin) is nobody's question."""
    mode = fulcio["oidcMode"]
    if mode in ("interactive", "deviceGrant"):
        raise Unsupported(
            f"{path}: oidcMode {mode} is not supported: nobody is asked to log in",
            hint="get an identity token and say oidcMode: staticToken",
        )
    if mode != "staticToken":
        said = f"an unknown oidcMode {mode[:40]!r}" if mode else "no oidcMode"
        raise InvalidInput(f"{path}: fulcio has {said}: expected staticToken")
    if not fulcio["oidcIDToken"]:
        raise InvalidInput(f"{path}: fulcio has no oidcIDToken")
    return fulcio["oidcIDToken"]


def _read(path: str) -> tuple[dict[str, str], dict[str, str] | None]:
    """The fields of the file, "" for what is not there, and those of `fulcio` in it."""
    from imgtools.cli.sign_files import read_file
    from imgtools.spec.yaml_tree import parse_yaml

    entries = _mapping(parse_yaml(read_file(path, "the parameter file", _LIMIT), path), path)
    inner = entries.pop("fulcio", None)
    fields = _texts(entries, _TOP, path)
    if inner is None or inner.is_null:
        return fields, None
    return fields, _texts(_mapping(inner, f"{path}: fulcio"), _FULCIO, f"{path}: fulcio")


def _mapping(node: Node | None, what: str) -> dict[str, Node]:
    if node is None or node.is_null:
        return {}
    if not isinstance(node.value, dict):
        raise InvalidInput(f"{what} is not a mapping")
    return dict(node.value)


def _texts(entries: dict[str, Node], known: tuple[str, ...], what: str) -> dict[str, str]:
    found = dict.fromkeys(known, "")
    for name, node in entries.items():
        if name not in known:
            raise InvalidInput(f"{what} has the unknown field {name[:60]!r}, line {node.line}")
        if not isinstance(node.value, str):
            raise InvalidInput(f"{what}: {name} is not a text")
        found[name] = "" if node.is_null else node.value
    return found
