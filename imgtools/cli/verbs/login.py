"""`imgtools login`: check a name and a password with a registry, and keep them.

Options, questions and answers are those of `skopeo login`. The password is asked for without
echo, or read from standard input; it is shown nowhere.
"""

from __future__ import annotations

import sys
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.options import auth_file_flags
from imgtools.cli.output import flush, warn, write_lines, write_text
from imgtools.cli.state import Cli
from imgtools.errors import Denied, Error, InvalidInput, LimitExceeded, NotFound
from imgtools.frozen import dataclass
from imgtools.transport.options import Credentials

if TYPE_CHECKING:
    from imgtools.cli.accounts import Place
    from imgtools.transport.options import RegistryOptions
    from imgtools.transport.registry.access.login import Account
    from imgtools.transport.table import Transports

_INPUT_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What the command line says of who logs in; "" for nothing."""

    username: str
    password: str = field(repr=False)
    stdin: bool


@verb("login", short_help="Log in to a registry.")
@click.argument("registry", nargs=-1, metavar="REGISTRY[/NAMESPACE]")
@auth_file_flags
@click.option(
    "--cert-dir",
    type=click.Path(),
    metavar="DIR",
    help="Directory of *.crt, *.cert and *.key files to use.",
)
@go_bool("--get-login", help="Print the user that is logged in to the registry.")
@click.option(
    "--password",
    "-p",
    default="",
    metavar="PASSWORD",
    help="The password; other users of this machine can see it.",
)
@go_bool("--password-stdin", help="Read the password from standard input.")
@go_bool("--tls-verify", default=None, help="Require https and verify certificates (default true).")
@click.option("--username", "-u", default="", metavar="USER", help="The user name.")
@go_bool("--verbose", "-v", help="Say where the credentials are kept.")
@click.pass_obj
def command(cli: Cli, /, registry: tuple[str, ...], **kwargs: Any) -> None:
    """Check a user name and a password with REGISTRY and keep them for later commands.

    With a NAMESPACE or a repository they are kept for that part of the registry alone.
    """  # fmt: skip
    from imgtools.cli.accounts import access_options, choose_place, one_account
    from imgtools.transport.table import Transports

    place = choose_place(cli, kwargs.pop("authfile"), kwargs.pop("compat_auth_file"))
    account = one_account(registry, "log in", "to")
    options = access_options(cli, kwargs, place.search)
    with Transports(cli.cancel, warn=warn) as transports:
        _log_in(transports, account, place, options, **kwargs)


def _log_in(
    transports: Transports,
    account: Account,
    place: Place,
    options: RegistryOptions,
    *,
    get_login: bool,
    password: str,
    password_stdin: bool,
    username: str,
    verbose: bool,
) -> None:
    from imgtools.cli.accounts import target
    from imgtools.transport.registry.access.credential_files import store_credentials
    from imgtools.transport.registry.access.credentials import find

    keeping = target(transports, place, options)
    keeping.key(account.registry, account.namespace)
    options = replace(options, credential_helpers=keeping.order)
    found = find(options, account.registry, account.namespace)
    known = found.credentials if found is not None else Credentials()
    if get_login:
        if not known.username:
            raise NotFound(f"not logged into {account}")
        write_lines([known.username])
        return
    if known.identity_token:
        raise InvalidInput(
            "currently logged in, auth file contains an Identity token",
            hint=f"imgtools logout {account} first",
        )
    given = _given(_Given(username=username, password=password, stdin=password_stdin))
    if not given.username and not given.password and known.username and known.password:
        write_lines([f"Authenticating with existing credentials for {account}"])
        if _check(transports, account, options, known):
            write_lines(
                [f"Existing credentials are valid. Already logged in to {account.registry}"]
            )
            return
        write_lines(["Existing credentials are invalid, please enter valid username and password"])
    entered = _ask(given, known.username)
    if not _check(transports, account, options, entered):
        raise Denied(f'logging into "{account}": invalid username/password', host=account.registry)
    kept = store_credentials(keeping, account.registry, account.namespace, entered)
    if verbose:
        write_lines([f"Used:  {kept}"])
    write_lines(["Login Succeeded!"])


def _check(
    transports: Transports, account: Account, options: RegistryOptions, credentials: Credentials
) -> bool:
    from imgtools.cli.accounts import is_accepted

    try:
        return is_accepted(transports, account, options, credentials)
    except Error as e:
        raise e.with_context(f'authenticating creds for "{account}"') from None


def _given(given: _Given) -> _Given:
    """With the password of standard input, if that was asked for; raises InvalidInput."""
    if not given.stdin:
        return given
    if given.password:
        raise InvalidInput("can't specify both --password-stdin and --password")
    if not given.username:
        raise InvalidInput("must provide --username with --password-stdin")
    data = sys.stdin.buffer.read(_INPUT_LIMIT + 1)
    if len(data) > _INPUT_LIMIT:
        raise LimitExceeded("the password", _INPUT_LIMIT)
    # As in skopeo the ends of lines are no part of it, wherever they are.
    lines = (line.removesuffix(b"\r") for line in data.split(b"\n"))
    return replace(given, password=b"".join(lines).decode("utf-8", "surrogateescape"))


def _ask(given: _Given, known: str) -> Credentials:
    """Credentials of what is given and, for what is not, of the user's answers.

    An empty answer to the first question means the user that was `known`.
    """
    username = given.username
    if not username:
        write_text(f"Username ({known}): " if known else "Username: ")
        flush()
        line = sys.stdin.buffer.readline(_INPUT_LIMIT)
        if not line:
            raise InvalidInput("getting username and password: reading username: EOF")
        username = line.decode("utf-8", "surrogateescape").strip() or known
    password = given.password or _ask_password()
    username = username.strip()
    if ":" in username:
        raise InvalidInput("a user name cannot have a colon, where its password would begin")
    return Credentials(username=username, password=password)


def _ask_password() -> str:
    if not sys.stdin.isatty():
        raise InvalidInput(
            "getting username and password: standard input is not a terminal",
            hint="pipe the password in and give --password-stdin",
        )
    import getpass

    try:
        return getpass.getpass("Password: ")
    except EOFError as e:
        raise InvalidInput("getting username and password: reading password: EOF") from e
