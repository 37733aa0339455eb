"""Blobs that are written over several runs, into layouts and directories."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.blob.reader import CHUNK, BlobReader
from imgtools.copy import CopyResult, copy_by_name
from imgtools.errors import Cancelled, ConnectionFailed, Denied, DigestMismatch, StorageError
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Advanced, Event, Task
from imgtools.testing.contract_kit import check_same, put
from imgtools.testing.images import random_image
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.base import Destination
from imgtools.transport.folder import PARTIAL_PREFIX
from imgtools.transport.journal_files import KEPT_SECONDS
from imgtools.transport.lock import lock
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions
from imgtools.transport.partial import LEAST_BLOB
from imgtools.transport.partial_journal import PartialJournal, partial_name
from imgtools.transport.table import Transports
from tests.rig import RunCli

SIZE = LEAST_BLOB + 12_345
CONTENT = random.Random(5).randbytes(SIZE)
BLOB = Descriptor(media_type=mt.OCI_LAYER, digest=Digest.of(CONTENT), size=SIZE)
HALF = SIZE // 2


class Source:
    """Yields a blob; `fail_at` says where reading stops, with `error`."""

    def __init__(
        self,
        fail_at: int | None = None,
        error: BaseException | None = None,
        content: bytes = CONTENT,
    ) -> None:
        self.fail_at, self.content = fail_at, content
        self.error = error or ConnectionFailed("cut", host="h")
        self.read_bytes = 0
        self.opened = 0

    def __call__(self) -> BlobReader:
        self.opened += 1
        return BlobReader(_Carrier(self), BLOB.digest, SIZE)


class _Carrier:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._at = 0

    def skip(self, count: int, /) -> None:
        self._at += count

    def read(self, size: int, /) -> bytes:
        source = self._source
        if source.fail_at is not None:
            if self._at >= source.fail_at:
                raise source.error
            size = min(size, source.fail_at - self._at)
        data = source.content[self._at : self._at + size]
        self._at += len(data)
        source.read_bytes += len(data)
        return data


@pytest.fixture(params=["oci", "dir", "dir-existing"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    (tmp_path / "out").mkdir()
    (tmp_path / "journal").mkdir()
    if request.param == "dir-existing":
        (tmp_path / "out" / "target").mkdir()
    return str(request.param)


@pytest.fixture
def open_destination(kind: str, tmp_path: Path) -> Callable[..., Destination]:
    name = f"{kind.partition('-')[0]}:{tmp_path}/out/target" + (":v1" if kind == "oci" else "")

    def open_it(*, journal: bool = True) -> Destination:
        options = RegistryOptions(journal_dir=str(tmp_path / "journal") if journal else None)
        return Transports().open_destination(name, DestinationOptions(registry=options))

    open_it.name = name  # type: ignore[attr-defined]
    return open_it


Opener = Callable[..., Destination]


@contextlib.contextmanager
def closing_fd(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)


def journal(tmp_path: Path) -> PartialJournal:
    return PartialJournal(str(tmp_path / "journal"))


def size_of(file: Path) -> int:
    """Bytes of a file, 0 for one that has become another name meanwhile."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def hidden(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "out").rglob(".imgtools-*") if path.is_file()]


def interrupt(destination: Destination, source: Source) -> None:
    with pytest.raises(type(source.error)), destination:
        destination.put_blob(BLOB, source, task=Task())


