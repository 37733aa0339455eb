"""The container's init before it becomes the program: it builds the container around itself.

It runs in the new namespaces, first in the host's root, then in the container's. Whatever
could be looked up, imported or decided has been before it was cloned: from the moment it
enters the container's root, files of the image could be taken for parts of this interpreter
(the class of CVE-2019-14271), so imports are switched off and no traceback is ever printed.
"""

from __future__ import annotations

import os
import sys

from engine.runtime.cgroups.manage import Entry, enter
from engine.runtime.container.channel import Channel
from engine.runtime.container.gate import wait_at
from engine.runtime.container.stage import become_root
from engine.runtime.errors import Failure, KernelRefused, WrongState, refused
from engine.runtime.jsontext import encode
from engine.runtime.kernel import processes
from engine.runtime.process import (
    attributes,
    capabilities,
    command,
    credentials,
    labels,
    procfs,
    rlimits,
    signals,
    stdio,
    terminal,
    trampoline,
)
from engine.runtime.process.hooks import run_hooks
from engine.runtime.record import Record
from engine.runtime.rootfs.execute import Rootfs
from engine.runtime.seccomp.load import Loader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from engine.runtime.container.plan import ContainerPlan
    from engine.runtime.rootfs.sources import Sources


class Inputs(Record):
    """What the init inherits.

    `gate_fd` is the socket to wait at, -1 to go on when the runtime says so. `state` is the
    container's state as hooks get it. `first_closed` is the first descriptor that the program
    does not get. `awaits_runtime` says that the runtime acts between mounts and the new root.
    """

    plan: ContainerPlan
    sources: Sources
    entry: Entry | None
    gate_fd: int
    console_fd: int
    creator_pidfd: int
    state: dict[str, Any]
    first_closed: int
    awaits_runtime: bool


def run_init(inputs: Inputs, channel: Channel, new_user: bool) -> NoReturn:
    """Become the container's program; errors go to whoever listens at that time."""
    init = _Init(inputs, channel)
    try:
        init.settle(new_user)
        init.build()
        init.enter()
        init.wait()
        init.become()
    except Failure as e:
        init.end.fail(e)
    except OSError as e:
        init.end.fail(KernelRefused(f"container init: {os.strerror(e.errno or 0).lower()}"))
    except BaseException as e:  # noqa: BLE001
        # Nothing may be imported here any more, so not even a traceback can be made.
        init.end.fail(Failure(f"container init: {type(e).__name__}: {e}"))
    os._exit(1)


