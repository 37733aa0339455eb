"""ONBUILD of an image, carried out in a working container, makes the same layer with all ids, with
those of a range and with a single one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.engine import ladder_rig as rig
from tests.engine.ladder_image import layer
from tests.engine.ladder_rig import Environment, Ladder

IMAGE = "localhost/programs:latest"
TRIGGERS = """
ONBUILD COPY --chown=33:42 --chmod=4755 given /copied
ONBUILD RUN chown 3:4 /etc/group; echo made >/made; chmod 640 /made; chown 5 /made
"""


def _committed(ladder: Ladder, where: Environment) -> list[str]:
    """The layers of a container that was made where commands run in `where`'s isolation."""
    (ladder.home(where) / "given").write_text("given")
    source = f"tarball:{ladder.directory}/layer.tar"
    steps = (
        ("copy", source, f"containers-storage:{IMAGE}"),
        ("build", "-q", "--timestamp", "7", "-t", "parent", f"{ladder.directory}/context"),
        ("from", "--network", "none", "--name", "child", "parent"),
        ("commit", "-q", "--rm", "--timestamp", "7", "child", "done"),
        ("inspect", "containers-storage:localhost/done"),
    )
    for verb, *words in steps:
        done = ladder.imgtools(where, verb, *words)
        assert done.code == 0, done.err
    found: list[str] = json.loads(done.out)["Layers"]
    return found


def test_the_same_layers() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        ladder = Ladder(directory)
        (directory / "layer.tar").write_bytes(layer())
        (directory / "context").mkdir()
        (directory / "context" / "Containerfile").write_text(f"FROM {IMAGE}{TRIGGERS}")
        found = [_committed(ladder, where) for where in (rig.ROOT, rig.GRANTED, rig.UNGRANTED)]
    assert len(found[0]) == 2
    assert found[0] == found[1] == found[2]
