"""Hooks: programs of config.json that run while a container comes and goes (config.md,
"POSIX-platform Hooks").

Each gets the container's state on standard input, exactly the environment it was given, and
no descriptor of ours. It runs in the process that calls this: the runtime, or the container's
init for createContainer and startContainer.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time

from engine.runtime.errors import Failure, HookFailed, refused
from engine.runtime.kernel.files import write_all
from engine.runtime.kernel.processes import SIGKILL, close_on_exec, execve, pidfd_open
from engine.runtime.process.command import quoted
from engine.runtime.process.signals import exit_code, reset_signals, signal_name
from engine.runtime.spec.model import Hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_TAIL = 4096
"""Bytes of a hook's output that an error shows."""

_READ = 1 << 16
_MFD_CLOEXEC, _MFD_NOEXEC_SEAL = 1, 8
_F_DUPFD_CLOEXEC = 1030
_EXIT_NO_EXEC = 127


def run_hooks(hooks: tuple[Hook, ...], state: bytes, kind: str, cwd: bytes = b"/") -> None:
    """Run `hooks` in order, `kind` being their name in config.json and `cwd` where they start.

    `state` is the state document. Raises HookFailed for the first that cannot be executed,
    does not exit with 0, or takes longer than its timeout; those after it are not run.
    """
    for number, hook in enumerate(hooks):
        _run(hook, state, f"{kind} hook #{number} ({quoted(os.fsencode(hook.path))})", cwd)


def try_hooks(
    hooks: tuple[Hook, ...], state: bytes, kind: str, cwd: bytes = b"/"
) -> tuple[str, ...]:
    """Run all `hooks` whatever becomes of each; what went wrong, as warnings (poststop)."""
    warnings = []
    for number, hook in enumerate(hooks):
        try:
            _run(hook, state, f"{kind} hook #{number} ({quoted(os.fsencode(hook.path))})", cwd)
        except Failure as e:
            warnings.append(e.message)
    return tuple(warnings)


def _run(hook: Hook, state: bytes, name: str, cwd: bytes) -> None:
    """Run one hook. Its output is kept only for the error."""
    arguments = tuple(os.fsencode(a) for a in hook.args or (hook.path,))
    environment = tuple(os.fsencode(e) for e in hook.env or ())
    stdin = failed_read = failed_write = output_read = output_write = -1
    try:
        stdin = _state_file(state)
        output_read, output_write = os.pipe2(os.O_CLOEXEC)
        failed_read, failed_write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            streams = (stdin, output_write, output_write)
            _become(os.fsencode(hook.path), arguments, environment, cwd, streams, failed_write)
        failed_write = _closed(failed_write)
        output_write = _closed(output_write)
        number = os.read(failed_read, 16)
        if number:
            os.waitpid(pid, 0)
            text = os.strerror(int(number)).lower()
            raise HookFailed(f"error running {name}: {text}", errno=int(number))
        status, tail = _watch(pid, output_read, hook.timeout)
    except OSError as e:
        raise refused(f"run {name}", e) from e
    finally:
        for fd in (stdin, failed_read, failed_write, output_read, output_write):
            _closed(fd)
    if status is None:
        raise HookFailed(f"error running {name}: timed out after {hook.timeout} s{tail}")
    if status:
        raise HookFailed(f"error running {name}: {_ending(status)}{tail}")


def _closed(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1


def _state_file(state: bytes) -> int:
    """The state as a file at its start: a hook that does not read it keeps nobody waiting."""
    try:
        fd = os.memfd_create("state", _MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
    except OSError as e:
        if e.errno != errno.EINVAL:  # before Linux 6.3
            raise
        fd = os.memfd_create("state", _MFD_CLOEXEC)
    write_all(fd, state)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _become(
    path: bytes,
    arguments: tuple[bytes, ...],
    environment: tuple[bytes, ...],
    cwd: bytes,
    streams: tuple[int, int, int],
    failed: int,
) -> NoReturn:
    """In the child: take the streams, a process group, default signals, and execute."""
    try:
        # What lies below 3 would be overwritten while it is still needed.
        failed, *copies = [fcntl.fcntl(fd, _F_DUPFD_CLOEXEC, 3) for fd in (failed, *streams)]
        for target, fd in enumerate(copies):
            os.dup2(fd, target)
        close_on_exec(3)
        os.setpgid(0, 0)
        os.chdir(cwd)
        reset_signals()
        execve(path, arguments, environment)
    except OSError as e:
        os.write(failed, b"%d" % (e.errno or errno.EIO))
    finally:
        os._exit(_EXIT_NO_EXEC)


def _watch(pid: int, output: int, timeout: int | None) -> tuple[int | None, str]:
    """Wait for the hook's end or its time: its status, None if it was killed for time, and the
    end of its output as part of an error text.

    What a hook leaves running in the background may hold its output open: only the end of the
    hook itself is waited for.
    """
    os.set_blocking(output, False)
    pidfd = pidfd_open(pid)
    deadline = None if timeout is None else time.monotonic() + timeout
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(output, select.POLLIN)
    kept = b""
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            events = poll.poll(left)
            if not events:
                os.killpg(pid, SIGKILL)
                os.waitpid(pid, 0)
                return None, _tail(_drained(output, kept))
            ready = {fd for fd, _ in events}
            if output in ready:
                chunk = _read(output)
                if chunk == b"":
                    poll.unregister(output)
                kept = (kept + (chunk or b""))[-_TAIL:]
            if pidfd in ready:
                status = os.waitpid(pid, 0)[1]
                return status, _tail(_drained(output, kept))
    finally:
        os.close(pidfd)


def _read(fd: int) -> bytes | None:
    """What there is to read: empty at the end, None for nothing yet."""
    try:
        return os.read(fd, _READ)
    except BlockingIOError:
        return None


def _drained(output: int, kept: bytes) -> bytes:
    """`kept` and what a pipe can still hold; a writer in the background cannot hold us up."""
    for _ in range(16):
        chunk = _read(output)
        if not chunk:
            break
        kept = (kept + chunk)[-_TAIL:]
    return kept


def _tail(output: bytes) -> str:
    text = output.strip().decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else "; " if c == "\n" else ascii(c)[1:-1] for c in text)
    return f": {shown}" if shown else ""


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal_name(os.WTERMSIG(status))}"
    return f"exit status {exit_code(status)}"
