"""Trials inside the isolation that was chosen: other namespaces, procfs, sysfs, devices, mounts
by descriptor, id-mapped mounts. Each runs in a child of its own."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from engine.probe.attempt import Refused, Trial, step
from engine.probe.isolation import mount_point, private_mounts
from engine.runtime.container.nesting import enter_own_user
from engine.runtime.kernel.calls import syscall
from engine.runtime.kernel.links import link_is_up, raise_link
from engine.runtime.kernel.mountinfo import survey_mounts
from engine.runtime.kernel.mounting import (
    AT_FDCWD,
    MOUNT_ATTR_IDMAP,
    MS_BIND,
    MS_REC,
    OPEN_TREE_CLONE,
    fsconfig_create,
    fsmount,
    fsopen,
    mount,
    mount_setattr,
    open_tree,
)
from engine.runtime.kernel.paths import O_PATH, open_in_root
from engine.runtime.kernel.processes import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    join_session_keyring,
    sethostname,
    setns,
    unshare,
)
from engine.runtime.process.procfs import open_proc

SIMPLE = {
    "ipc-namespace": ("CLONE_NEWIPC", CLONE_NEWIPC),
    "cgroup-namespace": ("CLONE_NEWCGROUP", CLONE_NEWCGROUP),
    "time-namespace": ("CLONE_NEWTIME", CLONE_NEWTIME),
}


def namespace_trials(storage: str) -> list[Trial]:
    """The trials; `storage` is a directory for the ones that depend on a file system."""
    simple: list[Trial] = [(name, _unsharing(*flag)) for name, flag in SIMPLE.items()]
    return [
        ("pid-namespace", try_pid_namespace),
        ("proc", try_proc),
        ("proc-bind", try_proc_bind),
        ("network-namespace", try_network_namespace),
        ("sysfs", try_sysfs),
        ("uts-namespace", try_uts_namespace),
        *simple,
        ("join-namespaces", try_join),
        ("devpts", try_devpts),
        ("mqueue", try_mqueue),
        ("device-nodes", try_device_nodes),
        ("mount-api", try_mount_api),
        ("openat2", try_openat2),
        ("idmapped-mounts-storage", lambda: try_idmapped(os.fsencode(storage))),
        ("idmapped-mounts-tmpfs", try_idmapped_tmpfs),
        ("session-keyring", try_keyring),
        ("nested-user-namespace", try_own_user),
    ]


def _unsharing(name: str, flag: int) -> Callable[[], str]:
    def trial() -> str:
        with step(f"unshare({name})"):
            unshare(flag)
        return ""

    return trial


def try_pid_namespace() -> str:
    """A PID namespace with a process in it."""
    with step("unshare(CLONE_NEWPID)"):
        unshare(CLONE_NEWPID)
    _in_new_pid(lambda: 0 if os.getpid() == 1 else errno.EINVAL, "a process in it")
    return ""


def _in_new_pid(work: Callable[[], int], what: str) -> None:
    """Run `work` in a fork; it returns an errno, 0 for none."""
    pid = os.fork()
    if pid == 0:
        code = errno.EIO
        try:
            code = work()
        except OSError as e:
            code = e.errno or errno.EIO
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise Refused(what, code if code > 0 else errno.EIO)


def try_proc() -> str:
    """A fresh procfs in a new PID namespace."""
    private_mounts()
    masks = masked_proc(mount_points())
    with step("unshare(CLONE_NEWPID)"):
        unshare(CLONE_NEWPID)
    target = mount_point()

    def mounting() -> int:
        mount(b"proc", target, b"proc", 0, None)
        return 0

    try:
        _in_new_pid(mounting, "mount proc")
    except Refused as e:
        if e.number != errno.EPERM or not masks:
            raise
        raise Refused(
            e.step,
            e.number,
            why=f"mount proc: EPERM: the kernel admits a new procfs only where one is fully "
            f"visible, and {len(masks)} mounts hide parts of /proc, such as {masks[0]}",
            remedy="--security-opt unmask=ALL, or procMount: Unmasked in the pod's "
            "securityContext; without it containers see the host's /proc",
        ) from e
    return ""


def masked_proc(mount_points: list[str]) -> list[str]:
    """The mounts below /proc, which hide what is there."""
    return sorted({path for path in mount_points if path.startswith("/proc/")})


def mount_points() -> list[str]:
    """The mount points of this mount namespace."""
    return [os.fsdecode(entry.point) for entry in survey_mounts()]


def try_proc_bind() -> str:
    """The procfs that is there, with what is mounted in it."""
    private_mounts()
    with step("mount --rbind /proc"):
        mount(b"/proc", mount_point(), None, MS_BIND | MS_REC, None)
    return ""


def try_network_namespace() -> str:
    """A network namespace with its loopback up."""
    with step("unshare(CLONE_NEWNET)"):
        unshare(CLONE_NEWNET)
    with step("ioctl(SIOCSIFFLAGS)"):
        raise_link()
        if not link_is_up():
            raise Refused("ioctl(SIOCSIFFLAGS)", errno.EINVAL)
    return ""


def try_sysfs() -> str:
    """A fresh sysfs, which needs a network namespace of one's own."""
    private_mounts()
    with step("unshare(CLONE_NEWNET)"):
        unshare(CLONE_NEWNET)
    with step("mount sysfs"):
        mount(b"sysfs", mount_point(), b"sysfs", 0, None)
    return ""


