"""Key material of a requirement, loaded: what a policy names becomes keys, rings and roots.

All keys of a list have to be usable, even if an earlier one would do (containers/image): a
policy with a broken key is broken.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from imgtools.errors import InvalidKey
from imgtools.sign.material import read_material
from imgtools.sign.policies.model import Material, TimedKey

if TYPE_CHECKING:
    from imgtools.sign.keys.public import PublicKey


def contents(material: Material) -> tuple[bytes, ...]:
    """The content of each file or datum; raises InvalidKey, StorageError, LimitExceeded."""
    return material.data or tuple(read_material(path) for path in material.paths)


def one(material: Material) -> bytes:
    """The content of material that is a single file or datum."""
    return contents(material)[0]


def public_keys(material: Material, *, ecdsa: bool = False) -> tuple[PublicKey, ...]:
    """The keys of `material`; with `ecdsa` they have to be of that kind, as log keys are."""
    from imgtools.sign.keys.public import load_public_key

    names = material.paths or tuple(f"{material.field} {n + 1}" for n in range(len(material.data)))
    keys = []
    for name, content in zip(names, contents(material), strict=True):
        key = load_public_key(content, name)
        if ecdsa and not key.is_ecdsa:
            raise InvalidKey(f"{name}: a log's key has to be ECDSA, not {key.description}")
        keys.append(key)
    return tuple(keys)


def keys_at(keys: tuple[TimedKey, ...], now: datetime) -> tuple[PublicKey, ...]:
    """The keys of a rotation that count at `now`; raises InvalidKey when there is none."""
    loaded = [(timed, public_keys(timed.key)) for timed in keys]
    found = tuple(
        key
        for timed, (key,) in loaded
        if (timed.not_before is None or timed.not_before <= now)
        and (timed.not_after is None or now < timed.not_after)
    )
    if not found:
        raise InvalidKey(f"none of the {len(keys)} keys counts at {now:%Y-%m-%dT%H:%M:%SZ}")
    return found
