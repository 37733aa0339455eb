"""The index says what the records say, whatever becomes of it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.storage.images import Records, StoredImage, StoredLayer, StoredName, name_key
from engine.storage.index import SCHEMA, Index
from imgtools.errors import StorageError
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest


def image(number: int, **fields: object) -> StoredImage:
    document = Descriptor(media_type="m", digest=Digest.of(b"%d" % number), size=1)
    layer = StoredLayer(
        blob=document, diff_id=document.digest, size=3, chain_id=Digest.of(b"chain")
    )
    known = StoredImage(
        id=document.digest.hex,
        manifest=document,
        config=document,
        layers=(layer,),
        labels=(("a", "b"),),
        repo_digests=("r@x",),
        created="2024-01-02T03:04:05Z",
        platform="linux/amd64",
        stored=1.5,
        size=number,
    )
    from dataclasses import replace

    return replace(known, **fields)  # type: ignore[arg-type]


class Rig:
    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "index.sqlite")
        self.images = Records(str(directory / "images"))
        self.names = Records(str(directory / "names"))

    def open(self) -> Index:
        return Index(self.path, self.images, self.names)

    def add(self, number: int, **fields: object) -> StoredImage:
        new = image(number, **fields)
        self.images.write(new.id, new.to_json())
        return new

    def name(self, name: str, image_id: str) -> None:
        record = StoredName(name=name, image_id=image_id, given=2.0)
        self.names.write(name_key(name), record.to_json())


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def index(rig: Rig) -> Iterator[Index]:
    with rig.open() as opened:
        yield opened


def test_records_come_back_whole() -> None:
    assert StoredImage.from_json(image(1).to_json()) == image(1)


def test_changes_by_others_are_seen_at_once(rig: Rig, index: Index) -> None:
    assert index.images() == {}
    one, two = rig.add(1), rig.add(2)
    rig.name("a:1", one.id)
    assert index.images() == {one.id: one, two.id: two}
    assert index.names()["a:1"].image_id == one.id
    rig.name("a:1", two.id)
    changed = rig.add(2, platform="other")
    rig.images.remove(one.id)
    assert index.images() == {two.id: changed}
    assert index.names()["a:1"].image_id == two.id


def test_rebuilt_index_is_the_same(rig: Rig, index: Index) -> None:
    for number in range(20):
        rig.name(f"n:{number}", rig.add(number).id)
        index.images()
        index.names()
    before = index.dump()
    assert len(before["images"]) == 20
    index.rebuild()
    assert index.dump() == before


def missing(path: str) -> None:
    os.unlink(path)


def empty(path: str) -> None:
    Path(path).write_bytes(b"")


def rubbish(path: str) -> None:
    Path(path).write_bytes(b"rubbish" * 1000)


def cut(path: str) -> None:
    os.truncate(path, 5000)


def torn(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(6000))


def older(path: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version=0")
        database.execute("DROP TABLE names")
    database.close()


def newer(path: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version={SCHEMA + 7}")
    database.close()


def without_a_table(path: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE names")
    database.close()


def with_lies(path: str) -> None:
    """Rows without a record, and rows of another time."""
    with sqlite3.connect(path) as database:
        database.execute("UPDATE images SET mark='x', document='{}'")
        database.execute("INSERT INTO images VALUES ('made-up', 'm', '{}')")
    database.close()


@pytest.mark.parametrize(
    "damage", [missing, empty, rubbish, cut, torn, older, newer, without_a_table, with_lies]
)
def test_damaged_index_is_made_again(damage: Callable[[str], object], rig: Rig) -> None:
    ids = {rig.add(number).id for number in range(5)}
    rig.name("n:1", next(iter(ids)))
    with rig.open() as first:
        first.images()
        first.names()
        whole = first.dump()
    damage(rig.path)
    with rig.open() as second:
        assert set(second.images()) == ids
        assert set(second.names()) == {"n:1"}
        assert second.images() == second.images()
    with rig.open() as third:
        third.images()
        third.names()
        assert third.dump() == whole


def test_index_that_cannot_be_kept_is_done_without(rig: Rig, tmp_path: Path) -> None:
    one = rig.add(1)
    (tmp_path / "file").write_bytes(b"")
    with Index(str(tmp_path / "file" / "index"), rig.images, rig.names) as index:
        assert index.images() == {one.id: one}
        assert index.names() == {}


def test_who_writes_keeps_nobody_waiting(rig: Rig, index: Index) -> None:
    one = rig.add(1)
    index.images()
    writer = sqlite3.connect(rig.path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    two = rig.add(2)
    with rig.open() as reader:
        assert set(reader.images()) == {one.id, two.id}
    writer.execute("ROLLBACK")
    writer.close()
    assert set(index.images()) == {one.id, two.id}
    assert len(index.dump()["images"]) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 9}', b"[", b'{"version":1,"id":1}'])
def test_damaged_record_is_named(content: bytes, rig: Rig, index: Index) -> None:
    one = rig.add(1)
    Path(rig.images.path(one.id)).write_bytes(content)
    with pytest.raises(StorageError, match=one.id):
        index.images()


def test_unfinished_record_is_none(rig: Rig, index: Index) -> None:
    rig.add(1)
    Path(rig.images.directory, ".imgtools-unfinished.json").write_bytes(b"half")
    assert len(index.images()) == 1
