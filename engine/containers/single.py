"""What programs in a container with a single id have to be told: files for their configuration.

Most believe that they have changed their user, because the calls succeed. apt looks whether it
is true, and downloads nothing as somebody who is still root unless told that this is meant.
"""

from __future__ import annotations

import os

from engine.runtime.kernel.paths import O_PATH, open_in_root

APT = "/etc/apt/apt.conf.d"
APT_FILE = f"{APT}/99imgtools"
APT_TEXT = 'APT::Sandbox::User "root";\n'


def told(root_fd: int) -> dict[str, str]:
    """The texts of files to be mounted in the root `root_fd`, by destination: for programs
    that it has. They are in no layer."""
    try:
        os.close(open_in_root(root_fd, APT.encode(), O_PATH | os.O_DIRECTORY))
    except OSError:
        return {}
    return {APT_FILE: APT_TEXT}
