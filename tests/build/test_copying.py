"""COPY by its numbered edge cases: what is in the layer, and what it makes of the tree below."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from imgtools.blob.tar import EntryType
from imgtools.build.copying.model import (
    CopyRequest,
    FetchedFile,
    InlineFile,
    TreeFiles,
    WholeTree,
)
from imgtools.build.copying.survey import plan_copy
from imgtools.build.copying.write import write_copy
from imgtools.build.tree import AS_ON_DISK
from imgtools.errors import Cancelled, Conflict, Error, InvalidInput, NotFound, UnsafePath
from imgtools.task import Task
from tests.build.copying_rig import NOW, Site, listing, opened


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A context with a few files, and an empty tree below."""
    site = Site(tmp_path)
    for name in ("a.txt", "b.txt", "dir/one", "dir/sub/two"):
        path = site.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(0o640)
    (site.context / "dir").chmod(0o711)
    (site.context / "dir/sub").chmod(0o2750)
    os.utime(site.context / "dir", (5000, 5000))
    return site


def test_e42_content_of_a_directory_and_not_itself(site: Site) -> None:
    """A destination that is made has 755, what is below keeps its mode."""
    copied = site.copy("dir", "/new")
    assert copied.names == ["new/", "new/one", "new/sub/", "new/sub/two"]
    assert (copied.mode("new"), copied.owner("new")) == (0o755, (0, 0))
    assert copied.entries["new"].mtime == 5000
    assert (copied.mode("new/sub"), copied.mode("new/one")) == (0o2750, 0o640)
    assert copied.text("new/sub/two") == "dir/sub/two"


@pytest.mark.parametrize("destination", ["/new", "/new/", "/new/.", "/x/../new", "/./new//"])
def test_e42_all_ways_to_write_the_destination_of_a_directory(site: Site, destination: str) -> None:
    """They are one."""
    names = site.copy("dir/sub", destination).names
    assert names == ["new/", "new/two"]


@pytest.mark.parametrize(
    ("destination", "there", "expected"),
    [
        ("/x", None, "x"),
        ("/x/", None, "x/a.txt"),
        ("/x/.", None, "x/a.txt"),
        ("/x", "dir", "x/a.txt"),
        ("/x", "file", "x"),
        ("/", None, "a.txt"),
        ("/x/y/z", None, "x/y/z"),
    ],
)
def test_e43_destination_of_a_file(
    site: Site, destination: str, there: str | None, expected: str
) -> None:
    """A slash at the end, or a directory that is there, makes it go into it."""
    if there == "dir":
        (site.base / "x").mkdir()
    elif there == "file":
        (site.base / "x").write_text("old")
    copied = site.copy("a.txt", destination)
    assert copied.text(expected) == "a.txt"
    assert [name for name in copied.names if not name.endswith("/")] == [expected]


def test_e43_directory_over_file_and_file_over_directory(site: Site) -> None:
    """Both are refused, and named."""
    (site.base / "f").write_text("file")
    (site.base / "d/a.txt").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="'/f' is not a directory"):
        site.copy("dir", "/f")
    with pytest.raises(InvalidInput, match=r"file over '/d/a\.txt', which is a directory"):
        site.copy("a.txt", "/d/")
    with pytest.raises(InvalidInput, match="'/f' is not a directory"):
        site.copy("a.txt", "/f/")
    with pytest.raises(InvalidInput, match="'/f' is not a directory"):
        site.copy("a.txt", "/f/below")


def test_e43_nested_directory_over_file_or_link(site: Site) -> None:
    """Below the destination too, also where the link leads to a directory."""
    (site.base / "sub").write_text("file")
    with pytest.raises(InvalidInput, match="directory over '/sub', which is a file"):
        site.copy("dir", "/")
    (site.base / "sub").unlink()
    (site.base / "sub").symlink_to("usr")
    with pytest.raises(InvalidInput, match="directory over '/sub', which is a symbolic link"):
        site.copy("dir", "/")


def test_e43_file_replaces_a_link_and_a_file(site: Site) -> None:
    """The link, not what it leads to."""
    (site.base / "d").mkdir()
    (site.base / "target").write_text("kept")
    (site.base / "d/a.txt").symlink_to("../target")
    copied = site.copy("a.txt", "/d/")
    assert not (copied.root / "d/a.txt").is_symlink()
    assert (copied.text("d/a.txt"), copied.text("target")) == ("a.txt", "kept")


