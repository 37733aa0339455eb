"""Remembers, per registry host, how it is reached: scheme and where tokens come from.

One small file, mode 0600, saves a round trip per registry and process; it never holds a
token or a credential. It is a hint: whatever turns out wrong is replaced, a file that
cannot be read is ignored, and one that cannot be written is no failure.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

from imgtools.blob.files import write_file
from imgtools.errors import Error
from imgtools.frozen import dataclass
from imgtools.spec import strict_json

log = logging.getLogger(__name__)

_FILE_LIMIT = 1024 * 1024
_HOST_LIMIT = 2000
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHost:
    """How a registry is reached: `auth` is "", "basic" or "bearer"; `verified` says that we
    have it from a host whose certificate was verified."""

    scheme: str = ""
    auth: str = ""
    realm: str = ""
    service: str = ""
    verified: bool = False

    @classmethod
    def from_json(cls, value: object) -> KnownHost | None:
        """The entry in `value`, None when it is not one."""
        if not isinstance(value, dict):
            return None
        texts = [value.get(name, "") for name in ("scheme", "auth", "realm", "service")]
        scheme, auth, realm, service = (text if isinstance(text, str) else "" for text in texts)
        # Neither half a character nor the end of a line came from a header.
        if not (realm.isprintable() and service.isprintable()):
            return None
        if scheme not in ("", "http", "https") or auth not in ("", "basic", "bearer"):
            return None
        if auth == "bearer" and not realm.startswith(("http://", "https://")):
            return None
        verified = value.get("verified") is True
        return cls(scheme=scheme, auth=auth, realm=realm, service=service, verified=verified)

    def to_json(self) -> dict[str, str | bool]:
        """The entry without what is empty."""
        values: dict[str, str | bool] = {
            "scheme": self.scheme,
            "auth": self.auth,
            "realm": self.realm,
            "service": self.service,
            "verified": self.verified,
        }
        return {name: value for name, value in values.items() if value}


class ChallengeCache:
    """The file at `path` (None: nothing is kept), read once and written by `save`."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, KnownHost] | None = None
        self._changed: dict[str, KnownHost] = {}

    def get(self, host: str) -> KnownHost | None:
        """What is remembered of `host` (`name[:port]`)."""
        with self._lock:
            return self._load().get(host)

    def put(self, host: str, entry: KnownHost) -> None:
        """Remember `entry`; it is written by `save` if it is new."""
        with self._lock:
            if self._load().get(host) != entry:
                self._load()[host] = entry
                self._changed[host] = entry

    def save(self) -> None:
        """Write what changed, merged with what others wrote meanwhile."""
        with self._lock:
            changed, self._changed = self._changed, {}
            if self._path is None or not changed:
                return
            hosts = {**_read(self._path), **changed}
            # Oldest first: dictionaries keep the order of insertion.
            kept = list(hosts.items())[-_HOST_LIMIT:]
            content = strict_json.dumps(
                {"version": _VERSION, "hosts": {host: entry.to_json() for host, entry in kept}}
            )
            try:
                os.makedirs(os.path.dirname(self._path) or ".", mode=0o700, exist_ok=True)
                write_file(self._path, content, mode=0o600)
            except (Error, OSError) as e:
                log.debug("challenge cache %s is not written: %s", self._path, e)

    def _load(self) -> dict[str, KnownHost]:
        if self._known is None:
            self._known = _read(self._path) if self._path is not None else {}
        return self._known


def _read(path: str) -> dict[str, KnownHost]:
    try:
        with open(path, "rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except FileNotFoundError:
        return {}
    except OSError as e:
        log.debug("challenge cache %s is not read: %s", path, e)
        return {}
    try:
        value: Mapping[str, Any] = strict_json.loads_object(
            content, "challenge cache", limit=_FILE_LIMIT
        )
    except Error as e:
        log.debug("challenge cache %s is ignored: %s", path, e)
        return {}
    hosts = value.get("hosts")
    if value.get("version") != _VERSION or not isinstance(hosts, dict):
        log.debug("challenge cache %s is ignored: it is of another kind", path)
        return {}
    parsed = {host: KnownHost.from_json(entry) for host, entry in hosts.items()}
    return {host: entry for host, entry in parsed.items() if entry is not None}