def lock_imports() -> None:
    """Make every further import fail: what would be found from now on is the image's."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


class _Init:
    """The steps in their order; `end` is where errors go now."""

    def __init__(self, inputs: Inputs, channel: Channel) -> None:
        self.inputs = inputs
        self.plan = inputs.plan
        self.channel = self.end = channel
        self.rootfs = Rootfs(inputs.plan.rootfs, inputs.sources)
        process = inputs.plan.process
        self.arguments = tuple(os.fsencode(word) for word in process.args)
        self.environment = tuple(os.fsencode(entry) for entry in process.env)
        self.cwd = os.fsencode(process.cwd)
        self.credentials: credentials.CredentialPlan | None = None
        self.launch: trampoline.Launch | None = None
        self.loaders: tuple[Loader, ...] = ()
        self.proc_fd = -1

    def settle(self, new_user: bool) -> None:
        """Wait for the id maps, enter the cgroup, leave the caller's session."""
        self.channel.expect("go")
        if new_user:
            become_root()
        if self.plan.extras.die_with_creator:
            processes.prctl(processes.PR_SET_PDEATHSIG, processes.SIGKILL)
        if self.inputs.entry is not None:
            enter(self.inputs.entry)
        try:
            os.setsid()
            if self.plan.namespaces.has_new("cgroup"):
                processes.unshare(processes.CLONE_NEWCGROUP)
        except OSError as e:
            raise refused("make a session and a cgroup namespace", e) from e

    def build(self) -> None:
        """Mounts, devices, and the hooks that run before the root changes."""
        if self.plan.namespaces.has_new("mount") or self.plan.namespaces.joined("mount"):
            self.rootfs.take_root()
            self.rootfs.mount_all()
            self.rootfs.make_devices()
        stubs = [[_plain(getattr(s, name)) for name in s._fields] for s in self.rootfs.stubs]
        self.channel.send({"type": "mounted", "stubs": stubs})
        if self.inputs.awaits_runtime:
            self.channel.expect("go")
        hooks = self.plan.config.hooks
        if hooks.create_container:
            run_hooks(hooks.create_container, self._state("creating"), "createContainer")

    def enter(self) -> None:
        """Everything that still needs the host's files; then the container's root."""
        plan, process = self.plan, self.plan.process
        allowed = credentials.setgroups_allowed()
        keep = () if allowed else tuple(os.getgroups())
        self.credentials = credentials.plan_credentials(process.user, allowed, keep)
        proc_fd = procfs.open_proc()
        self.proc_fd = proc_fd
        if plan.attributes.oom_score_adj is not None:
            tolerate = plan.rootless
            self._warn(
                attributes.set_oom_score_adj(
                    plan.attributes.oom_score_adj, proc_fd, tolerate=tolerate
                )
            )
        attributes.set_attributes(plan.attributes)
        if not plan.no_new_keyring:
            name = b"_ses." + os.fsencode(self.inputs.state["id"])
            self._warn(attributes.join_keyring(name))
        self.loaders = tuple(Loader(f) for f in plan.early_filters)
        if self.arguments:
            self.launch = trampoline.prepare(
                self.arguments, self.environment, seccomp=plan.late_filter, report=_report
            )
        if process.terminal:
            self._open_terminal()
        command.make_cwd(self.rootfs.root_fd, self.cwd)
        lock_imports()
        self.rootfs.enter()
        self.rootfs.finish()

    def _open_terminal(self) -> None:
        pty = terminal.open_terminal(self.rootfs.root_fd, self.plan.process.console_size)
        self.rootfs.bind_console(pty.slave)
        terminal.send_master(self.inputs.console_fd, pty.master)
        terminal.take_terminal(pty.slave)

    def _warn(self, text: str) -> None:
        if text:
            self.channel.send({"type": "warning", "message": text})

    def wait(self) -> None:
        """Say that all is ready; wait until the program shall run."""
        if self.arguments:
            # What `create` can tell already; permissions are those of the user, later.
            command.enter_cwd(self.cwd, may_be_denied=True)
            command.find_program(self.arguments[0], command.search_path(self.environment))
        self.channel.send({"type": "ready"})
        if self.inputs.gate_fd >= 0:
            self.channel.close()
            self.end = wait_at(self.inputs.gate_fd)
        else:
            self.channel.expect("go")
        hooks = self.plan.config.hooks
        if hooks.start_container:
            run_hooks(hooks.start_container, self._state("created"), "startContainer")
        if self.launch is None:
            raise WrongState("the container has no process.args to run")

    def become(self) -> None:
        """Give up what the program may not have, and execute it."""
        plan, process = self.plan, self.plan.process
        assert self.credentials is not None
        assert self.launch is not None
        rlimits.set_rlimits(plan.rlimits)
        labels.set_labels(plan.labels, self.proc_fd)
        stdio.give_stdio(self.credentials.uid, terminal=process.terminal)
        if plan.final_cpus:
            attributes.set_affinity(plan.final_cpus, "process.execCPUAffinity.final")
        entered = command.enter_cwd(self.cwd, may_be_denied=True)
        privileged_filter = plan.early_filters and not process.no_new_privileges
        if privileged_filter:
            self._load_filters()
        capabilities.drop_bounding(plan.capabilities)
        signals.reset_signals()
        credentials.apply(self.credentials, plan.capabilities)
        if plan.extras.die_with_creator:
            attributes.die_with_parent(self.inputs.creator_pidfd)
        if not entered:
            command.enter_cwd(self.cwd)
        program = command.find_program(self.arguments[0], command.search_path(self.environment))
        if process.no_new_privileges:
            attributes.set_no_new_privileges()
            self._load_filters()
        processes.close_on_exec(self.inputs.first_closed)
        trampoline.launch(self.launch, program, self.end.fileno())

    def _load_filters(self) -> None:
        for number, loader in enumerate(self.loaders):
            listener = loader.load()
            if listener is not None:
                self.end.send({"type": "listener", "number": number}, (listener,))
                os.close(listener)

    def _state(self, status: str) -> bytes:
        return encode({**self.inputs.state, "status": status, "pid": os.getpid()}).encode()


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _report(failure: Failure) -> bytes:
    """What the trampoline says on the channel if the program cannot be executed."""
    return encode({"type": "failed", **failure.to_document()}).encode()