def try_uts_namespace() -> str:
    """A host name of one's own."""
    with step("unshare(CLONE_NEWUTS)"):
        unshare(CLONE_NEWUTS)
    with step("sethostname"):
        sethostname(b"probe")
    return ""


def try_join() -> str:
    """setns(2), with which running containers are entered; the target is a namespace of ours,
    as those of containers are."""
    with step("unshare(CLONE_NEWUTS)"):
        unshare(CLONE_NEWUTS)
        fd = os.open("/proc/self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
        unshare(CLONE_NEWUTS)
    with step("setns", remedy="a seccomp profile that admits setns without CAP_SYS_ADMIN"):
        setns(fd, CLONE_NEWUTS)
    return ""


def try_devpts() -> str:
    """Terminals of the container's own."""
    private_mounts()
    with step("mount devpts"):
        mount(b"devpts", mount_point(), b"devpts", 0, b"newinstance,ptmxmode=0666,mode=0620")
    return ""


def try_mqueue() -> str:
    """POSIX message queues of the container's own."""
    private_mounts()
    with step("unshare(CLONE_NEWIPC)"):
        unshare(CLONE_NEWIPC)
    with step("mount mqueue"):
        mount(b"mqueue", mount_point(), b"mqueue", 0, None)
    return ""


def try_device_nodes() -> str:
    """mknod(2) of /dev/null; without it the host's devices are bound."""
    private_mounts()
    target = mount_point()
    with step("mount tmpfs"):
        mount(b"tmpfs", target, b"tmpfs", 0, b"mode=755")
    with step("mknod c 1 3"):
        os.mknod(target + b"/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    return ""


def try_mount_api() -> str:
    """fsopen(2), fsmount(2), open_tree(2) and move_mount(2): mounts by descriptor."""
    private_mounts()
    with step("fsopen"):
        configuration = fsopen(b"tmpfs")
    with step("fsconfig"):
        fsconfig_create(configuration)
    with step("fsmount"):
        fsmount(configuration)
    with step("open_tree"):
        open_tree(AT_FDCWD, b"/proc", OPEN_TREE_CLONE)
    return ""


def try_openat2() -> str:
    """openat2(2) with RESOLVE_IN_ROOT: without it no path of a hostile root is safe."""
    root = os.open("/", O_PATH | os.O_CLOEXEC)
    with step("openat2", remedy="Linux 5.6, and a seccomp profile that knows openat2"):
        os.close(open_in_root(root, b"/../../.."))
    return ""


def try_idmapped_tmpfs() -> str:
    """As `try_idmapped`, on a tmpfs."""
    private_mounts()
    target = mount_point()
    with step("mount tmpfs"):
        mount(b"tmpfs", target, b"tmpfs", 0, b"mode=755")
    return try_idmapped(target)


def try_idmapped(path: bytes) -> str:
    """An id-mapped mount (mount_setattr(2)) of the file system at `path`: owners shifted
    without changing a file."""
    private_mounts()
    namespace = _mapped_namespace()
    with step("open_tree"):
        tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE)
    with step("mount_setattr(MOUNT_ATTR_IDMAP)"):
        mount_setattr(tree, attr_set=MOUNT_ATTR_IDMAP, userns_fd=namespace)
    return ""


def _mapped_namespace() -> int:
    """A descriptor of a user namespace with a map of one id."""
    ready, telling = os.pipe()
    stay, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go)
            unshare(CLONE_NEWUSER)
            for name, text in (
                ("setgroups", b"deny"),
                ("gid_map", b"0 0 1"),
                ("uid_map", b"0 0 1"),
            ):
                fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
                os.write(fd, text)
            os.write(telling, b"1")
            os.read(stay, 1)
        finally:
            os._exit(0)
    os.close(telling)
    try:
        if not os.read(ready, 1):
            raise Refused("map ids in a user namespace", errno.EPERM)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(go)
        os.waitpid(pid, 0)


def try_keyring() -> str:
    """A session keyring of one's own; containers run without where there is none."""
    with step("keyctl(KEYCTL_JOIN_SESSION_KEYRING)"):
        join_session_keyring(b"imgtools-probe")
    return ""


def try_own_user() -> str:
    """A user namespace for a program that is not root, where there is a single id."""
    enter_own_user(1000, 1000, open_proc())
    return ""


def landlock_abi() -> int:
    """The version of Landlock that the kernel has; raises OSError."""
    return syscall(444, None, 0, 1)
