"""`imgtools run CONTAINER`: run a command in a working container, which keeps what it writes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.build_flags import many, text, together
from imgtools.cli.build_values import environment, proxies, words
from imgtools.cli.command import go_bool
from imgtools.cli.engine_host import probe_options, search_path
from imgtools.cli.output import notes, warn
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.working_command import working_verb
from imgtools.cli.working_flags import (
    asked_isolation,
    history_flag,
    refuse,
    refused_flags,
    wants_history,
)
from imgtools.cli.working_mounts import WorkingMounts, working_mounts
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass

if TYPE_CHECKING:
    from engine.containers.engine import Engine
    from engine.probe.model import Report
    from engine.storage.store import Store
    from engine.working.model import WorkingContainer
    from engine.working.registry import Held
    from engine.working.running import CommandOptions
    from imgtools.task import Task


def _flags(function: Any) -> Any:
    return together((
        text("--user", "-u", metavar="USER[:GROUP]", help="User, instead of the container's."),
        many("--env", "-e", metavar="NAME[=VALUE]", help="Variable for this command."),
        text("--workingdir", metavar="DIR", help="Working directory of this command."),
        text("--hostname", metavar="NAME", help="Host name."),
        many("--volume", "-v", metavar="SOURCE:DESTINATION[:OPTIONS]",
             help="Show a directory or file of the host."),
        many("--mount", "mounts", metavar="type=TYPE,...",
             help="bind, tmpfs, cache, secret or ssh, as RUN --mount has it."),
        many("--secret", metavar="id=ID[,src=FILE|env=NAME]",
             help="A secret that --mount type=secret,id=ID shows."),
        many("--ssh", metavar="default|ID[=SOCKET|KEY[,KEY]]",
             help="An agent, or keys, that --mount type=ssh lets the command use."),
        many("--device", metavar="SOURCE[:PATH[:ACCESS]]", help="Show a device of the host."),
        many("--cap-add", metavar="CAP", help="Add a capability, or ALL."),
        many("--cap-drop", metavar="CAP", help="Drop a capability, or ALL."),
        text("--network", "--net", metavar="MODE", help="host, none, pasta, slirp4netns, private."),
        text("--isolation", metavar="KIND", help="As in imgtools from."),
        text("--contextdir", metavar="DIR", help="Where relative sources of --mount are."),
        go_bool("--terminal", "--tty", "-t", help="Give the command a terminal."),
        go_bool("--no-hosts", help="Leave /etc/hosts as it is."),
        go_bool("--no-hostname", help="Leave /etc/hostname as it is."),
        go_bool("--no-pivot", hidden=True, help="The root is changed by what works, always."),
        many("--valid-exit-codes", metavar="N", help="Exit codes that are success (default 0)."),
        *(text(f"--{name}", metavar="MODE", help="private, which it always is.")
          for name in ("cgroupns", "ipc", "pid", "uts")),
        history_flag,
    ))(function)  # fmt: skip


@working_verb("run", program=True, short_help="Run a command in a working container.")
@click.argument("words_", nargs=-1, metavar="CONTAINER [--] COMMAND [ARG...]")
@_flags
@refused_flags("--runtime", "--runtime-flag", "--cdi-config-dir")
@store_flags
@click.pass_obj
def command(cli: Cli, /, words_: tuple[str, ...], **kwargs: Any) -> int:
    """Run COMMAND in the working CONTAINER, with the user, variables and directory of its
    config. What it writes stays. The exit code is the command's."""
    refuse(kwargs)
    name, args = _words(words_)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        # A terminal that goes away is no reason to leave things behind.
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
    access = StoreAccess(cli, kwargs)
    valid = _codes(words(kwargs.pop("valid_exit_codes")))
    changes = _changes(kwargs)
    history = wants_history(kwargs)
    return _run(cli, access, name, changes, kwargs, args=args, valid=valid, history=history)


