"""The pure parts of COPY by tables: words, modes, places, patterns, and the digest of a plan."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.blob.tar import EntryType
from imgtools.build.copying.digests import content_digest
from imgtools.build.copying.layout import MADE, Layout, NothingBelow
from imgtools.build.copying.model import CopyRequest, InlineFile, Member
from imgtools.build.copying.modes import mode_change, octal_mode, parents_mode
from imgtools.build.copying.parents import ParentsFilter
from imgtools.build.copying.survey import plan_copy
from imgtools.build.copying.words import (
    clean,
    nearest,
    parents_word,
    source_word,
    unescaped,
    wants_directory,
)
from imgtools.build.tree import Tree
from imgtools.build.trees import Node
from imgtools.errors import InvalidInput, UnsafePath
from imgtools.task import Task
from tests.build.copying_rig import Site, opened

DIR, FILE, SYMLINK = EntryType.DIR, EntryType.FILE, EntryType.SYMLINK


@pytest.mark.parametrize(
    ("word", "literal", "pattern"),
    [
        ("a/b", ("a", "b"), ()),
        ("/a//b/./", ("a", "b"), ()),
        ("../../a", ("a",), ()),
        ("a/../../b", ("b",), ()),
        ("", (), ()),
        ("a/*/c", ("a",), ("*", "c")),
        ("*", (), ("*",)),
        ("a/[[]x", ("a",), ("[[]x",)),
        ("a\\*", ("a\\*",), ()),
    ],
)
def test_words(word: str, literal: tuple[str, ...], pattern: tuple[str, ...]) -> None:
    """Cleaned, and split at the first wildcard."""
    found = source_word(word)
    assert (found.literal, found.pattern) == (literal, pattern)


@pytest.mark.parametrize(
    ("word", "pivot", "pattern"),
    [
        ("a/b", (), "a/b"),
        ("a/./b/c", ("a",), "b/c"),
        ("./a/b", (), "a/b"),
        ("/x/../a/./**/*.c", ("a",), "**/*.c"),
        ("a/./b/./c", ("a",), "b/c"),
        (".", (), ""),
    ],
)
def test_words_with_parents(word: str, pivot: tuple[str, ...], pattern: str) -> None:
    """Split at the first pivot."""
    found = parents_word(word)
    assert (found.pivot, found.pattern) == (pivot, pattern)


@pytest.mark.parametrize(
    ("destination", "expected"),
    [("/", True), ("/a/", True), ("/a/.", True), ("/a/..", True), ("/a", False), ("/a.", False)],
)
def test_destinations_that_are_directories(destination: str, expected: bool) -> None:
    """By how they end."""
    assert wants_directory(destination) is expected


@given(st.text(alphabet="ab./", max_size=12))
def test_clean_stays_inside(word: str) -> None:
    """No element of the result goes up, and cleaning again changes nothing."""
    parts = clean(word)
    assert not {"", ".", ".."} & set(parts)
    assert clean("/".join(parts)) == parts


def test_unescaped() -> None:
    """Only what has escapes that mean something."""
    assert [unescaped(text) for text in ("a\\*b", "ab", "a\\")] == ["a*b", None, None]


def test_nearest() -> None:
    """Another case, one letter off, or nothing near."""
    names = ["Makefile", "package.json", "src"]
    found = [nearest(n, names) for n in ("makefile", "pakage.json", "zzz")]
    assert found == ["Makefile", "package.json", None]


MODES = [
    ("755", 0o644, False, 0o755),
    ("0755", 0o600, True, 0o755),
    ("4755", 0o600, False, 0o4755),
    ("u=rwX,go=", 0o644, False, 0o600),
    ("u=rwX,go=", 0o755, False, 0o700),
    ("u=rwX,go=", 0o644, True, 0o700),
    ("a+x", 0o644, False, 0o755),
    ("+x", 0o644, False, 0o755),
    ("go-rwx", 0o777, False, 0o700),
    ("g=u", 0o640, False, 0o660),
    ("u=rwx,go=u-w", 0o600, False, 0o755),
    ("u+s,g+s,+t", 0o755, False, 0o7755),
    ("o+s", 0o755, False, 0o755),
    ("u=rwx", 0o4755, False, 0o755),
    ("a-X", 0o755, False, 0o644),
    ("=r", 0o777, False, 0o444),
    ("ug+w,o=", 0o444, False, 0o660),
]


@pytest.mark.parametrize(("text", "before", "is_dir", "after"), MODES)
def test_modes(text: str, before: int, is_dir: bool, after: int) -> None:
    """Octal and symbolic."""
    change = mode_change(text)
    assert change is not None
    assert oct(change(before, is_dir)) == oct(after)


CLAUSE = st.builds(
    lambda who, op, perms: f"{who}{op}{perms}",
    st.sampled_from(["u", "g", "o", "a", "ug", "go"]),
    st.sampled_from("+-="),
    st.one_of(st.sampled_from("ugo"), st.text(alphabet="rwx", max_size=3)),
)


@given(st.lists(CLAUSE, min_size=1, max_size=3), st.integers(0, 0o777), st.booleans())
def test_modes_are_those_of_chmod(clauses: list[str], before: int, is_dir: bool) -> None:
    """Permission bits as chmod(1) would give them: each class in turn, seen one by one."""
    change = mode_change(",".join(clauses))
    assert change is not None
    expected = before
    for clause in clauses:
        who, op, perms = clause.rstrip("rwx+-=ugo"), "", ""
        at = next(i for i, letter in enumerate(clause) if letter in "+-=")
        who, op, perms = clause[:at], clause[at], clause[at + 1 :]
        digit = sum({"r": 4, "w": 2, "x": 1}.get(letter, 0) for letter in set(perms))
        if perms in ("u", "g", "o"):
            digit = expected >> {"u": 6, "g": 3, "o": 0}[perms] & 7
        for letter in who.replace("a", "ugo"):
            shift = {"u": 6, "g": 3, "o": 0}[letter]
            old = expected >> shift & 7
            new = {"+": old | digit, "-": old & ~digit, "=": digit}[op]
            expected = expected & ~(7 << shift) | new << shift
    assert oct(change(before, is_dir)) == oct(expected)


@pytest.mark.parametrize("text", ["8", "99", "12345", "u=q", "u", "rwx", "u=r,", "0o755", "-1"])
def test_malformed_modes(text: str) -> None:
    """Are refused with the text as it was written."""
    with pytest.raises(InvalidInput, match=f"--chmod={text}"):
        mode_change(text)


def test_modes_of_directories_on_the_way() -> None:
    """Octal ones without their special bits."""
    found = [parents_mode(text) for text in ("", "700", "4711", "u=r")]
    assert found == [0o755, 0o700, 0o711, 0o755]
    assert octal_mode("") is None


@pytest.mark.parametrize(
    ("pattern", "included", "entered", "left"),
    [
        ("a/b", ["a/b", "a/b/c"], ["a"], ["b", "a/c"]),
        ("a/*/c", ["a/x/c", "a/x/c/d"], ["a", "a/x"], ["b", "a/x/d", "a/x/e/c"]),
        ("**/c", ["c", "a/b/c"], ["a", "a/b"], []),
        ("a/**", ["a/b", "a/b/c"], ["a"], ["b"]),
        ("", ["a", "a/b"], ["a"], []),
        ("!a", ["!a"], [], ["a", "b"]),
    ],
)
def test_filter_of_parents(
    pattern: str, included: list[str], entered: list[str], left: list[str]
) -> None:
    """What is taken, which directories are looked into, and what is neither."""
    wanted = ParentsFilter(pattern)
    assert all(wanted.includes(path) for path in included)
    assert all(wanted.may_contain(path) for path in included + entered)
    assert not any(wanted.includes(path) or wanted.may_contain(path) for path in left)


class TableBelow:
    """A tree below out of a table: text is a link's target, a number a file, None a directory."""

    def __init__(self, table: Mapping[str, str | int | None]) -> None:
        self._table = {key.encode(): value for key, value in table.items()}

    def lstat(self, path: bytes) -> Member | None:
        """By the table."""
        if not path:
            return Member(path=b"", type=DIR, mode=0o755)
        if path not in self._table:
            return None
        value = self._table[path]
        if isinstance(value, str):
            return Member(path=path, type=SYMLINK, mode=0o777, linkname=value.encode())
        return Member(path=path, type=DIR if value is None else FILE, mode=0o755)

    def names(self, path: bytes) -> list[bytes]:
        """By the table."""
        prefix = path + b"/"
        below = [key[len(prefix) :] for key in self._table if key.startswith(prefix)]
        return [name for name in below if b"/" not in name]


