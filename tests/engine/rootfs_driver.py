"""A container's init for tests of the root file system: namespaces, the steps of the plan, and
a look at the result from inside, without the rest of the runtime.

Everything dangerous happens in child processes with a mount namespace of their own.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from engine.runtime.errors import Failure, from_document
from engine.runtime.kernel import processes
from engine.runtime.kernel.processes import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from engine.runtime.rootfs.execute import Rootfs
from engine.runtime.rootfs.model import RootfsFacts
from engine.runtime.rootfs.plan import plan_rootfs
from engine.runtime.rootfs.sources import Sources, open_sources
from engine.runtime.spec.model import Config

NEW = ("mount", "pid", "ipc", "uts", "network")
FLAGS = {
    "mount": CLONE_NEWNS,
    "pid": CLONE_NEWPID,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "network": CLONE_NEWNET,
    "user": CLONE_NEWUSER,
}
LIMIT_SECONDS = 60

Look = Callable[[Rootfs], Any]


def fork() -> int:
    """os.fork without the warning about threads: the child only makes system calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def in_child(work: Callable[[], Any]) -> Any:
    """The JSON-able result of `work`, done in a child process; its Failure is raised here."""
    receive, send = os.pipe()
    pid = fork()
    if pid == 0:
        os.close(receive)
        os._exit(_report(send, work))
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        text = pipe.read()
    status = os.waitpid(pid, 0)[1]
    assert text, f"the child ended with {status:#x} and said nothing"
    answer = json.loads(text)
    if "failure" in answer:
        raise from_document(answer["failure"])
    assert "value" in answer, answer["crash"]
    return answer["value"]


def _report(send: int, work: Callable[[], Any]) -> int:
    signal.alarm(LIMIT_SECONDS)
    try:
        answer = {"value": work()}
    except Failure as e:
        answer = {"failure": e.to_document()}
    except BaseException:  # noqa: BLE001 - whatever it is, the parent has to hear of it
        answer = {"crash": traceback.format_exc()}
    os.write(send, json.dumps(answer).encode("utf-8", "surrogateescape"))
    return 0


def contained(
    config: Config,
    facts: RootfsFacts,
    look: Look,
    *,
    uid: int = 0,
    map_to: int | None = None,
    before: Callable[[], None] | None = None,
    prepare: Callable[[Rootfs], None] | None = None,
) -> Any:
    """What `look` sees in the container of `config`.

    `uid` is the user who makes it, with a user namespace of one id if `facts` name one, in
    which root is `map_to` (default: `uid`). `before` runs in the new namespaces before the
    first step, `prepare` between the devices and the way in.
    """

    def stage() -> Any:
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            processes.prctl(processes.PR_SET_DUMPABLE, 1)
        plan = plan_rootfs(config, facts)
        sources = open_sources(plan)
        flags = 0
        for name in facts.new_namespaces:
            flags |= FLAGS[name]
        _enter_namespaces(flags, uid if map_to is None else map_to)
        return in_child(lambda: _init(Rootfs(plan, sources), look, before, prepare))

    return in_child(stage)


def _enter_namespaces(flags: int, host_id: int) -> None:
    if not flags & CLONE_NEWUSER:
        processes.unshare(flags)
        return
    me = os.getpid()
    ready, go = os.pipe()
    writer = fork()
    if writer == 0:
        os.close(go)
        os.read(ready, 1)
        for name, text in (
            ("setgroups", b"deny"),
            ("gid_map", b"0 %d 1" % host_id),
            ("uid_map", b"0 %d 1" % host_id),
        ):
            fd = os.open(f"/proc/{me}/{name}", os.O_WRONLY)
            os.write(fd, text)
        os._exit(0)
    os.close(ready)
    processes.unshare(flags)
    os.close(go)
    assert os.waitpid(writer, 0)[1] == 0
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _init(
    rootfs: Rootfs,
    look: Look,
    before: Callable[[], None] | None,
    prepare: Callable[[Rootfs], None] | None,
) -> Any:
    if before is not None:
        before()
    rootfs.take_root()
    rootfs.mount_all()
    rootfs.make_devices()
    if prepare is not None:
        prepare(rootfs)
    rootfs.enter()
    rootfs.finish()
    return look(rootfs)


def no_sources() -> Sources:
    """No source is opened by the parent."""
    return Sources({}, {})


def mounts_here() -> dict[str, str]:
    """Mount point to "type options" of this process's mounts; /proc has to be mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split() for line in file]
    return {line[4]: f"{line[line.index('-') + 1]} {line[5]}" for line in lines}
