"""What a build asks of its store: base images without their layers, layers that stay while it
goes on, trees, steps that are remembered, finished images."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

from engine.builds.bases import BaseOptions
from engine.builds.store import BuildStore
from engine.storage.options import Ownership
from engine.storage.store import Store
from imgtools.build.protocols import CacheRecord, CommitOptions
from imgtools.errors import (
    BlobNotFound,
    Conflict,
    Denied,
    DigestMismatch,
    ImageNotFound,
    InvalidInput,
    InvalidManifest,
    InvalidReference,
    NotFound,
    Rejected,
)
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_id, chain_ids
from imgtools.spec.manifest import Manifest, RawManifest, parse
from imgtools.spec.platform import Platform
from imgtools.task import Note, Task
from imgtools.testing.images import PLATFORMS, Sample, image_of, random_image, random_index
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.table import Transports
from tests.engine.layer_tools import PROJECT, archive, directory, file, working_directory
from tests.engine.store_rig import PLAIN, left_over, location, publish, pull, verify

REMOTE = BaseOptions(source=PLAIN, host=PLATFORMS[0])
TASK = Task()
T = TypeVar("T")


@contextmanager
def build_store(path: Path, options: BaseOptions = REMOTE) -> Iterator[BuildStore]:
    """One build on the store in `path`."""
    with (
        Store.open(location(path)) as store,
        Transports() as transports,
        BuildStore(store, transports, options) as found,
    ):
        yield found


@pytest.fixture(name="registry")
def _registry() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as registry:
        yield registry


@pytest.fixture(name="builds")
def _builds(tmp_path: Path) -> Iterator[BuildStore]:
    with build_store(tmp_path) as store:
        yield store


def blobs(registry: ScriptedRegistry) -> int:
    """Requests for blobs so far."""
    return sum("/blobs/" in line for line in registry.lines())


def test_bases_are_looked_up_without_their_layers(
    registry: ScriptedRegistry, builds: BuildStore
) -> None:
    sample = random_image(1, annotations={"a": "b"})
    name = publish(registry, "base", "1", sample)
    found = builds.look_up(name, None, "missing", task=TASK)
    assert blobs(registry) == 1
    assert found.manifest.digest == sample.top.digest
    assert found.pinned == f"{registry.host}/base@{sample.top.digest}"
    assert (found.name, found.index, dict(found.annotations)) == (name, None, {"a": "b"})
    top = chain_id(found.config.diff_ids)
    assert top is not None
    assert not builds.has(top)
    builds.obtain(found, task=TASK)
    assert builds.has(top)
    image, _ = builds.store.find(name)
    assert image.manifest.digest == sample.top.digest
    before = len(registry.lines())
    builds.obtain(builds.look_up(name, None, "missing", task=TASK), task=TASK)
    assert len(registry.lines()) == before


def test_e40_a_base_used_twice_is_asked_for_once(
    registry: ScriptedRegistry, builds: BuildStore
) -> None:
    name = publish(registry, "base", "1", random_image(1))

    def use() -> None:
        builds.obtain(builds.look_up(name, None, "always", task=TASK), task=TASK)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = [line for line in registry.lines() if line.startswith("GET") and "/blobs/" in line]
    assert len(asked) == len(set(asked)) + 1  # The config, looked at and then stored.


def test_a_registry_in_trouble_is_asked_again(registry: ScriptedRegistry, tmp_path: Path) -> None:
    """When an image is looked up, and when its layers are fetched; not where another image will
    do."""
    name = publish(registry, "base", "1", random_image(1))
    tries: list[str] = []

    def retry(action: Callable[[], T], /) -> T:
        tries.append("first")
        try:
            return action()
        except Denied:
            tries.append("again")
            return action()

    registry.fail(path="/manifests/", status=403)
    with build_store(tmp_path, replace(REMOTE, retry=retry)) as builds:
        with pytest.raises(Denied):
            builds.look_up(name, None, "missing", task=TASK)
        assert tries == ["first", "again"]
        registry.faults.clear()
        builds.obtain(builds.look_up(name, None, "missing", task=TASK), task=TASK)
        assert tries == ["first", "again", "first", "first"]
    with build_store(tmp_path, replace(REMOTE, retry=retry)) as builds:
        registry.fail(path="/manifests/", status=403)
        assert builds.look_up(name, None, "newer", task=TASK).config.diff_ids
        assert len(tries) == 4


def test_e41_platforms_are_chosen_from_an_index(
    registry: ScriptedRegistry, builds: BuildStore
) -> None:
    sample = random_index(1)
    name = publish(registry, "multi", "1", sample)
    for platform in PLATFORMS:
        found = builds.look_up(name, platform, "missing", task=TASK)
        assert found.platform == platform
        assert found.index == sample.top.digest
        assert found.pinned.endswith(str(sample.top.digest))
    host = builds.look_up(name, None, "missing", task=TASK)
    assert host.platform == PLATFORMS[0]
    pinned = builds.look_up(f"{name}@{sample.top.digest}", PLATFORMS[1], "missing", task=TASK)
    builds.obtain(pinned, task=TASK)
    assert builds.look_up(name, PLATFORMS[1], "missing", task=TASK).platform == PLATFORMS[1]
    with pytest.raises(NotFound, match="no image for"):
        builds.look_up(name, Platform(os="plan9", architecture="mips"), "missing", task=TASK)


def test_platforms_are_those_of_the_index(registry: ScriptedRegistry, builds: BuildStore) -> None:
    """A single image has its own; where the store alone may be asked, that of the image there."""
    index = random_index(2, platforms=PLATFORMS[:3])
    name = publish(registry, "base", "many", index)
    assert builds.platforms(name, "missing", task=TASK) == PLATFORMS[:3]
    builds.obtain(builds.look_up(name, PLATFORMS[0], "missing", task=TASK), task=TASK)
    assert builds.platforms(name, "never", task=TASK) == (PLATFORMS[0],)
    single = publish(registry, "base", "single", random_image(3))
    assert len(builds.platforms(single, "missing", task=TASK)) == 1
    with pytest.raises(NotFound):
        builds.platforms(f"{registry.host}/base:none", "missing", task=TASK)


def test_a_tag_that_moves_after_the_look(registry: ScriptedRegistry, builds: BuildStore) -> None:
    """What is pulled is what was looked up."""
    name = publish(registry, "base", "1", random_image(1))
    found = builds.look_up(name, None, "missing", task=TASK)
    publish(registry, "base", "1", random_image(2))
    builds.obtain(found, task=TASK)
    top = chain_id(found.config.diff_ids)
    assert top is not None
    assert builds.has(top)


def test_pull_policies(registry: ScriptedRegistry, tmp_path: Path) -> None:
    first, second = random_image(1), random_image(2)
    name = publish(registry, "base", "1", first)
    with build_store(tmp_path) as builds:
        with pytest.raises(ImageNotFound):
            builds.look_up(name, None, "never", task=TASK)
        with pytest.raises(InvalidInput, match="sometimes"):
            builds.look_up(name, None, "sometimes", task=TASK)
        pull(builds.store, name)
        publish(registry, "base", "1", second)
        found = {
            policy: builds.look_up(name, None, policy, task=TASK).manifest.digest
            for policy in ("never", "missing", "newer", "always")
        }
    old, new = first.top.digest, second.top.digest
    assert found == {"never": old, "missing": old, "newer": new, "always": new}
    registry.fail(status=403)
    notes: list[object] = []
    with build_store(tmp_path) as builds:
        noting = Task(progress=notes.append)
        assert builds.look_up(name, None, "newer", task=noting).manifest.digest == old
    assert [note.level for note in notes if isinstance(note, Note)] == ["warning"]


def test_another_platform_than_the_stored_one(
    registry: ScriptedRegistry, builds: BuildStore
) -> None:
    name = publish(registry, "multi", "1", random_index(1))
    pull(builds.store, name)
    with pytest.raises(ImageNotFound):
        builds.look_up(name, PLATFORMS[3], "never", task=TASK)
    assert builds.look_up(name, PLATFORMS[3], "missing", task=TASK).platform == PLATFORMS[3]


def test_policy_is_asked(registry: ScriptedRegistry, tmp_path: Path) -> None:
    name = publish(registry, "base", "1", random_image(1))

    def refuse(what: object) -> NoReturn:
        raise Rejected(f"no: {type(what).__name__}")

    for check, text in ((refuse, "ImageName"), (lambda name: refuse, "RawManifest")):
        options = replace(REMOTE, check_name=check)
        with build_store(tmp_path, options) as builds, pytest.raises(Rejected, match=text):
            builds.look_up(name, None, "missing", task=TASK)


def test_bases_of_other_transports(tmp_path: Path, builds: BuildStore) -> None:
    (tmp_path / "root.tar").write_bytes(archive(file("etc/os-release", b"ID=x\n")))
    found = builds.look_up(f"tarball:{tmp_path}/root.tar", None, "missing", task=TASK)
    builds.obtain(found, task=TASK)
    with builds.tree(chain_id(found.config.diff_ids)) as tree:
        assert os.listdir(tree.fd) == ["etc"]
    (stored,) = builds.store.images().values()
    again = builds.look_up(f"containers-storage:@{stored.id}", None, "missing", task=TASK)
    assert again.config.diff_ids == found.config.diff_ids


def layer(builds: BuildStore, parent: Digest | None, tar: bytes) -> Digest:
    made = builds.apply(parent, Digest.of(tar), io.BytesIO(tar), len(tar), task=TASK)
    assert made.size == len(tar)
    return made.chain_id


class Once:
    """A stream that cannot go back."""

    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


def test_layers_come_back_byte_for_byte(builds: BuildStore) -> None:
    twice = archive(file("a", b"one"), file("a", b"other"))
    for tar in (archive(file("a", b"x" * 5000), directory("d")), twice, archive()):
        made = builds.apply(None, Digest.of(tar), Once(tar), len(tar), task=TASK)
        assert made.empty is (tar == archive())
        with builds.open_layer(made.chain_id) as reader:
            assert reader.read() == tar
    with pytest.raises(DigestMismatch):
        builds.apply(None, Digest.of(b""), Once(twice), len(twice), task=TASK)
    with pytest.raises(BlobNotFound):
        builds.open_layer(Digest.of(b"nothing"))
    assert left_over(builds.store)[1] == []


def test_trees_have_the_recorded_owners(tmp_path: Path) -> None:
    tar = archive(file("a", uid=5, gid=6), file("b"))
    recorded = replace(location(tmp_path), ownership=Ownership.RECORDED)
    with (
        Store.open(recorded) as store,
        Transports() as transports,
        BuildStore(store, transports) as builds,
        builds.tree(layer(builds, None, tar)) as tree,
    ):
        assert tree.recorded_owners
        found = tree.records.get(b"a")
        assert found is not None
        assert (found.uid, found.gid) == (5, 6)
        assert tree.records.get(b"b") is None
        with builds.tree(None) as empty:
            assert os.listdir(empty.fd) == []


def test_trees_of_several_layers_are_mounted_nowhere(tmp_path: Path) -> None:
    with (
        working_directory(tmp_path) as path,
        Store.open(location(path, "overlay")) as store,
        Transports() as transports,
        BuildStore(store, transports) as builds,
    ):
        lower = layer(builds, None, archive(file("a"), file("b")))
        top = layer(builds, lower, archive(file(".wh.a", b""), file("c")))
        before = Path("/proc/self/mountinfo").read_text()
        with builds.tree(top) as tree:
            assert sorted(os.listdir(tree.fd)) == ["b", "c"]
            with pytest.raises(OSError, match="Read-only"):
                os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=tree.fd)
            assert Path("/proc/self/mountinfo").read_text() == before


def test_steps_are_remembered(tmp_path: Path) -> None:
    with build_store(tmp_path) as builds:
        chain = layer(builds, None, archive(file("a")))
        record = CacheRecord(
            key="k/1", parent=None, chain_id=chain, diff_id=chain, size=7, created=1.5, note="n"
        )
        nothing = CacheRecord(key="../k", parent=chain, chain_id=None, diff_id=None)
        for each in (record, nothing):
            builds.remember(each)
            assert builds.find_cached(each.key) == each
        assert builds.find_cached("k") is None
    with build_store(tmp_path) as builds:
        builds.store.prune(task=TASK)
        assert builds.find_cached("k/1") == record
    with Store.open(location(tmp_path)) as store:
        removed = store.prune(cache_before=inf, task=TASK)
        assert (len(removed.kept), removed.layers) == (2, (chain,))
    with build_store(tmp_path) as builds:
        assert builds.find_cached("k/1") is None
        builds.remember(record)
        assert builds.find_cached("k/1") is None
        assert builds.store.prune(task=TASK).kept


def test_e96_a_damaged_record_is_no_hit(tmp_path: Path) -> None:
    with build_store(tmp_path) as builds:
        chain = layer(builds, None, archive(file("a")))
        builds.remember(CacheRecord(key="k", parent=None, chain_id=chain, diff_id=chain))
        (path,) = (tmp_path / "root/imgtools/builds").iterdir()
        whole = path.read_bytes()
        for damaged in (b"", whole[:20], b"{}", whole.replace(b'"key":"k"', b'"key":"l"')):
            path.write_bytes(damaged)
            assert builds.find_cached("k") is None
        path.write_bytes(whole)
        assert builds.find_cached("k") is not None


def test_records_are_dropped_by_age(tmp_path: Path) -> None:
    with build_store(tmp_path) as builds:
        for name in ("old", "young"):
            builds.remember(CacheRecord(key=name, parent=None, chain_id=None, diff_id=None))
            builds.store.cache_mounts.open(name, "shared", lambda fd: None, task=TASK)[1].close()
        for path in (tmp_path / "root/imgtools/builds").iterdir():
            if b'"old"' in path.read_bytes():
                os.utime(path, (5, 5))
        for path in (tmp_path / "root/imgtools/cachemounts").iterdir():
            if (path / "name").read_text() == "old":
                os.utime(path, (5, 5))
        removed = builds.store.prune(cache_before=100.0, task=TASK)
        assert (len(removed.kept), removed.caches) == (1, ("old",))
        assert builds.find_cached("old") is None
        assert builds.find_cached("young") is not None


def test_nothing_of_a_build_that_goes_on_is_removed(tmp_path: Path) -> None:
    with build_store(tmp_path) as builds, Store.open(location(tmp_path)) as other:
        lower = layer(builds, None, archive(file("a")))
        top = layer(builds, lower, archive(file("b")))
        working = builds.prepare(top, task=TASK)
        assert other.prune(cache_before=inf, task=TASK).empty
        made = builds.commit(working, CommitOptions(), task=TASK)
        assert other.prune(cache_before=inf, task=TASK).empty
        with pytest.raises(Conflict):
            builds.commit(working, CommitOptions(), task=TASK)
        builds.discard(working)
        assert builds.has(made.chain_id)
    with Store.open(location(tmp_path)) as other:
        assert len(other.prune(task=TASK).layers) == 3


KILLED = """
import sys, time
from pathlib import Path
from imgtools.task import Task
from imgtools.blob.tar import Entry
from tests.engine.test_builds_store import build_store, layer
from tests.engine.layer_tools import archive, file
with build_store(Path(sys.argv[1])) as builds:
    top = layer(builds, None, archive(file("a")))
    builds.prepare(top, task=Task())
    print("ready", flush=True)
    time.sleep(600)
