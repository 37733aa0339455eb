"""Trees of steps that become layers: renamed into place they are what unpacking them makes, on
disk, in the table of owners, and as the tar that comes back."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.storage.adopt import adopt_snapshot
from engine.storage.locks import Held, Locks
from engine.storage.options import DiffOptions, Emulated, Owner, Ownership, Snapshot
from engine.storage.parts import record_path
from engine.storage.tar_replay import Replay
from imgtools.blob.tar import EntryType
from imgtools.build.protocols import CommitOptions
from imgtools.errors import InvalidInput
from imgtools.spec.digest import Digest
from imgtools.task import Task
from tests.engine.builds_rig import Build, build_of
from tests.engine.layer_tools import (
    DRIVERS,
    Store,
    archive,
    directory,
    entries,
    file,
    members,
    other,
    working_directory,
)
from tests.engine.test_storage_diff import BASE, SECOND, SHOWN, changed, shell

ZOO = """
mkdir -p deep/er/est; echo >deep/er/est/file; touch -d @1.5 deep/er/est
echo suid >suid; chown 1:2 suid; chmod 6755 suid
truncate -s 100000 sparse; echo >>sparse
mkfifo -m 622 fifo; mknod -m 606 device b 7 3; ln -s nowhere link; touch -h -d @7.5 link
chmod 600 etc/group; chown 5 etc/passwd; echo >>pair/a; rm -r usr/lib; ln -s bin usr/lib
echo old >old; touch -d '1965-01-01 00:00:00.5' old; mv one uno; ln etc/shadow shade
"""


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Iterator[Path]:
    with working_directory(tmp_path) as path:
        yield path


def adopted(
    store: Store, snapshot: Snapshot, root: Path, options: DiffOptions | None = None
) -> Digest | None:
    """The layer that the snapshot has become, None if it could not."""
    locks = Locks(str(root / "locks"))

    def lock(chain_id: Digest) -> Held:
        return locks.shared("layer", chain_id.hex, task=Task())

    done = adopt_snapshot(store.snapshots, snapshot, options or DiffOptions(), lock)
    if done is None:
        return None
    done.held.close()
    return done.layer.chain_id


def tar_of(store: Store, chain_id: Digest) -> bytes:
    """The tar of an adopted layer, by its record and its own directory."""
    layer = store.layers.get(chain_id)
    tar = Replay(record_path(layer), store.layers.lower((chain_id,))[0])
    found = b""
    while data := tar.read(1 << 20):
        found += data
    tar.close()
    return found


def same_as_applied(
    root: Path,
    driver: str,
    change: Callable[[str], object],
    options: DiffOptions | None = None,
    **more: object,
) -> bytes:
    """Assert that a snapshot that was changed becomes the same layer by both ways; its tar."""
    options = options or DiffOptions()
    store, twin = (Store(root / name / driver, driver, **more) for name in ("one", "two"))
    snapshot = changed(store, change)
    out: list[bytes] = []
    store.snapshots.diff(snapshot, out.append, options)
    tar = b"".join(out)
    twin.stack(BASE, SECOND)
    layer = twin.layers.apply(snapshot.chain_id, Digest.of(tar), io.BytesIO(tar))
    chain_id = adopted(store, snapshot, root, options)
    assert chain_id == layer.chain_id
    found = store.layers.get(chain_id)
    assert (found.size, found.entries, found.parent, found.stack) == (
        layer.size, layer.entries, layer.parent, layer.stack,
    )  # fmt: skip
    assert store.tree(chain_id) == twin.tree(chain_id)
    owners = [dict(each.layers.owners(chain_id).items()) for each in (store, twin)]
    assert owners[0] == owners[1]
    assert tar_of(store, chain_id) == tar
    assert store.left_over() == []
    on_top = store.snapshots.prepare(chain_id, "next")
    assert members(store.diff(on_top)) == []
    return tar


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("script", [v[0] for v in SHOWN.values()], ids=SHOWN.keys())
def test_e78_adopted_is_what_would_be_unpacked(root: Path, driver: str, script: str) -> None:
    same_as_applied(root, driver, shell(script))


@pytest.mark.parametrize("driver", DRIVERS)
def test_e79_a_zoo_becomes_the_same_layer_both_ways(root: Path, driver: str) -> None:
    def change(path: str) -> None:
        shell(ZOO)(path)
        os.setxattr(f"{path}/suid", "user.a", b"\0")
        os.mkdir(os.fsencode(path) + b"/\xff\n")

    found = entries(same_as_applied(root, driver, change))
    assert found["fifo"].type is EntryType.FIFO
    assert found["suid"].mode == 0o6755
    assert found["old"].mtime == -157766400


@pytest.mark.parametrize("driver", DRIVERS)
def test_times_that_are_asked_for_are_on_disk_too(root: Path, driver: str) -> None:
    for number, options in enumerate((DiffOptions(mtime=50), DiffOptions(mtime_clamp=100))):
        same_as_applied(root / str(number), driver, shell(ZOO), options)


@pytest.mark.parametrize("driver", DRIVERS)
def test_recorded_owners_are_those_of_the_tar(root: Path, driver: str) -> None:
    """With a single id: owners of files that stay, of those that an emulation noted, and of
    files that are other ones now."""
    store = Store(root / "probe" / driver, driver, ownership=Ownership.RECORDED)
    snapshot = changed(store, shell("echo >mine; mkdir his; rm -r etc; mkdir etc; echo >etc/a"))
    with store.snapshots.written(snapshot) as fd:
        inodes = {name: os.stat(name, dir_fd=fd).st_ino for name in ("mine", "his", "etc/a")}
    noted = Emulated(
        device=0,
        by_inode={
            (0, inodes["mine"]): Owner(uid=5, gid=6, mode=0o104755, xattrs={"user.z": b"1"}),
            (0, inodes["his"]): Owner(uid=7, gid=8),
            (0, inodes["etc/a"]): Owner(uid=0, gid=0, mode=0o020666, rdev=(1, 3)),
        },
    )
    out: list[bytes] = []
    store.snapshots.diff(snapshot, out.append, DiffOptions(emulated=noted))
    tar = b"".join(out)
    assert entries(tar)["etc/a"].type is EntryType.CHAR
    chain_id = adopted(store, snapshot, root, DiffOptions(emulated=noted))
    assert chain_id is not None
    owners = dict(store.layers.owners(chain_id).items())
    assert {path: (each.uid, each.gid) for path, each in owners.items()} == {
        b"mine": (5, 6), b"his": (7, 8), b"etc/a": (0, 0),
    }  # fmt: skip
    assert tar_of(store, chain_id) == tar
    assert members(store.diff(store.snapshots.prepare(chain_id, "next"))) == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_a_layer_cannot_have_goes_through_a_tar(root: Path, driver: str) -> None:
    def change(path: str) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{path}/socket")

    store = Store(root / driver, driver)
    snapshot = changed(store, change)
    before = store.tree(snapshot)
    assert adopted(store, snapshot, root) is None
    assert store.tree(snapshot) == before
    assert adopted(store, snapshot, root, DiffOptions(exclude=lambda path: False)) is None


@pytest.fixture(name="build", params=DRIVERS, scope="module")
def _build(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Build]:
    with (
        working_directory(tmp_path_factory.mktemp("commit")) as path,
        build_of(path, request.param) as build,
    ):
        yield build


def edit(build: Build, on: Digest | None, change: Callable[[str], object], **more: object) -> bytes:
    """The tar of a layer of changes made from outside."""
    working = build.store.prepare(on, task=Task())
    fd = build.engine.store.snapshots.opened(working.token.snapshot)  # type: ignore[attr-defined]
    try:
        change(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    made = build.store.commit(working, CommitOptions(**more), task=Task())  # type: ignore[arg-type]
    assert made.empty is not bool(members(build.tar(made.chain_id)))
    assert build.store.has(made.chain_id)
    return build.tar(made.chain_id)


def test_commits_give_the_tar_back(build: Build) -> None:
    assert [name for name, _ in members(edit(build, build.base, shell("echo x >new")))] == ["new"]
    assert [name for name, _ in members(edit(build, None, shell("mkdir a; echo x >a/b")))] == [
        "./", "a/", "a/b",
    ]  # fmt: skip


def test_sockets_are_left_out_of_layers(build: Build) -> None:
    def change(path: str) -> None:
        Path(path, "kept").touch()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{path}/socket")

    tar = edit(build, build.base, change, exclude=(b"tmp",), mtime=5)
    assert [name for name, _ in members(tar)] == ["kept"]
    assert entries(tar)["kept"].mtime == 5


def test_e75_files_named_like_whiteouts_are_refused(build: Build) -> None:
    with pytest.raises(InvalidInput, match="whiteout"):
        edit(build, build.base, shell("echo >.wh.foo"))


def test_e76_nothing_changed_is_an_empty_layer(build: Build) -> None:
    tar = edit(build, build.base, shell("cat etc/passwd >/dev/null; ls -R . >/dev/null"))
    assert tar == archive()


def test_e77_a_file_rewritten_within_one_tick_is_seen(build: Build) -> None:
    base = build.layer(directory("d", mtime_ns=10**9), file("d/f", b"old", mtime_ns=10**9))

    def change(path: str) -> None:
        Path(path, "d/f").write_text("new")
        os.utime(f"{path}/d/f", (1, 1))

    assert "d/f" in entries(edit(build, base, change))


def test_e80_more_layers_than_one_overlay_takes(build: Build) -> None:
    """The two hundred and first stands on a whole copy, and steps go on to work on it."""
    top = build.layer(other("n", EntryType.DIR))
    for number in range(201):
        top = build.layer(file(f"n/{number}"), on=top)
    done = build.step("ls /n | wc -l; echo >/n/more", on=top)
    assert (done.code, done.text.strip(), done.paths) == (0, "201", ["n/", "n/more"])
    with build.store.tree(done.layer.chain_id) as tree:
        assert len(os.listdir(f"/proc/self/fd/{tree.fd}/n")) == 202
