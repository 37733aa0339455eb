"""Option groups that several verbs share, and their translation to transport options.

`registry_flags("src-", "source ")` adds `--src-creds` and its kin to a verb, and
`registry_options(cli, "src_", kwargs)` takes the parsed values out of its keyword arguments.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from imgtools.cli.command import go_bool
from imgtools.cli.output import complain
from imgtools.cli.state import Cli
from imgtools.errors import InvalidInput, NotFound, Unsupported
from imgtools.transport.options import (
    Credentials,
    DestinationOptions,
    Limits,
    RegistryOptions,
    SourceOptions,
)

_NAMES = (
    "authfile",
    "creds",
    "username",
    "password",
    "registry_token",
    "no_creds",
    "cert_dir",
    "tls_verify",
    "daemon_host",
)


def registry_flags(prefix: str = "", whose: str = "") -> Callable[[Any], Any]:
    """A decorator that adds skopeo's credential and TLS options with `prefix` ("src-")."""

    def decorate(function: Any) -> Any:
        p = f"--{prefix}"
        decorators = (
            click.option(f"{p}authfile", type=click.Path(), metavar="PATH",
                         help=f"Credentials file for the {whose}registry."),
            click.option(*_creds_names(prefix), metavar="USER[:PASSWORD]",
                         help=f"Credentials for the {whose}registry."),
            click.option(f"{p}username", metavar="USER", help=f"User at the {whose}registry."),
            click.option(f"{p}password", metavar="PASSWORD",
                         help=f"Password at the {whose}registry."),
            click.option(f"{p}registry-token", metavar="TOKEN",
                         help=f"Bearer token for the {whose}registry."),
            go_bool(f"{p}no-creds", help=f"Access the {whose}registry anonymously."),
            click.option(f"{p}cert-dir", type=click.Path(), metavar="DIR",
                         help="Directory of *.crt, *.cert and *.key files to use."),
            go_bool(f"{p}tls-verify", default=None,
                    help="Require https and verify certificates (default true)."),
            click.option(f"{p}daemon-host", hidden=True, metavar="HOST"),
        )  # fmt: skip
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def auth_file_flags(function: Any) -> Any:
    """A decorator that adds the options that say which file of credentials is changed."""
    function = click.option(
        "--compat-auth-file",
        type=click.Path(),
        metavar="PATH",
        help="A config.json of docker to change instead.",
    )(function)
    return click.option("--authfile", type=click.Path(), metavar="PATH",
                        help="The auth.json to change (default: REGISTRY_AUTH_FILE, else "
                        "$XDG_RUNTIME_DIR/containers/auth.json).")(function)  # fmt: skip


def format_flags(function: Any) -> Any:
    """A decorator that adds what may be asked of manifests: another format, or no change."""
    function = go_bool("--preserve-digests", help="Fail rather than change a manifest.")(function)
    return click.option(
        "--format",
        "-f",
        type=click.Choice(["oci", "v2s2", "v2s1"]),
        help="Convert manifests to this format (default: keep them).",
    )(function)


def tls_verify_for_both(function: Any) -> Any:
    """A decorator that adds skopeo's older --tls-verify, which is for source and destination."""
    return go_bool("--tls-verify", default=None, hidden=True, help="For both registries.")(function)


def taken_for_both(kwargs: dict[str, Any]) -> None:
    """Let the value of `tls_verify_for_both` count where an option of one side was not given."""
    both = kwargs.pop("tls_verify")
    if both is None:
        return
    complain("--tls-verify is old; --src-tls-verify and --dest-tls-verify are for one side")
    for side in ("src", "dest"):
        if kwargs[f"{side}_tls_verify"] is None:
            kwargs[f"{side}_tls_verify"] = both


def _creds_names(prefix: str) -> tuple[str, ...]:
    """--src-creds and its short form --screds, as in skopeo; plain --creds has none."""
    names = (f"--{prefix}creds",)
    short = {"src-": "--screds", "dest-": "--dcreds"}.get(prefix)
    return (*names, short, f"{prefix.replace('-', '_')}creds") if short else names


