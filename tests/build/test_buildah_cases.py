"""What buildah's own tests taught: command lines and files that buildah accepts, and what its
scripts find in images and containers afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtools.build.events import StepStarted
from imgtools.build.options import BuildOptions, ConfigEdits
from imgtools.build.outputs.model import BuiltImage
from imgtools.spec.platform import Platform
from tests.build.build_rig import BuildRig
from tests.build.cli_request import HOST, requests, run
from tests.build.working_rig import BASE, Scripts


@pytest.fixture
def rig(tmp_path: Path) -> BuildRig:
    return BuildRig(tmp_path)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    made = Scripts(tmp_path_factory.mktemp("buildah"))
    made.fill()
    return made


def asked(
    monkeypatch: pytest.MonkeyPatch, directory: Path, *words: str, context: Path | None = None
) -> BuildOptions:
    """What a command line, run in `directory`, asks to be built."""
    monkeypatch.chdir(directory)
    found = requests(monkeypatch)
    assert run(directory, *words, *([str(context)] if context else [])) == 0
    return found[0].build


def test_here_documents_are_copied_beside_files_of_a_stage(rig: BuildRig) -> None:
    rig.write(file="of the context")
    rig.build(
        "FROM scratch AS one\nCOPY file /found\n"
        "FROM scratch\nCOPY --from=one found <<a <<b /all/\nin a\na\nin b\nb\n"
    )
    assert rig.files() == {"all/found": "of the context", "all/a": "in a\n", "all/b": "in b\n"}


@pytest.mark.parametrize("word", ["arm64", "linux/arm64"])
def test_one_word_of_from_platform_is_enough(rig: BuildRig, word: str) -> None:
    rig.base("b", {"architecture": "arm64"})
    image = rig.build(f"FROM --platform={word} b\nENV a=b\n")
    assert image.config.document["architecture"] == "arm64"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("arm64", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("linux", str(HOST)),
        ("windows", "windows/amd64"),
        ("windows/", "windows/amd64"),
        ("/arm", "linux/arm/v7"),
    ],
)
def test_what_a_platform_does_not_say_is_as_on_the_host(
    word: str, meant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = asked(monkeypatch, tmp_path, "--platform", word).platforms
    assert found == (Platform.parse(meant),)


@pytest.mark.parametrize("word", ["flight", "/", "linux//v7"])
def test_words_that_are_no_platform(word: str, tmp_path: Path) -> None:
    assert run(tmp_path, "--platform", word) == 125


def test_unlimited_swap_needs_no_limit_of_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = asked(monkeypatch, tmp_path, "--memory-swap=-1").host
    assert (host.memory, host.memory_swap) == (None, None)


def test_a_containerfile_in_place_of_the_context(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "part" / "Dockerfile.x"
    file.parent.mkdir()
    file.write_text("FROM scratch\n")
    found = asked(monkeypatch, tmp_path, context=Path("part/Dockerfile.x"))
    assert (found.context, found.files) == (str(file.parent), (str(file),))
    named = asked(monkeypatch, tmp_path, "-f", "other", context=file)
    assert (named.context, named.files) == (str(file), ("other",))


def test_inspect_shows_the_annotations_of_an_image_as_they_are(shop: Scripts) -> None:
    """Not those that an image made of it would have."""
    lines = shop.lines(f"""
        t inspect --format '{{{{.ImageAnnotations}}}}' {BASE}
        c=$(t from --name said {BASE}); t commit -q $c made
        t inspect --format '{{{{.ImageAnnotations}}}}' made
        t inspect --format '{{{{.ImageAnnotations}}}}' $c
    """)
    assert "base.name" not in lines[0]
    assert f"base.name:{BASE}" in lines[-2]
    assert f"base.name:{BASE}" in lines[-1]


def test_templates_know_layers_and_the_system_in_dockers_form(shop: Scripts) -> None:
    lines = shop.lines(f"""
        t inspect --format '{{{{len .Docker.RootFS.DiffIDs}}}}' {BASE}
        c=$(t from --name empty scratch); t commit -q $c nothing >id
        t inspect --format '{{{{len .Docker.RootFS.DiffIDs}}}} {{{{.Docker.RootFS.Type}}}}' $c
        printf 'FROM scratch\nLABEL a=b\n' >Containerfile
        t build -q --os windows --os-version 1.0 --os-feature win32k -t system . >id
        t inspect --format '{{{{.Docker.OSVersion}}}} {{{{.Docker.OSFeatures}}}}' system
    """)
    assert lines == ["1", "0 layers", "1.0 [win32k]"]


def test_features_of_the_system_are_added_to_those_of_the_base_or_taken_away(
    rig: BuildRig,
) -> None:
    rig.base("b", {"os": "linux", "os.version": "1", "os.features": ["one", "two"]})
    image = rig.build("FROM b\nENV a=b\n")
    assert system(image) == ("1", ["one", "two"])
    asked = ("three", "three-", "one-", "four")
    image = rig.build("FROM b\nENV a=b\n", edits=ConfigEdits(os_version="2", os_features=asked))
    assert system(image) == ("2", ["two", "four"])
    image = rig.build("FROM b\nENV a=b\n", edits=ConfigEdits(os_version="-", os_features=("-",)))
    assert system(image) == (None, None)


def system(image: BuiltImage) -> tuple[object, object]:
    """The version and the features of the system that an image's config names."""
    return image.config.document.get("os.version"), image.config.document.get("os.features")


