"""Which differences between an image of ours and buildah's are meant, and why.

Decided on what `imgtools diff --json` says of the two, ours first. What no rule here names is a
fault of one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

REASONS = {
    "label": "each program names itself in a label of its own",
    "time": "when the image was made; in an annotation too, as newer buildahs have it",
    "base": "buildah 1.28 gives the digest of its own copy of the base image's manifest, and calls"
    " scratch a base with an empty name",
    "format": "OCI images keep HEALTHCHECK, ONBUILD and SHELL with us, as with BuildKit",
    "docker": "buildah's docker format has fields that are empty, or about the container that made"
    " the image, and that BuildKit does not write",
    "mount": "buildah leaves in layers, empty, what it mounts files and directories on",
    "log": "logs and caches of apt, dpkg and ldconfig hold times, and inode numbers",
}
_CONFIG = {
    "config.Labels.io.buildah.version": "label",
    "config.Labels.io.imgtools.version": "label",
    "created": "time",
    "annotations.org.opencontainers.image.created": "time",
    "annotations.org.opencontainers.image.base.digest": "base",
    "annotations.org.opencontainers.image.base.name": "base",
}
_KEPT = ("config.Healthcheck", "config.OnBuild", "config.Shell")
_OF_CONTAINERS = ("config.Hostname", "container", "container_config", "parent")
_MOUNTED = (
    "etc/hosts", "etc/resolv.conf", "etc/tok", "mnt/tree", "run", "run/buildkit",
    "run/buildkit/*", "run/secrets", "run/secrets/*", "scratch", "var/cache/own",
)  # fmt: skip
_LOGS = ("var/log/*", "var/cache/apt/*.bin", "var/cache/ldconfig/aux-cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What differs, and the key in REASONS of why it may; empty if there is none."""

    text: str
    reason: str


def differences(report: Mapping[str, Any]) -> Iterator[Difference]:
    """All of them, of a report of `imgtools diff --json --read-shared`."""
    for change in report["Config"]:
        path = ".".join(change["Path"])
        text = f"config: {path}: {change.get('A')!r}, {change.get('B')!r}"
        yield Difference(text=text, reason=_of_config(path, change))
    for change in report["Files"]:
        what = ", ".join(change.get("What", ())) or change["Change"]
        yield Difference(text=f"file: {change['Path']}: {what}", reason=_of_file(change))


def _of_config(path: str, change: Mapping[str, Any]) -> str:
    if path.startswith(_KEPT) and "B" not in change:
        return "format"
    if "A" not in change and (path in _OF_CONTAINERS or _empty_field(path, change["B"])):
        return "docker"
    return _CONFIG.get(path, "")


def _empty_field(path: str, value: object) -> bool:
    return path.startswith("config.") and value in (False, "", [], {})


def _of_file(change: Mapping[str, Any]) -> str:
    path = change["Path"].rstrip("/")
    if change["Change"] == "added":
        empty = change["B"]["Type"] == "directory" or not change["B"]["Size"]
        return "mount" if empty and _matches(path, _MOUNTED) else ""
    content = change["Change"] == "changed" and change["What"] == ["content"]
    return "log" if content and _matches(path, _LOGS) else ""


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
