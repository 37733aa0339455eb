"""What kind of thing the name of a build context means. Pure: nothing is looked at.

A directory and an archive in a file are told apart when they are opened.
"""

from __future__ import annotations

import enum
import re

from imgtools.build.contexts.git_source import is_git

_IMAGE_PREFIXES = ("docker-image://", "container-image://", "container-image:", "docker://")
_LAYOUT_PREFIX = "oci-layout:"
_HTTP = re.compile(r"https?://", re.IGNORECASE)


class ContextKind(enum.Enum):
    """Where the files of a context are. IMAGE and LAYOUT are for who has images."""

    NONE = "none"
    LOCAL = "local"
    STDIN = "stdin"
    HTTP = "http"
    GIT = "git"
    IMAGE = "image"
    LAYOUT = "layout"


def classify(value: str) -> ContextKind:
    """The kind of the context `value` (of the command line, or of --build-context NAME=value):
    "" is none, `-` standard input, and whatever has no form of its own a local path."""
    if not value:
        return ContextKind.NONE
    if value == "-":
        return ContextKind.STDIN
    if value.startswith(_IMAGE_PREFIXES):
        return ContextKind.IMAGE
    if value.startswith(_LAYOUT_PREFIX):
        return ContextKind.LAYOUT
    if is_git(value):
        return ContextKind.GIT
    return ContextKind.HTTP if _HTTP.match(value) else ContextKind.LOCAL
