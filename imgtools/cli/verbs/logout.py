"""`imgtools logout`: forget the credentials of a registry, or all of them.

Options and answers are those of `skopeo logout`. Only one file is changed; that docker keeps
credentials of its own for the registry is said and left to docker.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.options import auth_file_flags
from imgtools.cli.output import warn, write_lines
from imgtools.cli.state import Cli
from imgtools.errors import Error, InvalidInput, NotFound

if TYPE_CHECKING:
    from imgtools.transport.options import RegistryOptions
    from imgtools.transport.registry.access.login import Account
    from imgtools.transport.table import Transports


@verb("logout", short_help="Log out of a registry.")
@click.argument("registry", nargs=-1, metavar="REGISTRY[/NAMESPACE]")
@go_bool("--all", "-a", help="Forget the credentials of all registries in the file.")
@auth_file_flags
@go_bool("--tls-verify", default=None, help="Require https and verify certificates (default true).")
@click.pass_obj
def command(cli: Cli, /, registry: tuple[str, ...], **kwargs: Any) -> None:
    """Forget the credentials for REGISTRY, or for just that NAMESPACE or repository of it."""
    from imgtools.cli.accounts import access_options, choose_place, one_account, target
    from imgtools.transport.registry.access.credential_files import (
        remove_all_credentials,
        remove_credentials,
    )
    from imgtools.transport.table import Transports

    authfile, compat = kwargs.pop("authfile"), kwargs.pop("compat_auth_file")
    _must_exist(authfile or compat)
    place = choose_place(cli, authfile, compat)
    options = access_options(cli, kwargs, place.search)
    with Transports(cli.cancel, warn=warn) as transports:
        keeping = target(transports, place, options)
        if kwargs["all"]:
            if registry:
                raise InvalidInput("--all takes no arguments")
            remove_all_credentials(keeping)
            write_lines(["Removed login credentials for all registries"])
            return
        account = one_account(registry, "log out", "from")
        if remove_credentials(keeping, account.registry, account.namespace):
            write_lines([f"Removed login credentials for {account}"])
            return
        options = replace(options, credential_helpers=keeping.order)
        _refuse_unless_elsewhere(transports, account, options, place.path)
    write_lines(
        [
            f"Not logged into {account} with current tool. Existing credentials were established "
            "via docker login. Please use docker logout instead."
        ]
    )


def _must_exist(path: str | None) -> None:
    import os

    if path and not os.path.exists(path):
        raise NotFound(f"credential file is not accessible: {path} does not exist")


def _refuse_unless_elsewhere(
    transports: Transports, account: Account, options: RegistryOptions, path: str
) -> None:
    """Raise NotFound unless a file other than `path` has good credentials for `account`."""
    from imgtools.cli.accounts import is_accepted
    from imgtools.transport.registry.access.credentials import find

    missing = f"not logged into {account}"
    found = find(options, account.registry, account.namespace)
    if found is None or not found.credentials.username or not found.credentials.password:
        raise NotFound(missing)
    if found.place.file == path:
        raise NotFound(missing, hint=f"it uses the credentials for {found.place.key}")
    try:
        good = is_accepted(transports, account, options, found.credentials)
    except Error as e:
        raise NotFound(missing) from e
    if not good:
        raise NotFound(missing)
