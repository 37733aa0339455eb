"""One command in a snapshot, as a build's RUN does it: no terminal, standard input empty
or ours, output handed to the caller line by line.

Many steps share one `Engine` with its launcher and ids; each has a container of its own. Steps
may run in several threads at once, on snapshots of their own.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import field

from engine.containers.directory import container_directory
from engine.containers.engine import Engine, RunFailed
from engine.containers.launch import launch, plan_launch, remove_mount_points
from engine.containers.options import (
    Device,
    ImageDefaults,
    Limits,
    OpenedMount,
    RunOptions,
    Security,
    Tmpfs,
    Volume,
)
from engine.containers.ownership import recording
from engine.containers.setting import make_setting
from engine.containers.suitable import require_suitable
from engine.network.model import DnsOptions
from engine.runtime.errors import Failure
from engine.runtime.zygote.client import Running
from engine.storage.options import Snapshot
from imgtools.frozen import dataclass
from imgtools.task import Task

CHUNK = 64 << 10
MAX_LINE = 64 << 10
VARIABLES = {"container": "oci"}
STDIN, STDOUT, STDERR = 0, 1, 2
SECONDS = 10.0
"""How long a container that was killed may take to end."""

Output = Callable[[int, bytes], object]
"""Gets 1 or 2 for standard output or error, and a line with its end; or a part of one that is
longer than MAX_LINE, or the last, which may have no end. Bytes are as they were written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """What one step is given.

    `args` are looked up on the PATH of `env` (NAME=VALUE; PATH, HOME, HOSTNAME and `container`
    have defaults). `workdir` is made where it is missing. `user` is as in USER. `network` ""
    is the best that there is. `merged` hands standard error over as output, in its order.
    With `stdin` the command reads our standard input; else there is nothing to read.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    workdir: str = "/"
    user: str = ""
    volumes: tuple[Volume, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    mounts: tuple[OpenedMount, ...] = ()
    devices: tuple[Device, ...] = ()
    group_add: tuple[str, ...] = ()
    network: str = ""
    dns: DnsOptions = field(default_factory=DnsOptions)
    add_hosts: tuple[str, ...] = ()
    no_hosts: bool = False
    hostname: str = ""
    no_hostname: bool = False
    security: Security = field(default_factory=Security)
    limits: Limits = field(default_factory=Limits)
    merged: bool = False
    stdin: bool = False


def run_step(
    engine: Engine, snapshot: Snapshot, options: StepOptions, *, output: Output, task: Task
) -> int:
    """Run one command in `snapshot`, which the caller keeps; the exit code, 128 and the signal's
    number if one ended it.

    What was made for mounts alone is taken out of the snapshot again. A slow `output` holds the
    command up; what it raises ends the container and comes out here. Raises RunFailed (with a
    `code`: 127 for a command that is not there, 126 for one that cannot be executed),
    InvalidInput, Unsupported, StorageError, Cancelled.
    """
    step_id = secrets.token_hex(32)
    defaults = ImageDefaults()
    asked = _run_options(options)
    require_suitable(engine)
    with ExitStack() as undo:
        try:
            directory = undo.enter_context(
                container_directory(engine.runroot, step_id, engine.later)
            )
            setting = make_setting(
                engine, asked, defaults, snapshot, step_id, directory, variables=VARIABLES
            )
            planned = plan_launch(engine, asked, defaults, setting, snapshot, directory)
            pipes = undo.enter_context(_Pipes(merged=options.merged, stdin=options.stdin))
            task.cancel.check()
            running = launch(engine, planned, pipes.theirs, undo)
            pipes.release()
            with ExitStack() as served:
                served.callback(_end, running)
                wake = served.enter_context(_Wake(task))
                _await_start(running, wake, task)
                if setting.single:
                    served.enter_context(
                        recording(engine.store.snapshots, snapshot, running, setting)
                    )
                    served.callback(_end, running)
                code = _serve(running, pipes, output, wake, task)
            remove_mount_points(engine, running, snapshot)
        except Failure as e:
            raise RunFailed(e) from e
    return code


def _run_options(options: StepOptions) -> RunOptions:
    return RunOptions(
        command=options.args,
        entrypoint=(),
        env=options.env,
        workdir=options.workdir,
        user=options.user,
        volumes=options.volumes,
        tmpfs=options.tmpfs,
        mounts=options.mounts,
        devices=options.devices,
        group_add=options.group_add,
        network=options.network,
        dns=options.dns,
        add_hosts=options.add_hosts,
        no_hosts=options.no_hosts,
        hostname=options.hostname,
        no_hostname=options.no_hostname,
        security=options.security,
        limits=options.limits,
    )


class _Wake:
    """A descriptor that polls readable once a task is cancelled."""

    def __init__(self, task: Task) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._open = True
        self._lock = threading.Lock()
        self._calls = task.cancel.calls(self._wake)

    def __enter__(self) -> _Wake:
        self._calls.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.__exit__(None, None, None)
        # Whoever cancels may be about to call us still.
        with self._lock:
            self._open = False
            os.close(self.fd)

    def _wake(self) -> None:
        with self._lock:
            if self._open:
                os.eventfd_write(self.fd, 1)


class _Lines:
    """One output of the container, cut into lines."""

    def __init__(self, fd: int, number: int) -> None:
        self.fd = fd
        self._number = number
        self._rest = b""

    def step(self, output: Output) -> None:
        """Hand over the lines that can be read now; the last with the end of all writers."""
        chunk = os.read(self.fd, CHUNK)
        if not chunk:
            self.close(output)
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            output(self._number, line + b"\n")
        while len(self._rest) >= MAX_LINE:
            piece, self._rest = self._rest[:MAX_LINE], self._rest[MAX_LINE:]
            output(self._number, piece)

    def close(self, output: Output | None) -> None:
        """Hand over a last line without end, if anybody wants it; safe to call twice."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        rest, self._rest = self._rest, b""
        if rest and output is not None:
            output(self._number, rest)


