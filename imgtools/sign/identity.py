"""signedIdentity: whether the name that was signed is one that the image may have.

The rules are those of containers-policy.json(5), "signedIdentity"; the names are docker
references, compared after docker's normalisation and never completed with a tag. A refusal is
told in words, because "not accepted" alone helps nobody who set up a policy.
"""

from __future__ import annotations

from dataclasses import replace

from imgtools.errors import InvalidReference
from imgtools.frozen import dataclass
from imgtools.spec.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchExact:
    """matchExact: the very reference of the image, with its tag or its digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRepoDigestOrExact:
    """matchRepoDigestOrExact, the default: the very reference of an image that is named by
    tag, any reference of the repository for one that is named by digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRepository:
    """matchRepository: any reference of the image's repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactReference:
    """exactReference: this reference, wherever the image is."""

    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactRepository:
    """exactRepository: any reference of this repository, wherever the image is."""

    repository: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemapIdentity:
    """remapIdentity: as the default, after the name or namespace `prefix` of the image is
    replaced by `signed_prefix`."""

    prefix: str
    signed_prefix: str


IdentityRule = (
    MatchExact
    | MatchRepoDigestOrExact
    | MatchRepository
    | ExactReference
    | ExactRepository
    | RemapIdentity
)


NAMES_NOTHING = "the signature names no image"
"""The reason for what cosign's bundles say: a digest, and no name."""

WITHOUT_TAG = "without a tag or a digest"
"""In the reason for what cosign's attachments say: the name of a repository."""


BY_DIGEST = "by its digest alone"
"""In the reason for a name that has a digest in place of the tag that was asked for."""

ELSEWHERE = "another repository"
"""In the reason for a signature by the name of another repository, as copies have it."""

NAMELESS = "an image that is not in a registry has no name"
"""In the reason for a name that has nothing to be compared with."""


def matches(rule: IdentityRule, image: Reference | None, signed: str) -> str | None:
    """None when `signed` is a name that `rule` admits for `image`, else the reason in words.

    `image` is the logical reference of the image, None for one that has none (dir:, oci: and
    the like); `signed` is the docker-reference of a signature, "" where it names nothing.
    Never raises: what cannot be parsed does not match.
    """
    if not signed:
        return NAMES_NOTHING
    try:
        name = Reference.parse(signed, default_tag="")
    except InvalidReference as e:
        return f"the signed name is an {e.message}"
    match rule:
        case ExactReference(reference=text):
            return _given(text, name, exact=True)
        case ExactRepository(repository=text):
            return _given(text, name, exact=False)
    if image is None:
        return f"the signature is for {name}, and {NAMELESS} to compare with it"
    match rule:
        case MatchExact():
            return _exact(image, name)
        case MatchRepository():
            return _repository(image, name)
        case RemapIdentity():
            return _remapped(rule, image, name)
        case MatchRepoDigestOrExact():
            return _repo_digest_or_exact(image, name)


def _given(text: str, signed: Reference, *, exact: bool) -> str | None:
    try:
        wanted = Reference.parse(text, default_tag="")
    except InvalidReference as e:
        return f"the name that the policy asks for is an {e.message}"
    if not exact:
        return _repository(wanted, signed)
    why = _exact(wanted, signed)
    if why is None and wanted != signed:
        # Unlike that of an image, a digest that a policy asks for was held against nothing.
        return f"the signature is for {signed}, not for {wanted}"
    return why


def _exact(image: Reference, signed: Reference) -> str | None:
    if _bare(signed):
        return f"the signature is for the repository {signed}, {WITHOUT_TAG}"
    if _bare(image):
        return f"{image} has neither a tag nor a digest"
    if _same(image, signed):
        return None
    if signed.name != image.name:
        return f"the signature is for {signed}, not for {image} ({ELSEWHERE})"
    alone = f" {BY_DIGEST}," if image.tag and not signed.tag else ""
    return f"the signature is for {signed},{alone} not for {image}"


def _repo_digest_or_exact(image: Reference, signed: Reference) -> str | None:
    if image.tag or _bare(signed) or _bare(image):
        return _exact(image, signed)
    # The digest is not compared: the manifest was held against the image's digest, and the
    # signature's digest against the manifest.
    return _repository(image, signed)


def _repository(image: Reference, signed: Reference) -> str | None:
    if signed.name == image.name:
        return None
    return f"the signature is for {signed.name}, not for {image.name} ({ELSEWHERE})"


def _remapped(rule: RemapIdentity, image: Reference, signed: Reference) -> str | None:
    text = str(image)
    if image.name == rule.prefix or image.name.startswith(f"{rule.prefix}/"):
        text = rule.signed_prefix + text[len(rule.prefix) :]
    try:
        remapped = Reference.parse(text, default_tag="")
    except InvalidReference as e:
        return f"{image} becomes an {e.message}"
    # As in containers/image, a prefix must lead to a whole name, not to a short one.
    if str(remapped) != text:
        return f"{image} becomes {text}, which is short for {remapped}"
    return _repo_digest_or_exact(remapped, signed)


def _same(image: Reference, signed: Reference) -> bool:
    """Equal references; of an image that is named by tag and digest, which our peers do not
    know, the digest was checked already, so that the tag is what is compared."""
    if image.tag and signed.digest is None:
        image = replace(image, digest=None)
    return image == signed


def _bare(reference: Reference) -> bool:
    return not reference.tag and reference.digest is None
