"""Ignore files: what they say, which one is read, and what of a context is ignored."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.build.ignore.files import Candidate, candidates, parse_ignore
from imgtools.build.ignore.matcher import Matcher
from imgtools.errors import InvalidInput


def at(place: str, *names: str) -> tuple[Candidate, ...]:
    """Candidates in one place."""
    return tuple(Candidate(place=place, name=name) for name in names)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ()),
        (b"a\n\n  b  \n\tc\r\n", ("a", "b", "c")),
        (b"\xef\xbb\xbf# comment\na", ("a",)),
        (b"\xef\xbb\xbfa", ("a",)),
        (b"#a\n #b\na#c", ("#b", "a#c")),
        (b"/a\n//b\n./c\nd/\ne//f/../g\n/\n.", ("a", "b", "c", "d", "e/g", "/", ".")),
        (b"!a\n! /b/ \n!./c", ("!a", "!b", "!c")),
        (b"\xff\n", ("\udcff",)),
    ],
)
def test_e61_reading_rules(content: bytes, expected: tuple[str, ...]) -> None:
    """Comments only in the first column, cleaned paths, negation kept apart."""
    assert parse_ignore(content) == expected


@pytest.mark.parametrize(
    ("content", "line"), [(b"a\n!\n", 2), (b"[a\n", 1), (b"# x\n\nok\na\\", 4), (b"x\n! [b-\n", 2)]
)
def test_a_bad_pattern_is_refused_with_its_line(content: bytes, line: int) -> None:
    """And the file's name."""
    with pytest.raises(InvalidInput, match=rf"^x\.ignore:{line}: bad pattern"):
        parse_ignore(content, name="x.ignore")
    with pytest.raises(InvalidInput, match=r"^bad pattern"):
        Matcher([content.decode().split("\n")[line - 1]])


@pytest.mark.parametrize(
    ("containerfile", "ignorefile", "expected"),
    [
        ("d/File", "x/i", at("caller", "x/i")),
        (
            "d/File",
            None,
            at("containerfile", "File.containerignore", "File.dockerignore")
            + at("context", ".containerignore", ".dockerignore"),
        ),
        (None, None, at("context", ".containerignore", ".dockerignore")),
    ],
)
def test_which_file_is_read(
    containerfile: str | None, ignorefile: str | None, expected: tuple[Candidate, ...]
) -> None:
    """The caller's, else the Containerfile's own, else the context's."""
    assert candidates(containerfile, ignorefile) == expected


