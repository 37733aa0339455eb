"""Build checks in builds: told as warnings with their place, and refused where a file asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtools.build.events import BuildNote
from imgtools.build.language.errors import ContainerfileError
from imgtools.build.options import NamedContext
from imgtools.errors import InvalidInput
from imgtools.spec.platform import Platform
from tests.build.build_rig import BuildRig

CHECK = "BUILDKIT_DOCKERFILE_CHECK"


@pytest.fixture
def rig(tmp_path: Path) -> BuildRig:
    return BuildRig(tmp_path)


def told(rig: BuildRig) -> list[str]:
    """The rules that were told of, with the lines."""
    notes = [e for e in rig.events if isinstance(e, BuildNote) and e.level == "warning"]
    return [f"{n.place.rpartition(':')[2]} {n.text.partition(':')[0]}" for n in notes]


def test_findings_are_warnings_and_the_image_is_built(rig: BuildRig) -> None:
    rig.base("b", {})
    image = rig.build("FROM b as x\nENV A=$NOT\nWORKDIR rel\nRUN write /f 1\n")
    assert told(rig) == ["1 FromAsCasing", "2 UndefinedVar", "3 WorkdirRelativePath"]
    assert rig.files(image)["f"] == "1"
    notes = [e for e in rig.events if isinstance(e, BuildNote)]
    assert notes[0].place.endswith("Containerfile:1")


def test_variables_of_base_images_are_defined_and_unknown_images_are_not_judged(
    rig: BuildRig,
) -> None:
    """The stage that is not needed stands on an image that nobody has looked up."""
    rig.base("b", {"config": {"Env": ["PYTHON=3", "EMPTY="]}})
    text = "FROM none AS unused\nENV X=$PYTHON\nFROM b\nENV A=$PYTHON B=$EMPTY C=$OTHER\n"
    rig.build(text)
    assert told(rig) == ["4 UndefinedVar"]


def test_variables_that_come_from_a_named_context_are_not_judged(rig: BuildRig) -> None:
    rig.base("real", {"config": {"Env": ["PYTHON=3"]}})
    contexts = (NamedContext(name="b", value="docker-image://real"),)
    rig.build("FROM b\nENV A=$PYTHON\n", contexts=contexts)
    assert told(rig) == []


@pytest.mark.parametrize(
    ("head", "arguments", "expected"),
    [
        ("# check=skip=UndefinedVar\n", {}, []),
        ("# check=skip=all\n", {}, []),
        ("# check=skip=UndefinedVar\n", {CHECK: "skip=JSONArgsRecommended"}, ["3 UndefinedVar"]),
        ("", {CHECK: "skip=UndefinedVar"}, []),
    ],
)
def test_rules_can_be_skipped(
    rig: BuildRig, head: str, arguments: dict[str, str], expected: list[str]
) -> None:
    rig.build(f"{head}FROM scratch\nENV A=$NOT\n", build_args=arguments)
    assert told(rig) == expected


@pytest.mark.parametrize(
    ("head", "arguments"),
    [("# check=error=true\n", {}), ("", {CHECK: "error=true"})],
)
def test_findings_that_are_errors_stop_the_build_before_any_step(
    rig: BuildRig, head: str, arguments: dict[str, str]
) -> None:
    with pytest.raises(ContainerfileError, match="build checks failed: UndefinedVar"):
        rig.build(f"{head}FROM scratch\nRUN write /f 1\nENV A=$NOT\n", build_args=arguments)
    assert rig.ran == 0
    assert len(told(rig)) == 1
    rig.build(f"{head}FROM scratch\nRUN write /f 1\nENV A=b\n", build_args=arguments)
    assert rig.ran == 1


def test_malformed_settings_are_an_error(rig: BuildRig) -> None:
    with pytest.raises(InvalidInput, match="invalid check option"):
        rig.build("# check=nonsense\nFROM scratch\nENV A=b\n")


def test_platforms_share_what_is_found_in_both(rig: BuildRig) -> None:
    platforms = (Platform.parse("linux/amd64"), Platform.parse("linux/arm64"))
    rig.build("FROM scratch\nENV A=$NOT\n", platforms=platforms)
    assert told(rig) == ["2 UndefinedVar"]


def test_what_is_ignored_cannot_be_copied_and_is_told(rig: BuildRig) -> None:
    rig.write(a="1", b="2", _dot_dockerignore="b\n")
    rig.build("FROM scratch\nCOPY a /\nCOPY b* /\n")
    assert told(rig) == []
    rig.write(keep__c="1", _dot_dockerignore="keep/c\n!keep/d\n", keep__d="1")
    rig.build("FROM scratch\nCOPY keep /\n")
    assert told(rig) == []


def test_the_parsers_notes_are_told_once(rig: BuildRig) -> None:
    """An empty line is what a check is about; that can be skipped."""
    text = "# syntax=example.com/other/frontend\nFROM scratch\nENV A=b \\\n\n  C=d\n"
    rig.build(text)
    assert [line.partition(" ")[2] for line in told(rig)][1:] == ["NoEmptyContinuation"]
    assert told(rig)[0].startswith("1 syntax=example.com/other/frontend is not fetched")
    rig.build(f"# check=skip=NoEmptyContinuation\n{text.partition(chr(10))[2]}")
    assert told(rig) == []


def test_a_base_image_of_another_platform_is_told(rig: BuildRig) -> None:
    """An image of one platform is not looked at for its platform when it is named."""
    rig.base("alpine")
    text = "FROM --platform=$BUILDPLATFORM alpine AS tool\nENV A=b\nFROM alpine\nENV A=b\n"
    rig.build(text)
    assert told(rig) == []
    rig.build(text, platforms=(Platform.parse("linux/arm64"),), skip_unused_stages=False)
    assert told(rig) == ["3 InvalidBaseImagePlatform"]
    assert "alpine is for linux/amd64, and linux/arm64 is built" in str(rig.events)
