"""`imgtools attest`: what is made, who verifies it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import Error, InvalidInput
from imgtools.sign.bundles.parse import parse_bundle, parse_envelope
from imgtools.sign.bundles.statement import COSIGN_SIGN, Statement, parse_statement
from imgtools.sign.model import ATTESTATION_LIMIT, BUNDLE_MEDIA_TYPE, PAYLOAD_LIMIT
from imgtools.sign.predicates import (
    CUSTOM,
    PREDICATE_LIMIT,
    PREDICATE_TYPES,
    Predicate,
    attestation,
    predicate_type,
    read_predicate,
    says_the_same,
)
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.digest_tag import subject_of_tag
from imgtools.spec.manifest import Manifest, parse
from imgtools.testing.dialects import DISTRIBUTION_2, Dialect
from tests.bad_input import PLAIN, cli
from tests.sign.attest_rig import SLSA, SPDX, Rig, new_key, rig
from tests.sign.ground import HERE, IMAGE, INDEX
from tests.sign.keyless_rig import Keyless, keyless

NO_API = Dialect(referrers="404-text", subject=False)
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
DIGEST = Digest.of(b"a manifest")
SPDX_TYPE = PREDICATE_TYPES["spdx"]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Rig]:
    """An image of which nobody has said anything."""
    with rig(tmp_path, IMAGE) as found:
        yield found


def bundles(found: Rig) -> list[bytes]:
    """All bundles of the repository."""
    contents = []
    for raw in found.repository.manifests.values():
        view = parse(raw)
        if isinstance(view, Manifest) and view.artifact_type == BUNDLE_MEDIA_TYPE:
            contents.append(found.repository.blobs[view.layers[0].digest])
    return contents


def envelopes(found: Rig) -> list[bytes]:
    """What is at the image's tag .att."""
    there = found.repository
    tag = f"sha256-{found.digest.hex}.att"
    view = parse(there.manifests[there.tags[tag]])
    assert isinstance(view, Manifest)
    return [there.blobs[layer.digest] for layer in view.layers]


def statement_in(bundle: bytes) -> Statement:
    envelope = parse_bundle(bundle).envelope
    assert envelope is not None
    return parse_statement(envelope.payload)


# --- predicates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*PREDICATE_TYPES, "https://example.test/p", "urn:a:b"])
def test_types_are_names_or_uris(kind: str) -> None:
    assert predicate_type(kind) == PREDICATE_TYPES.get(kind, kind)


@pytest.mark.parametrize(
    "kind",
    ["", "slsa", "SPDX", "example.test/p", "https:// x", "a:\n", "https://x/é", "a:" + "b" * 2048],
)
def test_other_types_are_refused(kind: str) -> None:
    with pytest.raises(InvalidInput, match="no type of attestation"):
        predicate_type(kind)


def test_a_signature_is_not_attested() -> None:
    """Whoever may attest something could sign images with it."""
    with pytest.raises(InvalidInput, match="type of signatures"):
        predicate_type(COSIGN_SIGN)


def test_custom_keeps_the_document_as_cosign_does() -> None:
    found = read_predicate(b' {"a": 1}\n', "custom", NOW)
    assert found.type == CUSTOM
    assert dict(found.body) == {"Data": ' {"a": 1}\n', "Timestamp": "2026-11-22T10:00:00Z"}


@pytest.mark.parametrize(
    "content",
    [b'{"a":[' + b"[],[]," * 500_000 + b"0]}",
     b"", b"{", b"[]", b'"text"', b"null", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff", b"{} {}",
     b"[" * 100_000, b'{"a":"' + b"x" * PREDICATE_LIMIT + b'"}', b'{"a":1e999}'],
    ids=lambda content: repr(content[:12]),
)  # fmt: skip
def test_predicates_that_are_no_objects_are_refused(content: bytes) -> None:
    with pytest.raises(Error):
        attestation(read_predicate(content, "https://example.test/p", NOW), DIGEST, "a")


