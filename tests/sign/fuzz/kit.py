"""Who signs what is changed, and what may be admitted: a ledger, and an own reading of claims."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from imgtools.sign.model import Verified
from imgtools.sign.policies.evaluate import Verdict
from imgtools.spec.digest import Digest
from tests.sign.judging import DIGEST, NAME, Signer

OTHER_DIGEST = Digest.of(b"another manifest")
OTHER_NAME = "registry.example/ns/other:v1"
SIGN_TYPE = "https://sigstore.dev/cosign/sign/v1"


class Target(Protocol):
    """One kind of thing that is changed."""

    def one(self, random: Random) -> bool:
        """Change one and have it judged; whether it was admitted, which it has to deserve.

        Raises AssertionError for what must not be admitted; an imgtools.errors.Error is a
        refusal, and everything else is a fault.
        """
        ...


@dataclass
class Ledger:
    """What somebody signed: the bytes."""

    signer: Signer = field(default_factory=Signer)
    signed: set[bytes] = field(default_factory=set)

    def sign(self, content: bytes) -> bytes:
        """A signature of what is noted."""
        self.signed.add(content)
        return self.signer.raw(content)

    def text(self, content: bytes) -> str:
        """The same in base64."""
        return base64.b64encode(self.sign(content)).decode()


class Twice(ValueError):
    """A key that is there twice."""


def read_once(content: bytes) -> Any:
    """JSON as Python reads it, refusing a key that is there twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise Twice
        return dict(pairs)

    return json.loads(content.decode("utf-8", "replace"), object_pairs_hook=unique)


def says_it_is(payload: bytes, *, kind: str = "cosign container image signature") -> bool:
    """Whether a payload says that DIGEST is NAME, and nothing else that is critical."""
    value = read_once(payload)
    return bool(
        value.keys() == {"critical", "optional"}
        and value["critical"]
        == {
            "identity": {"docker-reference": NAME},
            "image": {"docker-manifest-digest": str(DIGEST)},
            "type": kind,
        }
    )


def states_it_is(payload: bytes) -> bool:
    """Whether a statement signs DIGEST as NAME."""
    value = read_once(payload)
    (subject,) = value["subject"]
    return bool(
        value["predicateType"] == SIGN_TYPE
        and value["_type"]
        in ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
        and subject["digest"]["sha256"] == DIGEST.hex
        and subject["annotations"]["docker-reference"] == NAME
    )


def accepted(verdict: Verdict) -> tuple[Verified, ...]:
    """What a verdict was given for; an admission without anything is a fault."""
    if verdict.admitted:
        assert verdict.verified, "admitted, and by no signature"
        return verdict.verified
    return ()