@pytest.mark.parametrize(
    "error", [ConnectionFailed("cut", host="h"), Cancelled(), KeyboardInterrupt()]
)
def test_the_next_run_goes_on(
    open_destination: Opener, tmp_path: Path, error: BaseException
) -> None:
    interrupt(open_destination(), Source(HALF, error))
    left = hidden(tmp_path)
    assert [path.name for path in left] == [partial_name(BLOB.digest)]
    assert left[0].read_bytes() == CONTENT[:HALF]
    (entry,) = journal(tmp_path).entries()
    assert entry.digest == str(BLOB.digest)
    assert entry.path == str(left[0])
    again = Source()
    events: list[Event] = []
    with open_destination() as destination:
        outcome = destination.put_blob(BLOB, again, task=Task(progress=events.append))
        assert outcome == "stored"
        assert again.read_bytes == SIZE - HALF
        assert sum(e.amount for e in events if isinstance(e, Advanced)) == SIZE
        assert journal(tmp_path).entries() == []
        assert destination.has_blob(BLOB)


@pytest.mark.parametrize("kind", ["oci", "dir-existing"], indirect=True)
def test_a_directory_may_be_renamed_in_between(
    kind: str, open_destination: Opener, tmp_path: Path
) -> None:
    interrupt(open_destination(), Source(HALF))
    (tmp_path / "out" / "target").rename(tmp_path / "out" / "renamed")
    name = f"{kind.partition('-')[0]}:{tmp_path}/out/renamed" + (":v1" if kind == "oci" else "")
    options = RegistryOptions(journal_dir=str(tmp_path / "journal"))
    again = Source()
    with Transports().open_destination(name, DestinationOptions(registry=options)) as there:
        there.put_blob(BLOB, again, task=Task())
        assert there.has_blob(BLOB)
    assert again.read_bytes == SIZE - HALF
    assert len(journal(tmp_path).entries()) == 1


def test_what_is_complete_is_kept_as_well(open_destination: Opener, tmp_path: Path) -> None:
    with open_destination() as destination:
        destination.put_blob(BLOB, Source(), task=Task())
    assert [path.stat().st_size for path in hidden(tmp_path)] == [SIZE]
    assert not any(path.name == BLOB.digest.hex for path in (tmp_path / "out").rglob("*"))
    again = Source()
    with open_destination() as destination:
        destination.put_blob(BLOB, again, task=Task())
    assert again.read_bytes == 0


def test_a_committed_image_leaves_nothing(open_destination: Opener, tmp_path: Path) -> None:
    sample = random_image("new", size=LEAST_BLOB)
    with contextlib.suppress(ConnectionFailed), open_destination() as destination:
        destination.put_blob(BLOB, Source(HALF), task=Task())
    with contextlib.suppress(InterruptedError), open_destination() as destination:
        put(destination, sample)
        raise InterruptedError
    with open_destination() as destination:
        put(destination, sample)
        destination.commit()
    left = hidden(tmp_path)
    # A layout may yet get the other image; a directory is one image.
    assert all(path.name == partial_name(BLOB.digest) for path in left)
    source = Transports().open_source(open_destination.name, SourceOptions())  # type: ignore[attr-defined]
    check_same(source, sample)


def test_without_a_journal_nothing_is_kept(open_destination: Opener, tmp_path: Path) -> None:
    interrupt(open_destination(journal=False), Source(HALF))
    assert hidden(tmp_path) == []
    interrupt(open_destination(), Source(HALF))
    again = Source()
    with open_destination(journal=False) as destination:
        destination.put_blob(BLOB, again, task=Task())
    assert again.read_bytes == SIZE
    assert hidden(tmp_path) == []
    assert journal(tmp_path).prune() == 1


@pytest.mark.parametrize("size", [LEAST_BLOB - 1, 1000])
def test_small_blobs_are_not_kept(open_destination: Opener, tmp_path: Path, size: int) -> None:
    blob = Descriptor(media_type=mt.OCI_LAYER, digest=Digest.of(CONTENT[:size]), size=size)
    reader = BlobReader(_Carrier(Source(size - 1)), blob.digest, size)
    with pytest.raises(ConnectionFailed), open_destination() as destination:
        destination.put_blob(blob, lambda: reader, task=Task())
    assert hidden(tmp_path) == []


