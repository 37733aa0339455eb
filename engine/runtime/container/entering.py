"""`exec`: one more program in a container that is there already.

The process that enters holds nothing the container could use: it is not dumpable before it is
in the namespaces (CVE-2016-9962), keeps no descriptor of the host, and runs nothing of the
container's files before it has given up what the program may not have.
"""

from __future__ import annotations

import os

from engine.runtime.cgroups import manage
from engine.runtime.cgroups.model import Cgroup
from engine.runtime.container.becoming import Becoming, lock_imports
from engine.runtime.container.channel import Channel, pair
from engine.runtime.container.configuration import check_descriptors, saved_config
from engine.runtime.container.create import write_pid_file
from engine.runtime.container.joining import open_all, to_join
from engine.runtime.container.namespaces import namespace_paths
from engine.runtime.container.options import ExecOptions, RuntimeOptions
from engine.runtime.container.program import await_program, wait_for
from engine.runtime.container.program_plan import ProgramPlan, plan_program, survey_process
from engine.runtime.container.stage import clone_hint, join
from engine.runtime.container.state import State, StateDir, is_alive
from engine.runtime.container.status import CREATED, PAUSED, RUNNING, cgroup_of, describe, status_of
from engine.runtime.errors import Failure, KernelRefused, WrongState, refused
from engine.runtime.kernel import processes
from engine.runtime.kernel.paths import O_PATH
from engine.runtime.process import attributes, terminal
from engine.runtime.record import Record
from engine.runtime.spec.model import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from engine.runtime.container.options import Attend, Warn

CAP_SYS_ADMIN = 1 << 21
PLACE = O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Entrance(Record):
    """What the entering processes inherit: the namespaces to join, in order, the container's
    root for one that has no mount namespace of its own, and where the terminal goes. `user_fd`
    is the user namespace inside of these that the container's own program has, if that is of
    the same user, or -1."""

    program: ProgramPlan
    joined: tuple[tuple[str, int], ...]
    root_fd: int
    console_fd: int
    first_closed: int
    container_id: str
    container_pid: int
    user_fd: int


def exec_process(
    runtime: RuntimeOptions,
    container_id: str,
    process: Process,
    options: ExecOptions,
    warn: Warn,
    attend: Attend | None = None,
) -> int:
    """Run `process` in a container; its exit code, 0 at once if detached."""
    check_descriptors(options.preserve_fds)
    with StateDir.find(runtime.root, container_id) as directory:
        state = directory.load()
        status = status_of(directory, state)
        if status == PAUSED and not options.ignore_paused:
            raise WrongState(f"cannot exec in a paused container: {container_id}")
        if status not in (CREATED, RUNNING, PAUSED):
            raise WrongState(f"cannot exec in a container that is {status}: {container_id}")
        config = saved_config(directory)
        document = describe(directory, state, status)
    kinds = to_join(state)
    facts = survey_process(process, runtime.rootless)
    program = plan_program(
        process,
        config.linux,
        facts,
        other_user="user" in kinds,
        keyring=not options.no_new_keyring,
        own_user=state.own_user and _ids(process) != (0, 0),
    )
    for text in (*program.warnings, *(program.notes if runtime.verbose else ())):
        warn(text)
    privileged = bool(facts.own.permitted & CAP_SYS_ADMIN)
    same_user = config.process is not None and _ids(config.process) == _ids(process)
    pid, pidfd, channel = _enter(state, kinds, privileged, program, options, same_user=same_user)
    try:
        _await_ready(channel, warn)
        if options.pid_file:
            write_pid_file(options.pid_file, pid)
        channel.send({"type": "go"})
        await_program(channel, config, document, 0, None)
    except BaseException:
        processes.signal_pidfd(pidfd, processes.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)
        raise
    finally:
        channel.close()
    try:
        return 0 if options.detach else wait_for(pid, pidfd, attend)
    finally:
        os.close(pidfd)


def _ids(process: Process) -> tuple[int, int]:
    return process.user.uid, process.user.gid


def _enter(
    state: State,
    kinds: tuple[str, ...],
    privileged: bool,
    program: ProgramPlan,
    options: ExecOptions,
    *,
    same_user: bool,
) -> tuple[int, int, Channel]:
    """Fork the process that joins, which clones the one that becomes the program, our child."""
    fds: list[int] = []
    try:
        joined = tuple(open_all(state, kinds, privileged=privileged))
        fds += [fd for _, fd in joined]
        root_fd = os.open(f"/proc/{state.pid}/root", PLACE)
        fds.append(root_fd)
        user_fd = -1
        if program.own_user and same_user:
            user_fd = os.open(namespace_paths(state.pid)["user"], os.O_RDONLY | os.O_CLOEXEC)
            fds.append(user_fd)
        if not is_alive(state.pid, state.started):
            raise WrongState(f"container not running: {state.id}")
        console_fd = options.console_fd
        if options.console_socket:
            console_fd = terminal.connect_console(os.fsencode(options.console_socket))
            fds.append(console_fd)
        entrance = Entrance(
            program=program,
            joined=joined,
            root_fd=root_fd,
            console_fd=console_fd,
            first_closed=3 + options.preserve_fds,
            container_id=state.id,
            container_pid=state.pid,
            user_fd=user_fd,
        )
        return _fork(entrance, state, options)
    except OSError as e:
        raise refused(f"enter container {state.id}", e) from e
    finally:
        for fd in fds:
            os.close(fd)


