"""What `imgtools verify` is told to trust, as the requirements that policies are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imgtools.cli.command import go_bool
from imgtools.errors import InvalidInput

if TYPE_CHECKING:
    from imgtools.sign.identity import IdentityRule
    from imgtools.sign.policies.model import (
        AnyIdentity,
        CertificateIdentity,
        KeylessTrust,
        Material,
        Requirement,
        TimedKey,
    )

F = TypeVar("F", bound=Callable[..., Any])

_CERTIFICATE = (
    "certificate_identity",
    "certificate_identity_regexp",
    "certificate_oidc_issuer",
    "certificate_oidc_issuer_regexp",
)


def trust_flags(function: F) -> F:
    """The options; cosign's names where cosign has them."""
    for option in (
        click.option("--key", "keys", multiple=True, type=click.Path(), metavar="PATH",
                     help="Trust signatures by the public key in PATH; any of several."),
        click.option("--rekor-key", "rekor_keys", multiple=True, type=click.Path(),
                     metavar="PATH",
                     help="With --key: ask for an entry in the log with this public key."),
        click.option("--certificate-identity", metavar="SUBJECT", default="",
                     help="Trust certificates of this e-mail address, URI or host."),
        click.option("--certificate-identity-regexp", metavar="REGEXP", default="",
                     help="The same by a regular expression, which has to match all of it."),
        click.option("--certificate-oidc-issuer", metavar="URL", default="",
                     help="Who has to have known the signer."),
        click.option("--certificate-oidc-issuer-regexp", metavar="REGEXP", default="",
                     help="The same by a regular expression, which has to match all of it."),
        click.option("--trusted-root", type=click.Path(), metavar="PATH",
                     help="The trusted_root.json of the sigstore (default: the public one). With "
                          "--key: ask for an entry in a log of it."),
        click.option("--gpg-keyring", "keyrings", multiple=True, type=click.Path(),
                     metavar="PATH", help="Trust simple signatures by the keys in PATH."),
        click.option("--attestation", metavar="TYPE", default="",
                     help="Verify an attestation of this type, not a signature: a URI, or a name "
                          "that `attest --type` knows."),
        click.option("--signed-identity", metavar="RULE", default="default",
                     help="Which signed names are accepted: default (as policy.json), exact, "
                          "repository, any, or a name (with tag) or repository."),
        click.option("--annotations", "said", multiple=True, metavar="NAME=VALUE",
                     help="What the signer has to have said (see sign --annotations); all of "
                          "several."),
        click.option("--format", "formats", default="any", metavar="FORMAT",
                     type=click.Choice(["any", "sigstore", "bundle"]),
                     help="With --key: only signatures in this format."),
        go_bool("--offline", hidden=True, help="Always so: nothing but the registry is asked."),
    ):  # fmt: skip
        function = option(function)
    return function


def wanted(kwargs: dict[str, Any]) -> tuple[Requirement, ...] | None:
    """What the options ask for, None for nothing: then it is the policy's to say.

    Several kinds of trust are alternatives. Raises InvalidInput for options that do not go
    together.
    """
    from imgtools.sign.policies.model import AnyOf

    if kwargs["attestation"]:
        from imgtools.sign.predicates import predicate_type

        kwargs["attestation"] = predicate_type(kwargs["attestation"])
    _check(kwargs)
    found: list[tuple[Requirement, ...]] = []
    if kwargs["keys"]:
        found.append((_by_key(kwargs),))
    if any(kwargs[name] for name in _CERTIFICATE):
        found.append((_by_certificate(kwargs),))
    if kwargs["keyrings"]:
        found.append((_by_gpg(kwargs),))
    if not found:
        return None
    return found[0] if len(found) == 1 else (AnyOf(alternatives=tuple(found)),)


def _check(kwargs: dict[str, Any]) -> None:
    certificate = [kwargs[name] for name in _CERTIFICATE]
    if kwargs["rekor_keys"] and not kwargs["keys"]:
        raise InvalidInput("--rekor-key needs --key")
    if kwargs["rekor_keys"] and kwargs["attestation"]:
        raise InvalidInput(
            "--rekor-key and --attestation cannot be given together",
            hint="--trusted-root asks for log entries of attestations",
        )
    if kwargs["trusted_root"] and not (kwargs["keys"] or any(certificate)):
        raise InvalidInput("--trusted-root needs --key or --certificate-identity")
    if kwargs["trusted_root"] and kwargs["rekor_keys"]:
        raise InvalidInput("--rekor-key and --trusted-root cannot be given together")
    if any(certificate):
        for exact, pattern, name in (
            (certificate[0], certificate[1], "--certificate-identity"),
            (certificate[2], certificate[3], "--certificate-oidc-issuer"),
        ):
            if bool(exact) == bool(pattern):
                raise InvalidInput(f"exactly one of {name} and {name}-regexp is needed")
    if kwargs["said"]:
        if kwargs["attestation"]:
            raise InvalidInput("--annotations are of signatures, not of attestations")
        if kwargs["rekor_keys"] or kwargs["keyrings"]:
            raise InvalidInput(
                "--annotations cannot be asked for with --rekor-key and --gpg-keyring",
                hint="--trusted-root asks for log entries of keys",
            )
        if not (kwargs["keys"] or any(certificate)):
            raise InvalidInput("--annotations needs --key or --certificate-identity")
    if kwargs["attestation"] and kwargs["keyrings"]:
        raise InvalidInput("--gpg-keyring has no attestations")
    if kwargs["attestation"] and not (kwargs["keys"] or any(certificate)):
        raise InvalidInput("--attestation needs --key or --certificate-identity")


