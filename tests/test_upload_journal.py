"""Uploads that a process left unfinished: the next one goes on with them, and trusts little."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgtools.blob.reader import BlobReader
from imgtools.errors import ConnectionFailed, DigestMismatch, Error
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.task import Advanced, Event, Task
from imgtools.testing.dialects import DISTRIBUTION_2, Dialect
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.registry.pull.source import RegistrySource
from imgtools.transport.registry.push import upload_journal
from imgtools.transport.registry.push.destination import RegistryDestination
from imgtools.transport.registry.push.upload_journal import Remembered
from tests.registry_fake import open_session
from tests.rig.cutting import CutLink

MB = 1 << 20
# The same in every process.
BIG = random.Random(1).randbytes(12 * MB)
LAYER = Descriptor(media_type="", digest=Digest.of(BIG), size=len(BIG))
SESSION = r"^/v2/a/b/blobs/uploads/."
PLACE: dict[str, Any] = {"registry": "r:5000", "repository": "a/b", "digest": LAYER.digest}


class Movable:
    """A source that can leave bytes out, as those of a registry or a file can."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position, self.given = content, 0, 0

    def read(self, size: int, /) -> bytes:
        data = self.content[self.position : self.position + size]
        self.position += len(data)
        self.given += len(data)
        return data

    def skip(self, count: int, /) -> None:
        self.position += count


def put(host: str, journal: Path, raw: Movable | None = None, *, task: Task | None = None) -> str:
    """One process's attempt at the upload."""
    session = open_session(host, journal_dir=str(journal))
    try:
        there = RegistryDestination(session, Reference.parse(f"{host}/a/b:v1"))
        return there.put_blob(
            LAYER,
            lambda: BlobReader(raw or Movable(BIG), LAYER.digest, LAYER.size),
            task=task or Task(),
        )
    finally:
        session.close()


def interrupt(registry: ScriptedRegistry, journal: Path) -> None:
    """An attempt that the network ended for good after 5 MiB."""
    registry.fail(method="PUT", path=SESSION, cut_request=5 * MB)
    registry.fail(method="GET", path=SESSION, cut_headers=True)
    with pytest.raises(ConnectionFailed):
        put(registry.host, journal)
    registry.faults.clear()
    registry.forget_requests()


def entries(journal: Path) -> list[str]:
    return sorted(path.name for path in journal.iterdir())


def claim(directory: Path, **other: Any) -> upload_journal.Entry:
    entry = upload_journal.claim(str(directory), **{**PLACE, **other})
    assert entry is not None
    return entry


# Entries


def test_entry_is_private_and_goes_with_its_upload(tmp_path: Path) -> None:
    journal = tmp_path / "state" / "transfers"
    entry = claim(journal)
    assert entry.remembered is None
    entry.record("http://r:5000/u?_state=1", 5)
    entry.record("http://r:5000/u?_state=2", 10)
    entry.close()
    (name,) = entries(journal)
    assert (journal / name).stat().st_mode & 0o777 == 0o600
    assert journal.stat().st_mode & 0o777 == 0o700
    again = claim(journal)
    assert again.remembered == Remembered(location="http://r:5000/u?_state=2", offset=10)
    again.remove()
    again.remove()
    again.close()
    again.close()
    assert entries(journal) == []


def test_one_process_at_a_time_has_an_entry(tmp_path: Path) -> None:
    entry = claim(tmp_path)
    assert upload_journal.claim(str(tmp_path), **PLACE) is None
    other = claim(tmp_path, repository="c/d")
    other.close()
    entry.close()
    claim(tmp_path).close()
    assert entries(tmp_path) == []


def link(path: Path, value: dict[str, Any]) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def pipe(path: Path, value: dict[str, Any]) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


BAD: list[Callable[[Path, dict[str, Any]], object]] = [
    lambda path, value: path.write_bytes(b""),
    lambda path, value: path.write_bytes(b"{" * 100_000),
    lambda path, value: path.write_bytes(b"\xff\x00 not JSON"),
    lambda path, value: path.write_text("[1]"),
    lambda path, value: path.write_text(json.dumps({**value, "digest": "sha256:0"})),
    lambda path, value: path.write_text(json.dumps({**value, "repository": "x"})),
    lambda path, value: path.write_text(json.dumps({**value, "location": 5})),
    lambda path, value: path.write_text(json.dumps({**value, "offset": -1})),
    lambda path, value: path.write_text(json.dumps({**value, "offset": True})),
    lambda path, value: path.write_text(json.dumps({**value, "location": "\ud800"})),
    lambda path, value: os.utime(path, (0, time.time() - 8 * 86400)),
    lambda path, value: path.chmod(0o644),
    link,
    pipe,
]


