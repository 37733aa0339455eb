"""Layers as trees: whiteouts, replaced types, links, hostile names; composing against a model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.blob.tar.entry import EntryType
from imgtools.errors import Error, InvalidArchive, InvalidInput, LimitExceeded, NotFound, UnsafePath
from imgtools.image.files import (
    FileInfo,
    FileLimits,
    Node,
    TreeBuilder,
    compose,
    compose_all,
    lookup,
    unlinked,
    walk,
)
from imgtools.image.union import Union

FILE, DIR, LINK, HARD = EntryType.FILE, EntryType.DIR, EntryType.SYMLINK, EntryType.HARDLINK

Member = tuple[str, EntryType, str]
"""Path, type, link target."""


def tree(members: list[Member], layer: int = 0, **limits: int) -> Node:
    """A layer's tree; member positions count from 0."""
    builder = TreeBuilder(FileLimits(**limits))
    for number, (path, kind, target) in enumerate(members):
        builder.add(path, FileInfo(type=kind, linkname=target, layer=layer, member=number))
    return builder.root


def shown(root: Node) -> dict[str, str]:
    """Path -> what is there: LAYER.MEMBER for files, "dir", "-> target"."""
    out = {}
    for path, node in walk(root):
        info = unlinked(root, node)
        if node.children is not None:
            out[path] = "dir"
        elif info.type is LINK:
            out[path] = f"-> {info.linkname}"
        else:
            out[path] = f"{info.layer}.{info.member}"
    return out


def files(*paths: str) -> list[Member]:
    """Regular files; a name that ends in "/" is a directory."""
    return [(path, DIR if path.endswith("/") else FILE, "") for path in paths]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        pytest.param([files("a", "./b", "/c")], {"a": "0.0", "b": "0.1", "c": "0.2"}, id="names"),
        pytest.param([files("a", "a")], {"a": "0.1"}, id="the last of a name wins"),
        pytest.param([files("d/e/f")], {"d": "dir", "d/e": "dir", "d/e/f": "0.0"}, id="implied"),
        pytest.param([files("a"), files(".wh.a")], {}, id="whiteout"),
        pytest.param([files("a"), files(".wh.a", "a")], {"a": "1.1"}, id="hidden and made again"),
        pytest.param([files("a"), files("a", ".wh.a")], {"a": "1.0"}, id="order does not matter"),
        pytest.param(
            [files("d/a", "d/b"), files("d/c", "d/.wh..wh..opq")],
            {"d": "dir", "d/c": "1.0"},
            id="opaque hides all below, wherever it stands",
        ),
        pytest.param(
            [files("d/a"), files(".wh.d", "d/b")], {"d": "dir", "d/b": "1.1"}, id="directory anew"
        ),
        pytest.param([files("d/a"), files("d")], {"d": "1.0"}, id="file over directory"),
        pytest.param([files("d"), files("d/a")], {"d": "dir", "d/a": "1.0"}, id="over file"),
        pytest.param(
            [files("d/a"), files("d"), files("d/")], {"d": "dir"}, id="empty again"
        ),
        pytest.param(
            [files("d/a"), files("d/")], {"d": "dir", "d/a": "0.0"}, id="directory over directory"
        ),
        pytest.param([files(".wh..wh.plnk/x", ".wh..wh.aufs", "a")], {"a": "0.2"}, id="AUFS"),
        pytest.param([files("a"), files(".wh.b")], {"a": "0.0"}, id="whiteout of nothing"),
        pytest.param(
            [[("l", LINK, "d"), ("d/", DIR, ""), ("l/a", FILE, "")]],
            {"d": "dir", "d/a": "0.2", "l": "-> d"},
            id="below a link of the same layer",
        ),
        pytest.param(
            [[("l", LINK, "/../d"), ("d/", DIR, ""), ("l/a", FILE, "")]],
            {"d": "dir", "d/a": "0.2", "l": "-> /../d"},
            id="a link that would leave the root",
        ),
        pytest.param(
            [[("d/", DIR, ""), ("l", LINK, "d")], files("l/a")],
            {"d": "dir", "l": "dir", "l/a": "1.0"},
            id="below a link of another layer",
        ),
        pytest.param(
            [[("a", FILE, ""), ("h", HARD, "a"), ("a", FILE, "")]],
            {"a": "0.2", "h": "0.0"},
            id="a hard link keeps the file that was",
        ),
        pytest.param(
            [files("a"), [("h", HARD, "/a")]], {"a": "0.0", "h": "0.0"}, id="hard link below"
        ),
        pytest.param([[("a", FILE, ""), ("a", HARD, "a")]], {"a": "0.0"}, id="hard link to itself"),
    ],
)  # fmt: skip
def test_layers_compose(layers: list[list[Member]], expected: dict[str, str]) -> None:
    trees = [tree(members, number) for number, members in enumerate(layers)]
    assert shown(compose_all(trees)) == expected


