"""Build checks, each rule with what violates it and what does not."""

from __future__ import annotations

import pytest

from imgtools.build.checks.model import EXPERIMENTAL, RULES, CheckOptions, CheckSettings
from imgtools.build.checks.run import refuse, run_checks
from imgtools.build.checks.settings import parse_settings
from imgtools.build.ignore.matcher import Matcher
from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.parser import parse
from imgtools.errors import InvalidInput
from imgtools.spec.platform import Platform

ARM = Platform(os="linux", architecture="arm64")

# Rule, the lines where it is violated, the file.
CASES = [
    ("ConsistentInstructionCasing", [2], "FROM scratch\nWorkdir /a\nENV A=b"),
    ("ConsistentInstructionCasing", [1], "FROM scratch\nworkdir /a\nenv A=b"),
    ("ConsistentInstructionCasing", [2], "FROM scratch\nenv A=b"),
    ("ConsistentInstructionCasing", [], "from scratch\nenv A=b"),
    ("ConsistentInstructionCasing", [], "arg A\nFROM scratch"),
    ("DuplicateStageName", [2], "FROM a AS x\nFROM b AS X\nFROM c AS y\nFROM d"),
    ("DuplicateStageName", [], "FROM a\nFROM b"),
    ("ExposeInvalidFormat", [2], "FROM a\nEXPOSE 80:80"),
    ("ExposeInvalidFormat", [2], "FROM a\nEXPOSE [::1]:80:80/tcp"),
    ("ExposeInvalidFormat", [2], "FROM a\nEXPOSE 127.0.0.1::80"),
    ("ExposeInvalidFormat", [3], "FROM a\nARG P=1:2\nEXPOSE $P"),
    ("ExposeInvalidFormat", [], "FROM a\nEXPOSE 80 81/udp 82-83/tcp"),
    ("ExposeProtoCasing", [2], "FROM a\nEXPOSE 80/TCP"),
    ("ExposeProtoCasing", [2], "FROM a\nEXPOSE 80/tcp 81/Udp"),
    ("ExposeProtoCasing", [], "FROM a\nEXPOSE 80/tcp"),
    ("FromAsCasing", [1, 2], "FROM a as x\nfrom x AS y\nFROM y AS z"),
    ("FromAsCasing", [], "FROM a AS x\nfrom x as y\nFrom y as z"),
    ("FromPlatformFlagConstDisallowed", [1], "FROM --platform=linux/amd64 a"),
    ("FromPlatformFlagConstDisallowed", [1], "FROM --platform=linux/amd64 a AS x"),
    ("FromPlatformFlagConstDisallowed", [], "FROM --platform=linux/amd64 a AS on_amd64"),
    ("FromPlatformFlagConstDisallowed", [], "FROM --platform=$BUILDPLATFORM a"),
    ("InvalidDefaultArgInFrom", [2], "ARG T\nFROM a:${T}"),
    ("InvalidDefaultArgInFrom", [2], "ARG T=Up\nFROM $T"),
    ("InvalidDefaultArgInFrom", [1], "FROM $T"),
    ("InvalidDefaultArgInFrom", [], "ARG T=1\nFROM a:${T}"),
    ("InvalidDefaultArgInFrom", [], "ARG T\nFROM a${T:+:$T}"),
    ("InvalidDefaultArgInFrom", [], "ARG T=Up\nFROM a AS up\nFROM $T"),
    ("InvalidDefinitionDescription", [2], "# a base\nFROM a AS x"),
    ("InvalidDefinitionDescription", [3, 5], "FROM a\n# no\nARG x\n# no\nARG x y"),
    ("InvalidDefinitionDescription", [], "# x is a base\nFROM a AS x\n# y\nARG x y"),
    ("InvalidDefinitionDescription", [], "# a base\n\nFROM a AS x\n# no\n#\nARG x"),
    ("InvalidDefinitionDescription", [], "# a base\nFROM a\n# runs\nRUN b"),
    ("JSONArgsRecommended", [2, 3], "FROM a\nCMD b\nENTRYPOINT c"),
    ("JSONArgsRecommended", [], 'FROM a\nCMD ["b"]\nENTRYPOINT ["c"]\nRUN d'),
    ("JSONArgsRecommended", [], 'FROM a AS x\nSHELL ["b", "-c"]\nFROM x\nCMD c'),
    ("JSONArgsRecommended", [4], 'FROM a AS x\nSHELL ["b", "-c"]\nFROM a\nCMD c'),
    ("LegacyKeyValueFormat", [2, 3], "FROM a\nENV b c\nLABEL d e"),
    ("LegacyKeyValueFormat", [], 'FROM a\nENV b=c\nLABEL d="e f"'),
    ("MaintainerDeprecated", [2], "FROM a\nMAINTAINER b"),
    ("MaintainerDeprecated", [], "FROM a\nLABEL org.opencontainers.image.authors=b"),
    ("MultipleInstructionsDisallowed", [2, 3], 'FROM a\nCMD ["b"]\nCMD ["c"]\nCMD ["d"]'),
    ("MultipleInstructionsDisallowed", [2], "FROM a\nHEALTHCHECK NONE\nHEALTHCHECK NONE"),
    ("MultipleInstructionsDisallowed", [2], 'FROM a\nENTRYPOINT ["b"]\nENTRYPOINT ["c"]'),
    ("MultipleInstructionsDisallowed", [], 'FROM a AS x\nCMD ["b"]\nFROM x\nCMD ["c"]'),
    ("NoEmptyContinuation", [3], "FROM a\nRUN b \\\n\n  c"),
    ("NoEmptyContinuation", [], "FROM a\nRUN b \\\n# c\n  d\n\nRUN e"),
    ("NoEmptyContinuation", [], "# syntax=other/frontend\nFROM a"),
    ("RedundantTargetPlatform", [1], "FROM --platform=$TARGETPLATFORM a"),
    ("RedundantTargetPlatform", [1], "FROM --platform=${TARGETPLATFORM} a"),
    ("RedundantTargetPlatform", [], "FROM --platform=$TARGETPLATFORM$X a"),
    ("RedundantTargetPlatform", [], "FROM --platform=$BUILDPLATFORM a"),
    ("ReservedStageName", [1, 2], "FROM a AS scratch\nFROM b AS Context"),
    ("ReservedStageName", [], "FROM scratch AS base"),
    ("SecretsUsedInArgOrEnv", [2, 3], "FROM a\nARG GITHUB_TOKEN\nENV A=b apikey=c"),
    ("SecretsUsedInArgOrEnv", [2], "FROM a\nENV db_password_x=1"),
    ("SecretsUsedInArgOrEnv", [], "FROM a\nARG MONKEY AUTHOR TOKEN_FILE PUBLIC_KEY"),
    ("StageNameCasing", [1], "FROM a AS Base"),
    ("StageNameCasing", [], "FROM A AS base"),
    ("UndefinedArgInFrom", [2, 3], "ARG V\nFROM a:$X\nFROM --platform=$Y a:$V"),
    ("UndefinedArgInFrom", [], "ARG V\nFROM --platform=$TARGETOS/$V a:$V"),
    ("UndefinedVar", [2], "FROM a\nCOPY $x .\nARG x"),
    ("UndefinedVar", [2], "FROM a\nENV A=1 B=$A"),
    ("UndefinedVar", [2, 3], "FROM a\nARG x=$y\nLABEL $y=1"),
    ("UndefinedVar", [3], "ARG x\nFROM a\nWORKDIR /$x"),
    ("UndefinedVar", [2], "FROM a\nCOPY <<E /f\n$x\nE"),
    ("UndefinedVar", [2], "FROM a\nRUN --mount=type=cache,target=$x true"),
    ("UndefinedVar", [2, 3, 4, 5], "FROM a\nUSER $x\nVOLUME $x\nSTOPSIGNAL $x\nADD $x --b /"),
    ("UndefinedVar", [], "FROM a\nARG x\nCOPY $x .\nENV P=$PATH A=1\nENV B=$A"),
    ("UndefinedVar", [], "FROM a AS b\nARG x\nENV y=1\nFROM b\nCOPY $x $y"),
    ("UndefinedVar", [], "FROM a\nRUN $x\nCMD $x\nCOPY <<'E' /f\n$x\nE"),
    ("UndefinedVar", [], "FROM a\nARG SBOM=$BUILDKIT_SBOM_SCAN_STAGE"),
    ("UnusedStage", [1], "FROM a AS x\nFROM b AS y\nFROM y"),
    ("UnusedStage", [1, 2], "FROM a AS x\nFROM x\nFROM c"),
    ("UnusedStage", [], "FROM a AS x\nFROM b AS y\nFROM y\nCOPY --from=X / /"),
    ("UnusedStage", [], "FROM a\nFROM b\nCOPY --from=0 / /"),
    ("UnusedStage", [], "FROM a AS x\nFROM b\nRUN --mount=from=x,target=/x c"),
    ("WorkdirRelativePath", [2], "FROM a\nWORKDIR b\nWORKDIR c"),
    ("WorkdirRelativePath", [3], "FROM a\nARG d=b\nWORKDIR $d"),
    ("WorkdirRelativePath", [], "FROM a AS x\nWORKDIR /b\nFROM x\nWORKDIR c"),
]