"""


def test_e96_what_a_killed_build_leaves_goes_with_the_next(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        cwd=PROJECT,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with build_store(tmp_path) as builds:
            builds.discard(builds.prepare(None, task=TASK))
            assert len(list(builds.store.snapshots.list())) == 1
        process.send_signal(signal.SIGKILL)
    with build_store(tmp_path) as builds:
        working = builds.prepare(None, task=TASK)
        assert [each.id for each in builds.store.snapshots.list()] == [working.id]
    with Store.open(location(tmp_path)) as store:
        assert len(store.prune(task=TASK).layers) == 1
        assert left_over(store) == ([], [])
        assert not list((tmp_path / "root/imgtools/uses").iterdir())


def image(builds: BuildStore, *tars: bytes) -> tuple[RawManifest, bytes]:
    """Manifest and config of an image of layers that are applied."""
    sample: Sample = image_of(tars, compression="none")
    parent = None
    for tar in tars:
        parent = layer(builds, parent, tar)
    view = parse(sample.top)
    assert isinstance(view, Manifest)
    return sample.top, sample.content(view.config.digest)


def test_finished_images_are_kept(tmp_path: Path) -> None:
    with build_store(tmp_path) as builds:
        raw, config = image(builds, archive(file("a")), archive(file("b")))
        found = builds.keep_image(raw, config, ("foo", "a.example/b:1"), task=TASK)
        assert found == Digest.of(config).hex
        assert set(builds.store.names()) == {"localhost/foo:latest", "a.example/b:1"}
        stored, _ = builds.store.find("foo")
        assert set(stored.repo_digests) == {
            f"localhost/foo@{raw.digest}", f"a.example/b@{raw.digest}",
        }  # fmt: skip
        assert builds.keep_image(raw, config, (), task=TASK) == found
    with Store.open(location(tmp_path)) as store:
        assert store.prune(task=TASK).empty
        verify(store)
        assert left_over(store) == ([], [])


def test_images_that_are_not_whole_are_refused(builds: BuildStore) -> None:
    raw, config = image(builds, archive(file("a")))
    with pytest.raises(DigestMismatch):
        builds.keep_image(raw, config + b" ", (), task=TASK)
    for names in (("Foo",), (f"x@{raw.digest}",)):
        with pytest.raises(InvalidReference):
            builds.keep_image(raw, config, names, task=TASK)
    other = image_of([archive(file("b"))], compression="none")
    view = parse(other.top)
    assert isinstance(view, Manifest)
    with pytest.raises(BlobNotFound):
        builds.keep_image(other.top, other.content(view.config.digest), (), task=TASK)
    packed = image_of([archive(file("a"))])
    view = parse(packed.top)
    assert isinstance(view, Manifest)
    with pytest.raises(InvalidManifest):
        builds.keep_image(packed.top, packed.content(view.config.digest), (), task=TASK)
    assert not builds.store.images()


def test_an_image_without_layers(builds: BuildStore) -> None:
    raw, config = image(builds)
    assert builds.keep_image(raw, config, ("empty",), task=TASK) in builds.store.images()
    found = builds.look_up("empty", None, "never", task=TASK)
    assert chain_ids(found.config.diff_ids) == ()
    builds.obtain(found, task=TASK)
