"""Finds the credentials of a repository, in the order of containers/image.

Sources are asked one after the other: credential helpers of registries.conf and auth files, of
which the first that has anything decides. Within a file a helper of the registry comes first,
then the most specific key; `credsStore` keeps what the file has no secret for, as in docker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Literal

from imgtools.errors import InvalidInput, StorageError
from imgtools.frozen import dataclass
from imgtools.transport.options import Credentials, RegistryOptions
from imgtools.transport.registry.access.auth_files import AuthFile, parse_entry, read_auth_file

log = logging.getLogger(__name__)

AUTH_FILES_HELPER = "containers-auth.json"
"""What stands for the auth files among the helpers of registries.conf."""


AskHelper = Callable[[str, str], Credentials | None]
"""Helper and registry to what the helper has; like `credential_helpers.helper_get`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsPlace:
    """Where credentials are from, without them.

    `kind` is "option" (given by the caller), "file" (an entry `key` of `file`), "helper" (the
    program docker-credential-`helper`, named by `file` and its `key` or by registries.conf),
    "anonymous" (none are to be used) or "none".
    """

    kind: Literal["option", "file", "helper", "anonymous", "none"]
    file: str = ""
    key: str = ""
    helper: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Credentials and where they are from."""

    credentials: Credentials
    place: CredentialsPlace


def where_credentials(
    options: RegistryOptions, registry: str, repository: str = ""
) -> CredentialsPlace:
    """Where a session takes its credentials for a repository from; helpers are asked.

    Raises as `find`.
    """
    if options.anonymous:
        return CredentialsPlace(kind="anonymous")
    found = find(options, registry, repository)
    return found.place if found is not None else CredentialsPlace(kind="none")


def find(
    options: RegistryOptions, registry: str, repository: str = "", *, ask: AskHelper | None = None
) -> Found | None:
    """The credentials for `repository` (or, when that is "", all) of `registry`.

    `ask` asks helpers, in place of running their programs. Raises InvalidInput for a file or
    entry that is malformed or a helper that fails, and StorageError for a file that cannot be
    read, unless another source has credentials. Files that do not exist are passed over.
    """
    if options.anonymous:
        return None
    if options.credentials is not None:
        place = CredentialsPlace(kind="option")
        return Found(credentials=options.credentials, place=place)
    failed: InvalidInput | StorageError | None = None
    for source in options.credential_helpers or (AUTH_FILES_HELPER,):
        try:
            if source == AUTH_FILES_HELPER:
                found = find_in_files(options.auth_files, registry, repository, ask=ask)
            else:
                found = _ask(ask, source, registry)
        except (InvalidInput, StorageError) as e:
            log.debug("no credentials of %s from %s: %s", registry, source, e.message)
            failed = failed or e
            continue
        if found is not None:
            log.debug("credentials of %s/%s: %s", registry, repository, found.place)
            return found
    if failed is not None:
        raise failed
    return None


def find_in_files(
    paths: Iterable[str], registry: str, repository: str, *, ask: AskHelper | None = None
) -> Found | None:
    """The credentials of the first file that has any for a repository.

    A general entry in one file is preferred to a specific one in a later file. Raises
    InvalidInput, StorageError.
    """
    for path in paths:
        file = read_auth_file(path)
        found = lookup(file, registry, repository, ask) if file is not None else None
        if found is not None:
            return found
    return None


def lookup(
    file: AuthFile, registry: str, repository: str, ask: AskHelper | None = None
) -> Found | None:
    """The credentials `file` has for a repository; raises InvalidInput for a broken entry.

    `credHelpers` is the last word on a registry that it names. Else the first key that applies
    decides; if its entry is empty, or there is none, the `credsStore` is asked.
    """
    helper = file.helper(registry)
    if helper:
        return _ask(ask, helper, registry, file.path)
    for key in file.keys(registry, repository)[:1]:
        found = parse_entry(file.auths[key], f"{file.path}: entry {key!r}")
        if found is not None:
            place = CredentialsPlace(kind="file", file=file.path, key=key)
            return Found(credentials=found, place=place)
    return _ask_store(ask, file, registry) if file.store else None


def _ask_store(ask: AskHelper | None, file: AuthFile, registry: str) -> Found | None:
    """What the `credsStore` of a file has; one that is not installed here has nothing.

    Such a setting often comes with a file that was copied from a desktop.
    """
    from imgtools.transport.registry.access.credential_helpers import HelperMissing

    try:
        return _ask(ask, file.store, registry, file.path)
    except HelperMissing as e:
        log.debug("%s: %s", file.path, e.message)
        return None


def _ask(ask: AskHelper | None, helper: str, registry: str, path: str = "") -> Found | None:
    if ask is None:
        from imgtools.transport.registry.access.credential_helpers import helper_get

        ask = helper_get
    credentials = ask(helper, registry)
    if credentials is None:
        return None
    place = CredentialsPlace(kind="helper", file=path, key=registry, helper=helper)
    return Found(credentials=credentials, place=place)
