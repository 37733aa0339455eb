"""What a registry may try on a user who has a policy: each test is named after the attack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import LimitExceeded
from imgtools.sign.model import SIMPLE_SIGNING_LAYER, SigstoreSignature
from imgtools.sign.stores.layouts import layout_signatures
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.testing import images
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.oci_layout import LayoutSource
from tests.bad_input import Layout
from tests.sign.test_policy_everywhere import Site

PLAIN = "--tls-verify=false"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ScriptedRegistry() as registry:
        yield Site(tmp_path, registry)


def test_a_digest_by_head_that_is_another_image(site: Site) -> None:
    """HEAD names another image by its digest than GET answers, which is signed: it must not be
    taken from the store for that other one, by whoever names this by digest."""
    other = images.random_image("another", layers=1).top.digest
    site.registry.fail(
        method="HEAD",
        path="/good/manifests/1$",
        set_headers={"Docker-Content-Digest": str(other)},
    )
    short = site.name("good").removeprefix("docker://")
    pinned = f"{short.removesuffix(':1')}@{other}"
    for _ in range(2):  # what is stored, and then is up to date
        site.ok("--policy", "policy.json", "pull", *site.store, PLAIN, short)
        code, err = site.run(
            "--policy", "policy.json", "build", *site.store, PLAIN, "-f", "-", ".",
            stdin=f"FROM {pinned}\nLABEL a=b\n".encode(),
        )  # fmt: skip
        assert code != 0
        assert "does not exist" in err, err


def test_no_policy_with_only_what_is_signed(site: Site) -> None:
    """Of two options that contradict each other the one that asks for less does not win."""
    options = ("--insecure-policy", "--require-signed")
    for repository in ("bad", "good"):
        to = f"dir:{site.work}/{repository}"
        code, err = site.run(*options, "copy", "--src-tls-verify=false", site.name(repository), to)
        assert code != 0
        assert "--require-signed" in err, err
        assert not (site.work / repository).exists()


def test_an_index_that_other_programs_read_in_another_way(site: Site) -> None:
    """Its one image is signed; Go's programs, which compare names without case, would take the
    other one, which may be at the destination as some version that was given up."""
    good, old = (str(site.registry.repository(name).tags["1"]) for name in ("good", "bad"))
    entry: dict[str, Any] = {"mediaType": mt.OCI_MANIFEST, "digest": good}
    entry["size"] = len(site.registry.repository("good").manifests[Digest.parse(good)].content)
    other = {**entry, "digest": old}
    spellings: dict[str, dict[str, Any]] = {
        "manifests": {"manifests": [entry], "Manifests": [other]},
        "long-s": {"manifests": [entry], "manife\N{LATIN SMALL LETTER LONG S}ts": [other]},
        "digest": {"manifests": [{**entry, "Digest": old}]},
    }
    for tag, entries in spellings.items():
        index = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, **entries}
        site.registry.push_manifest("good", json.dumps(index).encode(), tags=[tag])
        code, err = site.run(
            "--policy", "policy.json", "copy", "--all", "--src-tls-verify=false",
            site.name("good", tag), f"oci:{site.work}/{tag}",
        )  # fmt: skip
        assert code != 0
        assert "to other programs" in err, err


def test_a_cache_that_policy_does_not_admit(site: Site) -> None:
    """Whoever may write to the cache would decide what is in the image: its records are asked
    about like every other image, and where they are not admitted the step is executed."""
    cache = f"{site.registry.host}/cache"
    recipe = b"FROM scratch\nCOPY file /\n"
    (site.work / "file").write_text("content")

    def build(store: str, *flags: str) -> str:
        roots = ("--root", f"{site.work}/{store}", "--runroot", f"{site.work}/{store}-run")
        words = ("build", *roots, PLAIN, *flags, "-f", "-", ".")
        code, err = site.run("--policy", "policy.json", *words, stdin=recipe)
        assert code == 0, err
        return err

    build("a", "--cache-to", cache)
    err = build("b", "--cache-from", cache)
    assert f"cache {cache} is not used: " in err
    assert "is not admitted: sigstoreSigned: a signature was required" in err
    assert site.registry.count("GET", "/cache/blobs/") == 0
    for tag in list(site.registry.repository("cache").tags):
        site.ok("sign", PLAIN, "--key", "k.private", *site.key[2:], site.name("cache", tag))
    site.registry.forget_requests()
    assert "is not used" not in build("c", "--cache-from", cache)
    assert site.registry.count("GET", "/cache/blobs/") > 0


def test_a_layout_that_names_one_payload_many_times(tmp_path: Path) -> None:
    """A small file must not become a gigabyte of signatures: each content is read once, and the
    limit of layers is of all that the name has."""
    layout = Layout(tmp_path / "layout")
    image = layout.image()
    payload = {**layout.blob(b"x" * 1000, SIMPLE_SIGNING_LAYER), "annotations": {}}
    config = layout.blob({}, mt.OCI_CONFIG)

    def named(layers: int, **more: Any) -> dict[str, Any]:
        manifest = {"schemaVersion": 2, "mediaType": mt.OCI_MANIFEST, "config": config}
        found = layout.blob({**manifest, "layers": [payload] * layers, **more}, mt.OCI_MANIFEST)
        tag = f"{image['digest'].replace(':', '-')}.sig"
        return {**found, "annotations": {"org.opencontainers.image.ref.name": tag}}

    def found(*entries: dict[str, Any]) -> tuple[SigstoreSignature, ...]:
        layout.index([image, *entries])
        with LayoutSource.open(str(layout.path)) as source:
            return layout_signatures(source, Digest.parse(image["digest"]), "here")

    signatures = found(*[named(100)] * 30)
    assert len(signatures) == 100
    assert len({id(signature.payload) for signature in signatures}) == 1
    for entries in ([named(100), named(29, annotations={"a": "b"})],
                    [named(1, annotations={"a": str(n)}) for n in range(20)]):  # fmt: skip
        with pytest.raises(LimitExceeded):
            found(*entries)


@pytest.mark.parametrize("way", ["tag", "referrer"])
@pytest.mark.parametrize("verb", ["sync", "copy"])
def test_an_image_that_is_attached_to_a_signed_one(site: Site, way: str, verb: str) -> None:
    """By a tag that is made of the other's digest, or by its subject: it is judged, where what
    cannot be run, such as a bill of materials, comes along."""
    registry, good = site.registry, site.registry.repository("good")
    subject = good.manifests[good.tags["1"]].descriptor()
    stem = str(subject.digest).replace(":", "-")
    evil = json.loads(images.random_image("evil", layers=1).top.content)
    config = registry.push_blob("good", b"{}")
    artifact = {**evil, "config": {"mediaType": mt.OCI_EMPTY, "digest": str(config), "size": 2}}
    for blob, content in images.random_image("evil", layers=1).blobs.items():
        assert registry.push_blob("good", content) == blob.digest
    digests = []
    for number, document in enumerate((evil, artifact)):
        if way == "referrer":
            document["subject"] = subject.to_json()
        content = json.dumps(document).encode()
        tags = [f"{stem}.{number}"] if way == "tag" else []
        digests.append(registry.push_manifest("good", content, mt.OCI_MANIFEST, tags=tags).digest)
    words = [verb, "--src-tls-verify=false", "--dest-tls-verify=false"]
    if verb == "sync":
        words += ["--src", "docker", "--dest", "docker", "--keep-going"]
        words += [f"{registry.host}/good", f"{registry.host}/mirror"]
    else:
        words += ["--referrers", site.name("good"), site.name("mirror/good")]
    code, err = site.run("--policy", "policy.json", *words)
    assert code != 0
    assert "is not admitted: sigstoreSigned: a signature was required" in err, err
    there = registry.repository("mirror/good").manifests
    assert digests[0] not in there
    if verb == "sync":
        assert digests[1] in there
        code, err = site.run(*words)
        assert (code, digests[0] in there) == (0, True), err
