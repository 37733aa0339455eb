"""The identity rules of containers-policy.json(5): which signed names an image may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.sign.identity import (
    ExactReference,
    ExactRepository,
    IdentityRule,
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    RemapIdentity,
    matches,
)
from imgtools.spec.reference import Reference

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
EXACT, DEFAULT, REPOSITORY = MatchExact(), MatchRepoDigestOrExact(), MatchRepository()
V1 = "h.example/ns/app:v1"
ALL_OF_AN_IMAGE = (EXACT, DEFAULT, REPOSITORY)


def verdict(rule: IdentityRule, image: str, signed: str) -> str | None:
    """`matches` for an image named as in a policy: without a tag that nobody wrote."""
    return matches(rule, Reference.parse(image, default_tag="") if image else None, signed)


def remap(prefix: str, signed: str) -> RemapIdentity:
    return RemapIdentity(prefix=prefix, signed_prefix=signed)


ACCEPTED = [
    ("exact-tag", EXACT, V1, V1),
    ("exact-digest", EXACT, f"h.example/ns/app@{A}", f"h.example/ns/app@{A}"),
    ("exact-familiar-names", EXACT, "busybox:1", "docker.io/library/busybox:1"),
    ("exact-signed-familiar", EXACT, "docker.io/library/busybox:1", "busybox:1"),
    ("exact-cosigns-docker-hub", EXACT, "busybox:1", "index.docker.io/library/busybox:1"),
    ("exact-tag-and-digest", EXACT, f"{V1}@{A}", V1),
    ("exact-both-signed", EXACT, f"{V1}@{A}", f"{V1}@{A}"),
    ("default-tag", DEFAULT, V1, V1),
    ("default-digest", DEFAULT, f"h.example/ns/app@{A}", f"h.example/ns/app@{A}"),
    ("default-digest-signed-by-tag", DEFAULT, f"h.example/ns/app@{A}", V1),
    ("default-digest-signed-by-another", DEFAULT, f"h.example/ns/app@{A}", f"h.example/ns/app@{B}"),
    ("default-tag-and-digest", DEFAULT, f"{V1}@{A}", V1),
    ("repository-other-tag", REPOSITORY, V1, "h.example/ns/app:v2"),
    ("repository-tagless", REPOSITORY, V1, "h.example/ns/app"),
    ("repository-image-tagless", REPOSITORY, "h.example/ns/app", V1),
    ("reference-elsewhere", ExactReference(reference=V1), "mirror.example/x:y", V1),
    ("reference-no-registry", ExactReference(reference=V1), "", V1),
    ("reference-with-its-digest", ExactReference(reference=f"{V1}@{A}"), "", f"{V1}@{A}"),
    (
        "reference-familiar",
        ExactReference(reference="busybox:1"),
        "",
        "docker.io/library/busybox:1",
    ),
    (
        "repository-elsewhere",
        ExactRepository(repository="h.example/ns/app"),
        "mirror.example/x:y",
        V1,
    ),
    ("repository-of-a-tag", ExactRepository(repository=V1), "", "h.example/ns/app"),
    ("remap-namespace", remap("mirror.example/m", "h.example/ns"), "mirror.example/m/app:v1", V1),
    ("remap-name", remap("mirror.example/m", "h.example/ns/app"), "mirror.example/m:v1", V1),
    ("remap-host", remap("mirror.example", "h.example"), "mirror.example/ns/app:v1", V1),
    ("remap-host-port", remap("mirror:5000", "h.example"), "mirror:5000/ns/app:v1", V1),
    ("remap-once", remap("a.b", "a.b/a.b"), "a.b/x:v1", "a.b/a.b/x:v1"),
    ("remap-does-not-apply", remap("mirror.example", "h.example"), V1, V1),
    ("remap-digest", remap("m.example", "h.example"), f"m.example/ns/app@{A}", V1),
    ("remap-to-hub", remap("m.example", "docker.io/library"), "m.example/b:1", "b:1"),
]

REFUSED = [
    ("exact-other-tag", EXACT, V1, "h.example/ns/app:v2"),
    ("exact-by-digest-signed-by-tag", EXACT, f"h.example/ns/app@{A}", V1),
    ("exact-by-tag-signed-by-digest", EXACT, V1, f"h.example/ns/app@{A}"),
    ("exact-both-bare", EXACT, "h.example/ns/app", "h.example/ns/app"),
    ("exact-signed-bare", EXACT, V1, "h.example/ns/app"),
    ("exact-case", EXACT, V1, "h.example/ns/app:V1"),
    ("exact-host-case", EXACT, V1, "H.example/ns/app:v1"),
    ("default-image-bare", DEFAULT, "h.example/ns/app", V1),
    ("default-digest-other-repository", DEFAULT, f"h.example/ns/app@{A}", "h.example/ns/b:v1"),
    ("default-digest-signed-bare", DEFAULT, f"h.example/ns/app@{A}", "h.example/ns/app"),
    ("default-tag-and-digest-other-tag", DEFAULT, f"{V1}@{A}", "h.example/ns/app:v2"),
    ("default-tag-and-digest-other-digest", DEFAULT, f"{V1}@{A}", f"{V1}@{B}"),
    ("default-tag-and-digest-by-digest", DEFAULT, f"{V1}@{A}", f"h.example/ns/app@{A}"),
    ("latest-is-not-added", DEFAULT, "h.example/a:latest", "h.example/a"),
    ("reference-other-tag", ExactReference(reference=V1), V1, "h.example/ns/app:v2"),
    ("reference-without-its-digest", ExactReference(reference=f"{V1}@{A}"), f"{V1}@{B}", V1),
    ("reference-of-its-digest-alone", ExactReference(reference=f"{V1}@{A}"), V1, f"{V1}@{B}"),
    ("reference-bare", ExactReference(reference="h.example/a"), "", "h.example/a"),
    ("reference-malformed", ExactReference(reference="h.example/A"), "", V1),
    ("repository-other", ExactRepository(repository="h.example/ns/app"), V1, "h.example/b:v1"),
    ("remap-is-not-a-substring", remap("example", "h"), "h.example/a:v1", "h.h/a:v1"),
    ("remap-applies-so-own-name-fails", remap("h.example", "o.example"), V1, V1),
    ("remap-to-a-short-name", remap("m.example/x", "docker.io"), "m.example/x/b:1", "b:1"),
    ("remap-to-nonsense", remap("m.example", "h.example/UP"), "m.example/b:1", "h.example/b:1"),
]


@pytest.mark.parametrize(
    ("rule", "image", "signed"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED]
)
def test_accepted(rule: IdentityRule, image: str, signed: str) -> None:
    assert verdict(rule, image, signed) is None


@pytest.mark.parametrize(
    ("rule", "image", "signed"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(rule: IdentityRule, image: str, signed: str) -> None:
    assert verdict(rule, image, signed)


@pytest.mark.parametrize("rule", ALL_OF_AN_IMAGE)
def test_s01_signature_replayed_in_another_repository(rule: IdentityRule) -> None:
    assert "h.example/ns/app" in (verdict(rule, "h.example/ns/other:v1", V1) or "")


@pytest.mark.parametrize("rule", [EXACT, DEFAULT])
def test_s02_other_tag_under_the_default(rule: IdentityRule) -> None:
    assert verdict(rule, V1, "h.example/ns/app:v2") == (
        "the signature is for h.example/ns/app:v2, not for h.example/ns/app:v1"
    )


def test_s03_signed_without_a_tag_under_the_default() -> None:
    assert "without a tag" in (verdict(DEFAULT, V1, "h.example/ns/app") or "")
    assert "without a tag" in (verdict(DEFAULT, "h.example/ns/app", "h.example/ns/app") or "")


def test_s04_rollback_to_what_the_tag_was() -> None:
    old = "h.example/ns/app:v1"
    assert verdict(DEFAULT, "h.example/ns/app:v2", old) is not None
    assert verdict(EXACT, "h.example/ns/app:v2", old) is not None


def test_s05_repository_is_enough_only_if_policy_says_so() -> None:
    other = "h.example/ns/app:other"
    assert verdict(REPOSITORY, V1, other) is None
    assert verdict(ExactRepository(repository="h.example/ns/app"), V1, other) is None
    assert verdict(DEFAULT, V1, other) is not None


def test_s06_tag_and_digest_signed_of_a_tagged_image() -> None:
    for rule in (EXACT, DEFAULT, ExactReference(reference=V1)):
        assert verdict(rule, V1, f"{V1}@{A}") is not None


def test_s07_prefixes_end_at_a_slash() -> None:
    rule = remap("h.example/ns", "o.example/ns")
    assert verdict(rule, "h.example/ns/a:v1", "o.example/ns/a:v1") is None
    assert verdict(rule, "h.example/nsx/a:v1", "o.example/nsx/a:v1") is not None
    assert verdict(rule, "h.example/ns-a:v1", "o.example/ns-a:v1") is not None


@pytest.mark.parametrize("rule", [*ALL_OF_AN_IMAGE, remap("h.example", "o.example")])
def test_s08_port_is_part_of_the_host(rule: IdentityRule) -> None:
    assert verdict(rule, "h.example:5000/ns/app:v1", V1) is not None
    assert verdict(rule, "h.example:5000/ns/app:v1", "o.example:5000/ns/app:v1") is not None


@pytest.mark.parametrize("rule", [*ALL_OF_AN_IMAGE, remap("h.example", "o.example")])
def test_s09_images_outside_registries_have_no_name(rule: IdentityRule) -> None:
    assert "not in a registry" in (verdict(rule, "", V1) or "")


@pytest.mark.parametrize(
    "rule",
    [
        *ALL_OF_AN_IMAGE,
        remap("h.example", "h.example"),
        ExactReference(reference=V1),
        ExactRepository(repository=V1),
    ],
)
def test_s10_signature_without_a_name_matches_nothing(rule: IdentityRule) -> None:
    assert verdict(rule, V1, "") == "the signature names no image"
    assert verdict(rule, "", "") == "the signature names no image"


@pytest.mark.parametrize(
    "signed", ["UP", "a b", V1 + " ", ":v1", "h.example/a@sha512:0", "a" * 300]
)
def test_names_that_are_none_match_nothing(signed: str) -> None:
    for rule in (*ALL_OF_AN_IMAGE, ExactReference(reference=V1), remap("h.example", "o")):
        assert "invalid reference" in (verdict(rule, V1, signed) or "")


NAMES = st.sampled_from(
    [V1, "h.example/ns/app", f"h.example/ns/app@{A}", "h.example/ns/app:v2", "busybox", "a/b:c"]
)
RULES = st.one_of(
    st.sampled_from(ALL_OF_AN_IMAGE),
    st.builds(ExactReference, reference=NAMES | st.text(max_size=20)),
    st.builds(ExactRepository, repository=NAMES | st.text(max_size=20)),
    st.builds(
        RemapIdentity,
        prefix=st.sampled_from(["h.example", "h.example/ns"]) | st.text(max_size=9),
        signed_prefix=st.text(max_size=20) | st.just("o.example"),
    ),
)


@given(RULES, st.none() | NAMES, NAMES | st.text(max_size=40))
def test_anything_is_decided_and_only_the_same_repository_matches(
    rule: IdentityRule, image: str | None, signed: str
) -> None:
    reason = verdict(rule, image or "", signed)
    if reason is not None:
        assert reason
    elif rule in ALL_OF_AN_IMAGE:
        assert image is not None
        assert Reference.parse(image).name == Reference.parse(signed).name
