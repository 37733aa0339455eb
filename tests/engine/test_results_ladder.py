"""Files that a build leaves for its user, where the user is a root that user namespaces cannot
have: files and trees are the user's own, whole or not there at all."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.ids.outside import Outside, start_outside
from imgtools.errors import InvalidInput, NotFound, StorageError
from tests.engine import ladder_rig as rig
from tests.engine.ladder_rig import Ladder
from tests.engine.run_rig import make_image

SHOWN = "--mount=type=secret,id=s wc -c </run/secrets/s"
PLAIN = "FROM scratch\nCOPY . /\n"


@pytest.fixture(name="outside")
def _outside() -> Iterator[Outside]:
    with closing(start_outside()) as outside:
        yield outside


@pytest.fixture(scope="module", name="ladder")
def _ladder() -> Iterator[Ladder]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        ladder = Ladder(directory)
        (directory / "context/sub").mkdir(parents=True)
        (directory / "context/sub/file").write_text("content")
        (directory / "plain").write_text(PLAIN)
        base = ladder.base(make_image(directory))
        (directory / "secret").write_text(f"FROM oci-archive:{base}\nRUN {SHOWN}\n")
        yield ladder


def test_a_root_that_is_not_mapped_gets_its_files(ladder: Ladder) -> None:
    home = ladder.home(rig.ROOT_POD)
    private = home / "private"
    private.mkdir(mode=0o700)
    # As /tmp is.
    (home / "tmp").chmod(0o1777)
    outputs = ("type=tar,dest={0}/tree.tar", "type=oci,dest={0}/oci.tar",
               "type=docker,dest={0}/docker.tar,name=x:1", "{0}/tree")  # fmt: skip
    asked = [f"--output={text.format(private)}" for text in outputs]
    done = ladder.imgtools(
        rig.ROOT_POD, "build", "-f", f"{ladder.directory}/plain", "-t", "named",
        f"--iidfile={private}/id", f"--iidfile-raw={private}/raw",
        f"--metadata-file={private}/meta", f"--logfile={private}/log", *asked,
        "--sbom=true", f"--sbom-output={private}/sbom",
        f"{ladder.directory}/context",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert sorted(os.listdir(private)) == [
        "docker.tar", "id", "log", "meta", "oci.tar", "raw", "sbom", "tree", "tree.tar",
    ]  # fmt: skip
    identity = (private / "id").read_text()
    assert identity == f"sha256:{(private / 'raw').read_text()}"
    assert json.loads((private / "meta").read_text())["containerimage.config.digest"] == identity
    assert "COPY" in (private / "log").read_text()
    assert (private / "tree/sub/file").read_text() == "content"
    with tarfile.open(private / "tree.tar") as archive:
        assert "sub/file" in archive.getnames()
    for name in ("oci.tar", "docker.tar"):
        shown = ladder.imgtools(rig.ROOT, "inspect", f"{name[:-4]}-archive:{private}/{name}")
        assert shown.code == 0, shown.err
    for path in (private, *private.rglob("*")):
        assert path.stat().st_uid == 0, path


def test_secrets_of_that_root_alone_are_shown(ladder: Ladder) -> None:
    home = ladder.home(rig.ROOT_POD)
    (home / "hidden").touch(mode=0o600)
    (home / "hidden").write_text("hidden")
    done = ladder.imgtools(
        rig.ROOT_POD, "build", "-f", f"{ladder.directory}/secret", "--network=none",
        f"--secret=id=s,src={home}/hidden", f"{ladder.directory}/context",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "6" in done.out.splitlines()


def test_a_layout_in_such_a_place_is_refused_with_a_way_out(ladder: Ladder) -> None:
    home = ladder.home(rig.ROOT_POD)
    done = ladder.imgtools(
        rig.ROOT_POD, "build", "-f", f"{ladder.directory}/plain",
        f"--output=type=oci,tar=false,dest={home}/layout", f"{ladder.directory}/context",
    )  # fmt: skip
    assert done.code == 125
    assert "layout cannot be written" in done.err
    assert "tar=false" in done.err
    assert not (home / "layout").exists()


def test_working_containers_leave_ids_there(ladder: Ladder) -> None:
    home = ladder.home(rig.ROOT_POD)
    words = ("from", "--name=c", f"--cidfile={home}/cid", "scratch")
    assert ladder.imgtools(rig.ROOT_POD, *words).code == 0
    assert len((home / "cid").read_text()) == 64
    done = ladder.imgtools(rig.ROOT_POD, "commit", f"--iidfile={home}/iid", "c", "kept")
    assert done.code == 0, done.err
    assert (home / "iid").read_text() == f"sha256:{done.out.strip()}"


def test_a_failed_block_leaves_what_was_there(outside: Outside, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(InvalidInput), outside.replacing(str(path)) as file:
        file.write(b"half")
        raise InvalidInput("stopped")
    assert (path.read_text(), len(os.listdir(tmp_path))) == ("old", 2)
    with outside.replacing(str(tmp_path / "link")) as file:
        file.write(b"new")
    assert path.read_text() == "new"
    assert (tmp_path / "link").is_symlink()


def test_logs_are_for_their_owner_and_pipes_are_written_to(
    outside: Outside, tmp_path: Path
) -> None:
    with outside.opened(str(tmp_path / "log")) as log:
        log.write(b"line")
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with outside.replacing(str(tmp_path / "pipe")) as file:
            file.write(b"through")
        assert os.read(reading, 100) == b"through"
    finally:
        os.close(reading)


def _tar(name: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    return packed.getvalue()


def test_trees_and_what_is_wrong_with_them(outside: Outside, tmp_path: Path) -> None:
    data = _tar("d/f")
    assert outside.unpack([data[:700], data[700:]], str(tmp_path / "tree")) == 0
    assert (tmp_path / "tree/d/f").read_bytes() == b"abc"
    with pytest.raises(StorageError, match="file"):
        (tmp_path / "file").write_text("")
        outside.unpack([data] * 50, str(tmp_path / "file"))
    with pytest.raises(StorageError, match="unsafe"):
        outside.unpack([_tar("../out")], str(tmp_path / "tree"))

    def stopping() -> Iterator[bytes]:
        yield data[:600]
        raise InvalidInput("no more")

    with pytest.raises(InvalidInput, match="no more"):
        outside.unpack(stopping(), str(tmp_path / "tree"))
    with pytest.raises(NotFound, match="none"):
        outside.opened(str(tmp_path / "none/log")).close()


def test_who_is_killed_leaves_no_unfinished_file(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with start_outside().replacing(str(tmp_path / "file")) as file:
            file.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    for _ in range(500):
        if not os.listdir(tmp_path):
            break
        time.sleep(0.01)
    assert os.listdir(tmp_path) == []


def test_without_the_process_there_is_an_error(tmp_path: Path) -> None:
    outside = start_outside()
    outside.close()
    outside.close()
    with pytest.raises(StorageError, match="gone"):
        outside.opened(str(tmp_path / "log")).close()
