"""`ociVersion` of config.json: a semantic version of the runtime-spec (config.md
"Specification version")."""

from __future__ import annotations

from engine.runtime.spec.values import invalid

OLDEST, NEWEST = "1.0.0", "1.3.0"
EXPECTED = f"a version of the runtime-spec 1.x ({OLDEST} to {NEWEST})"
MAX_NUMBER_DIGITS = 9


def check_version(version: str) -> str:
    """`version` if a document of it can be read: any 1.x, since newer minor versions only add
    properties; raises InvalidConfig."""
    numbers = _numbers(version)
    if numbers is None or numbers[0] != 1:
        raise invalid("ociVersion", EXPECTED, version or None)
    return version


def is_newer(version: str) -> bool:
    """Whether `version`, which `check_version` let pass, may have properties that are not known
    here and so get ignored."""
    numbers, known = _numbers(version), _numbers(NEWEST)
    return numbers is not None and known is not None and numbers[:2] > known[:2]


def _numbers(version: str) -> tuple[int, int, int] | None:
    """major, minor and patch of a semantic version, None if it is not one.

    What follows "-" or "+" only has to be there.
    """
    core = version
    for sign in "+-":
        core, found, rest = core.partition(sign)
        if found and not rest:
            return None
    parts = core.split(".")
    if len(parts) != 3:
        return None
    for part in parts:
        plain = part.isascii() and part.isdecimal() and len(part) <= MAX_NUMBER_DIGITS
        if not plain or (len(part) > 1 and part.startswith("0")):
            return None
    return int(parts[0]), int(parts[1]), int(parts[2])
