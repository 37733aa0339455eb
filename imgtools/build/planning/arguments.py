"""Where build arguments come from: predefined ones, those in front of the first FROM, and what
the caller gives (Dockerfile reference, "Predefined ARGs" and "Understand how ARG and FROM
interact")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from imgtools.build.language.expand import expand_word
from imgtools.build.language.model import Arg, Location
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform

PROXIES = (
    "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy",
    "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy",
)  # fmt: skip
QUIET = frozenset(
    (*PROXIES, "SOURCE_DATE_EPOCH", "BUILDKIT_BUILD_NAME", "BUILDKIT_CACHE_MOUNT_NS",
     "BUILDKIT_CONTEXT_KEEP_GIT_DIR", "BUILDKIT_DOCKERFILE_CHECK", "BUILDKIT_INLINE_CACHE",
     "BUILDKIT_MULTI_PLATFORM",
     "BUILDKIT_SANDBOX_HOSTNAME", "BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE",
     "BUILDKIT_SYNTAX")
)  # fmt: skip
"""Arguments that mean something without being declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """All that ARG may get its value from. `given` are the caller's; `known` those that a bare
    ARG in a stage takes: predefined ones and those in front of the first FROM. `place` calls
    with a location what a word means; see `expander`."""

    given: Mapping[str, str]
    known: Mapping[str, str]
    escape: str = "\\"

    def expand(self, word: str, variables: Mapping[str, str]) -> str:
        """The word with its variables; raises InvalidInput."""
        return expand_word(word, variables, escape=self.escape).text


def platform_arguments(build: Platform, target: Platform, stage: str) -> dict[str, str]:
    """BUILD* and TARGET* arguments; `stage` is the one that was asked for, "" for none."""
    found: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        found[f"{prefix}PLATFORM"] = str(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = platform.variant
        found[f"{prefix}OSVERSION"] = platform.os_version
    found["TARGETSTAGE"] = stage or "default"
    return found


def global_arguments(
    args: Iterable[Arg],
    given: Mapping[str, str],
    predefined: Mapping[str, str],
    *,
    escape: str,
    refuse: Callable[[Exception, Location], Exception],
) -> Arguments:
    """The arguments of a file whose instructions before the first FROM are `args`. What is
    wrong with an expansion is raised as `refuse` makes it."""
    from imgtools.errors import InvalidInput

    known = {**predefined, **{k: v for k, v in given.items() if k in predefined}}
    for instruction in args:
        for name, default in instruction.pairs:
            value = given.get(name)
            if value is None and default is not None:
                try:
                    value = expand_word(default, known, escape=escape).text
                except InvalidInput as e:
                    raise refuse(e, instruction.location) from e
            if value is not None:
                known[name] = value
    return Arguments(given=given, known=known, escape=escape)
