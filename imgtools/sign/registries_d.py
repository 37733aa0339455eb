"""Where the signatures of a registry's images are: containers-registries.d(5).

Sections are looked up from the most specific name on, and every field on its own: one that a
section leaves out is taken from the next wider one, as containers/image does (its manual says
otherwise).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType

from imgtools.errors import InvalidInput, LimitExceeded, NotFound
from imgtools.frozen import dataclass
from imgtools.sign.policies.scopes import identity_scopes
from imgtools.spec.reference import ImageName, Reference
from imgtools.spec.yaml_tree import Node, parse_yaml

_FILE_LIMIT = 1024 * 1024
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one section says, "" and None for what it leaves out; `file` is where it stands."""

    file: str
    lookaside: str = ""
    lookaside_staging: str = ""
    sigstore: str = ""
    sigstore_staging: str = ""
    use_sigstore_attachments: bool | None = None

    @property
    def read_base(self) -> str:
        """Where signatures are read, "" when this does not say."""
        return self.lookaside or self.sigstore

    @property
    def write_base(self) -> str:
        """Where signatures are written, "" when this does not say."""
        return self.lookaside_staging or self.sigstore_staging or self.read_base


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlaces:
    """Where the signatures of an image are: the URLs below which simple signatures are read
    and written, and whether its registry may have them as attachments, None where nothing is
    said of it."""

    lookaside_read: str
    lookaside_write: str
    attachments: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistriesD:
    """A configuration: `default` is the section default-docker, `docker` the others by name,
    `lookaside` the URL where neither says anything."""

    default: Section | None = None
    docker: Mapping[str, Section] = field(default_factory=lambda: MappingProxyType({}))
    lookaside: str = ""

    def for_reference(self, reference: Reference) -> StorePlaces:
        """The places for the image `reference`."""
        sections = list(self._sections(reference))
        attachments = (section.use_sigstore_attachments for section in sections)
        return StorePlaces(
            lookaside_read=next((s.read_base for s in sections if s.read_base), self.lookaside),
            lookaside_write=next((s.write_base for s in sections if s.write_base), self.lookaside),
            attachments=next((use for use in attachments if use is not None), None),
        )

    def says_of(self, reference: Reference) -> bool:
        """Whether a section says where the signatures of `reference` are read."""
        return any(s.read_base or s.use_sigstore_attachments for s in self._sections(reference))

    def _sections(self, reference: Reference) -> Iterator[Section]:
        for name in section_names(reference):
            section = self.docker.get(name)
            if section is not None:
                yield section
        if self.default is not None:
            yield self.default


def section_names(reference: Reference) -> tuple[str, ...]:
    """The names of sections for `reference`, most specific first: those of policy scopes, but
    for the empty one. An image with tag and digest is known by its digest."""
    name = ImageName(transport="docker", rest=f"//{reference}")
    return tuple(scope for scope in identity_scopes(name) if scope)


def load(dirs: Sequence[str], *, lookaside: str = "", required: bool = False) -> RegistriesD:
    """The configuration in the first of `dirs` that exists: its files `*.yaml`.

    `lookaside` is the URL for what no section covers. With `required` there has to be one of
    the directories. Raises NotFound, StorageError, InvalidInput (a section that comes twice,
    fields that are no texts) and LimitExceeded. Fields that are not known are passed over.
    """
    from imgtools.blob.files import storage_errors

    for directory in dirs:
        try:
            with storage_errors(directory):
                names = sorted(os.listdir(directory))
        except NotFound:
            continue
        paths = [os.path.join(directory, name) for name in names if name.endswith(".yaml")]
        return _merged([(path, _read(path)) for path in paths], lookaside)
    if required:
        raise NotFound(f"there is no directory {' or '.join(dirs)} with files of registries.d")
    return RegistriesD(lookaside=lookaside)


def _read(path: str) -> bytes:
    from imgtools.blob.files import storage_errors

    with storage_errors(path), open(path, "rb") as file:
        content = file.read(_FILE_LIMIT + 1)
    if len(content) > _FILE_LIMIT:
        raise LimitExceeded(path, _FILE_LIMIT)
    return content


def _merged(files: Sequence[tuple[str, bytes]], lookaside: str) -> RegistriesD:
    default: Section | None = None
    docker: dict[str, Section] = {}
    for path, content in files:
        top = _mapping(parse_yaml(content, path), path)
        found = top.get("default-docker")
        if found is not None and not found.is_null:
            if default is not None:
                raise _twice("default-docker", default.file, path)
            default = _section(found, path)
        for name, node in _mapping(top.get("docker"), path).items():
            if name in docker:
                raise _twice(f"docker namespace {name!r}", docker[name].file, path)
            docker[name] = _section(node, path)
    return RegistriesD(default=default, docker=MappingProxyType(docker), lookaside=lookaside)


def _twice(what: str, first: str, second: str) -> InvalidInput:
    return InvalidInput(
        f"{what} is defined both in {first} and in {second}", hint="remove one of them"
    )


def _mapping(node: Node | None, path: str) -> dict[str, Node]:
    if node is None or node.is_null:
        return {}
    if not isinstance(node.value, dict):
        raise InvalidInput(f"{path}:{node.line}: it is not a mapping")
    return node.value


def _section(node: Node, path: str) -> Section:
    fields = _mapping(node, path)

    def text(key: str) -> str:
        found = fields.get(key)
        if found is None or found.is_null:
            return ""
        if not isinstance(found.value, str):
            raise InvalidInput(f"{path}:{found.line}: {key} is not a text")
        return found.value

    use = text("use-sigstore-attachments")
    if use and use not in (*_TRUE, *_FALSE):
        line = fields["use-sigstore-attachments"].line
        raise InvalidInput(f"{path}:{line}: use-sigstore-attachments is neither true nor false")
    return Section(
        file=path,
        lookaside=text("lookaside"),
        lookaside_staging=text("lookaside-staging"),
        sigstore=text("sigstore"),
        sigstore_staging=text("sigstore-staging"),
        use_sigstore_attachments=use in _TRUE if use else None,
    )
