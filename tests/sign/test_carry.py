"""Signatures and all else that is attached survive copies, and verify where they arrive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, Outcome, cli
from tests.serve_process import serve, skopeo
from tests.sign.attest_rig import SPDX, Rig, new_key, rig
from tests.sign.ground import IMAGE, INDEX

BY_NAME = "--signed-identity NAME:TAG accepts"
SIDES = ("--src-tls-verify=false", "--dest-tls-verify=false")
NO_API = Dialect(referrers="404-text", subject=False)
SPDX_TYPE = "https://spdx.dev/Document"


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Rig]:
    """An index with everything attached to it that there is."""
    with rig(tmp_path, INDEX) as made:
        fill(made)
        yield made


def fill(made: Rig) -> None:
    """Attach one of each kind."""
    for words in (
        ("sign", PLAIN, "--key", made.private, "--format", "both"),
        ("attest", PLAIN, "--key", made.private, "--type", "spdxjson", "--predicate",
         made.file(SPDX)),
        ("attest", PLAIN, "--key", made.private, "--type", "spdxjson", "--predicate",
         made.file(SPDX), "--format", "attachment"),
    ):  # fmt: skip
        done = made.run(*words)
        assert done.code == 0, done.err
    bom = made.file(SPDX, "bom.json")
    assert made.attach("sbom", bom).code == 0
    assert made.attach("sbom", bom, "--format", "attachment").code == 0
    refer(made, "application/vnd.cncf.notary.signature", "application/jose+json")
    refer(made, "application/vnd.dev.example.other.v1", "text/plain")


def refer(made: Rig, kind: str, layer: str) -> None:
    """An artifact of somebody else's that refers to the image."""
    config = made.registry.push_blob("app", b"{}")
    content = made.registry.push_blob("app", kind.encode())
    top = made.sample.top
    value = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": {"mediaType": kind, "digest": str(config), "size": 2},
        "layers": [{"mediaType": layer, "digest": str(content), "size": len(kind)}],
        "subject": {"mediaType": top.media_type, "digest": str(top.digest), "size": top.size},
    }
    made.registry.push_manifest("app", json.dumps(value).encode(), mt.OCI_MANIFEST)


def attached(path: Path, name: str) -> list[tuple[str, str, str]]:
    """What `inspect --referrers` finds at every manifest of an image, told apart."""
    flags = (PLAIN,) if name.startswith("docker:") else ()
    done = cli(path, "inspect", *flags, "--referrers", "--json", name)
    assert done.code == 0, done.err
    found: list[tuple[str, str, str]] = []

    def walk(below: str, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            found.append((below, entry["Digest"], entry["Kind"]))
            found.extend((entry["Digest"], e["Digest"], e["Kind"]) for e in entry["Contents"])
            walk(entry["Digest"], entry["Referrers"])

    for tree in json.loads(done.out):
        walk(tree["Digest"], tree["Referrers"])
    return sorted(found)


def copy(path: Path, *words: str | Path) -> Outcome:
    """A whole copy with everything that is attached."""
    sides = [side for side, name in zip(SIDES, words[-2:], strict=True) if "docker:" in str(name)]
    return cli(path, "copy", "-q", "--all", "--referrers", *sides, *words)


def verify(made: Rig, name: str, *flags: str) -> Outcome:
    """Verify an image by the key, wherever it is."""
    plain = (PLAIN,) if name.startswith("docker:") else ()
    return cli(made.path, "verify", *plain, "--key", made.public, *flags, name)


def check_arrived(made: Rig, name: str) -> None:
    """Everything is there, and holds for the name that was signed."""
    assert attached(made.path, name) == attached(made.path, made.name)
    signed = made.name.removeprefix("docker://")
    for kind in ("sigstore", "bundle"):
        wanted = ("--all", "--strict", "--format", kind, "--signed-identity")
        assert verify(made, name, *wanted, signed).code == 0
        # The copy has another name than the one that was signed.
        verify(made, name, *wanted, "default").refused("not for", BY_NAME, lines=5)
    assert verify(made, name, "--attestation", "spdxjson").code == 0


def test_everything_is_found(full: Rig) -> None:
    """What the others are compared with is not empty."""
    kinds = [kind for _, _, kind in attached(full.path, full.name)]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "signature": 9,  # 3 bundles, 3 tags with a layer each
        "attestation": 3,  # a bundle, a tag with a layer
        "sbom": 3,
        "notation": 1,
        "other": 1,
    }


