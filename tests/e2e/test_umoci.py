"""umoci unpacks what imgtools wrote, and the tree is that of the layers, applied in order."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.debian import CAPABILITY, TAG, Made
from tests.e2e.forms import place
from tests.rig import RegistryServer, RunCli


def unpack(layout: Path, bundle: Path) -> Path:
    """The root filesystem that umoci makes of a layout."""
    as_user = ["--rootless"] if os.geteuid() else []
    subprocess.run(
        ["umoci", "unpack", *as_user, "--image", f"{layout}:{TAG}", bundle],
        check=True,
        capture_output=True,
    )
    return bundle / "rootfs"


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below `root` but for the content of files, by path."""
    found: dict[str, tuple[Any, ...]] = {}
    inodes: dict[int, str] = {}
    for directory, names, files in os.walk(root):
        for name in sorted([*names, *files]):
            path = Path(directory, name)
            info = path.lstat()
            relative = str(path.relative_to(root))
            # Hard links are told by the first of their names.
            first = inodes.setdefault(info.st_ino, relative)
            is_link = stat.S_ISLNK(info.st_mode)
            found[relative] = (
                oct(info.st_mode),
                info.st_uid,
                info.st_gid,
                info.st_rdev,
                0 if path.is_dir() else info.st_size,
                first if not path.is_dir() else relative,
                info.st_mtime_ns,
                path.readlink() if is_link else None,
                tuple((x, os.getxattr(path, x)) for x in sorted(os.listxattr(path)))
                if not is_link
                else (),
            )
        names.sort()
    return found


@pytest.fixture(scope="module")
def original(debian: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What umoci makes of the layout that was written by hand."""
    directory = tmp_path_factory.mktemp("original")
    yield unpack(debian.layout, directory / "bundle")
    shutil.rmtree(directory)


@pytest.mark.parametrize("source", ["docker", "docker-archive"])
def test_umoci_unpacks_our_layouts(
    source: str, debian: Made, original: Path, registry_plain: RegistryServer, repository: str,
    run_cli: RunCli, room: Path,
) -> None:  # fmt: skip
    """What came a long way is what was there."""
    first = place(source, room, registry_plain, repository)
    run_cli("copy", *first.flags("dest"), f"oci:{debian.layout}:{TAG}", first.name, check=True)
    run_cli("copy", *first.flags("src"), first.name, f"oci:{room}/ours:{TAG}", check=True)
    copied = unpack(room / "ours", room / "copied")
    done = subprocess.run(
        ["diff", "-r", "--no-dereference", original, copied],
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    # Pipes and devices, of which diff says that it did not look into them.
    same_kind = re.compile(r"File .* is a (.*) while file .* is a \1")
    different = [x for x in done.stdout.splitlines() if not same_kind.fullmatch(x)]
    assert (different, done.stderr) == ([], "")
    expected = tree(original)
    assert tree(copied) == expected
    assert len(expected) > 1000


def test_the_image_is_as_hard_as_it_looks(original: Path) -> None:
    """The tree that the others are compared with has what the layers are about."""
    root = original
    there = root / "opt" / "e2e"
    assert not (root / "usr/share/common-licenses").exists()
    assert sorted(os.listdir(there / "opaque")) == ["above"]
    assert (there / "becomes-file").read_bytes() == b"now a file"
    assert os.listdir(there / "becomes-directory") == ["inside"]
    assert not (there / "owned").exists()
    assert not (there / "third-name").exists()
    assert (there / "set-uid").stat().st_mode & 0o7777 == 0o4755
    assert (there / "set-uid").samefile(there / "other-name")
    assert os.readlink(there / "link") == "../../etc/passwd"
    if os.geteuid() == 0:
        assert os.getxattr(there / "capable", "security.capability") == CAPABILITY
    assert os.getxattr(there / "capable", "user.colour") == "grün".encode()
    assert len(list(root.rglob("*"))) > 1000