def test_e43_several_sources_without_a_slash(site: Site) -> None:
    """As in BuildKit: into a directory that is there, else the last one wins, written once."""
    copied = site.copy("a.txt", "b.txt", "/x")
    assert (copied.names, copied.text("x")) == (["x"], "b.txt")
    (site.base / "x").mkdir()
    assert site.copy("a.txt", "b.txt", "/x").names == ["x/", "x/a.txt", "x/b.txt"]


def test_e43_same_file_from_several_sources_is_one_entry(site: Site) -> None:
    """The last source wins."""
    (site.context / "other").mkdir()
    (site.context / "other/one").write_text("other one")
    copied = site.copy("dir", "other", "/d/")
    assert copied.names.count("d/one") == 1
    assert copied.text("d/one") == "other one"


def test_e45_destination_through_links(site: Site) -> None:
    """Absolute, relative, dangling and escaping links stay within the root."""
    (site.base / "real/deep").mkdir(parents=True)
    (site.base / "abs").symlink_to("/real")
    (site.base / "real/rel").symlink_to("../real/deep")
    (site.base / "gone").symlink_to("/not/there")
    (site.base / "out").symlink_to("../../../../../../up")
    (site.base / "file").symlink_to("real/pointed")
    assert site.copy("a.txt", "/abs/rel/x").names == ["real/", "real/deep/", "real/deep/x"]
    assert site.copy("a.txt", "/gone/").names == ["not/", "not/there/", "not/there/a.txt"]
    assert site.copy("dir/sub", "/out").names == ["up/", "up/two"]
    assert site.copy("a.txt", "/file").names == ["real/", "real/pointed"]
    assert listing(site.copy("a.txt", "/out/x").root)["up/x"].endswith("b'a.txt'")


def test_e45_loop_of_links(site: Site) -> None:
    """Is an error that names it."""
    (site.base / "one").symlink_to("two")
    (site.base / "two").symlink_to("one")
    with pytest.raises(UnsafePath, match="loop of symbolic links"):
        site.copy("a.txt", "/one/x")


def test_e45_links_that_this_copy_made(site: Site) -> None:
    """A later source of the same COPY goes through them."""
    (site.context / "links").mkdir()
    (site.context / "links/here").symlink_to("/elsewhere")
    (site.context / "more/here").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="which is a symbolic link"):
        site.copy("links", "more", "/d/")


def test_e46_link_ignores_what_is_below(site: Site) -> None:
    """No link is followed, no destination is there, directories on the way are 755."""
    (site.base / "real").mkdir()
    (site.base / "way").symlink_to("real")
    (site.base / "tmp").mkdir()
    (site.base / "tmp").chmod(0o1777)
    copied = site.copy("a.txt", "/way/x", link=True)
    assert copied.names == ["way/", "way/x"]
    assert site.copy("a.txt", "/tmp", link=True).names == ["tmp"]
    assert site.copy("a.txt", "/tmp/", link=True).mode("tmp") == 0o755


def test_e47_wildcards(site: Site) -> None:
    """filepath.Match, element by element, in order of names; links on the way not followed."""
    for name in ("arr[0].txt", "with space", "[x", "s*r"):
        (site.context / name).write_text(name)
    (site.context / "lnk").symlink_to("dir")
    expected = {
        ("*.txt",): ["d/", "d/a.txt", "d/arr[0].txt", "d/b.txt"],
        ("arr[[]0].txt",): ["d/", "d/arr[0].txt"],
        ("arr\\[0\\].txt",): ["d/", "d/arr[0].txt"],
        ("s\\*r",): ["d/", "d/s*r"],
        ("with*",): ["d/", "d/with space"],
        ("with space",): ["d/", "d/with space"],
        ("?.txt", "[^b].txt"): ["d/", "d/a.txt", "d/b.txt"],
        ("d*/sub",): ["d/", "d/two"],
        ("*/sub",): ["d/", "d/two"],
        ("*/*/two",): ["d/", "d/two"],
        ("lnk/o*",): ["d/", "d/one"],
    }
    assert {words: site.copy(*words, "/d/").names for words in expected} == expected


def test_e47_wildcard_without_match_copies_nothing(site: Site) -> None:
    """Nor does it make the destination."""
    assert site.copy("*.none", "/d/").names == []
    assert site.copy("dir/*.none", "/d/").names == []
    assert site.copy("a.txt", "*.none", "/d/").names == ["d/", "d/a.txt"]


