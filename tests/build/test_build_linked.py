"""COPY --link on other layers than before: the layer that was made then is put on them, wherever
nothing of it depends on what is below."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtools.build.options import CacheOptions, Stamps
from imgtools.errors import NotFound
from imgtools.spec.digest import Digest
from tests.build.build_rig import BuildRig

COPY = "COPY --link --chown=5:6 --chmod=750 d /deep/er/\n"


@pytest.fixture
def rig(tmp_path: Path) -> BuildRig:
    rig = BuildRig(tmp_path)
    rig.write(d__file="content", other="x")
    return rig


def below(number: int, step: str = COPY) -> str:
    return f"FROM scratch\nRUN write /below {number}\n{step}"


def last(rig: BuildRig, text: str, **options: object) -> Digest:
    return rig.build(text, **options).config.diff_ids[-1]  # type: ignore[arg-type]


def test_the_layer_is_put_on_another_base(rig: BuildRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte, though directories that are made have the time of the build."""
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    first = last(rig, below(1))
    monkeypatch.setattr("time.time", lambda: 1_500_000_000.0)
    assert last(rig, below(2)) == first
    assert rig.cached() == [False, True]
    assert rig.files() == {"below": "2", "deep/er/file": "content"}
    assert last(rig, below(2)) == first
    assert rig.cached() == [True, True]
    assert last(rig, below(1)) == first
    assert rig.cached() == [True, True]


def test_history_is_that_of_a_step_that_was_found(rig: BuildRig) -> None:
    one, two = rig.build(below(1)), rig.build(below(2))
    assert one.config.history[-1] == two.config.history[-1]
    assert "multi:" in str(two.config.history[-1]) or "dir:" in str(two.config.history[-1])


def test_a_stage_is_a_source_as_well(rig: BuildRig) -> None:
    """Whose layers are the same ones, or have the same files."""
    text = "FROM scratch AS a\nRUN write /a/f 1\nFROM scratch\nRUN write /b {}\nCOPY --link --from=a /a /c\n"  # noqa: E501
    first = last(rig, text.format(1))
    assert last(rig, text.format(2)) == first
    assert rig.files() == {"b": "2", "c/f": "1"}
    same = text.format(3).replace("FROM scratch AS a\n", "FROM scratch AS a\nRUN write /x 1\n")
    assert last(rig, same) == first
    assert rig.cached()[-1]


@pytest.mark.parametrize(
    "step",
    [
        "COPY --chown=5:6 --chmod=750 d /deep/er/\n",
        "COPY --link --chown=5:7 --chmod=750 d /deep/er/\n",
        "COPY --link --chown=5:6 --chmod=750 d /deeper/\n",
        "COPY --link --chown=5:6 --chmod=750 other /deep/er/\n",
        "ADD --link --chown=5:6 --chmod=750 d /deep/er/\n",
    ],
)
def test_any_difference_makes_another_step(rig: BuildRig, step: str) -> None:
    rig.build(below(1))
    rig.build(below(2, step))
    assert rig.cached() == [False, False]


def test_without_link_the_base_counts(rig: BuildRig) -> None:
    step = "COPY d /deep/er/\n"
    rig.build(below(1, step))
    rig.build(below(2, step))
    assert rig.cached() == [False, False]


def test_what_changed_is_copied(rig: BuildRig) -> None:
    first = last(rig, below(1))
    rig.write(d__file="changed")
    assert last(rig, below(2)) != first
    assert rig.files()["deep/er/file"] == "changed"


def test_names_of_owners_are_not_looked_up_below(rig: BuildRig) -> None:
    for number in (1, 2):
        with pytest.raises(NotFound, match="no user 'joe'"):
            rig.build(below(number, "COPY --link --chown=joe d /d\n"))


def test_no_cache_and_other_times_count(rig: BuildRig) -> None:
    rig.build(below(1))
    rig.build(below(2), cache=CacheOptions(enabled=False))
    assert rig.cached() == [False, False]
    rig.build(below(3), stamps=Stamps(timestamp=7))
    assert rig.cached() == [False, False]


def test_a_layer_that_is_gone_is_made_again(rig: BuildRig) -> None:
    first = rig.build(below(1))
    for chain, layer in list(rig.store.layers.items()):
        if layer.diff_id == first.config.diff_ids[-1]:
            del rig.store.layers[chain]
    rig.build(below(2))
    assert rig.cached() == [False, False]
    assert rig.files() == {"below": "2", "deep/er/file": "content"}


def test_a_plan_knows_of_it_and_changes_nothing(rig: BuildRig) -> None:
    rig.build(below(1))
    rig.build("FROM scratch\nRUN write /below 2\n")
    known, layers = dict(rig.store.records), set(rig.store.layers)
    rig.build(below(2) + "RUN write /more 1\n", dry=True)
    fates = [step.fate for step in rig.result.planned]
    assert fates[-3:] == ["cached", "cached", "run"]
    assert (dict(rig.store.records), set(rig.store.layers)) == (known, layers)
