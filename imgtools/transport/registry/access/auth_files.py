"""Reads auth.json and docker's config.json: which entry of a file is for a repository.

containers-auth.json(5): keys are `host`, `host/namespace` or `host/namespace/repository`,
the most specific first; docker's legacy keys are URLs. The file `.dockercfg` of old dockers
holds the entries without a level above them.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from imgtools.errors import InvalidInput, InvalidJSON, LimitExceeded, StorageError
from imgtools.frozen import dataclass
from imgtools.spec import strict_json
from imgtools.spec.reference import DOCKER_HUB
from imgtools.transport.options import Credentials

DOCKER_HUB_KEY = "https://index.docker.io/v1/"
"""The key under which docker keeps, and helpers look up, Docker Hub's credentials."""
FILE_LIMIT = 4 * 1024 * 1024
"""Bytes of an auth file that we agree to read."""

_HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io", DOCKER_HUB})
_LEGACY_NAME = ".dockercfg"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthFile:
    """What one file says; entries stay as they are until a lookup needs one."""

    path: str
    auths: Mapping[str, Any] = field(repr=False)
    helpers: Mapping[str, Any]
    store: str = ""

    def helper(self, registry: str) -> str:
        """The helper that `credHelpers` names for `registry`, "" without."""
        wanted = normalise_key(registry)
        for key, helper in self.helpers.items():
            if normalise_key(key) == wanted and isinstance(helper, str):
                return helper
        return ""

    def keys(self, registry: str, repository: str) -> list[str]:
        """The keys of the file that apply to a repository, the one that decides first.

        A key as written comes before URLs and other names of the same registry.
        """
        found: list[str] = []
        for wanted in candidate_keys(registry, repository):
            if wanted in self.auths:
                found.append(wanted)
            found += [k for k in self.auths if k != wanted and normalise_key(k) == wanted]
        return found


def is_legacy(path: str) -> bool:
    """Whether a file of this name is in the form of old dockers, with hosts at its top level."""
    return os.path.basename(path) == _LEGACY_NAME


def read_bytes(path: str) -> bytes | None:
    """The content of an auth file, None when there is none; raises StorageError."""
    try:
        with open(path, "rb") as file:
            return file.read(FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise StorageError(f"{path}: {(e.strerror or str(e)).lower()}", path=path) from e
    except ValueError as e:
        raise InvalidInput(f"{path!r} is not the name of a file") from e


def read_auth_file(path: str) -> AuthFile | None:
    """The file at `path`, None when there is none; raises InvalidInput, StorageError."""
    content = read_bytes(path)
    return None if content is None else parse_auth_file(content, path)


def parse_document(content: bytes, path: str) -> dict[str, Any]:
    """The JSON object in `content`; an empty file is one too. Raises InvalidInput."""
    if not content.strip():
        return {}
    try:
        return strict_json.loads_object(content, path, limit=FILE_LIMIT)
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidInput(e.message) from e


def parse_auth_file(content: bytes, path: str) -> AuthFile:
    """The auth file in `content`; `path` tells the form. Raises InvalidInput."""
    value = parse_document(content, path)
    if is_legacy(path) and not isinstance(value.get("auths"), dict):
        return AuthFile(path=path, auths=value, helpers={})
    sections: list[Mapping[str, Any]] = []
    for name in ("auths", "credHelpers"):
        section = value.get(name)
        if section is not None and not isinstance(section, dict):
            raise InvalidInput(f"{path}: {name!r} is not an object")
        sections.append(section or {})
    store = value.get("credsStore")
    return AuthFile(
        path=path,
        auths=sections[0],
        helpers=sections[1],
        store=store if isinstance(store, str) else "",
    )


def candidate_keys(registry: str, repository: str) -> list[str]:
    """The keys that apply to a repository, most specific first."""
    registry = registry.lower()
    parts = repository.split("/") if repository else []
    keys = ["/".join((registry, *parts[:count])) for count in range(len(parts), 0, -1)]
    return [*keys, registry]


def normalise_key(key: str) -> str:
    """A key as `host[/path]`: legacy URLs lose scheme and path, Docker Hub gets one name."""
    for scheme in ("https://", "http://"):
        if key.startswith(scheme):
            key = key[len(scheme) :].partition("/")[0]
    host, slash, path = key.rstrip("/").partition("/")
    host = host.lower()
    if host in _HUB_NAMES:
        # docker wrote the path of its index with the host, without a scheme too.
        return DOCKER_HUB if path in ("v1", "v2") else DOCKER_HUB + slash + path
    return host + slash + path


def parse_entry(entry: object, what: str) -> Credentials | None:
    """The credentials of one `auths` entry, None when it holds none; raises InvalidInput."""
    if not isinstance(entry, dict):
        raise InvalidInput(f"{what} is not an object")
    token, ready = entry.get("identitytoken"), entry.get("registrytoken")
    identity = token if isinstance(token, str) else ""
    registry_token = ready if isinstance(ready, str) else ""
    username, password = entry.get("username"), entry.get("password")
    if not all(is_text(v) for v in (username, password, identity) if isinstance(v, str)):
        raise InvalidInput(f"{what} has half a character")
    auth = entry.get("auth")
    if isinstance(auth, str) and auth:
        username, password = decode_auth(auth, what)
    if not isinstance(username, str) or not isinstance(password, str):
        username = password = ""
    if not (username or password or identity or registry_token):
        return None
    return Credentials(
        username=username,
        password=password,
        identity_token=identity,
        registry_token=registry_token,
    )


def is_text(value: str) -> bool:
    """Whether `value` can be sent; JSON may hold halves of characters, which cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def decode_auth(text: str, what: str) -> tuple[str, str]:
    """User name and password of an `auth` value: base64 of `user:password`.

    Some writers pad the password with NUL bytes. Bytes that are not UTF-8 come as surrogate
    escapes. Raises InvalidInput, without the value.
    """
    try:
        decoded = base64.b64decode(text.strip("\r\n"), validate=True)
    except (binascii.Error, ValueError) as e:
        raise InvalidInput(f"{what}: its auth is not base64") from e
    username, colon, password = decoded.decode("utf-8", "surrogateescape").partition(":")
    if not colon:
        raise InvalidInput(f"{what}: its auth is not user:password")
    return username, password.strip("\0")


def encode_auth(username: str, password: str) -> str:
    """The `auth` value of a name and a password; raises InvalidInput for what it cannot hold."""
    if ":" in username:
        raise InvalidInput("a user name with a colon cannot be kept: a colon ends the name")
    if "\0" in username + password:
        raise InvalidInput("a user name or password cannot hold NUL")
    pair = f"{username}:{password}".encode("utf-8", "surrogateescape")
    return base64.b64encode(pair).decode()