def _words(found: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The container and the command."""
    if not found:
        raise InvalidInput("container ID must be specified")
    args = found[1:]
    args = args[1:] if args[:1] == ("--",) else args
    if not args:
        raise InvalidInput("command must be specified")
    return found[0], args


def _codes(found: tuple[str, ...]) -> tuple[int, ...]:
    if not all(text.isascii() and text.isdigit() for text in found):
        raise InvalidInput(f"--valid-exit-codes {','.join(found)}: expected numbers")
    return tuple(map(int, found)) or (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changes:
    """What this command alone changes of the container's settings."""

    settings: dict[str, object]
    isolation: str | None


_CHANGED = ("network", "cap_add", "cap_drop", "devices", "no_hosts", "no_hostname", "volumes")
_UNCHANGED = ("dns", "dns_search", "dns_option", "add_host", "ulimit", "security_opt", "group_add",
              "cpuset_cpus", "cpuset_mems", "memory", "memory_swap", "shm_size", "cpu_quota",
              "cpu_shares", "cpu_period")  # fmt: skip
_TEXTS = ("memory", "memory_swap", "shm_size", "cpu_quota", "cpu_shares", "cpu_period")


def _changes(kwargs: dict[str, Any]) -> _Changes:
    from imgtools.cli.build_host import host_settings

    isolation = kwargs.pop("isolation")
    given = {name: None if name in _TEXTS else () for name in _UNCHANGED}
    given |= {"cpuset_cpus": "", "cpuset_mems": ""}  # type: ignore[dict-item]
    kwargs |= given
    found = host_settings(kwargs)
    return _Changes(
        settings={name: getattr(found, name) for name in _CHANGED},
        isolation=asked_isolation(isolation) or None,
    )


def _run(
    cli: Cli,
    access: StoreAccess,
    name: str,
    changes: _Changes,
    kwargs: dict[str, Any],
    *,
    args: tuple[str, ...],
    valid: tuple[int, ...],
    history: bool,
) -> int:
    from engine.working.registry import WorkingContainers

    with access.look() as store:
        container = WorkingContainers(store).find(name)
    isolation = changes.isolation or container.isolation or None
    with (
        engine_of(cli, access, isolation) as engine,
        WorkingContainers(engine.store).held(name, task=cli.task(notes)) as held,
    ):
        task = cli.task(notes)
        with working_mounts(held.container, kwargs, os.environ, engine.store, task) as mounts:
            options = _options(held.container, args, changes, kwargs, mounts)
            code = _joined(engine, held, options, task)
        if history and code in valid:
            _note(held, args)
    return 0 if code in valid else code


@contextmanager
def engine_of(cli: Cli, access: StoreAccess, isolation: str | None) -> Iterator[Engine]:
    """What runs containers of the store, for the block; `isolation` None is the strongest that
    works. Raises Unsupported where there is none."""
    report = probed(cli, access, isolation)
    with access.open() as store, engine_on(cli, access, store, report) as engine:
        yield engine


def probed(cli: Cli, access: StoreAccess, isolation: str | None) -> Report:
    """What this host can do, found out before the ids of the store are entered, as they are
    here: inside, other things would be true. Raises Unsupported."""
    from engine.probe.survey import probe_host

    options = probe_options(cli.settings, dict(os.environ), access.location.root)
    report = probe_host(options, isolation)
    kind = report.choice.kind
    access.enter(None if isolation is None or kind == "chroot" or kind == "none" else kind)
    return report


@contextmanager
def engine_on(cli: Cli, access: StoreAccess, store: Store, report: Report) -> Iterator[Engine]:
    """What runs containers of the `store`, after `probed`, for the block. Raises Unsupported
    where nothing can be run."""
    from engine.probe.choose import require_isolation
    from engine.runtime.zygote.client import Zygote

    require_isolation(report.choice)
    session = access.enter()
    env = dict(os.environ)
    with Zygote.start(sys.executable) as zygote:
        from engine.containers.engine import Engine
        from engine.containers.suitable import suited_choice, tell_of_choice
        from engine.network.survey import survey_network

        choice = suited_choice(report, session, store)
        tell_of_choice(choice, warn)
        yield Engine(
            store=store,
            choice=choice,
            session=session,
            zygote=zygote,
            network=survey_network(
                search_path(env), join_problem=report.probe("join-namespaces").why
            ),
            runroot=access.location.runroot,
            cache=cli.settings.cache_dir and os.path.join(cli.settings.cache_dir, "seccomp"),
            warn=warn,
        )


def _options(
    container: WorkingContainer,
    args: tuple[str, ...],
    changes: _Changes,
    kwargs: dict[str, Any],
    mounts: WorkingMounts,
) -> CommandOptions:
    from engine.working.running import CommandOptions, with_settings

    ours = proxies(os.environ) if container.proxies else {}
    workdir = kwargs["workingdir"]
    if workdir and not workdir.startswith("/"):
        raise InvalidInput(f"--workingdir {workdir}: expected an absolute path")
    return CommandOptions(
        args=args,
        env=(
            *(f"{name}={value}" for name, value in ours.items()),
            *environment(kwargs["env"], os.environ),
            *mounts.env,
        ),
        user=kwargs["user"],
        workdir=workdir,
        hostname=kwargs["hostname"],
        volumes=mounts.volumes,
        tmpfs=mounts.tmpfs,
        mounts=mounts.steps,
        terminal=kwargs["terminal"],
        settings=with_settings(container.settings, changes.settings),
    )


def _joined(engine: Engine, held: Held, options: CommandOptions, task: Task) -> int:
    """Run the command, with the terminals joined if there is to be one."""
    from engine.working.running import run_command

    if not options.terminal:
        return run_command(engine, held, options, task=task)
    from engine.cli.terminal import Relay

    relay = Relay(keys=sys.stdin.isatty(), required=False)
    try:
        return run_command(
            engine,
            held,
            replace(options, console_size=relay.size()),
            relay=relay,
            console_fd=relay.console_fd,
            task=task,
        )
    finally:
        relay.close()


def _note(held: Held, args: tuple[str, ...]) -> None:
    """Note the command in the history of the image to come, as it is known to a shell."""
    import time

    from engine.working.times import rfc3339
    from imgtools.spec.config import History

    entry = History(created=rfc3339(time.time_ns()), created_by=" ".join(args), empty_layer=True)
    held.change(replace(held.container, before=(*held.container.before, entry)))
