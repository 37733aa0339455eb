"""The options of keyless signing (`imgtools sign --keyless`), and the signers that they mean.

Services are those of the public sigstore unless a file or options name others; whoever names
others says as well whom to trust there, because what they answer is verified before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imgtools.cli.command import go_bool
from imgtools.cli.sign_flags import creator
from imgtools.cli.sign_token import token_source
from imgtools.cli.state import Cli
from imgtools.errors import InvalidInput
from imgtools.transport.options import RegistryOptions

if TYPE_CHECKING:
    from imgtools.sign.bundles.make import BundleLog
    from imgtools.sign.key_signers import Log
    from imgtools.sign.keyless.services import Services
    from imgtools.sign.keyless.signers import KeylessBundleSigner
    from imgtools.sign.keyless.web import Web
    from imgtools.sign.protocols import ImageSigner

F = TypeVar("F", bound=Callable[..., Any])

_ONLY_KEYLESS = ("identity_token", "identity_token_file", "fulcio_url")


def keyless_flags(function: F) -> F:
    """The options; cosign's names where cosign has them."""
    for option in (
        go_bool("--keyless", help="Sign with a key that is made for it and a certificate for an "
                                  "identity token, by Fulcio."),
        click.option("--identity-token", metavar="TOKEN",
                     help="The identity token (others see it in the list of processes)."),
        click.option("--identity-token-file", metavar="PATH", type=click.Path(),
                     help="Read the identity token from PATH. Without either it is "
                          "SIGSTORE_ID_TOKEN, or what the CI system gives."),
        click.option("--trust-config", metavar="PATH", type=click.Path(),
                     help="The ClientTrustConfig of a sigstore: its services and its root. With "
                          "--key: log the signature there."),
        click.option("--fulcio-url", metavar="URL", help="The certificate authority."),
        click.option("--rekor-url", metavar="URL",
                     help="The transparency log; with --key, log the signature there."),
        click.option("--rekor-version", type=click.Choice(["1", "2"]), default="1",
                     help="The version of --rekor-url's API (default: 1)."),
        click.option("--timestamp-url", metavar="URL",
                     help="An RFC 3161 timestamp authority, for bundles."),
        click.option("--trusted-root", metavar="PATH", type=click.Path(),
                     help="The trusted_root.json that belongs to these URLs."),
    ):  # fmt: skip
        function = option(function)
    return function


def check_flags(kwargs: dict[str, Any], *, with_key: bool) -> None:
    """Raise InvalidInput for options of `keyless_flags` that would mean nothing."""
    if not kwargs["keyless"]:
        for name in _ONLY_KEYLESS:
            if kwargs[name] is not None:
                raise InvalidInput(f"--{name.replace('_', '-')} needs --keyless")
        for name in ("trust_config", "rekor_url"):
            if kwargs[name] and not with_key:
                raise InvalidInput(f"--{name.replace('_', '-')} needs --keyless or --key")
        if kwargs["trusted_root"] and not kwargs["rekor_url"]:
            raise InvalidInput("--trusted-root needs --keyless or --rekor-url")
        if kwargs["timestamp_url"] and not (kwargs["rekor_url"] or kwargs["trust_config"]):
            raise InvalidInput("--timestamp-url needs --keyless or --rekor-url")
    if kwargs["rekor_version"] != "1" and not kwargs["rekor_url"]:
        raise InvalidInput("--rekor-version needs --rekor-url")
    if kwargs["timestamp_url"] and kwargs["formats"] == "sigstore":
        raise InvalidInput("--timestamp-url is for bundles: add --format bundle or both")
    if kwargs["trust_config"] and kwargs["trusted_root"]:
        raise InvalidInput("--trust-config has a trusted root: leave out --trusted-root")


def keyless_signers(
    cli: Cli, kwargs: dict[str, Any], annotations: Mapping[str, str]
) -> list[ImageSigner]:
    """The signers that the options ask for, with one certificate for all of them; what they
    sign has `annotations`.

    Raises InvalidInput, Unsupported, and what reading files raises; tokens and services are
    asked when signers are.
    """
    from imgtools.sign.keyless.certified import Certifier
    from imgtools.sign.keyless.signers import KeylessAttachmentSigner, KeylessBundleSigner

    services, web = _services(kwargs), service_client(cli)
    token = token_source(cli.settings, kwargs["identity_token"], kwargs["identity_token_file"])
    certifier = Certifier(services, token, web)
    made: list[ImageSigner] = []
    if kwargs["formats"] in ("sigstore", "both"):
        made.append(
            KeylessAttachmentSigner(
                services, certifier, web, creator=creator(), annotations=annotations
            )
        )
    if kwargs["formats"] in ("bundle", "both"):
        made.append(KeylessBundleSigner(services, certifier, web, annotations=annotations))
    return made


