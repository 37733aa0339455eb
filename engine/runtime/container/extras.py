"""What the engine asks of a container beyond config.json, which has no words for it."""

from __future__ import annotations

from engine.runtime.cgroups.model import CgroupHost
from engine.runtime.record import Record
from engine.runtime.rootfs.model import RootOverlay
from engine.runtime.seccomp.filter import Filter


class Extras(Record):
    """`overlay` is the root instead of root.path. `profile` is what
    linux.seccomp would compile to, instead of it. `filters` are loaded before it; a listener of
    theirs goes to whoever launches the container.
    `forgiving`: limits are defaults of ours, and what cannot be set becomes a warning.

    `die_with_creator`: the container is killed when the process that made it ends. `chroot`: a
    container without a mount namespace is wanted, whose root is entered by chroot(2).
    `own_user`: the program's user does not exist in the namespace that the container is made in,
    which has a single id; it gets one of its own (nesting.py).
    `sources` are detached mounts, as (number in `mounts`, descriptor), that are attached instead
    of a bind of the source that config.json names; whoever is given them closes them.
    `cgroups` is the host's side of cgroups where that is known already, `text` what config.json
    was read from.
    """

    overlay: RootOverlay | None = None
    filters: tuple[Filter, ...] = ()
    profile: Filter | None = None
    forgiving: bool = False
    die_with_creator: bool = False
    chroot: bool = False
    own_user: bool = False
    sources: tuple[tuple[int, int], ...] = ()
    cgroups: CgroupHost | None = None
    text: bytes = b""
