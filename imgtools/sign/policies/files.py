"""Where policies are: the first policy.json that exists, and the companion beside it.

No file at all admits every image, unless one is asked for; a file that cannot be read or parsed
is an error before any image is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from imgtools.blob.files import storage_errors
from imgtools.errors import NotFound
from imgtools.frozen import dataclass
from imgtools.sign.policies.companion import parse_companion
from imgtools.sign.policies.model import AcceptAnything, Policy
from imgtools.sign.policies.parse import parse_policy
from imgtools.spec import strict_json

COMPANION_NAME = "imgtools-policy.json"
"""The companion's name, in the directory of policy.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFiles:
    """Where to look: policies, first match wins, and companions, first match wins too;
    `required` says that the policy has to be there, `companion_required` the same."""

    policies: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    required: bool = False
    companion_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What is in force: policy.json, or what stands for it, and its companion if there is
    one."""

    policy: Policy
    companion: Policy | None = None


def load(files: PolicyFiles) -> Policies:
    """The policies in force; raises NotFound, InvalidInput, InvalidJSON, StorageError and
    LimitExceeded."""
    found = _first(files.policies)
    if found is not None:
        policy = parse_policy(*found)
    elif files.required:
        raise NotFound(
            f"no policy file: none of {', '.join(files.policies)} exists",
            hint="create one, or name one with --policy",
        )
    else:
        policy = accept_all()
    extra = _first(files.companions)
    if extra is None and files.companion_required:
        raise NotFound(f"no companion policy: there is no {', '.join(files.companions)}")
    return Policies(policy=policy, companion=parse_companion(*extra) if extra else None)


def accept_all() -> Policy:
    """The policy that holds when there is no file: every image is admitted."""
    return Policy(
        default=(AcceptAnything(),), transports=MappingProxyType({}), origin="built-in policy"
    )


def _first(paths: Sequence[str]) -> tuple[bytes, str] | None:
    """The content and path of the first file that exists."""
    for path in paths:
        with storage_errors(path):
            try:
                with open(path, "rb") as file:
                    return file.read(strict_json.MANIFEST_LIMIT + 1), path
            except FileNotFoundError:
                continue
    return None
