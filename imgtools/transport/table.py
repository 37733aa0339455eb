"""The table of transports: a name such as `oci:dir:tag` to an open source or destination.

A transport's module is imported when a name first needs it. One `Transports` lives as long
as a command and owns the registry sessions, so that everything in it shares connections,
challenges and tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from imgtools.errors import Unsupported
from imgtools.spec.reference import ImageName, Reference
from imgtools.task import CancelToken
from imgtools.transport.base import Destination, Opener, Source
from imgtools.transport.closing import Closing
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions

if TYPE_CHECKING:
    from imgtools.transport.registry.api import Repository
    from imgtools.transport.registry.pool import SessionPool
    from imgtools.transport.registry.routes import Routes

TRANSPORTS = (
    "docker",
    "oci",
    "oci-archive",
    "docker-archive",
    "dir",
    "tarball",
    "containers-storage",
    "docker-daemon",
)
"""Every transport whose names we understand; the last is not there yet, and the one before it
is given to `Transports` by who has a store."""


class Transports(Closing):
    """Opens sources and destinations, and closes the registry sessions behind them."""

    def __init__(
        self,
        cancel: CancelToken | None = None,
        *,
        warn: Callable[[str], object] | None = None,
        more: Mapping[str, Callable[[], Opener]] = MappingProxyType({}),
    ) -> None:
        """Cancelling `cancel` also ends waits for a registry that nothing else could end;
        `warn` is called with each warning of a registry, from any thread, instead of
        logging it. `more` has the transports of other packages by name, each made when a
        name first needs it and closed with this."""
        self._cancel = cancel
        self._warn = warn
        self._more = more
        self._openers: dict[str, Opener] = {}
        self._sessions: SessionPool | None = None
        self._routes: Routes | None = None

    def open_source(self, name: str | ImageName, options: SourceOptions) -> Source:
        """The source that `name` means; raises InvalidReference, Unsupported or NotFound."""
        parsed = name if isinstance(name, ImageName) else parse_name(name)
        match parsed.transport:
            case "docker":
                return self.routes.source(registry_reference(parsed), options.registry)
            case "oci":
                from imgtools.transport.oci_layout import LayoutSource

                return LayoutSource.open(parsed.rest, shared_blob_dir=options.shared_blob_dir)
            case "oci-archive":
                from imgtools.transport.oci_archive import OciArchiveSource

                return OciArchiveSource.open(parsed.rest, tmpdir=options.tmpdir)
            case "docker-archive":
                from imgtools.transport.docker_archive import DockerArchiveSource

                return DockerArchiveSource.open(parsed.rest, tmpdir=options.tmpdir)
            case "dir":
                from imgtools.transport.directory import DirectorySource

                return DirectorySource(parsed.rest)
            case "tarball":
                from imgtools.transport.tarball import TarballSource

                return TarballSource.open(parsed.rest, tmpdir=options.tmpdir)
        return self._opener(parsed).open_source(parsed.rest, options)

    def open_destination(self, name: str | ImageName, options: DestinationOptions) -> Destination:
        """The destination that `name` means; raises InvalidReference, Unsupported, Conflict
        or StorageError. Nothing is written before the first `put_blob`."""
        parsed = name if isinstance(name, ImageName) else parse_name(name)
        match parsed.transport:
            case "docker":
                from imgtools.transport.registry.push.destination import RegistryDestination

                reference = registry_reference(parsed)
                session = self.routes.writer(reference, options.registry)
                return RegistryDestination(
                    session, reference, additional_tags=options.additional_tags
                )
            case "oci":
                from imgtools.transport.oci_layout_writer import LayoutDestination

                _no_additional_tags(parsed, options)
                return LayoutDestination.open(
                    parsed.rest,
                    shared_blob_dir=options.shared_blob_dir,
                    accept_uncompressed=options.accept_uncompressed,
                    journal_dir=options.registry.journal_dir,
                )
            case "oci-archive":
                from imgtools.transport.oci_archive import OciArchiveDestination

                _no_additional_tags(parsed, options)
                return OciArchiveDestination.open(
                    parsed.rest,
                    tmpdir=options.tmpdir,
                    accept_uncompressed=options.accept_uncompressed,
                )
            case "docker-archive":
                from imgtools.transport.docker_archive_writer import DockerArchiveDestination

                return DockerArchiveDestination.open(
                    parsed.rest, additional_tags=options.additional_tags, tmpdir=options.tmpdir
                )
            case "dir":
                from imgtools.transport.directory_writer import DirectoryDestination

                _no_additional_tags(parsed, options)
                return DirectoryDestination(parsed.rest, journal_dir=options.registry.journal_dir)
            case "tarball":
                raise Unsupported("tarball: can only be read, not written")
        return self._opener(parsed).open_destination(parsed.rest, options)

    def list_tags(
        self, reference: Reference, options: RegistryOptions, limit: int | None = None
    ) -> list[str]:
        """The tags of the repository of `reference` (whose own tag does not matter), in the
        registry's order, each once, at most `limit`; mirrors that serve tags are asked first.

        Raises ImageNotFound for a repository that does not exist, Denied, ConnectionFailed,
        RegistryError, InvalidJSON, LimitExceeded, Rejected for one that is blocked.
        """
        return self.routes.tags(reference, options, limit)

    def repository(
        self, reference: Reference, options: RegistryOptions, *, push: bool = False
    ) -> Repository:
        """The repository of `reference`: with `push` the one that writes go to, to change it,
        else where its registry is configured to be. Never a mirror; raises Rejected for one
        that is blocked."""
        from imgtools.transport.registry.api import Repository

        if push:
            return Repository(
                self.routes.writer(reference, options), reference.repository, push=True
            )
        session, there = self.routes.reader(reference, options)
        return Repository(session, there.repository)

    @property
    def routes(self) -> Routes:
        """Where references lead in this command, by the configuration of registries."""
        if self._routes is None:
            from imgtools.transport.registry.routes import Routes

            self._routes = Routes(self.sessions)
        return self._routes

    @property
    def sessions(self) -> SessionPool:
        """The registry sessions of this command."""
        if self._sessions is None:
            from imgtools.transport.registry.pool import SessionPool

            self._sessions = SessionPool(self._cancel, warn=self._warn)
        return self._sessions

    def close(self) -> None:
        """Close all connections; safe to call twice."""
        sessions, self._sessions, self._routes = self._sessions, None, None
        if sessions is not None:
            sessions.close()
        while self._openers:
            self._openers.popitem()[1].close()

    def _opener(self, name: ImageName) -> Opener:
        """What opens the names of a transport that is not ours; raises Unsupported."""
        found = self._openers.get(name.transport)
        if found is None:
            make = self._more.get(name.transport)
            if make is None:
                raise _unsupported(name)
            found = self._openers[name.transport] = make()
        return found


def parse_name(text: str) -> ImageName:
    """`transport:rest`; raises InvalidReference."""
    return ImageName.parse(text, TRANSPORTS)


def registry_reference(name: ImageName) -> Reference:
    """The reference of a `docker://` name; raises InvalidReference."""
    from imgtools.errors import InvalidReference

    if not name.rest.startswith("//"):
        raise InvalidReference(
            str(name), "docker: names begin with //", hint=f"did you mean docker://{name.rest}?"
        )
    return Reference.parse(name.rest[2:])


def _no_additional_tags(name: ImageName, options: DestinationOptions) -> None:
    if options.additional_tags:
        raise Unsupported(f"{name.transport}: does not take additional tags")


def _unsupported(name: ImageName) -> Unsupported:
    return Unsupported(f"the transport {name.transport}: is not supported by this version")