def test_e47_double_star_is_one_element_without_parents(site: Site) -> None:
    """It is no more than a star there."""
    assert site.copy("**/one", "/d/").names == ["d/", "d/one"]
    assert site.copy("**/two", "/d/").names == []


def test_e47_malformed_pattern(site: Site) -> None:
    """Is said."""
    with pytest.raises(InvalidInput):
        site.copy("[", "/d/")


def test_missing_source_says_what_was_meant(site: Site) -> None:
    """Near names, a directory that is missing, and the ignore file."""
    with pytest.raises(NotFound, match=r"'a\.tx' is not in context") as error:
        site.copy("a.tx", "/d/")
    assert error.value.hint == "there is 'a.txt'; did you mean that?"
    with pytest.raises(NotFound) as error:
        site.copy("dir/ONE", "/d/")
    assert "'dir/one'" in str(error.value.hint)
    with pytest.raises(NotFound) as error:
        site.copy("nodir/*", "/d/")
    assert error.value.hint is not None
    with pytest.raises(NotFound, match="the ignore file leaves it out"):
        site.copy("a.txt", "/d/", ignored=lambda path: path == "a.txt")


def test_e61_ignored_files_of_the_context(site: Site) -> None:
    """Left out alone, in directories, behind wildcards and behind links; kept below ignored."""
    (site.context / "link").symlink_to("b.txt")

    def ignored(path: str) -> bool:
        return path in ("b.txt", "dir", "dir/one", "dir/sub")

    assert site.copy("*.txt", "/d/", ignored=ignored).names == ["d/", "d/a.txt"]
    assert site.copy("dir", "/d/", ignored=ignored).names == ["d/", "d/sub/", "d/sub/two"]
    with pytest.raises(NotFound):
        site.copy("link", "/d/", ignored=ignored)
    everything = site.copy(".", "/d/", ignored=lambda path: path != "link").names
    assert everything == ["d/", "d/link"]


def test_sources_stay_within_the_context(site: Site) -> None:
    """`..`, a leading slash and links that lead out of it."""
    (site.path / "secret").write_text("secret")
    (site.context / "escape").symlink_to("../secret")
    (site.context / "absolute").symlink_to("/a.txt")
    for word in ("../../a.txt", "/a.txt", "dir/../../a.txt", "./a.txt"):
        assert site.copy(word, "/x").text("x") == "a.txt"
    assert site.copy("absolute", "/d/").names == ["d/", "d/absolute"]
    assert site.copy("absolute", "/x").text("x") == "a.txt"
    with pytest.raises(NotFound):
        site.copy("escape", "/x")
    with pytest.raises(NotFound):
        site.copy("../secret", "/x")


def test_link_is_followed_at_the_top_and_kept_below(site: Site) -> None:
    """Of files and of directories."""
    (site.context / "dir/inner").symlink_to("one")
    (site.context / "way").symlink_to("dir")
    copied = site.copy("way", "/d/")
    assert copied.entries["d/inner"].linkname == "one"
    assert copied.entries["d/inner"].type is EntryType.SYMLINK
    assert site.copy("way/inner", "/x").text("x") == "dir/one"


def test_e48_destination_that_is_there_keeps_what_it_has(site: Site) -> None:
    """Mode, owner, sticky bit and time; it is repeated as it is."""
    (site.base / "tmp").mkdir()
    (site.base / "tmp").chmod(0o1777)
    os.utime(site.base / "tmp", (4000, 4000))
    for words in (("a.txt", "/tmp/"), ("dir", "/tmp"), ("a.txt", "/tmp/x")):
        copied = site.copy(*words, owner=(7, 8), chmod="700")
        assert (copied.mode("tmp"), copied.owner("tmp")) == (0o1777, (0, 0))
        assert stat.S_IMODE((copied.root / "tmp").stat().st_mode) == 0o1777
        assert (copied.root / "tmp").stat().st_mtime == 4000


def test_e48_nested_directory_gets_the_sources_mode(site: Site) -> None:
    """As BuildKit and buildah do."""
    (site.base / "sub").mkdir()
    (site.base / "sub").chmod(0o700)
    (site.base / "sub/old").write_text("old")
    copied = site.copy("dir", "/")
    assert copied.mode("sub") == 0o2750
    assert copied.text("sub/old") == "old"


