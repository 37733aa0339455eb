"""What places of signatures answer, and how `copy` under a policy and `verify` end (case 61).

Only the answer that there is nothing means that an image is not signed: everything else is an
error that says what was answered. No image is copied in either case. `verify` ends with 1 for
what is not signed and with 3 where nobody can tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import pytest

from imgtools.testing import images
from tests.bad_input import PLAIN, QUICK, Outcome, cli
from tests.sign.attest_rig import new_key
from tests.sign.ground import Ground, ground, tag_of
from tests.sign.openpgp_home import Keys
from tests.sign.web import Reply, web_server

IMAGE = images.random_image("verdicts", layers=1)
Place = Literal["attachment", "referrers", "lookaside"]
PAGE = b"<!doctype html><title>Sign in</title>"


@dataclass(frozen=True)
class Row:
    """An answer: its status and body, whether it says that there is nothing, and a word that
    the error has if not."""

    status: int
    body: bytes = b""
    absent: bool = False
    word: str = ""


def refusal(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


ANSWERS = {
    "401": Row(401, refusal("UNAUTHORIZED", "who are you"), word="401"),
    "403": Row(403, refusal("DENIED", "not for you"), word="403"),
    "404": Row(404, refusal("MANIFEST_UNKNOWN", "no such manifest"), absent=True),
    "404-page": Row(404, PAGE, absent=True),
    "404-empty": Row(404, absent=True),
    "429": Row(429, refusal("TOOMANYREQUESTS", "slow down"), word="429"),
    "500": Row(500, refusal("UNKNOWN", "not found, or something"), word="500"),
    "503-page": Row(503, PAGE, word="503"),
    "302-to-a-page": Row(302, word=""),
    "200-page": Row(200, PAGE),
    "200-empty": Row(200),
    "200-json": Row(200, b"{}"),
}


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Tries as ever, without the waits; for web servers of lookaside storage too."""
    with mock.patch("imgtools.sign.stores.lookaside_web.RetryPolicy", return_value=QUICK):
        yield


def answered(place: Ground, where: str, row: Row) -> None:
    """Have the registry answer so, and with a page where it redirects to."""
    kind = "text/html" if row.body.startswith(b"<") or not row.body else "application/json"
    redirect = {"redirect": f"{place.registry.url}/login"} if row.status == 302 else {}
    place.registry.fail(
        path=where, status=row.status, body=row.body, headers={"Content-Type": kind}, **redirect
    )
    place.registry.fail(path="/login", status=200, body=PAGE, headers={"Content-Type": "text/html"})


def ended(row: Row, copy: Outcome, verify: Outcome) -> None:
    """Both commands say the same of an answer."""
    assert (copy.code, verify.code) == (1, 1 if row.absent else 3), (copy.err, verify.err)
    assert ("a signature was required, and there is no" in copy.err) is row.absent, copy.err
    assert ("is not signed" in verify.err) is row.absent, verify.err
    for done in (copy, verify):
        assert row.word in done.err
        assert done.out == b""
        assert all(line.startswith("imgtools: ") for line in done.err.splitlines())


@pytest.mark.parametrize("answer", ANSWERS)
def test_s61_answers_for_attachments(tmp_path: Path, answer: str) -> None:
    row = ANSWERS[answer]
    with ground(tmp_path, IMAGE) as place:
        place.sign(IMAGE.top.digest)
        answered(place, tag_of(IMAGE.top.digest), row)
        copy, verify = place.copy(), place.verify("--format", "sigstore")
        ended(row, copy, verify)
        assert not place.copied.tags
        assert not place.copied.blobs


@pytest.mark.parametrize("answer", ANSWERS)
def test_s61_answers_for_referrers(tmp_path: Path, answer: str) -> None:
    """404, a page, and JSON that is no list mean that there is no such API: then the fallback
    tag has the word, which says that there is nothing, and no page is taken for that."""
    row = ANSWERS[answer]
    unknown = row.status in (200, 302, 404)
    companion = tmp_path / "companion.json"
    with ground(tmp_path, IMAGE) as place:
        requirement = place.signer.requirement()
        key = {"keyData": requirement["keyData"]}
        wanted = {"type": "signed", "formats": ["bundle"], "keys": [key]}
        companion.write_text(json.dumps({"default": [wanted]}))
        answered(place, "/referrers/", row)
        copy = cli(
            tmp_path, "--policy", str(place.policy()), "--policy-companion", str(companion),
            "copy", "-q", "--src-tls-verify=false", place.name, f"dir:{tmp_path}/copy",
        )  # fmt: skip
        ended(replace(row, absent=unknown), copy, place.verify("--format", "bundle"))
        assert not (tmp_path / "copy").exists()
        if unknown and not row.absent:
            answered(place, f"/manifests/sha256-{IMAGE.top.digest.hex}$", row)
            assert place.verify("--format", "bundle").code == 3


