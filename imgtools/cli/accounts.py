"""What login and logout share: their options, the file they change, and how they ask.

As in skopeo, the file is --authfile, --compat-auth-file, that of REGISTRY_AUTH_FILE, docker's
own when DOCKER_CONFIG is set, or the one in the run-time directory.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from imgtools.cli.options import registry_options
from imgtools.cli.state import Cli
from imgtools.errors import InvalidInput, NotFound
from imgtools.frozen import dataclass
from imgtools.transport.options import Credentials, RegistryOptions
from imgtools.transport.registry.access.credential_files import Target
from imgtools.transport.registry.access.login import Account, accepts, parse_account
from imgtools.transport.table import Transports


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The file to change, whether docker's form is wanted, and the files to look into."""

    path: str
    docker: bool
    search: tuple[str, ...]


def choose_place(cli: Cli, authfile: str | None, compat: str | None) -> Place:
    """The file that the options and the environment choose; raises InvalidInput, NotFound."""
    if authfile and compat:
        raise InvalidInput("--authfile and --compat-auth-file cannot be given together")
    settings = cli.settings
    if authfile or compat:
        path = authfile or compat or ""
        return Place(path=path, docker=not authfile, search=(path,))
    if settings.login_file_given:
        path = settings.login_file
        return Place(path=path, docker=settings.login_docker, search=(path,))
    runtime = settings.runtime_dir
    if runtime and not os.path.isdir(runtime):
        raise NotFound(
            f"the directory {runtime} of XDG_RUNTIME_DIR does not exist",
            hint="create it, unset XDG_RUNTIME_DIR, or give --authfile",
        )
    return Place(path=settings.login_file, docker=False, search=settings.auth_files)


def access_options(cli: Cli, kwargs: dict[str, Any], search: tuple[str, ...]) -> RegistryOptions:
    """The options that reach a registry, of --tls-verify and --cert-dir (taken out of
    `kwargs`), with credentials from the files `search`."""
    values: dict[str, Any] = dict.fromkeys(
        ("authfile", "creds", "username", "password", "registry_token", "daemon_host")
    )
    values |= {"no_creds": False, "cert_dir": kwargs.pop("cert_dir", None)}
    values["tls_verify"] = kwargs.pop("tls_verify")
    return replace(registry_options(cli, "", values), auth_files=search)


def one_account(arguments: tuple[str, ...], verb: str, where: str) -> Account:
    """The one registry of the command line; raises InvalidInput."""
    if not arguments:
        raise InvalidInput(f"please provide a registry to {verb} {where}")
    if len(arguments) > 1:
        raise InvalidInput(f"{verb.replace(' ', '')} accepts only one registry to {verb} {where}")
    return parse_account(arguments[0])


def target(transports: Transports, place: Place, options: RegistryOptions) -> Target:
    """Where credentials are kept: with the helpers of registries.conf, which docker's form
    does without. Raises InvalidInput, NotFound, StorageError for a wrong configuration."""
    helpers = transports.routes.config(options.registries).credential_helpers
    return Target(path=place.path, docker=place.docker, helpers=helpers)


def is_accepted(
    transports: Transports, account: Account, options: RegistryOptions, credentials: Credentials
) -> bool:
    """Whether the registry accepts `credentials`; raises as `accepts`."""
    given = replace(options, credentials=credentials)
    return accepts(transports.routes.writer(account.reference, given))
