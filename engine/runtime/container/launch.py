"""A container comes: `create`, which leaves it waiting for `start`, and `run`, which starts it
and stays until it has ended."""

from __future__ import annotations

import os

from engine.runtime.container.configuration import check_descriptors
from engine.runtime.container.create import Made, make
from engine.runtime.container.descendants import end_descendants
from engine.runtime.container.extras import Extras
from engine.runtime.container.program import await_program, poststart, wait_for
from engine.runtime.container.removal import clean
from engine.runtime.container.state import StateDir
from engine.runtime.container.status import CREATED, describe
from engine.runtime.errors import NoSuchContainer
from engine.runtime.kernel import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.container.create import Link
    from engine.runtime.container.options import Attend, CreateOptions, RuntimeOptions, Warn
    from engine.runtime.container.program import Tell
    from engine.runtime.spec.model import Config

NO_EXTRAS = Extras()


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
    `tell` gets what goes on: "started" with the pid, "listener" with a descriptor, "exited"
    with the code once nothing of the container runs.
    """
    check_descriptors(options.preserve_fds)
    with StateDir.make(runtime.root, options.id) as directory:
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
        _start(made, directory, warn, tell)
        directory.unlock()
        pidfd = made.born.pidfd
        if options.detach:
            os.close(pidfd)
            return 0
        code = wait_for(made.born.pid, pidfd, attend)
        os.close(pidfd)
        # A process made for this container is left nothing that is not the container's.
        alone = extras.die_with_creator and not made.plan.namespaces.has_new("pid")
        if alone and made.cgroup is None and not end_descendants():
            warn(f"processes of container {options.id} do not end")
        _remove(made, directory, warn, options, _Ended(tell, code))
        return code


def _start(made: Made, directory: StateDir, warn: Warn, tell: Tell | None) -> None:
    """Let the program of a new container run; on an error nothing of the container is left."""
    born, state, config = made.born, made.state, made.plan.config
    try:
        born.channel.send({"type": "go"})
        document = describe(directory, state, CREATED)
        await_program(born.channel, config, document, len(made.plan.extras.filters), tell)
        poststart(config, directory, state)
    except BaseException:
        processes.signal_pidfd(born.pidfd, processes.SIGKILL)
        os.waitpid(born.pid, 0)
        clean(directory, state, config, warn)
        raise
    finally:
        born.channel.close()
    if tell is not None:
        tell("started", {"pid": born.pid, "stubs": list(made.stubs)}, ())


class _Ended:
    """Tells that a container has ended, to whoever is still there."""

    def __init__(self, tell: Tell | None, code: int) -> None:
        self._tell = tell
        self._code = code

    def __call__(self) -> None:
        if self._tell is None:
            return
        try:
            self._tell("exited", {"code": self._code}, ())
        except OSError:
            return


def _remove(
    made: Made, directory: StateDir, warn: Warn, options: CreateOptions, ended: _Ended
) -> None:
    """Remove a container that has ended, unless it is to stay or somebody else did so at
    once. Nobody waits for its directory to go."""
    if options.keep:
        ended()
        return
    try:
        directory.lock()
    except NoSuchContainer:
        ended()
        return
    clean(directory, made.state, made.plan.config, warn, ended)
