"""Tries overlay mounts as layers use them: on the file system of the storage and on a tmpfs.

In a user namespace a plain overlay mounts too, but making a directory again that a lower layer
has and that was removed is EIO without `userxattr`; so that is part of the trial.
"""

from __future__ import annotations

import errno
import os

from engine.probe.attempt import Refused, Trial, step
from engine.probe.isolation import mount_point, private_mounts
from engine.runtime.kernel.mounting import mount

OVERLAY_OPTIONS = (b"", b"userxattr,")
TRIAL_DIRECTORY = ".imgtools-probe-"


def overlay_trials(scratch: str) -> list[Trial]:
    """The trials; `scratch` is an empty directory on the storage's file system."""
    return [
        ("overlay-storage", lambda: try_overlay(os.fsencode(scratch))),
        ("overlay-tmpfs", _on_tmpfs),
    ]


def _on_tmpfs() -> str:
    private_mounts()
    target = mount_point()
    with step("mount tmpfs"):
        mount(b"tmpfs", target, b"tmpfs", 0, b"mode=755")
    return try_overlay(target)


def try_overlay(where: bytes) -> str:
    """ "native" or "userxattr": the options with which a complete overlay works in `where`."""
    private_mounts()
    failure: Refused | None = None
    for number, options in enumerate(OVERLAY_OPTIONS):
        try:
            _whole_overlay(where + b"/%d" % number, options)
        except Refused as e:
            failure = e
            continue
        return "userxattr" if options else "native"
    raise failure if failure is not None else Refused("mount overlay", errno.EINVAL)


def _whole_overlay(where: bytes, options: bytes) -> None:
    with step(f"write in {os.fsdecode(os.path.dirname(where))}"):
        for name in (b"", b"/lower", b"/lower/directory", b"/upper", b"/work", b"/merged"):
            os.mkdir(where + name)
    remedy = "a volume or tmpfs for the storage: overlay cannot be stacked on overlay's upper side"
    # Names relative to the directory: no character in its path can end an option.
    os.chdir(where)
    with step("mount overlay", remedy=remedy):
        data = options + b"lowerdir=lower,upperdir=upper,workdir=work"
        mount(b"overlay", b"merged", b"overlay", 0, data)
    with step("make a removed directory again on overlay"):
        os.rmdir("merged/directory")
        os.mkdir("merged/directory")
    with step("rename on overlay"):
        os.rename("merged/directory", "merged/other")
