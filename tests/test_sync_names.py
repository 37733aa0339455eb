"""Names at the destination, tags made of digests, and choices of tags: pure tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import InvalidInput, InvalidReference
from imgtools.spec.digest_tag import subject_of_tag
from imgtools.spec.reference import is_tag
from imgtools.sync.names import Place, destination_name, directory_image
from imgtools.sync.tags import MatchingTags, VersionTags

HEX = "ab" * 32
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("place", "base", "image", "scoped", "suffix", "expected"),
    [
        ("docker", "m.io", "r.io/a/b:1", False, "", "docker://m.io/b:1"),
        ("docker", "m.io/ns", "r.io/a/b:1", False, "", "docker://m.io/ns/b:1"),
        ("docker", "m.io/ns/", "r.io/a/b:1", True, "", "docker://m.io/ns/r.io/a/b:1"),
        ("docker", "m.io:5000", "r.io/a/b:1", True, "", "docker://m.io:5000/r.io/a/b:1"),
        ("docker", "m.io", "r.io/b:1", False, "-m", "docker://m.io/b:1-m"),
        ("docker", "m.io", f"r.io/b@{DIGEST}", False, "", f"docker://m.io/b@{DIGEST}"),
        ("docker", "m.io", "docker.io/library/b:1", True, "",
         "docker://m.io/docker.io/library/b:1"),
        ("docker", "me", "r.io/a/b:1", False, "", "docker://docker.io/me/b:1"),
        ("docker", "m.io/x/../y", "r.io/b:1", False, "", "docker://m.io/y/b:1"),
        ("dir", "/usb", "r.io/a/b:1", False, "", "dir:/usb/b:1"),
        ("dir", "/usb/", "r.io:80/a/b:1", True, "", "dir:/usb/r.io:80/a/b:1"),
        ("dir", "usb", f"r.io/b@{DIGEST}", False, "-s", f"dir:usb/b@{DIGEST}-s"),
        ("dir", ".", "r.io/b:1", False, "", "dir:b:1"),
        ("dir", "//usb//x", "r.io/b:1", False, "", "dir:/usb/x/b:1"),
    ],
)  # fmt: skip
def test_destination_name(
    place: Place, base: str, image: str, scoped: bool, suffix: str, expected: str
) -> None:
    """As skopeo joins them."""
    assert str(destination_name(place, base, image, scoped=scoped, suffix=suffix)) == expected


@pytest.mark.parametrize(
    ("base", "suffix"), [("m.io", " x"), ("m.io/UP", ""), ("m io", ""), ("", "/..")]
)
def test_impossible_names(base: str, suffix: str) -> None:
    """Refused before anything is asked of a registry."""
    with pytest.raises(InvalidReference):
        destination_name("docker", base, "r.io/a/b:1", suffix=suffix)


@pytest.mark.parametrize("image", [f"r.io/b@{DIGEST}"])
def test_a_suffix_on_a_digest_is_no_name(image: str) -> None:
    """As in skopeo."""
    with pytest.raises(InvalidReference):
        destination_name("docker", "m.io", image, suffix="-x")


@pytest.mark.parametrize(
    ("path", "base", "expected"),
    [
        ("/usb/b:1", "/usb", "/b:1"),
        ("/usb/r.io/a/b:1", "/usb", "/r.io/a/b:1"),
        ("/usb/b:1", "/usb/b:1", "b:1"),
        ("/usb/b:1", "/usb/", "b:1"),
        ("usb/b:1", "./usb", "usb/b:1"),
    ],
)
def test_directory_image(path: str, base: str, expected: str) -> None:
    """The path below the root gives the name."""
    assert directory_image(path, base) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (f"sha256-{HEX}", (DIGEST, "")),
        (f"sha256-{HEX}.sig", (DIGEST, ".sig")),
        (f"sha256-{HEX}.att", (DIGEST, ".att")),
        (f"sha256-{HEX}.any.thing", (DIGEST, ".any.thing")),
        (f"sha256-{HEX[:-1]}", None),
        (f"sha256-{HEX.upper()}", None),
        (f"md5-{HEX[:32]}.sig", None),
        ("latest", None),
        ("sha256-.sig", None),
    ],
)
def test_subject_of_tag(tag: str, expected: tuple[str, str] | None) -> None:
    """Only what is made of a whole digest."""
    found = subject_of_tag(tag)
    assert (found and (str(found[0]), found[1])) == expected


@given(st.text(max_size=60))
def test_any_tag_is_looked_at(tag: str) -> None:
    """Nothing is raised, and what is found is a tag."""
    assert subject_of_tag(tag) is None or is_tag(tag)


TAGS = "1.0 1.10 11.0 2.0 2.0-alpine latest v1 edge_x"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (r"1\.", "1.0 1.10 11.0"),
        (r"^1\.", "1.0 1.10"),
        (r"0$", "1.0 1.10 11.0 2.0"),
        (r"^\d+\.\d+$", "1.0 1.10 11.0 2.0"),
        (r"(?i)LATEST|EDGE", "latest edge_x"),
        (r"^[[:digit:]]{2}", "11.0"),
        (r"^[^[:digit:]]", "latest v1 edge_x"),
        (r"^v[$]|\Av1\z", "v1"),
        (r"[]_]", "edge_x"),
        (r"", TAGS),
        (r"(?P<n>alp)ine", "2.0-alpine"),
        (r"^(?:1|2)\.0(?:-[a-z]+)?$", "1.0 2.0 2.0-alpine"),
        (r"[a[&~|]test", "latest"),
    ],
)
def test_expressions(expression: str, expected: str) -> None:
    """Found anywhere, as Go's MatchString does it."""
    wanted = MatchingTags(expression)
    assert [tag for tag in TAGS.split() if wanted(tag)] == expected.split()


@pytest.mark.parametrize(
    "expression",
    [r"(?=x)", r"(?!x)", r"(?<=x)y", r"(?<!x)y", r"(a)\1", r"(?P=n)", r"a++", r"a*+", r"(?>a)",
     r"\Z", r"\p{Greek}", r"\Qa\E", r"(?(1)a|b)", r"(?#no)", r"(?x) a", "(", "[", "a**", "x{,3}",
     r"[[:nope:]]", r"[\Q]", "a" * 20_000, "*", "\\"],
)  # fmt: skip
def test_expressions_of_other_dialects(expression: str) -> None:
    """Refused with a clear error instead of meaning something else."""
    with pytest.raises(InvalidInput, match="regular expression"):
        MatchingTags(expression)


@given(st.text(alphabet="a1.*+?()[]{}|^$\\-:<>=!P&~", max_size=30))
def test_any_expression_is_taken_or_refused(expression: str) -> None:
    """Nothing but our own error comes out, no warning either."""
    try:
        MatchingTags(expression)("a1")
    except InvalidInput:
        return


def test_versions() -> None:
    """Tags that are no versions are passed over."""
    wanted = VersionTags(">= 1.10, < 3")
    assert [tag for tag in TAGS.split() if wanted(tag)] == ["1.10", "2.0"]