def keyless_bundle_signer(cli: Cli, kwargs: dict[str, Any]) -> KeylessBundleSigner:
    """The one of `keyless_signers` that makes bundles, and so statements of any kind; raises
    like it."""
    from imgtools.sign.keyless.certified import Certifier
    from imgtools.sign.keyless.signers import KeylessBundleSigner

    services, web = _services(kwargs), service_client(cli)
    token = token_source(cli.settings, kwargs["identity_token"], kwargs["identity_token_file"])
    return KeylessBundleSigner(services, Certifier(services, token, web), web)


def log_of_key(cli: Cli, kwargs: dict[str, Any]) -> Log | None:
    """The log that attachments by a key are entered into, None for none. Raises Unsupported
    for one that promises nothing."""
    services = _services_of_key(kwargs)
    if services is None:
        return None
    from imgtools.sign.keyless.rekor import key_log

    return key_log(service_client(cli), services.promising_log().url, services.root)


def bundle_log_of_key(cli: Cli, kwargs: dict[str, Any]) -> BundleLog | None:
    """The log that bundles by a key are entered into, None for none. Raises InvalidInput
    without a root: a bundle has proofs that only its keys verify."""
    services = _services_of_key(kwargs)
    if services is None:
        return None
    from imgtools.sign.keyless.rekor import key_bundle_log

    if services.root is None:
        raise InvalidInput(
            "bundles are logged only where a root says which logs to trust",
            hint="name the root that belongs to --rekor-url: --trusted-root",
        )
    return key_bundle_log(service_client(cli), services, services.root)


def _services_of_key(kwargs: dict[str, Any]) -> Services | None:
    """Where signatures by a key are logged and stamped, None for nowhere; the root is the one
    that was named, or the public one for services of the public sigstore."""
    from imgtools.sign.keyless.services import Services, read_trust_config

    if path := kwargs["trust_config"]:
        return _by_url(read_trust_config(_file(path), path), kwargs)
    if not kwargs["rekor_url"]:
        return None
    path = kwargs["trusted_root"]
    urls = [kwargs[name] for name in ("rekor_url", "timestamp_url") if kwargs[name]]
    return _by_url(Services(root=_file(path) if path else known_root(*urls)), kwargs)


def service_client(cli: Cli) -> Web:
    """How services of sigstore are asked: with our proxies, TLS and certificates, and nobody's
    credentials."""
    from imgtools import __version__
    from imgtools.sign.keyless.web import Web

    options = RegistryOptions(
        anonymous=True,
        certs_dirs=cli.settings.certs_dirs,
        proxies=cli.settings.proxies,
        tls=cli.tls_details(),
        user_agent=f"imgtools/{__version__}",
    )
    return Web(options, cancel=cli.cancel)


def known_root(*urls: str) -> bytes | None:
    """The root of the public sigstore if all `urls` are of its services, else None."""
    from imgtools.sign.keyless.public_root import public_root

    public = public_services()
    known = {public.authority, *public.timestamps, *(log.url for log in public.logs)}
    return public_root() if all(url.rstrip("/") in known for url in urls) else None


def public_services() -> Services:
    """The services of the public sigstore."""
    from imgtools.sign.keyless.public_root import public_root, public_signing_config
    from imgtools.sign.keyless.services import read_signing_config

    return read_signing_config(public_signing_config(), public_root(), "the public sigstore")


def _services(kwargs: dict[str, Any]) -> Services:
    from imgtools.sign.keyless.services import Services, read_trust_config

    if path := kwargs["trust_config"]:
        found = read_trust_config(_file(path), path)
    elif path := kwargs["trusted_root"]:
        if not (kwargs["fulcio_url"] and kwargs["rekor_url"]):
            raise InvalidInput("--trusted-root needs --fulcio-url and --rekor-url")
        found = Services(root=_file(path))
    else:
        found = public_services()
        own = [kwargs[name] for name in ("fulcio_url", "rekor_url", "timestamp_url")]
        if known_root(*(url for url in own if url)) is None:
            raise InvalidInput(
                "the URLs are not those of the public sigstore, and nothing says whom to trust",
                hint="name the root that belongs to them: --trusted-root",
            )
    if url := kwargs["fulcio_url"]:
        found = replace(found, authority=url)
    return _by_url(found, kwargs)


def _by_url(found: Services, kwargs: dict[str, Any]) -> Services:
    """The services with the logs and timestamp authorities that are named one by one."""
    from imgtools.sign.keyless.services import LogService

    if url := kwargs["rekor_url"]:
        log = LogService(url=url, version=2 if kwargs["rekor_version"] == "2" else 1)
        found = replace(found, logs=(log,))
    if url := kwargs["timestamp_url"]:
        found = replace(found, timestamps=(url,))
    return found


def _file(path: str) -> bytes:
    from imgtools.sign.material import read_material

    return read_material(path)
