"""Contexts that are here: directories, archives, standard input, nothing; and hostile ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from imgtools.build import trees
from imgtools.build.contexts.classify import ContextKind, classify
from imgtools.build.contexts.context import CONTAINERFILE_LIMIT, Context, open_context
from imgtools.build.contexts.options import ContextOptions
from imgtools.errors import (
    Error,
    InvalidArchive,
    InvalidInput,
    LimitExceeded,
    NotFound,
    UnsafePath,
)
from imgtools.task import Task


def options(tmp_path: Path, stdin: bytes | None = None) -> ContextOptions:
    """Scratch and current directory below `tmp_path`."""
    (tmp_path / "scratch").mkdir(exist_ok=True)
    return ContextOptions(
        scratch=str(tmp_path / "scratch"),
        directory=str(tmp_path),
        stdin=io.BytesIO(stdin) if stdin is not None else None,
    )


def make_tar(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """A tar of files and of other members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size, info.mtime, info.uid, info.gid = len(member[1]), 1000, 7, 8
                tar.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def member(name: str, kind: bytes, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    """A member without content."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def content(context: Context) -> dict[bytes, bytes | None]:
    """What a context has."""
    found = trees.walk(context.tree)
    return {path: trees.read_small(context.tree, path, 1 << 20) for path, _ in found}


KINDS = {
    "": ContextKind.NONE,
    "-": ContextKind.STDIN,
    ".": ContextKind.LOCAL,
    "dir/sub": ContextKind.LOCAL,
    "./github.com/a/b": ContextKind.LOCAL,
    "a.git": ContextKind.LOCAL,
    "https://h/x.tar.gz": ContextKind.HTTP,
    "HTTP://h/x": ContextKind.HTTP,
    "https://h/x.git": ContextKind.GIT,
    "https://h/x.git#main:sub": ContextKind.GIT,
    "https://h/x.git?ref=v1": ContextKind.GIT,
    "https://h/x.tar?y=.git": ContextKind.HTTP,
    "https://h/x.tar#.git": ContextKind.HTTP,
    "git://h/x": ContextKind.GIT,
    "ssh://git@h/x": ContextKind.GIT,
    "git@h:x/y": ContextKind.GIT,
    "github.com/a/b": ContextKind.GIT,
    "file:///srv/x.git": ContextKind.GIT,
    "docker-image://alpine:3": ContextKind.IMAGE,
    "container-image://alpine": ContextKind.IMAGE,
    "oci-layout:dir": ContextKind.LAYOUT,
    "oci-layout:///dir@sha256:00": ContextKind.LAYOUT,
}


@pytest.mark.parametrize(("value", "kind"), KINDS.items())
def test_names_of_contexts_are_told_apart(value: str, kind: ContextKind) -> None:
    """By their form alone."""
    assert classify(value) is kind


def test_e62_directory_is_read_in_place(tmp_path: Path) -> None:
    """However large, nothing of it is copied; digests of its files may be remembered."""
    (tmp_path / "ctx").mkdir()
    with open(tmp_path / "ctx/huge", "wb") as file:
        file.truncate(1 << 40)
    opts = options(tmp_path)
    with open_context("ctx", opts, task=Task()) as context:
        assert context.directory == str(tmp_path / "ctx")
        assert (context.kind, context.remote) == (ContextKind.LOCAL, False)
        assert context.tree.identity
        assert not context.tree.recorded_owners
        node = trees.stat_of(context.tree, b"huge")
        assert node is not None
        assert node.size == 1 << 40
        assert os.listdir(opts.scratch) == []


def test_e62_symlinked_root_is_followed(tmp_path: Path) -> None:
    """The name of a context may be a link, and means the same as the directory itself."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real/f").write_text("x")
    (tmp_path / "link").symlink_to("real")
    opts = options(tmp_path)
    with (
        open_context("link", opts, task=Task()) as context,
        open_context(str(tmp_path / "real"), opts, task=Task()) as same,
    ):
        assert content(context) == {b"f": b"x"}
        assert context.tree.identity == same.tree.identity