def test_directories_of_the_tree_below_are_repeated_only_on_the_way(site: Site) -> None:
    """With their own metadata, so that engines which unpack layers apart do not make them up."""
    (site.base / "etc/app").mkdir(parents=True)
    (site.base / "etc/other").mkdir()
    (site.base / "etc").chmod(0o711)
    assert site.copy("a.txt", "/etc/app/x").names == ["etc/", "etc/app/", "etc/app/x"]
    assert site.copy("a.txt", "/etc/app/x").mode("etc") == 0o711


@pytest.mark.parametrize(
    ("chmod", "parent", "file"),
    [
        ("", 0o755, 0o640),
        ("700", 0o700, 0o700),
        ("4711", 0o711, 0o4711),
        ("u=rwX,go=", 0o755, 0o600),
    ],
)
def test_e49_directories_on_the_way(site: Site, chmod: str, parent: int, file: int) -> None:
    """Belong to --chown's owner, have 755 or --chmod's octal mode, and the build's time."""
    copied = site.copy("a.txt", "/p/q/x", owner=(5, 6), chmod=chmod)
    assert {copied.mode("p"), copied.mode("p/q")} == {parent}
    assert copied.mode("p/q/x") == file
    assert {copied.owner(name) for name in copied.entries} == {(5, 6)}
    assert copied.entries["p"].mtime == NOW


