"""The file of `--src yaml`: registries and which images of them are wanted.

    registry.example.com:
      images:
        busybox: []                 # every tag
        redis: ["7.2", "sha256:..."]
      images-by-tag-regex:
        nginx: ^1\\.25\\.
      images-by-semver:
        alpine: ">= 3.14"
      credentials: {username: john, password: secret}
      tls-verify: true
      cert-dir: /certs

All of it is checked before anything is asked of a registry; errors name file, line and key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from imgtools.errors import Error, InvalidDigest, InvalidInput, InvalidReference
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.spec.yaml_tree import Node, parse_yaml
from imgtools.sync.names import repository_of
from imgtools.sync.options import RepositoryWanted
from imgtools.sync.tags import EveryTag, MatchingTags, TagFilter, VersionTags
from imgtools.sync.yaml_file import read_file
from imgtools.transport.options import Credentials, RegistryOptions

_TRUE = ("true", "yes", "on", "y")
_FALSE = ("false", "no", "off", "n")


def read_source_file(
    path: str, options: RegistryOptions, *, warn: Callable[[str], object]
) -> tuple[RepositoryWanted, ...]:
    """What the file at `path` asks for, in its order.

    `options` are those of the command line, which a registry's own entries override. `warn`
    is told of unknown keys and of registries without images, which skopeo passes over as
    well. Raises NotFound, StorageError, LimitExceeded, and InvalidInput for a bad file.
    """
    root = parse_yaml(read_file(path), path)
    return _Reader(path, options, warn).file(root)


class _Reader:
    def __init__(self, path: str, options: RegistryOptions, warn: Callable[[str], object]) -> None:
        self.path, self.options, self.warn = path, options, warn

    def file(self, root: Node | None) -> tuple[RepositoryWanted, ...]:
        found: list[RepositoryWanted] = []
        for registry, node in self.mapping(root, ()).items():
            found.extend(self.registry(registry, node))
        if not found:
            raise InvalidInput(f"No images to sync found in {self.path!r}")
        return tuple(found)

    def registry(self, name: str, node: Node) -> list[RepositoryWanted]:
        where = (name,)
        entries = self.mapping(node, where)
        for key in entries:
            if key not in _KEYS:
                self.warn(self.at(entries[key], (*where, key)) + ": unknown key, ignored")
        options = self.registry_options(entries, where)
        wanted: list[RepositoryWanted] = []
        for key in ("images", "images-by-tag-regex", "images-by-semver"):
            for image, value in self.mapping(entries.get(key), (*where, key)).items():
                wanted.append(self.repository(name, key, image, value, options))
        if not wanted:
            self.warn(self.at(node, where) + ": No images specified for registry")
        return wanted

    def repository(
        self, registry: str, key: str, image: str, value: Node, options: RegistryOptions
    ) -> RepositoryWanted:
        where = (registry, key, image)
        try:
            repository = repository_of(f"{registry}/{image}")
        except InvalidReference as e:
            raise self.error(value, where, e.message) from e
        if key != "images":
            tags = self.filter(key, value, where)
            return RepositoryWanted(repository=repository, registry=options, tags=tags)
        texts = self.strings(value, where)
        if not texts:
            return RepositoryWanted(repository=repository, registry=options, tags=EveryTag())
        explicit = tuple(self.reference(repository, text, value, where) for text in texts)
        return RepositoryWanted(repository=repository, registry=options, explicit=explicit)

    def reference(
        self, repository: Reference, text: str, node: Node, where: Sequence[str]
    ) -> Reference:
        """The image that a tag or digest names."""
        try:
            return repository.with_digest(Digest.parse(text))
        except InvalidDigest:
            pass
        try:
            return repository.with_tag(text)
        except InvalidReference as e:
            raise self.error(node, where, f"{text!r} is neither a tag nor a digest") from e

    def filter(self, key: str, node: Node, where: Sequence[str]) -> TagFilter:
        text = self.text(node, where)
        try:
            return MatchingTags(text) if key == "images-by-tag-regex" else VersionTags(text)
        except Error as e:
            raise self.error(node, where, e.message) from e

    def registry_options(self, entries: dict[str, Node], where: Sequence[str]) -> RegistryOptions:
        options = self.options
        given = self.mapping(entries.get("credentials"), (*where, "credentials"))
        values = {}
        for key, node in given.items():
            if key not in _CREDENTIALS:
                raise self.error(node, (*where, "credentials", key), "unknown key")
            values[_CREDENTIALS[key]] = self.text(node, (*where, "credentials", key))
        if any(values.values()):
            options = replace(options, credentials=Credentials(**values), anonymous=False)
        if "tls-verify" in entries and not entries["tls-verify"].is_null:
            verify = self.boolean(entries["tls-verify"], (*where, "tls-verify"))
            options = replace(options, tls_verify=verify, tls_verify_given=True)
        directory = entries.get("cert-dir")
        if directory is not None and not directory.is_null:
            options = replace(options, cert_dir=self.text(directory, (*where, "cert-dir")) or None)
        return options

    def mapping(self, node: Node | None, where: Sequence[str]) -> dict[str, Node]:
        if node is None or node.is_null:
            return {}
        if not isinstance(node.value, dict):
            raise self.error(node, where, "has to be a mapping")
        return node.value

    def strings(self, node: Node, where: Sequence[str]) -> list[str]:
        if node.is_null:
            return []
        if not isinstance(node.value, list):
            raise self.error(node, where, "has to be a list of tags and digests")
        return [self.text(each, where) for each in node.value]

    def text(self, node: Node, where: Sequence[str]) -> str:
        if not isinstance(node.value, str):
            raise self.error(node, where, "has to be a text")
        return "" if node.is_null else node.value

    def boolean(self, node: Node, where: Sequence[str]) -> bool:
        text = node.value.lower() if isinstance(node.value, str) else ""
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise self.error(node, where, "has to be true or false")

    def error(self, node: Node, where: Sequence[str], reason: str) -> InvalidInput:
        return InvalidInput(f"{self.at(node, where)}: {reason}")

    def at(self, node: Node, where: Sequence[str]) -> str:
        keys = f": {' > '.join(where)}" if where else ""
        return f"{self.path}:{node.line}{keys}"


_KEYS = (
    "images",
    "images-by-tag-regex",
    "images-by-semver",
    "credentials",
    "tls-verify",
    "cert-dir",
)
_CREDENTIALS = {
    "username": "username",
    "password": "password",
    "identitytoken": "identity_token",
    "identity_token": "identity_token",
}
