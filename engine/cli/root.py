"""Where the state of containers is kept if --root does not say so."""

from __future__ import annotations

import os
import stat

from engine.runtime.errors import InvalidConfig, refused
from engine.runtime.kernel.proc import in_initial_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "imgtools-runtime"


def default_root(environ: Mapping[str, str]) -> str:
    """The directory: below /run for root, below XDG_RUNTIME_DIR or /run/user for others, who
    may well be root of a user namespace.

    A user's own is made, with the sticky bit that keeps it from being cleaned up (XDG Base
    Directory Specification). Raises InvalidConfig where there is none, KernelRefused.
    """
    uid = os.geteuid()
    runtime_dir = environ.get("XDG_RUNTIME_DIR", "")
    if uid == 0 and (in_initial_user_namespace() or not runtime_dir):
        return f"/run/{NAME}"
    base = runtime_dir or f"/run/user/{uid}"
    problem = _problem(base, uid)
    if problem:
        raise InvalidConfig(
            f"no place for the state of containers: {base} {problem}",
            hint="name a directory with --root, or set XDG_RUNTIME_DIR",
        )
    root = f"{base}/{NAME}"
    try:
        os.makedirs(root, 0o700, exist_ok=True)
        if not os.stat(root).st_mode & stat.S_ISVTX:
            os.chmod(root, 0o700 | stat.S_ISVTX)
    except OSError as e:
        raise refused(f"make {root}", e) from e
    return root


def _problem(base: str, uid: int) -> str:
    """Why `base` cannot be trusted with state, empty if it can."""
    if not base.startswith("/"):
        return "is not an absolute path"
    try:
        status = os.stat(base)
    except OSError as e:
        return f"is not usable: {os.strerror(e.errno or 0).lower()}"
    if not stat.S_ISDIR(status.st_mode):
        return "is not a directory"
    if status.st_uid != uid:
        return f"belongs to user {status.st_uid}, not {uid}"
    if status.st_mode & 0o022:
        return "is writable for others"
    return ""
