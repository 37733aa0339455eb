"""Shell patterns on the values of variables, against the plainest thing that could be right."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.build.language.substrings import MAX_VALUE, replace, trim_prefix, trim_suffix
from imgtools.errors import InvalidInput

values = st.text(alphabet="abx/", max_size=9)
patterns = st.text(alphabet="abx/*?", max_size=6)


def spans(value: str, pattern: str) -> list[tuple[int, int]]:
    """All places where the pattern matches."""
    size = len(value)
    return [
        (start, end)
        for start in range(size + 1)
        for end in range(start, size + 1)
        if fnmatch.fnmatchcase(value[start:end], pattern)
    ]


@given(values, patterns)
def test_trimming_takes_the_shortest_or_longest(value: str, pattern: str) -> None:
    """At the beginning and at the end."""
    prefixes = [end for start, end in spans(value, pattern) if start == 0]
    suffixes = [start for start, end in spans(value, pattern) if end == len(value)]
    for longest, first, last in ((False, min, max), (True, max, min)):
        expected = value[first(prefixes, default=0) :]
        assert trim_prefix(value, pattern, longest=longest) == expected
        expected = value[: last(suffixes, default=len(value))]
        assert trim_suffix(value, pattern, longest=longest) == expected


@given(values, patterns, st.booleans())
def test_replacing_goes_from_left_to_right_and_takes_the_longest(
    value: str, pattern: str, every: bool
) -> None:
    """An empty match right behind another one does not count."""
    places = spans(value, pattern)
    result, done, previous, replaced = "", 0, -1, False
    for start in range(len(value) + 1):
        ends = [end for found, end in places if found == start]
        if start < done or not ends or (replaced and not every):
            continue
        if max(ends) > start or start != previous:
            result, done, replaced = result + value[done:start] + "R", max(ends), True
        previous = max(ends)
    assert replace(value, pattern, "R", every=every, limit=1000) == result + value[done:]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", "R\nR\nR\nR"),
        ("?", "RR\nRR\n\nR"),
        ("a*", "R\nR\n\nR"),
        ("*b", "R\nac\n\na"),
        ("c\n*", "ab\naR\na"),
    ],
)
def test_wildcards_stop_at_a_newline(pattern: str, expected: str) -> None:
    """As `.` does in the expressions that BuildKit makes of them."""
    assert replace("ab\nac\n\na", pattern, "R", every=True, limit=1000) == expected


@pytest.mark.parametrize("pattern", ["\\", "a\\", "\\a", "\\\\\\"])
def test_a_backslash_in_front_of_what_needs_none_is_refused(pattern: str) -> None:
    """At the end too."""
    with pytest.raises(InvalidInput, match="invalid escape"):
        trim_prefix("value", pattern, longest=False)


def test_patterns_take_no_more_than_a_pass_per_token() -> None:
    """What sends a backtracking matcher away for years."""
    value = "a" * MAX_VALUE
    assert trim_prefix(value, "*a" * 40 + "b", longest=True) == value
    assert replace(value, "*a" * 20 + "b", "R", every=True, limit=10) == value
    lines = "a\n" * (MAX_VALUE // 2)
    assert replace(lines, "a*", "b", every=True, limit=MAX_VALUE) == lines.replace("a", "b")
