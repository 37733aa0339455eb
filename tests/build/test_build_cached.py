"""Builds whose cache is wrong: records for other layers, and layers that cannot be had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imgtools.build.cache.chain import CacheUnusable
from imgtools.build.events import BuildNote, StepFailed
from imgtools.build.execute.environment import LocalCache
from imgtools.build.protocols import CacheRecord
from imgtools.spec.digest import Digest
from imgtools.task import Event, Note, Task
from tests.build.build_rig import BuildRig

TEXT = "FROM scratch\nRUN write /a 1\nRUN write /b 2\n"


@pytest.fixture
def rig(tmp_path: Path) -> BuildRig:
    return BuildRig(tmp_path)


class Lying(LocalCache):
    """A cache that says of every layer that it stands on another one."""

    def find(self, key: str, *, task: Task) -> CacheRecord | None:
        """See StepCache."""
        found = super().find(key, task=task)
        return found and replace(found, parent=Digest.of(b"another"))


class Forgetful(LocalCache):
    """A cache that cannot give what it has found, for as long as it is asked."""

    def __init__(self, rig: BuildRig, *, again: bool) -> None:
        super().__init__(rig.store)
        self.again = again
        self.bad: set[str] = set()
        self.asked = 0

    def find(self, key: str, *, task: Task) -> CacheRecord | None:
        """See StepCache."""
        return None if key in self.bad else super().find(key, task=task)

    def obtain(self, record: CacheRecord, *, task: Task) -> None:
        """See StepCache."""
        self.asked += 1
        self.bad.add(record.key)
        error = CacheUnusable("a layer is in no cache")
        error.again = self.again
        raise error


def test_a_record_that_stands_on_other_layers_is_not_believed(rig: BuildRig) -> None:
    first = rig.build(TEXT)
    rig.cache = Lying(rig.store)
    second = rig.build(TEXT)
    assert rig.ran == 2
    assert rig.files(second) == rig.files(first)


def test_a_build_is_begun_anew_where_a_layer_cannot_be_had(rig: BuildRig) -> None:
    """The step is executed then; nobody is told that it failed."""
    rig.build(TEXT)
    rig.cache = cache = Forgetful(rig, again=True)
    warnings: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            warnings.append(event.text)

    rig.build(TEXT + "RUN write /c 3\n", task=Task(progress=listen))
    assert cache.asked > 0
    assert rig.files() == {"a": "1", "b": "2", "c": "3"}
    assert any("begun anew" in text for text in warnings)
    assert not [e for e in rig.events if isinstance(e, StepFailed)]
    assert [e for e in rig.events if isinstance(e, BuildNote)] == []


def test_a_cache_that_would_fail_again_is_an_error(rig: BuildRig) -> None:
    rig.build(TEXT)
    rig.cache = Forgetful(rig, again=False)
    with pytest.raises(CacheUnusable, match="in no cache"):
        rig.build(TEXT + "RUN write /c 3\n")


def test_what_volumes_forget_is_another_result(rig: BuildRig) -> None:
    """A step that was built without --compat-volumes does not count with it."""
    text = "FROM scratch\nVOLUME /v\nRUN write /v/f 1; write /kept 2\n"
    assert rig.files(rig.build(text)) == {"v/f": "1", "kept": "2"}
    rig.build(text, compat_volumes=True)
    assert rig.ran == 1
    rig.build(text, compat_volumes=True)
    assert rig.ran == 0