@pytest.mark.parametrize("spoil", BAD)
def test_entry_that_is_of_no_use_is_removed(
    tmp_path: Path, spoil: Callable[[Path, dict[str, Any]], object]
) -> None:
    entry = claim(tmp_path)
    entry.record("http://r:5000/u", 5)
    entry.close()
    (name,) = entries(tmp_path)
    path = tmp_path / name
    spoil(path, json.loads(path.read_text()))
    again = claim(tmp_path)
    remembered = again.remembered
    again.close()
    if spoil is BAD[9]:
        # A URL that nobody can follow is found out by following it.
        assert remembered is not None
        return
    assert remembered is None
    assert entries(tmp_path) == []


def test_old_entries_are_removed_and_other_files_are_not(tmp_path: Path) -> None:
    old = time.time() - 8 * 86400
    names = [
        "upload-1.json",
        "upload-1.lock",
        ".imgtools-5-upload-2.json",
        "notes",
        "upload-3.json",
    ]
    for name in names:
        (tmp_path / name).write_text("{}")
        if name != "upload-3.json":
            os.utime(tmp_path / name, (old, old))
    claim(tmp_path).close()
    assert entries(tmp_path) == ["notes", "upload-3.json"]


def test_directory_that_cannot_be_used_does_not_stop_an_upload(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    for directory in (file, file / "below", shared):
        assert upload_journal.claim(str(directory), **PLACE) is None
        with ScriptedRegistry() as registry:
            assert put(registry.host, directory) == "stored"


def test_directory_that_goes_away_does_not_stop_an_upload(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    entry = claim(journal)
    entry.record("http://r:5000/u", 5)
    shutil.rmtree(journal)
    entry.record("http://r:5000/u", 10)
    entry.remove()
    entry.close()
    assert upload_journal.claim("", **PLACE) is None
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent" / "below")
    assert upload_journal.claim(str(tmp_path / "nowhere"), **PLACE) is None


# Uploads


def test_second_run_sends_only_the_rest(tmp_path: Path) -> None:
    """Neither is the beginning read again, where the source can leave it out."""
    with ScriptedRegistry() as registry:
        interrupt(registry, tmp_path)
        assert len(entries(tmp_path)) == 1
        events: list[Event] = []
        raw = Movable(BIG)
        assert put(registry.host, tmp_path, raw, task=Task(progress=events.append)) == "stored"
        assert [e.method for e in registry.requests] == ["GET", "PATCH", "PUT"]
        assert sum(e.received for e in registry.requests) == 7 * MB == raw.given
        assert registry.store.repository("a/b").blobs[LAYER.digest] == BIG
        done = [e for e in events if isinstance(e, Advanced)]
        assert sum(e.amount for e in done) == len(BIG)
        assert sum(e.amount for e in done if e.kept) == 5 * MB
    assert entries(tmp_path) == []


def test_second_run_asks_another_registry_only_for_the_rest(tmp_path: Path) -> None:
    with ScriptedRegistry() as source, ScriptedRegistry() as registry:
        source.push_blob("from", BIG)
        interrupt(registry, tmp_path)
        session = open_session(registry.host, journal_dir=str(tmp_path))
        other = open_session(source.host)
        image = RegistrySource(other, Reference.parse(f"{source.host}/from:v1"))
        there = RegistryDestination(session, Reference.parse(f"{registry.host}/a/b:v1"))
        assert there.put_blob(LAYER, lambda: image.open_blob(LAYER), task=Task()) == "stored"
        session.close()
        other.close()
        assert registry.store.repository("a/b").blobs[LAYER.digest] == BIG
        (asked,) = source.requests
        assert asked.headers.get("range") == f"bytes={5 * MB}-"
        assert asked.sent == 7 * MB
    assert entries(tmp_path) == []


def test_source_that_cannot_leave_out_is_read_and_verified(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        interrupt(registry, tmp_path)
        session = open_session(registry.host, journal_dir=str(tmp_path))
        there = RegistryDestination(session, Reference.parse(f"{registry.host}/a/b:v1"))
        wrong = bytes(5 * MB) + BIG[5 * MB :]
        with pytest.raises(DigestMismatch):
            there.put_blob(LAYER, lambda: BlobReader.of(wrong, LAYER.digest), task=Task())
        session.close()
        assert registry.requests[-1].method == "DELETE"
    assert entries(tmp_path) == []


def test_beginning_that_was_another_is_found_out(tmp_path: Path) -> None:
    """The registry verifies what it has; then everything is sent anew."""
    with ScriptedRegistry() as registry:
        interrupt(registry, tmp_path)
        (upload,) = registry.store.uploads.values()
        upload.content[:10] = bytes(10)
        events: list[Event] = []
        assert put(registry.host, tmp_path, task=Task(progress=events.append)) == "stored"
        done = [e for e in events if isinstance(e, Advanced)]
        assert sum(e.amount for e in done) == len(BIG)
        assert sum(e.amount for e in done if e.kept) == 0
        assert registry.store.repository("a/b").blobs[LAYER.digest] == BIG
    assert entries(tmp_path) == []


@pytest.mark.parametrize("dialect", [DISTRIBUTION_2, Dialect(upload_status=False)])
def test_session_that_is_gone(tmp_path: Path, dialect: Dialect) -> None:
    with ScriptedRegistry(dialect=dialect) as registry:
        interrupt(registry, tmp_path)
        assert put(registry.host, tmp_path) == "stored"
        assert registry.requests[-1].received == len(BIG)
    assert entries(tmp_path) == []


def test_registry_out_of_reach_does_not_end_it(tmp_path: Path) -> None:
    """What cannot be asked for now can be gone on with by a third run."""
    with ScriptedRegistry() as registry:
        interrupt(registry, tmp_path)
        registry.fail(cut_headers=True)
        with pytest.raises(ConnectionFailed):
            put(registry.host, tmp_path)
        assert len(entries(tmp_path)) == 1
        registry.faults.clear()
        registry.forget_requests()
        assert put(registry.host, tmp_path) == "stored"
        assert [e.method for e in registry.requests] == ["GET", "PATCH", "PUT"]


def test_session_elsewhere_is_not_asked(tmp_path: Path) -> None:
    """An entry may only lead to the registry that it is about."""
    with ScriptedRegistry() as registry, ScriptedRegistry() as other:
        interrupt(registry, tmp_path)
        (name,) = entries(tmp_path)
        path = tmp_path / name
        value = json.loads(path.read_text())
        value["location"] = value["location"].replace(registry.host, other.host)
        path.write_text(json.dumps(value))
        path.chmod(0o600)
        assert put(registry.host, tmp_path) == "stored"
        assert other.requests == []
        assert registry.requests[0].method == "POST"


def test_refusal_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=SESSION, status=403)
        with pytest.raises(Error):
            put(registry.host, tmp_path)
        assert registry.requests[-1].method == "DELETE"
    assert entries(tmp_path) == []


def test_small_blobs_and_no_directory_leave_no_trace(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        session = open_session(registry.host, journal_dir=str(tmp_path / "journal"))
        there = RegistryDestination(session, Reference.parse(f"{registry.host}/a/b:v1"))
        small = b"x" * 1000
        descriptor = Descriptor(media_type="", digest=Digest.of(small), size=len(small))
        assert there.put_blob(descriptor, lambda: BlobReader.of(small), task=Task()) == "stored"
        session.close()
    assert not (tmp_path / "journal").exists()


CHILD = """
import sys
from tests.test_upload_journal import put
put(sys.argv[1], __import__("pathlib").Path(sys.argv[2]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_the_middle(tmp_path: Path, how: signal.Signals) -> None:
    """Through a slow link, on which every byte is counted."""
    with ScriptedRegistry() as registry, CutLink(registry.host, pace=0.005) as link:
        child = subprocess.Popen([sys.executable, "-c", CHILD, link.host, str(tmp_path)])
        try:
            while link.carried < 3 * MB:
                assert child.poll() is None
                time.sleep(0.01)
        finally:
            child.send_signal(how)
            child.wait()
        link.pace = 0.0
        while any(not upload.ended and upload._lock.locked() for upload in uploads(registry)):
            time.sleep(0.01)
        (upload,) = uploads(registry)
        there, before = upload.size, link.carried
        assert 2 * MB < there < len(BIG)
        assert put(link.host, tmp_path) == "stored"
        assert link.carried - before < len(BIG) - there + 100_000
        assert registry.store.repository("a/b").blobs[LAYER.digest] == BIG
    assert entries(tmp_path) == []


def uploads(registry: ScriptedRegistry) -> list[Any]:
    return list(registry.store.uploads.values())
