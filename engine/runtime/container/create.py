"""A container is made: its state, cgroup and init, up to where its program could begin.

Each thing is written down before it is made, so that after a kill at any moment `delete` finds
it; on an error everything that was made goes again.
"""

from __future__ import annotations

import os
import time

from engine.runtime.cgroups import ending, manage
from engine.runtime.cgroups.document import to_document as cgroup_document
from engine.runtime.container import gate, init, spawn, status
from engine.runtime.container.configuration import with_environment
from engine.runtime.container.extras import Extras
from engine.runtime.container.options import CreateOptions, RuntimeOptions
from engine.runtime.container.plan import ContainerPlan, plan_container, survey_host
from engine.runtime.container.state import CONFIG, State, StateDir, start_time
from engine.runtime.errors import refused
from engine.runtime.jsontext import encode
from engine.runtime.kernel import processes
from engine.runtime.process import terminal
from engine.runtime.process.hooks import run_hooks
from engine.runtime.record import Record
from engine.runtime.rootfs.sources import Sources, open_sources
from engine.runtime.spec.document import to_document
from engine.runtime.spec.model import Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.cgroups.model import Cgroup
    from engine.runtime.container.options import Warn

    Tell = Callable[[str, dict[str, object], tuple[int, ...]], None]
    Link = Callable[[int], object]


DESCRIPTORS = 32


class Made(Record):
    """A container whose init is ready. `born` is still connected if it was not left at a gate."""

    plan: ContainerPlan
    state: State
    born: spawn.Born
    cgroup: Cgroup | None
    stubs: tuple[object, ...]


def make(
    runtime: RuntimeOptions,
    config: Config,
    options: CreateOptions,
    warn: Warn,
    *,
    directory: StateDir,
    gated: bool,
    extras: Extras,
    link: Link | None = None,
) -> Made:
    """Make the container whose state is in the new, locked `directory`.

    `gated` leaves the init waiting for `start` by another process. `link` is called with the
    init's pid when its namespaces exist, to connect its network. Raises Failure; nothing is
    left then but the directory.
    """
    _require_descriptors(directory.fd)
    complete = with_environment(config, runtime.environment)
    host = survey_host(runtime, config, extras.cgroups)
    plan = plan_container(complete, options, host, extras)
    for text in (*plan.warnings, *(plan.notes if runtime.verbose else ())):
        warn(text)
    state = State(
        id=options.id,
        bundle=os.path.abspath(options.bundle),
        oci_version=config.oci_version,
        created=time.time(),
        annotations=config.annotations,
        creator=os.getpid(),
        creator_started=start_time(os.getpid()),
        own_user=extras.own_user,
        rootfs=os.path.abspath(os.path.join(options.bundle, config.root.path)),
    )
    directory.write(CONFIG, extras.text or encode(to_document(config)).encode())
    directory.save(state)
    making = _Making(plan, state, directory, warn, link)
    try:
        return making.run(options, gated)
    except BaseException:
        making.undo()
        raise


def _require_descriptors(fd: int) -> None:
    """Raise KernelRefused where so few descriptors are left that what was made could not be
    taken back."""
    tried: list[int] = []
    try:
        for _ in range(DESCRIPTORS):
            tried.append(os.dup(fd))
    except OSError as e:
        raise refused(
            "make a container", e, hint=f"it takes some {DESCRIPTORS}: raise RLIMIT_NOFILE"
        ) from e
    finally:
        for one in tried:
            os.close(one)