@pytest.mark.parametrize(
    ("members", "error"),
    [
        (files("../a"), UnsafePath),
        (files("a/../b"), UnsafePath),
        (files("a", "a/b"), InvalidArchive),
        (files(".wh."), InvalidArchive),
        (files(".wh..."), InvalidArchive),
        ([("/", FILE, "")], InvalidArchive),
        ([("d/", DIR, ""), ("h", HARD, "d")], InvalidArchive),
        ([("h", HARD, "../x")], UnsafePath),
        ([("l", LINK, "l"), ("l/a", FILE, "")], InvalidArchive),
        ([("l", LINK, "m"), ("m", LINK, "l"), ("l/a", FILE, "")], InvalidArchive),
        (files("a", "b", "c", "d"), LimitExceeded),
        (files("a/b/c/d"), LimitExceeded),
    ],
)
def test_malformed_layers_are_refused(members: list[Member], error: type[Error]) -> None:
    with pytest.raises(error):
        tree(members, nodes=3, depth=2)


def test_the_root_has_an_entry_of_its_own() -> None:
    root = tree([("./", DIR, ""), ("a", FILE, "")])
    assert root.info is not None
    assert root.info.member == 0
    assert [path for path, _ in walk(root)] == ["a"]


def test_names_sort_by_their_bytes() -> None:
    root = tree(files("é", "z", "\udcff", "A"))
    assert [path for path, _ in walk(root)] == ["A", "z", "é", "\udcff"]


def test_composing_changes_neither_tree() -> None:
    lower, upper = tree(files("d/a", "b"), 0), tree(files("d/c", ".wh.b"), 1)
    before = shown(lower), shown(upper)
    compose(lower, upper)
    assert (shown(lower), shown(upper)) == before


# --- against a model: a dict of paths, changed in place by one rule after the other

NAMES = ("a", "b", "c")
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
OPERATIONS = st.tuples(st.sampled_from(["file", "dir", "whiteout", "opaque"]), PATHS)
LAYERS = st.lists(st.lists(OPERATIONS, max_size=6), min_size=1, max_size=4)


def members_of(operations: list[tuple[str, str]]) -> list[Member]:
    """The entries for operations, those left out that a tar of one layer cannot have: below a
    file of the same layer."""
    members: list[Member] = []
    kinds: dict[str, EntryType] = {}
    for operation, path in operations:
        parts = path.split("/")
        parents = ["/".join(parts[:n]) for n in range(1, len(parts))]
        if operation == "opaque":
            parents.append(path)
        if any(kinds.get(parent) is FILE for parent in parents):
            continue
        if operation == "whiteout":
            head, _, name = path.rpartition("/")
            members.append((f"{head}/.wh.{name}" if head else f".wh.{name}", FILE, ""))
        elif operation == "opaque":
            members.append((f"{path}/.wh..wh..opq", FILE, ""))
        else:
            kind = FILE if operation == "file" else DIR
            if kind is FILE:
                kinds = {k: v for k, v in kinds.items() if not k.startswith(f"{path}/")}
            kinds[path] = kind
            members.append((path, kind, ""))
        for parent in parents:
            kinds[parent] = DIR
    return members


def model_apply(state: dict[str, str], members: list[Member], layer: int) -> None:
    """Lower layers first lose what this one hides, then get what it has."""

    def drop(path: str) -> None:
        for key in [k for k in state if k == path or k.startswith(f"{path}/")]:
            del state[key]

    last: dict[str, tuple[int, EntryType]] = {}
    for number, (path, kind, _) in enumerate(members):
        head, _, name = path.rpartition("/")
        directories = path.split("/")[:-1]
        for n in range(1, len(directories) + 1):
            last.setdefault("/".join(directories[:n]), (-1, DIR))
        if name == ".wh..wh..opq":
            for key in [k for k in state if k.startswith(f"{head}/")]:
                del state[key]
        elif name.startswith(".wh."):
            drop(f"{head}/{name[4:]}" if head else name[4:])
        else:
            if kind is FILE:
                # Within the layer a file replaces the directory and all that was in it.
                last = {k: v for k, v in last.items() if not k.startswith(f"{path}/")}
            last[path] = (number, kind)
    for path in sorted(last):
        number, kind = last[path]
        if kind is DIR:
            if state.get(path) != "dir":
                drop(path)
            state[path] = "dir"
        else:
            drop(path)
            state[path] = f"{layer}.{number}"


