"""Where a store is: containers-storage.conf(5), the environment and flags made one answer.

Pure. Files and environment come in as data; the search order and the defaults for the
superuser and for others are those of containers/storage, so that both stores stand side by
side below one graph root.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import field, replace
from string import Template
from types import MappingProxyType
from typing import Any

from engine.storage.options import StoreLocation
from imgtools.errors import InvalidInput, Unsupported
from imgtools.frozen import dataclass

_IGNORE = "ignore_chown_errors"

SYSTEM_GRAPH_ROOT = "/var/lib/containers/storage"
SYSTEM_RUN_ROOT = "/run/containers/storage"
SYSTEM_FILES = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")

DRIVERS: Mapping[str, str] = MappingProxyType(
    {"overlay": "overlay", "overlay2": "overlay", "vfs": "flat", "flat": "flat"}
)
"""Names of drivers that people write, and ours for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A store, and what of the configuration was not followed, in words for people."""

    location: StoreLocation
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConf:
    """What one storage.conf says of [storage]; "" where it says nothing."""

    driver: str = ""
    graph_root: str = ""
    run_root: str = ""
    rootless_path: str = ""
    ignore_chown_errors: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFlags:
    """--root, --runroot, --storage-driver and --storage-opt; "" where not given."""

    root: str = ""
    run_root: str = ""
    driver: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who asks: the user id outside any user namespace of ours, and the environment."""

    uid: int
    name: str = ""
    home: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, uid: int, env: Mapping[str, str]) -> User:
        """The user `uid` with `env`; within `imgtools unshare` and podman's own, the user who
        entered it, whom _CONTAINERS_ROOTLESS_UID names."""
        outside = env.get("_CONTAINERS_ROOTLESS_UID", "")
        if uid == 0 and outside.isascii() and outside.isdigit():
            uid = int(outside)
        return cls(uid=uid, name=env.get("USER", ""), home=env.get("HOME", ""), env=env)

    @property
    def own_file(self) -> str:
        """The storage.conf of this user alone, "" for the superuser or without a home."""
        if self.uid == 0:
            return ""
        config = self.env.get("XDG_CONFIG_HOME") or _below(self.home, ".config")
        return _below(config, "containers/storage.conf")

    @property
    def runtime_directory(self) -> str:
        """Where this user's files that a reboot may take are."""
        return self.env.get("XDG_RUNTIME_DIR") or f"/tmp/storage-run-{self.uid}"

    def expanded(self, path: str) -> str:
        """`path` with $HOME, $UID and $USER replaced; other variables stay as they are."""
        values = {"HOME": self.home, "UID": str(self.uid), "USER": self.name}
        return Template(path).safe_substitute(values)


def conf_files(user: User) -> tuple[str, ...]:
    """The files of which the first that exists is the only one read."""
    chosen = user.env.get("CONTAINERS_STORAGE_CONF", "")
    if chosen:
        return (chosen,)
    return tuple(path for path in (user.own_file, *SYSTEM_FILES) if path)


def parse_conf(content: bytes, path: str) -> StorageConf:
    """The storage.conf in `content`; raises InvalidInput naming `path`."""
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as e:
        raise InvalidInput(f"{path}: {e}") from e
    storage = document.get("storage", {})
    if not isinstance(storage, dict):
        raise InvalidInput(f"{path}: [storage] is not a table")
    tables = [storage.get("options", {})]
    tables += [tables[0].get(name, {}) for name in ("overlay", "vfs") if _is_table(tables[0])]
    ignore = [_text(table, _IGNORE, path) for table in tables if _is_table(table)]
    return StorageConf(
        driver=_text(storage, "driver", path),
        graph_root=_text(storage, "graphroot", path),
        run_root=_text(storage, "runroot", path),
        rootless_path=_text(storage, "rootless_storage_path", path),
        ignore_chown_errors="true" in ignore,
    )


def locate(user: User, conf: StorageConf, flags: StoreFlags, *, conf_is_users: bool) -> Located:
    """The store that `user` means.

    `conf` is what the first of `conf_files` says, and `conf_is_users` whether that file is
    about this user alone: the roots of the system's file are not for others. Raises
    InvalidInput for a path that is not absolute or an unknown driver, Unsupported for options.
    """
    own = conf if user.uid == 0 or conf_is_users else replace(conf, graph_root="", run_root="")
    if user.uid == 0:
        graph_root, run_root = SYSTEM_GRAPH_ROOT, SYSTEM_RUN_ROOT
    else:
        data = user.env.get("XDG_DATA_HOME") or _below(user.home, ".local/share")
        graph_root = user.expanded(conf.rootless_path) or _below(data, "containers/storage")
        run_root = _below(user.runtime_directory, "containers")
    graph_root = flags.root or user.expanded(own.graph_root) or graph_root
    run_root = flags.run_root or user.expanded(own.run_root) or run_root
    for what, path in (("graph root", graph_root), ("run root", run_root)):
        if not path:
            raise InvalidInput(f"the {what} of the store is not known: HOME is not set")
        if not os.path.isabs(path) or "\0" in path:
            raise InvalidInput(f"the {what} of the store is no absolute path: {path!r}")
    named = flags.driver or user.env.get("STORAGE_DRIVER", "") or conf.driver
    if flags.driver and flags.driver not in DRIVERS:
        raise InvalidInput(
            f"unknown storage driver {flags.driver!r}", hint="there are overlay and vfs"
        )
    warnings: tuple[str, ...] = ()
    if named and named not in DRIVERS:
        warnings = (f"there is no storage driver {named} here; one that works is used instead",)
    given = flags.options or tuple(o for o in user.env.get("STORAGE_OPTS", "").split(",") if o)
    ignore = _option_ignores(given)
    if ignore is None:
        # As in podman, another root does without the options of the configured one.
        ignore = conf.ignore_chown_errors and not flags.root
    location = StoreLocation(
        root=os.path.normpath(graph_root),
        runroot=os.path.normpath(run_root),
        driver=DRIVERS.get(named, ""),
        ignore_chown_errors=ignore,
    )
    return Located(location=location, warnings=warnings)


def _option_ignores(options: tuple[str, ...]) -> bool | None:
    """Whether options say ignore_chown_errors, None when not; raises Unsupported for others."""
    found = None
    for option in options:
        key, _, value = option.partition("=")
        if key.rpartition(".")[2] != _IGNORE:
            raise Unsupported(f"the storage option {key!r} is not supported")
        found = value == "true"
    return found


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _below(directory: str, name: str) -> str:
    return os.path.join(directory, name) if directory else ""


def _text(table: Mapping[str, Any], key: str, path: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise InvalidInput(f"{path}: {key} is not a string")
    return value