@pytest.mark.parametrize(("rule", "lines", "text"), CASES)
def test_rule(rule: str, lines: list[int], text: str) -> None:
    """Every violation at its line, and no other one of this rule."""
    options = CheckOptions(settings=CheckSettings(experimental_all=True))
    found = run_checks(parse(text.encode(), "File"), options)
    assert [w.location.first for w in found if w.rule == rule] == lines
    assert all(w.text for w in found)


@pytest.mark.parametrize(
    ("ignored", "lines", "copy"),
    [
        ("a", [2], "COPY a /"),
        ("a", [2], "COPY ./x /a/b /"),
        ("a", [2], "ADD a/../a/b /"),
        ("a", [], "ADD https://example.com/a /"),
        ("a", [], "COPY --from=x a /"),
        ("a", [], "COPY . /"),
        ("*", [2], "COPY . /"),
        ("* !a", [], "COPY . /"),
        ("a !a/b", [], "COPY a /"),
        ("*.log", [2], "COPY *.log /"),
        ("a", [], "COPY <<a /\nb\na"),
    ],
)
def test_rule_copy_ignored_file(ignored: str, lines: list[int], copy: str) -> None:
    """Only where nothing brings a part of it back."""
    options = CheckOptions(ignore=Matcher(ignored.split()))
    found = run_checks(parse(f"FROM x\n{copy}\n".encode(), "File"), options)
    assert [w.location.first for w in found if w.rule == "CopyIgnoredFile"] == lines


