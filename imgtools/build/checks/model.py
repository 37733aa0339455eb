"""What build checks are asked and what they answer, as frozen data, and the names of the rules.

The rules are those of BuildKit's build checks, under the same names, so that a file that skips
one for BuildKit skips it here; UnusedStage is our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType

from imgtools.build.ignore.matcher import Matcher
from imgtools.build.language.model import Instruction, Location
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform

RULES = (
    "ConsistentInstructionCasing",
    "CopyIgnoredFile",
    "DuplicateStageName",
    "ExposeInvalidFormat",
    "ExposeProtoCasing",
    "FromAsCasing",
    "FromPlatformFlagConstDisallowed",
    "InvalidBaseImagePlatform",
    "InvalidDefaultArgInFrom",
    "InvalidDefinitionDescription",
    "JSONArgsRecommended",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "MultipleInstructionsDisallowed",
    "NoEmptyContinuation",
    "RedundantTargetPlatform",
    "ReservedStageName",
    "SecretsUsedInArgOrEnv",
    "StageNameCasing",
    "UndefinedArgInFrom",
    "UndefinedVar",
    "UnusedStage",
    "WorkdirRelativePath",
)
EXPERIMENTAL = frozenset(("InvalidDefinitionDescription", "UnusedStage"))
"""Rules that are applied only where they are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """Which rules count: all that are not experimental but `skip`, and `experimental` ones.
    `error` says that a violation fails the build."""

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False
    error: bool = False

    def merged(self, other: CheckSettings) -> CheckSettings:
        """Both together: what either skips, asks for or makes an error."""
        return CheckSettings(
            skip=self.skip | other.skip,
            skip_all=self.skip_all or other.skip_all,
            experimental=self.experimental | other.experimental,
            experimental_all=self.experimental_all or other.experimental_all,
            error=self.error or other.error,
        )

    def applies(self, rule: str) -> bool:
        """Whether violations of `rule` are reported. Skipping does not touch experimental rules,
        as in BuildKit: they are off until they are named."""
        if rule in EXPERIMENTAL:
            return self.experimental_all or rule in self.experimental
        return not self.skip_all and rule not in self.skip


_NATIVE = Platform(os="linux", architecture="amd64")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """What a check knows besides the file. `settings` are the caller's own, on top of those of
    the file. `ignore` is the context's matcher, None without an ignore file. `target` is the
    stage that is asked for, "" for the last.

    `environments` has the variables of base images, by the name in FROM after expansion; in an
    image that is not there no variable is called undefined. None means that images set only
    PATH. `contexts` are the names of additional build contexts, which go before stages and
    images; their variables are not known. `platforms` says of stages (by index) that stand on an
    image which platform was asked for, and which one the image is for.
    """

    settings: CheckSettings = CheckSettings()
    build_args: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ignore: Matcher | None = None
    target: str = ""
    build_platform: Platform = _NATIVE
    target_platform: Platform = _NATIVE
    environments: Mapping[str, Mapping[str, str]] | None = None
    contexts: frozenset[str] = frozenset()
    platforms: Mapping[int, tuple[Platform, Platform]] = field(
        default_factory=lambda: MappingProxyType({})
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckWarning:
    """A violation: the rule's name, one line that says what is wrong, and where."""

    rule: str
    text: str
    location: Location


@dataclass(frozen=True, slots=True)
class Found:
    """A violation as a rule finds it, before it is known whether the rule counts there: comments
    above `instruction` may switch it off. `location` is another place than the instruction's."""

    rule: str
    text: str
    instruction: Instruction | None = None
    location: Location | None = None
