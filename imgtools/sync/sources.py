"""What the SOURCE of a command line asks for, by the transport it was given with.

The names are without a transport, because `docker://host:port` could not be told from an
image called `port`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from imgtools.errors import InvalidReference, LimitExceeded, NotFound
from imgtools.spec.reference import Reference
from imgtools.sync.options import DirectoryWanted, RepositoryWanted, Wanted
from imgtools.sync.tags import EveryTag
from imgtools.transport.options import RegistryOptions

SOURCES = ("docker", "dir", "yaml")
_MANIFEST = "manifest.json"
_DEEPEST = 200


def wanted(
    kind: str, source: str, registry: RegistryOptions, *, warn: Callable[[str], object]
) -> tuple[Wanted, ...]:
    """What `source` of `kind`, one of SOURCES, asks for.

    Raises InvalidReference, NotFound, InvalidInput, LimitExceeded, StorageError.
    """
    if kind == "docker":
        return (_repository(source, registry),)
    if kind == "dir":
        if not os.path.exists(source):
            raise NotFound(f"Invalid source directory specified: {source} does not exist")
        return (DirectoryWanted(path=source),)
    from imgtools.sync.config import read_source_file

    return read_source_file(source, registry, warn=warn)


def _repository(source: str, registry: RegistryOptions) -> RepositoryWanted:
    """A repository, or one image of it."""
    try:
        reference = Reference.parse(source, default_tag="")
    except InvalidReference as e:
        if "://" in source:
            e.hint = f"leave {source.partition('://')[0]}:// out: --src says the transport"
        raise
    repository = Reference(registry=reference.registry, repository=reference.repository)
    if reference == repository:
        return RepositoryWanted(repository=repository, registry=registry, tags=EveryTag())
    return RepositoryWanted(repository=repository, registry=registry, explicit=(reference,))


def image_directories(path: str, *, depth: int = 0) -> Iterator[str]:
    """The directories with a `manifest.json` in and below `path`, in lexical order.

    As in skopeo what comes behind that file in its directory is not looked at, and links to
    directories are not followed. Raises StorageError, LimitExceeded.
    """
    from imgtools.blob.files import storage_errors

    if depth > _DEEPEST:
        raise LimitExceeded(f"the directories in {path}", _DEEPEST, unit="levels")
    with storage_errors(path), os.scandir(path) as found:
        entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            below = os.path.normpath(os.path.join(path, entry.name))
            yield from image_directories(below, depth=depth + 1)
        elif entry.name == _MANIFEST:
            yield os.path.normpath(path)
            return