def test_tag_value_documents_are_sent_elsewhere() -> None:
    with pytest.raises(Error) as caught:
        read_predicate(b"SPDXVersion: SPDX-2.3\n", "spdx", NOW)
    assert "SBOM" in (caught.value.hint or "")


def test_halves_of_surrogate_pairs_are_refused() -> None:
    """They would become other characters on the way."""
    predicate = read_predicate(b'{"a":"\\ud800"}', "https://example.test/p", NOW)
    with pytest.raises(InvalidInput, match="surrogate"):
        attestation(predicate, DIGEST, "a")


def test_statements_name_the_repository_and_the_digest() -> None:
    content = attestation(Predicate(type="https://example.test/p", body=SLSA), DIGEST, "h/app")
    assert json.loads(content) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "h/app", "digest": {"sha256": DIGEST.hex}}],
        "predicateType": "https://example.test/p",
        "predicate": SLSA,
    }


def test_custom_statements_are_alike_whenever_they_were_made() -> None:
    def made_at(text: bytes, when: datetime) -> Statement:
        return parse_statement(attestation(read_predicate(text, "custom", when), DIGEST, "a"))

    first, later = made_at(b"{}", NOW), made_at(b"{}", NOW.replace(year=2027))
    assert says_the_same(first, later)
    assert not says_the_same(first, made_at(b"[]", NOW))


# --- bundles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dialect", [Dialect(), NO_API, DISTRIBUTION_2], ids=["api", "fallback", "2.8"]
)
def test_a_bundle_is_verified_and_printed(tmp_path: Path, dialect: Dialect) -> None:
    with rig(tmp_path, IMAGE, dialect) as found:
        done = found.attest()
        assert done.code == 0, done.err
        assert done.out.decode() == f"attested  {found.digest}  bundle  {SPDX_TYPE}\n"
        for kind in ("spdx", "spdxjson", SPDX_TYPE):
            assert found.verify("--attestation", kind).code == 0
        printed = found.verify("--attestation", "spdx", "--predicate")
        assert [json.loads(line) for line in printed.out.splitlines()] == [SPDX]
        (signature,) = json.loads(found.verify("--attestation", "spdx", "--json").out)["manifests"][
            0
        ]["signatures"]
        assert (signature["predicateType"], signature["predicate"]) == (SPDX_TYPE, SPDX)


def test_s59_an_attestation_is_no_signature(made: Rig) -> None:
    assert made.attest().code == 0
    assert made.attest("--format", "attachment").code == 0
    made.verify("--signed-identity", "any").refused("is not signed", lines=2)
    made.verify("--attestation", "cyclonedx").refused("not of", lines=3)


def test_nothing_is_printed_that_does_not_hold(made: Rig) -> None:
    private, _ = new_key(made.path, "other")
    assert made.attest("--key", private).code == 0
    done = made.verify("--attestation", "spdx", "--predicate")
    assert (done.code, done.out) == (1, b"")


@pytest.mark.parametrize("form", ["bundle", "attachment"])
def test_the_same_is_not_attested_twice(made: Rig, form: str) -> None:
    assert made.attest("--format", form).code == 0
    before = dict(made.repository.manifests)
    again = made.attest("--format", form)
    assert again.out.startswith(b"present ")
    assert made.repository.manifests == before
    # The same words by somebody else are another attestation.
    private, _ = new_key(made.path, "other")
    assert made.attest("--format", form, "--key", private).out.startswith(b"attested ")


@pytest.mark.parametrize("form", ["bundle", "attachment"])
def test_replacing_takes_away_what_the_same_signer_said(made: Rig, form: str) -> None:
    private, public = new_key(made.path, "other")
    older = {**SPDX, "name": "older"}
    for flags, predicate, kind in (
        ((), older, "spdxjson"),
        ((), SLSA, "slsaprovenance1"),
        (("--key", private), older, "spdxjson"),
    ):
        assert made.attest("--format", form, *flags, predicate=predicate, kind=kind).code == 0
    done = made.attest("--format", form, "--replace", "--json")
    assert json.loads(done.out)["attestations"][0]["replaced"] == 1
    printed = made.verify("--attestation", "spdx", "--predicate")
    assert [json.loads(line) for line in printed.out.splitlines()] == [SPDX]
    assert made.verify("--attestation", "slsaprovenance1").code == 0
    other = made.run("verify", PLAIN, "--key", public, "--attestation", "spdx", "--predicate")
    assert [json.loads(line) for line in other.out.splitlines()] == [older]
    # Once more changes nothing.
    assert made.attest("--format", form, "--replace").out.startswith(b"present ")


