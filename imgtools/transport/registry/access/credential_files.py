"""Writes credentials: into auth files, or with the helpers that those or their user name.

Files are changed under a lock, keep what is not understood, and appear whole and private. A
link to a file stays a link: what it leads to is replaced. A file that cannot be read is never
overwritten.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from imgtools.blob.files import storage_errors, write_file
from imgtools.errors import Conflict, Error, InvalidInput, NotFound, SeveralErrors
from imgtools.frozen import dataclass
from imgtools.spec import strict_json
from imgtools.spec.reference import DOCKER_HUB
from imgtools.transport.options import Credentials
from imgtools.transport.registry.access.auth_files import (
    DOCKER_HUB_KEY,
    AuthFile,
    encode_auth,
    is_legacy,
    normalise_key,
    parse_auth_file,
    parse_document,
    read_auth_file,
    read_bytes,
)
from imgtools.transport.registry.access.credential_helpers import (
    HelperMissing,
    helper_erase,
    helper_list,
    helper_store,
)
from imgtools.transport.registry.access.credentials import AUTH_FILES_HELPER

log = logging.getLogger(__name__)

_LOCK_SECONDS = 30.0
_POLL = 0.02
_HELPERS_ALONE = "a credential helper keeps one password per registry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The file to write, and who asks before it: `helpers` as in registries.conf, in order.

    `docker` keeps to what docker itself reads: its key for Docker Hub, whole registries only,
    and no helpers but those of the file.
    """

    path: str
    docker: bool = False
    helpers: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """The helpers to use, where containers-auth.json is the file."""
        return (AUTH_FILES_HELPER,) if self.docker else self.helpers or (AUTH_FILES_HELPER,)

    def key(self, registry: str, namespace: str) -> str:
        """The key of an entry; raises InvalidInput for one that docker would not find."""
        if not self.docker:
            return f"{registry}/{namespace}" if namespace else registry
        if namespace:
            raise InvalidInput(
                f"docker's format has no credentials of a namespace such as {registry}/{namespace}"
            )
        return DOCKER_HUB_KEY if registry == DOCKER_HUB else registry


def store_credentials(
    target: Target, registry: str, namespace: str, credentials: Credentials
) -> str:
    """Keep a name and password for a registry or (not "") a namespace of it; says where.

    The first helper that takes them is enough. Raises InvalidInput, StorageError, Conflict.
    """
    failed: list[Error] = []
    for helper in target.order:
        try:
            if helper == AUTH_FILES_HELPER:
                return _store_by_file(target, registry, namespace, credentials)
            return _store_by_helper(helper, registry, namespace, credentials)
        except Error as e:
            log.debug("credentials of %s are not kept by %s: %s", registry, helper, e.message)
            failed.append(e)
    raise failed[0] if len(failed) == 1 else SeveralErrors(failed)


def remove_credentials(target: Target, registry: str, namespace: str) -> bool:
    """Forget the credentials of exactly that registry or namespace; False if there were none.

    Raises InvalidInput, StorageError, Conflict, after all places were tried.
    """
    key, removed = target.key(registry, namespace), False
    failed: list[Error] = []
    for helper in target.order:
        try:
            if helper == AUTH_FILES_HELPER:
                removed |= _remove_by_file(target.path, registry, namespace, key)
            elif not namespace:
                removed |= helper_erase(helper, registry)
        except Error as e:
            failed.append(e)
    if failed:
        raise failed[0] if len(failed) == 1 else SeveralErrors(failed)
    return removed


def remove_all_credentials(target: Target) -> None:
    """Forget all credentials of the file, and of its helpers for the registries it names.

    Helpers of registries.conf forget everything. Which helper serves which registry stays
    in the file. Raises InvalidInput, StorageError, Conflict, after all places were tried.
    """
    failed: list[Error] = []
    for helper in target.order:
        try:
            if helper == AUTH_FILES_HELPER:
                _remove_all_by_file(target.path)
                continue
            for server in helper_list(helper):
                helper_erase(helper, server)
        except HelperMissing as e:
            log.debug("%s", e.message)
        except Error as e:
            failed.append(e)
    if failed:
        raise failed[0] if len(failed) == 1 else SeveralErrors(failed)