def _by_key(kwargs: dict[str, Any]) -> Requirement:
    from imgtools.sign.policies.model import Attested, Material, Signed, SigstoreSigned, TimedKey

    paths, rule = kwargs["keys"], _identity(kwargs["signed_identity"])
    if kwargs["rekor_keys"]:
        from imgtools.sign.policies.model import AnyIdentity

        if isinstance(rule, AnyIdentity):
            raise InvalidInput("--rekor-key needs a name that was signed")
        return SigstoreSigned(
            trust=Material(field="--key", paths=paths),
            rekor=Material(field="--rekor-key", paths=kwargs["rekor_keys"]),
            identity=rule,
        )
    keys: tuple[TimedKey, ...] = tuple(
        TimedKey(key=Material(field="--key", paths=(path,))) for path in paths
    )
    log = _root(kwargs["trusted_root"]) if kwargs["trusted_root"] else None
    if kwargs["attestation"]:
        return Attested(predicate_type=kwargs["attestation"], trust=keys, log=log)
    return Signed(
        formats=_formats(kwargs),
        trust=keys,
        log=log,
        annotations=_said(kwargs),
        identity=rule,
    )


def _by_certificate(kwargs: dict[str, Any]) -> Requirement:
    from imgtools.sign.policies.model import (
        Attested,
        CertificateIdentity,
        KeylessTrust,
        Signed,
    )

    who: CertificateIdentity = CertificateIdentity(
        subject=kwargs["certificate_identity"],
        subject_regexp=kwargs["certificate_identity_regexp"],
        issuer=kwargs["certificate_oidc_issuer"],
        issuer_regexp=kwargs["certificate_oidc_issuer_regexp"],
    )
    trust: KeylessTrust = KeylessTrust(root=_root(kwargs["trusted_root"]), identities=(who,))
    if kwargs["attestation"]:
        return Attested(predicate_type=kwargs["attestation"], trust=trust)
    rule = _identity(kwargs["signed_identity"])
    return Signed(
        formats=_formats(kwargs),
        trust=trust,
        annotations=_said(kwargs),
        identity=rule,
    )


def _by_gpg(kwargs: dict[str, Any]) -> Requirement:
    from imgtools.sign.policies.model import AnyIdentity, Material, SignedBy

    rule = _identity(kwargs["signed_identity"])
    if isinstance(rule, AnyIdentity):
        raise InvalidInput("--gpg-keyring needs a name that was signed")
    keys = Material(field="--gpg-keyring", paths=kwargs["keyrings"])
    return SignedBy(key_type="GPGKeys", keys=keys, identity=rule)


def _said(kwargs: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    from imgtools.cli.sign_makers import annotations_of

    return tuple(annotations_of(kwargs["said"]).items())


def _formats(kwargs: dict[str, Any]) -> frozenset[str]:
    chosen = kwargs["formats"]
    return frozenset({"sigstore", "bundle"} if chosen == "any" else {chosen})


def _identity(text: str) -> IdentityRule | AnyIdentity:
    from imgtools.sign.identity import (
        ExactReference,
        ExactRepository,
        MatchExact,
        MatchRepoDigestOrExact,
        MatchRepository,
    )
    from imgtools.sign.policies.model import AnyIdentity
    from imgtools.spec.reference import Reference

    match text:
        case "default":
            return MatchRepoDigestOrExact()
        case "exact":
            return MatchExact()
        case "repository":
            return MatchRepository()
        case "any":
            return AnyIdentity()
    reference = Reference.parse(text, default_tag="")
    if reference.tag or reference.digest is not None:
        return ExactReference(reference=text)
    return ExactRepository(repository=text)


def _root(path: str | None) -> Material:
    """The trust root: the file that was named, or the public sigstore's, as it came with the
    sigstore package."""
    from imgtools.sign.policies.model import Material

    if path:
        return Material(field="--trusted-root", paths=(path,))
    from imgtools.sign.keyless.public_root import public_root

    return Material(field="the public sigstore's root", data=(public_root(),))
