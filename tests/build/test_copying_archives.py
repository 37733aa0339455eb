"""ADD of archives: recognised by content, placed as if unpacked, and never out of their root."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imgtools.blob.tar import EntryType, UnpackOptions, Whiteouts, unpack_tree
from imgtools.build.copying.model import FetchedFile
from imgtools.build.copying.survey import plan_copy
from imgtools.build.copying.write import write_copy
from imgtools.errors import Conflict, InvalidArchive, InvalidInput, UnsafePath
from imgtools.task import Task
from tests.build.copying_rig import Site, listing, member, opened, tar_of

DIR, SYMLINK, HARDLINK = EntryType.DIR, EntryType.SYMLINK, EntryType.HARDLINK


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty context on an empty tree."""
    return Site(tmp_path)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("name", ["a.tar.gz", "whatever"])
def test_e58_archives_by_their_content(site: Site, compression: str, name: str) -> None:
    """Any compression, any name."""
    tar = tar_of((member("f", owner=(11, 12), mode=0o4751, mtime=-5), b"data"))
    (site.context / name).write_bytes(COMPRESSORS[compression](tar))
    copied = site.add(name, "/d")
    assert copied.names == ["d/", "d/f"]
    assert copied.text("d/f") == "data"
    entry = copied.entries["d/f"]
    assert (entry.mode, entry.mtime, copied.owner("d/f")) == (0o4751, -5, (11, 12))
    assert site.copy(name, "/d/").names == ["d/", f"d/{name}"]
    assert site.add(name, "/d/", unpack=False).names == ["d/", f"d/{name}"]
    owned = site.add(name, "/d/", owner=(3, 4), chmod="777")
    assert (owned.owner("d/f"), owned.owner("d")) == ((3, 4), (3, 4))
    assert (owned.mode("d/f"), owned.mode("d")) == (0o4751, 0o755)


TAR = tar_of((member("f"), b"data" * 1000))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an archive, whatever it is called",
        gzip.compress(b"not a tar inside"),
        gzip.compress(gzip.compress(TAR)),
        gzip.compress(TAR)[:12],
        bytes(10240),
        gzip.compress(bytes(10240)),
        b"\x1f\x8b\x08 broken",
    ],
    ids=["empty", "text", "gzip", "twice", "cut", "empty tar", "empty tar.gz", "magic"],
)
def test_e58_what_is_no_archive_is_copied(site: Site, content: bytes) -> None:
    """Byte for byte, also what is compressed twice."""
    (site.context / "x.tar.gz").write_bytes(content)
    copied = site.add("x.tar.gz", "/d/")
    assert copied.names == ["d/", "d/x.tar.gz"]
    assert (copied.root / "d/x.tar.gz").read_bytes() == content


def test_e58_archive_inside_stays_an_archive(site: Site) -> None:
    """Only the outer one is unpacked."""
    inner = gzip.compress(TAR)
    site.tar("x.tar", (member("inner.tar.gz"), inner))
    assert (site.add("x.tar", "/").root / "inner.tar.gz").read_bytes() == inner


@pytest.mark.parametrize("cut", [700, 3000])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_e58_cut_archive(site: Site, cut: int, compress: Callable[[bytes], bytes]) -> None:
    """Is an error: it has a first member."""
    tar = tar_of((member("f"), os.urandom(4000)), (member("g"), b""))
    whole = compress(tar)
    (site.context / "x.tar").write_bytes(whole[: min(cut, len(whole) - 50)])
    with pytest.raises(InvalidArchive):
        site.add("x.tar", "/d/")


def test_e58_entry_of_the_root_changes_nothing(site: Site) -> None:
    """Neither `.` nor `./` has a say about the destination, nor what has no name at all."""
    (site.base / "tmp").mkdir()
    (site.base / "tmp").chmod(0o1777)
    site.tar(
        "x.tar", member("./", DIR, mode=0o700), member(".", DIR, mode=0), member(""), member("./f")
    )
    copied = site.add("x.tar", "/tmp")
    assert copied.names == ["tmp/", "tmp/f"]
    assert copied.mode("tmp") == 0o1777
    assert site.add("x.tar", "/new").mode("new") == 0o755


def test_e58_names_are_taken_below_the_destination(site: Site) -> None:
    """Absolute ones, and with `..` that stays inside."""
    site.tar(
        "x.tar", member("/etc/passwd"), member("a/../b"), member("./c//d/"), member("e/./f", DIR)
    )
    assert site.add("x.tar", "/d").names == [
        *("d/", "d/c/", "d/e/", "d/e/f/", "d/etc/"),
        *("d/etc/passwd", "d/b", "d/c/d"),
    ]


@pytest.mark.parametrize("name", ["../f", "a/../../f", "/../f"])
def test_e58_names_that_lead_out(site: Site, name: str) -> None:
    """Are refused, with the name of the archive."""
    site.tar("x.tar", member(name))
    with pytest.raises(UnsafePath, match=r"x\.tar in context: unsafe path"):
        site.add("x.tar", "/d/e")


