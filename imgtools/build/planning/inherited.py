"""The settings of a base image's config, as far as instructions go on from them: of the types
that the OCI image-spec (config.md) and Docker give them, or the image is refused.

A config is somebody else's file. What is checked here need not be looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgtools.errors import InvalidManifest

_TEXTS = ("User", "WorkingDir", "StopSignal")
_LISTS = ("Env", "Cmd", "Entrypoint", "Shell", "OnBuild")
_OBJECTS = ("Labels", "Volumes", "ExposedPorts", "Healthcheck")


def checked_settings(document: Mapping[str, Any], image: str) -> Mapping[str, Any]:
    """The settings in an image's config, empty where it has none; `image` is for messages.
    Raises InvalidManifest for a wrong type."""
    settings = document.get("config") or {}
    if not isinstance(settings, Mapping):
        raise _wrong(image, "config", "an object")
    given = {key: value for key, value in settings.items() if value is not None}
    for key in _TEXTS:
        if not isinstance(given.get(key, ""), str):
            raise _wrong(image, key, "a string")
    for key in _LISTS:
        found = given.get(key, [])
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise _wrong(image, key, "a list of strings")
    for key in _OBJECTS:
        if not isinstance(given.get(key, {}), Mapping):
            raise _wrong(image, key, "an object")
    return settings


def _wrong(image: str, key: str, expected: str) -> InvalidManifest:
    return InvalidManifest(f"image {image}: {key!r} in its config is not {expected}")
