"""Reads which build checks count: `skip=A,B;experimental=all;error=true`.

It stands in the directive `# check=`, in the build argument BUILDKIT_DOCKERFILE_CHECK, which
takes the directive's place, and in a comment right above an instruction, for that one only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from imgtools.build.checks.model import CheckOptions, CheckSettings
from imgtools.build.language.model import Containerfile
from imgtools.errors import InvalidInput

BUILD_ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"

_COMMENT = re.compile(r"\s*check\s*=\s*(\S+)")
# What strconv.ParseBool of Go accepts.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


def parse_settings(text: str) -> CheckSettings:
    """The settings in `text`; none for blank text. Raises InvalidInput."""
    settings = CheckSettings()
    for part in text.strip().split(";", 2) if text.strip() else ():
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or key not in ("skip", "experimental", "error"):
            raise InvalidInput(
                f"invalid check option {part!r}",
                hint="expected skip=RULE,..., experimental=RULE,... or error=true",
            )
        settings = settings.merged(_setting(key, value))
    return settings


def _setting(key: str, value: str) -> CheckSettings:
    if key == "error":
        if value not in _TRUE and value not in _FALSE:
            raise InvalidInput(f"invalid check option error={value}: expected true or false")
        return CheckSettings(error=value in _TRUE)
    rules = frozenset(name.strip() for name in value.split(","))
    if key == "skip":
        return CheckSettings(skip_all=True) if value == "all" else CheckSettings(skip=rules)
    if value == "all":
        return CheckSettings(experimental_all=True)
    return CheckSettings(experimental=rules)


def settings_of(file: Containerfile, options: CheckOptions) -> CheckSettings:
    """The settings that hold for a whole file. Raises InvalidInput if the build argument, or the
    directive where there is no such argument, is malformed."""
    text = options.build_args.get(BUILD_ARGUMENT, file.directives.check)
    return options.settings.merged(parse_settings(text))


def settings_in(comments: Iterable[str]) -> CheckSettings:
    """What the first `check=` among the comments above an instruction says; nothing if it is
    malformed, for it may be prose."""
    for comment in comments:
        if found := _COMMENT.match(comment):
            try:
                return parse_settings(found[1])
            except InvalidInput:
                return CheckSettings()
    return CheckSettings()