def test_e58_links_do_not_lead_later_members_out(site: Site) -> None:
    """They are resolved with the destination as the root, those of the tree below too."""
    (site.base / "etc").mkdir()
    (site.base / "etc/passwd").write_text("root")
    (site.base / "d").mkdir()
    (site.base / "d/old").symlink_to("/etc")
    site.tar(
        "x.tar",
        member("abs", SYMLINK, link="/etc"),
        (member("abs/passwd"), b"one"),
        member("rel", SYMLINK, link="../../../etc"),
        (member("rel/shadow"), b"two"),
        (member("old/group"), b"three"),
    )
    copied = site.add("x.tar", "/d")
    assert copied.text("etc/passwd") == "root"
    assert copied.text("d/etc/passwd") == "one"
    assert copied.text("d/etc/shadow") == "two"
    assert copied.text("d/etc/group") == "three"
    assert os.readlink(copied.root / "d/abs") == "/etc"


def test_e58_hard_links(site: Site) -> None:
    """To members, to what is below the destination, to what was replaced since."""
    (site.base / "d").mkdir()
    (site.base / "d/there").write_text("below")
    os.setxattr(site.base / "d/there", "user.note", b"kept")
    site.tar(
        "x.tar",
        (member("one"), b"first"),
        member("two", HARDLINK, link="./one"),
        member("three", HARDLINK, link="there"),
        (member("one"), b"second"),
        member("four", HARDLINK, link="two"),
        member("same", SYMLINK, link="one"),
        member("five", HARDLINK, link="same"),
    )
    copied = site.add("x.tar", "/d")
    texts = {name: copied.text(f"d/{name}") for name in ("one", "two", "three", "four", "five")}
    assert texts == {
        "one": "second",
        "two": "first",
        "three": "below",
        "four": "first",
        "five": "second",
    }
    assert (copied.root / "d/two").samefile(copied.root / "d/four")
    assert copied.entries["d/five"].type is SYMLINK
    assert copied.entries["d/three"].xattrs == {"user.note": b"kept"}
    assert copied.names.count("d/one") == 1


@pytest.mark.parametrize("target", ["/etc/passwd", "missing", "dir", "../../etc/passwd", "."])
def test_e58_hard_link_to_the_outside(site: Site, target: str) -> None:
    """Or to nothing, or to a directory."""
    (site.base / "etc").mkdir()
    (site.base / "etc/passwd").write_text("root")
    site.tar("x.tar", member("dir", DIR), member("l", HARDLINK, link=target))
    with pytest.raises((InvalidArchive, UnsafePath)):
        site.add("x.tar", "/d")


@pytest.mark.parametrize("name", [".wh.f", "d/.wh..wh..opq", ".wh.dir/x"])
def test_e58_names_of_whiteouts(site: Site, name: str) -> None:
    """Would delete what they do not say."""
    site.tar("x.tar", member(name))
    with pytest.raises(InvalidInput, match="name of a whiteout"):
        site.add("x.tar", "/")


