"""The operations of the runtime-spec on containers (runtime.md "Operations"), and runc's others.

Each takes the container's lock, looks at what its status is now, and acts; none believes what
an earlier one noted about processes without looking.
"""

from __future__ import annotations

import os
import time

from engine.runtime import jsontext
from engine.runtime.cgroups import ending, manage
from engine.runtime.container import status as statuses
from engine.runtime.container.create import make
from engine.runtime.container.descendants import end_descendants
from engine.runtime.container.extras import Extras
from engine.runtime.container.gate import knock
from engine.runtime.container.program import await_program, wait_for
from engine.runtime.container.state import CONFIG, State, StateDir, identifiers, is_alive
from engine.runtime.container.status import (
    CREATED,
    CREATING,
    PAUSED,
    RUNNING,
    STOPPED,
    cgroup_of,
    describe,
    status_of,
)
from engine.runtime.errors import (
    Failure,
    InvalidConfig,
    KernelRefused,
    NoSuchContainer,
    WrongState,
    refused,
)
from engine.runtime.jsontext import encode
from engine.runtime.kernel import processes
from engine.runtime.process.hooks import run_hooks, try_hooks
from engine.runtime.spec.parse import parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.runtime.container.create import Link
    from engine.runtime.container.options import Attend, CreateOptions, RuntimeOptions, Warn
    from engine.runtime.container.program import Tell
    from engine.runtime.spec.model import Config

MAX_CONFIG = 16 << 20
CREATION = 0.25
"""Seconds that making a container takes on a busy machine."""

NO_EXTRAS = Extras()


def load_config(bundle: str, config_path: str = "") -> Config:
    """The config.json of a bundle, or the file `config_path`; raises InvalidConfig."""
    path = config_path or os.path.join(bundle, CONFIG)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as e:
        raise InvalidConfig(f"JSON specification file {path} not found") from e
    except OSError as e:
        raise refused(f"open {path}", e) from e
    with os.fdopen(fd, "rb") as file:
        try:
            content = file.read(MAX_CONFIG + 1)
        except OSError as e:
            raise refused(f"read {path}", e) from e
    if len(content) > MAX_CONFIG:
        raise InvalidConfig(f"{path} is larger than {MAX_CONFIG} bytes")
    return parse_config(jsontext.parse(content, path))


def create(runtime: RuntimeOptions, config: Config, options: CreateOptions, warn: Warn) -> int:
    """Make a container that waits to be started; its init's pid."""
    check_descriptors(options.preserve_fds)
    directory = StateDir.make(runtime.root, options.id)
    with directory:
        directory.lock()
        try:
            made = make(
                runtime,
                config,
                options,
                warn,
                directory=directory,
                gated=True,
                extras=NO_EXTRAS,
            )
        except BaseException:
            directory.remove()
            raise
        os.close(made.born.pidfd)
        made.born.channel.close()
        return made.born.pid


def start(runtime: RuntimeOptions, container_id: str, warn: Warn) -> None:
    """Let a created container's program run; returns when it does."""
    with StateDir.find(runtime.root, container_id) as directory:
        directory.lock()
        state = statuses.load(directory)
        status = status_of(directory, state)
        if status != CREATED:
            raise WrongState(f"cannot start a container that is {status}: {container_id}")
        config = saved_config(directory)
        channel = knock(directory)
        if channel is None:
            raise WrongState(f"the init of container {container_id} has ended")
        try:
            channel.send({"type": "start"})
            await_program(channel, config, describe(directory, state, CREATED), 0, None)
        finally:
            channel.close()
        try:
            _poststart(config, directory, state)
        except Failure:
            # runtime.md "Lifecycle", step 9: the container is stopped and destroyed.
            _end(state)
            _clean(directory, state, config, warn)
            raise


def _poststart(config: Config, directory: StateDir, state: State) -> None:
    hooks = config.hooks.poststart
    if hooks:
        document = {**describe(directory, state, RUNNING), "pid": state.pid}
        run_hooks(hooks, encode(document).encode(), "poststart", os.fsencode(state.bundle))


def run(
    runtime: RuntimeOptions,
    config: Config,
    options: CreateOptions,
    warn: Warn,
    attend: Attend | None = None,
    *,
    extras: Extras = NO_EXTRAS,
    link: Link | None = None,
    tell: Tell | None = None,
) -> int:
    """Make a container and run its program; its exit code, 0 at once if detached.

    `attend(pid)` is called while the program runs and returns when its process has ended.
    `tell` gets what goes on: "started" with the pid, "listener" with a descriptor.
    """
    check_descriptors(options.preserve_fds)
    directory = StateDir.make(runtime.root, options.id)
    with directory:
        directory.lock()
        try:
            made = make(
                runtime,
                config,
                options,
                warn,
                directory=directory,
                gated=False,
                extras=extras,
                link=link,
            )
        except BaseException:
            directory.remove()
            raise
        born, state = made.born, made.state
        try:
            born.channel.send({"type": "go"})
            document = describe(directory, state, CREATED)
            await_program(born.channel, config, document, len(extras.filters), tell)
            _poststart(config, directory, state)
        except BaseException:
            processes.signal_pidfd(born.pidfd, processes.SIGKILL)
            os.waitpid(born.pid, 0)
            _clean(directory, state, config, warn)
            raise
        finally:
            born.channel.close()
    if tell is not None:
        tell("started", {"pid": born.pid, "stubs": list(made.stubs)}, ())
    if options.detach:
        os.close(born.pidfd)
        return 0
    code = wait_for(born.pid, born.pidfd, attend)
    os.close(born.pidfd)
    # A process made for this container is left nothing that is not the container's.
    alone = extras.die_with_creator and not made.plan.namespaces.has_new("pid")
    if alone and made.cgroup is None and not end_descendants():
        warn(f"processes of container {options.id} do not end")
    if not options.keep:
        try:
            delete(runtime, options.id, force=True, warn=warn)
        except NoSuchContainer:
            # Somebody else has deleted it as soon as it had ended.
            return code
    return code


