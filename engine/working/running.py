"""Commands that are run in a working container, whose tree keeps what they write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import field, replace
from threading import Lock

from engine.containers.attend import TerminalRelay
from engine.containers.engine import Engine
from engine.containers.options import (
    ImageDefaults,
    Limits,
    OpenedMount,
    RunOptions,
    Security,
    Tmpfs,
    Volume,
)
from engine.containers.run import run_inside
from engine.containers.security import parse_security
from engine.containers.volumes import parse_device, parse_volume
from engine.network.model import DnsOptions
from engine.storage.options import Snapshot
from engine.working.model import WorkingContainer
from engine.working.registry import Held, WorkingContainers
from imgtools.build.protocols import HostSettings, Output, RunSpec, StepMount
from imgtools.errors import Unsupported
from imgtools.frozen import dataclass
from imgtools.spec.config import Config
from imgtools.spec.platform import Platform, from_machine
from imgtools.task import Task

DEFAULT_PERIOD = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOptions:
    """One command: `args` are executed, with `env` (NAME=VALUE) over the container's. `user`
    and `workdir` "" are the container's. `settings` are the container's with what this command
    changes, `mounts` caches, secrets and agents. `console_size` is (rows, columns)."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    hostname: str = ""
    volumes: tuple[Volume, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    mounts: tuple[StepMount, ...] = ()
    terminal: bool = False
    console_size: tuple[int, int] | None = None
    settings: HostSettings = field(default_factory=HostSettings)


def run_command(
    engine: Engine,
    held: Held,
    options: CommandOptions,
    *,
    relay: TerminalRelay | None = None,
    console_fd: int = -1,
    task: Task,
) -> int:
    """Run a command in the container that is held, with our standard input; its exit code, or
    128 and the number of the signal that ended it.

    Raises RunFailed (`code` 127 for a command that is not there, 126 for one that cannot be
    executed), InvalidInput, Unsupported, StorageError, Cancelled while a cache is waited for.
    """
    container = held.container
    snapshot = WorkingContainers(engine.store).snapshot(container)
    _check_platform(container)
    defaults = ImageDefaults.from_config(Config.from_json(container.document))
    with ExitStack() as undo:
        return run_inside(
            engine,
            snapshot,
            replace(defaults, entrypoint=(), cmd=()),
            replace(
                _run_options(container, options),
                mounts=_opened(engine, snapshot, options.mounts, undo, task),
            ),
            relay=relay,
            console_fd=console_fd,
        )


def run_trigger(engine: Engine, held: Held, spec: RunSpec, *, output: Output, task: Task) -> int:
    """Run what ONBUILD asks for in the container that is held, as a build runs a step; its exit
    code. Raises as `run_step`."""
    from engine.builds.settings import step_options
    from engine.containers.steps import run_step

    snapshot = WorkingContainers(engine.store).snapshot(held.container)
    _check_platform(held.container)
    options = step_options(spec, engine.choice)
    with ExitStack() as undo:
        mounts = _opened(engine, snapshot, spec.mounts, undo, task)
        return run_step(engine, snapshot, replace(options, mounts=mounts), output=output, task=task)


def _opened(
    engine: Engine,
    snapshot: Snapshot,
    mounts: tuple[StepMount, ...],
    undo: ExitStack,
    task: Task,
) -> tuple[OpenedMount, ...]:
    """The mounts as those of a build's step; in a chroot, where nothing is mounted, what they
    show is in the tree until `undo`."""
    if not mounts:
        return ()
    asking = Lock()
    if engine.choice.kind == "chroot":
        from engine.builds.lending import lent_mounts

        undo.enter_context(lent_mounts(engine, snapshot, mounts, asking, task=task))
        return ()
    from engine.builds.stepmounts import opened_mounts

    return opened_mounts(engine, mounts, undo, asking, task=task)


def _check_platform(container: WorkingContainer) -> None:
    """Raise Unsupported for a container of another system."""
    where = Platform.from_json(dict(container.document))
    ours = from_machine("linux", os.uname().machine)
    if where is not None and where.os not in ("", ours.os):
        raise Unsupported(f"container {container.name} is of {where}, and this is {ours}")


def _run_options(container: WorkingContainer, options: CommandOptions) -> RunOptions:
    settings = options.settings
    for option, given in (
        ("--no-hosts", settings.no_hosts),
        ("--cpuset-mems", settings.cpuset_mems),
    ):
        if given:
            raise Unsupported(f"{option} is not supported for working containers")
    return RunOptions(
        command=options.args,
        entrypoint=(),
        env=options.env,
        workdir=options.workdir,
        user=options.user,
        hostname=options.hostname or container.hostname or settings.hostname,
        interactive=True,
        terminal=options.terminal,
        console_size=options.console_size,
        volumes=(*(parse_volume(text, "/") for text in settings.volumes), *options.volumes),
        tmpfs=options.tmpfs,
        devices=tuple(parse_device(text) for text in settings.devices),
        network=settings.network,
        group_add=settings.group_add,
        dns=DnsOptions(
            servers=settings.dns, searches=settings.dns_search, options=settings.dns_options
        ),
        add_hosts=settings.add_hosts,
        limits=_limits(settings),
        security=parse_security(settings.security_opt, _security(settings)),
    )


def _security(settings: HostSettings) -> Security:
    return Security(cap_add=settings.cap_add, cap_drop=settings.cap_drop)


def _limits(settings: HostSettings) -> Limits:
    quota = settings.cpu_quota
    return Limits(
        memory=settings.memory,
        memory_swap=settings.memory_swap,
        cpus=quota / (settings.cpu_period or DEFAULT_PERIOD) if quota else None,
        cpu_shares=settings.cpu_shares,
        cpuset_cpus=settings.cpuset_cpus,
        ulimits=settings.ulimits,
        shm_size=settings.shm_size,
    )


def with_settings(settings: HostSettings, changes: Mapping[str, object]) -> HostSettings:
    """The settings with `changes`: lists are added to, other values replaced where they are
    given (not "", 0, False or None)."""
    found: dict[str, object] = {}
    for key, value in changes.items():
        if isinstance(value, tuple):
            found[key] = (*getattr(settings, key), *value)
        elif value not in (None, "", 0, False):
            found[key] = value
    return replace(settings, **found)  # type: ignore[arg-type]
