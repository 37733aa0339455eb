"""The host's cgroups for who makes many containers: looked at again only when they may be others.

A host with many mounts takes milliseconds to list them. The kernel tells whoever has mountinfo
open when the table has changed (proc_pid_mounts(5): poll with POLLPRI).
"""

from __future__ import annotations

import os
import select

from engine.runtime.cgroups.survey import MAX_FILE, survey
from engine.runtime.kernel.files import read_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.cgroups.model import CgroupHost

MEMBERSHIPS = "/proc/self/cgroup"


class CgroupWatch:
    """What `survey` found, as long as the mounts and this process's cgroups stay the same."""

    def __init__(self) -> None:
        self._poll: select.poll | None = None
        self._host: CgroupHost | None = None
        self._own = b""

    def survey(self) -> CgroupHost:
        """As `survey.survey`; raises nothing."""
        own = read_if_there(MEMBERSHIPS, MAX_FILE)
        # Asked before the table is read: what changes meanwhile is told the next time.
        changed = self._mounts_changed()
        if self._host is None or changed or own != self._own:
            self._own = own
            self._host = survey()
        return self._host

    def _mounts_changed(self) -> bool:
        if self._poll is not None:
            return bool(self._poll.poll(0))
        try:
            fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True
        self._poll = select.poll()
        self._poll.register(fd, select.POLLPRI)
        return True