def test_e50_fifo_socket_and_device(site: Site) -> None:
    """A FIFO is made again and never opened, a socket is left out, a device stays one."""
    os.mkfifo(site.context / "dir/pipe", 0o622)
    os.mknod(site.context / "dir/null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    listening = socket.socket(socket.AF_UNIX)
    here = os.open(site.context / "dir", os.O_RDONLY)
    try:
        listening.bind(f"/proc/self/fd/{here}/sock")
    finally:
        listening.close()
        os.close(here)
    copied = site.copy("dir", "/d")
    assert copied.names == ["d/", "d/null", "d/one", "d/pipe", "d/sub/", "d/sub/two"]
    assert copied.entries["d/pipe"].type is EntryType.FIFO
    assert (copied.entries["d/null"].devmajor, copied.entries["d/null"].devminor) == (1, 3)
    assert copied.plan.sockets == 1
    assert site.copy("dir/pipe", "/p").entries["p"].type is EntryType.FIFO
    with pytest.raises(InvalidInput, match="is a socket"):
        site.copy("dir/sock", "/s")


def test_e51_hard_links_within_a_source(site: Site) -> None:
    """Are kept; between sources they are files of their own, as in BuildKit."""
    os.link(site.context / "dir/one", site.context / "dir/sub/again")
    copied = site.copy("dir", "/d", keep_owner=True)
    assert copied.entries["d/sub/again"].linkname == "d/one"
    assert (copied.root / "d/one").stat().st_nlink == 2
    apart = site.copy("dir/one", "dir/sub/again", "/d/")
    assert {entry.type for entry in apart.entries.values()} == {EntryType.DIR, EntryType.FILE}
    (site.context / "over").mkdir()
    (site.context / "over/one").write_text("new")
    replaced = site.copy("dir", "over", "/d")
    assert (replaced.text("d/one"), replaced.text("d/sub/again")) == ("new", "dir/one")


def test_e52_special_bits_owners_and_capabilities(site: Site) -> None:
    """Survive COPY --from, --chown too."""
    file = site.context / "dir/one"
    os.chown(file, 11, 12)
    file.chmod(0o6755)
    capability = bytes.fromhex("0100000202000000000000000000000000000000")
    os.setxattr(file, "security.capability", capability)
    os.setxattr(file, "user.note", b"kept")
    (site.context / "dir").chmod(0o711)
    for owner in (None, (3, 4)):
        copied = site.copy("dir/one", "/bin/tool", keep_owner=True, owner=owner)
        entry = copied.entries["bin/tool"]
        assert (entry.mode, copied.owner("bin/tool")) == (0o6755, owner or (11, 12))
        assert entry.xattrs == {"security.capability": capability, "user.note": b"kept"}
        assert os.getxattr(copied.root / "bin/tool", "security.capability") == capability
    assert site.copy("dir/one", "/x").owner("x") == (0, 0)
    large = (3_000_000_000, 2_097_152)
    assert site.copy("a.txt", "/p/x", owner=large).owner("p/x") == large


def test_e53_what_cannot_be_read_is_said(site: Site) -> None:
    """For somebody without privileges; a directory closed to writing is no obstacle."""
    (site.base / "ro").mkdir()
    (site.base / "ro").chmod(0o555)
    assert site.copy("a.txt", "/ro/").mode("ro") == 0o555
    for directory in ("dir", "dir/sub"):
        (site.context / directory).chmod(0o755)
    (site.context / "dir/one").chmod(0)
    with opened(site.context) as context:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                if not os.geteuid():
                    os.setgroups([])
                    os.setgid(1234)
                    os.setuid(1234)
                request = site.request(("dir",), "/d", context, None)
                write_copy(plan_copy(request, task=Task()), len, task=Task())
            except Error as e:
                code = 42 if "dir/one in context: permission denied" in e.message else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def test_e54_umask_has_no_say(site: Site) -> None:
    """Neither in what is copied nor in what is made."""
    before = site.copy("dir", "/p/q").layer
    old = os.umask(0o077)
    try:
        assert site.copy("dir", "/p/q").layer == before
    finally:
        os.umask(old)


def test_e55_times(site: Site) -> None:
    """Whole seconds, before 1970 too; --timestamp replaces them and a clamp lowers them."""
    os.utime(site.context / "a.txt", ns=(0, 1_700_000_000_999_999_999))
    os.utime(site.context / "b.txt", (-86400, -86400))
    copied = site.copy("a.txt", "b.txt", "/d/")
    assert copied.entries["d/a.txt"].mtime_ns == 1_700_000_000_000_000_000
    assert copied.entries["d/b.txt"].mtime == -86400
    assert (copied.root / "d/b.txt").stat().st_mtime == -86400
    fixed = site.copy("a.txt", "b.txt", "/d/", mtime=17)
    assert {entry.mtime for entry in fixed.entries.values()} == {17}
    clamped = site.copy("a.txt", "b.txt", "/d/", mtime_clamp=1_650_000_000)
    assert [e.mtime for e in clamped.entries.values()] == [NOW, 1_650_000_000, -86400]


def test_e56_names(site: Site) -> None:
    """Not UTF-8, with a newline, as long as they get, differing only in case."""
    names = [b"caf\xe9", b"new\nline", b"n" * 255, b"Case", b"case", "ünï".encode(), b"-rf", b"\\"]
    deep = b"/".join([b"d" * 90] * 4)
    os.makedirs(os.fsencode(site.context) + b"/odd/" + deep)
    for name in (*names, deep + b"/leaf"):
        Path(os.fsdecode(os.fsencode(site.context) + b"/odd/" + name)).write_bytes(name)
    copied = site.copy("odd", "/o")
    for name in (*names, deep + b"/leaf"):
        assert (copied.root / "o" / os.fsdecode(name)).read_bytes() == name
    odd = site.copy("odd/" + os.fsdecode(b"caf\xe9"), "/x")
    assert (odd.root / "x").read_bytes() == b"caf\xe9"
    assert os.fsdecode(b"o/caf\xe9") in copied.entries


def test_e57_file_that_changes_meanwhile(site: Site) -> None:
    """Grown, shrunk, rewritten, replaced by a link or a FIFO, or gone: an error that names it."""
    path = site.context / "dir/one"

    def rewritten() -> None:
        path.write_text("DIR/ONE")
        os.utime(path, ns=(1, 1))

    def replaced() -> None:
        path.unlink()
        path.symlink_to("/etc/passwd")

    def piped() -> None:
        path.unlink()
        os.mkfifo(path)

    changes = [
        lambda: path.write_text("longer than it was"),
        lambda: path.write_text(""),
        rewritten,
        replaced,
        path.unlink,
        piped,
    ]
    for change in changes:
        path.unlink(missing_ok=True)
        path.write_text("dir/one")
        with opened(site.context) as context:
            request = CopyRequest(
                sources=(TreeFiles(tree=context, patterns=("dir",)),), destination="/d", base=None
            )
            plan = plan_copy(request, task=Task())
            change()
            with pytest.raises(Conflict, match="dir/one in context changed while it was copied"):
                write_copy(plan, lambda data: None, task=Task())


def test_e57_file_that_changes_and_has_its_time_set_back(site: Site) -> None:
    """In place and to the same size: only the change time tells, and a key would be of another
    content than its layer."""
    path = site.context / "dir/one"
    os.utime(path, ns=(1, 1))
    with opened(site.context) as context:
        tree = replace(context, identity="a directory")
        request = CopyRequest(
            sources=(TreeFiles(tree=tree, patterns=("dir",)),), destination="/d", base=None
        )
        plan = plan_copy(request, task=Task())
        before = path.stat().st_ctime_ns
        while path.stat().st_ctime_ns == before:
            with path.open("r+") as file:
                file.write("DIR")
            os.utime(path, ns=(1, 1))
        with pytest.raises(Conflict, match="dir/one in context changed while it was copied"):
            write_copy(plan, lambda data: None, task=Task())


def test_e57_large_file_that_grows_meanwhile(site: Site) -> None:
    """The same where a file is streamed."""
    large = site.context / "large"
    large.write_bytes(bytes(1 << 20))
    with opened(site.context) as context:
        request = CopyRequest(
            sources=(TreeFiles(tree=context, patterns=("large",)),), destination="/d", base=None
        )
        plan = plan_copy(request, task=Task())
        with large.open("ab") as file:
            file.write(b"more")
        with pytest.raises(Conflict, match="large in context changed"):
            write_copy(plan, lambda data: None, task=Task())


def test_large_and_sparse_files_are_streamed(site: Site) -> None:
    """In pieces, holes as zeros."""
    with (site.context / "sparse").open("wb") as file:
        file.truncate(3 << 20)
        file.write(b"begin")
        file.seek(2 << 20)
        file.write(b"middle")
    pieces: list[int] = []
    with opened(site.context) as context:
        request = CopyRequest(
            sources=(TreeFiles(tree=context, patterns=("sparse",)),), destination="/s", base=None
        )
        plan = plan_copy(request, task=Task())
        write_copy(plan, lambda data: pieces.append(len(data)), task=Task())
    assert max(pieces) <= 2 * 256 * 1024
    copied = site.copy("sparse", "/s")
    assert (copied.root / "s").read_bytes() == (site.context / "sparse").read_bytes()


@pytest.mark.parametrize("words", [("odd", "/d"), ("odd/.wh.x", "/d/"), ("a.txt", "/d/.wh.y")])
def test_names_of_whiteouts_are_refused(site: Site, words: tuple[str, ...]) -> None:
    """They would delete something instead of being there."""
    (site.context / "odd").mkdir()
    (site.context / "odd/.wh.x").write_text("")
    with pytest.raises(InvalidInput, match="has the name of a whiteout"):
        site.copy(*words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("dir/sub/two", "/d/"), ["d/", "d/dir/", "d/dir/sub/", "d/dir/sub/two"]),
        (
            ("./dir/sub/two", "a.txt", "/d/"),
            ["d/", "d/a.txt", "d/dir/", "d/dir/sub/", "d/dir/sub/two"],
        ),
        (("dir/./sub/two", "/d/"), ["d/", "d/sub/", "d/sub/two"]),
        (("dir/./sub", "/d"), ["d/", "d/sub/", "d/sub/two"]),
        (("**/two", "/d/"), ["d/", "d/dir/", "d/dir/sub/", "d/dir/sub/two"]),
        (("*/o*", "/d/"), ["d/", "d/dir/", "d/dir/one"]),
        (("dir/./**/t*", "/d/"), ["d/", "d/sub/", "d/sub/two"]),
        (("../dir/one", "/d/"), ["d/", "d/dir/", "d/dir/one"]),
        (("no/*.match", "/d/"), ["d/"]),
    ],
)
def test_parents(site: Site, words: tuple[str, ...], expected: list[str]) -> None:
    """Keep the way from the pivot, directories as the source has them."""
    copied = site.copy(*words, parents=True)
    assert copied.names == expected
    if "d/dir" in copied.entries:
        assert copied.mode("d/dir") == 0o711


