"""Run as a program: runs something in a rootfs with one mapped id and an emulated root.

    emulated UID MODE ROOTFS NOTES KIND TEXT

MODE is "fake" or "record"; KIND "sh" runs TEXT by the rootfs' shell, "python" in this
interpreter, already inside. Prints as JSON the exit status and what was noted, by path.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import socket
import stat
import sys
import threading
import traceback
import types

from engine.emulation.births import born_at
from engine.emulation.filters import fake_filter, record_filter
from engine.emulation.notes import Notes
from engine.emulation.recorder import OwnershipRecorder
from engine.runtime.kernel import processes
from engine.runtime.seccomp.compiler import compile_profile
from engine.runtime.seccomp.default_profile import default_profile
from engine.runtime.seccomp.load import Loader
from engine.storage.options import Owner

LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000


def become(uid: int) -> None:
    """Be this user, dumpable so that its own files in /proc stay its own."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        processes.prctl(processes.PR_SET_DUMPABLE, 1)


def enter(rootfs: str) -> None:
    """A user namespace with one id, the rootfs as root, /proc below it."""
    uid, gid = os.getuid(), os.getgid()
    processes.unshare(processes.CLONE_NEWUSER | processes.CLONE_NEWNS)
    maps = (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1"))
    for name, text in maps:
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(fd, text.encode())
        os.close(fd)
    mount("none", "/", MS_SLAVE | MS_REC)
    lower = f"{rootfs}/../lower"
    if os.path.isdir(lower):
        stack(lower, rootfs)
    mount("/proc", f"{rootfs}/proc", MS_BIND | MS_REC)
    if os.path.isdir(f"{rootfs}/ro"):
        mount(f"{rootfs}/ro", f"{rootfs}/ro", MS_BIND)
        mount("none", f"{rootfs}/ro", MS_BIND | 0x20 | 0x1)
    os.chroot(rootfs)
    os.chdir("/")


def stack(lower: str, rootfs: str) -> None:
    """An overlay on `lower`, or `lower` itself where the kernel has none for users."""
    above = f"{rootfs}/.."
    options = f"lowerdir={lower},upperdir={above}/upper,workdir={above}/work,userxattr"
    if LIBC.mount(b"overlay", rootfs.encode(), b"overlay", ctypes.c_ulong(0), options.encode()):
        mount(lower, rootfs, MS_BIND)


def mount(source: str, target: str, flags: int) -> None:
    """mount(2) without type."""
    if LIBC.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def inside(end: socket.socket, mode: str, rootfs: str, kind: str, text: str) -> None:
    """The child: enters, loads the filters in their order, and runs; does not return."""
    machine = platform.machine()
    emulation = Loader((fake_filter if mode == "fake" else record_filter)(machine))
    profile = Loader(compile_profile(default_profile((), machine, (6, 18)), machine))
    try:
        enter(rootfs)
        processes.prctl(processes.PR_SET_NO_NEW_PRIVS, 1)
        listener = emulation.load()
        if listener is not None:
            socket.send_fds(end, [b"x"], [listener])
            os.close(listener)
        profile.load()
        end.close()
        if kind == "sh":
            os.execv("/bin/sh", ["sh", "-ec", text])
        exec(text, {"os": os, "errno": errno, "stat": stat, "fails": fails, "LIBC": LIBC})
    except BaseException:  # noqa: BLE001 - told to the test, which fails
        traceback.print_exc()
        os._exit(99)
    os._exit(0)


def fails(function: types.FunctionType, *args: object, **more: object) -> int:
    """The errno of a call that fails, 0 of one that does not."""
    try:
        function(*args, **more)
    except OSError as e:
        return e.errno or -1
    return 0


def described(rootfs: str, notes: Notes) -> dict[str, object]:
    """The notes by the path that their file has now."""
    births: dict[tuple[int, int], int] = {}
    paths: dict[tuple[int, int], str] = {}
    for directory, names, files in os.walk(rootfs):
        names[:] = [n for n in names if n != "proc"]
        for path in (directory, *(os.path.join(directory, n) for n in (*names, *files))):
            state = os.lstat(path)
            key = (state.st_dev, state.st_ino)
            paths[key] = os.path.relpath(path, rootfs)
            births[key] = born_at(path)
    return {
        paths[key]: [owner.uid, owner.gid, owner.mode, owner.rdev, _hex(owner)]
        for key, owner in notes.current(births.get).items()
    }


def _hex(owner: Owner) -> dict[str, str]:
    return {name: value.hex() for name, value in owner.xattrs.items()}


def main() -> None:
    """Run and report."""
    uid, mode, rootfs, path, kind, text = sys.argv[1:]
    become(int(uid))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        ours.close()
        inside(theirs, mode, rootfs, kind, text)
    theirs.close()
    notes = Notes(path)
    base = {b"below": Owner(uid=7, gid=8, xattrs={"security.x": b"1"})}
    recorder = thread = None
    if mode == "record":
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if fds:
            recorder = OwnershipRecorder(fds[0], notes, base.get)
            thread = threading.Thread(target=recorder.serve)
            thread.start()
    _, status = os.waitpid(pid, 0)
    if recorder is not None and thread is not None:
        thread.join(30)
        recorder.close()
    ours.close()
    inodes = {ino: [owner.uid, owner.gid] for (_, ino), owner in notes.by_inode().items()}
    report = {
        "status": os.waitstatus_to_exitcode(status),
        "notes": described(rootfs, notes),
        "inodes": inodes,
    }
    notes.close()
    sys.stdout.flush()
    os.write(1, b"\n" + json.dumps(report).encode())


if __name__ == "__main__":
    main()
