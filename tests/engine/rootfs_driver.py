"""A container's init for tests of the root file system: namespaces, the steps of the plan, and
a look at the result from inside, without the rest of the runtime.

Everything dangerous happens in child processes with a mount namespace of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
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
from engine.runtime.rootfs.sources import open_sources
from engine.runtime.spec.model import Config, Mount, Root

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
    entered: Callable[[Rootfs], None] | None = None,
) -> Any:
    """What `look` sees in the container of `config`.

    `uid` is the user who makes it, with a user namespace of one id if `facts` name one, in
    which root is `map_to` (default: `uid`). `before` runs in the new namespaces before the
    first step, `prepare` between the devices and the way in, `entered` after that.
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
        return in_child(lambda: _init(Rootfs(plan, sources), look, before, prepare, entered))

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
    entered: Callable[[Rootfs], None] | None,
) -> Any:
    if before is not None:
        before()
    rootfs.take_root()
    rootfs.mount_all()
    rootfs.make_devices()
    if prepare is not None:
        prepare(rootfs)
    rootfs.enter()
    if entered is not None:
        entered(rootfs)
    rootfs.finish()
    return look(rootfs)


def mounted(point: str) -> dict[str, list[str]]:
    """What mountinfo says of the topmost mount at `point`: its type, flags, propagation and
    the options of its file system."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split() for line in file]
    line = [line for line in lines if line[4] == point][-1]
    dash = line.index("-")
    return {
        "type": [line[dash + 1]],
        "flags": line[5].split(","),
        "propagation": [tag.partition(":")[0] for tag in line[6:dash]],
        "super": line[dash + 3].split(","),
    }


def new_bundle() -> Iterator[Path]:
    """A directory that every user can reach, with an empty `rootfs` in it."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    (path / "rootfs").mkdir()
    yield path
    shutil.rmtree(path)


def unchanged_host() -> Iterator[None]:
    """For a fixture: nothing that is mounted in a container is ever seen on the host (n2)."""
    before = Path("/proc/self/mountinfo").read_bytes()
    yield
    assert Path("/proc/self/mountinfo").read_bytes() == before


def entry(destination: str, kind: str, source: str = "", *options: str, **more: Any) -> Mount:
    """One of `mounts`; the source of a file system is its type where none is given."""
    return Mount(destination=destination, type=kind, source=source or kind, options=options, **more)


PROC = entry("/proc", "proc")
DEV = entry("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k")
DEFAULT_MOUNTS = (
    PROC,
    DEV,
    entry(
        "/dev/pts",
        "devpts",
        "devpts",
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ),
    entry("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
    entry("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
    entry("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
)


def container(mounts: tuple[Mount, ...] = (PROC,), **fields: Any) -> Config:
    """A config.json with `mounts`; the root is `rootfs` of the bundle."""
    fields.setdefault("root", Root(path="rootfs"))
    return Config(oci_version="1.2.0", mounts=mounts, **fields)


def facts(bundle: Path, **fields: Any) -> RootfsFacts:
    """Facts of a container with new namespaces of all kinds but user."""
    fields.setdefault("new_namespaces", NEW)
    return RootfsFacts(bundle=os.fsencode(bundle), **fields)
