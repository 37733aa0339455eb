"""What a build says of itself besides the image: facts for provenance, saved stages, labels."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imgtools.build.contexts.options import FetchOptions, GitOptions
from imgtools.build.events import BuildNote, BuildPlanned
from imgtools.build.options import ConfigEdits, NamedContext, SecretSource, SshSource, Stamps
from imgtools.build.outputs.manifests import stored_documents
from imgtools.build.outputs.model import BuiltImage
from imgtools.build.outputs.provenance import Dependency, ProvenanceOptions, provenance
from imgtools.build.protocols import HostSettings
from imgtools.errors import Error
from imgtools.spec.digest import Digest
from imgtools.spec.platform import Platform
from tests.build.build_rig import BuildRig
from tests.build.git_rig import Repository, environment, smart_http
from tests.build.web_rig import Answer, web_server

NAME, BASE = "io.buildah.stage.name", "io.buildah.stage.base"
IDENTITY = "io.imgtools.version"


@pytest.fixture
def rig(tmp_path: Path) -> BuildRig:
    return BuildRig(tmp_path)


def labels(image: BuiltImage) -> Mapping[str, Any]:
    """The labels of an image, without our own."""
    found = image.config.document["config"].get("Labels") or {}
    return {name: text for name, text in found.items() if name != IDENTITY}


THREE = """\
FROM b AS One
RUN write /a 1
FROM one
RUN write /b 2
FROM scratch AS unused
RUN write /c 3
FROM scratch AS last
COPY --from=1 /b /
LABEL own=1
"""


def test_stages_are_saved_that_were_built(rig: BuildRig) -> None:
    rig.base("b", {})
    rig.build(THREE, save_stages=True)
    assert [rig.files(image) for image in rig.result.stages] == [{"a": "1"}, {"a": "1", "b": "2"}]
    assert [labels(image) for image in rig.result.stages] == [{}, {}]
    rig.build(THREE)
    assert rig.result.stages == ()


def test_stages_are_labelled_with_what_they_stand_on(rig: BuildRig) -> None:
    """By name, or by the id of the saved image."""
    rig.base("b", {})
    image = rig.build(THREE, save_stages=True, stage_labels=True)
    first, second = rig.result.stages
    assert labels(first) == {NAME: "one", BASE: "b"}
    identity = stored_documents(first, "oci").config_descriptor.digest.hex
    assert labels(second) == {NAME: "1", BASE: identity}
    assert labels(image) == {NAME: "last", BASE: "scratch", "own": "1"}


@pytest.mark.parametrize(
    ("asked", "stamps", "expected"),
    [
        (None, Stamps(), True),
        (None, Stamps(timestamp=0), False),
        (None, Stamps(source_date_epoch=0), False),
        (True, Stamps(timestamp=0), True),
        (False, Stamps(), False),
    ],
)
def test_the_identity_label_is_left_out_with_a_fixed_time_unless_it_is_asked_for(
    rig: BuildRig, asked: bool | None, stamps: Stamps, expected: bool
) -> None:
    edits = ConfigEdits(identity_label=asked)
    image = rig.build("FROM scratch\nLABEL a=b\n", stamps=stamps, edits=edits)
    assert (IDENTITY in image.config.document["config"]["Labels"]) is expected


def test_facts_name_the_images_arguments_and_secrets(rig: BuildRig) -> None:
    base = rig.base("b", {})
    other = rig.base("other", {"author": "x"})
    rig.build(
        "FROM b AS x\nARG A\nRUN write /f $A\nFROM x AS y\nCOPY --from=other / /\n",
        build_args={"A": "1", "UNSET": None},
        target="y",
        secrets=(SecretSource(id="s", value=b"hidden"),),
        ssh=(SshSource(id="default"),),
        edits=ConfigEdits(labels=(("l", "v"),)),
    )
    (facts,) = rig.result.facts
    assert {(d.uri, d.hex) for d in facts.dependencies} == {
        ("b", base.manifest.digest.hex), ("other", other.manifest.digest.hex),
    }  # fmt: skip
    assert (facts.args, facts.labels, facts.target) == ({"A": "1"}, {"l": "v"}, "y")
    assert (facts.secrets, facts.ssh, facts.context) == (("s",), ("default",), "")
    assert facts.network
    assert facts.source.startswith("FROM b AS x\nARG A\n")
    assert len(facts.steps) == 3
    assert 0 < facts.started <= facts.finished
    body = provenance(ProvenanceOptions(mode="max"), facts).body
    assert b"hidden" not in repr(body).encode()


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("RUN write /f 1", HostSettings(), True),
        ("RUN write /f 1", HostSettings(network="none"), False),
        ("RUN --network=none write /f 1", HostSettings(), False),
        ("LABEL a=b", HostSettings(), False),
    ],
)
def test_facts_say_whether_a_step_could_reach_the_network(
    rig: BuildRig, text: str, settings: HostSettings, expected: bool
) -> None:
    rig.build(f"FROM scratch\n{text}\n", host=settings)
    assert rig.result.facts[0].network is expected


def test_every_platform_has_facts(rig: BuildRig) -> None:
    platforms = (Platform.parse("linux/amd64"), Platform.parse("linux/arm64"))
    rig.build("FROM scratch\nLABEL a=b\n", platforms=platforms)
    assert tuple(facts.platform for facts in rig.result.facts) == platforms


def test_facts_name_what_was_fetched_by_digest_or_commit(rig: BuildRig, tmp_path: Path) -> None:
    """Whether it was fetched in this build or not; the main context is where the file is from."""
    rig.fetch = FetchOptions(git=GitOptions(environment=environment()))
    repository = Repository(tmp_path / "served" / "r.git")
    commit = repository.commit({"Containerfile": "FROM scratch\n", "f": "1"})
    digest = Digest.of(b"content")
    with smart_http(tmp_path / "served") as git, web_server() as web:
        web.routes["/f"] = web.routes["/g"] = Answer(body=b"content")
        text = (
            f"FROM scratch\nADD {web.url}/f /\nADD --checksum={digest} {web.url}/g /\n"
            f"ADD {git}/r.git#main /r/\nCOPY --from=named f /n\n"
        )
        named = (NamedContext(name="named", value=f"{git}/r.git"),)
        for _ in range(2):
            rig.build(text, context=f"{git}/r.git", contexts=named)
            (facts,) = rig.result.facts
            assert set(facts.dependencies) == {
                Dependency(uri=f"{web.url}/f", algorithm="sha256", hex=digest.hex),
                Dependency(uri=f"{web.url}/g", algorithm="sha256", hex=digest.hex),
                Dependency(uri=f"{git}/r.git#main", algorithm="sha1", hex=commit),
                Dependency(uri=f"{git}/r.git", algorithm="sha1", hex=commit),
            }
            assert facts.context == f"{git}/r.git"
            assert facts.context_digest is not None
            assert facts.context_digest.hex == commit


AMD64, ARM64, RISCV = (Platform.parse(f"linux/{arch}") for arch in ("amd64", "arm64", "riscv64"))


def test_all_platforms_are_those_that_the_bases_have_in_common(rig: BuildRig) -> None:
    """In the order of the first; a FROM with a platform of its own has no say."""
    for name in ("a", "b", "c"):
        rig.base(name, {})
    rig.store.indexes = {"a": (RISCV, ARM64, AMD64), "b": (AMD64, ARM64), "c": (AMD64,)}
    text = "ARG N=b\nFROM a AS x\nFROM --platform=$BUILDPLATFORM c AS y\nFROM $N\n"
    rig.build(f"{text}COPY --from=x / /\n", all_platforms=True)
    assert [image.platform for image in rig.result.images] == [ARM64, AMD64]
    planned = next(e for e in rig.events if isinstance(e, BuildPlanned))
    assert planned.platforms == ("linux/arm64", "linux/amd64")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM scratch\nLABEL a=b\n", "no FROM names an image"),
        ("FROM a\nFROM c\n", "have no platform in common"),
        ("FROM nothing\n", "nothing is not in the double"),
    ],
)
def test_there_have_to_be_platforms(rig: BuildRig, text: str, message: str) -> None:
    rig.base("a", {})
    rig.base("c", {})
    rig.store.indexes = {"a": (ARM64,), "c": (AMD64,)}
    with pytest.raises(Error, match=message):
        rig.build(text, all_platforms=True)


def test_a_single_image_has_one_platform(rig: BuildRig) -> None:
    """And named contexts are what FROM means."""
    rig.base("a", {})
    contexts = (NamedContext(name="ctx", value="docker-image://a"),)
    rig.build("FROM ctx\nLABEL a=b\n", all_platforms=True, contexts=contexts)
    assert [image.platform for image in rig.result.images] == [AMD64]


@pytest.mark.parametrize(
    ("text", "stamps", "arguments", "expected"),
    [
        ("", Stamps(rewrite=True), {}, 1),
        ("", Stamps(rewrite=True, source_date_epoch=1), {}, 0),
        ("", Stamps(rewrite=True), {"SOURCE_DATE_EPOCH": "1"}, 0),
        ("ARG SOURCE_DATE_EPOCH=1\n", Stamps(rewrite=True), {}, 0),
        ("", Stamps(), {}, 0),
    ],
)
def test_rewriting_without_an_epoch_is_warned_about(
    rig: BuildRig, text: str, stamps: Stamps, arguments: dict[str, str], expected: int
) -> None:
    """buildah accepts it, so a script may have it; it does nothing."""
    rig.build(f"{text}FROM scratch\nLABEL a=b\n", stamps=stamps, build_args=arguments)
    notes = [e.text for e in rig.events if isinstance(e, BuildNote) and e.level == "warning"]
    assert [text.startswith("--rewrite-timestamp") for text in notes] == [True] * expected


def test_e50_sockets_are_left_out_and_told_once_a_step(rig: BuildRig) -> None:
    rig.write(d__file="content", d__more="content")
    for number in (1, 2):
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(rig.context / f"d/socket{number}"))
    text = "FROM scratch\nCOPY d/file /f\nCOPY d /d\nCOPY . /e\n"
    for _ in range(2):
        rig.build(text)
        notes = [event for event in rig.events if isinstance(event, BuildNote)]
        assert [(note.level, note.text) for note in notes] == [
            ("warning", "2 sockets are left out: no layer can have one: COPY d /d"),
            ("warning", "2 sockets are left out: no layer can have one: COPY . /e"),
        ]
        assert notes[0].place.endswith("Containerfile:3")
    assert sorted(rig.files()) == ["d/file", "d/more", "e/d/file", "e/d/more", "f"]