@pytest.mark.parametrize(
    ("table", "path", "expected"),
    [
        ({}, "a/b", "a/b"),
        ({"a": "/x"}, "a/b", "x/b"),
        ({"a": "x"}, "a", "x"),
        ({"a": None, "a/b": "../c"}, "a/b/d", "c/d"),
        ({"a": "../../../c"}, "a", "c"),
        ({"a": "/"}, "a/b", "b"),
        ({"a": "b", "b": "c", "c": None}, "a/x", "c/x"),
        ({"f": 1}, "f", "f"),
    ],
)
def test_e45_resolution(table: Mapping[str, str | int | None], path: str, expected: str) -> None:
    """Within the root, the last component too."""
    layout = Layout(TableBelow(table))
    assert layout.resolve(path.encode().split(b"/")) == expected.encode()


def test_e45_resolution_below_a_root() -> None:
    """Nothing leads out of the destination of an archive."""
    layout = Layout(TableBelow({"d": None, "d/abs": "/etc", "d/up": "../../etc", "etc": None}))
    for link in (b"abs", b"up"):
        assert layout.resolve([link, b"x"], b"d") == b"d/etc/x"


@pytest.mark.parametrize(
    ("table", "error"), [({"a": "a"}, UnsafePath), ({"a": "b", "b": "/a"}, UnsafePath)]
)
def test_e45_loops(table: Mapping[str, str], error: type[Exception]) -> None:
    """End."""
    with pytest.raises(error):
        Layout(TableBelow(table)).resolve([b"a", b"x"])


