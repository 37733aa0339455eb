"""One Containerfile, built with the command line as different users on different rungs: the
same image, byte for byte, whoever builds it and whenever."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import ladder_rig as rig
from tests.engine.ladder_rig import Environment, Ladder
from tests.engine.run_rig import make_image

# Of archives the manifest is made anew and has no time, so all that is left is the build's own.
CONTAINERFILE = """\
FROM oci-archive:{base} AS first
ARG WHO=nobody
COPY --chown=joe:audio --chmod=4755 tool /usr/bin/tool
COPY tree /tree/
RUN mkdir -m 1777 /shared && touch /shared/a && chown 33:42 /shared/a && chmod 2750 /shared/a
USER joe
WORKDIR /home/joe/deep/down
RUN echo $WHO >made && ln made linked && ln -s /nowhere dangling && id -u >id
FROM first
USER root
RUN rm -rf /tree/gone && mv /tree/d /tree/e && chown -R 7:8 /tree && mkfifo -m 600 /pipe
ADD archive.tar /unpacked/
COPY --from=first /home /copied
ENV A=1
CMD ["tool"]
"""
NO_RUN = """\
FROM oci-archive:{base}
COPY --chown=joe:audio --chmod=4755 tool /usr/bin/tool
WORKDIR /home/joe/deep
ADD archive.tar /unpacked/
"""
BUILDERS = (rig.ROOT, rig.GRANTED, rig.UNGRANTED, rig.NAMELESS, rig.POD, rig.ROOT_POD)


@pytest.fixture(scope="module", name="ladder")
def _ladder() -> Iterator[Ladder]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        ladder = Ladder(directory)
        ladder.base(make_image(directory))
        _fill(directory / "context")
        for file, text in (("whole", CONTAINERFILE), ("plain", NO_RUN)):
            (directory / file).write_text(text.format(base=directory / "base.tar"))
        for path in (directory, *directory.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o044 | (0o011 if path.is_dir() else 0))
        yield ladder


def _fill(context: Path) -> None:
    import tarfile

    for name in ("tree/d", "tree/gone"):
        (context / name).mkdir(parents=True)
        (context / name / "file").write_text(name)
    (context / "tool").write_text("#!/bin/sh\necho tool\n")
    source = context / "tool"
    with tarfile.open(context / "archive.tar", "w") as tar:
        entry = tar.gettarinfo(source, "inside")
        entry.uid, entry.gid, entry.mode = 12, 34, 0o2711
        with source.open("rb") as file:
            tar.addfile(entry, file)


def built(ladder: Ladder, where: Environment, file: str, *options: str) -> str:
    """The id of the image that `where` builds."""
    done = ladder.imgtools(
        where, "build", "--file", f"{ladder.directory}/{file}", "--network=none", "--quiet",
        "--timestamp=1700000000", *options, f"{ladder.directory}/context",
    )  # fmt: skip
    assert done.code == 0, (where.name, done.err, done.out)
    (identity,) = done.out.splitlines()
    return identity


def test_every_builder_makes_the_same_image(ladder: Ladder) -> None:
    ids = {where.name: built(ladder, where, "whole") for where in BUILDERS}
    assert len(set(ids.values())) == 1, ids


def test_another_day_makes_the_same_image(ladder: Ladder) -> None:
    first = built(ladder, rig.UNGRANTED, "whole", "--no-cache")
    time.sleep(1.1)
    for path in (ladder.directory / "context").rglob("*"):
        os.utime(path)
    assert built(ladder, rig.UNGRANTED, "whole", "--no-cache") == first


def test_what_needs_no_command_builds_where_none_can_run(ladder: Ladder) -> None:
    """In a restricted pod, and under Docker's profile."""
    expected = built(ladder, rig.ROOT, "plain")
    assert built(ladder, rig.RESTRICTED, "plain") == expected
    assert built(ladder, rig.DOCKER, "plain") == expected


def test_a_command_where_none_can_run_says_what_is_missing(ladder: Ladder) -> None:
    home = ladder.home(rig.RESTRICTED)
    done = ladder.imgtools(
        rig.RESTRICTED, "build", "--file", f"{ladder.directory}/whole", "--progress=json",
        f"{ladder.directory}/context",
    )  # fmt: skip
    assert done.code == 125, done
    assert "EPERM" in done.err or "ermitted" in done.err, done.err
    for line in done.out.splitlines():
        json.loads(line)
    assert not list((home / "store").glob("*/snapshots/*")), "nothing is left"
