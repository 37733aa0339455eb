"""`inspect --config`: any image's config in the shape of OCI's Go type.

Pure. Known properties in the order of image-spec `specs-go/v1/config.go`, empty ones left
out as Go's "omitempty" does; what the type does not have is dropped, as skopeo does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from imgtools.errors import InvalidManifest, Unsupported
from imgtools.image.model import Image
from imgtools.inspect.gotime import go_time
from imgtools.spec.descriptor import optional, string_list, string_map
from imgtools.spec.digest import Digest
from imgtools.spec.schema1 import Schema1

_WHAT = "image config"


def oci_config(image: Image) -> dict[str, Any]:
    """The object that `inspect --config` prints.

    A schema 1 image has no diff_ids, so an empty string stands for each, as in skopeo.
    Raises Unsupported for an artifact, InvalidManifest for a property of a wrong type.
    """
    if isinstance(image.manifest, Schema1):
        return _from_schema1(image.manifest)
    if image.config is None:
        config = image.manifest.config.media_type
        raise Unsupported(
            f"an artifact with config type {config} has no image config",
            hint="--config --raw prints its config as it is",
        )
    return _config(image.config.document)


def _config(document: Mapping[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    _put(value, "created", _time(document, "created"))
    _put(value, "author", _text(document, "author"))
    value["architecture"] = _text(document, "architecture")
    value["os"] = _text(document, "os")
    _put(value, "os.version", _text(document, "os.version"))
    _put(value, "os.features", list(string_list(document, "os.features", _WHAT)))
    _put(value, "variant", _text(document, "variant"))
    value["config"] = _settings(optional(document, "config", dict, _WHAT) or {})
    rootfs = optional(document, "rootfs", dict, _WHAT) or {}
    has_ids = rootfs.get("diff_ids") is not None
    value["rootfs"] = {
        "type": _text(rootfs, "type"),
        "diff_ids": list(string_list(rootfs, "diff_ids", _WHAT)) if has_ids else None,
    }
    history = optional(document, "history", list, _WHAT) or []
    _put(value, "history", [_step(step) for step in history])
    return value


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    readers: tuple[tuple[str, Callable[[Mapping[str, Any], str], Any]], ...] = (
        ("User", _text),
        ("ExposedPorts", _set),
        ("Env", _list),
        ("Entrypoint", _list),
        ("Cmd", _list),
        ("Volumes", _set),
        ("WorkingDir", _text),
        ("Labels", _map),
        ("StopSignal", _text),
        ("ArgsEscaped", _flag),
    )
    value: dict[str, Any] = {}
    for key, read in readers:
        _put(value, key, read(settings, key))
    return value


def _step(step: object) -> dict[str, Any]:
    if not isinstance(step, Mapping):
        raise InvalidManifest(f"{_WHAT}: a history entry is not an object")
    value: dict[str, Any] = {}
    _put(value, "created", _time(step, "created"))
    for key in ("created_by", "author", "comment"):
        _put(value, key, _text(step, key))
    _put(value, "empty_layer", _flag(step, "empty_layer"))
    return value


def _from_schema1(manifest: Schema1) -> dict[str, Any]:
    count = len(manifest.real_layers())
    # The conversion wants diff_ids, which only reading the layers would tell.
    stand_in = Digest("sha256", "0" * 64)
    value = _config(manifest.to_config((stand_in,) * count))
    value["rootfs"]["diff_ids"] = [""] * count
    return value


def _put(value: dict[str, Any], key: str, found: Any) -> None:
    if found:
        value[key] = found


def _text(value: Mapping[str, Any], key: str) -> str:
    return optional(value, key, str, _WHAT) or ""


def _time(value: Mapping[str, Any], key: str) -> str | None:
    text = _text(value, key)
    return (go_time(text) or text) if text else None


def _flag(value: Mapping[str, Any], key: str) -> bool:
    return bool(optional(value, key, bool, _WHAT))


def _list(value: Mapping[str, Any], key: str) -> list[str]:
    return list(string_list(value, key, _WHAT))


def _map(value: Mapping[str, Any], key: str) -> dict[str, str]:
    return dict(sorted(string_map(value, key, _WHAT).items()))


def _set(value: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """A Go map[string]struct{}: only its keys count."""
    return {name: {} for name in sorted(optional(value, key, dict, _WHAT) or {})}
