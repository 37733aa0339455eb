"""`imgtools sync` between scripted registries: requests, what is attached, faults, reruns."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.spec.digest import Digest
from imgtools.testing.dialects import DISTRIBUTION_2
from imgtools.testing.images import Sample, random_artifact, random_image, random_index
from imgtools.testing.registry import ScriptedRegistry
from tests.rig import RunCli
from tests.sync_rig import PLAIN, Sync, load


@pytest.fixture
def sync(run_cli: RunCli) -> Iterator[Sync]:
    """Two registries that have everything the specification has."""
    with ScriptedRegistry() as source, ScriptedRegistry() as target:
        yield Sync(run_cli, source, target)


@pytest.fixture
def old(run_cli: RunCli) -> Iterator[Sync]:
    """Two registries without the referrers API."""
    with (
        ScriptedRegistry(dialect=DISTRIBUTION_2) as source,
        ScriptedRegistry(dialect=DISTRIBUTION_2) as target,
    ):
        yield Sync(run_cli, source, target)


def fill(sync: Sync, *tags: str) -> list[Sample]:
    """Images of their own under the tags."""
    samples = [random_image(tag) for tag in tags]
    for tag, sample in zip(tags, samples, strict=True):
        load(sync.source, "ns/app", sample, tag)
    return samples


def digests(sync: Sync) -> set[Digest]:
    """The manifests of the mirror."""
    return set(sync.target.repository("mirror/app").manifests)


def test_requests_of_an_unchanged_run(run_cli: RunCli) -> None:
    """One token for each side, one list, one HEAD for each name; nothing is read."""
    with (
        ScriptedRegistry(auth="bearer", dialect=DISTRIBUTION_2) as source,
        ScriptedRegistry(auth="bearer", dialect=DISTRIBUTION_2) as target,
    ):
        sync = Sync(run_cli, source, target)
        fill(sync, *"abcdefgh")
        creds = ("--src-creds=user:secret", "--dest-creds=user:secret")
        sync(*creds)
        done = sync(*creds)
        ours, theirs = sync.asked()
    assert "Synced 8 images from 1 sources: 8 same" in done.stderr
    assert theirs == {"GET token": 1, "GET tags": 1, "HEAD manifests": 8}
    assert ours == {"GET token": 1, "GET tags": 1, "HEAD manifests": 8, "GET referrers": 1}


def test_unchanged_with_the_referrers_api(sync: Sync) -> None:
    """At most one question for each digest, at the source; names of one digest share it."""
    samples = fill(sync, "a", "b")
    load(sync.source, "ns/app", samples[0], "a2", "a3")
    sync()
    assert set(sync.outcomes().values()) == {"same"}
    assert sync.asked() == (
        {"GET tags": 1, "HEAD manifests": 4, "GET referrers": 2},
        {"GET tags": 1, "HEAD manifests": 4},
    )
    assert set(sync.outcomes("--referrers=false").values()) == {"same"}
    assert sync.asked()[0] == {"GET tags": 1, "HEAD manifests": 4}


def test_index_of_which_one_instance_is_wanted(sync: Sync) -> None:
    """It is read once, however many names it has, and compared by that instance."""
    index = random_index(1)
    load(sync.source, "ns/app", index, "a", "b", "c")
    assert sync.outcomes() == {"app:a": "new", "app:b": "new", "app:c": "new"}
    assert set(sync.tags().values()) <= {str(m.digest) for m in index.manifests}
    assert len(digests(sync)) == 1
    assert set(sync.outcomes("--referrers=false").values()) == {"same"}
    assert sync.asked()[0]["GET manifests"] == 1
    assert set(sync.outcomes("--all").values()) == {"changed"}
    assert set(sync.tags().values()) == {str(index.top.digest)}
    sync("--all", "--referrers=false")
    assert sync.asked()[0]["GET manifests"] == 0


def test_only_what_differs(sync: Sync) -> None:
    """New, moved and unchanged names; a blob that several images have moves once."""
    fill(sync, "same", "moves")
    sync()
    moved = random_image("moved")
    load(sync.source, "ns/app", moved, "moves", "new", "also")
    assert sync.outcomes() == {
        "app:same": "same",
        "app:moves": "changed",
        "app:new": "new",
        "app:also": "new",
    }
    assert sync.asked()[0]["GET manifests"] == 1
    assert sync.asked()[0]["GET blobs"] == 3
    assert [sync.tags()[tag] for tag in ("moves", "new", "also")] == [str(moved.top.digest)] * 3


def test_a_layer_of_many_images_moves_once(sync: Sync) -> None:
    """Although they are copied at the same time."""
    base = random_image("base", layers=1, size=300_000)
    (layer,) = (d for d in base.blobs if d.size > 100_000)
    for number in range(6):
        image = random_image(number, layers=1)
        manifest = json.loads(image.top.content)
        manifest["layers"].append(layer.to_json())
        for descriptor, content in (*base.blobs.items(), *image.blobs.items()):
            sync.source.push_blob("ns/app", content, algorithm=descriptor.digest.algorithm)
        body = json.dumps(manifest).encode()
        sync.source.push_manifest("ns/app", body, image.top.media_type, tags=[f"t{number}"])
    sync()
    assert len(sync.tags()) == 6
    assert sync.source.count("GET", f"/blobs/{layer.digest}") == 1
    result = sync.target.count("PUT", f"/blobs/uploads/.*{layer.digest.hex}")
    assert result == 1


def test_killed_and_run_again(sync: Sync) -> None:
    """What was there stays, and the next run does the rest."""
    samples = fill(sync, *(f"t{number}" for number in range(40)))
    sync.target.latency = 0.05
    process = sync.cli.start(
        "sync", "--src", "docker", "--dest", "docker", *PLAIN,
        f"{sync.source.host}/ns/app", f"{sync.target.host}/mirror",
    )  # fmt: skip
    while not sync.tags() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert 0 < len(sync.tags()) < 40
    sync.target.latency = 0.0
    assert set(sync.outcomes().values()) == {"new", "same"}
    assert set(sync.tags().values()) == {str(sample.top.digest) for sample in samples}


def test_dry_run_compares_and_writes_nothing(sync: Sync) -> None:
    """In text and as JSON."""
    fill(sync, "a", "b")
    sync(image=":a")
    load(sync.source, "ns/app", random_image("other"), "a")
    before = sync.tags()
    lines = sync("--dry-run").stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["Would", "have", "copied"],
        ["Would", "have", "copied"],
        ["Would", "have", "synced"],
    ]
    assert lines[-1] == "Would have synced 2 images from 1 sources: 1 new, 1 changed"
    value = json.loads(sync("--dry-run", "--json").stdout)
    assert [each["decision"] for each in value["images"]] == ["changed", "new"]
    assert sync.tags() == before
    assert {e.method for e in sync.target.requests} == {"GET", "HEAD"}


@pytest.mark.parametrize("dialect", ["spec", "old"])
def test_referrers_and_signatures(dialect: str, request: pytest.FixtureRequest) -> None:
    """Come along, to any depth, also when they come later, and once only."""
    sync: Sync = request.getfixturevalue("sync" if dialect == "spec" else "old")
    (image,) = fill(sync, "a")
    sync()
    report = random_artifact("report", subject=image.top.descriptor())
    signed = random_artifact("signed", subject=report.top.descriptor())
    for sample in (report, signed):
        attach(sync, sample)
    name = f"sha256-{image.top.digest.hex}.sig"
    load(sync.source, "ns/app", random_image("signature"), name)
    found = sync.result()
    outcomes = {each["digest"]: each["outcome"] for each in found["images"] if each["referrer"]}
    assert outcomes == {str(report.top.digest): "new", str(signed.top.digest): "new"}
    assert {report.top.digest, signed.top.digest} <= digests(sync)
    assert name in sync.tags()
    assert found_at_mirror(sync, image.top.digest) == sorted(outcomes)
    assert found_at_mirror(sync, report.top.digest) == [str(signed.top.digest)]
    sync()
    assert {e.method for e in sync.target.requests} == {"GET", "HEAD"}
    assert sync.asked()[0]["GET blobs"] == 0


def attach(sync: Sync, sample: Sample) -> None:
    """Put a referrer into the source, where its registry, or a client before us, lists it."""
    raw = load(sync.source, "ns/app", sample)
    if sync.source.dialect is not DISTRIBUTION_2:
        return
    from imgtools.spec.manifest import Index
    from imgtools.transport.registry.referrers import fallback_tag, referrer_descriptor, subject_of

    subject = subject_of(raw)
    assert subject is not None
    index = Index(
        media_type="application/vnd.oci.image.index.v1+json",
        manifests=(referrer_descriptor(raw),),
    ).to_raw()
    sync.source.push_manifest(
        "ns/app", index.content, index.media_type, tags=[fallback_tag(subject)]
    )


def found_at_mirror(sync: Sync, subject: Digest) -> list[str]:
    """What the mirror lists as referrers, and theirs, by the API or fallback tags."""
    name = f"docker://{sync.target.host}/mirror/app@{subject}"
    done = sync.cli("inspect", "--tls-verify=false", "--referrers", "--json", name, check=True)

    def below(node: dict[str, Any]) -> Iterator[str]:
        for referrer in node["Referrers"]:
            if referrer["Tag"] is None:
                yield referrer["Digest"]
                yield from below(referrer)

    (top,) = json.loads(done.stdout)
    return sorted(below(top))


def test_a_name_comes_after_what_belongs_to_it(sync: Sync) -> None:
    """Who sees the tag finds the signature."""
    (image,) = fill(sync, "a")
    report = random_artifact("report", subject=image.top.descriptor())
    load(sync.source, "ns/app", report)
    signature = f"sha256-{image.top.digest.hex}.sig"
    load(sync.source, "ns/app", random_image("signature"), signature)
    sync()
    puts = [e.target.rpartition("/")[2] for e in sync.target.requests
            if e.method == "PUT" and "/manifests/" in e.target]  # fmt: skip
    assert puts == [str(image.top.digest), signature, str(report.top.digest), "a"]


def test_single_image_brings_its_signature(sync: Sync) -> None:
    """By tag and by digest; nothing else of the repository comes."""
    a, b = fill(sync, "a", "b")
    for sample in (a, b):
        load(sync.source, "ns/app", random_image(f"signature of {sample.top.digest}"),
             f"sha256-{sample.top.digest.hex}.sig")  # fmt: skip
    sync(image=":a")
    assert set(sync.tags()) == {"a", f"sha256-{a.top.digest.hex}.sig"}
    sync("--append-suffix=-m", image=":b")
    assert {"b-m", f"sha256-{b.top.digest.hex}.sig"} <= set(sync.tags())


def test_referrers_of_instances(sync: Sync) -> None:
    """With --all those of each instance come with the index."""
    index = random_index(1)
    load(sync.source, "ns/app", index, "a")
    reports = [
        random_artifact(n, subject=m.descriptor())
        for n, m in enumerate((index.top, *index.manifests))
    ]
    for report in reports:
        load(sync.source, "ns/app", report)
    sync("--all")
    assert {report.top.digest for report in reports} <= digests(sync)


def test_cycle_of_referrers_ends(sync: Sync) -> None:
    """A registry may claim that two manifests refer to each other."""
    (image,) = fill(sync, "a")
    body = json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
         "manifests": [image.top.descriptor().to_json()]}
    ).encode()  # fmt: skip
    sync.source.fail(
        method="GET", path="/referrers/", body_override=body,
    )  # fmt: skip
    sync()
    assert sync.tags() == {"a": str(image.top.digest)}


def test_first_failure_stops(sync: Sync) -> None:
    """Without --keep-going it is the error, and a failure of looking stops before copying."""
    fill(sync, "a", "b")
    sync.source.fail(method="HEAD", path="/manifests/b", status=404)
    done = sync(check=False)
    assert done.returncode == 2
    assert 'Error copying ref "docker://' in done.stderr
    assert "1 failed, 1 skipped" in done.stderr
    assert sync.tags() == {}


def test_keep_going(sync: Sync) -> None:
    """Every other image is copied; failures are listed, and the exit code is 1."""
    a, bad, c = fill(sync, "a", "bad", "c")
    blob = next(iter(bad.blobs)).digest
    sync.source.fail(method="GET", path=f"/blobs/{blob}", status=404)
    done = sync("--keep-going", check=False)
    assert done.returncode == 1
    assert done.stderr.count("Error copying ref") == 1
    assert "Sync failed due to previous reported error(s)" in done.stderr
    assert sync.tags() == {"a": str(a.top.digest), "c": str(c.top.digest)}
    result = sync.result("--keep-going", check=False)
    assert [each["outcome"] for each in result["images"]] == ["same", "failed", "same"]
    assert str(blob) in result["images"][1]["error"]


def test_a_rerun_finishes(sync: Sync) -> None:
    """What a registry refused in the middle is there after the next run."""
    samples = fill(sync, "a", "b", "c")
    number = sync.target.fail(method="PUT", path="/manifests/", status=403, nth=2)
    assert sync("--keep-going", check=False).returncode == 1
    assert sync.target.faults.applied(number) == 1
    assert len(sync.tags()) == 2
    assert sorted(sync.outcomes().values()) == ["new", "same", "same"]
    assert set(sync.tags().values()) == {str(sample.top.digest) for sample in samples}


def test_failing_referrer_is_reported_and_the_image_comes(sync: Sync) -> None:
    """A dangling signature does not keep an image away for ever."""
    (image,) = fill(sync, "a")
    report = random_artifact("report", subject=image.top.descriptor())
    load(sync.source, "ns/app", report)
    sync.source.fail(method="GET", path=f"/manifests/{report.top.digest}", status=404)
    assert sync(check=False).returncode != 0
    assert sync.tags() == {"a": str(image.top.digest)}


def test_formats_and_digest_file(sync: Sync, tmp_path: Path) -> None:
    """What is converted is the same in the next run; digests are those at the destination."""
    load(sync.source, "ns/app", random_image("docker", docker=True), "a", "b")
    file = tmp_path / "digests"
    flags = ("--format=oci", f"--digestfile={file}")
    assert set(sync.outcomes(*flags).values()) == {"new"}
    assert set(sync.outcomes(*flags).values()) == {"same"}
    assert sync.asked()[1]["PUT manifests"] == 0
    place = f"docker://{sync.target.host}/mirror/app"
    assert file.read_text().splitlines() == [
        f"{digest} {place}:{tag}" for tag, digest in sorted(sync.tags().items())
    ]
    assert sync("--preserve-digests", "--format=v2s2", check=False).returncode == 0
    refused = sync("--preserve-digests", "--format=oci", "--append-suffix=-x", check=False)
    assert refused.returncode == 1
    assert "digests cannot be preserved" in refused.stderr


def test_tags_that_are_none(sync: Sync) -> None:
    """A registry may list anything; what is no tag is named and left out."""
    fill(sync, "a")
    body = json.dumps({"name": "ns/app", "tags": ["a", "../../etc", None, "", "a"]}).encode()
    sync.source.fail(method="GET", path="/tags/list", body_override=body)
    done = sync()
    assert "'../../etc' is not a valid tag" in done.stderr
    assert list(sync.tags()) == ["a"]


def test_repository_that_is_not_there(sync: Sync) -> None:
    """As in skopeo the exit code says so."""
    assert sync(check=False).returncode == 2
    sync.source.repository("ns/app")
    done = sync(check=False)
    assert done.returncode == 1
    assert "No images to sync found in" in done.stderr


def test_copy_brings_tags_made_of_digests(sync: Sync) -> None:
    """`copy --referrers` too: of the index and of its instances, and what signs a signature."""
    index = random_index(1)
    load(sync.source, "ns/app", index, "a")
    bill = random_image("bill")
    wanted = {
        f"sha256-{index.top.digest.hex}.sig": random_image("of the index"),
        f"sha256-{index.manifests[1].digest.hex}.sbom": bill,
        f"sha256-{bill.top.digest.hex}.sig": random_image("of the bill"),
    }
    other = {f"sha256-{'ab' * 32}.sig": random_image("of another")}
    for tag, sample in {**wanted, **other}.items():
        load(sync.source, "ns/app", sample, tag)
    names = (f"docker://{sync.source.host}/ns/app:a", f"docker://{sync.target.host}/mirror/app:b")
    copy = ("copy", *PLAIN, "--referrers", "--all", *names)
    shown = json.loads(sync.cli(*copy, "--dry-run", "--json", check=True).stdout)
    assert set(shown["attachedTags"]) == set(list(wanted)[:2])
    assert sync.tags() == {}
    sync.cli(*copy, check=True)
    assert set(sync.tags()) == {"b", *wanted}
    late = f"sha256-{index.manifests[0].digest.hex}.att"
    load(sync.source, "ns/app", random_image("late"), late)
    sync.cli(*copy, check=True)
    assert set(sync.tags()) == {"b", late, *wanted}
    one = ("copy", *PLAIN, "--referrers", "--override-arch=amd64", "--override-os=linux")
    sync.cli(*one, names[0], f"docker://{sync.target.host}/one:b", check=True)
    assert set(sync.target.repository("one").tags) == {"b", late}


def test_retries_of_a_registry_in_trouble(sync: Sync) -> None:
    """--retry-times counts for listing, looking and copying alike, and for what is attached."""
    image, _ = fill(sync, "a", "b")
    load(sync.source, "ns/app", random_artifact("r", subject=image.top.descriptor()))
    index = random_index(1)
    load(sync.source, "ns/app", index, "c")
    for method, path in (
        ("GET", "/tags/list"),
        ("HEAD", "/manifests/b"),
        ("GET", f"/manifests/{index.top.digest}"),
        ("GET", f"/referrers/{image.top.digest}"),
        ("PUT", "/manifests/a"),
    ):
        registry = sync.target if method == "PUT" else sync.source
        registry.fail(method=method, path=path, status=503, nth=range(1, 7), retry_after=0)
    result = sync.result("--retry-times=2", "--retry-delay=1ms")
    assert [each["outcome"] for each in result["images"]] == ["new"] * 4
    assert result["failures"] == []
