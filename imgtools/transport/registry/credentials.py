"""Finds the credentials of a repository in auth.json and docker's config.json.

containers-auth.json(5): keys are `host`, `host/namespace` or `host/namespace/repository`,
the most specific first; docker's legacy keys are URLs. `credHelpers` and `credsStore` name
programs that keep the secret (docker-credential-helpers protocol).
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imgtools.errors import InvalidInput, InvalidJSON, LimitExceeded, StorageError
from imgtools.spec import strict_json
from imgtools.transport.options import Credentials

log = logging.getLogger(__name__)

DOCKER_HUB = "docker.io"
DOCKER_HUB_KEY = "https://index.docker.io/v1/"
"""The key under which docker keeps, and helpers look up, Docker Hub's credentials."""

_HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io", "docker.io"})
_IDENTITY_USER = "<token>"
_FILE_LIMIT = 4 * 1024 * 1024
_HELPER_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthFile:
    """What one file says; entries stay as they are until a lookup needs one."""

    path: str
    auths: Mapping[str, Any] = field(repr=False)
    helpers: Mapping[str, Any]
    store: str = ""


def find_credentials(paths: Iterable[str], registry: str, repository: str) -> Credentials | None:
    """The credentials of the first file that has any for `registry` and `repository`.

    Raises InvalidInput for a file or entry that is malformed, StorageError for one that
    cannot be read; files that do not exist are passed over.
    """
    for path in paths:
        file = read_auth_file(path)
        if file is not None and (found := lookup(file, registry, repository)) is not None:
            log.debug("credentials of %s/%s are from %s", registry, repository, path)
            return found
    return None


def read_auth_file(path: str) -> AuthFile | None:
    """The file at `path`, None when there is none; raises InvalidInput, StorageError."""
    try:
        with open(path, "rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise StorageError(f"{path}: {(e.strerror or str(e)).lower()}", path=path) from e
    return parse_auth_file(content, path)


def parse_auth_file(content: bytes, path: str) -> AuthFile:
    """The auth file in `content`; an empty one is valid. Raises InvalidInput."""
    try:
        value = (
            strict_json.loads_object(content, path, limit=_FILE_LIMIT) if content.strip() else {}
        )
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidInput(e.message) from e
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


def lookup(file: AuthFile, registry: str, repository: str) -> Credentials | None:
    """The credentials `file` has for a repository; raises InvalidInput for a broken entry."""
    helper = _helper_of(file, registry)
    if helper and (found := _ask_helper(helper, registry)) is not None:
        return found
    by_key = {normalise_key(key): (key, entry) for key, entry in reversed(list(file.auths.items()))}
    for key in candidate_keys(registry, repository):
        if key in by_key:
            original, entry = by_key[key]
            found = parse_entry(entry, f"{file.path}: entry {original!r}")
            if found is not None:
                return found
    if file.store and file.store != helper:
        return _ask_helper(file.store, registry)
    return None


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
    host, slash, path = key.partition("/")
    host = host.lower()
    return (DOCKER_HUB if host in _HUB_NAMES else host) + slash + path


def parse_entry(entry: object, what: str) -> Credentials | None:
    """The credentials of one `auths` entry, None when it holds none; raises InvalidInput."""
    if not isinstance(entry, dict):
        raise InvalidInput(f"{what} is not an object")
    token = entry.get("identitytoken")
    identity = token if isinstance(token, str) else ""
    username, password = entry.get("username"), entry.get("password")
    auth = entry.get("auth")
    if isinstance(auth, str) and auth:
        username, password = decode_auth(auth, what)
    if not isinstance(username, str) or not isinstance(password, str):
        username = password = ""
    ready = entry.get("registrytoken")
    registry_token = ready if isinstance(ready, str) else ""
    if not (username or identity or registry_token):
        return None
    return Credentials(
        username=username,
        password=password,
        identity_token=identity,
        registry_token=registry_token,
    )


def decode_auth(text: str, what: str) -> tuple[str, str]:
    """User name and password of an `auth` value: base64 of `user:password`.

    Some writers pad the password with NUL bytes. Raises InvalidInput, without the value.
    """
    try:
        decoded = base64.b64decode(text, validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as e:
        raise InvalidInput(f"{what}: its auth is not base64") from e
    username, colon, password = decoded.partition(":")
    if not colon:
        raise InvalidInput(f"{what}: its auth is not user:password")
    return username, password.rstrip("\0")


def _helper_of(file: AuthFile, registry: str) -> str:
    for key, helper in file.helpers.items():
        if normalise_key(key) == registry.lower() and isinstance(helper, str):
            return helper
    return ""


def _ask_helper(helper: str, registry: str) -> Credentials | None:
    """What `docker-credential-HELPER get` answers, None when it has nothing."""
    import subprocess

    if not helper or "/" in helper or "\0" in helper:
        raise InvalidInput(f"credential helper {helper!r} is not the end of a program's name")
    program = f"docker-credential-{helper}"
    server = DOCKER_HUB_KEY if registry == DOCKER_HUB else registry
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except FileNotFoundError as e:
        raise InvalidInput(f"credential helper {program} is not installed") from e
    except (OSError, subprocess.TimeoutExpired) as e:
        raise InvalidInput(f"credential helper {program} does not answer") from e
    if done.returncode != 0:
        # "credentials not found" and its kin come on standard output with status 1.
        log.debug("%s has no credentials of %s (status %d)", program, server, done.returncode)
        return None
    try:
        value = strict_json.loads_object(done.stdout, f"the answer of {program}")
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidInput(e.message) from e
    username, secret = value.get("Username"), value.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str):
        raise InvalidInput(f"the answer of {program} has no Username or Secret")
    if username == _IDENTITY_USER:
        return Credentials(identity_token=secret)
    return Credentials(username=username, password=secret) if username else None
