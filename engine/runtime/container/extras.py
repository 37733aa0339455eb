"""What the engine asks of a container beyond config.json, which has no words for it."""

from __future__ import annotations

from engine.runtime.record import Record
from engine.runtime.rootfs.model import RootOverlay


class Filter(Record):
    """A further seccomp program, loaded after that of config.json; with `listener` its
    notifications go to whoever launches the container."""

    program: bytes
    listener: bool = False


class Extras(Record):
    """`overlay` is the root instead of root.path. `filters` come on top of linux.seccomp, and
    need no_new_privs or CAP_SYS_ADMIN as every filter does.

    `single_id`: the user namespace has one id only, so groups cannot be set and the ids asked
    for are taken as far as they exist. `die_with_creator`: the container is killed when the
    process that made it ends.
    """

    overlay: RootOverlay | None = None
    filters: tuple[Filter, ...] = ()
    single_id: bool = False
    die_with_creator: bool = False
