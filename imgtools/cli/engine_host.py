"""What the environment says to the engine: where helpers are, who is behind a mapped root,
where the store and the remembered probes are. For the verbs that unpack and run images."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING

from imgtools.blob.files import storage_error
from imgtools.cli.settings import Settings
from imgtools.errors import InvalidInput

if TYPE_CHECKING:
    from engine.ids.model import IdMode, IdOptions
    from engine.probe.model import ProbeOptions
    from engine.storage.location import Located, StoreFlags

CONFIGURED = "_CONTAINERS_USERNS_CONFIGURED"
ROOTLESS_UID, ROOTLESS_GID = "_CONTAINERS_ROOTLESS_UID", "_CONTAINERS_ROOTLESS_GID"
# Users' PATH often lacks the directories of administrators' programs.
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
MAX_CONF = 1 << 20
_RUNTIME = "set XDG_RUNTIME_DIR to a directory of this user alone, or name one with --runroot"


def search_path(env: Mapping[str, str]) -> tuple[str, ...]:
    """The directories to look for helpers in: absolute ones of PATH, then the system's."""
    own = [d for d in env.get("PATH", "").split(":") if d.startswith("/")]
    return tuple(dict.fromkeys((*own, *SYSTEM_PATH)))


def id_options(
    env: Mapping[str, str],
    *,
    mode: IdMode | None = None,
    mount_namespace: bool = False,
    give: tuple[str, ...] = (),
) -> IdOptions:
    """How `engine.ids` gets its ids in the environment `env`; `mode` None is the most that
    works, the rest as in IdOptions."""
    from engine.ids.model import IdOptions

    return IdOptions(
        mode=mode,
        path=search_path(env),
        user_name=env.get("USER") or env.get("LOGNAME") or "",
        home=env.get("HOME", ""),
        outer_uid=_number(env.get(ROOTLESS_UID, "")),
        outer_gid=_number(env.get(ROOTLESS_GID, "")),
        mount_namespace=mount_namespace,
        give=give,
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def probe_options(
    settings: Settings, env: Mapping[str, str], storage: str, *, fresh: bool = False
) -> ProbeOptions:
    """How the host is probed; results are kept in the run-time directory, else in the cache."""
    from engine.probe.model import ProbeOptions
    from imgtools import __version__

    runtime = settings.runtime_dir
    kept = os.path.join(runtime, "imgtools") if os.path.isabs(runtime) else settings.cache_dir
    return ProbeOptions(
        storage=storage,
        cache_dir=kept,
        path=search_path(env),
        version=__version__,
        fresh=fresh,
    )


def locate_store(env: Mapping[str, str], flags: StoreFlags | None = None) -> Located:
    """The store of this user; raises InvalidInput, Unsupported, StorageError."""
    from engine.storage.location import (
        StorageConf,
        StoreFlags,
        User,
        conf_files,
        locate,
        parse_conf,
    )

    user = User.of(os.getuid(), env)
    for path in conf_files(user):
        try:
            with open(path, "rb") as file:
                conf = parse_conf(file.read(MAX_CONF), path)
        except FileNotFoundError:
            continue
        except OSError as e:
            raise storage_error(e, path) from e
        own = path == user.own_file or path == env.get("CONTAINERS_STORAGE_CONF", "")
        located = locate(user, conf, flags or StoreFlags(), conf_is_users=own)
        break
    else:
        located = locate(user, StorageConf(), flags or StoreFlags(), conf_is_users=False)
    directory = os.path.normpath(user.runtime_directory)
    if user.uid and located.location.runroot.startswith(f"{directory}/"):
        require_private(directory, os.getuid())
    return located


def require_private(directory: str, uid: int) -> None:
    """Raise InvalidInput unless `directory` is of user `uid` alone, or not there: below it are
    the state of containers and files that are mounted into them. One below /tmp, whose name
    anybody can know before, is made here."""
    try:
        if directory.startswith("/tmp/"):
            os.makedirs(directory, 0o700, exist_ok=True)
        found = os.lstat(directory)
    except FileNotFoundError:
        return
    except FileExistsError:
        found = os.lstat(directory)
    except OSError as e:
        error = storage_error(e, directory)
        error.hint = _RUNTIME
        raise error from e
    if stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o022:
        return
    raise InvalidInput(
        f"{directory} is not a directory of user {uid} that only this user writes to",
        hint=_RUNTIME,
    )
