"""`imgtools build`: build an image from a Containerfile; takes the options of `buildah build`.

Standard output has the steps, what their commands write there and the image's id, as with
buildah; exit codes are buildah's too: that of a command that failed, 125 for all else.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import click

from imgtools.cli.build_flags import build_flags
from imgtools.cli.build_flags_steps import step_flags
from imgtools.cli.build_refused import odd_flags, refuse_odd
from imgtools.cli.options import registry_flags, registry_options
from imgtools.cli.own_errors import OwnErrors
from imgtools.cli.sign_flags import make_signers, sign_flags, sign_request
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags


@click.command(
    "build",
    cls=OwnErrors,
    short_help="Build an image from a Containerfile.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("context", required=False, metavar="[CONTEXT]")
@build_flags
@step_flags
@registry_flags()
@store_flags
@sign_flags
@odd_flags
@click.pass_obj
def command(cli: Cli, /, context: str | None, **kwargs: Any) -> int:
    """Build an image by the instructions of a Containerfile (or Dockerfile).

    CONTEXT is a directory, the URL of a git repository (#REF:SUBDIR) or of an archive, or - for
    an archive or a Containerfile on standard input; by default the current directory. Neither a
    daemon nor root is needed. The exit code is that of a RUN that failed, 125 for other errors.
    """
    from imgtools.cli.build_request import build_request
    from imgtools.cli.build_run import run_build

    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        # A terminal that goes away is no reason to leave things behind.
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
    refuse_odd(kwargs)
    signing = sign_request(kwargs)
    policy = kwargs.pop("signature_policy")
    cli = cli.with_globals({"policy": policy}) if policy else cli
    for part, name in (("os", "os_name"), ("arch", "arch"), ("variant", "variant")):
        kwargs[name] = kwargs[name] or cli.values.get(f"override_{part}") or ""
    registry = registry_options(cli, "", kwargs)
    access = StoreAccess(cli, kwargs)
    request = build_request(kwargs, context, os.environ, cli.settings.host)
    return run_build(cli, access, request, registry, make_signers(cli, signing), signing)