@pytest.mark.parametrize(
    ("patterns", "ignored", "kept"),
    [
        ("a", ["a", "a/b", "a/b/c"], ["b", "b/a", "ab"]),
        ("a/b", ["a/b", "a/b/c"], ["a", "b", "a/bc"]),
        ("*", ["a", "a/b"], ["."]),
        ("*/a", ["x/a", "x/a/b"], ["a", "x/y/a"]),
        ("**/a", ["a", "x/a", "x/y/a/z"], ["ba", "x/ba"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b"]),
        ("a/**/b", ["a/b", "a/x/y/b", "a/b/c"], ["a", "a/xb"]),
        ("**/*.o", ["x.o", "a/b/x.o"], ["x.c", "xo"]),
        ("**.o", ["x.o", "a/x.o"], ["x.c"]),
        ("**x?", ["xy", "a/xy"], ["axy"]),
        ("a**/b", ["ab", "ac/b", "a/c/b"], ["b", "acb"]),
        ("?[a-c][^x]", ["zbz", "zcy/q"], ["zdz", "zbx"]),
        ("a\\*", ["a*"], ["ab"]),
        ("a b !a/x", ["a", "a/y", "b"], ["a/x", "a/x/y"]),
        ("!a a", ["a"], []),
        ("* !a", ["b", "b/a"], ["a", "a/b"]),
        ("** !**/a", ["b", "b/c"], ["a", "b/a", "b/a/c"]),
        ("a !a/b a/b/c", ["a", "a/b/c", "a/b/c/d"], ["a/b", "a/b/d"]),
        ("a/x !a", ["a/x"], ["a", "a/y"]),
    ],
)
def test_e61_last_match_decides_and_parents_count(
    patterns: str, ignored: list[str], kept: list[str]
) -> None:
    """Also when a path is asked for without its parents."""
    for path in ignored + kept:
        assert Matcher(patterns.split()).ignored(path) == (path in ignored), path


@pytest.mark.parametrize(
    ("patterns", "into", "not_into"),
    [
        ("a", ["b"], ["a", "a/b"]),
        ("a !a/b/c", ["a", "a/b"], ["a/c", "a/b/d"]),
        ("* !b", [], ["a"]),
        ("* !*/x", ["a"], ["a/b"]),
        ("* !**/x", ["a", "a/b/c"], []),
        ("* !a/[b]", ["a", "a/c"], ["b"]),
        ("* !a?/x", ["ab"], ["a", "ab/c"]),
        ("a !a/b a/b", ["a"], ["a/c"]),
    ],
)
def test_e61_a_walk_skips_ignored_directories_without_exceptions(
    patterns: str, into: list[str], not_into: list[str]
) -> None:
    """It looks only where a negated pattern may match."""
    matcher = Matcher(patterns.split())
    assert [path for path in into + not_into if matcher.could_contain(path)] == into


def test_nothing_is_ignored_without_patterns() -> None:
    """And a blank pattern is none."""
    matcher = Matcher(["", "  "])
    assert not matcher.ignored("a")
    assert not matcher.has_exceptions
    assert matcher.could_contain("a")


def plain(pattern: str) -> re.Pattern[str]:
    """The expression of a pattern of `*`, `?`, `**` and ordinary characters, as moby makes it."""
    result = ""
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*" and pattern[position : position + 1] == "*":
            position += 1
            position += pattern[position : position + 1] == "/"
            result += "(.*/)?" if position < len(pattern) else ".*"
        else:
            result += {"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character))
    if pattern.startswith("**") and not re.search(r"[*?]", pattern[2:]) and pattern[2:3] != "/":
        result = ".*" + re.escape(pattern[2:])
    return re.compile(result)


def walked(patterns: list[str], path: str) -> bool:
    """The decision pattern by pattern and parent by parent, without any grouping."""
    matched = [False] * len(patterns)
    ignored = False
    elements = path.split("/")
    for depth in range(1, len(elements) + 1):
        prefix = "/".join(elements[:depth])
        ignored = False
        for index, pattern in enumerate(patterns):
            negated = pattern.startswith("!")
            if not matched[index] and negated == ignored:
                matched[index] = plain(pattern.lstrip("!")).fullmatch(prefix) is not None
            if matched[index]:
                ignored = not negated
    return ignored


elements = st.sampled_from(["a", "b", "ab", "a.b"])
wild = st.sampled_from(["a", "b", "*", "**", "a*", "*b", "?", "a**", "**b", "*a*b*"])
pattern_texts = st.builds(
    lambda bang, parts: bang + "/".join(parts), st.sampled_from(["", "!"]),
    st.lists(wild, min_size=1, max_size=4),
)  # fmt: skip


@given(
    st.lists(pattern_texts, min_size=1, max_size=4),
    st.lists(st.lists(elements, min_size=1, max_size=5).map("/".join), min_size=1, max_size=4),
)
def test_grouping_and_remembering_change_nothing(patterns: list[str], paths: list[str]) -> None:
    """Against the rules applied one by one; and no directory is skipped that has a kept path."""
    matcher = Matcher(patterns)
    for path in paths:
        assert matcher.ignored(path) == walked(patterns, path)
        if not matcher.ignored(path):
            parents = path.split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                assert matcher.could_contain("/".join(parents[:depth]))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 40 + "b", "a" * 255),
        ("**/a*/" * 12 + "c", "/".join(["ab"] * 1000)),
        ("**/a***/" * 12 + "c", "/".join(["ab"] * 300)),
        ("a**" * 12 + "b", "a" * 4000),
        ("*[^b]" * 20, "a/" * 1999 + "a"),
    ],
)
def test_hostile_patterns_take_no_time(pattern: str, path: str) -> None:
    """Each would keep a backtracking matcher busy for longer than any test may take."""
    assert Matcher([pattern]).ignored(path) == (pattern == "*[^b]" * 20)
