"""The launcher's side: fork a monitor for each container that is asked for.

The launcher itself only forks and reaps. A monitor whose container has ended gets the next one
that is asked for.
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
from engine.runtime.zygote.monitor import FREE, monitor, remove_rest
from engine.runtime.zygote.request import DESCRIPTORS, LaunchRequest, from_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

MOST_FREE = 4
"""Monitors that wait for another container."""


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
    launcher = _Launcher(control, read_end)
    while launcher.serve():
        pass
    os._exit(0)


def _noted(number: int, frame: object) -> None:
    """Nothing: the wake-up descriptor has told the loop."""


def _name_address() -> int:
    import ctypes

    name = ctypes.create_string_buffer(b"imgtools-launch")
    # prctl copies the name while it is called; the buffer lives until then.
    return ctypes.addressof(name)


class _Monitor:
    """A monitor that the launcher has: its channel, and what it is about, None for nothing."""

    def __init__(self, channel: Channel, request: LaunchRequest) -> None:
        self.channel = channel
        self.request: LaunchRequest | None = request


class _Launcher:
    """The monitors, by pid. `wakeup` polls readable when one may have ended."""

    def __init__(self, control: Channel, wakeup: int) -> None:
        self._control = control
        self._wakeup = wakeup
        self._monitors: dict[int, _Monitor] = {}
        self._cgroups = CgroupWatch()
        self._cgroups.survey()
        self._open = True
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)
        self._poll.register(wakeup, select.POLLIN)

    def serve(self) -> bool:
        """Do what there is to do; False once that is all."""
        asked = False
        for ready, _ in self._poll.poll():
            if ready == self._wakeup:
                os.read(self._wakeup, 4096)
                self._reap()
            elif ready == self._control.fileno():
                asked = True
            else:
                self._heard(ready)
        # Last: a new monitor's channel may get the number of one that was ready.
        if asked and not self._request():
            self._open = False
            self._poll.unregister(self._control.fileno())
        self._thin_out()
        return self._open or bool(self._monitors)

    def _heard(self, fd: int) -> None:
        """A monitor is free, or it ends."""
        one = next((m for m in self._monitors.values() if m.channel.fileno() == fd), None)
        if one is None:
            return  # It was given up in the same round.
        try:
            received = one.channel.receive()
        except Failure:
            received = None
        if received is not None and received[0].get("type") == FREE:
            one.request = None
            return
        self._let_go(one)

    def _thin_out(self) -> None:
        """Keep few monitors that have nothing to do, and none at the end."""
        free = [m for m in self._monitors.values() if m.request is None and m.channel.fileno() >= 0]
        for one in free[MOST_FREE if self._open else 0 :]:
            self._let_go(one)

    def _let_go(self, one: _Monitor) -> None:
        """Give a monitor nothing more to do: one that has nothing ends."""
        if one.channel.fileno() >= 0:
            self._poll.unregister(one.channel.fileno())
            one.channel.close()

    def _request(self) -> bool:
        """Have a monitor take care of the next request; False once there will be none."""
        try:
            received = self._control.receive()
        except Failure:
            return True
        if received is None:
            return False
        document, fds = received
        try:
            if document.get("type") != "launch" or len(fds) < len(DESCRIPTORS):
                return True
            request = from_document({k: v for k, v in document.items() if k != "type"})
            if len(fds) < len(DESCRIPTORS) + len(request.mounts):
                raise Damaged("a launch request lacks descriptors")
            if not self._handed(document, fds, request):
                self._fork(request, fds)
        except Failure as e:
            Channel(os.dup(fds[1])).fail(e)
        except OSError as e:
            Channel(os.dup(fds[1])).fail(Failure(f"fork a monitor: {e.strerror}"))
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _handed(
        self, document: dict[str, Any], fds: tuple[int, ...], request: LaunchRequest
    ) -> bool:
        """Whether a monitor that is free has got the request."""
        for one in self._monitors.values():
            if one.request is not None or one.channel.fileno() < 0:
                continue
            try:
                one.channel.send(document, fds)
            except OSError:
                self._let_go(one)
                continue
            one.request = request
            return True
        return False

    def _fork(self, request: LaunchRequest, fds: tuple[int, ...]) -> None:
        cgroups = self._cgroups.survey()
        ours, theirs = pair()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            try:
                self._control.close()
                ours.close()
                for other in self._monitors.values():
                    other.channel.close()
                monitor(theirs, request, fds, cgroups)
            finally:
                # Whatever happens, a monitor is no second launcher.
                os._exit(1)
        theirs.close()
        self._monitors[pid] = _Monitor(ours, request)
        self._poll.register(ours.fileno(), select.POLLIN)

    def _reap(self) -> None:
        """Collect monitors that ended, and clean up after those that could not do so."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            one = self._monitors.pop(pid, None)
            if one is None:
                continue
            self._let_go(one)
            if one.request is not None and status:
                remove_rest(one.request, pid)
                # What a monitor had to look after is ours when it is gone.
                end_descendants(keep=self._monitors)