class _Pipes:
    """The streams of a step: `theirs` are the container's ends."""

    def __init__(self, *, merged: bool, stdin: bool) -> None:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if not stdin else os.dup(STDIN)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        self.outputs = [_Lines(reading, STDOUT)]
        if merged:
            error = os.dup(writing)
        else:
            reading, error = os.pipe2(os.O_CLOEXEC)
            self.outputs.append(_Lines(reading, STDERR))
        self.theirs = (null, writing, error)

    def release(self) -> None:
        """Close the container's ends; safe to call twice."""
        for fd in self.theirs if self.theirs[0] >= 0 else ():
            os.close(fd)
        self.theirs = (-1, -1, -1)

    def ready(self, events: dict[int, int], output: Output) -> bool:
        """Take in what is there; whether there was anything."""
        found = [each for each in self.outputs if each.fd in events]
        for each in found:
            each.step(output)
        return bool(found)

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        for each in self.outputs:
            each.close(None)


def _end(running: Running) -> None:
    """Kill a container that goes on though nobody wants it any more, and wait until nothing of
    it is left: its tree and its mounts are somebody else's then."""
    if running.code is not None:
        return
    running.signal(signal.SIGKILL)
    try:
        running.ended(SECONDS)
    except (Failure, OSError):
        return  # It did not get that far.


def _await_start(running: Running, wake: _Wake, task: Task) -> None:
    poll = select.poll()
    poll.register(running.fileno(), select.POLLIN)
    poll.register(wake.fd, select.POLLIN)
    while not running.pid and running.code is None:
        events = dict(poll.poll())
        task.cancel.check()
        if running.fileno() in events:
            running.step()


def _serve(running: Running, pipes: _Pipes, output: Output, wake: _Wake, task: Task) -> int:
    """Until the container has ended, and then until its pipes are empty: writers that outlive it
    are not waited for."""
    while True:
        poll = select.poll()
        poll.register(wake.fd, select.POLLIN)
        for each in pipes.outputs:
            if each.fd >= 0:
                poll.register(each.fd, select.POLLIN)
        if running.code is None:
            poll.register(running.fileno(), select.POLLIN)
        events = dict(poll.poll(None if running.code is None else 0))
        task.cancel.check()
        any_output = pipes.ready(events, output)
        if running.code is None:
            if running.fileno() in events:
                running.step()
        elif not any_output:
            for each in pipes.outputs:
                each.close(output)
            return running.code
