"""The launcher's side: fork a monitor for each container that is asked for.

The launcher itself only forks and reaps. Who asks again is likely to go on doing so: from the
second container on there is a spare monitor, which waits for the next one.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import select

from engine.runtime.cgroups.watch import CgroupWatch
from engine.runtime.container.channel import Channel, pair
from engine.runtime.container.descendants import end_descendants
from engine.runtime.errors import Damaged, Failure
from engine.runtime.kernel import processes
from engine.runtime.zygote.monitor import monitor, remove_rest
from engine.runtime.zygote.request import DESCRIPTORS, LaunchRequest, from_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


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
    launcher = _Launcher(control)
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    poll.register(read_end, select.POLLIN)
    open_to_requests = True
    while open_to_requests or launcher.monitors:
        for ready, _ in poll.poll():
            if ready == read_end:
                os.read(read_end, 4096)
                launcher.reap()
            elif not launcher.request():
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


class _Launcher:
    """The monitors, by pid, and the spare one, which has nothing to do yet."""

    def __init__(self, control: Channel) -> None:
        self._control = control
        self.monitors: dict[int, LaunchRequest] = {}
        self._cgroups = CgroupWatch()
        self._cgroups.survey()
        self._spare: tuple[int, Channel] | None = None
        self._served = 0

    def request(self) -> bool:
        """Have a monitor take care of the next request; False once there will be none."""
        try:
            received = self._control.receive()
        except Failure:
            return True
        if received is None:
            self._let_go()
            return False
        document, fds = received
        try:
            if document.get("type") != "launch" or len(fds) < len(DESCRIPTORS):
                return True
            request = from_document({k: v for k, v in document.items() if k != "type"})
            if len(fds) < len(DESCRIPTORS) + len(request.mounts):
                raise Damaged("a launch request lacks descriptors")
            if not self._handed(document, fds, request):
                self.monitors[self._forked(request, fds)] = request
            self._served += 1
        except Failure as e:
            Channel(os.dup(fds[1])).fail(e)
        except OSError as e:
            Channel(os.dup(fds[1])).fail(Failure(f"fork a monitor: {e.strerror}"))
        finally:
            for fd in fds:
                os.close(fd)
        if self._served > 1 and self._spare is None:
            self._provide()
        return True

    def reap(self) -> None:
        """Collect monitors that ended, and clean up after those that could not do so."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._spare is not None and self._spare[0] == pid:
                self._let_go()
            request = self.monitors.pop(pid, None)
            if request is not None and status:
                remove_rest(request, pid)
                # What a monitor had to look after is ours when it is gone.
                end_descendants(keep=self._children())

    def _children(self) -> tuple[int, ...]:
        spare = () if self._spare is None else (self._spare[0],)
        return (*self.monitors, *spare)

    def _forked(self, request: LaunchRequest, fds: tuple[int, ...]) -> int:
        cgroups = self._cgroups.survey()
        pid = os.fork()
        if pid == 0:
            try:
                self._control.close()
                self._let_go()
                monitor(request, fds, cgroups)
            finally:
                # Whatever happens, a monitor is no second launcher.
                os._exit(1)
        return pid

    def _provide(self) -> None:
        """Fork a spare monitor; without one the next request forks its own."""
        ours, theirs = pair()
        self._cgroups.survey()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            return
        if pid == 0:
            try:
                self._control.close()
                ours.close()
                _wait(theirs, self._cgroups)
            finally:
                os._exit(1)
        theirs.close()
        self._spare = (pid, ours)

    def _handed(
        self, document: dict[str, Any], fds: tuple[int, ...], request: LaunchRequest
    ) -> bool:
        """Whether the spare monitor has got the request."""
        if self._spare is None:
            return False
        pid, channel = self._spare
        try:
            channel.send(document, fds)
        except OSError:
            return False
        finally:
            self._let_go()
        self.monitors[pid] = request
        return True

    def _let_go(self) -> None:
        """Have no spare monitor; one that has got nothing ends."""
        if self._spare is not None:
            self._spare[1].close()
            self._spare = None


def _wait(channel: Channel, cgroups: CgroupWatch) -> NoReturn:
    """The spare monitor: wait for a request, or for the end of who would have sent one."""
    received = channel.receive()
    channel.close()
    if received is None:
        os._exit(0)
    document, fds = received
    document.pop("type", "")
    monitor(from_document(document), fds, cgroups.survey())
