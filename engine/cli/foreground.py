"""`run` and `exec` in the foreground: signals go on to the program, terminals are joined.

One loop without threads waits for the program's end, for signals (signalfd) and, with a
terminal, for both of its sides. The caller's terminal is put back in order in any case.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import select

from engine.runtime.errors import refused
from engine.runtime.kernel.processes import pidfd_open, signal_pidfd
from engine.runtime.kernel.signals import read_signals, signalfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.cli.terminal import Relay
    from engine.runtime.spec.model import Process

# Not forwarded: those that report a fault of this process, that stop it on behalf of the
# shell's job control, that cannot be caught, that the C library keeps (32, 33), and those that
# the system sends about our own descriptors, children and limits.
NOT_FORWARDED = frozenset(
    (
        _signal.SIGKILL,
        _signal.SIGSTOP,
        _signal.SIGTSTP,
        _signal.SIGTTIN,
        _signal.SIGTTOU,
        _signal.SIGCONT,
        _signal.SIGSEGV,
        _signal.SIGBUS,
        _signal.SIGFPE,
        _signal.SIGILL,
        _signal.SIGTRAP,
        _signal.SIGSYS,
        _signal.SIGABRT,
        _signal.SIGPIPE,
        _signal.SIGXFSZ,
        _signal.SIGXCPU,
        _signal.SIGURG,
        32,
        33,
    )
)
HANDLED = tuple(number for number in range(1, 65) if number not in NOT_FORWARDED)
POLLIN, POLLHUP, POLLERR = 1, 16, 8


class Foreground:
    """Holds back signals from before the container exists until its program has ended.

    `console_fd` is the socket for the master of a terminal, -1 without one.
    """

    def __init__(self, *, terminal: bool) -> None:
        """Raises Failure if there is no terminal to join, KernelRefused."""
        self.relay: Relay | None = None
        if terminal:
            from engine.cli.terminal import Relay

            self.relay = Relay()
        self.signals = -1
        self.mask: set[int] = set()

    @property
    def console_fd(self) -> int:
        """The end of a socket that the runtime sends the master to."""
        return self.relay.console_fd if self.relay is not None else -1

    def sized(self, process: Process) -> Process:
        """`process` with the size of the caller's terminal, unless it asks for one."""
        if self.relay is None or process.console_size is not None:
            return process
        return process.with_values(console_size=self.relay.size())

    def __enter__(self) -> Foreground:
        self.mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, HANDLED)
        try:
            self.signals = signalfd(HANDLED)
        except OSError as e:
            self.__exit__()
            raise refused("signalfd", e) from e
        return self

    def __exit__(self, *_: object) -> None:
        if self.relay is not None:
            self.relay.close()
        if self.signals >= 0:
            # What came after the program's end was for it, and has nobody to go to now.
            read_signals(self.signals)
            os.close(self.signals)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.mask)

    def attend(self, pid: int) -> None:
        """Serve the program whose process is our child `pid` until it has ended; it is left to
        be reaped. Raises KernelRefused."""
        pidfd = pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd, POLLIN)
        poll.register(self.signals, POLLIN)
        try:
            if self.relay is not None:
                self.relay.begin(poll)
            while True:
                events = dict(poll.poll())
                if self.signals in events:
                    self._forward(pid, pidfd)
                if self.relay is not None:
                    self.relay.serve(events)
                if pidfd in events:
                    break
        finally:
            if self.relay is not None:
                self.relay.end()
            os.close(pidfd)

    def _forward(self, pid: int, pidfd: int) -> None:
        for number in read_signals(self.signals):
            if number == _signal.SIGCHLD:
                reap_others(pid)
            elif number == _signal.SIGWINCH and self.relay is not None:
                self.relay.resize()
            else:
                try:
                    signal_pidfd(pidfd, number)
                except ProcessLookupError:
                    continue
                except OSError as e:
                    raise refused(f"send signal {number} to the container", e) from e


def reap_others(pid: int) -> None:
    """Reap children that have ended: those the container left to us as their subreaper. `pid`
    itself stays for the runtime."""
    options = os.WEXITED | os.WNOHANG
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, options | os.WNOWAIT)
            if ended is None or ended.si_pid in (0, pid):
                return
            os.waitid(os.P_PID, ended.si_pid, options)
        except ChildProcessError:
            return
