"""Scopes of a policy under which no image falls, so that they protect nothing.

containers/image takes them without a word. What was meant for `busybox` or `quay.io/team/` is then
decided by another scope or by the default, which may admit everything.
"""

from __future__ import annotations

import difflib

from imgtools.errors import InvalidReference
from imgtools.sign.policies.model import Policy
from imgtools.sign.policies.scopes import identity_scopes
from imgtools.spec.reference import ImageName

_TRANSPORTS = (
    "atomic",
    "containers-storage",
    "dir",
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "ostree",
    "sif",
    "tarball",
)
"""Those of imgtools and of containers/image, whose policies these files are."""


def idle_scopes(policy: Policy) -> list[str]:
    """What decides about no image, and what may have been meant."""
    found = []
    for transport, scopes in policy.transports.items():
        if transport not in _TRANSPORTS:
            close = difflib.get_close_matches(transport, _TRANSPORTS, 1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            found.append(f"{policy.origin}: there is no transport {transport!r}{meant}")
        elif transport == "docker":
            found += [
                f"{policy.origin}, docker: no image falls under the scope {scope!r}{_meant(scope)}"
                for scope in scopes
                if not _is_met(scope)
            ]
    return found


def _is_met(scope: str) -> bool:
    """Whether an image can fall under a scope: the one of its name, one below it, or one of a
    host that `*` stands for."""
    return not scope or any(
        scope in _scopes(name) for name in (scope, f"{scope}/x:x", f"x{scope[1:]}/x:x")
    )


def _scopes(name: str) -> tuple[str, ...]:
    try:
        return identity_scopes(ImageName(transport="docker", rest=f"//{name}"))
    except InvalidReference:
        return ()


def _meant(scope: str) -> str:
    plain = (scope.partition("://")[2] or scope).removesuffix("*").rstrip("/")
    host, _, path = plain.partition("/")
    meant = [plain]
    if host in ("docker.io", "index.docker.io"):
        meant += [f"docker.io/{path}" if path else "docker.io", f"docker.io/library/{path}"]
    elif not any(character in host for character in ".[") and not path.startswith("/"):
        meant.append(f"docker.io/{plain}" if path else f"docker.io/library/{plain}")
    close = next((each for each in meant if each != scope and _is_met(each)), None)
    return "" if close is None else f" (did you mean {close!r}?)"
