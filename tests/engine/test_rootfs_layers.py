"""Roots made of layers: many of them, with names of any kind, on new kernels and old ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.errors import KernelRefused, Unsupported
from engine.runtime.kernel import mounting as m
from engine.runtime.kernel.calls import error
from engine.runtime.kernel.paths import Stub
from engine.runtime.kernel.processes import CLONE_NEWNS, unshare
from engine.runtime.rootfs.execute import Rootfs
from engine.runtime.rootfs.layers import overlay_by_numbers, root_overlay
from engine.runtime.rootfs.model import RootOverlay
from engine.runtime.rootfs.stubs import remove_stubs
from tests.engine.rootfs_driver import (
    DEFAULT_MOUNTS,
    DEV,
    NEW,
    PROC,
    contained,
    container,
    entry,
    facts,
    in_child,
    mounted,
)

pytestmark = pytest.mark.usefixtures("host_mounts_stay")
USER = 1000


def layers(bundle: Path, names: list[str], **fields: Any) -> RootOverlay:
    """An overlay of layers called `names`, the first on top; each has a file of its number and
    its own version of `which`."""
    lower = []
    for number, name in enumerate(names):
        path = os.fsencode(bundle) + b"/" + os.fsencode(name)
        os.makedirs(path + b"/d")
        for file in (b"which", b"d/%d" % number):
            with open(path + b"/" + file, "wb") as out:
                out.write(b"%d" % number)
        lower.append(path)
    for name in ("upper", "work"):
        (bundle / name).mkdir()
    return RootOverlay(
        lower=tuple(lower),
        upper=os.fsencode(bundle / "upper"),
        work=os.fsencode(bundle / "work"),
        **fields,
    )


def look(_: Rootfs) -> Any:
    with open("/written", "w") as file:
        file.write("x")
    os.unlink("/which")
    return [len(os.listdir("/d")), mounted("/")["type"], mounted("/")["flags"]]


def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel before 6.5, which does not know lowerdir+."""
    known: Callable[[int, bytes, bytes], None] = m.fsconfig_string

    def refuse(fd: int, key: bytes, value: bytes) -> None:
        if key == b"lowerdir+":
            raise error(22)
        known(fd, key, value)

    monkeypatch.setattr(m, "fsconfig_string", refuse)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("count", [1, 2, 130])
def test_f16_a_root_of_many_layers(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, count: int, old: bool
) -> None:
    if old:
        old_kernel(monkeypatch)
    overlay = layers(bundle, [f"layer-{'x' * 40}-{n}" for n in range(count)], volatile=True)
    seen = contained(container((PROC, DEV)), facts(bundle, overlay=overlay), look)
    assert seen[:2] == [count, ["overlay"]]
    assert "nodev" in seen[2]
    assert (bundle / "upper/written").read_text() == "x"


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "name",
    ["a:b,c=d", "back\\slash\\:", "new\nline", "\udcff\udcfe", "l" * 200 + "/" + "m" * 200, " "],
)
def test_f16_layers_with_names_of_any_bytes(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str, old: bool
) -> None:
    if old:
        old_kernel(monkeypatch)
    overlay = layers(bundle, [name + "/1", name + "/2"])
    upper, work = (os.fsencode(bundle) + b"/" + os.fsencode(name) + b"/" + x for x in (b"u", b"w"))
    os.mkdir(upper)
    os.mkdir(work)
    overlay = overlay.with_values(upper=upper, work=work)
    seen = contained(container((PROC, DEV)), facts(bundle, overlay=overlay), look)
    assert seen[0] == 2
    assert sorted(os.listdir(upper)) == [b"dev", b"proc", b"which", b"written"]


def test_a_root_of_layers_alone_cannot_be_written(bundle: Path) -> None:
    overlay = layers(bundle, ["one", "two"]).with_values(upper=b"", work=b"")
    config = container((entry("/d", "tmpfs"), entry("/x", "tmpfs")))
    with pytest.raises(KernelRefused, match="make the mount point /x: read-only") as caught:
        contained(config, facts(bundle, overlay=overlay), look)
    assert "does not exist" in caught.value.hint


def test_f16_too_many_layers(bundle: Path) -> None:
    overlay = RootOverlay(lower=(os.fsencode(bundle),) * 501)
    with pytest.raises(Unsupported, match="501 layers"):
        root_overlay(overlay, own_namespace=False)
    with pytest.raises(Unsupported, match="at least one"):
        root_overlay(RootOverlay(lower=()), own_namespace=False)


def test_an_old_kernel_cannot_prepare_layers_for_others(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_kernel(monkeypatch)
    with pytest.raises(Unsupported, match=r"needs Linux 6\.5"):
        root_overlay(RootOverlay(lower=(os.fsencode(bundle),)), own_namespace=False)


def test_a_missing_layer_is_named(bundle: Path) -> None:
    missing = os.fsencode(bundle / "missing")
    with pytest.raises(KernelRefused, match="missing"):
        root_overlay(RootOverlay(lower=(missing,)), own_namespace=False)

    def by_numbers() -> None:
        unshare(CLONE_NEWNS)
        overlay_by_numbers(RootOverlay(lower=(missing,)))

    with pytest.raises(KernelRefused, match=r"open the layer .*missing: no such file"):
        in_child(by_numbers)


@pytest.mark.parametrize("old", [False, True])
def test_an_overlay_in_a_user_namespace(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    if old:
        old_kernel(monkeypatch)
    overlay = layers(bundle, ["one", "two"], userxattr=True)
    for directory, names, files in os.walk(bundle):
        for name in ("", *names, *files):
            os.chown(os.path.join(directory, name), USER, USER)

    def look_deeper(rootfs: Rootfs) -> Any:
        os.unlink("/d/0")
        os.unlink("/d/1")
        os.rmdir("/d")
        # Without marks that a user may set this fails.
        os.mkdir("/d")
        return [os.listdir("/d"), *look(rootfs)]

    user = facts(
        bundle,
        overlay=overlay,
        new_namespaces=(*NEW, "user"),
        in_user_namespace=True,
        tty_group_mapped=False,
    )
    seen = contained(container((PROC, DEV)), user, look_deeper, uid=USER)
    assert seen[:2] == [[], 0]


def test_f6_stubs_are_removed_from_the_upper_directory(bundle: Path) -> None:
    """What is left of a step is what it wrote, not what was needed to run it."""
    overlay = layers(bundle, ["one"])
    (bundle / "hosts").write_text("x")
    mounts = (*DEFAULT_MOUNTS, entry("/etc/hosts", "bind", "hosts"), entry("/d/deep/er", "tmpfs"))
    upper = bundle / "upper"
    os.utime(upper, ns=(10**18, 10**18))

    stubs = []

    def look_and_tell(rootfs: Rootfs) -> Any:
        os.mkdir("/etc/own")
        return [{name: getattr(s, name) for name in s._fields} for s in rootfs.stubs]

    def encode(rootfs: Rootfs) -> Any:
        return [
            {k: v.decode() if isinstance(v, bytes) else v for k, v in stub.items()}
            for stub in look_and_tell(rootfs)
        ]

    for fields in contained(container(mounts), facts(bundle, overlay=overlay), encode):
        fields["path"] = fields["path"].encode()
        fields["parent_times"] = tuple(fields["parent_times"])
        stubs.append(Stub(**fields))
    root = os.open(upper, os.O_PATH | os.O_DIRECTORY)
    remove_stubs(root, tuple(stubs))
    os.close(root)
    assert sorted(str(p.relative_to(upper)) for p in upper.rglob("*")) == ["d", "etc", "etc/own"]
