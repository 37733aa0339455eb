"""Patterns of one path element, by the rules of Go's filepath.Match."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.build.ignore.gomatch import has_wildcards, literal_text, match
from imgtools.errors import InvalidInput


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("", [""], ["a"]),
        ("abc", ["abc"], ["ab", "abcd", "xabc"]),
        ("*", ["", "abc"], ["a/b"]),
        ("**", ["", "abc"], ["a/b"]),
        ("a*c", ["ac", "abc"], ["a/c", "acb"]),
        ("*a*b*", ["ab", "xaybz"], ["ba"]),
        ("a?", ["ab", "a☺", "a\n"], ["a", "a/", "abc"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "x"]),
        ("[^a-c]x", ["dx", "/x"], ["ax"]),
        ("[!a]", ["!", "a"], ["b"]),
        ("[\\]\\-]", ["]", "-"], ["\\"]),
        ("[b-a]", [], ["a", "b"]),
        ("[^b-a]", ["a", "/"], ["", "ab"]),
        ("[[]x]", ["[x]"], ["x"]),
        ("\\*\\?\\[", ["*?["], ["abc"]),
        ("\\d", ["d"], ["1"]),
        ("a.c", ["a.c"], ["abc"]),
        ("(a|b)+$", ["(a|b)+$"], ["a"]),
    ],
)
def test_e47_matching(pattern: str, matching: list[str], other: list[str]) -> None:
    """The whole name, and `/` only where it is written or a class takes it."""
    for name in matching + other:
        assert match(pattern, name) == (name in matching), name


@pytest.mark.parametrize(
    "pattern",
    ["[", "[a", "[]", "[]a]", "[^]", "[-]", "[a-]", "[-a]", "[a-b-c]", "a\\", "[\\", "*["],
)
def test_e47_bad_patterns_are_refused_wherever_the_fault_is(pattern: str) -> None:
    """Also if the name would have been ruled out before it."""
    with pytest.raises(InvalidInput, match="bad pattern"):
        match(pattern, "zzz")


def test_wildcards_and_literals_are_told_apart() -> None:
    """An escaped wildcard is a character, and the escape is not part of the name."""
    assert all(has_wildcards(pattern) for pattern in ("a*", "[a]", "?"))
    assert not has_wildcards("a\\*b")
    assert literal_text("a\\*\\b") == "a*b"


@given(st.text(alphabet="ab*?x", max_size=8), st.text(alphabet="abx", max_size=8))
def test_without_slashes_it_is_what_shells_do(pattern: str, name: str) -> None:
    """Taking the first place for each star loses nothing."""
    assert match(pattern, name) == fnmatch.fnmatchcase(name, pattern)