def test_registry_to_registry(full: Rig) -> None:
    there = f"docker://{full.registry.host}/copy:1"
    assert copy(full.path, full.name, there).code == 0
    check_arrived(full, there)


def test_to_a_registry_without_the_api(full: Rig) -> None:
    with ScriptedRegistry(dialect=NO_API) as other:
        there = f"docker://{other.host}/app:1"
        assert copy(full.path, full.name, there).code == 0
        check_arrived(full, there)


def test_across_the_gap_in_a_layout(full: Rig, tmp_path: Path) -> None:
    """skopeo loses what is attached in layouts; there is no other place for it on a disk."""
    layout = f"oci:{tmp_path / 'gap'}:app-1"
    done = copy(full.path, full.name, layout)
    assert (done.code, done.err) == (0, "")
    assert attached(full.path, layout) == attached(full.path, full.name)
    signed = full.name.removeprefix("docker://")
    for flags in (
        ("--format", "sigstore", "--signed-identity", signed),
        ("--format", "bundle", "--signed-identity", signed),
        ("--attestation", "spdxjson"),
    ):
        assert verify(full, layout, "--all", *flags).code == 0
    with ScriptedRegistry(dialect=NO_API) as other:
        there = f"docker://{other.host}/app:1"
        assert copy(full.path, layout, there).code == 0
        check_arrived(full, there)


def test_a_layout_with_attachments_serves_and_reads_elsewhere(full: Rig, tmp_path: Path) -> None:
    """A registry made of it shows the tags, and skopeo finds the image by its name."""
    folder = tmp_path / "served"
    folder.mkdir()
    layout = f"oci:{folder / 'app'}:v1"
    assert copy(full.path, full.name, layout).code == 0
    assert skopeo("inspect", "--raw", layout).encode() == full.sample.top.content
    with serve(folder) as served:
        there = f"docker://{served.host}/app:v1"
        assert attached(full.path, there) == attached(full.path, full.name)
        name = ("--all", "--strict", "--signed-identity", full.name.removeprefix("docker://"))
        for kind in ("sigstore", "bundle"):
            assert verify(full, there, *name, "--format", kind).code == 0


def test_a_layout_without_a_name_stays_one_image(full: Rig, tmp_path: Path) -> None:
    layout = f"oci:{tmp_path / 'gap'}"
    assert copy(full.path, full.name, layout).code == 0
    assert attached(full.path, layout) == attached(full.path, full.name)
    there = f"docker://{full.registry.host}/copy:1"
    assert copy(full.path, layout, there).code == 0
    check_arrived(full, there)


def test_copying_again_has_nothing_to_do(full: Rig, tmp_path: Path) -> None:
    layout = f"oci:{tmp_path / 'gap'}:app-1"
    assert copy(full.path, full.name, layout).code == 0
    before = (tmp_path / "gap" / "index.json").read_bytes()
    assert copy(full.path, full.name, layout).code == 0
    assert (tmp_path / "gap" / "index.json").read_bytes() == before


def test_deleting_from_a_layout_takes_along_what_is_attached(full: Rig, tmp_path: Path) -> None:
    layout = f"oci:{tmp_path / 'gap'}:app-1"
    assert copy(full.path, full.name, layout).code == 0
    assert cli(full.path, "delete", "--referrers", layout).code == 0
    assert json.loads((tmp_path / "gap" / "index.json").read_bytes())["manifests"] == []
    assert not any((tmp_path / "gap" / "blobs" / "sha256").iterdir())


