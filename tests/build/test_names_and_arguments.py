"""Build arguments whose value is the caller's variable, or that nothing declares; and names that
stages and contexts cannot take from what they mean already."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtools.build.checks.model import CheckOptions
from imgtools.build.checks.run import run_checks
from imgtools.build.events import BuildNote
from imgtools.build.language.parser import parse
from imgtools.build.options import NamedContext
from imgtools.build.planning.model import ContextRef, CopyWork, ImageRef, PathsFrom, ScratchRef
from tests.build.build_rig import BuildRig
from tests.build.cli_request import requests, run
from tests.build.planned import planned


@pytest.fixture(name="rig")
def _rig(tmp_path: Path) -> BuildRig:
    return BuildRig(tmp_path)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("of the caller", {"A": "of the caller"}), ("", {"A": ""}), (None, {})],
)
def test_e28_an_argument_without_a_value_has_that_of_the_environment(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    expected: dict[str, str],
) -> None:
    if variable is None:
        monkeypatch.delenv("A", raising=False)
    else:
        monkeypatch.setenv("A", variable)
    found = requests(monkeypatch)
    assert run(tmp_path, "--build-arg", "A", str(tmp_path)) == 0
    assert dict(found[0].build.build_args) == expected


def test_e28_an_argument_that_nothing_declares_is_warned_of_and_without_effect(
    rig: BuildRig,
) -> None:
    text = "FROM scratch\nARG A=default\nRUN write /a $A$B\n"
    rig.build(text, build_args={"B": "1", "A": None})
    assert rig.files() == {"a": "default"}
    notes = [event for event in rig.events if isinstance(event, BuildNote)]
    assert [note.level for note in notes if "B" in note.text] == ["warning"]
    ran = rig.ran
    rig.build(text, build_args={"B": "2"})
    assert (ran, rig.ran) == (1, 0), "it is in no key"


@pytest.mark.parametrize("name", ["scratch", "context", "Context"])
def test_e38_a_stage_with_a_reserved_name_is_found_by_checks(name: str) -> None:
    file = parse(f"FROM busybox AS {name}\n".encode(), "Containerfile")
    found = [(w.rule, w.text) for w in run_checks(file, CheckOptions())]
    assert ("ReservedStageName", f"stage name '{name.lower()}' is reserved") in found


def test_e38_contexts_do_not_take_reserved_names() -> None:
    text = "FROM scratch\nCOPY --from=scratch a /\nCOPY --from=context b /\nCOPY --from=o c /\n"
    (plan,) = planned(text, contexts=("scratch", "context", "o"))
    assert plan.standing.source == ScratchRef()
    sources = [
        source.source
        for step in plan.steps
        if isinstance(step.work, CopyWork)
        for source in step.work.sources
        if isinstance(source, PathsFrom)
    ]
    assert sources == [ScratchRef(), ImageRef(name="context"), ContextRef(name="o")]


def test_e38_scratch_is_empty_whatever_a_context_is_called(rig: BuildRig) -> None:
    rig.write(a="1")
    contexts = (NamedContext(name="scratch", value=str(rig.context)),)
    rig.build("FROM scratch\nCOPY a /b\n", contexts=contexts)
    assert rig.files() == {"b": "1"}


def test_e38_a_stage_called_context_is_a_stage(rig: BuildRig) -> None:
    rig.write(a="1")
    text = "FROM scratch AS context\nRUN write /a stage\nFROM scratch\nCOPY --from=context /a /b\n"
    rig.build(text)
    assert rig.files() == {"b": "stage"}
