"""Whiteout names: made, recognised, refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.blob import whiteout
from imgtools.errors import InvalidArchive


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".wh.a", "a"),
        ("x/y/.wh.a", "x/y/a"),
        ("x/.wh.a/", "x/a"),
        ("./x/.wh...a", "./x/..a"),
        (".wh..a", ".a"),
        (".wh..wh..opq", ""),
        ("x/y/.wh..wh..opq", "x/y"),
    ],
)
def test_target(path: str, expected: str) -> None:
    assert whiteout.is_whiteout(path)
    assert whiteout.whiteout_target(path) == expected


@pytest.mark.parametrize("path", [".wh.", "a/.wh.", "a/.wh..", "a/.wh...", ".wh.../"])
def test_names_nothing(path: str) -> None:
    assert whiteout.is_whiteout(path)
    with pytest.raises(InvalidArchive, match="names nothing"):
        whiteout.validate(path)
    with pytest.raises(InvalidArchive, match="names nothing"):
        whiteout.whiteout_target(path)


@pytest.mark.parametrize("path", ["a/.wh..wh.plnk", ".wh..wh.aufs", ".wh..wh.", ".wh..wh.x"])
def test_metadata_hides_nothing(path: str) -> None:
    assert whiteout.is_metadata(path)
    whiteout.validate(path)
    with pytest.raises(InvalidArchive, match="not a whiteout"):
        whiteout.whiteout_target(path)


@pytest.mark.parametrize("path", ["a", "a.wh.b", ".wha", ".wh.d/file", "", "/"])
def test_ordinary_names(path: str) -> None:
    assert not whiteout.is_whiteout(path)
    assert not whiteout.is_opaque(path)
    assert not whiteout.is_metadata(path)
    with pytest.raises(InvalidArchive):
        whiteout.whiteout_target(path)


@pytest.mark.parametrize("path", ["", "/", ".", "a/..", "a/.wh.b", ".wh..wh..opq"])
def test_make_refuses(path: str) -> None:
    with pytest.raises(InvalidArchive, match="cannot be hidden"):
        whiteout.make_whiteout(path)


def test_make_opaque() -> None:
    assert whiteout.make_opaque("") == ".wh..wh..opq"
    assert whiteout.make_opaque("a/b/") == "a/b/.wh..wh..opq"
    assert whiteout.is_opaque(whiteout.make_opaque("a/b"))


NAMES = st.text(min_size=1, max_size=20).filter(
    lambda n: "/" not in n and n not in (".", "..") and not n.startswith(".wh.")
)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_made_whiteouts_name_their_target(parts: list[str]) -> None:
    path = "/".join(parts)
    made = whiteout.make_whiteout(path)
    assert whiteout.is_whiteout(made)
    assert whiteout.whiteout_target(made) == path
