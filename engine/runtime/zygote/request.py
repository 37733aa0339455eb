"""What a launch is asked for, as it crosses from the engine to the launcher."""

from __future__ import annotations

from engine.runtime.container.extras import Extras
from engine.runtime.errors import Damaged
from engine.runtime.record import Record
from engine.runtime.rootfs.model import RootOverlay
from engine.runtime.seccomp.filter import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DESCRIPTORS = ("config", "channel", "stdin", "stdout", "stderr")
"""The descriptors of a launch message, in order; a console socket and then those to preserve
follow, and last a detached mount for each of the request's `mounts`."""


class LaunchRequest(Record):
    """One container: `id` and `state_root` name its state, `bundle` is where relative paths of
    its config.json begin. `linked`: the engine connects the container's network, and says when.
    `mounts` are the numbers of those in config.json that come as descriptors. `extras` is what
    config.json has no words for."""

    id: str
    state_root: str
    bundle: str
    cgroup_manager: str = "cgroupfs"
    rootless: bool | None = None
    no_pivot: bool = False
    no_new_keyring: bool = False
    linked: bool = False
    mounts: tuple[int, ...] = ()
    extras: Extras = Extras()


def to_document(request: LaunchRequest) -> dict[str, Any]:
    """The request as JSON values."""
    document: dict[str, Any] = {
        name: getattr(request, name) for name in LaunchRequest._fields if name != "extras"
    }
    overlay = request.extras.overlay
    if overlay is not None:
        values = {name: getattr(overlay, name) for name in RootOverlay._fields}
        document["overlay"] = {
            **values,
            "lower": [path.hex() for path in overlay.lower],
            "upper": overlay.upper.hex(),
            "work": overlay.work.hex(),
        }
    document["filters"] = [_filter_document(f) for f in request.extras.filters]
    profile = request.extras.profile
    document["profile"] = None if profile is None else _filter_document(profile)
    document["forgiving"] = request.extras.forgiving
    document["chroot"] = request.extras.chroot
    document["own_user"] = request.extras.own_user
    return document


def from_document(document: dict[str, Any]) -> LaunchRequest:
    """The request that `to_document` described; raises Damaged."""
    try:
        overlay = document.pop("overlay", None)
        extras = Extras(
            overlay=None
            if overlay is None
            else RootOverlay(
                **{
                    **overlay,
                    "lower": tuple(bytes.fromhex(path) for path in overlay["lower"]),
                    "upper": bytes.fromhex(overlay["upper"]),
                    "work": bytes.fromhex(overlay["work"]),
                }
            ),
            filters=tuple(_filter(value) for value in document.pop("filters")),
            profile=None if (profile := document.pop("profile")) is None else _filter(profile),
            forgiving=bool(document.pop("forgiving")),
            chroot=bool(document.pop("chroot")),
            own_user=bool(document.pop("own_user")),
            die_with_creator=True,
        )
        mounts = tuple(int(number) for number in document.pop("mounts"))
        return LaunchRequest(**document, mounts=mounts, extras=extras)
    except (KeyError, TypeError, ValueError) as e:
        raise Damaged(f"a launch request cannot be read: {e}") from e


def _filter_document(one: Filter) -> list[Any]:
    return [one.program.hex(), one.flags, one.optional_flags]


def _filter(value: list[Any]) -> Filter:
    program, flags, optional = value
    return Filter(program=bytes.fromhex(program), flags=int(flags), optional_flags=int(optional))