def test_archives_say_what_they_leave_behind(full: Rig, tmp_path: Path) -> None:
    """An archive is written once, for one name; referrers are in it, tags are not."""
    archive = f"oci-archive:{tmp_path / 'gap.tar'}"
    done = copy(full.path, full.name, archive)
    assert done.code == 0
    assert "not copied" in done.err
    assert f"sha256-{full.digest.hex}.sig" in done.err
    assert f"sha256-{full.digest.hex}.sbom" in done.err
    kinds = {kind for _, _, kind in attached(full.path, archive)}
    assert kinds == {"signature", "attestation", "sbom", "notation", "other"}


def test_a_conversion_leaves_what_is_attached_and_says_so(tmp_path: Path) -> None:
    with rig(tmp_path, IMAGE) as made:
        fill(made)
        there = f"docker://{made.registry.host}/copy:1"
        done = copy(made.path, "--format", "v2s2", made.name, there)
        assert done.code == 0
        assert "referrers of" in done.err
        assert f"sha256-{made.digest.hex}.sig" in done.err
        assert attached(made.path, there) == []


# --- what is at the destination already ---------------------------------------------------------


def test_a_copy_does_not_take_away_the_signature_that_it_makes(full: Rig) -> None:
    there = f"docker://{full.registry.host}/copy:1"
    private, public = new_key(full.path, "mirror")
    done = copy(full.path, "--sign-by-sigstore-private-key", private, full.name, there)
    assert done.code == 0, done.err
    for key in (public, full.public):
        name = ("--signed-identity", "any", "--format", "sigstore", "--all", "--strict")
        assert cli(full.path, "verify", PLAIN, "--key", key, *name, there).code == 0


@pytest.mark.parametrize("where", ["docker", "oci"])
def test_a_copy_adds_to_the_signatures_that_are_there(
    full: Rig, tmp_path: Path, where: str
) -> None:
    there = f"docker://{full.registry.host}/copy:1"
    private, public = new_key(full.path, "mirror")
    assert copy(full.path, full.name, there).code == 0
    assert cli(full.path, "sign", PLAIN, "--key", private, there).code == 0
    if where == "oci":
        layout = f"oci:{tmp_path / 'gap'}:1"
        assert copy(full.path, full.name, layout).code == 0
        assert copy(full.path, there, layout).code == 0
        there = f"docker://{full.registry.host}/third:1"
        assert copy(full.path, layout, there).code == 0
    else:
        assert copy(full.path, full.name, there).code == 0
    for key in (public, full.public):
        name = ("--signed-identity", "any", "--format", "sigstore", "--all", "--strict")
        assert cli(full.path, "verify", PLAIN, "--key", key, *name, there).code == 0


# --- signatures that registries.d says of --------------------------------------------------------


def test_attachments_go_into_layouts_only_with_referrers(full: Rig, tmp_path: Path) -> None:
    places = tmp_path / "registries.d"
    places.mkdir()
    (places / "all.yaml").write_text(
        f"default-docker:\n  lookaside: file://{tmp_path}/aside\n  use-sigstore-attachments: true\n"
    )
    layout = f"oci:{tmp_path / 'gap'}:1"
    words = ("--registries.d", places, "copy", "-q", "--all", "--src-tls-verify=false")
    cli(full.path, *words, full.name, layout).refused("oci: cannot hold", "1 signature")
    assert cli(full.path, *words, "--referrers", full.name, layout).code == 0
    assert attached(full.path, layout) == attached(full.path, full.name)


def test_sync_brings_everything_along(full: Rig) -> None:
    source = full.name.removeprefix("docker://").removesuffix(":1")
    with ScriptedRegistry() as other:
        done = cli(
            full.path, "sync", "--src", "docker", "--dest", "docker", "--all", *SIDES,
            source, f"{other.host}/mirror",
        )  # fmt: skip
        assert done.code == 0, done.err
        check_arrived(full, f"docker://{other.host}/mirror/app:1")
        assert Digest.parse(str(full.digest)) in other.repository("mirror/app").manifests