def placed(layout: Layout) -> list[str]:
    """Paths of the layer, those of the tree below with a + in front."""
    return [("" if row else "+") + path.decode() for path, row in layout.finish()]


def node(kind: EntryType = FILE, **options: object) -> Member:
    """Something to place."""
    return Member(path=b"", type=kind, mode=0o644, **options)  # type: ignore[arg-type]


def test_layout_of_what_comes_and_goes() -> None:
    """A directory that a file replaced and that came again shows nothing of what it was."""
    table = {"d": None, "d/a": 1, "d/s": None, "d/s/b": 1, "d/s/c": 1}
    layout = Layout(TableBelow(table))
    layout.put(b"d/x", node(), 0, replace=True)
    assert placed(layout) == ["+d", "d/x"]
    layout.put(b"d", node(), 0, replace=True)
    assert (placed(layout), layout.look(b"d/a"), layout.look(b"d/x")) == (["d"], None, None)
    layout.put(b"d", node(DIR), 0, replace=True)
    assert placed(layout) == ["d", "+d/.wh.a", "+d/.wh.s"]
    layout.put(b"d/s", node(DIR), 0, replace=True)
    layout.put(b"d/s/c", node(), 0, replace=True)
    assert placed(layout) == ["d", "+d/.wh.a", "d/s", "+d/s/.wh.b", "d/s/c"]


def test_layout_of_implied_directories() -> None:
    """They leave what is there alone, and are made where nothing is."""
    layout = Layout(TableBelow({"there": None}))
    layout.put(b"there", node(DIR, implied=True), 0)
    layout.put(b"new", node(DIR, implied=True), 0)
    assert placed(layout) == ["new", "+there"]


def test_layout_order_is_that_of_a_walk() -> None:
    """A directory in front of its content, which is in front of a name that sorts lower."""
    layout = Layout(NothingBelow())
    layout.make_directory(b"a/b", node(DIR))
    for path in (b"a-b", b"a/b/c", b"a.b"):
        layout.put(path, node(), MADE)
    assert placed(layout) == ["a", "a/b", "a/b/c", "a-b", "a.b"]