def test_replacing_where_clients_keep_the_list(tmp_path: Path) -> None:
    with rig(tmp_path, IMAGE, NO_API) as found:
        assert found.attest(predicate={**SPDX, "name": "older"}).code == 0
        assert found.attest("--replace").code == 0
        printed = found.verify("--attestation", "spdx", "--predicate")
        assert [json.loads(line) for line in printed.out.splitlines()] == [SPDX]


def test_an_index_and_its_instances(tmp_path: Path) -> None:
    with rig(tmp_path, INDEX) as found:
        assert len(found.attest().out.splitlines()) == 1
        # A signed index vouches for its instances, whose digests it has.
        assert found.verify("--attestation", "spdx").code == 0
        assert found.verify("--attestation", "spdx", "--strict").code == 1
        done = found.attest("--recursive")
        assert [line.split()[0] for line in done.out.decode().splitlines()] == [
            "present", "attested", "attested",
        ]  # fmt: skip
        assert found.verify("--attestation", "spdx", "--strict", "--all").code == 0
        assert any(statement_in(each).is_about(HERE.digest) for each in bundles(found))


def test_a_dry_run_writes_nothing(made: Rig) -> None:
    before = dict(made.repository.manifests), dict(made.repository.tags)
    assert made.attest("--dry-run").out.startswith(b"planned ")
    assert (made.repository.manifests, made.repository.tags) == before


@pytest.mark.parametrize("form", ["bundle", "attachment"])
def test_bills_of_materials_are_large(made: Rig, form: str) -> None:
    """Half of an image's packages in SPDX's words; signatures beside them stay small."""
    packages = [{"name": f"package-{number}", "note": "n" * 900} for number in range(6000)]
    document = {**SPDX, "packages": packages}
    assert len(json.dumps(document)) > PAYLOAD_LIMIT
    done = made.attest("--format", form, predicate=document)
    assert (done.code, done.err) == (0, "")
    assert made.attest("--format", form, predicate=document).out.startswith(b"present ")
    signed = {"attachment": "sigstore"}.get(form, form)
    assert made.run("sign", PLAIN, "--key", made.private, "--format", signed).code == 0
    assert made.verify("--format", signed).code == 0
    assert made.verify("--attestation", "spdx").code == 0
    listed = made.run("inspect", PLAIN, "--referrers").out.decode()
    assert "attestation" in listed
    assert SPDX_TYPE in listed
    layout = f"oci:{made.path / 'layout'}:1"
    done = cli(made.path, "copy", "-q", "--referrers", "--src-tls-verify=false", made.name, layout)
    assert (done.code, done.err) == (0, "")
    words = ("verify", "--key", made.public, "--attestation", "spdx", "--signed-identity")
    assert cli(made.path, *words, made.name.removeprefix("docker://"), layout).code == 0


def test_a_large_attestation_is_no_reason_not_to_verify_signatures(made: Rig) -> None:
    """Others make some that are larger than what we read; only asking for them is an error."""
    assert made.attest().code == 0
    refer_to_large(made)
    assert made.run("sign", PLAIN, "--key", made.private, "--format", "bundle").code == 0
    assert made.verify("--format", "bundle").code == 0
    assert made.verify("--attestation", "spdx").code == 3
    layout = f"oci:{made.path / 'layout'}:1"
    sides = ("--src-tls-verify=false",)
    assert cli(made.path, "copy", "-q", "--referrers", *sides, made.name, layout).code == 0
    words = ("verify", "--key", made.public, "--format", "bundle", "--signed-identity")
    assert cli(made.path, *words, made.name.removeprefix("docker://"), layout).code == 0


