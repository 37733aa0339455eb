"""A container's monitor: makes it, waits for it, removes what it left, and tells the engine.

If the engine goes away, the monitor kills its container; if the monitor is killed, the
container dies with it and the launcher cleans up. What went well leaves a process that the
next container can have: a new one would first have to get its own copy of most of its memory.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import os
import select

from engine.runtime import jsontext
from engine.runtime.cgroups.watch import CgroupWatch
from engine.runtime.container import launch, removal
from engine.runtime.container.channel import Channel
from engine.runtime.container.options import CreateOptions, RuntimeOptions
from engine.runtime.container.state import StateDir
from engine.runtime.errors import Damaged, Failure
from engine.runtime.kernel import processes
from engine.runtime.spec.parse import parse_config
from engine.runtime.zygote.request import DESCRIPTORS, LaunchRequest, from_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from engine.runtime.cgroups.model import CgroupHost
    from engine.runtime.container.extras import Extras
    from engine.runtime.spec.model import Config

MAX_CONFIG = 16 << 20
MOST_CONTAINERS = 256
"""Of one monitor: it does not look for garbage."""
FREE = "free"
"""What a monitor says to the launcher when it could take care of another container."""
STANDARD = DESCRIPTORS[2:]


def monitor(
    control: Channel, request: LaunchRequest, fds: tuple[int, ...], cgroups: CgroupHost
) -> NoReturn:
    """Take care of one container after the other: of `request` with `fds`, then of those that
    come on `control`. A container that fails ends its monitor, with status 1."""
    _signal.set_wakeup_fd(-1)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    # Not the launcher's: who looks first would be the only one to see a change.
    watch = CgroupWatch()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    left = MOST_CONTAINERS
    while _attended(control, request, fds, cgroups) and (left := left - 1):
        for number in (0, 1, 2):
            os.dup2(null, number)
        try:
            control.send({"type": FREE})
        except OSError:
            break
        received = control.receive()
        if received is None:
            break
        document, fds = received
        document.pop("type", "")
        request, cgroups = from_document(document), watch.survey()
    os._exit(0)


def _attended(
    control: Channel, request: LaunchRequest, fds: tuple[int, ...], cgroups: CgroupHost
) -> bool:
    """Make the container, wait for it, tell how it ended; whether nothing of it is in the way
    of another one."""
    # Above the numbers that the container's own descriptors are to have.
    above = 3 + len(fds)
    config_fd, channel_fd, *standard = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
    for fd in fds:
        os.close(fd)
    channel = Channel(channel_fd)
    count = len(standard) - len(request.mounts)
    standard, given = standard[:count], standard[count:]
    plain = len(standard) == len(STANDARD)
    try:
        text = _content(config_fd)
        config = parse_config(jsontext.parse(text, "config.json"))
        terminal = config.process is not None and config.process.terminal
        console = standard.pop(3) if terminal and len(standard) > 3 else -1
        os.close(config_fd)
        if not plain:
            control.close()
        for number, fd in enumerate(standard):
            os.dup2(fd, number)
            os.close(fd)
        extras = request.extras.with_values(
            sources=tuple(zip(request.mounts, given, strict=True)), cgroups=cgroups, text=text
        )
        options = _options(request, console, len(standard) - len(STANDARD))
        _run(request, config, options, extras, channel)
        channel.close()
        return plain
    except Failure as e:
        channel.fail(e)
    except OSError as e:
        # The engine may be gone: then there is nobody to be told.
        channel.fail(Failure(f"launch: {os.strerror(e.errno or 0).lower()}", errno=e.errno or 0))
    remove_rest(request, os.getpid())
    os._exit(1)


def _options(request: LaunchRequest, console: int, preserve: int) -> CreateOptions:
    return CreateOptions(
        id=request.id,
        bundle=request.bundle,
        console_fd=console,
        preserve_fds=preserve,
        no_pivot=request.no_pivot,
        no_new_keyring=request.no_new_keyring,
    )


def _run(
    request: LaunchRequest, config: Config, options: CreateOptions, extras: Extras, channel: Channel
) -> None:
    runtime = RuntimeOptions(
        root=request.state_root,
        cgroup_manager=request.cgroup_manager,
        rootless=request.rootless,
    )
    launch.run(
        runtime,
        config,
        options,
        lambda text: channel.send({"type": "warning", "message": text}),
        attend=lambda pid: _attend(pid, channel),
        extras=extras,
        link=(lambda pid: _link(pid, channel)) if request.linked else None,
        tell=lambda kind, document, more: channel.send({"type": kind, **document}, more),
    )


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
    try:
        _pass_signals(pidfd, channel)
    finally:
        os.close(pidfd)


def _pass_signals(pidfd: int, channel: Channel) -> None:
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


def remove_rest(request: LaunchRequest, monitor: int) -> None:
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