def test_parents_of_a_literal_that_is_missing(site: Site) -> None:
    """Is an error, as without --parents."""
    with pytest.raises(NotFound, match="'dir/none' is not in context"):
        site.copy("dir/none", "/d/", parents=True)


def test_parents_leave_directories_that_are_there(site: Site) -> None:
    """They are only on the way."""
    (site.base / "dir").mkdir(mode=0o700)
    assert site.copy("dir/one", "/", parents=True).mode("dir") == 0o700


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        (("one",), ["d/", "d/sub/", "d/sub/two"]),
        (("sub",), ["d/", "d/one"]),
        (("**/two",), ["d/", "d/one", "d/sub/"]),
        (("*", "!sub/two"), ["d/", "d/sub/", "d/sub/two"]),
        (("*",), ["d/"]),
    ],
)
def test_exclude(site: Site, exclude: tuple[str, ...], expected: list[str]) -> None:
    """Patterns of ignore files, relative to what is copied."""
    assert site.copy("dir", "/d/", exclude=exclude).names == expected


def test_exclude_of_files(site: Site) -> None:
    """What the documentation says: files that a wildcard matched are left out."""
    assert site.copy("*.txt", "/d/", exclude=("b*",)).names == ["d/", "d/a.txt"]


def test_here_document(site: Site) -> None:
    """0644, 0:0, the build's time; its own name in a directory."""
    source = InlineFile(name="EOF", content=b"hello\n")
    copied = site.copy_sources(source, destination="/etc/motd")
    assert copied.text("etc/motd") == "hello\n"
    assert (copied.mode("etc/motd"), copied.owner("etc/motd")) == (0o644, (0, 0))
    assert copied.entries["etc/motd"].mtime == NOW
    assert site.copy_sources(source, destination="/etc/").names == ["etc/", "etc/EOF"]
    changed = site.copy_sources(source, destination="/x", owner=(1, 2), chmod="a+x")
    assert (changed.mode("x"), changed.owner("x")) == (0o755, (1, 2))