@given(LAYERS)
def test_composing_agrees_with_a_naive_model(layers: list[list[tuple[str, str]]]) -> None:
    state: dict[str, str] = {}
    trees = []
    for number, operations in enumerate(layers):
        members = members_of(operations)
        # A whiteout inside a directory that the layer later replaces by a file is gone with
        # it in extraction, and hides nothing more than the file does.
        model_apply(state, members, number)
        trees.append(tree(members, number))
    assert shown(compose_all(trees)) == dict(sorted(state.items()))


@given(LAYERS)
def test_composing_is_associative(layers: list[list[tuple[str, str]]]) -> None:
    trees = [tree(members_of(operations), number) for number, operations in enumerate(layers)]
    left = compose_all(trees)
    right = trees[-1]
    for lower in reversed(trees[:-1]):
        right = compose(lower, right)
    assert shown(left) == shown(compose(Node.directory(), right))


@given(LAYERS, PATHS)
def test_looking_from_the_top_finds_what_composing_shows(
    layers: list[list[tuple[str, str]]], path: str
) -> None:
    trees = [tree(members_of(operations), number) for number, operations in enumerate(layers)]
    whole = shown(compose_all(trees))
    union = Union([lambda node=node: node for node in trees])  # type: ignore[misc]
    try:
        found = union.resolve(path)
    except (NotFound, InvalidInput):
        assert path not in whole
        return
    kind = "dir" if found.is_directory else f"{found.info.layer}.{found.info.member}"
    assert whole[path] == kind


# --- looking for one path


def union_of(*layers: list[Member]) -> tuple[Union, list[int]]:
    """A union, and the list of layers that it asks for."""
    asked: list[int] = []

    def ask(number: int, node: Node) -> Any:
        def give() -> Node:
            asked.append(number)
            return node

        return give

    return Union([ask(n, tree(members, n)) for n, members in enumerate(layers)]), asked


ROOT: list[Member] = [
    ("usr/bin/tool", FILE, ""),
    ("bin", LINK, "usr/bin"),
    ("sbin", LINK, "/bin"),
    ("usr/up", LINK, "../usr/bin/tool"),
    ("out", LINK, "../../../../usr/bin/tool"),
    ("loop", LINK, "loop"),
    ("ping", LINK, "pong"),
    ("pong", LINK, "ping"),
    ("gone", LINK, "nowhere"),
    ("dot", LINK, "."),
    ("h", HARD, "usr/bin/tool"),
]


@pytest.mark.parametrize(
    "path",
    ["usr/bin/tool", "/usr/bin/tool", "bin/tool", "sbin/tool", "usr/up", "out", "dot/dot/bin/tool",
     "usr/../bin/tool", "bin/../bin/tool", "./bin//tool", "/../bin/tool", "h"],
)  # fmt: skip
def test_links_stay_in_the_image(path: str) -> None:
    union, _ = union_of(ROOT)
    found = union.resolve(path)
    assert (found.info.layer, found.info.member) == (0, 0)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("nothing", NotFound),
        ("usr/bin/nothing", NotFound),
        ("gone", NotFound),
        ("loop", InvalidInput),
        ("ping", InvalidInput),
        ("usr/bin/tool/x", InvalidInput),
        ("usr/bin/tool/", InvalidInput),
    ],
)
def test_paths_that_lead_nowhere(path: str, error: type[Error]) -> None:
    union, _ = union_of(ROOT)
    with pytest.raises(error):
        union.resolve(path)


def test_a_final_link_is_followed_only_when_asked() -> None:
    union, _ = union_of(ROOT)
    assert union.resolve("bin", follow=False).info.type is LINK
    assert union.resolve("bin").path == "usr/bin"
    assert union.resolve("").is_directory


def test_layers_below_the_answer_are_not_asked_for() -> None:
    union, asked = union_of(ROOT, files("etc/x"), files("usr/bin/tool"), files("etc/y"))
    assert union.resolve("usr/bin/tool").info.layer == 2
    assert min(asked) == 2


def test_a_directory_above_hides_a_link_below() -> None:
    union, _ = union_of(ROOT, files("bin/other"))
    with pytest.raises(NotFound):
        union.resolve("bin/tool")


def test_a_hard_link_finds_its_file_in_a_lower_layer() -> None:
    union, _ = union_of(files("d/a"), [("h", HARD, "d/a")])
    assert union.resolve("h").info.layer == 0
    union, _ = union_of(files("b"), [("h", HARD, "d/a")])
    with pytest.raises(NotFound):
        union.resolve("h")


def test_lookup_in_one_tree() -> None:
    root = tree(ROOT)
    found = lookup(root, "bin/tool")
    assert found is not None
    assert found.shown().member == 0
    assert lookup(root, "loop/x") is None
    assert lookup(root, "usr/bin/tool/x") is None