def test_the_first_bytes_of_a_large_blob_are_not_worth_keeping(
    open_destination: Opener, tmp_path: Path
) -> None:
    interrupt(open_destination(), Source(1000))
    assert hidden(tmp_path) == []
    assert journal(tmp_path).entries() == []


def test_a_partial_that_does_not_match_is_thrown_away(
    open_destination: Opener, tmp_path: Path
) -> None:
    interrupt(open_destination(), Source(HALF))
    (left,) = hidden(tmp_path)
    left.write_bytes(bytes(HALF))
    again = Source()
    events: list[Event] = []
    with open_destination() as destination:
        destination.put_blob(BLOB, again, task=Task(progress=events.append))
        assert destination.has_blob(BLOB)
    assert again.opened == 2
    assert again.read_bytes == SIZE - HALF + SIZE
    assert sum(e.amount for e in events if isinstance(e, Advanced)) == SIZE


def test_wrong_bytes_are_asked_for_once_more_only(open_destination: Opener, tmp_path: Path) -> None:
    interrupt(open_destination(), Source(HALF))
    bad = Source(content=CONTENT[:-1] + b"x")
    with pytest.raises(DigestMismatch), open_destination() as destination:
        destination.put_blob(BLOB, bad, task=Task())
    assert bad.opened == 2
    assert hidden(tmp_path) == []
    assert journal(tmp_path).entries() == []


def test_wrong_bytes_of_one_piece_are_not_asked_for_again(open_destination: Opener) -> None:
    bad = Source(content=CONTENT[:-1] + b"x")
    with pytest.raises(DigestMismatch), open_destination() as destination:
        destination.put_blob(BLOB, bad, task=Task())
    assert bad.opened == 1


def test_a_partial_that_is_too_long_is_begun_again(
    open_destination: Opener, tmp_path: Path
) -> None:
    interrupt(open_destination(), Source(HALF))
    (left,) = hidden(tmp_path)
    left.write_bytes(bytes(SIZE + 1))
    again = Source()
    with open_destination() as destination:
        destination.put_blob(BLOB, again, task=Task())
    assert again.read_bytes == SIZE


