"""References: how an image is named in a registry, and in every other transport.

Docker's normalisation (distribution/reference) with what it lacks: IPv6 literals and
`name:tag@digest`. `transport:rest` names of the other transports are split here too, by
grammar only; nothing looks at a file system.
"""

from __future__ import annotations

import re
from dataclasses import replace

from imgtools.errors import InvalidDigest, InvalidReference
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest

DOCKER_HUB = "docker.io"
DEFAULT_TAG = "latest"
_NAME_LIMIT = 255

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(
    rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[a-fA-F0-9:]+(?:\.[0-9]+)*\])(?::(?P<port>[0-9]{{1,5}}))?"
)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")
_PORT_AND_PATH = re.compile(r"[0-9]+/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A repository in a registry, with a tag, a digest, both, or (for a repository) neither."""

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, *, default_tag: str = DEFAULT_TAG) -> Reference:
        """The reference `text`, normalised as docker does; raises InvalidReference.

        Without tag and digest the tag is `default_tag`; pass "" for a bare repository.
        """
        name, tag, digest = _split(text)
        registry, repository = _normalise(text, name)
        if not tag and digest is None:
            tag = default_tag
        return cls(registry=registry, repository=repository, tag=tag, digest=digest)

    @property
    def name(self) -> str:
        """`registry/repository`."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """What a manifest URL ends in: the digest when there is one, else the tag."""
        return str(self.digest) if self.digest is not None else self.tag

    @property
    def familiar(self) -> str:
        """The short form that docker shows: without docker.io and library/."""
        if self.registry != DOCKER_HUB:
            return str(self)
        short = self.repository.removeprefix("library/")
        return (self.repository if "/" in short else short) + self._suffix()

    def with_tag(self, tag: str) -> Reference:
        """The same repository with another tag and no digest; raises InvalidReference."""
        if not _TAG.fullmatch(tag):
            raise InvalidReference(tag, "not a valid tag")
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> Reference:
        """The same repository and tag, pinned to `digest`."""
        return replace(self, digest=digest)

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest is not None else tag

    def __str__(self) -> str:
        return self.name + self._suffix()


def is_tag(text: str) -> bool:
    """Whether `text` is a valid tag (distribution-spec "Pulling manifests")."""
    return _TAG.fullmatch(text) is not None


def check_repository(text: str, path: str) -> None:
    """Raise InvalidReference (naming `text`) unless `path` is a valid repository path."""
    if not path:
        raise InvalidReference(text, "the repository is missing")
    for component in path.split("/"):
        if not _COMPONENT.fullmatch(component):
            hint = "repository names are lower case" if component != component.lower() else None
            raise InvalidReference(
                text, f"{component!r} is not a valid component of a repository name", hint=hint
            )


def _split(text: str) -> tuple[str, str, Digest | None]:
    if not text:
        raise InvalidReference(text, "it is empty")
    name, at, digest_text = text.partition("@")
    digest = None
    if at:
        try:
            digest = Digest.parse(digest_text)
        except InvalidDigest as e:
            raise InvalidReference(text, e.message) from e
    # A colon after the last slash begins a tag, unless it stands inside an IPv6 literal
    # or everything up to the end is host:port, which needs a slash and so cannot be here.
    slash = name.rfind("/")
    colon = name.rfind(":")
    tag = ""
    if colon > max(slash, name.rfind("]")):
        name, tag = name[:colon], name[colon + 1 :]
        if not _TAG.fullmatch(tag):
            raise InvalidReference(text, f"{tag!r} is not a valid tag")
    return name, tag, digest


def _normalise(text: str, name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, repository = first, rest
    else:
        registry, repository = DOCKER_HUB, name
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        if _IMAGE_ID.fullmatch(repository):
            raise InvalidReference(text, "64 hexadecimal digits name an image id, not a repository")
        repository = f"library/{repository}"
    check_registry(text, registry)
    check_repository(text, repository)
    if len(registry) + 1 + len(repository) > _NAME_LIMIT:
        raise InvalidReference(text, f"the name is longer than {_NAME_LIMIT} characters")
    return registry, repository


def check_registry(text: str, registry: str) -> None:
    """Raise InvalidReference (naming `text`) unless `registry` is a valid host[:port]."""
    match = _HOST.fullmatch(registry)
    if match is None:
        raise InvalidReference(text, f"{registry!r} is not a valid registry host")
    port = match["port"]
    if port is not None and not 0 < int(port) < 65536:
        raise InvalidReference(text, f"{port} is not a valid port")
    if registry.startswith("["):
        import ipaddress

        literal = registry[1 : registry.index("]")]
        try:
            ipaddress.IPv6Address(literal)
        except ValueError as e:
            raise InvalidReference(text, f"{literal!r} is not an IPv6 address") from e


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageName:
    """`transport:rest`, as users name an image; the transport itself reads `rest`."""

    transport: str
    rest: str

    @classmethod
    def parse(cls, text: str, known: tuple[str, ...]) -> ImageName:
        """The name `text`; raises InvalidReference when its transport is not one of `known`."""
        transport, colon, rest = text.partition(":")
        if "\0" in text:
            raise InvalidReference(text, "it has a NUL character")
        if not colon:
            raise InvalidReference(
                text,
                "it has no transport",
                hint=f"a name is transport:reference, for example docker://{text or 'busybox'}",
            )
        if transport not in known:
            hint = f"known transports are {', '.join(known)}"
            if "/" in transport or "." in transport or _PORT_AND_PATH.match(rest):
                hint = f"did you mean docker://{text}?"
            raise InvalidReference(text, f"unknown transport {transport!r}", hint=hint)
        return cls(transport=transport, rest=rest)

    def __str__(self) -> str:
        return f"{self.transport}:{self.rest}"
