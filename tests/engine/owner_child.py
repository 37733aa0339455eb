"""Run by tests of ownership: a store made and used under other ids, its answers as JSON.

Everything is imported while the process may still read it. Arguments: directory, mode ("user
UID" drops all privileges, "namespace" waits on stdin until its ids are mapped), options.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from pathlib import Path

import imgtools.blob.tar.pack
import imgtools.blob.tar.unpack  # noqa: F401
from engine.runtime.kernel import processes
from engine.storage.options import Emulated, Owner
from imgtools.blob.tar import EntryType
from imgtools.errors import Error
from imgtools.spec.digest import Digest
from tests.engine.layer_tools import Store, archive, directory, entries, file, other, whiteout

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
LAYERS = [
    archive(
        directory("etc"),
        file("etc/shadow", b"secret", 0o640, gid=42),
        file("etc/closed", b"x", 0o000),
        directory("locked", 0o500),
        file("locked/x", b"x", 0o400),
        directory("mail", 0o2775, gid=8),
        file("bin/su", b"su", 0o4755),
        file("bin/ping", b"ping", uid=5, xattrs={"security.capability": CAPABILITY}),
        other("dev/null", EntryType.CHAR, 0o666, devmajor=1, devminor=3),
        directory("gone", uid=9),
        file("gone/x", uid=9),
    ),
    archive(file("mail/box", b"", uid=1, gid=8), file("locked/y", b"y"), whiteout("gone")),
]


def enter(mode: str) -> None:
    if mode.startswith("user"):
        uid = int(mode.split()[1])
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    elif mode == "namespace":
        processes.unshare(processes.CLONE_NEWUSER)
        print("unshared", flush=True)
        sys.stdin.readline()
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)


def used(root: Path, **more: object) -> dict[str, object]:
    """Make the layers, change a snapshot, and describe both."""
    store = Store(root, **more)  # type: ignore[arg-type]
    chain_id = store.stack(*LAYERS)
    answer: dict[str, object] = {
        "driver": store.disk.driver.name,
        "userxattr": store.disk.driver.userxattr,
        "ownership": store.disk.ownership.value,
        "owners": sorted(path.decode() for path, _ in store.layers.owners(chain_id).items()),
    }
    snapshot = store.snapshots.prepare(chain_id, "one")
    assert not entries(store.diff(snapshot))
    by_inode = {}
    with store.inside(snapshot) as path:
        Path(path, "mail/new").write_text("x")
        with open(f"{path}/etc/shadow", "a") as shadow:
            shadow.write("x")
        os.utime(f"{path}/dev/null")
        os.utime(f"{path}/bin/ping")
        os.chmod(f"{path}/locked", 0o700)
        os.unlink(f"{path}/locked/x")
        Path(path, "chowned").write_text("x")
        st = os.stat(f"{path}/chowned")
        by_inode[st.st_dev, st.st_ino] = Owner(uid=1000, gid=1001)
        by_inode[st.st_dev + 1, os.stat(f"{path}/mail/new").st_ino] = Owner(uid=6, gid=6)
    tar = store.diff(snapshot, mtime=1, emulated=Emulated(device=st.st_dev, by_inode=by_inode))
    answer["diff"] = {
        name: [e.type.value, oct(e.mode), e.uid, e.gid, e.devmajor, e.devminor, sorted(e.xattrs)]
        for name, e in entries(tar).items()
    }
    answer["tar"] = base64.b64encode(tar).decode()
    store.snapshots.remove("one")
    for layer in sorted(store.layers.list(), key=lambda found: -len(found.stack)):
        if layer.chain_id == chain_id:
            store.layers.remove(chain_id)
    answer["left"] = store.left_over()
    return answer


def refused(root: Path) -> str:
    store = Store(root)
    tar = archive(file("x", uid=5000))
    try:
        store.layers.apply(None, Digest.of(tar), io.BytesIO(tar))
    except Error as e:
        return f"{e.message} / {e.hint}"
    return ""


def main() -> None:
    root, mode, task = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    enter(mode)
    if task == "refused":
        print(json.dumps([refused(root / "r"), used(root / "i", ignore_chown_errors=True)]))
    else:
        print(json.dumps([used(root / driver, driver=driver) for driver in task.split()]))


if __name__ == "__main__":
    main()
