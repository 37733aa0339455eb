"""What `imgtools verify` shows: every manifest, every signature that holds, and why others do
not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgtools.cli.text import one_line

if TYPE_CHECKING:
    from imgtools.sign.model import Verified
    from imgtools.sign.policies.evaluate import Verdict
    from imgtools.sign.verify import Verification


def as_text(name: str, found: Verification, good: bool) -> tuple[str, list[str]]:
    """What goes to standard output, and the lines of the error if it is not `good`."""
    lines = []
    for descriptor, verdict in zip(found.manifests.all, found.verdicts, strict=True):
        for verified in verdict.verified:
            lines.append(one_line(f"{descriptor.digest}  {_signer(verified)}"))
    if good:
        head = f"verified {name} {found.pinned}\n"
        return head + "".join(f"  {line}\n" for line in lines), []
    kind = "is not signed" if found.unsigned else "is not verified"
    err = [f"{name} {kind}: {found.manifests.top.digest}"]
    for descriptor, verdict in zip(found.manifests.all, found.verdicts, strict=True):
        err += [f"{descriptor.digest}: {why}" for why in _reasons(verdict)]
    err += dict.fromkeys(hint for verdict in found.verdicts for hint in _hints(verdict))
    return "".join(f"{line}\n" for line in lines), err


def to_json(name: str, found: Verification, good: bool) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "image": name,
        "digest": str(found.pinned),
        "verified": good,
        "signed": not found.unsigned,
        "manifests": [
            {
                "digest": str(descriptor.digest),
                "mediaType": descriptor.media_type,
                "platform": str(descriptor.platform) if descriptor.platform else None,
                "verified": verdict.admitted,
                "signatures": [_json(verified) for verified in verdict.verified],
                "rejected": _reasons(verdict),
            }
            for descriptor, verdict in zip(found.manifests.all, found.verdicts, strict=True)
        ],
    }


def _json(found: Verified) -> dict[str, Any]:
    proof, claim = found.proof, found.claim
    from imgtools.sign.bundle_checks import attested_statement

    statement = attested_statement(found)
    attested = (
        {}
        if statement is None
        else {
            "predicateType": statement.predicate_type,
            "predicate": statement.predicate,
        }
    )
    return {
        "format": found.signature.format,
        "identity": claim.reference or None,
        "kind": proof.kind,
        "key": proof.key or None,
        "subject": proof.subject or None,
        "issuer": proof.issuer or None,
        "time": proof.time.strftime("%Y-%m-%dT%H:%M:%SZ") if proof.time else None,
        "creator": claim.creator or None,
        "timestamp": claim.timestamp,
        "annotations": dict(claim.annotations),
        "where": found.signature.where or None,
        **attested,
    }


def predicates(found: Verification) -> list[str]:
    """The predicates of the attestations that hold, each on a line of its own, as JSON."""
    import json

    from imgtools.sign.bundle_checks import attested_statement

    statements = (attested_statement(v) for verdict in found.verdicts for v in verdict.verified)
    return [json.dumps(each.predicate) for each in statements if each is not None]


def _signer(found: Verified) -> str:
    proof = found.proof
    match proof.kind:
        case "certificate":
            who = f"{proof.subject} (issuer {proof.issuer})"
        case "gpg":
            who = f"GPG key {proof.key}"
        case _:
            who = f"key sha256:{proof.key}"
    from imgtools.sign.bundle_checks import attested_statement

    statement = attested_statement(found)
    when = f", logged {proof.time:%Y-%m-%dT%H:%M:%SZ}" if proof.time else ""
    if statement is not None:
        return f"attested by {who}: {statement.predicate_type} ({_format(found)}{when})"
    return f"signed by {who} as {found.claim.reference or 'no name'} ({_format(found)}{when})"


def _format(found: Verified) -> str:
    """The format, by the name that makes it: `attest --format` calls envelopes attachments."""
    from imgtools.sign.stores.attachment import DSSE_LAYER

    media_type = getattr(found.signature, "media_type", "")
    return "attachment" if media_type == DSSE_LAYER else found.signature.format


def _hints(verdict: Verdict) -> list[str]:
    """What to do about signatures that hold, and name less than is asked for, as cosign's do,
    or another name, as those of copies do."""
    from imgtools.sign.identity import BY_DIGEST, ELSEWHERE, NAMELESS, NAMES_NOTHING, WITHOUT_TAG
    from imgtools.sign.verify import COMMAND_LINE

    if verdict.chosen.origin != COMMAND_LINE:
        return []
    reasons = " ".join(_reasons(verdict))
    found = []
    if WITHOUT_TAG in reasons or BY_DIGEST in reasons:
        found.append("--signed-identity repository accepts a name without a tag")
    if NAMES_NOTHING in reasons:
        found.append("--signed-identity any accepts a signature that names only the digest")
    if ELSEWHERE in reasons or NAMELESS in reasons:
        found.append("--signed-identity NAME:TAG accepts what was signed by that name, if copied")
    return found


def _reasons(verdict: Verdict) -> list[str]:
    return [
        f"{outcome.requirement}: {why}" for outcome in verdict.outcomes for why in outcome.reasons
    ]