def _store_by_file(target: Target, registry: str, namespace: str, credentials: Credentials) -> str:
    key = target.key(registry, namespace)
    file = _read(target.path)
    helper = file.helper(registry) or file.store
    entry: dict[str, str] = {}
    if helper:
        try:
            described = _store_by_helper(helper, registry, namespace, credentials)
        except HelperMissing as e:
            raise InvalidInput(e.message, hint=f"{target.path} says to use it") from e
    else:
        entry = {"auth": encode_auth(credentials.username, credentials.password)}
        described = target.path

    def change(document: dict[str, Any]) -> None:
        auths = dict(document.get("auths") or {})
        # As docker does, an empty entry says that there is something in the store; it must
        # not be in the way of what a helper of the registry has.
        if entry or key in auths or file.store == helper:
            auths[key] = entry
        document["auths"] = dict(sorted(auths.items()))

    _edit(target.path, change)
    return described


def _store_by_helper(helper: str, registry: str, namespace: str, credentials: Credentials) -> str:
    if namespace:
        raise InvalidInput(
            f"namespaced key is not supported for credential helper {helper}", hint=_HELPERS_ALONE
        )
    helper_store(helper, registry, credentials)
    return f"credential helper: {helper}"


def _remove_by_file(path: str, registry: str, namespace: str, key: str) -> bool:
    file = _read(path)
    wanted = normalise_key(key)
    keys = [k for k in file.auths if k == key or normalise_key(k) == wanted]
    removed = bool(keys)
    for helper in dict.fromkeys((file.helper(registry), file.store)):
        if helper and not namespace:
            removed |= _erase(helper, registry, optional=helper == file.store)
    if keys:

        def change(document: dict[str, Any]) -> None:
            document["auths"] = {
                k: entry for k, entry in document["auths"].items() if k not in keys
            }

        _edit(path, change)
    return removed


def _remove_all_by_file(path: str) -> None:
    file = _read(path)
    for registry, helper in file.helpers.items():
        if isinstance(helper, str):
            _erase(helper, normalise_key(registry))
    if file.store:
        for registry in dict.fromkeys(normalise_key(key) for key in file.auths):
            _erase(file.store, registry, optional=True)

    def change(document: dict[str, Any]) -> None:
        document["auths"] = {}

    _edit(path, change)


def _erase(helper: str, registry: str, *, optional: bool = False) -> bool:
    try:
        return helper_erase(helper, registry)
    except HelperMissing as e:
        if not optional:
            raise
        # What is not installed keeps nothing that we could use.
        log.debug("%s", e.message)
        return False


def _read(path: str) -> AuthFile:
    if is_legacy(path):
        raise InvalidInput(f"{path}: files in the form of old dockers are only read")
    return read_auth_file(path) or AuthFile(path=path, auths={}, helpers={})


def _edit(path: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Apply `change` to the document at `path`, which may not exist yet, and write it.

    Raises InvalidInput for a file that is no auth file, StorageError, Conflict.
    """
    real = os.path.realpath(path)
    directory = os.path.dirname(real)
    with storage_errors(path):
        _make_private(directory)
    with _locked(directory, path):
        content = read_bytes(real) or b""
        before = parse_auth_file(content, path)
        document = parse_document(content, path)
        document["auths"] = dict(before.auths)
        change(document)
        try:
            text = strict_json.dumps_indented(document, "\t")
        except ValueError as e:
            raise InvalidInput(f"{path}: it has a number that cannot be written back") from e
        write_file(real, text.encode(), mode=0o600)
        log.debug("wrote %s", real)


def _make_private(directory: str) -> None:
    """Make a directory and those above it, for this user alone."""
    missing = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for each in reversed(missing):
        try:
            os.mkdir(each, 0o700)
        except FileExistsError:
            if not os.path.isdir(each):
                raise


@contextmanager
def _locked(directory: str, path: str) -> Iterator[None]:
    """Hold the directory of a file, so that of two writers neither loses anything."""
    deadline = time.monotonic() + _LOCK_SECONDS
    try:
        with storage_errors(directory):
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except NotFound as e:
        raise Conflict(f"{path}: its directory was removed meanwhile") from e
    try:
        while not _lock(fd):
            if time.monotonic() > deadline:
                raise Conflict(f"{path}: another process keeps {directory} locked")
            time.sleep(_POLL)
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    """Whether nobody else holds `fd`, which is now ours where the file system has locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as e:
        log.debug("no lock: %s", e)
    return True