def test_all_rules_have_cases() -> None:
    """Each is violated at least once and each is kept to at least once."""
    violated = {rule for rule, lines, _ in CASES if lines}
    kept = {rule for rule, lines, _ in CASES if not lines}
    # Two depend on what is beside the file, and have tests of their own.
    assert violated == kept == set(RULES) - {"CopyIgnoredFile", "InvalidBaseImagePlatform"}


def rules(text: str, options: CheckOptions | None = None) -> list[str]:
    """The rules that a file violates."""
    return [w.rule for w in run_checks(parse(text.encode(), "File"), options or CheckOptions())]


LEGACY = "FROM a as b\nENV c d\n"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("skip=all", []),
        ("skip=FromAsCasing", ["LegacyKeyValueFormat"]),
        ("skip = FromAsCasing , LegacyKeyValueFormat ; error=true", []),
        ("skip=SomeFutureRule", ["FromAsCasing", "LegacyKeyValueFormat"]),
        ("experimental=InvalidDefinitionDescription", ["FromAsCasing", "LegacyKeyValueFormat"]),
        ("", ["FromAsCasing", "LegacyKeyValueFormat"]),
    ],
)
def test_rules_are_skipped_by_directive_argument_and_caller(
    settings: str, expected: list[str]
) -> None:
    """The build argument takes the place of the directive; the caller adds to either."""
    directive = f"# check={settings.replace(' ', '')}\n" if settings else ""
    assert rules(directive + LEGACY) == expected
    argument = CheckOptions(build_args={"BUILDKIT_DOCKERFILE_CHECK": settings})
    assert rules("# check=skip=FromAsCasing,JSONArgsRecommended\n" + LEGACY, argument) == expected
    assert rules(LEGACY, CheckOptions(settings=parse_settings(settings))) == expected


def test_a_comment_skips_a_rule_for_one_instruction() -> None:
    """Prose that looks like one is not refused."""
    text = "FROM a\n# check=skip=LegacyKeyValueFormat // old\nENV b c\n# check=prose\nENV d e\n"
    found = run_checks(parse(text.encode(), "File"), CheckOptions())
    assert [(w.rule, w.location.first) for w in found] == [("LegacyKeyValueFormat", 5)]
    inner = "# check=experimental=InvalidDefinitionDescription\n# a base\nFROM a AS x\n"
    assert rules("\n" + inner) == ["InvalidDefinitionDescription"]


def test_experimental_rules_are_off_until_asked_for() -> None:
    """By name, or all; skipping all does not touch them."""
    text = "# a base\nFROM a AS x\n\nFROM b\n"
    assert rules(text) == []
    assert rules("# check=skip=all;experimental=all\n" + text) == sorted(
        EXPERIMENTAL, key=("InvalidDefinitionDescription", "UnusedStage").index
    )
    assert rules("# check=experimental=UnusedStage\n" + text) == ["UnusedStage"]