def test_e58_attributes(site: Site) -> None:
    """Kept but for those that mean something to an overlay."""
    site.tar("x.tar", member("f", user_note=b"n", trusted_overlay_opaque=b"y", user_overlay_x=b"y"))
    assert site.add("x.tar", "/").entries["f"].xattrs == {"user.note": b"n"}


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_e58_sparse(site: Site, form: str) -> None:
    """Holes become zeros."""
    with (site.path / "f").open("wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"data")
    command = ["tar", "-S", f"--format={form}", "-cf", site.context / "x.tar", "-C", site.path, "f"]
    subprocess.run(command, check=True)
    assert (site.context / "x.tar").stat().st_size < 1 << 20
    assert (site.add("x.tar", "/").root / "f").read_bytes() == (site.path / "f").read_bytes()


def test_what_is_in_the_way_gives_way(site: Site) -> None:
    """A file for a directory, a directory for a file, a link for both; nothing shines through."""
    for name in ("dir/a/b", "again/gone", "again/kept/gone", "again/file"):
        (site.base / name).parent.mkdir(parents=True, exist_ok=True)
        (site.base / name).write_text("old")
    (site.base / "file").write_text("old")
    (site.base / "lnk").symlink_to("dir")
    site.tar(
        "x.tar",
        (member("dir"), b"file now"),
        member("file", DIR),
        (member("file/x"), b"x"),
        member("lnk", DIR),
        member("again"),
        member("again/", DIR),
        (member("again/file"), b"new"),
        (member("again/kept/new"), b"new"),
    )
    copied = site.add("x.tar", "/")
    assert copied.text("dir") == "file now"
    assert sorted(str(p.relative_to(copied.root)) for p in copied.root.rglob("*")) == [
        *("again", "again/file", "again/kept", "again/kept/new"),
        *("dir", "file", "file/x", "lnk"),
    ]
    assert "again/.wh.gone" in copied.names
    assert "again/kept/.wh.gone" in copied.names


def test_archives_and_files_together(site: Site) -> None:
    """Later sources win, whichever they are."""
    site.tar("1.tar", (member("f"), b"one"), (member("g"), b"one"))
    site.tar("2.tar", (member("g"), b"two"))
    (site.context / "f").write_text("file")
    copied = site.add("1.tar", "2.tar", "f", "/d/")
    assert {name: copied.text(f"d/{name}") for name in "fg"} == {"f": "file", "g": "two"}
    assert sorted(copied.names) == ["d/", "d/f", "d/g"]
    copied = site.add("f", "*.tar", "/d/")
    assert {name: copied.text(f"d/{name}") for name in "fg"} == {"f": "one", "g": "two"}


def test_archive_of_a_link_and_of_a_file_in_the_way(site: Site) -> None:
    """A link to an archive is one; a destination that is a file is an error."""
    site.tar("x.tar", member("f"))
    (site.context / "link").symlink_to("x.tar")
    assert site.add("link", "/d").names == ["d/", "d/f"]
    (site.base / "file").write_text("")
    with pytest.raises(InvalidInput, match="'/file' is not a directory"):
        site.add("link", "/file")


def test_fetched_archive_is_unpacked_only_if_asked(site: Site) -> None:
    """--unpack."""
    path = site.tar("x.tar", (member("f"), b"data"))
    source = FetchedFile(name="x.tar", path=str(path), mtime=5)
    for unpack in (None, False):
        copied = site.copy_sources(source, destination="/d/", add=True, unpack=unpack)
        assert copied.names == ["d/", "d/x.tar"]
    copied = site.copy_sources(source, destination="/d/", add=True, unpack=True)
    assert (copied.names, copied.text("d/f")) == (["d/", "d/f"], "data")


def test_errors_in_fetched_archives_do_not_name_where_we_keep_them(site: Site) -> None:
    path = site.tar("kept", member("../f"))
    source = FetchedFile(name="x.tar", path=str(path), mtime=5)
    with pytest.raises(UnsafePath, match=r"^x\.tar as it was fetched: unsafe path"):
        site.copy_sources(source, destination="/d/", add=True, unpack=True)


def test_archive_that_changes_meanwhile(site: Site) -> None:
    """Between what was planned and what is written: other members, or none."""
    for content in (tar_of((member("g"), b"")), tar_of(), b"text"):
        path = site.tar("x.tar", (member("f"), b"data"))
        with opened(site.context) as context:
            request = site.request(("x.tar",), "/d", context, None, add=True)
            plan = plan_copy(request, task=Task())
            path.write_bytes(content)
            with pytest.raises((Conflict, InvalidArchive)):
                write_copy(plan, len, task=Task())


NAMES = st.sampled_from(["a", "b", "c", "a/b", "a/c", "b/a", "a/b/c", "c/a", "./a/", "b//c"])
TARGETS = st.sampled_from(["a", "b", "/a", "/c", "../b", "a/b", "../../c", "."])
MEMBERS = st.one_of(
    st.builds(lambda n, d: (member(n.rstrip("/")), d), NAMES, st.binary(max_size=4)),
    st.builds(lambda n, m: member(n, DIR, mode=m), NAMES, st.sampled_from([0o700, 0o755, 0o1777])),
    st.builds(lambda n, t: member(n.rstrip("/"), SYMLINK, mode=0o777, link=t), NAMES, TARGETS),
    st.builds(lambda n, t: member(n.rstrip("/"), HARDLINK, link=t.lstrip("./")), NAMES, NAMES),
)


def unpacked(tar: bytes, root: Path) -> dict[str, str] | str:
    """What is below `root` with the members of `tar` in it, or that they were refused."""
    try:
        unpack_tree(io.BytesIO(tar), str(root), UnpackOptions(whiteouts=Whiteouts.KEEP))
    except InvalidInput:
        return "refused"
    return listing(root)


@given(base=st.lists(MEMBERS, max_size=5), added=st.lists(MEMBERS, min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_layer_is_what_unpacking_in_place_would_do(
    base: list[tarfile.TarInfo], added: list[tarfile.TarInfo]
) -> None:
    """Any archive onto any tree: links, hard links, replaced files and directories."""
    with tempfile.TemporaryDirectory() as path:
        site = Site(Path(path))
        assume(unpacked(tar_of(*base), site.base) != "refused")
        tar = tar_of(*added)
        expected = unpacked(tar, site.over_base(bytes(1024)))
        (site.context / "x.tar").write_bytes(tar)
        try:
            actual: dict[str, str] | str = listing(site.add("x.tar", "/").root)
        except InvalidInput:
            actual = "refused"
        assert actual == expected


def test_compression_makes_no_difference(site: Site) -> None:
    """The same archive gives the same layer."""
    tar = tar_of((member("b"), b"1"), member("a", DIR), (member("a/x"), b"2"))
    layers = set()
    for number, compress in enumerate(COMPRESSORS.values()):
        (site.context / f"x{number}").write_bytes(compress(tar))
        layers.add(site.add(f"x{number}", "/d").layer)
    assert len(layers) == 1
