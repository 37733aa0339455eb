"""Whether containers can be run on a store: it has the files of the ids it was made with, and
overlay layers only where they can be mounted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.ids.model import IdSession
from engine.probe.choose import in_place_of_chroot
from engine.probe.model import Choice, Report
from engine.storage.options import Ownership
from engine.storage.store import Store
from imgtools.errors import Conflict

if TYPE_CHECKING:
    from engine.containers.engine import Engine

HINT = "use another store (--root) for another kind of isolation, or the kind that made this one"


def suited_choice(report: Report, session: IdSession, store: Store) -> Choice:
    """The isolation for containers of `store`: the one of `report`, but where that is a chroot
    and the store has overlay layers, what `session` can mount them in.

    buildah mounts the layers for its chroot in a mount namespace. Who can do that can have all
    the other namespaces too, which make the same layers.
    """
    if report.choice.kind != "chroot" or store.layers.disk.choice.name != "overlay":
        return report.choice
    if not session.can_mount or not report.probe("overlay-storage").works:
        return report.choice
    why = "this store has overlay layers, which a chroot cannot have mounted"
    return in_place_of_chroot(report.probes, (session.mode,), why) or report.choice


def tell_of_choice(choice: Choice, warn: Callable[[str], object]) -> None:
    """Warn where `choice` is not the isolation that was asked for."""
    asked = choice.in_place_of
    if asked is not None:
        warn(
            f"--isolation {asked.kind}: {asked.why}; commands get the isolation {choice.kind} "
            "instead, and the host's network"
        )


def require_suitable(engine: Engine) -> None:
    """Raise Conflict where owners would be wrong, or an overlay's own marks could not be read:
    in a store that was made with other ids, or outside of a user namespace."""
    choice = engine.store.layers.disk.choice
    place = engine.store.location.root
    if engine.choice.kind == "chroot":
        if choice.name == "overlay":
            raise Conflict(
                f"the store in {place} has overlay layers, which a chroot cannot have mounted",
                hint="use another store (--root) with --storage-driver vfs",
            )
        return
    many = engine.session.many_ids
    if choice.ownership is Ownership.REAL and not many:
        raise Conflict(f"the store in {place} has files of ids that do not exist here", hint=HINT)
    if choice.ownership is Ownership.RECORDED and many:
        raise Conflict(
            f"the store in {place} was made with a single id, and here are many",
            hint="--isolation single, or another store (--root)",
        )
    if choice.name == "overlay" and not choice.userxattr and engine.session.entered:
        raise Conflict(
            f"the store in {place} was made outside of a user namespace, in which an overlay's "
            "marks cannot be read",
            hint=HINT,
        )
