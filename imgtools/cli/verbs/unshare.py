"""`imgtools unshare`: run a command as the root of the user namespace in which images are
unpacked, where files of other ids can be seen, changed and removed."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import click

from imgtools.cli.engine_host import (
    CONFIGURED,
    ROOTLESS_GID,
    ROOTLESS_UID,
    id_options,
    locate_store,
)
from imgtools.cli.output import complain
from imgtools.cli.passthrough import PassThroughCommand
from imgtools.cli.state import Cli

if TYPE_CHECKING:
    from engine.storage.options import StoreLocation

NOT_FOUND, NOT_EXECUTABLE = 127, 126


@click.command(
    "unshare",
    cls=PassThroughCommand,
    short_help="Run a command in the user namespace of containers.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("words", nargs=-1, metavar="[COMMAND [ARG...]]")
@click.option("--mount", "-m", "mounts", multiple=True, metavar="[VARIABLE=]CONTAINER",
              help="Mount a working container, and name the directory in VARIABLE.")  # fmt: skip
@click.pass_obj
def command(cli: Cli, /, words: tuple[str, ...], mounts: tuple[str, ...]) -> int:
    """Run COMMAND, by default $SHELL, as root of the user namespace that images are unpacked
    in, with mounts of its own.

    There the ids of /etc/subuid and /etc/subgid are those of containers, so that files which
    belong to them can be looked at and removed. CONTAINERS_GRAPHROOT and CONTAINERS_RUNROOT
    name the store. The exit code is the command's; 127 if it is not found, 126 if it cannot be
    run.
    """
    from engine.ids.session import enter_user_namespace

    env = dict(os.environ)
    store = locate_store(env).location
    session = enter_user_namespace(id_options(env, mount_namespace=True))
    if cli.debug:
        complain(f"{session.mode}: {session.reason}")
    env["CONTAINERS_GRAPHROOT"], env["CONTAINERS_RUNROOT"] = store.root, store.runroot
    if session.in_user_namespace and session.outer.uid != 0:
        # So that podman, buildah and ourselves know inside whose store it is.
        env[CONFIGURED] = "done"
        env[ROOTLESS_UID], env[ROOTLESS_GID] = str(session.outer.uid), str(session.outer.gid)
    env |= _mounted(cli, store, mounts)
    return _execute(words or (env.get("SHELL") or "/bin/sh",), env)


def _mounted(cli: Cli, location: StoreLocation, mounts: tuple[str, ...]) -> dict[str, str]:
    """Mount working containers in this mount namespace, with which they go again; where, by
    variable. Raises ContainerNotKnown, StorageError."""
    found: dict[str, str] = {}
    if not mounts:
        return found
    from engine.storage.store import Store
    from engine.working.registry import WorkingContainers
    from engine.working.show import show

    with Store.open(location) as store:
        for text in mounts:
            variable, sign, name = text.partition("=")
            with WorkingContainers(store).held(name if sign else text, task=cli.task()) as held:
                found[variable] = show(store, held)
    return found


def _execute(words: tuple[str, ...], env: dict[str, str]) -> int:
    """Become the command; returns only where that fails."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        # Python ignores them, and what is ignored stays so in the program.
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(words[0], words, env)
    except (FileNotFoundError, NotADirectoryError):
        complain(f"{words[0]}: command not found")
        return NOT_FOUND
    except OSError as e:
        complain(f"{words[0]}: {(e.strerror or str(e)).lower()}")
        return NOT_EXECUTABLE
    except ValueError as e:
        complain(f"{words[0]!r}: {e}")
        return NOT_FOUND
