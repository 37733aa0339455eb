"""Puts one blob into a repository: mounted where that is possible, else in two requests.

POST asks for the mount and opens the session that the PUT of the whole body then uses. What
happens after an interruption is in sending.py; what an earlier process left unfinished is
gone on with, when a journal knows it and the registry still does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

from imgtools.errors import ConnectionFailed, Denied, RegistryError
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Task
from imgtools.transport.base import BlobOpener
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.push.sending import Sending
from imgtools.transport.registry.push.upload_session import (
    Upload,
    ask_status,
    is_mounted,
    is_session,
    is_stored,
    open_session,
    session_of,
)
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.url import Origin

if TYPE_CHECKING:
    from imgtools.transport.registry.push.upload_journal import Entry

__all__ = ["is_stored", "store"]

log = logging.getLogger(__name__)

_MOST_MOUNTS = 3


def store(
    repository: Repository,
    descriptor: Descriptor,
    open_blob: BlobOpener,
    sources: Sequence[str],
    *,
    task: Task,
) -> Literal["mounted", "stored"]:
    """Mount the blob from one of the repositories `sources`, or upload it.

    Reports Advanced events under the digest, negative ones for what has to be sent again. A
    session that is of no more use is ended; one that a later run can go on with is left.
    Raises what reading the blob raises, Denied, ConnectionFailed, RegistryError, Cancelled.
    """
    with ExitStack() as stack:
        entry = _journal_entry(repository, descriptor)
        if entry is not None:
            stack.callback(entry.close)
        upload = _remembered(repository, descriptor, entry, task)
        if upload is None:
            started = start(repository, descriptor.digest, sources, task=task)
            if started == "mounted":
                return "mounted"
            upload = started
        sending = Sending(repository, descriptor, open_blob, task=task, upload=upload, entry=entry)
        sending.run()
    return "stored"


def start(
    repository: Repository, digest: Digest, sources: Sequence[str], *, task: Task
) -> Upload | Literal["mounted"]:
    """Mount the blob from one of the repositories `sources`, or open a session.

    A mount that cannot be had opens a session, which is used; one that is refused is not
    asked for again. Raises DigestMismatch, Denied, ConnectionFailed, RegistryError.
    """
    features = repository.session.features
    for source in [name for name in sources if features.mounts(name)][:_MOST_MOUNTS]:
        try:
            response = repository.start_upload(mount=digest, source=source, cancel=task.cancel)
        except Denied as e:
            # The token server may refuse the second scope; without it we may still push.
            log.debug("mount of %s from %s: %s", digest.short, source, e.message)
            features.no_mounts(source)
            continue
        if is_mounted(response, digest):
            response.drain()
            return "mounted"
        if features.known.has_blob(source, digest):
            log.debug("%s is not mounted from where it is: %d", digest.short, response.status)
            features.known.no_mounts()
        if is_session(response):
            return session_of(repository, response)
        log.debug("mount of %s from %s: %d", digest.short, source, response.status)
        response.drain()
        if 400 <= response.status < 500 and response.status != 429:
            features.no_mounts(source)
    return open_session(repository, task)


def _journal_entry(repository: Repository, descriptor: Descriptor) -> Entry | None:
    directory = repository.session.options.journal_dir
    if directory is None:
        return None
    from imgtools.transport.registry.push import upload_journal

    if descriptor.size < upload_journal.SMALLEST:
        return None
    return upload_journal.claim(
        directory,
        registry=repository.session.host,
        repository=repository.name,
        digest=descriptor.digest,
    )


def _remembered(
    repository: Repository, descriptor: Descriptor, entry: Entry | None, task: Task
) -> Upload | None:
    """The session an earlier process left, if the registry still has it.

    Raises ExchangeFailed when the registry cannot be reached; then it stays remembered.
    """
    if entry is None or entry.remembered is None:
        return None
    location = entry.remembered.location
    try:
        if Origin.of(location) == Origin.of(repository.session.base):
            found = ask_status(repository, location, descriptor.size, task)
            if found is not None:
                log.debug("%s: going on at byte %d", descriptor.digest.short, found.offset)
                return found
            repository.cancel_upload(location)
    except ExchangeFailed:
        raise
    except (ConnectionFailed, RegistryError, Denied) as e:
        log.debug("the remembered upload of %s: %s", descriptor.digest.short, e.message)
    entry.remove()
    return None
