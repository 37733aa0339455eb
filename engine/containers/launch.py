"""One container, from a snapshot to its program: what the launcher is asked for, and how the
container's network is connected meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import field
from typing import Any

from engine.containers.assemble import OPENED, Setting, assemble
from engine.containers.chroot import adapted, furnished
from engine.containers.directory import network_files, state_root
from engine.containers.engine import Engine
from engine.containers.limits import is_default
from engine.containers.options import ImageDefaults, RunOptions
from engine.containers.security import SecurityPlan
from engine.emulation.filters import fake_filter, record_filter, user_filter
from engine.network.attach import attach
from engine.runtime.container.extras import Extras
from engine.runtime.kernel.paths import Stub
from engine.runtime.rootfs.model import RootOverlay
from engine.runtime.rootfs.stubs import remove_stubs
from engine.runtime.seccomp.cache import cached
from engine.runtime.seccomp.filter import Filter
from engine.runtime.zygote.client import Running
from engine.runtime.zygote.request import LaunchRequest
from engine.storage.drivers.base import opened
from engine.storage.drivers.mounts import is_mount_point
from engine.storage.options import RootMount, Snapshot
from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A container that is about to be launched. `mounts` are the detached mounts that the
    request speaks of. `spare` is a directory of its snapshot outside of the tree;
    `interruptible` is entered while its network is connected, which may take long."""

    setting: Setting
    document: dict[str, Any]
    request: LaunchRequest
    spare: str
    mounts: tuple[int, ...] = ()
    interruptible: Callable[[], AbstractContextManager[None]] = field(default=nullcontext)


def plan_launch(
    engine: Engine,
    options: RunOptions,
    defaults: ImageDefaults,
    setting: Setting,
    snapshot: Snapshot,
    directory: str,
    interruptible: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Launch:
    """Everything that the launcher is told. Raises InvalidInput."""
    document = assemble(defaults, options, setting)
    chroot = engine.choice.kind == "chroot"
    if chroot:
        document = adapted(document, setting)
    numbers = [n for n, mount in enumerate(document["mounts"]) if _is_opened(mount)]
    root = engine.store.snapshots.root_mount(snapshot)
    if root.path:
        document["root"]["path"] = root.path
    request = LaunchRequest(
        id=setting.container_id,
        state_root=state_root(engine.runroot),
        bundle=directory,
        rootless=engine.session.in_user_namespace or os.geteuid() != 0,
        no_pivot=engine.choice.root_change == "move",
        no_new_keyring=chroot,
        linked=setting.network.private and not setting.network.namespace,
        mounts=tuple(numbers),
        extras=Extras(
            overlay=None if root.path else overlay(root),
            profile=compiled_profile(setting.security, engine.cache),
            filters=_emulation(engine, setting),
            forgiving=is_default(options.limits),
            die_with_creator=True,
            chroot=chroot,
            own_user=setting.own_user,
        ),
    )
    return Launch(
        setting=setting,
        document=document,
        request=request,
        spare=snapshot.path,
        mounts=tuple(mount.fd for mount in options.mounts if mount.fd >= 0),
        interruptible=interruptible,
    )


def _is_opened(mount: dict[str, Any]) -> bool:
    return mount["type"] == "bind" and str(mount["source"]).startswith(OPENED)


def launch(
    engine: Engine,
    planned: Launch,
    stdio: tuple[int, int, int],
    undo: ExitStack,
    console_fd: int = -1,
) -> Running:
    """Begin the container; what has to be undone is in `undo`. Raises Failure."""
    setting = planned.setting
    if planned.request.extras.chroot:
        tree = planned.document["root"]["path"]
        undo.enter_context(furnished(tree, planned.spare, setting.files, engine.warn))

    def link(pid: int) -> None:
        directory = planned.request.bundle
        if setting.network.helper:
            directory = network_files(directory)
        with planned.interruptible():
            undo.callback(attach(setting.network, pid, directory).close)

    return undo.enter_context(
        engine.zygote.launch(
            planned.request,
            planned.document,
            stdio,
            console_fd=console_fd,
            mounts=planned.mounts,
            warn=engine.warn,
            link=link,
        )
    )


def remove_mount_points(engine: Engine, running: Running, snapshot: Snapshot) -> None:
    """Take the files and directories that were made as mount points out of a snapshot that is
    kept, unless the container has made something of them. Raises Failure, StorageError."""
    found = running.info.get("stubs") or ()
    if not found:
        return
    stubs = tuple(_stub(values) for values in found)
    with _own_files(engine, snapshot) as fd:
        if engine.later is None:
            remove_stubs(fd, stubs)
            return
        workspace = engine.store.layers.disk.workspace
        with workspace.directory(later=True) as path, opened(path) as aside:
            remove_stubs(fd, stubs, aside)


@contextmanager
def _own_files(engine: Engine, snapshot: Snapshot) -> Iterator[int]:
    """The directory where the snapshot's own files are changed: that of an overlay which others
    have mounted, whose directories must not be changed beneath it, is the mount."""
    place = engine.store.snapshots.mount_point(snapshot)
    if not is_mount_point(place):
        with engine.store.snapshots.written(snapshot) as fd:
            yield fd
        return
    with opened(place) as fd:
        yield fd


def _stub(values: list[Any]) -> Stub:
    path, *others, times = values
    fields = dict(zip(Stub._fields, (bytes.fromhex(path), *others, tuple(times)), strict=True))
    return Stub(**fields)


def overlay(root: RootMount) -> RootOverlay:
    """The same root in the runtime's words."""
    return RootOverlay(
        lower=tuple(os.fsencode(path) for path in root.lower),
        upper=os.fsencode(root.upper),
        work=os.fsencode(root.work),
        userxattr=root.userxattr,
        volatile=root.volatile,
    )


def compiled_profile(security: SecurityPlan, cache: str | None) -> Filter | None:
    """The filter of a container's seccomp profile; kept in `cache`, because compiling takes as
    long as launching."""
    profile = security.seccomp
    if profile is None:
        return None
    machine = os.uname().machine
    if cache is None:
        from engine.runtime.seccomp.compiler import compile_profile

        return compile_profile(profile, machine)
    if not os.path.isdir(cache):
        with suppress(OSError):
            # Without it compiling takes its time again, but works.
            os.makedirs(cache, 0o700)
    return cached(cache, profile, machine)


def _emulation(engine: Engine, setting: Setting) -> tuple[Filter, ...]:
    """What answers for the ids that do not exist here."""
    machine = os.uname().machine
    sets = setting.security.capabilities
    effective = sets["effective" if setting.own_user else "bounding"]
    nodes = "CAP_MKNOD" in effective
    # Of whoever may not change ids, the kernel itself refuses what has to be refused.
    user = setting.own_user and not {"CAP_SETUID", "CAP_SETGID"} <= set(effective)
    match engine.choice.emulation if setting.single else "":
        case "notify":
            return ((user_filter if user else record_filter)(machine, nodes=nodes),)
        case "errno" if not user:
            return (fake_filter(machine, nodes=nodes),)
    return ()
