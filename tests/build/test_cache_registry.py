"""Results of steps that live in registries: found lazily, fetched and checked, sent in the
background; and what hostile or broken caches cannot do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgtools.blob.compression import Compression, compress_stream
from imgtools.build.cache import registry as registry_module
from imgtools.build.cache.chain import CacheChain, CacheUnusable, begun_anew, open_chain
from imgtools.build.cache.documents import (
    NOTE_LIMIT,
    cache_documents,
    expected_chain,
    note_descriptor,
    read_record,
    tag_of,
)
from imgtools.build.cache.locations import CacheLocation, cache_locations
from imgtools.build.options import CacheOptions
from imgtools.build.outputs.layer_blobs import LayerBlobs
from imgtools.build.protocols import CacheRecord
from imgtools.errors import Cancelled, InvalidInput, InvalidJSON, InvalidManifest, Unsupported
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse
from imgtools.task import Note, Task
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.table import Transports
from tests.build.outputs_kit import FROM, TO, described, new_store, tar
from tests.build.store_double import StoreDouble
from tests.rig import RegistryServer

KEYS = tuple(Digest.of(b"key %d" % n).hex for n in range(4))
LAYERS = (tar(("a", b"1" * 5000)), tar(("b", b"2")))
NOW = 1_700_000_000.0


class Caches:
    """Opens chains over stores of their own, and keeps what was warned of."""

    def __init__(self, tmp_path: Path, transports: Transports) -> None:
        self.tmp_path, self.transports = tmp_path, transports
        self.warnings: list[str] = []
        self.task = Task(progress=self._note)
        self._opened: list[CacheChain | LayerBlobs] = []

    def _note(self, event: object) -> None:
        if isinstance(event, Note):
            self.warnings.append(event.text)

    def store(self, name: str) -> StoreDouble:
        directory = self.tmp_path / name
        directory.mkdir()
        return new_store(directory)

    def chain(
        self,
        store: StoreDouble,
        *,
        sources: tuple[str, ...] = (),
        targets: tuple[str, ...] = (),
        ttl: float | None = None,
    ) -> CacheChain:
        layers = LayerBlobs(store)
        chain = open_chain(
            CacheOptions(sources=sources, targets=targets, ttl=ttl),
            store,
            self.transports,
            layers,
            source_options=FROM,
            destination_options=TO,
            now=lambda: NOW,
            task=self.task,
        )
        self._opened += [layers, chain]
        return chain

    def close(self) -> None:
        while self._opened:
            self._opened.pop().close()


@pytest.fixture
def caches(tmp_path: Path) -> Iterator[Caches]:
    with Transports() as transports:
        opened = Caches(tmp_path, transports)
        yield opened
        opened.close()


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as opened:
        yield opened


def records(store: StoreDouble) -> list[CacheRecord]:
    """Two layers put into the store, and a step without one on top of them."""
    parent: Digest | None = None
    found = []
    for key, content in zip(KEYS, LAYERS, strict=False):
        new = store.add(parent, content)
        found.append(
            CacheRecord(
                key=key,
                parent=parent,
                chain_id=new.chain_id,
                diff_id=new.diff_id,
                size=new.size,
                created=NOW - 100,
                note="COPY a",
            )
        )
        parent = new.chain_id
    found.append(
        CacheRecord(key=KEYS[2], parent=parent, chain_id=parent, diff_id=None, created=NOW - 50)
    )
    return found


def sent(caches: Caches, target: str) -> list[CacheRecord]:
    """Records of a build elsewhere that `target` has."""
    store = caches.store("elsewhere")
    made = records(store)
    chain = caches.chain(store, targets=(target,))
    for record in made:
        chain.remember(record, task=caches.task)
    chain.finish()
    assert caches.warnings == []
    return made


def test_found_without_layers_fetched_with_those_below(
    caches: Caches, registry: ScriptedRegistry
) -> None:
    repository = f"{registry.host}/cache"
    made = sent(caches, repository)
    store = caches.store("here")
    chain = caches.chain(store, sources=(repository,))
    registry.forget_requests()
    found = chain.find_all([*KEYS[:3], KEYS[3]], task=caches.task)
    assert found == [*made, None]
    assert registry.count("GET", "/blobs/") == 0
    assert registry.count() == 4
    assert not store.layers
    top = found[1]
    assert top is not None
    chain.obtain(top, task=caches.task)
    assert top.chain_id is not None
    assert store.has(top.chain_id)
    with store.open_layer(top.chain_id) as reader:
        assert reader.read() == LAYERS[1]
    assert store.find_cached(KEYS[0]) == made[0]
    registry.forget_requests()
    chain.obtain(top, task=caches.task)
    assert chain.find(KEYS[1], task=caches.task) == made[1]
    assert registry.requests == []
    assert caches.warnings == []


def test_real_registry_and_layout(
    caches: Caches, registry_plain: RegistryServer, repository: str, tmp_path: Path
) -> None:
    for number, where in enumerate(
        (f"{registry_plain.host}/{repository}", f"oci:{tmp_path}/layout")
    ):
        made = sent(caches, where)
        (tmp_path / "elsewhere").rename(tmp_path / f"elsewhere{number}")
        chain = caches.chain(caches.store(f"here{number}"), sources=(where,))
        assert chain.find_all(KEYS[:3], task=caches.task) == made
        chain.obtain(made[1], task=caches.task)
    assert caches.warnings == []


def test_a_blob_can_be_mounted_without_being_fetched(
    caches: Caches, registry: ScriptedRegistry
) -> None:
    made = sent(caches, f"{registry.host}/cache")
    chain = caches.chain(caches.store("here"), sources=(f"{registry.host}/cache",))
    assert made[0].chain_id is not None
    assert chain.blob(made[0].chain_id) is None
    chain.find(KEYS[0], task=caches.task)
    blob = chain.blob(made[0].chain_id)
    assert blob is not None
    assert (blob.origin.registry, blob.origin.repository) == (registry.host, "cache")
    with blob.open() as reader:
        assert Digest.of(reader.read()) == blob.blob.digest


@pytest.mark.parametrize(("ttl", "is_found"), [(None, True), (101, True), (100, False), (0, False)])
def test_time_to_live(
    caches: Caches, registry: ScriptedRegistry, ttl: float | None, is_found: bool
) -> None:
    made = sent(caches, f"{registry.host}/cache")
    store = caches.store("here")
    chain = caches.chain(store, sources=(f"{registry.host}/cache",), ttl=ttl)
    assert (chain.find(KEYS[0], task=caches.task) is not None) is is_found
    store.add(None, LAYERS[0])
    store.remember(made[0])
    assert (chain.find(KEYS[0], task=caches.task) is not None) is is_found


def test_a_negative_ttl_is_refused(caches: Caches) -> None:
    with pytest.raises(InvalidInput, match="cache-ttl"):
        caches.chain(caches.store("here"), ttl=-1)


def test_what_is_there_stays_unless_the_step_was_executed(
    caches: Caches, registry: ScriptedRegistry
) -> None:
    repository = f"{registry.host}/cache"
    made = sent(caches, repository)
    store = caches.store("here")
    newer = replace(records(store)[0], created=NOW)
    store.remember(newer)
    hit = caches.chain(store, targets=(repository,))
    assert hit.find(KEYS[0], task=caches.task) == newer
    hit.finish()
    reader = caches.chain(caches.store("third"), sources=(repository,))
    assert reader.find(KEYS[0], task=caches.task) == made[0]
    again = caches.chain(store, targets=(repository,))
    again.remember(newer, task=caches.task)
    again.finish()
    assert reader.find(KEYS[0], task=caches.task) == newer


def test_hits_of_the_store_are_sent_where_they_are_missing(
    caches: Caches, registry: ScriptedRegistry
) -> None:
    store = caches.store("here")
    for record in (made := records(store)):
        store.remember(record)
    chain = caches.chain(store, targets=(f"{registry.host}/cache",))
    for record in made:
        chain.find(record.key, task=caches.task)
    chain.finish()
    reader = caches.chain(caches.store("other"), sources=(f"{registry.host}/cache",))
    assert reader.find_all(KEYS[:3], task=caches.task) == made


def test_what_came_from_one_registry_is_sent_to_another_only(
    caches: Caches, registry: ScriptedRegistry
) -> None:
    made = sent(caches, f"{registry.host}/cache")
    both = (f"{registry.host}/cache", f"{registry.host}/other")
    chain = caches.chain(caches.store("here"), sources=both[:1], targets=both)
    registry.forget_requests()
    for record in chain.find_all(KEYS[:3], task=caches.task):
        assert record is not None
        chain.obtain(record, task=caches.task)
        chain.remember(record, task=caches.task)
    chain.finish()
    assert registry.count(None, "/v2/cache/manifests") == 3
    assert registry.count("PUT", "/v2/other/manifests") == 3
    reader = caches.chain(caches.store("third"), sources=both[1:])
    assert reader.find_all(KEYS[:3], task=caches.task) == made


def test_a_registry_that_fails_is_left_alone_after_one_warning(
    caches: Caches, registry: ScriptedRegistry
) -> None:
    registry.fail(path="/v2/cache/", status=403)
    store = caches.store("here")
    repository = f"{registry.host}/cache"
    chain = caches.chain(store, sources=(repository,), targets=(repository,))
    assert chain.find_all(KEYS, task=caches.task) == [None] * 4
    assert len([text for text in caches.warnings if "is not used" in text]) == 1
    for record in records(store):
        chain.remember(record, task=caches.task)
    chain.finish()
    assert len([text for text in caches.warnings if "nothing more is sent" in text]) == 1
    assert len(caches.warnings) == 2


def test_no_registry_at_all_is_a_warning(caches: Caches) -> None:
    with ScriptedRegistry() as gone:
        host = gone.host
    chain = caches.chain(caches.store("here"), sources=(f"{host}/cache",))
    task = replace(caches.task)
    assert chain.find(KEYS[0], task=task) is None
    assert len(caches.warnings) == 1


def put(registry: ScriptedRegistry, record: CacheRecord, blob: bytes, **changes: Any) -> None:
    """A record as somebody else may have put it."""
    layer = described(blob, changes.pop("layer_type", mt.OCI_LAYER_GZIP))
    registry.push_blob("cache", blob)
    documents = cache_documents(record, layer)
    view = parse(documents.manifest)
    assert isinstance(view, Manifest)
    value = {**json.loads(documents.note), **changes}
    note = json.dumps(value).encode()
    config = Descriptor(media_type=view.config.media_type, digest=Digest.of(note), size=len(note))
    registry.push_blob("cache", note)
    raw = replace(view, config=config).to_raw()
    registry.push_manifest("cache", raw.content, tags=[tag_of(KEYS[0])])


def packed(content: bytes, compression: Compression = Compression.GZIP) -> bytes:
    import io

    parts: list[bytes] = []
    compress_stream(io.BytesIO(content), parts.append, compression)
    return b"".join(parts)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"key": KEYS[1]},
        {"chain_id": str(Digest.of(b"elsewhere"))},
        {"parent": str(Digest.of(b"elsewhere"))},
        {"diff_id": "sha256:short"},
        {"size": -1},
        {"size": "many"},
        {"created": "yesterday"},
        {"created": 1e300},
        {"created": True},
        {"layer_type": "application/x-unknown"},
    ],
)
def test_a_record_that_contradicts_itself_is_a_warning(
    caches: Caches, registry: ScriptedRegistry, changes: dict[str, Any]
) -> None:
    record = records(caches.store("elsewhere"))[0]
    put(registry, record, packed(LAYERS[0]), **changes)
    chain = caches.chain(caches.store("here"), sources=(f"{registry.host}/cache",))
    assert chain.find(KEYS[0], task=caches.task) is None
    assert len(caches.warnings) == 1
    assert "the step is executed" in caches.warnings[0]


def test_a_note_may_stand_beside_the_manifest(caches: Caches, registry: ScriptedRegistry) -> None:
    record = records(caches.store("elsewhere"))[0]
    put(registry, record, packed(LAYERS[0]))
    chain = caches.chain(caches.store("here"), sources=(f"{registry.host}/cache",))
    assert chain.find(KEYS[0], task=caches.task) == record


def test_something_else_under_the_tag_is_no_record(
    caches: Caches, registry: ScriptedRegistry
) -> None:
    registry.push_manifest(
        "cache", b'{"schemaVersion":2,"manifests":[]}', mt.OCI_INDEX, tags=[tag_of(KEYS[0])]
    )
    chain = caches.chain(caches.store("here"), sources=(f"{registry.host}/cache",))
    assert chain.find(KEYS[0], task=caches.task) is None
    assert "no record of a build cache" in caches.warnings[0]


def test_e96_a_layer_that_is_not_what_the_record_says_is_never_kept(
    caches: Caches, registry: ScriptedRegistry
) -> None:
    record = records(caches.store("elsewhere"))[0]
    put(registry, record, packed(LAYERS[1]))
    store = caches.store("here")
    chain = caches.chain(store, sources=(f"{registry.host}/cache",))
    found = chain.find(KEYS[0], task=caches.task)
    assert found == record
    with pytest.raises(CacheUnusable, match="cannot be used"):
        chain.obtain(record, task=caches.task)
    assert not store.layers
    assert not store.records
    assert [path.name for path in store.root.iterdir()] == []
    assert chain.find(KEYS[0], task=caches.task) is None


def test_a_bomb_is_stopped(
    caches: Caches, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "_LEAST_LIMIT", 1 << 20)
    monkeypatch.setattr(registry_module, "_WORST_RATIO", 2)
    record = records(caches.store("elsewhere"))[0]
    put(registry, record, packed(bytes(8 << 20), Compression.ZSTD), layer_type=mt.OCI_LAYER_ZSTD)
    chain = caches.chain(caches.store("here"), sources=(f"{registry.host}/cache",))
    chain.find(KEYS[0], task=caches.task)
    with pytest.raises(CacheUnusable, match="larger than the limit"):
        chain.obtain(record, task=caches.task)


def test_a_layer_whose_parent_is_nowhere_cannot_be_used(
    caches: Caches, registry: ScriptedRegistry
) -> None:
    made = sent(caches, f"{registry.host}/cache")
    chain = caches.chain(caches.store("here"), sources=(f"{registry.host}/cache",))
    chain.find(KEYS[1], task=caches.task)
    with pytest.raises(CacheUnusable, match="in no cache"):
        chain.obtain(made[1], task=caches.task)
    assert chain.find(KEYS[1], task=caches.task) is None


def test_a_build_that_a_cache_lets_down_is_begun_anew(
    caches: Caches, registry: ScriptedRegistry
) -> None:
    record = records(caches.store("elsewhere"))[0]
    put(registry, record, packed(LAYERS[1]))
    chain = caches.chain(caches.store("here"), sources=(f"{registry.host}/cache",))
    tries: list[CacheRecord | None] = []

    def build() -> str:
        tries.append(chain.find(KEYS[0], task=caches.task))
        if tries[-1] is not None:
            chain.obtain(tries[-1], task=caches.task)
        return "done"

    assert begun_anew(build, task=caches.task) == "done"
    assert tries == [record, None]
    assert "begun anew" in caches.warnings[-1]
    with pytest.raises(CacheUnusable, match="in no cache"):
        begun_anew(lambda: chain.obtain(record, task=caches.task), task=caches.task)


def test_cancelling_ends_it(caches: Caches, registry: ScriptedRegistry) -> None:
    store = caches.store("here")
    chain = caches.chain(
        store, sources=(f"{registry.host}/cache",), targets=(f"{registry.host}/cache",)
    )
    caches.task.cancel.cancel()
    for record in records(store):
        chain.remember(record, task=caches.task)
    with pytest.raises(Cancelled):
        chain.finish()
    with pytest.raises(Cancelled):
        chain.find(KEYS[3], task=caches.task)
    assert registry.requests == []


def test_a_note_says_nothing_but_what_is_needed() -> None:
    record = CacheRecord(
        key="odd key/1", parent=None, chain_id=None, diff_id=None, note="x" * 10_000
    )
    documents = cache_documents(record, None)
    assert set(json.loads(documents.note)) == {
        "version", "key", "parent", "chain_id", "diff_id", "size", "created", "note",
    }  # fmt: skip
    assert len(documents.note) < 1000
    assert documents.note_descriptor.data == documents.note
    assert tag_of("odd key/1") == Digest.of(b"odd key/1").hex
    found = read_record(documents.manifest, documents.note, "odd key/1")
    assert found.record == replace(record, note="x" * 500)
    assert expected_chain(record) is None


def test_notes_are_bounded_and_strict() -> None:
    record = CacheRecord(key=KEYS[0], parent=None, chain_id=None, diff_id=None)
    documents = cache_documents(record, None)
    view = parse(documents.manifest)
    assert isinstance(view, Manifest)
    large = replace(view.config, size=NOTE_LIMIT + 1, data=None)
    with pytest.raises(InvalidManifest, match="bytes"):
        note_descriptor(replace(view, config=large).to_raw())
    with pytest.raises(InvalidJSON):
        read_record(documents.manifest, b'{"key":1,"key":2}', KEYS[0])
    with pytest.raises(InvalidManifest):
        note_descriptor(RawManifest.of(b'{"schemaVersion":2,"manifests":[]}'))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["r.io/a"], ["r.io/a"]),
        (["r.io/a,r.io/b", "r.io/a"], ["r.io/a", "r.io/b"]),
        (["docker://r.io/a"], ["r.io/a"]),
        (["a"], ["docker.io/library/a"]),
        (["type=registry,ref=r.io/a,mode=max"], ["r.io/a"]),
        (["oci:dir"], ["oci:dir"]),
        (["type=local,dest=dir", "type=local,src=dir"], ["oci:dir"]),
    ],
)
def test_locations(values: list[str], expected: list[str]) -> None:
    assert [str(location) for location in cache_locations(values)] == expected


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("r.io/a:tag", InvalidInput, "without tag or digest"),
        (f"r.io/a@{Digest.of(b'')}", InvalidInput, "without tag or digest"),
        ("r.io/UP", InvalidInput, "cache 'r.io/UP'"),
        ("oci:dir:tag", InvalidInput, "without a tag"),
        ("oci:", InvalidInput, "oci:DIRECTORY"),
        ("type=gha", Unsupported, "type gha"),
        ("type=registry", InvalidInput, "ref is missing"),
        ("type=registry,ref=a,x=y", InvalidInput, "no option 'x'"),
    ],
)
def test_bad_locations(value: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cache_locations([value])


def test_names_of_locations() -> None:
    make: Callable[[str], str] = lambda key: str(  # noqa: E731
        CacheLocation(transport="docker", rest="//r.io/a").name(key)
    )
    assert make(KEYS[0]) == f"docker://r.io/a:{KEYS[0]}"