def registry_options(
    cli: Cli, prefix: str, kwargs: dict[str, Any], *, authfile: str | None = None
) -> RegistryOptions:
    """Take the values of `registry_flags` out of `kwargs`; `prefix` is "", "src_" or "dest_".

    `authfile` is the verb's common --authfile, for verbs that have one. Raises InvalidInput
    when options contradict each other.
    """
    values = {name: kwargs.pop(prefix + name) for name in _NAMES}
    flag = "--" + prefix.replace("_", "-")
    if values["daemon_host"]:
        raise Unsupported(f"{flag}daemon-host: the docker-daemon transport is not supported")
    if values["no_creds"] and (values["creds"] or values["username"]):
        raise InvalidInput(f"{flag}creds and {flag}no-creds cannot be given together")
    if values["creds"] and (values["username"] or values["password"]):
        raise InvalidInput(f"{flag}creds and {flag}username/password cannot be given together")
    if bool(values["username"]) != bool(values["password"]):
        raise InvalidInput(f"{flag}username and {flag}password must be given together")
    chosen = values["authfile"] or authfile
    if chosen and not os.path.exists(chosen):
        raise NotFound(f"credentials file {chosen} does not exist")
    if values["cert_dir"] and not os.path.isdir(values["cert_dir"]):
        raise NotFound(f"certificate directory {values['cert_dir']} does not exist")
    from imgtools import __version__

    agent = f"imgtools/{__version__}"
    prefix = cli.values.get("user_agent_prefix") or ""
    if not (prefix.isascii() and prefix.isprintable()) and prefix:
        raise InvalidInput("--user-agent-prefix has a character that no HTTP header may have")
    return RegistryOptions(
        tls_verify=values["tls_verify"] is not False,
        tls_verify_given=values["tls_verify"] is not None,
        cert_dir=values["cert_dir"],
        certs_dirs=cli.settings.certs_dirs,
        credentials=_credentials(values),
        anonymous=values["no_creds"],
        auth_files=(chosen,) if chosen else cli.settings.auth_files,
        challenge_cache=cli.challenge_cache(),
        proxies=cli.settings.proxies,
        user_agent=f"{prefix} {agent}" if prefix else agent,
        registries=cli.registries(),
        mirrors=not cli.values.get("no_mirrors"),
        tls=cli.tls_details(),
        limits=Limits(
            requests=cli.values.get("rate_limit"), bandwidth=cli.values.get("limit_bandwidth")
        ),
        private_hosts=tuple(cli.values.get("allow_private") or ()),
        journal_dir=cli.journal_dir(),
        tmpdir=cli.tmpdir,
    )


def source_options(
    cli: Cli,
    registry: RegistryOptions,
    *,
    shared_blob_dir: str | None = None,
    as_received: bool = False,
) -> SourceOptions:
    """The options for opening a source."""
    return SourceOptions(
        registry=registry,
        tmpdir=cli.tmpdir,
        shared_blob_dir=shared_blob_dir,
        as_received=as_received,
    )


def destination_options(
    cli: Cli,
    registry: RegistryOptions,
    *,
    shared_blob_dir: str | None = None,
    additional_tags: tuple[str, ...] = (),
    accept_uncompressed: bool = False,
) -> DestinationOptions:
    """The options for opening a destination."""
    return DestinationOptions(
        registry=registry,
        tmpdir=cli.tmpdir,
        shared_blob_dir=shared_blob_dir,
        additional_tags=additional_tags,
        accept_uncompressed=accept_uncompressed,
    )


def _credentials(values: dict[str, Any]) -> Credentials | None:
    if values["registry_token"]:
        return Credentials(registry_token=values["registry_token"])
    if values["creds"]:
        username, colon, password = values["creds"].partition(":")
        if not username:
            raise InvalidInput("credentials have no user name: expected USER[:PASSWORD]")
        if not colon:
            password = click.prompt("Password", hide_input=True, err=True)
        return Credentials(username=username, password=password)
    if values["username"]:
        return Credentials(username=values["username"], password=values["password"])
    return None
