"""A container's root where no mount namespace may be made: entered by chroot(2), nothing mounted.

Weaker than all else: what else runs on the host can be seen and signalled, and there is no
procfs. Who prepares the tree puts into it what a program cannot do without; `ChrootRoot` takes
the same steps as `engine.runtime.rootfs.execute.Rootfs`, most of which are nothing here.
"""

from __future__ import annotations

import os
import stat

from engine.runtime.errors import InvalidConfig, Unsupported, refused
from engine.runtime.kernel.files import close_all
from engine.runtime.kernel.paths import O_PATH, Stub
from engine.runtime.rootfs.entry import require_kernel
from engine.runtime.rootfs.model import RootfsPlan, RootStep
from engine.runtime.rootfs.names import as_bytes, lexical, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.model import RootfsFacts
    from engine.runtime.rootfs.sources import Sources
    from engine.runtime.spec.model import Config, Mount

_HERE = O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# What a container has by default and can be started without.
_LEFT_OUT = ("proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2")
_EMPTY = (b"proc", b"sys")
_HINT = "it takes a mount namespace; imgtools info says why there is none"


class ChrootPlan(RootfsPlan):
    """The plan of such a root. `left_out` are the mounts that the container does without."""

    left_out: tuple[bytes, ...] = ()

    @property
    def warning(self) -> str:
        """What the container lacks, in words for people."""
        if not self.left_out:
            return ""
        names = ", ".join(shown(path) for path in self.left_out if lexical(path) != b"dev")
        return f"a container in a chroot shares the host's processes, and has no {names}"


def plan_chroot(config: Config, facts: RootfsFacts) -> ChrootPlan:
    """The plan of `config`; pure. Raises InvalidConfig, and Unsupported for what would have to
    be mounted."""
    linux = config.linux
    path = as_bytes(config.root.path, "root.path")
    if facts.overlay is not None or not path:
        raise Unsupported(
            "root: an overlay cannot be mounted without a mount namespace",
            hint="use the storage driver vfs",
        )
    if config.root.readonly:
        raise Unsupported("root.readonly cannot be had in a chroot", hint=_HINT)
    for field, value in (
        ("hostname", config.hostname),
        ("domainname", config.domainname),
        ("linux.sysctl", linux.sysctl),
        ("linux.devices", linux.devices),
        ("linux.rootfsPropagation", linux.rootfs_propagation),
        ("linux.mountLabel", linux.mount_label),
    ):
        if value:
            raise Unsupported(f"{field} cannot be set in a chroot", hint=_HINT)
    for hidden in (*linux.masked_paths, *linux.readonly_paths):
        if lexical(as_bytes(hidden, "linux.maskedPaths")).split(b"/", 1)[0] not in _EMPTY:
            raise Unsupported(f"{hidden} cannot be masked in a chroot", hint=_HINT)
    left_out = []
    for number, mount in enumerate(config.mounts):
        if not _is_left_out(mount):
            raise Unsupported(
                f"mounts[{number}] {mount.destination} cannot be made in a chroot", hint=_HINT
            )
        left_out.append(as_bytes(mount.destination, f"mounts[{number}].destination"))
    absolute = path if path.startswith(b"/") else facts.bundle.rstrip(b"/") + b"/" + path
    return ChrootPlan(root=RootStep(path=absolute), left_out=tuple(left_out))


def _is_left_out(mount: Mount) -> bool:
    if mount.type in _LEFT_OUT:
        return True
    first = lexical(as_bytes(mount.destination, "destination")).split(b"/", 1)[0]
    return mount.type == "tmpfs" and first == b"dev"


class ChrootRoot:
    """See `Rootfs`, whose place it takes."""

    def __init__(self, plan: ChrootPlan, sources: Sources) -> None:
        self.plan = plan
        self.sources = sources
        self.root_fd = self.terminal_fd = -1
        self.stubs: tuple[Stub, ...] = ()

    def take_root(self) -> None:
        """Open the root. Raises KernelRefused, InvalidConfig, Unsupported."""
        try:
            self.terminal_fd = os.open(b"/", _HERE)
            self.root_fd = os.open(self.plan.root.path, _HERE)
        except OSError as e:
            raise refused("open the root file system", e) from e
        require_kernel(self.terminal_fd)
        if not stat.S_ISDIR(os.fstat(self.root_fd).st_mode):
            raise InvalidConfig("root.path is not a directory")

    def mount_all(self) -> None:
        """Nothing: there are no mounts."""

    def make_devices(self) -> None:
        """Nothing: they are in the tree, if they are anywhere."""

    def bind_console(self, slave_fd: int) -> None:
        """Nothing: the terminal has no name in the container."""

    def enter(self) -> None:
        """Make the root "/" and the current directory. Raises KernelRefused."""
        try:
            os.fchdir(self.root_fd)
            os.chroot(b".")
            os.chdir(b"/")
        except OSError as e:
            raise refused("chroot", e) from e
        self.close()

    def finish(self) -> None:
        """Nothing is left to be done."""

    def close(self) -> None:
        """Close every descriptor; safe to call twice."""
        close_all((self.root_fd, self.terminal_fd))
        self.root_fd = self.terminal_fd = -1
        self.sources.close()
