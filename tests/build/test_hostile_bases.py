"""Base images whose configs and files are not what they should be: refused, never a crash."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from imgtools.build.execute.step_copy import SPOOLED, Spool
from imgtools.build.execute.users import owner_of_user, resolve_owner
from imgtools.build.planning.inherited import checked_settings
from imgtools.errors import InvalidInput, InvalidManifest, NotFound, StorageError
from imgtools.spec.digest import Digest
from imgtools.spec.strict_json import dumps
from tests.build.build_rig import BuildRig
from tests.build.test_build_users import opened
from tests.build.working_rig import Scripts

HUGE = "9" * 5000
WRONG: list[tuple[str, Any]] = [
    ("User", 5), ("User", ["a"]), ("WorkingDir", {}), ("StopSignal", 9),
    ("Env", "A=1"), ("Cmd", "sh"), ("Cmd", [1]), ("Entrypoint", 1.5), ("Shell", 1.5),
    ("Shell", [["/bin/sh"]]), ("OnBuild", 1), ("OnBuild", [None]),
    ("Labels", ["a"]), ("Volumes", ["/v"]), ("ExposedPorts", "80"), ("Healthcheck", "x"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_settings_of_a_wrong_type_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(InvalidManifest, match=f"image base: '{key}'"):
        checked_settings({"config": {key: value}}, "base")
    assert checked_settings({"config": {key: None}}, "base") == {key: None}
    assert checked_settings({"config": None}, "base") == {}


@pytest.mark.parametrize(("key", "value"), [("OnBuild", [None]), ("Shell", 1.5), ("User", [5])])
def test_a_build_on_such_an_image_says_so(tmp_path: Path, key: str, value: Any) -> None:
    rig = BuildRig(tmp_path)
    rig.base("base", {"config": {key: value}})
    with pytest.raises(InvalidManifest, match=key):
        rig.build("FROM base\nRUN write /f x\nEXPOSE 1\nVOLUME /v\n")


def test_ports_that_are_no_numbers_are_carried_on_behind_the_others(tmp_path: Path) -> None:
    rig = BuildRig(tmp_path)
    rig.base("base", {"config": {"ExposedPorts": {"web/tcp": {}, HUGE: {}, "²/udp": {}}}})
    image = rig.build("FROM base\nEXPOSE 80 9\n")
    ports = list(image.config.document["config"]["ExposedPorts"])
    assert ports == ["9/tcp", "80/tcp", HUGE, "web/tcp", "²/udp"]


@pytest.mark.parametrize("fields", ["²:²", f"{HUGE}:5", "4294967295:1", "5:4294967296", "٣:٣"])
def test_ids_that_no_kernel_has_make_no_user(tmp_path: Path, fields: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(f"app:x:{fields}::/:\nnext:x:3:4::/:\n")
    (tmp_path / "etc/group").write_text("staff:x:²:\nstaff:x:6:\n")
    with opened(tmp_path) as tree:
        with pytest.raises(NotFound):
            resolve_owner(tree, "app", option="--chown")
        assert resolve_owner(tree, "next:staff", option="--chown") == (3, 6)
        with pytest.raises(InvalidInput, match="no id"):
            owner_of_user(tree, HUGE)
        assert owner_of_user(tree, "0" * 5000 + "3") == (3, 4)


def test_lines_of_passwd_end_at_newlines_only(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("a:x:5:5:\u2028root:x:7:7:\x0broot:x:8:8:\nroot:x:0:0:\n")
    with opened(tmp_path) as tree:
        assert resolve_owner(tree, "root", option="USER") == (0, 0)


def test_numbers_of_stages_may_be_of_any_length(tmp_path: Path) -> None:
    rig = BuildRig(tmp_path)
    with pytest.raises(NotFound, match="no stage"):
        rig.build("FROM scratch\n", target=HUGE)
    with pytest.raises(InvalidInput, match="no stage"):
        rig.build(f"FROM scratch\nCOPY --from={HUGE} / /\n")
    assert rig.build("FROM scratch\nENV A=1\nFROM scratch\n", target="0" * 5000).config.env[1:]


def test_urls_that_are_none_are_refused(tmp_path: Path) -> None:
    rig = BuildRig(tmp_path)
    with pytest.raises(InvalidInput, match="malformed URL"):
        rig.build("FROM scratch\nADD http://[x /\n")


def test_a_user_file_that_is_a_fifo_has_no_users(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        fifo = tarfile.TarInfo("etc/passwd")
        fifo.type = tarfile.FIFOTYPE
        tar.addfile(fifo)
    rig = BuildRig(tmp_path)
    rig.base("base", {}, content.getvalue())
    rig.write(a="x")
    with pytest.raises(NotFound, match="no user 'app'"):
        rig.build("FROM base\nCOPY --chown=app a /\n")


@pytest.mark.parametrize("size", [1, 3 * SPOOLED])
def test_a_full_disk_is_no_fault_of_standard_output(size: int) -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        spool = Spool(file, "the scratch directory")
        with pytest.raises(StorageError, match="the scratch directory: no space"):
            for _ in range(size):
                spool.write(b"x")
            spool.finish()


def _layout(directory: Path, settings: dict[str, Any]) -> None:
    """An image without layers, called x, in an OCI layout."""

    def put(document: dict[str, Any]) -> dict[str, Any]:
        content = dumps(document)
        path = directory / "blobs" / "sha256" / Digest.of(content).hex
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {"digest": str(Digest.of(content)), "size": len(content)}

    rootfs = {"type": "layers", "diff_ids": []}
    where = {"os": "linux", "architecture": "amd64"}
    config = put({**where, "config": settings, "rootfs": rootfs})
    image = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{image}.manifest.v1+json",
        "config": {"mediaType": f"{image}.config.v1+json", **config},
        "layers": [],
    }
    entry = {"mediaType": manifest["mediaType"], **put(manifest)}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "x"}
    (directory / "index.json").write_bytes(dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def test_no_working_container_is_made_of_such_an_image(tmp_path: Path) -> None:
    scripts = Scripts(tmp_path)
    scripts.fill()
    for number, (key, value) in enumerate([("OnBuild", [None]), ("Volumes", "x"), ("Cmd", 1)]):
        _layout(scripts.work / str(number), {key: value})
        done = scripts(f"t from --name c{number} oci:{number}:x")
        assert done.returncode == 125
        assert f"'{key}' in its config is not" in done.stderr
        assert "Traceback" not in done.stderr
    assert scripts.names() == []