def _fork(entrance: Entrance, state: State, options: ExecOptions) -> tuple[int, int, Channel]:
    ours, theirs = pair()
    stage, stage_theirs = pair()
    stage_pid = os.fork()
    if stage_pid == 0:
        ours.close()
        stage.close()
        _stage(entrance, stage_theirs, theirs)
    stage_theirs.close()
    theirs.close()
    try:
        stage.expect("waiting")
        cgroup = cgroup_of(state)
        if cgroup is not None:
            manage.join(_below(cgroup, options.cgroup), stage_pid, beside=state.pid)
        stage.send({"type": "go"})
        message, fds = stage.expect("cloned")
    except BaseException:
        ours.close()
        os.kill(stage_pid, processes.SIGKILL)
        raise
    finally:
        stage.close()
        os.waitpid(stage_pid, 0)
    number = message.get("pid")
    if not isinstance(number, int) or len(fds) != 1:
        ours.close()
        raise Failure("the process that joins namespaces gave no pid")
    return number, fds[0], ours


def _below(cgroup: Cgroup, path: str) -> Cgroup:
    """The same cgroup, or the one at `path` below it; of version 1, whose hierarchies need not
    be divided alike, in those that have it. Raises InvalidConfig, or KernelRefused if none has.
    """
    if not path.strip("/"):
        return cgroup
    wanted = manage.within(cgroup, path).directories
    there = [os.path.isdir(f"{one.mount}/{one.path}") for one in wanted]
    if not any(there):
        raise KernelRefused(f"--cgroup {path}: the container has no such cgroup")
    pairs = zip(cgroup.directories, wanted, there, strict=True)
    return cgroup.with_values(
        directories=tuple(inner if found else outer for outer, inner, found in pairs)
    )


def _stage(entrance: Entrance, stage: Channel, channel: Channel) -> NoReturn:
    """Join the namespaces, clone the process as our sibling, tell its pid."""
    try:
        # Everything imported and laid out before the mount namespace is the container's.
        becoming = Becoming(entrance.program, -1, entrance.first_closed)
        _let_go(entrance, stage, channel)
        becoming.set_score(_ignore)
        attributes.set_dumpable(False)
        stage.send({"type": "waiting"})
        stage.expect("go")
        keyring = b"_ses." + os.fsencode(entrance.container_id)
        becoming.prepare(keyring, _ignore, entrance.root_fd, entrance.container_pid)
        lock_imports()
        join(entrance.joined)
        if not any(kind == "mount" for kind, _ in entrance.joined):
            os.fchdir(entrance.root_fd)
            os.chroot(".")
        os.chdir("/")
        for fd in (entrance.root_fd, *(fd for _, fd in entrance.joined)):
            os.close(fd)
        # Where fs.suid_dumpable is set, the change of ids has undone it.
        attributes.set_dumpable(False)
        try:
            pid, pidfd = processes.clone3(processes.CLONE_PARENT)
        except OSError as e:
            raise refused("enter the container", e, hint=clone_hint(e)) from e
        if pid == 0:
            stage.close()
            _resident(entrance, becoming, channel)
        stage.send({"type": "cloned", "pid": pid}, (pidfd,))
    except Failure as e:
        stage.fail(e)
    except OSError as e:
        stage.fail(KernelRefused(f"enter the container: {os.strerror(e.errno or 0).lower()}"))
    except BaseException as e:  # noqa: BLE001
        stage.fail(Failure(f"enter the container: {type(e).__name__}: {e}"))
    os._exit(0)


def _let_go(entrance: Entrance, stage: Channel, channel: Channel) -> None:
    """Close what the caller of the runtime had open."""
    processes.close_others(
        (
            *range(3, entrance.first_closed),
            *(fd for _, fd in entrance.joined),
            entrance.root_fd,
            entrance.console_fd,
            entrance.user_fd,
            stage.fileno(),
            channel.fileno(),
        )
    )


def _ignore(warning: str) -> None:
    """What is left out here was left out, with a warning, when the container was made."""


def _resident(entrance: Entrance, becoming: Becoming, channel: Channel) -> NoReturn:
    """The process in the container, up to its program."""
    try:
        os.setsid()
        if entrance.program.process.terminal:
            root_fd = os.open("/", PLACE)
            becoming.open_terminal(root_fd, entrance.console_fd, None)
            os.close(root_fd)
        becoming.take_user(entrance.user_fd)
        if entrance.user_fd >= 0:
            os.close(entrance.user_fd)
        becoming.look()
        channel.send({"type": "ready"})
        channel.expect("go")
        becoming.become(channel)
    except Failure as e:
        channel.fail(e)
    except OSError as e:
        channel.fail(KernelRefused(f"exec: {os.strerror(e.errno or 0).lower()}"))
    except BaseException as e:  # noqa: BLE001
        channel.fail(Failure(f"exec: {type(e).__name__}: {e}"))
    os._exit(1)


def _await_ready(channel: Channel, warn: Warn) -> None:
    while True:
        message, _ = channel.expect("ready", "warning")
        if message["type"] == "ready":
            return
        warn(str(message.get("message")))