@pytest.mark.parametrize(
    "settings", ["skip", "skips=all", "error=maybe", "error=", "skip=all;;", "experimental"]
)
def test_malformed_settings_are_refused(settings: str) -> None:
    """With what was expected."""
    with pytest.raises(InvalidInput, match="invalid check option"):
        parse_settings(settings)
    with pytest.raises(InvalidInput, match="invalid check option"):
        rules(LEGACY, CheckOptions(build_args={"BUILDKIT_DOCKERFILE_CHECK": settings}))


def test_violations_are_errors_where_that_is_set() -> None:
    """At the first of them, with the names of all; and only if there are any."""
    file = parse(b"# check=error=true\n" + LEGACY.encode(), "File")
    with pytest.raises(ContainerfileError) as caught:
        refuse(file, CheckOptions(), run_checks(file, CheckOptions()))
    assert caught.value.message == (
        "File:2: build checks failed: FromAsCasing, LegacyKeyValueFormat"
    )
    assert caught.value.excerpt == "FROM a as b"
    refuse(file, CheckOptions(), ())
    quiet = parse(LEGACY.encode(), "File")
    refuse(quiet, CheckOptions(), run_checks(quiet, CheckOptions()))


def test_undefined_variables_suggest_what_may_be_meant() -> None:
    """In stages and in FROM."""
    text = "ARG VERSION=1\nFROM a:$VERSIN\nENV PATH=$PAHT:/b"
    found = run_checks(parse(text.encode(), "File"), CheckOptions())
    texts = {w.rule: w.text for w in found}
    assert "did you mean VERSION?" in texts["UndefinedArgInFrom"]
    assert "did you mean PATH?" in texts["UndefinedVar"]


def test_variables_of_base_images() -> None:
    """Known ones count as defined; of an unknown image nothing is said."""
    text = "FROM known:1 AS x\nENV A=$THERE B=$NOT\nFROM x\nENV C=$NOT\nFROM other\nENV D=$NOT\n"
    options = CheckOptions(environments={"known:1": {"THERE": "1"}})
    found = run_checks(parse(text.encode(), "File"), options)
    assert [w.location.first for w in found if w.rule == "UndefinedVar"] == [2, 4]
    scratch = parse(b"FROM scratch\nENV A=$NOT B=$PATH\n", "File")
    assert [w.rule for w in run_checks(scratch, options)] == ["UndefinedVar"]


def test_build_arguments_have_their_values() -> None:
    """In FROM, in stages, and for predefined platforms."""
    text = "ARG T\nFROM a:$T\nARG W=/abs\nWORKDIR $W\n"
    given = CheckOptions(build_args={"T": "1", "W": "rel"}, target_platform=ARM)
    assert rules(text, given) == ["InvalidDefaultArgInFrom", "WorkdirRelativePath"]
    other = CheckOptions(build_args={"TARGETPLATFORM": "linux/s390x"}, target_platform=ARM)
    assert rules("FROM --platform=$TARGETPLATFORM a", other) == ["RedundantTargetPlatform"]


def test_build_contexts_go_before_stages_and_images() -> None:
    """What they set is not known, and the stage whose name they have is not used."""
    text = "FROM a AS x\nFROM x\nENV A=$NOT\nCOPY --from=x / /\n"
    settings = CheckSettings(experimental_all=True)
    assert rules(text, CheckOptions(settings=settings)) == ["UndefinedVar"]
    options = CheckOptions(settings=settings, contexts=frozenset(("x",)))
    assert rules(text, options) == ["UnusedStage"]


def test_unused_stages_depend_on_the_target() -> None:
    """By name or by number; of a target that is not there nothing is said."""
    settings = CheckSettings(skip_all=True, experimental=frozenset(("UnusedStage",)))
    text = "FROM a AS x\nFROM x AS y\nFROM b\n"
    for target, unused in (("", 2), ("Y", 1), ("1", 1), ("x", 2), ("9", 0), ("none", 0)):
        options = CheckOptions(settings=settings, target=target)
        assert len(rules(text, options)) == unused, target


@pytest.mark.parametrize(
    "text",
    [
        "ARG A=${\nFROM a",
        "FROM ${A",
        "FROM --platform=${A a",
        "FROM a\nENV A=${B:?no}\nARG C=${\nWORKDIR ${\nEXPOSE ${",
        "FROM a\nCOPY ${ /\nCOPY <<E /\n${\nE\nLABEL a=${A?}",
    ],
)
def test_what_cannot_be_expanded_is_left_to_the_build(text: str) -> None:
    """Checks neither fail nor report anything for it."""
    found = run_checks(parse(text.encode(), "File"), CheckOptions())
    assert "UndefinedVar" not in [w.rule for w in found]
