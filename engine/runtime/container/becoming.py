"""A process of a container becomes its program: what is given up, in which order, and how the
caller hears of it. Used by the init and by what `exec` adds.

`prepare` is called while the host's files are in view, `become` in the container; in between
nothing may be imported.
"""

from __future__ import annotations

import os
import sys

from engine.runtime.container.channel import Channel
from engine.runtime.container.nesting import enter_own_user, join_own_user
from engine.runtime.container.program_plan import ProgramPlan
from engine.runtime.errors import Failure
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
    users,
)
from engine.runtime.seccomp.load import Loader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def lock_imports() -> None:
    """Make every further import fail: what would be found from now on is the image's."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


class Becoming:
    """One process on its way. `creator_pidfd` is that of the process whose end is to be its
    own too, or -1; `first_closed` the first descriptor that the program does not get."""

    def __init__(self, plan: ProgramPlan, creator_pidfd: int, first_closed: int) -> None:
        process = plan.process
        self.plan = plan
        self.arguments = tuple(os.fsencode(word) for word in process.args)
        self.cwd = os.fsencode(process.cwd)
        entries = [os.fsencode(entry) for entry in process.env]
        # The last of several with one name counts, as with runc; getenv(3) finds the first.
        named = {entry.partition(b"=")[0]: entry for entry in entries}
        self._environment = tuple(named.values())
        self._creator_pidfd = creator_pidfd
        self._first_closed = first_closed
        self._proc_fd = -1
        self._loaders: tuple[Loader, ...] = ()
        self._launch: trampoline.Launch | None = None
        self._credentials: credentials.CredentialPlan | None = None
        self._labelled = bool(plan.labels.apparmor or plan.labels.selinux)

    def set_score(self, warn: Callable[[str], object]) -> None:
        """Open the host's procfs and set the OOM score there: the first of all steps, since it
        is for who is still dumpable. Raises Failure; a warning goes to `warn`."""
        self._proc_fd = procfs.open_proc()
        score = self.plan.attributes.oom_score_adj
        if score is not None:
            warning = attributes.set_oom_score_adj(
                score, self._proc_fd, tolerate=self.plan.rootless
            )
            if warning:
                warn(warning)

    def prepare(
        self,
        keyring: bytes,
        warn: Callable[[str], object],
        root_fd: int,
        joined_pid: int | None = None,
    ) -> None:
        """Set what needs the host's privileges; lay out what is needed later.

        `root_fd` is the container's root. `joined_pid` is the process whose user namespace is
        joined after this, None if this one is where it stays. Raises Failure; warnings go to
        `warn`.
        """
        plan = self.plan
        allowed = credentials.setgroups_allowed(joined_pid)
        keep = () if allowed or joined_pid is not None else tuple(os.getgroups())
        self._credentials = credentials.plan_credentials(plan.process.user, allowed, keep)
        if not self._labelled and not plan.own_user:
            # Nothing of the host's is kept that is not needed any more.
            os.close(self._proc_fd)
            self._proc_fd = -1
        attributes.set_attributes(plan.attributes)
        if plan.keyring:
            warning = attributes.join_keyring(keyring)
            if warning:
                warn(warning)
        self._loaders = tuple(Loader(f) for f in plan.early_filters)
        if not any(entry.startswith(b"HOME=") for entry in self._environment):
            self._environment += (b"HOME=" + self._home(root_fd),)
        if self.arguments:
            self._launch = trampoline.prepare(
                self.arguments,
                self._environment,
                seccomp=plan.late_filter,
                report=_report,
                direct="an SELinux label is set" if plan.labels.selinux else "",
            )

    def _home(self, root_fd: int) -> bytes:
        """The user's home directory, "/" where the container's files do not tell."""
        try:
            return os.fsencode(users.home_of(root_fd, self.plan.process.user.uid))
        except Failure:
            return b"/"

    def open_terminal(
        self, root_fd: int, console_fd: int, bind: Callable[[int], None] | None
    ) -> None:
        """Give the process a terminal of the container's devpts; `bind` puts it on /dev/console."""
        pty = terminal.open_terminal(root_fd, self.plan.process.console_size)
        if bind is not None:
            bind(pty.slave)
        terminal.send_master(console_fd, pty.master)
        terminal.take_terminal(pty.slave)

    def take_user(self, namespace_fd: int = -1) -> None:
        """Become the program's user where it takes a user namespace of its own, which ends all
        rights over the container's other namespaces. `namespace_fd` is one that is there
        already, or -1. Raises Failure."""
        if not self.plan.own_user:
            return
        user = self.plan.process.user
        if namespace_fd < 0:
            enter_own_user(user.uid, user.gid, self._proc_fd)
        else:
            join_own_user(user.uid, user.gid, namespace_fd)
        if not self._labelled:
            os.close(self._proc_fd)
            self._proc_fd = -1

    def look(self) -> None:
        """Raise what can be told about the program before it is its turn, with the rights of
        the container's root."""
        if self.arguments:
            command.enter_cwd(self.cwd, may_be_denied=True)
            command.find_program(self.arguments[0], command.search_path(self._environment))

    def become(self, end: Channel, hooks: Callable[[], None] | None = None) -> NoReturn:
        """Give up what the program may not have, and execute it. Raises Failure; what fails
        after this process is gone is written to `end`, which the program does not get.

        `hooks` runs those of the container's own files: with the program's rights, no more.
        """
        plan, process = self.plan, self.plan.process
        assert self._credentials is not None
        assert self._launch is not None
        labels.set_labels(plan.labels, self._proc_fd)
        stdio.give_stdio(
            self._credentials.uid, gid=self._credentials.gid, terminal=process.terminal
        )
        if plan.final_cpus:
            attributes.set_affinity(plan.final_cpus, "process.execCPUAffinity.final")
        entered = command.enter_cwd(self.cwd, may_be_denied=True)
        # What opens descriptors is done: RLIMIT_NOFILE may leave none.
        rlimits.set_rlimits(plan.rlimits)
        if not process.no_new_privileges:
            self._load_filters(end)
        capabilities.drop_bounding(plan.capabilities)
        signals.reset_signals()
        credentials.apply(self._credentials, plan.capabilities)
        # Where fs.suid_dumpable is set, the change of user has undone it.
        attributes.set_dumpable(False)
        if self._creator_pidfd >= 0:
            attributes.die_with_parent(self._creator_pidfd)
        if not entered:
            command.enter_cwd(self.cwd)
        program = command.find_program(self.arguments[0], command.search_path(self._environment))
        if process.no_new_privileges:
            attributes.set_no_new_privileges()
            self._load_filters(end)
        if hooks is not None:
            hooks()
        processes.close_on_exec(self._first_closed)
        trampoline.launch(self._launch, program, end.fileno())

    def _load_filters(self, end: Channel) -> None:
        for number, loader in enumerate(self._loaders):
            listener = loader.load()
            if listener is not None:
                end.send({"type": "listener", "number": number}, (listener,))
                os.close(listener)


def _report(failure: Failure) -> bytes:
    """What the trampoline says on the channel if the program cannot be executed."""
    return encode({"type": "failed", **failure.to_document()}).encode()
