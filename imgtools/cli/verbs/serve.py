"""`imgtools serve DIR`: a folder of OCI layouts as a registry, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.state import Cli
from imgtools.errors import InvalidInput

if TYPE_CHECKING:
    from imgtools.serve.server import Access

_LISTEN = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\[\]:/]*):(?P<port>[0-9]{1,5})")


@verb("serve", short_help="Offer a folder of OCI layouts as a registry.")
@click.argument("directory", metavar="DIR")
@click.option(
    "--listen",
    default="127.0.0.1:5000",
    show_default=True,
    metavar="HOST:PORT",
    help="The address to listen on; port 0 takes a free one.",
)
@go_bool("--writable", help="Accept pushes and deletions.")
@click.option("--tls-cert", type=click.Path(), metavar="FILE", help="Certificate chain (PEM).")
@click.option("--tls-key", type=click.Path(), metavar="FILE", help="Private key (PEM).")
@go_bool("--verbose", "-v", help="Write a line to stderr for every request.")
@go_bool("--quiet", "-q", help="Do not print the address on stdout.")
@click.pass_obj
def command(
    cli: Cli,
    /,
    directory: str,
    listen: str,
    writable: bool,
    tls_cert: str | None,
    tls_key: str | None,
    verbose: bool,
    quiet: bool,
) -> None:
    """Offer the OCI image layouts below DIR as a registry.

    The layout in DIR/library/busybox is the repository library/busybox. When DIR itself is
    a layout, it is the only repository, named as the directory. Everybody who can reach the
    address may pull and, with --writable, push. Prints the address on stdout once it
    listens.
    """  # fmt: skip
    if (tls_cert is None) != (tls_key is None):
        raise InvalidInput("--tls-cert and --tls-key must be given together")
    host, port = _address(listen)

    from imgtools.serve.app import RegistryApp
    from imgtools.serve.layouts import LayoutsStore
    from imgtools.serve.server import RegistryServer, ServerOptions

    options = ServerOptions(host=host, port=port, tls_cert=tls_cert, tls_key=tls_key)
    store = LayoutsStore(directory, writable=writable)
    try:
        server = RegistryServer(
            RegistryApp(store), options, on_access=_log_access if verbose else None
        )
        try:
            if not quiet:
                click.echo(server.url)
            with cli.cancel.calls(server.end):
                server.run()
        except KeyboardInterrupt:
            # This is how serving ends, so it is no failure.
            pass
        finally:
            server.stop()
    finally:
        store.close()


def _address(text: str) -> tuple[str, int]:
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise InvalidInput(f"invalid address {text!r}: expected HOST:PORT")
    return match["host"].strip("[]") or "0.0.0.0", int(match["port"])


def _log_access(access: Access) -> None:
    from imgtools.inspect.text import printable

    # Method and target are the client's, byte for byte.
    asked = printable(f"{access.method} {access.target}")
    print(
        f"{access.client} {asked} {access.status} "
        f"in={access.received} out={access.sent} {access.seconds * 1000:.1f}ms",
        file=sys.stderr,
        flush=True,
    )
