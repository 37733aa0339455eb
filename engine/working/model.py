"""What is recorded of a working container, as a frozen document.

The record says what an image of the container will be: the config and annotations as they are
now, and the history to come. What its files are is in the snapshot of the same id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, fields
from types import MappingProxyType
from typing import Any

from engine.storage.layout import checked_id
from imgtools.build.protocols import HostSettings
from imgtools.errors import InvalidInput, InvalidManifest
from imgtools.frozen import dataclass
from imgtools.spec.config import History
from imgtools.spec.descriptor import optional, string_map
from imgtools.spec.digest import Digest

VERSION = 1
SCRATCH = "scratch"
_TEXTS = ("name", "image", "manifest", "config", "created_by", "history_comment", "hostname",
          "domainname", "format", "isolation", "shown_at", "shown_boot")  # fmt: skip
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingContainer:
    """A working container: `id` (64 hex digits) is also that of its snapshot.

    `image` is the name it was made from (SCRATCH without an image), `image_id` and
    `image_digest` what that was, with `manifest` and `config` as text; `layer` is the chain_id
    below the snapshot. `document` is the image config to be, without rootfs and history of its
    own. `before` and `after` are history entries around that of the next layer, which says
    `created_by` and `history_comment`. `settings` and `isolation` are for commands that are run
    in it; `proxies` says whether they get the caller's proxy variables. `format` is oci or
    docker. `shown_at` is the directory where people look at its tree, in the boot `shown_boot`.
    """

    id: str
    name: str
    image: str = SCRATCH
    image_id: str = ""
    image_digest: str = ""
    manifest: str = ""
    config: str = ""
    layer: Digest | None = None
    created: float = 0.0
    document: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    annotations: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    before: tuple[History, ...] = ()
    after: tuple[History, ...] = ()
    created_by: str = ""
    history_comment: str = ""
    hostname: str = ""
    domainname: str = ""
    settings: HostSettings = field(default_factory=HostSettings)
    proxies: bool = True
    isolation: str = ""
    format: str = "oci"
    shown_at: str = ""
    shown_boot: str = ""

    @property
    def run_config(self) -> Mapping[str, Any]:
        """The `config` object of the image config."""
        found = self.document.get("config")
        return found if isinstance(found, dict) else _EMPTY

    def to_json(self) -> dict[str, Any]:
        """The document of the record."""
        return {
            "version": VERSION,
            "id": self.id,
            **{key: getattr(self, key) for key in _TEXTS},
            "imageId": self.image_id,
            "imageDigest": self.image_digest,
            "layer": str(self.layer) if self.layer else "",
            "created": self.created,
            "document": dict(self.document),
            "annotations": dict(self.annotations),
            "before": [entry.to_json() for entry in self.before],
            "after": [entry.to_json() for entry in self.after],
            "settings": _listed(asdict(self.settings)),
            "proxies": self.proxies,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WorkingContainer:
        """The container that a record describes; raises InvalidInput."""
        what = "record of a working container"
        if value.get("version") != VERSION:
            raise InvalidInput(f"{what} of version {value.get('version')!r}: {VERSION} is known")
        identity = optional(value, "id", str, what)
        texts = {key: optional(value, key, str, what) or "" for key in _TEXTS}
        layer = optional(value, "layer", str, what)
        if not identity or not texts["name"]:
            raise InvalidManifest(f"{what} has no id or name")
        return cls(
            id=checked_id(identity),
            **texts,
            image_id=optional(value, "imageId", str, what) or "",
            image_digest=optional(value, "imageDigest", str, what) or "",
            layer=Digest.parse(layer) if layer else None,
            created=float(value.get("created") or 0.0),
            document=optional(value, "document", dict, what) or {},
            annotations=string_map(value, "annotations", what),
            before=_history(value, "before"),
            after=_history(value, "after"),
            settings=_settings(optional(value, "settings", dict, what) or {}),
            proxies=bool(optional(value, "proxies", bool, what)),
        )


def _listed(value: Any) -> Any:
    """The value with lists for tuples, as JSON has them."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _settings(value: Mapping[str, Any]) -> HostSettings:
    default = HostSettings()
    known: dict[str, Any] = {}
    for each in fields(HostSettings):
        if each.name not in value:
            continue
        found, usual = _tupled(value[each.name]), getattr(default, each.name)
        kind = int if usual is None else type(usual)
        if found is not None and not isinstance(found, kind):
            raise InvalidManifest(f"record of a working container: {each.name} is of a wrong type")
        known[each.name] = found
    return HostSettings(**known)


def _history(value: Mapping[str, Any], key: str) -> tuple[History, ...]:
    what = "record of a working container"
    entries = optional(value, key, list, what) or []
    if not all(isinstance(entry, dict) for entry in entries):
        raise InvalidManifest(f"{what}: {key} has an entry that is not an object")
    return tuple(
        History(
            created=str(entry.get("created", "")),
            created_by=str(entry.get("created_by", "")),
            author=str(entry.get("author", "")),
            comment=str(entry.get("comment", "")),
            empty_layer=bool(entry.get("empty_layer")),
        )
        for entry in entries
    )