class PlainHashes:
    """Digests of content, of what is on disk now."""

    def digest(self, tree: Tree, path: bytes, node: Node) -> bytes:
        """Read every time."""
        fd = os.open(path, os.O_RDONLY, dir_fd=tree.fd)
        with os.fdopen(fd, "rb") as file:
            return hashlib.sha256(file.read()).digest()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A context with a directory."""
    site = Site(tmp_path)
    (site.context / "d/s").mkdir(parents=True)
    (site.context / "d/f").write_text("content")
    (site.context / "d/l").symlink_to("f")
    return site


def digest_of(site: Site, *words: str, **options: object) -> str:
    """That of COPY words /x."""
    with opened(site.context) as tree:
        request = site.request(words or ("d",), "/x", tree, None, **options)
        return str(content_digest(plan_copy(request, task=Task()), PlainHashes()))


def test_digest_of_the_same(site: Site) -> None:
    """Times, the place of the tree and the name of a directory make no difference."""
    before = digest_of(site)
    os.utime(site.context / "d/f", (1, 1))
    assert digest_of(site) == before
    shutil.copytree(site.context / "d", site.context / "e", symlinks=True)
    assert digest_of(site, "e") == before
    other = Site(site.path / "base")
    shutil.copytree(site.context / "d", other.context / "d", symlinks=True)
    assert digest_of(other) == before


CHANGES = {
    "content": lambda d: (d / "f").write_text("CONTENT"),
    "name": lambda d: (d / "f").rename(d / "g"),
    "mode": lambda d: (d / "f").chmod(0o600),
    "mode of a directory": lambda d: (d / "s").chmod(0o700),
    "target": lambda d: ((d / "l").unlink(), (d / "l").symlink_to("s")),
    "type": lambda d: ((d / "l").unlink(), (d / "l").write_text("f")),
    "more": lambda d: (d / "h").touch(),
    "less": lambda d: (d / "s").rmdir(),
    "place": lambda d: (d / "f").rename(d / "s/f"),
    "attribute": lambda d: os.setxattr(d / "f", "user.a", b"b"),
    "hard link": lambda d: os.link(d / "f", d / "s/f"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_digest_of_something_else(site: Site, change: str) -> None:
    """Everything that makes another image makes another digest."""
    before = digest_of(site)
    CHANGES[change](site.context / "d")
    assert digest_of(site) != before


def test_digest_of_hard_links_and_copies(site: Site) -> None:
    """A link is not the same as a file with the same content."""
    os.link(site.context / "d/f", site.context / "d/g")
    linked = digest_of(site)
    (site.context / "d/g").unlink()
    shutil.copy(site.context / "d/f", site.context / "d/g")
    assert digest_of(site) != linked


def test_digest_of_options_and_sources(site: Site) -> None:
    """Owners, modes, names of files, what is unpacked; none like the other."""
    shutil.copy(site.context / "d/f", site.context / "f")
    shutil.copy(site.context / "d/f", site.context / "g")
    subprocess.run(["tar", "-cf", site.context / "t", "-C", site.context, "f"], check=True)
    (site.context / "f").chmod(stat.S_IMODE((site.context / "g").stat().st_mode))
    digests = [
        digest_of(site),
        digest_of(site, owner=(1, 2)),
        digest_of(site, chmod="700"),
        digest_of(site, "f"),
        digest_of(site, "g"),
        digest_of(site, "f", "g"),
        digest_of(site, "g", "f"),
        digest_of(site, "t"),
        digest_of(site, "t", add=True),
        digest_of(site, "t", add=True, owner=(0, 0)),
        digest_of(site, exclude=("f",)),
    ]
    assert len(set(digests)) == len(digests)


def test_digest_of_here_documents() -> None:
    """Content and name."""

    def digest(name: str, content: bytes) -> str:
        source = InlineFile(name=name, content=content)
        request = CopyRequest(sources=(source,), destination="/x", base=None)
        return str(content_digest(plan_copy(request, task=Task()), PlainHashes()))

    assert digest("a", b"1") == digest("a", b"1")
    assert len({digest("a", b"1"), digest("a", b"2"), digest("b", b"1")}) == 3