def refer_to_large(found: Rig) -> None:
    """A bundle that says that it is an attestation, and is too large to read."""
    content = b"x" * (ATTESTATION_LIMIT + 1)
    blobs = [found.registry.push_blob("app", each) for each in (b"{}", content)]
    top = found.sample.top
    value = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "artifactType": BUNDLE_MEDIA_TYPE,
        "config": {"mediaType": mt.OCI_EMPTY, "digest": str(blobs[0]), "size": 2},
        "layers": [{"mediaType": BUNDLE_MEDIA_TYPE, "digest": str(blobs[1]), "size": len(content)}],
        "annotations": {"dev.sigstore.bundle.predicateType": SPDX_TYPE},
        "subject": {"mediaType": top.media_type, "digest": str(top.digest), "size": top.size},
    }
    found.registry.push_manifest("app", json.dumps(value).encode(), mt.OCI_MANIFEST)


def test_envelopes_are_cosign_s(made: Rig) -> None:
    assert made.attest("--format", "attachment", predicate=SLSA, kind="slsaprovenance1").code == 0
    (content,) = envelopes(made)
    assert list(json.loads(content)) == ["payloadType", "payload", "signatures"]
    statement = parse_statement(parse_envelope(content).payload)
    assert statement.is_about(made.digest)
    tags = [subject_of_tag(tag) for tag in made.repository.tags]
    assert (made.digest, ".att") in tags
    assert made.verify("--attestation", "slsaprovenance1").code == 0


def test_standard_input(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Input:
        buffer = made.file(SPDX).open("rb")

    with Input.buffer:
        monkeypatch.setattr("sys.stdin", Input)
        words: tuple[Any, ...] = ("--type", "spdx", "--predicate", "-")
        assert made.run("attest", PLAIN, "--key", made.private, *words).code == 0
    assert made.verify("--attestation", "spdx").code == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--type", "slsa"), "no type of attestation"),
        (("--type", COSIGN_SIGN), "type of signatures"),
        (("--format", "attachment", "--rekor-url", "https://rekor.sigstore.dev"), "bundle"),
        (("--timestamp-url", "https://example.test"), "needs --keyless"),
        (("--identity-token", "x"), "needs --keyless"),
    ],
    ids=["type", "signature", "logged envelope", "timestamp", "token"],
)
def test_what_is_refused_before_the_registry_is_asked(
    made: Rig, flags: tuple[str, ...], words: str
) -> None:
    asked = len(made.registry.requests)
    made.attest(*flags).refused(words)
    assert len(made.registry.requests) == asked


def test_somebody_has_to_sign(made: Rig) -> None:
    words = ("attest", PLAIN, "--predicate", made.file(SPDX), "--type", "spdx")
    made.run(*words).refused("nothing says how to sign")
    cli(made.path, *words, "--key", made.private, "oci:x").refused("registries only")


# --- keyless ------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Keyless]:
    """An unsigned image and a sigstore."""
    with keyless(tmp_path) as found:
        yield found


@pytest.mark.parametrize("rekor", [1, 2])
def test_keyless_attestations(site: Keyless, rekor: Any) -> None:
    predicate = site.path / "predicate.json"
    predicate.write_text(json.dumps(SLSA))
    words = (
        "attest", PLAIN, "--keyless", "--trust-config", site.config(rekor),
        "--identity-token-file", site.token_file(), "--type", "slsaprovenance1",
        "--predicate", predicate, site.place.name,
    )  # fmt: skip
    done = site.run(*words)
    assert done.code == 0, done.err
    assert site.verify("--attestation", "slsaprovenance1").code == 0
    assert site.verify("--attestation", "spdx").code == 1
    assert site.verify("--attestation", "slsaprovenance1", who="other@example.test").code == 1
    # Whoever attests has not signed.
    assert site.verify("--signed-identity", "any").code == 1
    assert site.run(*words).out.startswith(b"present ")