def test_mounts_of_the_command_line_may_be_of_images_that_no_instruction_names(
    rig: BuildRig,
) -> None:
    rig.base("b")
    rig.base("other", {}, bytes(1024))
    rig.build("FROM b\nRUN write /x 1\n", mounts=("type=bind,from=other,target=/o",))
    assert rig.files() == {"x": "1"}
    assert [mount.target for mount in rig.executor.specs[0].mounts] == ["/o"]


def test_files_of_an_output_have_the_time_that_was_asked_for(shop: Scripts) -> None:
    """Those of the image are left alone without --rewrite-timestamp."""
    lines = shop.lines(f"""
        mkdir -p late; echo 1 >late/f; printf 'FROM {BASE}\\nCOPY f /d/f\\n' >late/Containerfile
        t build -q --source-date-epoch 60 -o late/out late >id
        find late/out -mindepth 1 -newermt @60 | wc -l; stat -c %Y late/out/d/f
        t build -q --source-date-epoch 60 -o - late | tar -t -v --full-time --utc | grep d/f
        t build -q -o late/free late >id; find late/free -newermt @60 -name f | wc -l
    """)
    assert lines[:2] == ["0", "60"]
    assert "1970-01-01 00:01:00" in lines[2]
    assert lines[3] == "1"


def test_from_is_told_with_what_is_used(rig: BuildRig) -> None:
    rig.base("b")
    rig.build(
        "ARG base=b\nFROM ${base} as One\nENV a=b\nFROM one\nFROM none AS two\nENV c=d\n",
        from_="",
        target="one",
    )
    assert started(rig)[0] == "FROM b AS one"
    rig.build("FROM --platform=linux/amd64 none AS two\nENV c=d\n", from_="b")
    assert started(rig)[0] == "FROM --platform=linux/amd64 b AS two"
    rig.build("FROM b  as three\nENV c=d\n")
    assert started(rig)[0] == "FROM b  as three"


def started(rig: BuildRig) -> list[str]:
    """The titles of the steps of the last build."""
    return [event.text for event in rig.events if isinstance(event, StepStarted)]


def test_a_container_of_an_image_without_a_name_knows_its_digest(shop: Scripts) -> None:
    lines = shop.lines(f"""
        i=$(t commit -q $(t from --name first {BASE}))
        t commit -q $(t from --name second $i) named
        t inspect --format '{{{{.FromImageDigest}}}}' $i
    """)
    notes = shop.manifest("named").annotations
    assert notes["org.opencontainers.image.base.digest"] == lines[-1]
    assert "org.opencontainers.image.base.name" not in notes