def test_a_full_disk_keeps_nothing(
    open_destination: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    written = 0

    def write(fd: int, data: Any) -> int:
        nonlocal written
        written += len(data)
        if written > HALF:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr("imgtools.transport.folder.os.write", write)
    with pytest.raises(StorageError, match="out") as caught, open_destination() as destination:
        destination.put_blob(BLOB, Source(), task=Task())
    assert "TMPDIR" in (caught.value.hint or "")
    assert hidden(tmp_path) == []


_KILLED = """
import os, signal, sys
from imgtools.task import Task
from imgtools.transport.options import DestinationOptions, RegistryOptions
from imgtools.transport.table import Transports
from tests.test_partial_downloads import BLOB, HALF, Source

class Deadly(Source):
    @property
    def error(self):
        os.kill(os.getpid(), signal.SIGKILL)

    @error.setter
    def error(self, value):
        pass

options = DestinationOptions(registry=RegistryOptions(journal_dir=sys.argv[2]))
Transports().open_destination(sys.argv[1], options).put_blob(BLOB, Deadly(HALF), task=Task())
"""


def test_a_killed_run_is_continued(open_destination: Opener, tmp_path: Path) -> None:
    name = open_destination.name  # type: ignore[attr-defined]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, name, tmp_path / "journal"],
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    again = Source()
    with open_destination() as destination:
        destination.put_blob(BLOB, again, task=Task())
    assert again.read_bytes == SIZE - HALF


# From a registry


@pytest.fixture
def filled() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as registry:
        config = registry.push_blob("app", b"{}")
        layer = registry.push_blob("app", CONTENT)
        manifest = {
            "schemaVersion": 2,
            "mediaType": mt.OCI_MANIFEST,
            "config": {"mediaType": mt.OCI_CONFIG, "digest": str(config), "size": 2},
            "layers": [{"mediaType": mt.OCI_LAYER, "digest": str(layer), "size": SIZE}],
        }
        registry.push_manifest("app", json.dumps(manifest).encode(), tags=("v1",))
        yield registry


def test_a_copy_from_a_registry_is_continued(
    filled: ScriptedRegistry, open_destination: Opener, tmp_path: Path
) -> None:
    """The rest is all that the second run asks for."""
    target = open_destination.name  # type: ignore[attr-defined]
    options = RegistryOptions(tls_verify=False, journal_dir=str(tmp_path / "journal"))

    def copy() -> CopyResult:
        return copy_by_name(
            f"docker://{filled.host}/app:v1",
            target,
            source_options=SourceOptions(registry=options),
            destination_options=DestinationOptions(registry=options),
        )

    path = f"/blobs/{BLOB.digest}"
    filled.fail(method="GET", path=path, nth=1, cut_after=HALF)
    filled.fail(method="GET", path=path, status=403)
    with pytest.raises(Denied):
        copy()
    assert [file.stat().st_size for file in hidden(tmp_path)] == [HALF]
    filled.faults.clear()
    filled.forget_requests()
    assert copy().bytes_moved == SIZE - HALF + len(b"{}")
    asked = [exchange for exchange in filled.requests if path in exchange.path]
    assert [exchange.headers.get("range", "") for exchange in asked] == [f"bytes={HALF}-"]
    assert [exchange.sent for exchange in asked] == [SIZE - HALF]
    assert hidden(tmp_path) == []
    with Transports().open_source(target, SourceOptions()) as source:
        assert source.open_blob(BLOB).read() == CONTENT


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_command_that_was_ended_is_continued(
    filled: ScriptedRegistry, open_destination: Opener, tmp_path: Path, run_cli: RunCli, how: int
) -> None:
    target = open_destination.name  # type: ignore[attr-defined]
    command = ("copy", "--src-tls-verify=false", f"docker://{filled.host}/app:v1", target)
    path = f"/blobs/{BLOB.digest}"
    filled.fail(method="GET", path=path, nth=1, stall_after=HALF)
    with run_cli.start(*command) as running:
        # What is less than one read may yet be in memory.
        while not any(size_of(file) > HALF - CHUNK for file in hidden(tmp_path)):
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(how)
        running.communicate()
    (kept,) = (file.stat().st_size for file in hidden(tmp_path))
    filled.forget_requests()
    run_cli(*command, check=True)
    assert hidden(tmp_path) == []
    wanted = [exchange.headers.get("range") for exchange in filled.requests]
    assert f"bytes={kept}-" in wanted
    assert list((run_cli.home / ".local/state/imgtools/transfers/downloads").iterdir()) == []


def test_a_stale_partial_is_fetched_from_the_start(
    filled: ScriptedRegistry, open_destination: Opener, tmp_path: Path
) -> None:
    interrupt(open_destination(), Source(HALF))
    (left,) = hidden(tmp_path)
    left.write_bytes(bytes(HALF))
    options = RegistryOptions(tls_verify=False, journal_dir=str(tmp_path / "journal"))
    done = copy_by_name(
        f"docker://{filled.host}/app:v1",
        open_destination.name,  # type: ignore[attr-defined]
        source_options=SourceOptions(registry=options),
        destination_options=DestinationOptions(registry=options),
    )
    assert hidden(tmp_path) == []
    assert filled.requests[-1].sent == SIZE
    # What was wrong was not kept after all.
    assert done.bytes_moved == SIZE + len(b"{}")


def test_what_is_complete_but_for_its_name_is_not_asked_for(
    filled: ScriptedRegistry, open_destination: Opener, tmp_path: Path
) -> None:
    with open_destination() as destination:
        destination.put_blob(BLOB, Source(), task=Task())
    options = RegistryOptions(tls_verify=False, journal_dir=str(tmp_path / "journal"))
    copy_by_name(
        f"docker://{filled.host}/app:v1",
        open_destination.name,  # type: ignore[attr-defined]
        source_options=SourceOptions(registry=options),
        destination_options=DestinationOptions(registry=options),
    )
    assert filled.count(path=f"/blobs/{BLOB.digest}") == 0


@pytest.mark.parametrize("status", [404, 403])
def test_a_large_blob_that_cannot_be_had(
    filled: ScriptedRegistry, open_destination: Opener, tmp_path: Path, run_cli: RunCli, status: int
) -> None:
    """It is asked for late, which leaves nothing behind and changes nothing that is said."""
    filled.fail(path=f"/blobs/{BLOB.digest}", status=status)
    target = open_destination.name  # type: ignore[attr-defined]
    name = f"docker://{filled.host}/app:v1"
    done = run_cli("copy", "--src-tls-verify=false", name, target)
    assert done.returncode == 1
    assert str(BLOB.digest) in done.stderr
    assert ("is not in" if status == 404 else "403") in done.stderr
    assert filled.count("GET", f"/blobs/{BLOB.digest}") == 1
    assert hidden(tmp_path) == []


# Several writers


def test_writers_do_not_share_a_partial(open_destination: Opener, tmp_path: Path) -> None:
    interrupt(open_destination(), Source(HALF))
    (left,) = hidden(tmp_path)
    # A layout's writer locks the file, a directory's the unfinished directory it is in.
    fd = os.open(left if left.parent.name == "sha256" else left.parent, os.O_RDONLY)
    with closing_fd(fd):
        assert lock(fd) == "held"
        again = Source()
        with open_destination() as destination:
            destination.put_blob(BLOB, again, task=Task())
    assert again.read_bytes == SIZE


@pytest.mark.parametrize("what", ["link", "hard link", "folder", "fifo"])
def test_what_is_no_partial_of_ours_is_not_touched(
    kind: str, open_destination: Opener, tmp_path: Path, what: str
) -> None:
    if kind != "oci":
        return
    blobs = tmp_path / "out" / "target" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = blobs / partial_name(BLOB.digest)
    match what:
        case "link":
            path.symlink_to(victim)
        case "hard link":
            path.hardlink_to(victim)
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
    with open_destination() as destination:
        destination.put_blob(BLOB, Source(), task=Task())
        assert destination.has_blob(BLOB)
    assert victim.read_bytes() == b"precious"


# The journal


def test_entries_are_private(open_destination: Opener, tmp_path: Path) -> None:
    interrupt(open_destination(), Source(HALF))
    (folder,) = (tmp_path / "journal").iterdir()
    (entry,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert entry.stat().st_mode & 0o777 == 0o600


def test_old_partials_are_removed(open_destination: Opener, tmp_path: Path) -> None:
    interrupt(open_destination(), Source(HALF))
    assert journal(tmp_path).prune() == 0
    assert journal(tmp_path).prune(time.time() + KEPT_SECONDS + 60) == 1
    assert hidden(tmp_path) == []
    assert journal(tmp_path).entries() == []


def test_an_old_partial_that_is_being_written_stays(
    open_destination: Opener, tmp_path: Path
) -> None:
    interrupt(open_destination(), Source(HALF))
    (left,) = hidden(tmp_path)
    with left.open("rb") as file:
        assert lock(file.fileno()) == "held"
        assert journal(tmp_path).prune(time.time() + KEPT_SECONDS + 60) == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"path": 1}', b'{"destination": "d", "digest": "x", "path": "/etc/x"}'],
)
def test_a_bad_entry_harms_nobody(tmp_path: Path, content: bytes) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    entries = tmp_path / "journal" / "downloads"
    entries.mkdir(parents=True)
    entry = entries / "1.json"
    entry.write_bytes(content.replace(b"/etc/x", os.fsencode(victim)))
    entry.chmod(0o600)
    found = journal(tmp_path)
    assert found.prune(time.time() + KEPT_SECONDS + 60) == 1
    assert found.entries() == []
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "path", ["{0}/.imgtools-partial-notes", "{0}/.imgtools-partial-%00", ".imgtools-partial-{1}"]
)
def test_only_what_can_be_a_partial_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name = partial_name(BLOB.digest)
    victims = [tmp_path / ".imgtools-partial-notes", tmp_path / name]
    for victim in victims:
        victim.write_bytes(b"precious")
    where = path.format(tmp_path, name.removeprefix(PARTIAL_PREFIX))
    plant(tmp_path, where)
    assert journal(tmp_path).prune(time.time() + KEPT_SECONDS + 60) == 1
    assert all(victim.exists() for victim in victims)