class _Making:
    """The resources of a container on their way, each known before it is made."""

    def __init__(
        self,
        plan: ContainerPlan,
        state: State,
        directory: StateDir,
        warn: Warn,
        link: Link | None,
    ) -> None:
        self.plan = plan
        self.state = state
        self.directory = directory
        self.warn = warn
        self.link = link
        self.cgroup: Cgroup | None = None
        self.born: spawn.Born | None = None
        self.fds: list[int] = []

    def run(self, options: CreateOptions, gated: bool) -> Made:
        """Make everything; the first error goes to the caller, who undoes."""
        entry = self._make_cgroup()
        console_fd = options.console_fd
        if options.console_socket:
            console_fd = terminal.connect_console(os.fsencode(options.console_socket))
            self.fds.append(console_fd)
        gate_fd = gate.make_gate(self.directory) if gated else -1
        if gate_fd >= 0:
            self.fds.append(gate_fd)
        if not options.no_subreaper:
            processes.prctl(processes.PR_SET_CHILD_SUBREAPER, 1)
        creator_pidfd = processes.pidfd_open(os.getpid())
        self.fds.append(creator_pidfd)
        sources = open_sources(self.plan.rootfs)
        sources.mounts.update(self.plan.extras.sources)
        inputs = init.Inputs(
            plan=self.plan,
            sources=sources,
            entry=entry,
            gate_fd=gate_fd,
            console_fd=console_fd,
            creator_pidfd=creator_pidfd,
            state=status.describe(self.directory, self.state, status.CREATING),
            first_closed=3 + options.preserve_fds,
            awaits_runtime=self._acts_in_between(),
        )
        inputs, move = self._with_devices(inputs)
        order = spawn.Order(
            namespaces=self.plan.namespaces,
            uids=self.plan.config.linux.uid_mappings,
            gids=self.plan.config.linux.gid_mappings,
            cgroup_fd=entry.unified if entry else -1,
        )
        try:
            born = self.born = spawn.spawn(order, lambda c, new: init.run_init(inputs, c, new))
        finally:
            _close(sources, entry)
        self._save(pid=born.pid, started=start_time(born.pid))
        if move is not None:
            move(born.pid)
        born.channel.send({"type": "go"})
        stubs = self._until_ready()
        if options.pid_file:
            write_pid_file(options.pid_file, born.pid)
        self._save(ready=True)
        for fd in self.fds:
            os.close(fd)
        return Made(
            plan=self.plan, state=self.state, born=born, cgroup=self.cgroup, stubs=tuple(stubs)
        )

    def _with_devices(self, inputs: init.Inputs) -> tuple[init.Inputs, Link | None]:
        """The inputs of an init that gets interfaces of the host, and what moves them."""
        wanted = self.plan.config.linux.net_devices
        if not wanted:
            return inputs, None
        from engine.runtime.container.netdevices import move_devices, survey_devices, take_devices

        devices = survey_devices(wanted)
        inputs = inputs.with_values(take_devices=lambda: take_devices(devices))
        return inputs, lambda pid: move_devices(devices, pid)

    def _make_cgroup(self) -> manage.Entry | None:
        planned = self.plan.cgroup
        if planned is None or not planned.directories:
            return None
        # A failed `create` leaves no cgroup, and one that others use must not be undone.
        foreseen = manage.prepare(planned)
        self._save(cgroup=cgroup_document(foreseen))
        self.cgroup = manage.create(planned)
        if self.cgroup != foreseen:
            self._save(cgroup=cgroup_document(self.cgroup))
        return manage.open_entry(self.cgroup)

    def _until_ready(self) -> list[object]:
        """Answer the init until it is ready; run the hooks that are the runtime's."""
        born = self.born
        assert born is not None
        message = self._expect("mounted")
        stubs = message.get("stubs")
        if self.link is not None:
            self.link(born.pid)
        hooks = self.plan.config.hooks
        state = {**status.describe(self.directory, self.state, status.CREATING), "pid": born.pid}
        bundle = os.fsencode(self.state.bundle)
        for kind, found in (("prestart", hooks.prestart), ("createRuntime", hooks.create_runtime)):
            if found:
                run_hooks(found, encode(state).encode(), kind, bundle)
        if self._acts_in_between():
            born.channel.send({"type": "go"})
        self._expect("ready")
        return stubs if isinstance(stubs, list) else []

    def _expect(self, kind: str) -> dict[str, object]:
        """The next message of this kind; warnings before it are passed on."""
        assert self.born is not None
        while True:
            message, _ = self.born.channel.expect(kind, "warning")
            if message["type"] == kind:
                return message
            self.warn(str(message.get("message")))

    def _acts_in_between(self) -> bool:
        """Whether the runtime has something to do while the init waits before its new root."""
        hooks = self.plan.config.hooks
        return bool(hooks.prestart or hooks.create_runtime or self.link)

    def _save(self, **values: object) -> None:
        self.state = self.state.with_values(**values)
        self.directory.note(values)

    def undo(self) -> None:
        """Take back what was made; a cgroup that cannot be removed stays in the state's
        directory for `delete`."""
        if self.born is not None:
            spawn.end(self.born)
        for fd in self.fds:
            os.close(fd)
        if self.cgroup is not None:
            ending.kill_all(self.cgroup)
            ending.remove(self.cgroup)


def _close(sources: Sources, entry: manage.Entry | None) -> None:
    sources.close()
    if entry is not None:
        manage.close_entry(entry)


def write_pid_file(path: str, pid: int) -> None:
    """Write a pid file, whole or not at all: whoever waits for it reads a pid."""
    temporary = f"{path}.{os.getpid()}"
    try:
        # In a directory like /tmp somebody may wait for this name with a link.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(temporary, flags, 0o644)
        except FileExistsError:
            os.unlink(temporary)
            fd = os.open(temporary, flags, 0o644)
        try:
            os.write(fd, b"%d" % pid)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as e:
        raise refused(f"write the pid file {path}", e) from e
