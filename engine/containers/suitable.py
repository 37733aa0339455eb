"""Whether containers can be run on a store: it has the files of the ids it was made with."""

from __future__ import annotations

from engine.containers.engine import Engine
from engine.storage.options import Ownership
from imgtools.errors import Conflict

HINT = "use another store (--root) for another kind of isolation, or the kind that made this one"


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
