"""The verifying reader, atomic files and the content-addressed store."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.blob.files import atomic_file, write_all, write_file
from imgtools.blob.pump import pump
from imgtools.blob.reader import BlobReader
from imgtools.blob.store import BlobStore
from imgtools.errors import (
    BlobNotFound,
    Cancelled,
    DigestMismatch,
    NotFound,
    SizeMismatch,
    StorageError,
    Unverified,
)
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Advanced, Task

DATA = b"some content" * 1000
DIGEST = Digest.of(DATA)


def descriptor(data: bytes) -> Descriptor:
    return Descriptor(media_type="x", digest=Digest.of(data), size=len(data))


@given(st.binary(max_size=300), st.integers(1, 64))
def test_reads_in_any_steps(data: bytes, step: int) -> None:
    with BlobReader(BytesIO(data), Digest.of(data), len(data)) as reader:
        parts = list(iter(lambda: reader.read(step), b""))
    assert b"".join(parts) == data
    assert reader.verified


@pytest.mark.parametrize(
    ("data", "size", "error"),
    [
        (DATA[:-1], len(DATA), SizeMismatch),
        (DATA + b"x", len(DATA), SizeMismatch),
        (b"", len(DATA), SizeMismatch),
        (b"X" + DATA[1:], len(DATA), DigestMismatch),
        (DATA[:-1], None, DigestMismatch),
        (DATA + b"x", None, DigestMismatch),
    ],
)
def test_wrong_bytes_raise(data: bytes, size: int | None, error: type[Exception]) -> None:
    with pytest.raises(error), BlobReader(BytesIO(data), DIGEST, size) as reader:
        reader.read()


def test_leaving_early_is_an_error_unless_meant() -> None:
    with pytest.raises(Unverified), BlobReader(BytesIO(DATA), DIGEST, len(DATA)) as reader:
        reader.read(10)
    with BlobReader(BytesIO(DATA), DIGEST, len(DATA)) as reader:
        reader.read(10)
        reader.abandon()


def test_stopping_at_the_size_still_verifies() -> None:
    with BlobReader(BytesIO(DATA), DIGEST, len(DATA)) as reader:
        assert reader.read(len(DATA)) == DATA
    assert reader.verified
    wrong = b"X" + DATA[1:]
    with pytest.raises(DigestMismatch), BlobReader(BytesIO(wrong), DIGEST, len(wrong)) as reader:
        reader.read(len(wrong))
    longer = DATA + b"!"
    with pytest.raises(SizeMismatch), BlobReader(BytesIO(longer), DIGEST, len(DATA)) as reader:
        reader.read(len(DATA))


def test_the_carrier_is_closed_once() -> None:
    closed = []
    reader = BlobReader(BytesIO(DATA), DIGEST, len(DATA), close=lambda: closed.append(1))
    with reader:
        reader.read()
    reader.close()
    assert closed == [1]


def test_an_error_inside_the_block_is_not_replaced() -> None:
    with pytest.raises(KeyError), BlobReader(BytesIO(DATA), DIGEST, len(DATA)):
        raise KeyError("x")


def test_pump_reports_and_can_be_cancelled() -> None:
    seen: list[object] = []
    task = Task(progress=seen.append)
    out = BytesIO()
    assert pump(BlobReader.of(DATA), out.write, task=task, item="i") == len(DATA)
    assert out.getvalue() == DATA
    assert seen == [Advanced("i", len(DATA))]
    task.cancel.cancel()
    with pytest.raises(Cancelled):
        pump(BlobReader.of(DATA), out.write, task=task)


def test_atomic_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "f"
    with pytest.raises(KeyError), atomic_file(str(target)) as file:
        write_all(file, b"half")
        raise KeyError("stop")
    assert list(tmp_path.iterdir()) == []
    write_file(str(target), b"one")
    with pytest.raises(KeyError), atomic_file(str(target)) as file:
        write_all(file, b"two")
        raise KeyError("stop")
    assert target.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_storage_errors_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="missing"):
        write_file(str(tmp_path / "missing" / "f"), b"")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((StorageError, NotFound), match="file"):
        write_file(str(tmp_path / "file" / "f"), b"")


def test_no_space_has_a_hint() -> None:
    with pytest.raises(StorageError) as caught:
        from imgtools.blob.files import storage_errors

        with storage_errors("/dev/full"), open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
    assert "TMPDIR" in (caught.value.hint or "")


def test_store_puts_once_and_verifies(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    wanted = descriptor(DATA)
    assert not store.has(wanted)
    with pytest.raises(BlobNotFound):
        store.open(wanted)
    with pytest.raises(DigestMismatch):
        store.put(BlobReader(BytesIO(b"X" + DATA[1:]), DIGEST, len(DATA)), task=Task())
    assert list(store) == []
    with BlobReader.of(DATA) as reader:
        assert store.put(reader, task=Task()) == len(DATA)
    with BlobReader.of(DATA) as reader:
        assert store.put(reader, task=Task()) == 0
    with store.open(wanted) as reader:
        assert reader.read() == DATA
    assert list(store) == [DIGEST]
    store.remove(DIGEST)
    store.remove(DIGEST)
    assert not store.has(wanted)


def test_store_refuses_a_blob_of_another_size(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    store.put_bytes(DATA, DIGEST)
    os.truncate(store.path(DIGEST), 5)
    assert not store.has(descriptor(DATA))
    with pytest.raises(SizeMismatch):
        store.open(descriptor(DATA))
    store.put_bytes(DATA, DIGEST)
    assert store.has(descriptor(DATA))


def test_store_ignores_names_that_are_no_digests(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    store.put_bytes(DATA, DIGEST)
    (tmp_path / "sha256" / "junk").write_bytes(b"")
    (tmp_path / "sha256" / ".imgtools-x").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    assert list(store) == [DIGEST]
