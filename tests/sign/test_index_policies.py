"""Whole copies under a policy: which manifests of an image have to be signed, and what arrives
is what was judged (cases 13 to 20)."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import InvalidManifest
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.testing import images
from tests.bad_input import cli
from tests.rig import RegistryServer
from tests.sign.ground import HERE, INDEX, THERE, Ground, ground, tag_of
from tests.sign.judging import Signer
from tests.sign.key_makers import private_pem

TOP = INDEX.top
IMAGE = images.random_image("alone", layers=1)
EVIL = images.random_image("evil", layers=1)


def refused(place: Ground, *flags: str, to: str = "") -> str:
    """A copy that policy does not admit, and of which nothing arrives."""
    done = place.copy(*flags, to=to)
    done.refused("is not admitted")
    assert not place.copied.tags
    assert not place.copied.manifests
    assert not place.copied.blobs
    return done.err


def arrived(place: Ground, *flags: str) -> set[Digest]:
    """The manifests of a copy that policy admits."""
    done = place.copy(*flags)
    assert done.code == 0, done.err
    return set(place.copied.manifests)


# --- which manifests --------------------------------------------------------------------------


def test_s11_a_signature_is_of_the_manifest_that_is_copied(tmp_path: Path) -> None:
    """A good signature of another image, put where this one's is looked for."""
    with ground(tmp_path, IMAGE) as place:
        payload = place.signer.payload(EVIL.top.digest, place.name.removeprefix("docker://"))
        text = base64.b64encode(place.signer.raw(payload)).decode()
        place.put_attachment(IMAGE.top.digest, [(payload, text)])
        assert f"about {EVIL.top.digest}, not {IMAGE.top.digest}" in refused(place)


