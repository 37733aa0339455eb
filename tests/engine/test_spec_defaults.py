"""What `spec` and `features` say agrees with what is implemented, and with other runtimes."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from engine.runtime.features import HOOKS, features_document
from engine.runtime.rootfs.options import known_options, parse_options
from engine.runtime.spec.defaults import default_config
from engine.runtime.spec.model import Hooks
from engine.runtime.spec.parse import parse_config
from engine.runtime.spec.version import NEWEST, OLDEST, check_version


@pytest.mark.parametrize("rootless", [False, True])
def test_default_config_is_one_that_is_read(rootless: bool) -> None:
    """Without a warning about its version, with options that the mounts know."""
    config = parse_config(default_config(rootless=rootless, uid=1000, gid=100))
    assert config.oci_version == NEWEST
    assert ("user" in [n.type for n in config.linux.namespaces]) is rootless
    assert [m.host_id for m in config.linux.gid_mappings] == ([100] if rootless else [])
    for mount in config.mounts:
        parse_options(mount.options)
    assert any("gid=5" in m.options for m in config.mounts) is not rootless


def test_features_are_what_the_specification_defines() -> None:
    """Names and types of features-schema.json."""
    features = features_document("1.2.3")
    assert check_version(OLDEST) == features["ociVersionMin"]
    assert features["ociVersionMax"] == NEWEST
    assert features["annotations"] == {"imgtools.runtime.version": "1.2.3"}
    assert features["mountOptions"] == list(known_options())
    assert len(HOOKS) == len(Hooks._fields)
    linux = features["linux"]
    assert isinstance(linux, dict)
    for value in linux.values():
        assert isinstance(value, list | dict)


def shape(value: Any) -> Any:
    """Names and types of a JSON value, without its scalars."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return type(value).__name__


def missing(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """What the shape `theirs` has and `ours` lacks or types otherwise."""
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        return [] if ours == theirs else [path]
    return [
        found
        for name, inner in theirs.items()
        for found in missing(ours.get(name), inner, f"{path}.{name}".lstrip("."))
    ]


PEERS = [name for name in ("runc", "crun") if shutil.which(name)]


def test_features_have_the_shape_of_other_runtimes() -> None:
    """All but annotations, which are each runtime's own."""
    for peer in PEERS:
        done = subprocess.run([peer, "features"], capture_output=True, check=False)
        if done.returncode:  # older than the command
            continue
        theirs = json.loads(done.stdout)
        ours = features_document("1")
        theirs.pop("annotations", None)
        assert missing(shape(ours), shape(theirs)) == []
        assert ours["hooks"] == theirs["hooks"]
        # config.md has neither: ACLs are options of file systems, to which they go.
        assert set(theirs["mountOptions"]) - set(known_options()) <= {"acl", "noacl"}


@pytest.mark.parametrize("rootless", [False, True])
def test_default_config_has_the_shape_of_other_runtimes(rootless: bool, tmp_path: Any) -> None:
    """Every property they write is one of ours, but for those that say nothing."""
    for peer in PEERS:
        (tmp_path / "config.json").unlink(missing_ok=True)
        command = [peer, "spec", *(["--rootless"] if rootless else [])]
        subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
        theirs = json.loads((tmp_path / "config.json").read_bytes())
        ours = default_config(rootless=rootless)
        # An ambient set without an inheritable one has no effect.
        theirs["process"]["capabilities"].pop("ambient", None)
        theirs["process"]["capabilities"].pop("inheritable", None)
        # Nor has a rule for devices where nobody could set it.
        if rootless:
            theirs["linux"].pop("resources", None)
        assert missing(shape(ours), shape(theirs)) == []
