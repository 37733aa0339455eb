"""Versions and constraints, by tables: what Masterminds/semver v3 says of the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.sync.semver import Constraint, InvalidConstraint, InvalidVersion, Version

TABLE = [
    # exact, and what is not given is free
    ("1.2.3", "1.2.3 v1.2.3 1.2.3+build", "1.2.4 1.2.2 2.2.3 1.2.3-rc.1"),
    ("=1.2.3", "1.2.3", "1.2.4"),
    ("v1.2.3", "1.2.3 v1.2.3", "1.3.3"),
    ("1.2", "1.2 1.2.0 1.2.9", "1.3.0 2.2.0 1.1.9"),
    ("= 1", "1 1.0 1.9.9", "2.0.0 0.9.9"),
    ("0.0.0", "0.0.0 0", "0.0.1"),
    ("1.2.3-rc.1", "1.2.3-rc.1", "1.2.3 1.2.3-rc.2"),
    # wildcards
    ("*", "0 1 4.5.6", "1.0.0-rc.1"),
    ("x", "0 1 4.5.6", "1.0.0-rc.1"),
    ("X.x.*", "0 1 4.5.6", "1.0.0-rc.1"),
    ("1.x", "1.0 1.9.3", "2.0 0.9"),
    ("1.x.x", "1.0 1.9.3", "2.0 0.9"),
    ("1.2.*", "1.2.0 1.2.77", "1.3.0"),
    ("1.2.X", "1.2.0 1.2.77", "1.3.0"),
    ("0.x", "0.0.1 0.9.9", "1.0.0"),
    ("*-0", "1.2.3-alpha 1.2.3", ""),
    # not
    ("!=1.2.3", "1.2.4 2.0.0", "1.2.3 1.2.4-rc.1"),
    ("!=1.2", "1.3.0 2.2.0", "1.2.0 1.2.9"),
    ("!=1.2.x", "1.3.0", "1.2.9"),
    ("!=1", "2.0.0 0.1.0", "1.0.0 1.9.9"),
    ("!=4.1-alpha", "4.1.0 4.2.0-alpha", "4.1.0-alpha 4.1.7-alpha"),
    # order
    (">1.2.3", "1.2.4 2.0.0", "1.2.3 1.2.2 1.2.4-rc.1"),
    (">1.2", "1.3.0 2.0.0", "1.2.0 1.2.9"),
    (">1", "2.0.0", "1.0.0 1.9.9"),
    (">=1.2.3", "1.2.3 1.2.4", "1.2.2"),
    ("=>1.2.3", "1.2.3 1.2.4", "1.2.2"),
    (">=1.2", "1.2.0 1.2.9 3.0", "1.1.9"),
    ("<1.2.3", "1.2.2 0.9", "1.2.3 1.2.2-rc.1"),
    ("<1.2", "1.1.9", "1.2.0 1.2.1"),
    ("<1.x", "0.9.9", "1.0.0 1.1.1"),
    ("<=1.2.3", "1.2.3 1.2.2", "1.2.4"),
    ("=<1.2.3", "1.2.3 1.2.2", "1.2.4"),
    ("<=1.2", "1.2.9 1.1.0", "1.3.0"),
    ("<=1", "1.9.9 0.1", "2.0.0"),
    # tilde
    ("~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2 2.2.3"),
    ("~1.2", "1.2.0 1.2.9", "1.3.0 1.1.9"),
    ("~1", "1.0.0 1.9.0", "2.0.0 0.9"),
    ("~1.x", "1.4 1.3.5", "2.1.1"),
    ("~>1.2", "1.2.0 1.2.9", "1.3.0"),
    ("~> 1.2.3", "1.2.5", "1.3.0"),
    ("~*", "0 2.1.1", ""),
    ("~0.0.0", "1.2.3", "0.0.0-rc.1"),
    ("~0.2.3", "0.2.5", "0.3.5"),
    ("~1.2.3-beta.2", "1.2.3-beta.4 1.2.3 1.2.4-beta.2", "1.2.3-beta.1 1.3.0"),
    # caret
    ("^1.2.3", "1.2.3 1.8.9", "1.2.2 2.0.0"),
    ("^1.2", "1.2.0 1.8.9", "1.1.9 2.0.0"),
    ("^1", "1.0.0 1.8.9", "2.0.0 0.9"),
    ("^1.x", "1.1.1", "2.1.1 1.1.1-beta1"),
    ("^0.2.3", "0.2.3 0.2.5", "0.3.0 0.2.2 1.2.3"),
    ("^0.2", "0.2.0 0.2.5", "0.3.0 1.2.0"),
    ("^0.0.3", "0.0.3", "0.0.4 0.1.3 1.0.3"),
    ("^0.0", "0.0.0 0.0.9", "0.1.0 1.0.0"),
    ("^0", "0.0.1 0.9.9", "1.0.0"),
    ("^1.2.0-alpha.2", "1.2.0-alpha.3 1.2.0 1.3.0-rc.1", "1.2.0-alpha.1 2.0.0"),
    # ranges
    ("1.2 - 1.4.5", "1.2.0 1.3.9 1.4.5", "1.1.9 1.4.6"),
    ("1.1 - 2", "1.1.1 2.9.9", "3.0.0 1.0.9"),
    ("1.0.0 - 2.0.0 <=1.5.0", "1.5.0 1.0.0", "1.6.0 0.9.9"),
    ("1.0.0 - 2.0.0, !=1.5.0", "1.4.0 1.6.0", "1.5.0"),
    ("1 - 2 || 4 - 5", "1.0 2.5 4.0 5.9", "3.0 6.0 0.9"),
    # 1.1-3 is a pre-release, not a range
    ("1.1-3", "1.1.0-4 1.1.5", "1.1.0-2 4.3.2"),
    # and, or
    (">=1.2, <2", "1.2.0 1.9.9", "1.1.9 2.0.0"),
    (">=1.2 <2", "1.2.0 1.9.9", "1.1.9 2.0.0"),
    (">= 1.2   ,   < 2", "1.2.0 1.9.9", "1.1.9 2.0.0"),
    (">=1.2 <2 !=1.5.0", "1.4.9 1.5.1", "1.5.0 2.0.0"),
    ("<1 || >=2", "0.9 2.0.0", "1.0.0 1.9.9"),
    ("1.2.3||1.2.5", "1.2.3 1.2.5", "1.2.4"),
    (">=1.1, <2, !=1.2.3 || > 3", "1.2.4 4.1.2", "1.2.3 3.1.2 3.0.0"),
    # pre-releases count only where a comparison of the group names one
    (">=1.0.0-0", "1.0.0-rc.1 1.0.0 2.0.0-rc.1", "0.9.0"),
    (">=1.0.0 <2.0.0-0", "1.5.0-rc.1 1.0.0", "1.0.0-rc.1 2.0.0"),
    (">=1.0.0-0 || >=3", "1.0.0-rc.1 3.0.1-rc.1", "0.9.0-rc.1"),
    (">=5 || >=1.0.0-rc.1 <1.0.1", "1.0.0-rc.1 1.0.0-rc.2 5.1", "5.1.0-rc.1 1.0.1"),
    (">1.2.3-alpha.1", "1.2.3-alpha.2 1.2.3-beta 1.2.3", "1.2.3-alpha.1 1.2.3-1"),
    ("<0-z", "0.0.0-alpha", "0.0.0"),
]


@pytest.mark.parametrize(("text", "allowed", "refused"), TABLE, ids=[row[0] for row in TABLE])
def test_constraint(text: str, allowed: str, refused: str) -> None:
    """Every version of the table is on its side."""
    constraint = Constraint(text)
    assert [v for v in allowed.split() if not constraint.allows(Version.parse(v))] == []
    assert [v for v in refused.split() if constraint.allows(Version.parse(v))] == []


@pytest.mark.parametrize(
    "text",
    ["", " ", "foo", ">= bar", "BAR >= 1.2.3", "1.2.3.4", "12.3.34~ 1.2.3", "==1", ">", "1.2.3,",
     ", 1.2", "1.2 ,, 1.3", "1 ||", "|| 1", "1 | 2", "1x", "1..2", "1.2.3-beta.01", "1.2.3-",
     "1.2.3 - ", "99999999999999999999", "1" * 2000, ">= 1.2; < 2"],
)  # fmt: skip
def test_invalid_constraint(text: str) -> None:
    """A clear error rather than a guess."""
    with pytest.raises(InvalidConstraint, match="version constraint"):
        Constraint(text)


@pytest.mark.parametrize(
    "text",
    ["", "latest", "1.2.3.4", "1.2.", "1.2.3-", "1.2.3-01", "1.2.3-a..b", "vv1", "1.2.3+", " 1.2",
     "1.2.3-rc_1", "18446744073709551616", "1.x", "1\n"],
)  # fmt: skip
def test_not_a_version(text: str) -> None:
    """Such tags satisfy nothing."""
    with pytest.raises(InvalidVersion):
        Version.parse(text)


def test_order() -> None:
    """As semver.org section 11 has it."""
    words = """1.0.0-1 1.0.0-2 1.0.0-10 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta
    1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.0.1 1.1 1.10 2 v10"""
    versions = [Version.parse(text) for text in words.split()]
    versions.reverse()
    assert sorted(versions) == versions[::-1]
    assert len(set(versions)) == len(versions)


def test_leading_zeros_and_builds_do_not_count() -> None:
    """Tags such as 01.02 are taken by their value."""
    assert Version.parse("01.002") == Version.parse("v1.2.0+linux.amd64")


NUMBERS = st.tuples(*[st.integers(0, 30)] * 3)


@given(NUMBERS, NUMBERS)
def test_comparisons_agree(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """Of full versions each operator is what it is of the numbers."""
    found, wanted = Version.parse(".".join(map(str, a))), ".".join(map(str, b))
    for operator, expected in (
        ("=", a == b), ("!=", a != b), ("<", a < b), (">", a > b), ("<=", a <= b), (">=", a >= b),
    ):  # fmt: skip
        assert Constraint(operator + wanted).allows(found) is expected, (operator, a, b)


@given(st.text(alphabet="0123456789.xX*v-+ab <>=!~^,|", max_size=40))
def test_any_text_is_a_constraint_or_refused(text: str) -> None:
    """Nothing but our own error comes out."""
    try:
        Constraint(text).allows(Version.parse("1.2.3"))
    except InvalidConstraint:
        return
