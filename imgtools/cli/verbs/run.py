"""`imgtools run`: pull an image if need be, and run a container of it in the foreground."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.engine_host import probe_options, search_path
from imgtools.cli.options import registry_flags, registry_options
from imgtools.cli.output import notes, warn
from imgtools.cli.own_errors import OwnErrors
from imgtools.cli.passthrough import PassThroughCommand
from imgtools.cli.run_options import run_flags, run_options
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.trust import Trust
from imgtools.cli.working_choice import EitherCommand
from imgtools.errors import ImageNotFound, InvalidReference, StorageError

if TYPE_CHECKING:
    from engine.containers.options import RunOptions
    from engine.containers.run import Engine
    from engine.ids.model import IdMode
    from engine.probe.model import Kind
    from engine.storage.images import StoredImage
    from engine.storage.store import Store
    from imgtools.spec.platform import Platform
    from imgtools.transport.options import RegistryOptions


class _RunCommand(EitherCommand, OwnErrors, PassThroughCommand):
    """Exits as podman does where the container did not; knows working containers too."""

    other = "working_run:command"


@click.command(
    "run",
    cls=_RunCommand,
    short_help="Run a command in a container of an image.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("words", nargs=-1, required=True, metavar="IMAGE [COMMAND [ARG...]]")
@run_flags
@registry_flags()
@store_flags
@click.pass_obj
def command(cli: Cli, /, words: tuple[str, ...], **kwargs: Any) -> int:
    """Run COMMAND, by default the image's own, in a new container of IMAGE, in the foreground.

    The image is pulled if it is not in the store. Nothing is left behind when the container
    has ended. The exit code is the command's, 128 and the signal's number if one ended it; 127
    if the command was not found, 126 if it could not be run, 125 for all other errors.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        # A terminal that goes away is no reason to leave things behind.
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
    registry = registry_options(cli, "", kwargs)
    access = StoreAccess(cli, kwargs)
    options = run_options(kwargs, words[1:], os.environ, _directory())
    return _run(cli, access, words[0], options, registry)


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError as e:
        raise StorageError(f"current directory: {(e.strerror or '').lower()}", path=".") from e


def _run(
    cli: Cli, access: StoreAccess, image: str, options: RunOptions, registry: RegistryOptions
) -> int:
    from engine.probe.choose import require_isolation
    from engine.probe.survey import probe_host
    from engine.runtime.zygote.client import Zygote

    location = access.location
    env = dict(os.environ)
    # Probed before the user namespace is entered: inside, other things would be true.
    report = probe_host(probe_options(cli.settings, env, location.root), options.isolation)
    require_isolation(report.choice)
    session = access.enter(_id_mode(options.isolation, report.choice.kind))
    # It gets ready while we look for the image.
    with Zygote.start(sys.executable) as zygote:
        from engine.containers.run import Engine, run_container
        from engine.containers.suitable import suited_choice, tell_of_choice
        from engine.network.survey import survey_network

        join_problem = report.probe("join-namespaces").why
        with access.open() as store:
            choice = suited_choice(report, session, store)
            tell_of_choice(choice, warn)
            engine = Engine(
                store=store,
                choice=choice,
                session=session,
                zygote=zygote,
                network=survey_network(search_path(env), join_problem=join_problem),
                runroot=location.runroot,
                cache=cli.settings.cache_dir and os.path.join(cli.settings.cache_dir, "seccomp"),
                warn=warn,
            )
            found = _pull(cli, access, store, image, options, registry)
            return _joined(engine, found, options, cli, run_container)


def _id_mode(asked: str | None, kind: Kind) -> IdMode | None:
    """The ids that an isolation which was asked for comes with; None for the most there is."""
    if asked is None or kind == "chroot" or kind == "none":
        return None
    return kind


def _platform(cli: Cli) -> Platform | None:
    """The platform that was asked for; None for this machine's."""
    asked = any(cli.values.get(f"override_{part}") for part in ("os", "arch", "variant"))
    return cli.platform() if asked else None


def _joined(
    engine: Engine, image: StoredImage, options: RunOptions, cli: Cli, run_container: Any
) -> int:
    """Run with the terminals joined, if there is to be one."""
    task = cli.task(notes)
    if not options.terminal:
        return int(run_container(engine, image, options, task=task))
    from dataclasses import replace

    from engine.cli.terminal import Relay

    if options.interactive and not sys.stdin.isatty():
        warn("standard input is not a terminal: -t and -i may not work together as expected")
    relay = Relay(keys=options.interactive, required=False)
    options = replace(options, console_size=relay.size())
    try:
        return int(
            run_container(
                engine, image, options, relay=relay, console_fd=relay.console_fd, task=task
            )
        )
    finally:
        relay.close()


def _pull(
    cli: Cli,
    access: StoreAccess,
    store: Store,
    text: str,
    options: RunOptions,
    registry: RegistryOptions,
) -> StoredImage:
    platform = _platform(cli)
    if options.pull in ("missing", "never") and platform is None:
        # What pulling takes to be imported takes as long as a container.
        with suppress(ImageNotFound, InvalidReference):
            return store.find(text)[0]
    from engine.storage.pull import PullOptions, pull_image
    from imgtools.cli.progress import listener
    from imgtools.transport.options import SourceOptions

    source = SourceOptions(registry=registry)
    with (
        listener(quiet=False, as_json=False) as progress,
        access.transports(warn=warn) as transports,
    ):
        pull = PullOptions(
            policy=options.pull,
            platform=platform,
            source=source,
            check_name=Trust(cli, transports, source).check_name,
        )
        return pull_image(store, text, pull, transports=transports, task=cli.task(progress))
