"""The launcher's side: fork a monitor for each container that is asked for.

The launcher itself only forks and reaps. A monitor makes its container, waits for it and
removes what it left; if the engine goes away, the monitor kills its container, and if the
monitor is killed, the container dies with it and the launcher cleans up.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import gc
import os
import select

from engine.runtime import jsontext
from engine.runtime.container import launch, removal
from engine.runtime.container.channel import Channel
from engine.runtime.container.descendants import end_descendants
from engine.runtime.container.options import CreateOptions, RuntimeOptions
from engine.runtime.container.state import StateDir
from engine.runtime.errors import Damaged, Failure
from engine.runtime.kernel import processes
from engine.runtime.spec.parse import parse_config
from engine.runtime.zygote.request import DESCRIPTORS, LaunchRequest, from_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MAX_CONFIG = 16 << 20


def serve(fd: int) -> NoReturn:
    """Serve launches asked for on `fd` until its other end is closed and all containers ended."""
    control = Channel(fd)
    os.set_inheritable(fd, False)
    # Monitors live as long as their container; looking for garbage would only touch, and so
    # copy, what they share with us.
    gc.disable()
    gc.freeze()
    processes.prctl(processes.PR_SET_NAME, _name_address())
    processes.prctl(processes.PR_SET_CHILD_SUBREAPER, 1)
    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT):
        # The terminal's signals are for the engine, which ends us by closing our socket.
        _signal.signal(number, _signal.SIG_IGN)
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _signal.signal(_signal.SIGCHLD, _noted)
    _signal.set_wakeup_fd(write_end)
    monitors: dict[int, LaunchRequest] = {}
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    poll.register(read_end, select.POLLIN)
    open_to_requests = True
    while open_to_requests or monitors:
        for ready, _ in poll.poll():
            if ready == read_end:
                os.read(read_end, 4096)
                _reap(monitors)
            elif not _request(control, monitors):
                open_to_requests = False
                poll.unregister(ready)
    os._exit(0)


def _noted(number: int, frame: object) -> None:
    """Nothing: the wake-up descriptor has told the loop."""


def _name_address() -> int:
    import ctypes

    name = ctypes.create_string_buffer(b"imgtools-launch")
    # prctl copies the name while it is called; the buffer lives until then.
    return ctypes.addressof(name)


def _request(control: Channel, monitors: dict[int, LaunchRequest]) -> bool:
    """Fork a monitor for the next request; False once there will be none."""
    try:
        received = control.receive()
    except Failure:
        return True
    if received is None:
        return False
    document, fds = received
    try:
        if document.pop("type", "") != "launch" or len(fds) < len(DESCRIPTORS):
            return True
        request = from_document(document)
        if len(fds) < len(DESCRIPTORS) + len(request.mounts):
            raise Damaged("a launch request lacks descriptors")
        pid = os.fork()
        if pid == 0:
            try:
                control.close()
                _monitor(request, fds)
            finally:
                # Whatever happens, a monitor is no second launcher.
                os._exit(1)
        monitors[pid] = request
    except Failure as e:
        Channel(os.dup(fds[1])).fail(e)
    except OSError as e:
        Channel(os.dup(fds[1])).fail(Failure(f"fork a monitor: {e.strerror}"))
    finally:
        for fd in fds:
            os.close(fd)
    return True


def _reap(monitors: dict[int, LaunchRequest]) -> None:
    """Collect monitors that ended, and clean up after those that could not do so."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        request = monitors.pop(pid, None)
        if request is not None and status:
            _remove_rest(request, pid)
            # What a monitor had to look after is ours when it is gone.
            end_descendants(keep=monitors)


def _remove_rest(request: LaunchRequest, monitor: int) -> None:
    """Remove what there may be of the container that the process `monitor` made: another one
    may have the same id. What cannot be removed now, the engine finds when it looks for what
    others have left."""
    runtime = RuntimeOptions(root=request.state_root, cgroup_manager=request.cgroup_manager)
    try:
        with StateDir.find(request.state_root, request.id) as directory:
            if directory.load().creator != monitor:
                return
        removal.delete(runtime, request.id, force=True, warn=_ignore)
    except Failure:
        return


def _ignore(warning: str) -> None:
    """A monitor that was killed has nobody to be warned."""


def _monitor(request: LaunchRequest, fds: tuple[int, ...]) -> NoReturn:
    """Make the container, wait for it, tell how it ended."""
    left = 1
    _signal.set_wakeup_fd(-1)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    # Above the numbers that the container's own descriptors are to have.
    above = 3 + len(fds)
    config_fd, channel_fd, *standard = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
    for fd in fds:
        os.close(fd)
    channel = Channel(channel_fd)
    count = len(standard) - len(request.mounts)
    standard, given = standard[:count], standard[count:]
    try:
        config = parse_config(jsontext.parse(_content(config_fd), "config.json"))
        terminal = config.process is not None and config.process.terminal
        console = standard.pop(3) if terminal and len(standard) > 3 else -1
        os.close(config_fd)
        for number, fd in enumerate(standard):
            os.dup2(fd, number)
            os.close(fd)
        runtime = RuntimeOptions(
            root=request.state_root,
            cgroup_manager=request.cgroup_manager,
            rootless=request.rootless,
        )
        options = CreateOptions(
            id=request.id,
            bundle=request.bundle,
            console_fd=console,
            preserve_fds=len(standard) - 3,
            no_pivot=request.no_pivot,
            no_new_keyring=request.no_new_keyring,
        )
        code = launch.run(
            runtime,
            config,
            options,
            lambda text: channel.send({"type": "warning", "message": text}),
            attend=lambda pid: _attend(pid, channel),
            extras=request.extras.with_values(
                sources=tuple(zip(request.mounts, given, strict=True))
            ),
            link=(lambda pid: _link(pid, channel)) if request.linked else None,
            tell=lambda kind, document, more: channel.send({"type": kind, **document}, more),
        )
        left = 0
        channel.send({"type": "exited", "code": code})
    except Failure as e:
        channel.fail(e)
    except OSError as e:
        # The engine may be gone: then there is nobody to be told.
        channel.fail(Failure(f"launch: {os.strerror(e.errno or 0).lower()}", errno=e.errno or 0))
    if left:
        _remove_rest(request, os.getpid())
    os._exit(left)


def _link(pid: int, channel: Channel) -> None:
    """Have the engine connect the network of the container whose init is `pid`."""
    channel.send({"type": "namespaces", "pid": pid})
    channel.expect("linked")


def _content(fd: int) -> bytes:
    """All of the file `fd`; raises Damaged if it is unreasonably large."""
    size = os.fstat(fd).st_size
    if size > MAX_CONFIG:
        raise Damaged(f"config.json has {size} bytes")
    return os.pread(fd, size, 0)


def _attend(pid: int, channel: Channel) -> None:
    """Until the init ends: pass signals on, and kill it if nobody is there any more."""
    pidfd = processes.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(channel.fileno(), select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if pidfd in ready:
            return
        try:
            received = channel.receive()
        except Failure:
            continue
        number = processes.SIGKILL if received is None else received[0].get("signal")
        if received is None:
            poll.unregister(channel.fileno())
        if isinstance(number, int):
            try:
                processes.signal_pidfd(pidfd, number)
            except OSError:
                continue
