"""The container's init before it becomes the program: it builds the container around itself.

It runs in the new namespaces, first in the host's root, then in the container's. Whatever
could be looked up, imported or decided has been before it was cloned: from the moment it
enters the container's root, files of the image could be taken for parts of this interpreter
(the class of CVE-2019-14271), so imports are switched off and no traceback is ever printed.
"""

from __future__ import annotations

import os

from engine.runtime.cgroups.manage import Entry, close_entry, enter
from engine.runtime.container.becoming import Becoming, lock_imports
from engine.runtime.container.channel import Channel
from engine.runtime.container.gate import wait_at
from engine.runtime.container.plan import ContainerPlan
from engine.runtime.container.stage import become_root
from engine.runtime.errors import Failure, KernelRefused, WrongState, refused
from engine.runtime.jsontext import encode
from engine.runtime.kernel import processes
from engine.runtime.kernel.links import raise_link
from engine.runtime.process import attributes, command
from engine.runtime.process.hooks import run_hooks
from engine.runtime.record import Record
from engine.runtime.rootfs.chroot import ChrootPlan, ChrootRoot
from engine.runtime.rootfs.execute import Rootfs
from engine.runtime.rootfs.model import RootfsPlan
from engine.runtime.rootfs.sources import Sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn


class Inputs(Record):
    """What the init inherits.

    `gate_fd` is the socket to wait at, -1 to go on when the runtime says so. `state` is the
    container's state as hooks get it. `first_closed` is the first descriptor that the program
    does not get. `awaits_runtime` says that the runtime acts between mounts and the new root.
    `take_devices` sets up the network interfaces that the runtime has moved here.
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
    take_devices: Callable[[], object] | None = None


def run_init(inputs: Inputs, channel: Channel, new_user: bool) -> NoReturn:
    """Become the container's program; errors go to whoever listens at that time."""
    init = _Init(inputs, channel)
    try:
        init.settle(new_user)
        init.build()
        init.enter()
        init.wait()
        init.becoming.become(init.end, init.hooks)
    except Failure as e:
        init.end.fail(e)
    except OSError as e:
        init.end.fail(KernelRefused(f"container init: {os.strerror(e.errno or 0).lower()}"))
    except BaseException as e:  # noqa: BLE001
        # Nothing may be imported here any more, so not even a traceback can be made.
        init.end.fail(Failure(f"container init: {type(e).__name__}: {e}"))
    os._exit(1)


class _Init:
    """The steps in their order; `end` is where errors go now."""

    def __init__(self, inputs: Inputs, channel: Channel) -> None:
        self.inputs = inputs
        self.plan = inputs.plan
        self.channel = self.end = channel
        self.rootfs = make_root(inputs.plan.rootfs, inputs.sources)
        creator = inputs.creator_pidfd if inputs.plan.extras.die_with_creator else -1
        self.becoming = Becoming(inputs.plan.program, creator, inputs.first_closed)

    def settle(self, new_user: bool) -> None:
        """Wait for the id maps, enter the cgroup, leave the caller's session."""
        self._let_go()
        self.channel.expect("go")
        if new_user:
            become_root()
        if self.plan.extras.die_with_creator:
            processes.prctl(processes.PR_SET_PDEATHSIG, processes.SIGKILL)
        self.becoming.set_score(self._warn)
        if not self.plan.namespaces.has_new("pid"):
            # Others than the host's processes may see this one from the beginning.
            attributes.set_dumpable(False)
        cpus = self.plan.program.initial_cpus
        if cpus:
            attributes.set_affinity(cpus, "process.execCPUAffinity.initial")
        if self.inputs.entry is not None:
            enter(self.inputs.entry)
            close_entry(self.inputs.entry)
        try:
            os.setsid()
            if self.plan.namespaces.has_new("cgroup"):
                processes.unshare(processes.CLONE_NEWCGROUP)
        except OSError as e:
            raise refused("make a session and a cgroup namespace", e) from e
        if self.plan.namespaces.has_new("network"):
            try:
                raise_link()
            except OSError as e:
                raise refused("raise the loopback interface", e) from e
        if self.inputs.take_devices is not None:
            self.inputs.take_devices()

    def _let_go(self) -> None:
        """Close what the caller of the runtime had open, and what is the runtime's own: a
        container that waits for its start would keep it for as long."""
        inputs = self.inputs
        entry = inputs.entry
        processes.close_others(
            (
                *range(3, inputs.first_closed),
                *inputs.sources.mounts.values(),
                *inputs.sources.nodes.values(),
                *((entry.unified, *entry.tasks) if entry is not None else ()),
                inputs.gate_fd,
                inputs.console_fd,
                inputs.creator_pidfd,
                self.channel.fileno(),
            )
        )

    def build(self) -> None:
        """Mounts, devices, and the hooks that run before the root changes."""
        self.rootfs.take_root()
        self.rootfs.mount_all()
        self.rootfs.make_devices()
        stubs = [[_plain(getattr(s, name)) for name in s._fields] for s in self.rootfs.stubs]
        self.channel.send({"type": "mounted", "stubs": stubs})
        if self.inputs.awaits_runtime:
            self.channel.expect("go")
        hooks = self.plan.config.hooks
        if hooks.create_container:
            bundle = os.fsencode(self.inputs.state["bundle"])
            cwd = bundle if os.access(bundle, os.X_OK) else b"/"
            run_hooks(hooks.create_container, self._state("creating"), "createContainer", cwd)

    def enter(self) -> None:
        """Everything that still needs the host's files; then the container's root."""
        keyring = b"_ses." + os.fsencode(self.inputs.state["id"])
        self.becoming.prepare(keyring, self._warn, self.rootfs.root_fd)
        if self.plan.program.process.terminal:
            self.becoming.open_terminal(
                self.rootfs.terminal_fd, self.inputs.console_fd, self.rootfs.bind_console
            )
        command.make_cwd(self.rootfs.root_fd, self.becoming.cwd)
        # From here on processes of the container may see this one; it runs the host's
        # interpreter and holds descriptors, which execve(2) replaces.
        attributes.set_dumpable(False)
        lock_imports()
        self.rootfs.enter()
        self.rootfs.finish()
        self.becoming.take_user()

    def _warn(self, text: str) -> None:
        self.channel.send({"type": "warning", "message": text})

    def wait(self) -> None:
        """Say that all is ready; wait until the program shall run."""
        self.becoming.look()
        self.channel.send({"type": "ready"})
        if self.inputs.gate_fd >= 0:
            self.channel.close()
            self.end = wait_at(self.inputs.gate_fd)
        else:
            self.channel.expect("go")
        if not self.becoming.arguments:
            raise WrongState("the container has no process.args to run")

    def hooks(self) -> None:
        """The startContainer hooks, which are files of the container."""
        hooks = self.plan.config.hooks
        if hooks.start_container:
            run_hooks(hooks.start_container, self._state("created"), "startContainer")

    def _state(self, status: str) -> bytes:
        return encode({**self.inputs.state, "status": status, "pid": os.getpid()}).encode()


def make_root(plan: RootfsPlan, sources: Sources) -> Rootfs | ChrootRoot:
    """What makes the root that is planned."""
    return ChrootRoot(plan, sources) if isinstance(plan, ChrootPlan) else Rootfs(plan, sources)


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