@pytest.mark.parametrize("flags", [(), ("--all",), ("--platform", "linux/amd64")])
def test_s16_a_signed_index_does_not_stand_for_its_instances(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """As in containers/image; `verify` says that the index is signed, and what it is worth."""
    with ground(tmp_path) as place:
        place.sign(TOP.digest)
        refused(place, *flags)
        done = place.verify()
        assert done.code == 0
        assert str(TOP.digest) in done.out.decode()
        assert place.verify("--strict").code == 1


def test_s16_the_instance_that_is_chosen_has_to_be_signed(tmp_path: Path) -> None:
    with ground(tmp_path) as place:
        place.sign(THERE.digest)
        refused(place)
        place.sign(HERE.digest)
        assert arrived(place) == {HERE.digest}


def test_s16_what_verify_prints_is_what_was_verified(tmp_path: Path) -> None:
    """Of an index that nobody signed only the instance is: on another machine the digest of the
    index would lead to one that nobody vouches for."""
    with ground(tmp_path) as place:
        place.sign(HERE.digest)
        done = place.verify()
        assert done.code == 0
        assert done.out.decode().splitlines()[0] == f"verified {place.name} {HERE.digest}"
        assert json.loads(place.verify("--json").out)["digest"] == str(HERE.digest)
        assert place.verify("--all").code == 1
        place.sign(THERE.digest)
        assert f" {TOP.digest}\n" in place.verify("--all").out.decode()
        assert f" {HERE.digest}\n" in place.verify().out.decode()
        place.sign(TOP.digest)
        assert f" {TOP.digest}\n" in place.verify().out.decode()


def test_s17_an_instance_that_nobody_signed_is_not_brought_in(tmp_path: Path) -> None:
    """The index is nobody's: somebody added an instance, or replaced one."""
    with ground(tmp_path) as place:
        place.sign(HERE.digest, THERE.digest)
        assert arrived(place, "--all") == {TOP.digest, HERE.digest, THERE.digest}
    tampered = images.index_of([images.Sample(top=HERE, blobs={}), EVIL],
                               platforms=images.PLATFORMS[:2])  # fmt: skip
    with ground(tmp_path) as place:
        place.push(tampered)
        place.sign(HERE.digest, THERE.digest)
        refused(place, "--all")
        place.sign(tampered.top.digest)
        refused(place, "--all")
        assert arrived(place) == {HERE.digest}


@pytest.mark.parametrize("media_type", ["application/octet-stream", "application/vnd.x+json"])
@pytest.mark.parametrize("to", ["", "oci:{path}/layout:1"])
def test_s17_an_image_in_disguise_is_not_brought_in(
    tmp_path: Path, media_type: str, to: str
) -> None:
    """An entry that does not say that it is an image is copied unread, as parts of a build cache
    are, and others may still run it: the index has to be signed then."""
    value = json.loads(TOP.content)
    entry: dict[str, Any] = {
        "mediaType": media_type,
        "digest": str(EVIL.top.digest),
        "size": EVIL.top.size,
        "platform": {"os": "linux", "architecture": "riscv64"},
    }
    top = RawManifest.of(json.dumps({**value, "manifests": [*value["manifests"], entry]}).encode())
    with ground(tmp_path) as place:
        place.registry.push_blob("app", EVIL.top.content)
        place.push(replace(INDEX, top=top))
        place.sign(HERE.digest, THERE.digest)
        assert f"manifest {top.digest}" in refused(place, "--all", to=to.format(path=tmp_path))
        assert not (tmp_path / "layout").exists()
        place.sign(top.digest)
        assert arrived(place, "--all") == {top.digest, HERE.digest, THERE.digest}


def test_s17_an_index_within_an_index_is_judged_to_its_leaves(tmp_path: Path) -> None:
    outer = images.index_of([INDEX, EVIL])
    with ground(tmp_path, outer) as place:
        place.sign(HERE.digest, THERE.digest, TOP.digest, outer.top.digest)
        refused(place, "--all")
        place.sign(EVIL.top.digest)
        assert outer.top.digest in arrived(place, "--all")


@pytest.mark.parametrize(
    "flags",
    [("--multi-arch", "index-only"), ("--sparse", "--multi-arch", "linux/amd64,linux/s390x")],
)
def test_s18_an_index_without_its_instances_has_to_be_signed(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """containers/image does not ask any policy here, not even one that rejects everything."""
    wanted = images.random_index("sparse", platforms=(images.PLATFORMS[0], images.PLATFORMS[3]))
    with ground(tmp_path, wanted) as place:
        if "--sparse" in flags:
            place.push(images.index_of(
                [*(images.Sample(top=m, blobs=wanted.blobs) for m in wanted.manifests), EVIL],
                platforms=(images.PLATFORMS[0], images.PLATFORMS[3], images.PLATFORMS[1]),
            ))  # fmt: skip
        top = place.registry.repository("app").tags["1"]
        place.sign(*(raw.digest for raw in wanted.manifests))
        # The registry is one that takes such an index; most do not.
        refused(place, *flags, to=f"dir:{tmp_path}/copy")
        done = place.copy(*flags, policy=place.policy({"type": "reject"}))
        done.refused("is rejected by policy")
        place.sign(top)
        done = place.copy(*flags, to=f"dir:{tmp_path}/copy")
        assert done.code == 0, done.err
        content = (tmp_path / "copy" / "manifest.json").read_bytes()
        assert Digest.of(content) == top


def test_s18_an_empty_index_has_to_be_signed(tmp_path: Path) -> None:
    nothing = images.index_of([])
    with ground(tmp_path, nothing) as place:
        refused(place, "--all")
        place.sign(nothing.top.digest)
        assert arrived(place, "--all") == {nothing.top.digest}


# --- what is judged is what arrives -----------------------------------------------------------


def test_s13_bytes_are_held_against_the_digest_before_anything_else(tmp_path: Path) -> None:
    """A registry that answers another manifest than the one that was asked for: its signature
    is not even looked for."""
    with ground(tmp_path, IMAGE) as place:
        place.sign(IMAGE.top.digest, EVIL.top.digest)
        place.registry.fail(
            method="GET", path=f"manifests/{IMAGE.top.digest}", body_override=EVIL.top.content
        )
        name = f"docker://{place.registry.host}/app@{IMAGE.top.digest}"
        done = cli(
            tmp_path, "--policy", str(place.policy()), "copy", "-q", "--src-tls-verify=false",
            name, f"dir:{tmp_path}/copy",
        )  # fmt: skip
        done.refused("digest mismatch")
        assert place.registry.count(path=r"\.sig") == 0
        assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("good_first", [True, False])
def test_s14_a_tag_that_moves_is_read_once(tmp_path: Path, good_first: bool) -> None:
    """What was judged is what is copied, whatever the tag means by then."""
    with ground(tmp_path, IMAGE) as place:
        place.push(EVIL)
        place.push(IMAGE)
        place.sign(IMAGE.top.digest)
        place.registry.fail(
            method="GET",
            path="/v2/app/manifests/1$",
            nth=range(2, 99) if good_first else range(1, 99),
            body_override=EVIL.top.content,
            drop_headers=("Docker-Content-Digest", "ETag"),
        )
        if good_first:
            assert arrived(place) == {IMAGE.top.digest}
            looked_for = {e.path for e in place.registry.requests if ".sig" in e.path}
            assert looked_for == {f"/v2/app/manifests/{tag_of(IMAGE.top.digest)}"}
        else:
            refused(place)
        assert place.registry.count("GET", "/v2/app/manifests/1$") == 1


def schema1(payload: bytes, whole: dict[str, Any], length: int) -> bytes:
    """A signed schema 1 document whose signature is over `payload`, but which says `whole`."""

    def encoded(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    header = {"formatLength": length, "formatTail": encoded(payload[length:])}
    protected = encoded(json.dumps(header).encode())
    signatures = [{"protected": protected, "signature": "x", "header": {}}]
    content = json.dumps({**whole, "signatures": signatures}, indent=3).encode()
    assert content[:length] == payload[:length]
    return content


def test_s15_signatures_in_a_manifest_do_not_hide_what_it_says(tmp_path: Path) -> None:
    """The digest of schema 1 is of its payload, which may be all in the protected header: the
    document around it could be anything, with a digest that somebody signed."""
    layer = Digest.of(b"layer")
    good = {
        "schemaVersion": 1,
        "name": "app",
        "tag": "1",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": str(layer)}],
        "history": [{"v1Compatibility": '{"id":"a"}'}],
    }
    payload = json.dumps(good, indent=3).encode()
    evil = {**good, "fsLayers": [{"blobSum": str(Digest.of(b"evil"))}]}
    with ground(tmp_path, IMAGE) as place:
        for blob in (b"layer", b"evil"):
            place.registry.push_blob("app", blob)
        place.sign(Digest.of(payload))
        whole = schema1(payload, good, 1)
        place.registry.push_manifest("app", whole, mt.DOCKER_SCHEMA1_SIGNED, tags=["1"])
        assert place.copy().code == 0
        assert set(place.copied.manifests) == {Digest.of(payload)}
        there = place.registry.repository("app")
        raw = there.manifests[Digest.of(payload)]
        for value in (evil, {**good, "more": 1}):
            there.manifests[raw.digest] = replace(raw, content=schema1(payload, value, 1))
            place.copy(to=f"dir:{tmp_path}/copy").refused("digest mismatch")
            with pytest.raises(InvalidManifest, match="something else than what was signed"):
                RawManifest.of(schema1(payload, value, 1))
        # A signature of the whole document is of something else.
        there.manifests[raw.digest] = raw
        del there.tags[tag_of(raw.digest)]
        place.sign(Digest.of(whole))
        place.copy(to=f"dir:{tmp_path}/copy").refused("is not admitted")


def test_s19_what_changes_an_image_leaves_its_signatures_behind(tmp_path: Path) -> None:
    """A change is refused where signatures would be carried along, and what comes of it is
    signed by nobody."""
    with ground(tmp_path, IMAGE) as place:
        place.sign(IMAGE.top.digest)
        config = tmp_path / "registries.d"
        config.mkdir()
        (config / "a.yaml").write_text(
            "default-docker:\n  use-sigstore-attachments: true\n"
            f"  lookaside: file://{tmp_path}/lookaside\n"
        )

        def carried(*flags: str) -> Any:
            return cli(
                tmp_path, "--policy", str(place.policy()), "--registries.d", str(config), "copy",
                "-q", "--src-tls-verify=false", "--dest-tls-verify=false", *flags, place.name,
                f"docker://{place.registry.host}/copy:1",
            )  # fmt: skip

        change = ("--format", "v2s2")
        carried(*change).refused("the copy would change it", "--remove-signatures")
        assert not place.copied.tags
        assert not place.copied.blobs
        assert carried(*change, "--remove-signatures").code == 0
        assert set(place.copied.tags) == {"1"}
        assert place.copied.tags["1"] != IMAGE.top.digest
        assert carried().code == 0
        assert set(place.copied.tags) == {"1", tag_of(IMAGE.top.digest)}


def test_s20_what_two_readers_see_differently_is_refused(tmp_path: Path) -> None:
    """An index with a key that is there twice has no one meaning that could be signed."""
    content = TOP.content.replace(
        b'"platform":', b'"platform":{"architecture":"s390x","os":"linux"},"platform":', 1
    )
    assert content != TOP.content
    with ground(tmp_path) as place:
        there = place.registry.repository("app")
        raw = there.manifests[there.tags["1"]]
        digest = Digest.of(content)
        there.manifests[digest] = replace(raw, content=content, digest=digest)
        there.tags["1"] = digest
        place.sign(digest, HERE.digest, THERE.digest)
        place.copy("--all").refused("duplicate key 'platform'")
        assert not place.copied.tags


# --- a real registry --------------------------------------------------------------------------


def test_index_cases_in_a_real_registry(
    tmp_path: Path, registry_plain: RegistryServer, repository: str
) -> None:
    """docker-registry: everything signed, an instance too few, somebody else's key."""
    host = f"{registry_plain.host}/{repository}"
    with ground(tmp_path) as place:
        key, other = tmp_path / "key.pem", Signer()
        key.write_bytes(private_pem(place.signer.key))

        def run(*words: str, signer: Signer | None = None) -> Any:
            policy = place.policy((signer or place.signer).requirement())
            return cli(tmp_path, "--policy", str(policy), *words)

        done = cli(tmp_path, "copy", "-q", "--all", "--src-tls-verify=false",
                   "--dest-tls-verify=false", place.name, f"docker://{host}:1")  # fmt: skip
        assert done.code == 0, done.err
        copied = ("copy", "-q", "--src-tls-verify=false", f"docker://{host}:1")
        run(*copied, f"dir:{tmp_path}/none").refused("no sigstore attachment")
        done = run("sign", "--tls-verify=false", "--key", str(key), "--recursive=false",
                   f"docker://{host}:1")  # fmt: skip
        assert done.code == 0, done.err
        run(*copied, "--all", f"dir:{tmp_path}/none").refused("no sigstore attachment")
        done = run("sign", "--tls-verify=false", "--key", str(key), f"docker://{host}:1")
        assert done.code == 0, done.err
        for number, flags in enumerate([(), ("--all",), ("--multi-arch", "index-only")]):
            done = run(*copied, *flags, f"dir:{tmp_path}/{number}")
            assert done.code == 0, done.err
        run(*copied, f"dir:{tmp_path}/none", signer=other).refused("is not by the key")
