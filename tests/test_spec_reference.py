"""References: docker's normalisation, and the cases of the reference checklist (18-23)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import InvalidReference
from imgtools.spec.reference import ImageName, Reference
from imgtools.transport.table import TRANSPORTS

D = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("registry-1.docker.io/a/b", "docker.io/a/b:latest"),
        ("quay.io/busybox", "quay.io/busybox:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("host:5000/repo", "host:5000/repo:latest"),
        ("repo:5000", "docker.io/library/repo:5000"),
        ("[::1]:5000/repo:t", "[::1]:5000/repo:t"),
        ("[2001:db8::1]/a/b", "[2001:db8::1]/a/b:latest"),
        (f"a/b:t@{D}", f"docker.io/a/b:t@{D}"),
        (f"a/b@{D}", f"docker.io/a/b@{D}"),
        ("Example.COM/a", "Example.COM/a:latest"),
        ("example.com./a", "example.com./a:latest"),
        ("xn--n3h.example/a", "xn--n3h.example/a:latest"),
        ("a__b/c-d--e.f:T_0.-", "docker.io/a__b/c-d--e.f:T_0.-"),
    ],
)
def test_normalised(text: str, full: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == full
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        "a/./b",
        "UPPER",
        "a/Upper",
        "a:",
        "a:.x",
        "a:" + "x" * 129,
        "a@",
        "a@sha256:ab",
        f"a@{D}x",
        "a@md5:" + "a" * 32,
        "a b",
        "a\nb",
        "-a",
        "a-",
        "a._b",
        "a___b",
        "é",
        "host:0/a",
        "host:65536/a",
        "host:x/a",
        "[::1/a",
        "[fe80::1%eth0]/a",
        "[zz]/a",
        "https://host/a",
        "user@host.com/a",
        "f" * 64,
        "x/" + "a" * 256,
        "h_st.com/a",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert caught.value.text == text


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("busybox", "busybox:latest"),
        ("user/app:1", "user/app:1"),
        ("docker.io/library/a", "a:latest"),
        ("docker.io/library/a/b", "library/a/b:latest"),
        ("quay.io/a", "quay.io/a:latest"),
        (f"busybox@{D}", f"busybox@{D}"),
    ],
)
def test_familiar(text: str, short: str) -> None:
    assert Reference.parse(text).familiar == short


def test_digest_decides_when_both_are_given() -> None:
    reference = Reference.parse(f"a:t@{D}")
    assert reference.target == D
    assert reference.tag == "t"
    assert reference.with_tag("u").target == "u"


def test_bare_repository() -> None:
    assert Reference.parse("quay.io/a", default_tag="").tag == ""


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_a_typed_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference
    assert ".." not in reference.repository.split("/")


def test_image_name() -> None:
    name = ImageName.parse("oci:/a/b:tag", TRANSPORTS)
    assert (name.transport, name.rest, str(name)) == ("oci", "/a/b:tag", "oci:/a/b:tag")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("busybox", "docker://busybox"),
        ("quay.io/a:b", "docker://quay.io/a:b"),
        ("nosuch:x", "known transports"),
    ],
)
def test_image_name_without_transport_has_a_hint(text: str, hint: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        ImageName.parse(text, TRANSPORTS)
    assert hint in (caught.value.hint or "")
