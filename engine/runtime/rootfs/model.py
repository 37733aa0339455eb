"""What the plan of a root file system says: records only, which can be printed and compared.

Paths are bytes. A destination is a path inside the container's root, a source one of the host.
"""

from __future__ import annotations

from engine.runtime.kernel.paths import Stub as Stub
from engine.runtime.record import Record
from engine.runtime.rootfs.names import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.cgroups.view import CgroupMounts
    from engine.runtime.spec.model import IdMapping


class RootOverlay(Record):
    """A root made of layers instead of `root.path`: `lower` is the top layer first.

    `upper` and `work` are empty for a root without a writable layer. `userxattr` is what an
    overlay in a user namespace needs for its own marks; `volatile` leaves out syncing.
    """

    lower: tuple[bytes, ...]
    upper: bytes = b""
    work: bytes = b""
    userxattr: bool = False
    volatile: bool = False
    nodev: bool = True


class RootfsFacts(Record):
    """What the plan depends on besides config.json.

    `bundle` is an absolute path. `new_namespaces` and `joined_namespaces` hold runtime-spec
    types; the rest is shared with the runtime. `in_user_namespace` says that the container's
    init is not root of the initial user namespace, whoever made the namespace;
    `parent_opens` that the runtime process has CAP_SYS_ADMIN over its mount namespace while
    the init, in a user namespace of its own, may not be able to reach the sources;
    `tty_group_mapped` that group 5 exists in the user namespace; `selinux` that the kernel
    enforces it, so that mounts can be labelled.
    """

    bundle: bytes
    new_namespaces: tuple[str, ...] = ()
    joined_namespaces: tuple[str, ...] = ()
    in_user_namespace: bool = False
    parent_opens: bool = False
    tty_group_mapped: bool = True
    cgroup: CgroupMounts | None = None
    overlay: RootOverlay | None = None
    no_pivot: bool = False
    selinux: bool = False


class MountOptions(Record):
    """`options` of a mount, sorted by what they do; attributes are MOUNT_ATTR_ bits.

    `propagation` holds (MS_ flag, recursive) in order. `flags` are options of the whole file
    system that have no value, `data` those that only its driver knows.
    """

    attr_set: int = 0
    attr_clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: tuple[tuple[int, bool], ...] = ()
    bind: bool = False
    recursive: bool = False
    remount: bool = False
    idmap: bool = False
    idmap_recursive: bool = False
    copy_up: bool = False
    copy_symlink: bool = False
    source_nofollow: bool = False
    destination_nofollow: bool = False
    flags: tuple[bytes, ...] = ()
    data: tuple[tuple[bytes, bytes | None], ...] = ()


BIND, FILESYSTEM, REMOUNT, PROPAGATION, CGROUP = (
    "bind",
    "file system",
    "remount",
    "propagation",
    "cgroup",
)


class MountStep(Record):
    """One mount. `number` is its place in config.json's `mounts`.

    `kind` is BIND (of `source`), FILESYSTEM (a new one of type `fstype`), REMOUNT, PROPAGATION
    (of what is there) or CGROUP (the view in `cgroup`). `fallback` is the host directory that
    is bound instead where the kernel does not let us make the file system, and `remedy` what
    to say where there is no fallback. `parent_opens`: the source is opened by the runtime
    process. `late_readonly`: made read-only only after everything below it is made. `ignored`
    are options that mean nothing for a mount of this kind.
    """

    number: int
    kind: str
    destination: bytes
    source: bytes = b""
    fstype: bytes = b""
    options: MountOptions = MountOptions()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    fallback: bytes = b""
    remedy: str = ""
    parent_opens: bool = False
    late_readonly: bool = False
    cgroup: CgroupMounts | None = None
    ignored: tuple[bytes, ...] = ()


class NodeStep(Record):
    """One device node. `type` is c, b or p; `bind`: a node of the host's is bound, since none
    can be made in a user namespace. That is the one of the same path, or with `owner` one that
    the runtime process makes for the container: `owner` is uid and gid as the host has them."""

    path: bytes
    type: str
    major: int = 0
    minor: int = 0
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    bind: bool = False
    parent_opens: bool = False
    owner: tuple[int, int] | None = None


class LinkStep(Record):
    """One symbolic link; `replace`: whatever file is there already goes. With `needs` it is
    made only where that name exists in the host's /proc."""

    path: bytes
    target: bytes
    replace: bool = False
    needs: bytes = b""


class RootStep(Record):
    """Where the root comes from: the directory `path`, or `overlay`.

    `propagation` is (MS_ flag, recursive) as `linux.rootfsPropagation` asks, None for the
    default, rslave. `in_place`: the root is mounted at `path`, where hooks look for it, instead
    of on top of the host's "/".
    """

    path: bytes
    overlay: RootOverlay | None = None
    propagation: tuple[int, bool] | None = None
    readonly: bool = False
    parent_opens: bool = False
    no_pivot: bool = False
    in_place: bool = False


class SysctlStep(Record):
    """One file below /proc/sys and what is written to it."""

    path: bytes
    value: bytes


class RootfsPlan(Record):
    """Everything that is done to the container's file system, in the order it is done."""

    root: RootStep
    mounts: tuple[MountStep, ...] = ()
    nodes: tuple[NodeStep, ...] = ()
    links: tuple[LinkStep, ...] = ()
    console: bool = False
    sysctls: tuple[SysctlStep, ...] = ()
    hostname: bytes = b""
    domainname: bytes = b""
    readonly_paths: tuple[bytes, ...] = ()
    masked_paths: tuple[bytes, ...] = ()

    @property
    def warning(self) -> str:
        """What of config.json has no effect, in words for people."""
        return "; ".join(
            f"mounts[{step.number}] {shown(step.destination)}: "
            f"{', '.join(map(shown, step.ignored))} has no effect on a bind mount"
            for step in self.mounts
            if step.ignored
        )
