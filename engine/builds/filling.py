"""The first content of a cache: that of a source, or an empty directory of whom was asked."""

from __future__ import annotations

import os

from engine.builds.sources import Sources
from imgtools.build.protocols import StepMount
from imgtools.errors import InvalidInput


def fill_cache(sources: Sources, mount: StepMount, owners: bool, target: int) -> None:
    """Fill the new directory `target` for a cache; `owners` is whether files can be given away
    here. Raises InvalidInput for an owner that there is not, and what `Sources.copy` raises."""
    if mount.source is not None:
        sources.copy(mount.source, target)
        return
    os.fchmod(target, 0o755 if mount.mode is None else mount.mode)
    if not owners or not (mount.uid or mount.gid):
        return
    try:
        os.fchown(target, mount.uid, mount.gid)
    except OSError as e:
        raise InvalidInput(
            f"cache {mount.cache}: the owner {mount.uid}:{mount.gid} does not exist here",
            hint="give this user a larger range in /etc/subuid and /etc/subgid",
        ) from e
