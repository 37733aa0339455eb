"""`imgtools manifest`, push and pull: indexes that are put together in a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.build.working_rig import Scripts
from tests.rig import RegistryServer


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    """A store with the images `one` (of this machine) and `two` (another architecture)."""
    made = Scripts(tmp_path_factory.mktemp("lists"))
    (made.work / "f").write_text("f\n")
    made.lines("""
        c=$(t from --arch amd64 scratch); t copy -q $c f /one; t commit -q --rm $c one
        c=$(t from --arch arm64 scratch); t copy -q $c f /two; t commit -q --rm $c two
    """)
    return made


def entries(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Architecture and variant of each entry."""
    platforms = [each.get("platform", {}) for each in document["manifests"]]
    return [(each.get("architecture", ""), each.get("variant", "")) for each in platforms]


def test_an_index_is_made_changed_and_removed(shop: Scripts) -> None:
    done = shop("""
        t manifest create a one >/dev/null; t manifest add a two >added
        t manifest inspect a
    """)
    found = json.loads(done.stdout)
    assert found["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert entries(found) == [("amd64", ""), ("arm64", "")]
    second = found["manifests"][1]["digest"]
    assert (shop.work / "added").read_text().endswith(f": {second}\n")
    found = shop.json(f"""
        t manifest annotate --variant v9 --os-features x,y --annotation k=v a {second} >/dev/null
        t manifest annotate --index --annotation of=all a >/dev/null
        t manifest remove a one >/dev/null; t manifest inspect a
    """)
    assert found["annotations"] == {"of": "all"}
    assert [each["digest"] for each in found["manifests"]] == [second]
    assert found["manifests"][0]["platform"] == {
        "architecture": "arm64", "os": "linux", "os.features": ["x", "y"], "variant": "v9"
    }  # fmt: skip
    assert found["manifests"][0]["annotations"] == {"k": "v"}
    done = shop("""
        t manifest exists a && echo there; t manifest rm a; t manifest exists a || echo "gone $?"
        t manifest rm a || echo "status $?"
    """)
    lines = done.stdout.splitlines()
    assert lines[0] == "there"
    assert lines[1] == "untagged: localhost/a:latest"
    assert lines[3:] == ["gone 1", "status 125"]


def test_create_minds_what_is_there(shop: Scripts) -> None:
    done = shop("""
        t manifest create there >/dev/null; t manifest create there one || echo "status $?"
        t manifest create --amend there one >/dev/null
        t manifest create --amend there two >/dev/null; t manifest inspect there | grep -c digest
        t manifest create --replace there two >/dev/null; t manifest inspect there | grep -c digest
        t manifest create one || echo "status $?"
        t manifest create --amend --replace there || echo "status $?"
        t manifest create new nothing-there || t manifest exists new || echo none
    """)
    assert done.stdout.splitlines() == ["status 125", "2", "1", "status 125", "status 125", "none"]


def test_an_entry_says_what_was_asked_for(shop: Scripts) -> None:
    found = shop.json("""
        t manifest create said >/dev/null
        t manifest add --os plan9 --arch mips --variant r2 --os-version 4 --features f1 said one \
            >/dev/null
        t manifest inspect said
    """)
    entry = found["manifests"][0]
    assert entry["platform"] == {
        "architecture": "mips", "os": "plan9", "os.version": "4", "variant": "r2"
    }  # fmt: skip
    assert entry["features"] == ["f1"]


def test_commit_adds_to_an_index(shop: Scripts) -> None:
    found = shop.json("""
        c=$(t from scratch); t commit -q --manifest grown $c grown-1 >/dev/null
        t config --variant v3 $c; t commit -q --rm --manifest grown $c grown-2 >/dev/null
        t manifest inspect grown
    """)
    assert [variant for _, variant in entries(found)] == ["", "v3"]


def test_artifacts_are_entries(shop: Scripts, tmp_path: Path) -> None:
    (shop.work / "paper.txt").write_text("paper\n")
    lines = shop.lines(f"""
        t manifest create arts one >/dev/null
        t manifest add --artifact --artifact-type text/x --artifact-layer-type text/plain \
            --artifact-annotation a=b --artifact-subject one --annotation e=f arts paper.txt
        t manifest push -q arts oci:{tmp_path}/out:x
        t inspect --raw oci:{tmp_path}/out:x
    """)
    digest = lines[0].partition(": ")[2]
    entry = json.loads(lines[1])["manifests"][1]
    assert (entry["digest"], entry["artifactType"]) == (digest, "text/x")
    assert entry["annotations"] == {"e": "f"}
    blobs = tmp_path / "out" / "blobs" / "sha256"
    manifest = json.loads((blobs / digest.partition(":")[2]).read_text())
    assert manifest["annotations"] == {"a": "b"}
    assert manifest["subject"]["digest"].startswith("sha256:")
    layer = manifest["layers"][0]
    assert layer["annotations"] == {"org.opencontainers.image.title": "paper.txt"}
    assert (blobs / layer["digest"].partition(":")[2]).read_text() == "paper\n"
    assert shop("t manifest remove arts paper.txt").stdout.endswith(f": {digest}\n")


def test_a_changed_file_of_an_artifact_is_noticed(shop: Scripts, tmp_path: Path) -> None:
    done = shop(f"""
        echo old >changing; t manifest create late >/dev/null
        t manifest add --artifact late changing >/dev/null; echo new >changing
        t manifest push -q late oci:{tmp_path}/out:x || echo "status $?"
    """)
    assert done.stdout == "status 125\n"
    assert "expected" in done.stderr


@pytest.mark.parametrize(
    "command",
    ["add late", "add nope one", "add late one two", "add --artifact-type x late one",
     "annotate late", "annotate --index --os x late", "annotate late nope", "remove late one",
     "inspect oci:nowhere:x", "push nope dir:x", "push --add-compression zstd late dir:x",
     "create --annotation bare l"],
)  # fmt: skip
def test_mistakes_are_status_125(shop: Scripts, command: str) -> None:
    shop.lines("t manifest create --amend late >/dev/null")
    done = shop(f"t manifest {command}")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("imgtools: ")


def test_everything_goes_to_a_registry_and_comes_back(
    shop: Scripts, registry_plain: RegistryServer
) -> None:
    place = f"{registry_plain.host}/working/lists"
    lines = shop.lines(f"""
        t manifest create --amend multi one two >/dev/null
        t manifest push -q --tls-verify=false --digestfile df multi {place}:all; cat df; echo
        t manifest inspect --tls-verify=false {place}:all
    """)
    found = json.loads("\n".join(lines[1:]))
    assert entries(found) == [("amd64", ""), ("arm64", "")]
    lines = shop.lines(f"""
        t push -q --tls-verify=false one {place}:one
        t pull -q --tls-verify=false --platform linux/arm64 {place}:all
        t inspect --type image -f '{{{{.OCIv1.Architecture}}}}' {place}:all
        t pull -q --tls-verify=false --policy always {place}:one
        t images -q --no-trunc localhost/one
        t pull -q --tls-verify=false --policy never {place}:none || echo "status $?"
        t pull -q --tls-verify=false --all-tags {place} | wc -l
        t manifest create remote >/dev/null
        t manifest add --tls-verify=false --all remote {place}:all >/dev/null
        t manifest push -q --tls-verify=false --rm remote docker://{place}:again
        t manifest exists remote || echo removed
        t inspect --raw --tls-verify=false docker://{place}:again | grep -c arm64
    """)
    assert lines[1] == "arm64"
    assert f"sha256:{lines[2]}" == lines[3]
    assert lines[4:] == ["status 125", "2", "removed", "1"]


def test_push_needs_a_place(shop: Scripts) -> None:
    done = shop(
        "c=$(t from scratch); i=$(t commit -q --rm $c); t push $i || echo status $?; t push a b c"
    )
    assert done.stdout == "status 125\n"
    assert "has no name" in done.stderr
    assert done.returncode == 125