def test_fetched_file(site: Site) -> None:
    """0600 with the server's time, or the epoch where it said none; not unpacked unasked."""
    path = site.path / "download"
    path.write_bytes(b"data")
    source = FetchedFile(name="tool", path=str(path), mtime=777)
    copied = site.copy_sources(source, destination="/bin/", add=True)
    assert copied.names == ["bin/", "bin/tool"]
    assert (copied.mode("bin/tool"), copied.entries["bin/tool"].mtime) == (0o600, 777)
    epoch = FetchedFile(name="tool", path=str(path), mtime=None)
    assert site.copy_sources(epoch, destination="/t", chmod="755").entries["t"].mtime == 0
    path.unlink()
    with pytest.raises(NotFound, match="download"):
        site.copy_sources(source, destination="/t")


def test_whole_tree(site: Site) -> None:
    """Its content goes to the destination."""
    with opened(site.context) as tree:
        copied = site.copy_sources(WholeTree(tree=tree), destination="/src", add=True)
    assert copied.names[:3] == ["src/", "src/a.txt", "src/b.txt"]


def test_without_a_tree_below(site: Site) -> None:
    """FROM scratch."""
    with opened(site.context) as context:
        request = site.request(("a.txt",), "/x/", context, None)
        assert site.run(request).names == ["x/", "x/a.txt"]


@dataclass(frozen=True, kw_only=True)
class Said:
    """A record."""

    uid: int = 0
    gid: int = 0
    mode: int = AS_ON_DISK
    rdev: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


def test_e52_what_is_recorded_beside_a_tree_counts(site: Site) -> None:
    """Owners, modes, devices and attributes that the disk could not take."""
    (site.context / "dir/node").touch()
    records = {
        b"dir/one": Said(uid=100, gid=200, mode=stat.S_IFREG | 0o4000, xattrs={"user.a": b"b"}),
        b"dir/node": Said(uid=1, gid=2, mode=stat.S_IFCHR | 0o666, rdev=(1, 3)),
    }
    copied = site.copy("dir", "/d", keep_owner=True, records=records)
    one, node = copied.entries["d/one"], copied.entries["d/node"]
    assert (one.mode, one.xattrs, copied.owner("d/one")) == (0o4000, {"user.a": b"b"}, (100, 200))
    assert (node.type, node.devmajor, node.devminor) == (EntryType.CHAR, 1, 3)
    assert copied.owner("d/node") == (1, 2)


@pytest.mark.parametrize("words", [("dir", "/d"), ("large", "/d")])
def test_cancelled(site: Site, words: tuple[str, str]) -> None:
    """Between files, and within a large one."""
    (site.context / "large").write_bytes(bytes(4 << 20))
    task = Task()
    with opened(site.context) as context:
        plan = plan_copy(site.request(words[:1], words[1], context, None), task=task)
        if words[0] == "dir":
            task.cancel.cancel()
        with pytest.raises(Cancelled):
            write_copy(plan, lambda data: task.cancel.cancel(), task=task)
        with pytest.raises(Cancelled):
            plan_copy(site.request(("dir",), "/d", context, None), task=task)