def test_a_journal_that_others_write_is_not_believed(
    open_destination: Opener, tmp_path: Path
) -> None:
    victim = tmp_path / partial_name(BLOB.digest)
    victim.write_bytes(b"precious")
    plant(tmp_path, str(victim)).parent.chmod(0o777)
    assert journal(tmp_path).prune(time.time() + KEPT_SECONDS + 60) == 0
    assert victim.exists()
    interrupt(open_destination(), Source(HALF))
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("how", ["pipe", "link", "readable"])
def test_an_entry_that_is_not_private_is_not_believed(tmp_path: Path, how: str) -> None:
    victim = tmp_path / partial_name(BLOB.digest)
    victim.write_bytes(b"precious")
    entry = plant(tmp_path, str(victim))
    match how:
        case "pipe":
            entry.unlink()
            os.mkfifo(entry, 0o600)
        case "link":
            entry.rename(tmp_path / "elsewhere")
            entry.symlink_to(tmp_path / "elsewhere")
        case "readable":
            entry.chmod(0o644)
    assert journal(tmp_path).entries() == []
    assert journal(tmp_path).prune(time.time() + KEPT_SECONDS + 60) == 1
    assert victim.exists()


def test_what_was_written_by_a_wrong_clock_does_not_stay(
    open_destination: Opener, tmp_path: Path
) -> None:
    interrupt(open_destination(), Source(HALF))
    (left,) = hidden(tmp_path)
    ahead = time.time() + 10 * KEPT_SECONDS
    os.utime(left, (ahead, ahead))
    assert journal(tmp_path).prune() == 1
    assert hidden(tmp_path) == []