def test_directory_goes_before_a_repository_of_that_name(tmp_path: Path) -> None:
    """What is here is meant, if the name could be both."""
    for name in ("github.com/a/b", "git@h:x"):
        (tmp_path / name).mkdir(parents=True)
        with open_context(name, options(tmp_path), task=Task()) as context:
            assert (context.kind, content(context)) == (ContextKind.LOCAL, {})


def test_e62_empty_directory_is_a_context(tmp_path: Path) -> None:
    """With nothing in it; and so is no context at all."""
    (tmp_path / "empty").mkdir()
    for value in ("empty", ""):
        with open_context(value, options(tmp_path), task=Task()) as context:
            assert content(context) == {}


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("none", NotFound, "context none: no such file or directory"),
        ("dangling", NotFound, "context dangling"),
        ("text", InvalidInput, "context text is neither a directory nor an archive"),
        ("text/below", InvalidInput, "context text/below is no directory"),
        ("docker-image://alpine", InvalidInput, "is an image"),
    ],
)
def test_e62_what_is_no_context(tmp_path: Path, value: str, error: type[Error], text: str) -> None:
    """Is refused by its name, with what it could be."""
    (tmp_path / "text").write_text("FROM scratch\n" * 100)
    (tmp_path / "dangling").symlink_to("nowhere")
    with (
        pytest.raises(error, match=text) as caught,
        open_context(value, options(tmp_path), task=Task()),
    ):
        pass
    assert caught.value.hint or "image" in text


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("value", ["-", "file"])
def test_e62_archive_from_stdin_or_a_file(tmp_path: Path, compression: str, value: str) -> None:
    """Unpacked into scratch, of nobody's but 0:0, and gone afterwards."""
    data = COMPRESSIONS[compression](make_tar(("Dockerfile", b"FROM scratch"), ("a/b", b"x")))
    (tmp_path / "file").write_bytes(data)
    opts = options(tmp_path, data)
    with open_context(value, opts, task=Task()) as context:
        assert content(context) == {b"Dockerfile": b"FROM scratch", b"a": None, b"a/b": b"x"}
        assert (context.containerfile, context.epoch) == ("", 1000)
        node = trees.stat_of(context.tree, b"a/b")
        assert node is not None
        assert (node.uid, node.gid) == (0, 0)
        assert os.path.samestat(os.stat(context.directory), os.fstat(context.tree.fd))
    assert os.listdir(opts.scratch) == []


def test_archive_through_a_pipe(tmp_path: Path) -> None:
    """A context may be a FIFO or a process substitution's descriptor: it is read once."""
    reader, writer = os.pipe()
    with open(writer, "wb") as pipe:
        pipe.write(make_tar(("f", b"x")))
    with open_context(f"/dev/fd/{reader}", options(tmp_path), task=Task()) as context:
        assert content(context) == {b"f": b"x"}
    os.close(reader)


def test_e62_containerfile_from_stdin(tmp_path: Path) -> None:
    """What is no archive is the Containerfile of a context that has nothing else."""
    with open_context("-", options(tmp_path, b"FROM scratch\n"), task=Task()) as context:
        assert content(context) == {b"Dockerfile": b"FROM scratch\n"}
        assert context.containerfile == "Dockerfile"


