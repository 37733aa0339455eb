"""Which scopes of a policy an image falls under, and so which requirements it has to meet.

The first scope that matches decides, from the most specific to the transport's empty one; the
lists of several scopes are never put together (containers-policy.json(5)).
"""

from __future__ import annotations

import os

from imgtools.errors import InvalidReference
from imgtools.sign.policies.model import AcceptAnything, Chosen, Policy, Reject
from imgtools.spec.reference import ImageName, Reference

_PATHS = ("dir", "oci", "oci-archive")


def choose(policy: Policy, name: ImageName, companion: Policy | None = None) -> Chosen:
    """What the image `name` has to meet; raises InvalidReference for a name with both a tag
    and a digest where a policy's scopes cannot say which of them counts.

    The companion decides about the scopes that it has, policy.json about all others.
    """
    for candidate in (companion, policy):
        if candidate is None:
            continue
        scopes = candidate.transports.get(name.transport)
        for scope in identity_scopes(name) if scopes else ():
            if scopes and scope in scopes:
                return Chosen(
                    origin=candidate.origin,
                    scope=f"{name.transport}: {scope!r}",
                    requirements=scopes[scope],
                )
        if candidate.default is not None:
            return Chosen(origin=candidate.origin, scope="default", requirements=candidate.default)
    raise AssertionError("a policy has a default")


def accepts_anything(chosen: Chosen) -> bool:
    """Whether nothing of the image has to be read to admit it."""
    return all(isinstance(found, AcceptAnything) for found in chosen.requirements)


def asks_for_signatures(policy: Policy) -> bool:
    """Whether any scope of a policy can only be met by reading signatures."""
    lists = [policy.default or ()]
    lists += [found for scopes in policy.transports.values() for found in scopes.values()]
    plain = (AcceptAnything, Reject)
    return any(not isinstance(found, plain) for listed in lists for found in listed)


def identity_scopes(name: ImageName) -> tuple[str, ...]:
    """The scopes that match an image, most specific first, ending with the empty one."""
    if name.transport == "docker":
        return (*_docker_scopes(docker_reference(name)), "")
    if name.transport in _PATHS:
        return (*_path_scopes(name), "")
    if name.transport == "containers-storage":
        return (*_storage_scopes(name.rest), "")
    return ("",)


def docker_reference(name: ImageName) -> Reference:
    """The reference of a docker:// name; raises InvalidReference."""
    if not name.rest.startswith("//"):
        raise InvalidReference(str(name), "docker: names begin with //")
    return Reference.parse(name.rest[2:])


def _docker_scopes(reference: Reference) -> list[str]:
    # A name with both is looked up by what is read, which is the digest.
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
    path = name.rest if name.transport == "dir" else name.rest.partition(":")[0]
    current = os.path.realpath(path)
    scopes = []
    while current != "/":
        scopes.append(current)
        current = os.path.dirname(current)
    return scopes


def _storage_scopes(rest: str) -> list[str]:
    """`[driver@root]name`, then `[driver@root]` and `[root]`, where the name has a store."""
    if not rest.startswith("["):
        return []
    store, bracket, image = rest[1:].partition("]")
    if not bracket:
        return []
    root = store.partition("@")[2].partition("+")[0] or store.partition("+")[0]
    scopes = [f"[{store}]{image}"] if image else []
    return [*scopes, f"[{store}]", f"[{root}]"]