def plant(tmp_path: Path, path: str) -> Path:
    """An entry about the file at `path`, of which everything else is as it should be."""
    entries = tmp_path / "journal" / "downloads"
    entries.mkdir(parents=True, mode=0o700)
    entry = entries / "1.json"
    value = {"destination": "d", "digest": str(BLOB.digest), "path": path}
    entry.write_text(json.dumps(value))
    entry.chmod(0o600)
    return entry


def test_a_journal_that_cannot_be_written_keeps_nothing(
    open_destination: Opener, tmp_path: Path
) -> None:
    (tmp_path / "journal" / "downloads").write_text("not a directory")
    interrupt(open_destination(), Source(HALF))
    assert hidden(tmp_path) == []


def test_without_locks_nothing_is_kept(
    open_destination: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems; who comes later could not tell whether we are gone."""

    def flock(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    interrupt(open_destination(), Source(HALF))
    with open_destination() as destination:
        destination.put_blob(BLOB, Source(), task=Task())
    assert hidden(tmp_path) == []
    assert journal(tmp_path).entries() == []


def test_names_that_are_no_text_are_remembered(tmp_path: Path) -> None:
    found = journal(tmp_path)
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff/" + PARTIAL_PREFIX.encode() + b"x")
    assert found.add("dir\udcff", BLOB.digest, path)
    (entry,) = found.entries()
    assert (entry.destination, entry.path) == ("dir\udcff", path)
    found.remove("dir\udcff", BLOB.digest)
    assert found.entries() == []
