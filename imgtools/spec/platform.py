"""Platforms: parsing, normalising, and choosing an instance of an index.

OCI image-spec "image-index.md" (property `platform`); variant rules are those that
containers/image and containerd agree on. The order of an index breaks ties.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import field, replace
from typing import Any

from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass

_PART = re.compile(r"[A-Za-z0-9_.-]+")

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "loongarch64": ("loong64", ""),
    "mips64el": ("mips64le", ""),
}
_FALLBACKS = {
    "arm": ("v8", "v7", "v6", "v5"),
    "amd64": ("v4", "v3", "v2", "v1"),
    "arm64": ("v9", "v8"),
}
"""Variants an architecture runs, newest first: a newer machine runs the older ones after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What an image runs on; empty strings mean "not said"."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = field(default=())

    @classmethod
    def parse(cls, text: str, host: Platform | None = None) -> Platform:
        """`os/architecture[/variant]` as users write it; raises InvalidInput.

        With `host` one word is enough, as containerd reads it: an architecture of the host's
        system, or a system on the host's architecture.
        """
        parts = text.split("/")
        if not 1 <= len(parts) <= 3 or not all(_PART.fullmatch(part) for part in parts):
            raise InvalidInput(
                f"invalid platform {text!r}: expected os/architecture[/variant]",
                hint="for example linux/amd64 or linux/arm/v7",
            )
        if len(parts) == 1:
            if host is not None and (found := cls._of_one_word(parts[0].lower(), host)):
                return found
            raise InvalidInput(
                f"invalid platform {text!r}: the architecture is missing",
                hint=f"for example linux/{text}" if text in _KNOWN_ARCH else None,
            )
        variant = parts[2] if len(parts) == 3 else ""
        return cls(os=parts[0], architecture=parts[1], variant=variant).normalised()

    @classmethod
    def _of_one_word(cls, word: str, host: Platform) -> Platform | None:
        if word in _KNOWN_OS:
            return replace(host, os=word).normalised()
        if word in _KNOWN_ARCH or word in _ARCHITECTURES:
            return cls(os=host.os, architecture=word).normalised()
        return None

    @classmethod
    def from_json(cls, value: object) -> Platform | None:
        """The platform object of a descriptor; None when there is none or it is not an object."""
        if not isinstance(value, dict):
            return None

        def text(key: str) -> str:
            found = value.get(key)
            return found if isinstance(found, str) else ""

        features = value.get("os.features")
        named = features if isinstance(features, list) else []
        return cls(
            os=text("os"),
            architecture=text("architecture"),
            variant=text("variant"),
            os_version=text("os.version"),
            os_features=tuple(name for name in named if isinstance(name, str)),
        )

    def to_json(self) -> dict[str, Any]:
        """The descriptor form, keys in the order in which Go writes them."""
        value: dict[str, Any] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            value["os.version"] = self.os_version
        if self.os_features:
            value["os.features"] = list(self.os_features)
        if self.variant:
            value["variant"] = self.variant
        return value

    def normalised(self) -> Platform:
        """The same platform in Go's names: arm64/v8 and amd64/v1 lose the variant, arm gains v7."""
        os = {"macos": "darwin"}.get(self.os.lower(), self.os.lower())
        architecture, variant = self.architecture.lower(), self.variant.lower()
        architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
        variant = variant or implied
        if variant.isdigit():
            variant = f"v{variant}"
        if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
            variant = ""
        if architecture == "arm" and not variant:
            variant = "v7"
        return Platform(
            os=os,
            architecture=architecture,
            variant=variant,
            os_version=self.os_version,
            os_features=self.os_features,
        )

    @property
    def is_unknown(self) -> bool:
        """Whether this is the `unknown/unknown` that BuildKit gives attestations."""
        return self.os == "unknown" and self.architecture == "unknown"

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


_KNOWN_OS = frozenset({"linux", "windows", "darwin", "macos", "freebsd", "wasi"})
_KNOWN_ARCH = frozenset(
    {"amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "loong64", "mips64le"}
)


def from_machine(system: str, machine: str) -> Platform:
    """The platform for what `uname` calls system and machine (os is Go's name for it)."""
    return Platform(os=system, architecture=machine).normalised()


def runnable_variants(architecture: str, variant: str) -> tuple[str, ...]:
    """Variants that a machine of `variant` runs, best first; "" stands for the baseline."""
    order = _FALLBACKS.get(architecture)
    if order is None:
        return (variant, "") if variant else ("",)
    baseline = {"arm64": "v8", "amd64": "v1"}.get(architecture, "")
    wanted = variant or baseline
    if architecture == "arm" and not wanted:
        wanted = "v7"
    tail = order[order.index(wanted) :] if wanted in order else (wanted,)
    named = tuple("" if v == baseline else v for v in tail)
    return named if "" in named else (*named, "")


def choose(candidates: Sequence[Platform | None], wanted: Platform) -> int | None:
    """The position of the best candidate for `wanted`, or None when there is none.

    os and architecture must match; the variant is the best that runs there; os.version
    must match when it is wanted; of equals the first wins. A candidate without platform
    never matches.
    """
    want = wanted.normalised()
    ranks = {v: i for i, v in enumerate(runnable_variants(want.architecture, want.variant))}
    best: tuple[int, int] | None = None
    for position, candidate in enumerate(candidates):
        if candidate is None:
            continue
        have = candidate.normalised()
        if candidate.architecture == "arm" and not candidate.variant:
            have = Platform(os=have.os, architecture="arm", variant="", os_version=have.os_version)
        if (have.os, have.architecture) != (want.os, want.architecture):
            continue
        if want.os_version and have.os_version and have.os_version != want.os_version:
            continue
        if have.variant not in ranks:
            continue
        rank = (ranks[have.variant], position)
        if best is None or rank < best:
            best = rank
    return None if best is None else best[1]


def matches_any(candidate: Platform | None, wanted: Iterable[Platform]) -> bool:
    """Whether `candidate` is exactly one of `wanted` (a wanted platform without variant
    takes any variant of its architecture)."""
    if candidate is None:
        return False
    have = candidate.normalised()
    for platform in wanted:
        want = platform.normalised()
        if (have.os, have.architecture) != (want.os, want.architecture):
            continue
        if not platform.variant or have.variant == want.variant:
            return True
    return False
