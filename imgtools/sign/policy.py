"""policy.json: which images are admitted (containers-policy.json(5)).

Parsing is strict and the decision pure: the first scope that matches an image's identity
gives the list of requirements, and all of them must hold. Requirements that need a
signature are understood but cannot be verified by this version, so they reject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from imgtools.errors import InvalidInput, NotFound, Rejected
from imgtools.frozen import dataclass
from imgtools.spec import strict_json
from imgtools.spec.reference import ImageName, Reference

_KEYS = ("keyPath", "keyPaths", "keyData", "keyDatas")
_REKOR = (
    "rekorPublicKeyPath",
    "rekorPublicKeyPaths",
    "rekorPublicKeyData",
    "rekorPublicKeyDatas",
)
_FIELDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "insecureAcceptAnything": frozenset(),
        "reject": frozenset(),
        "signedBy": frozenset({"keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"}),
        "signedBaseLayer": frozenset({"baseLayerIdentity"}),
        "sigstoreSigned": frozenset({*_KEYS, *_REKOR, "fulcio", "pki", "signedIdentity"}),
    }
)

Requirement = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A parsed policy; `origin` names where it came from, for messages."""

    default: tuple[Requirement, ...]
    transports: Mapping[str, Mapping[str, tuple[Requirement, ...]]]
    origin: str = "policy"

    @classmethod
    def parse(cls, content: bytes, origin: str = "policy") -> Policy:
        """The policy in `content`; raises InvalidInput (or InvalidJSON)."""
        value = strict_json.loads_object(content, origin)
        _only(value, {"default", "transports"}, origin)
        if "default" not in value:
            raise InvalidInput(f"{origin}: the default requirements are missing")
        transports = value.get("transports", {})
        if not isinstance(transports, dict):
            raise InvalidInput(f"{origin}: transports is not an object")
        parsed: dict[str, Mapping[str, tuple[Requirement, ...]]] = {}
        for transport, scopes in transports.items():
            if not isinstance(scopes, dict):
                raise InvalidInput(f"{origin}: the scopes of {transport} are not an object")
            for scope in scopes:
                _check_scope(origin, transport, scope)
            parsed[transport] = MappingProxyType(
                {
                    scope: _requirements(items, f"{origin}: {transport}: {scope!r}")
                    for scope, items in scopes.items()
                }
            )
        return cls(
            default=_requirements(value["default"], f"{origin}: default"),
            transports=MappingProxyType(parsed),
            origin=origin,
        )

    def requirements(self, name: ImageName) -> tuple[str, tuple[Requirement, ...]]:
        """The scope that decides about `name` ("default" for none), and its requirements."""
        scopes = self.transports.get(name.transport)
        if scopes is not None:
            for scope in identity_scopes(name):
                if scope in scopes:
                    return f"{name.transport}: {scope!r}", scopes[scope]
        return "default", self.default


def accept_all() -> Policy:
    """The policy that holds when there is no file: every image is admitted."""
    accept = MappingProxyType({"type": "insecureAcceptAnything"})
    return Policy(default=(accept,), transports=MappingProxyType({}), origin="built-in policy")


def load(files: Sequence[str], *, required: bool) -> Policy:
    """The policy in the first of `files` that exists, else `accept_all`.

    With `required` a missing file is NotFound. Raises InvalidInput for a bad one; a file
    that cannot be read is an error too, never a missing one.
    """
    from imgtools.blob.files import storage_errors

    for path in files:
        with storage_errors(path):
            try:
                with open(path, "rb") as file:
                    content = file.read(strict_json.MANIFEST_LIMIT + 1)
            except FileNotFoundError:
                continue
        return Policy.parse(content, path)
    if required:
        raise NotFound(
            f"no policy file: none of {', '.join(files)} exists",
            hint="create one, or name one with --policy",
        )
    return accept_all()


def check(policy: Policy, name: ImageName) -> None:
    """Raise Rejected unless `policy` admits the image called `name`."""
    scope, requirements = policy.requirements(name)
    for requirement in requirements:
        kind = requirement["type"]
        if kind == "insecureAcceptAnything":
            continue
        where = f"{policy.origin}, scope {scope}"
        if kind == "reject":
            raise Rejected(f"{name} is rejected by policy ({where})", requirement=kind)
        raise Rejected(
            f"{name} is not admitted: requirement {kind} cannot be verified ({where})",
            requirement=kind,
            hint="this version does not verify signatures yet; --insecure-policy skips the policy",
        )


def identity_scopes(name: ImageName) -> tuple[str, ...]:
    """The scopes that match an image, most specific first, ending with the empty one."""
    if name.transport == "docker":
        return (*_docker_scopes(Reference.parse(name.rest.removeprefix("//"))), "")
    if name.transport in ("dir", "oci", "oci-archive"):
        return (*_path_scopes(name), "")
    return ("",)


def _docker_scopes(reference: Reference) -> list[str]:
    pinned = f"@{reference.digest}" if reference.digest else f":{reference.tag}"
    scopes = [f"{reference.name}{pinned}", reference.name]
    parent = reference.repository
    while "/" in parent:
        parent = parent.rpartition("/")[0]
        scopes.append(f"{reference.registry}/{parent}")
    scopes.append(reference.registry)
    host = reference.registry
    if not host.startswith("["):
        host = host.partition(":")[0]
        while "." in host:
            host = host.partition(".")[2]
            scopes.append(f"*.{host}")
    return scopes


def _path_scopes(name: ImageName) -> list[str]:
    import os

    path = name.rest if name.transport == "dir" else name.rest.partition(":")[0]
    current = os.path.realpath(path)
    scopes = []
    while current != "/":
        scopes.append(current)
        current = os.path.dirname(current)
    return scopes


def _check_scope(origin: str, transport: str, scope: str) -> None:
    import posixpath

    if not scope:
        return
    if transport in ("dir", "oci", "oci-archive"):
        if not scope.startswith("/") or scope == "/" or posixpath.normpath(scope) != scope:
            raise InvalidInput(
                f"{origin}: {transport}: scope {scope!r} is not an absolute, clean path below /"
            )
    elif transport in ("docker-archive", "tarball"):
        raise InvalidInput(f"{origin}: {transport}: has no scopes but the empty one")


def _requirements(items: object, what: str) -> tuple[Requirement, ...]:
    if not isinstance(items, list) or not items:
        raise InvalidInput(f"{what}: the list of requirements must not be empty")
    out = []
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(kind, str) or kind not in _FIELDS:
            raise InvalidInput(f"{what}: unknown requirement type {kind!r}")
        _only(item, {"type", *_FIELDS[kind]}, f"{what}: {kind}")
        out.append(MappingProxyType(dict(item)))
    return tuple(out)


def _only(value: Mapping[str, Any], allowed: set[str], what: str) -> None:
    for key in value:
        if key not in allowed:
            raise InvalidInput(f"{what}: unknown key {key!r}")