@pytest.mark.parametrize("answer", [name for name in ANSWERS if name != "200-json"])
def test_s61_answers_for_lookaside_storage(tmp_path: Path, answer: str, gpg_keys: Keys) -> None:
    """A page where a signature should be is no signature, and the end of the reading."""
    row = ANSWERS[answer]
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(gpg_keys.public["p256"])

    def reply(request: Any) -> Reply:
        if request.path == "/login":
            return Reply(200, PAGE, {"Content-Type": "text/html"})
        kind = {"Content-Type": "text/html"}
        return Reply(row.status, row.body, {**kind, "Location": "/login"})

    with ground(tmp_path, IMAGE) as place, web_server(reply) as server:
        (tmp_path / "registries.d").mkdir()
        (tmp_path / "registries.d" / "a.yaml").write_text(
            f"default-docker:\n  lookaside: http://{server}/signatures\n"
        )
        where = ("--registries.d", str(tmp_path / "registries.d"))
        gpg = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(ring)}
        copy = cli(
            tmp_path, *where, "--policy", str(place.policy(gpg)), "copy", "-q",
            "--src-tls-verify=false", place.name, f"dir:{tmp_path}/copy",
        )  # fmt: skip
        verify = cli(tmp_path, *where, "verify", PLAIN, "--gpg-keyring", str(ring), place.name)
        copy = Outcome(copy.code, copy.out, without_warnings(copy.err))
        ended(row, copy, Outcome(verify.code, verify.out, without_warnings(verify.err)))
        assert not (tmp_path / "copy").exists()


def without_warnings(text: str) -> str:
    """What is not about a page in the place of a signature."""
    return "".join(line for line in text.splitlines(keepends=True) if "warning:" not in line)


def test_s61_a_registry_that_is_gone_says_nothing(tmp_path: Path) -> None:
    """Cut off in the middle of the signatures: no verdict either."""
    with ground(tmp_path, IMAGE) as place:
        place.sign(IMAGE.top.digest)
        place.registry.fail(path=r"\.sig", cut_headers=True)
        assert place.verify("--format", "sigstore").code == 3
        done = place.copy()
        assert done.code == 1
        assert "is not admitted" not in done.err


def test_s61_signatures_that_cannot_be_read_do_not_hide_behind_others(tmp_path: Path) -> None:
    """A good signature in one place is enough, and nobody asks the other then."""
    with ground(tmp_path, IMAGE) as place:
        place.sign(IMAGE.top.digest)
        answered(place, "/referrers/", ANSWERS["500"])
        assert place.copy().code == 0
        # What is shown is all there is, and so all has to be read.
        assert place.verify().code == 3


@pytest.mark.parametrize("what", ["link", "directory"])
def test_s61_lookaside_storage_that_is_no_files(tmp_path: Path, what: str, gpg_keys: Keys) -> None:
    """What stands in the place of a signature and cannot be read is not nothing."""
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(gpg_keys.public["p256"])
    with ground(tmp_path, IMAGE) as place:
        (tmp_path / "registries.d").mkdir()
        (tmp_path / "registries.d" / "a.yaml").write_text(
            f"default-docker:\n  lookaside: file://{tmp_path}/signatures\n"
        )
        file = tmp_path / f"signatures/app@sha256={IMAGE.top.digest.hex}/signature-1"
        file.parent.mkdir(parents=True)
        if what == "link":
            file.symlink_to(ring)
        else:
            file.mkdir()
        done = cli(
            tmp_path, "--registries.d", tmp_path / "registries.d", "verify", PLAIN,
            "--gpg-keyring", ring, place.name,
        )  # fmt: skip
        done.refused("signature-1", code=3)


def test_s61_no_time_to_find_out_is_no_verdict(tmp_path: Path) -> None:
    with ground(tmp_path, IMAGE) as place:
        place.sign(IMAGE.top.digest)
        place.registry.fail(path=r"\.sig", stall=1000)
        _, public = new_key(tmp_path, "some")
        done = cli(
            tmp_path, "--command-timeout", "300ms", "verify", PLAIN, "--key", public, place.name
        )
        done.refused("the command took longer than 0.3 seconds", code=3)