@pytest.mark.parametrize(
    ("stdin", "error", "text"),
    [
        (b"", InvalidInput, "standard input: nothing came"),
        (None, InvalidInput, "no standard input"),
        (gzip.compress(b"FROM scratch\n"), InvalidArchive, "context standard input: "),
        (gzip.compress(make_tar(("f", b"x" * 9999)))[:-20], InvalidArchive, "standard input"),
        (make_tar(("f", b"x" * 9999))[:5000], InvalidArchive, "context standard input"),
        (b"#" * (CONTAINERFILE_LIMIT + 1), LimitExceeded, "the Containerfile from standard input"),
    ],
)
def test_e62_stdin_that_is_no_context(
    tmp_path: Path, stdin: bytes | None, error: type[Error], text: str
) -> None:
    """Nothing, an archive that is none, one that is cut, text without end."""
    opts = options(tmp_path, stdin)
    with pytest.raises(error, match=text), open_context("-", opts, task=Task()):
        pass
    assert os.listdir(opts.scratch) == []


@pytest.mark.parametrize(
    "hostile",
    [
        member("../out", tarfile.REGTYPE),
        member("a/../../out", tarfile.REGTYPE),
        member("hard", tarfile.LNKTYPE, "../../victim"),
        member("hard", tarfile.LNKTYPE, "/etc/passwd"),
    ],
    ids=lambda info: f"{info.name}-{info.linkname}",
)
def test_hostile_archive_is_refused(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    """And nothing appears outside of scratch."""
    (tmp_path / "victim").write_text("x")
    before = sorted(os.listdir(tmp_path))
    opts = options(tmp_path, make_tar(("f", b"x"), hostile))
    with (
        pytest.raises((UnsafePath, InvalidArchive)),
        open_context("-", opts, task=Task()),
    ):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "scratch"])


def test_links_in_an_archive_stay_inside(tmp_path: Path) -> None:
    """A file written through a link that leads out is written inside; absolute names too."""
    (tmp_path / "victim").mkdir()
    data = make_tar(
        member("link", tarfile.SYMTYPE, str(tmp_path / "victim")),
        ("link/f", b"x"),
        ("/abs", b"y"),
        (".wh.kept", b"z"),
    )
    with open_context("-", options(tmp_path, data), task=Task()) as context:
        found = content(context)
    assert os.listdir(tmp_path / "victim") == []
    inside = os.fsencode(tmp_path / "victim/f").lstrip(b"/")
    assert found[inside] == b"x"
    assert found[b"abs"] == b"y"
    assert found[b".wh.kept"] == b"z"


def test_e50_special_files_of_an_archive(tmp_path: Path) -> None:
    """A FIFO is one, a device is one or is recorded as one."""
    device = member("null", tarfile.CHRTYPE, mode=0o666)
    device.devmajor, device.devminor = 1, 3
    data = make_tar(member("fifo", tarfile.FIFOTYPE), device)
    with open_context("-", options(tmp_path, data), task=Task()) as context:
        nodes = dict(trees.walk(context.tree))
    assert nodes[b"null"].mode == 0o20666
    assert nodes[b"null"].rdev == (1, 3)
    assert nodes[b"fifo"].mode == 0o10644


def test_e53_modes_that_shut_us_out_are_recorded(tmp_path: Path) -> None:
    """Files of an archive can be read whatever their mode, which is what the archive says."""
    data = make_tar(
        member("shut", tarfile.DIRTYPE, mode=0),
        ("shut/f", b"x"),
        member("none", tarfile.REGTYPE, mode=0),
        member("also", tarfile.LNKTYPE, "none"),
    )
    (tmp_path / "scratch").mkdir()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.chown(tmp_path / "scratch", 65534, 65534)
                fd = os.open(tmp_path / "scratch", os.O_RDONLY)
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                scratch = f"/proc/self/fd/{fd}"
            else:
                scratch = str(tmp_path / "scratch")
            opts = ContextOptions(scratch=scratch, stdin=io.BytesIO(data))
            with open_context("-", opts, task=Task()) as context:
                nodes = dict(trees.walk(context.tree))
                assert nodes[b"shut"].mode == 0o40000
                assert nodes[b"none"].mode == nodes[b"also"].mode == 0o100000
                assert content(context)[b"shut/f"] == b"x"
                assert content(context)[b"none"] == b""
            assert os.listdir(scratch) == []
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