def state(runtime: RuntimeOptions, container_id: str) -> dict[str, Any]:
    """The state document of runtime.md. A container that is being made at this moment is given
    the time that takes, but no more: a hook may be what asks."""
    deadline = time.monotonic() + CREATION
    while True:
        with StateDir.find(runtime.root, container_id) as directory:
            document = describe(directory, statuses.load(directory))
        if document["status"] != CREATING or time.monotonic() > deadline:
            return document
        time.sleep(CREATION / 50)


def containers(runtime: RuntimeOptions) -> list[dict[str, Any]]:
    """The state documents of all containers; those that vanish meanwhile are left out."""
    found = []
    for container_id in identifiers(runtime.root):
        try:
            found.append(state(runtime, container_id))
        except Failure:
            continue
    return found


def kill(runtime: RuntimeOptions, container_id: str, number: int, all: bool = False) -> None:
    """Send a signal to the container's init, or to all its processes."""
    with StateDir.find(runtime.root, container_id) as directory:
        kept = statuses.load(directory)
        status = status_of(directory, kept)
        cgroup = cgroup_of(kept)
        if all and cgroup is not None:
            ending.signal_all(cgroup, number)
            return
        if status not in (CREATED, RUNNING, PAUSED):
            raise WrongState(f"container not running: {container_id} is {status}")
        alone = number == processes.SIGKILL and cgroup is not None and _shares_pids(kept.pid)
        if alone and cgroup is not None:
            # Without a PID namespace nothing but the cgroup holds the processes together.
            ending.kill_all(cgroup)
            return
        _signal(kept, number)
        if number == processes.SIGKILL and status == PAUSED and cgroup is not None:
            ending.thaw(cgroup)


def _shares_pids(pid: int) -> bool:
    try:
        ours, theirs = os.stat("/proc/self/ns/pid"), os.stat(f"/proc/{pid}/ns/pid")
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _signal(state: State, number: int) -> None:
    """By pidfd, and only if it is of the process that was meant."""
    try:
        pidfd = processes.pidfd_open(state.pid)
    except OSError as e:
        raise WrongState(f"container not running: {state.id}") from e
    try:
        if not is_alive(state.pid, state.started):
            raise WrongState(f"container not running: {state.id}")
        processes.signal_pidfd(pidfd, number)
    except OSError as e:
        raise refused(f"signal {number}", e) from e
    finally:
        os.close(pidfd)


def delete(runtime: RuntimeOptions, container_id: str, force: bool, warn: Warn) -> None:
    """Remove what is left of a stopped container. Like runc's, one that was only created is
    ended first, with `force` any; a container that does not exist is then no error."""
    try:
        directory = StateDir.find(runtime.root, container_id)
    except NoSuchContainer:
        if force:
            return
        raise
    with directory:
        directory.lock()
        kept = statuses.load(directory)
        status = status_of(directory, kept)
        if status in (RUNNING, PAUSED, CREATING) and not force:
            raise WrongState(
                f"cannot delete container {container_id} that is not stopped: {status}"
            )
        if status != STOPPED:
            _end(kept)
        config = saved_config(directory) if CONFIG in directory.names() else None
        _clean(directory, kept, config, warn)


def _end(state: State) -> None:
    """Kill the init and wait until it is gone."""
    if is_alive(state.pid, state.started):
        try:
            pidfd = processes.pidfd_open(state.pid)
        except ProcessLookupError:
            return
        try:
            cgroup = cgroup_of(state)
            if is_alive(state.pid, state.started):
                processes.signal_pidfd(pidfd, processes.SIGKILL)
            if cgroup is not None:
                ending.thaw(cgroup)
            try:
                wait_for(0, pidfd, None, seconds=1.0 if cgroup is not None else 10.0)
            except KernelRefused:
                if cgroup is None:
                    raise
                # Somebody may have brought it into a frozen cgroup that is not ours to thaw.
                manage.join(cgroup, state.pid)
                wait_for(0, pidfd, None, seconds=10.0)
        finally:
            os.close(pidfd)


def _clean(directory: StateDir, state: State, config: Config | None, warn: Warn) -> None:
    """End what still runs in the container's cgroup, remove it and the state; poststop hooks."""
    cgroup = cgroup_of(state)
    if cgroup is not None:
        left = ending.kill_all(cgroup)
        if left:
            raise KernelRefused(
                f"processes of container {state.id} do not end: {', '.join(map(str, left))}"
            )
        ending.remove(cgroup)
    directory.remove()
    if config is not None and config.hooks.poststop:
        document = describe(directory, state, STOPPED)
        bundle = os.fsencode(state.bundle) if os.path.isdir(state.bundle) else b"/"
        for warning in try_hooks(
            config.hooks.poststop, encode(document).encode(), "poststop", bundle
        ):
            warn(warning)


def saved_config(directory: StateDir) -> Config:
    """The configuration as it was when the container was made; changes since do not count."""
    return parse_config(jsontext.parse(directory.read(CONFIG), f"{directory.path}/{CONFIG}"))


def check_descriptors(count: int) -> None:
    """Raise InvalidConfig unless the first `count` descriptors from 3 on are open."""
    for fd in range(3, 3 + count):
        try:
            os.fstat(fd)
        except OSError as e:
            raise InvalidConfig(f"--preserve-fds {count}: descriptor {fd} is not open") from e
