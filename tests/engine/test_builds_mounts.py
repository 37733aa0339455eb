"""RUN --mount=type=bind, and mount points of every kind, with both drivers: what is shown, what
becomes of what is written, and that nothing gets into a layer, the context, or another step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgtools.build.protocols import MountSource, StepMount
from imgtools.errors import Error, InvalidInput, LimitExceeded, NotFound
from tests.engine.builds_mounts import bind, cache, make_context
from tests.engine.builds_rig import Build, build_of
from tests.engine.layer_tools import DRIVERS, directory, file, symlink, working_directory


@pytest.fixture(name="build", params=DRIVERS, scope="module")
def _build(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Build]:
    with (
        working_directory(tmp_path_factory.mktemp("mounts")) as path,
        build_of(path, request.param) as build,
    ):
        yield build


@pytest.fixture(name="context")
def _context(tmp_path: Path) -> Path:
    return make_context(tmp_path)


def tree(path: Path) -> dict[str, object]:
    """Everything below a directory, with times."""
    found: dict[str, object] = {}
    for top, names, files in os.walk(path):
        for name in (*names, *files):
            each = os.path.join(top, name)
            st = os.lstat(each)
            content = Path(each).read_bytes() if Path(each).is_file() else b""
            if os.path.islink(each):
                content = b""
            found[each] = (st.st_mode, st.st_uid, st.st_mtime_ns, st.st_ino, content)
    return found


def test_e70_mount_points_are_gone_afterwards(build: Build, context: Path) -> None:
    """Those that were made, with the directories above; not what was there, nor what has
    something in it by then."""
    base = build.layer(directory("there"), file("there/kept", b"x"))
    done = build.step(
        "cat /a/b/c/plain /there/plain; echo >/x/other",
        bind(context, target="/a/b/c"),
        bind(context, target="/there"),
        bind(context, "plain", target="/x/y/file"),
        cache("/z/cache"),
        on=base,
    )
    assert done.text == "plain\nplain\n"
    assert done.paths == ["x/", "x/other"]


def test_bind_mounts_are_read_only(build: Build, context: Path) -> None:
    done = build.step("! touch /m/plain /m/new 2>/dev/null; cat /m/sub/file", bind(context))
    assert (done.code, done.text) == (0, "sub/file\n")
    assert build.step("cat /m", bind(context, "sub/deep/file")).text == "sub/deep/file\n"


def test_f7_nothing_is_written_back_to_the_context(build: Build, context: Path) -> None:
    before = tree(context)
    script = (
        "echo changed >/m/plain; rm -r /m/sub/deep; mkdir /m/new; chmod 777 /m;"
        "chown 5 /m/plain 2>/dev/null; cat /m/plain"
    )
    done = build.step(script, bind(context, read_only=False))
    assert (done.text, done.paths) == ("changed\n", [])
    assert build.step("cat /m/plain", bind(context)).text == "plain\n"
    one = build.step("echo >>/m; wc -l </m", bind(context, "plain", read_only=False))
    assert one.text.strip() == "2"
    with pytest.raises(Error, match="read-only"):
        build.step("true", bind(context), bind(context, target="/m/sub/made"))
    assert tree(context) == before


def test_f3_sources_that_are_links_stay_inside(build: Build, context: Path) -> None:
    """CVE-2024-1753: the source of a mount is a link to / of the host."""
    for path in ("root", "up", "", "/", "sub/../../../.."):
        found = build.step("ls /m", bind(context, path)).text.split()
        assert found == sorted(os.listdir(context)), path
    assert build.step("cat /m", bind(context, "inside")).text == "sub/file\n"
    for path in ("shadow", "proc", "proc/etc", "root/etc/shadow", "nothing", "plain/x"):
        with pytest.raises(NotFound):
            build.step("true", bind(context, path))
    hostile = build.layer(symlink("all", "/"), symlink("out", "../../../etc/hostname"))
    source = MountSource(chain_id=hostile, path="all/bin")
    mount = StepMount(kind="bind", target="/m", source=source, read_only=True)
    assert "busybox" in build.step("ls /m", mount).text
    outside = MountSource(chain_id=hostile, path="out")
    with pytest.raises(NotFound):
        build.step("true", StepMount(kind="bind", target="/m", source=outside))


def test_f8_links_in_a_context_lead_nowhere_outside(build: Build, context: Path) -> None:
    """Whoever follows them in the step is in the step's own root."""
    done = build.step(
        "readlink /m/root; ls /m/root/ | grep -cx bin; ! cat /m/shadow 2>/dev/null", bind(context)
    )
    assert (done.code, done.text) == (0, "/\n1\n")
    context.joinpath("self").symlink_to("self")
    with pytest.raises(Error):
        build.step("true", bind(context, "self"))
    linked = context.parent / "linked"
    linked.symlink_to(context)
    assert build.step("cat /m/plain", bind(linked)).text == "plain\n"


@pytest.mark.parametrize("read_only", [True, False])
def test_ignored_files_are_not_shown(build: Build, context: Path, read_only: bool) -> None:
    hidden = {"plain", "sub/secret", "sub/deep", "sub/deep/file", "proc"}
    shown = build.step(
        "ls -R /m/", bind(context, ignored=hidden.__contains__, read_only=read_only)
    ).text
    for name in ("secret", "deep", "plain", "proc"):
        assert name not in shown
    assert "file" in shown
    below = bind(context, "sub", ignored=hidden.__contains__, read_only=read_only)
    assert build.step("ls /m", below).text == "file\n"
    for path in ("plain", "sub/deep"):
        with pytest.raises(NotFound, match="excluded"):
            build.step(
                "true", bind(context, path, ignored=hidden.__contains__, read_only=read_only)
            )


@pytest.mark.parametrize("read_only", [True, False])
def test_what_is_taken_back_into_an_ignored_directory(
    build: Build, context: Path, read_only: bool
) -> None:
    hidden = {"sub", "sub/file", "sub/secret", "sub/deep"}
    mount = bind(context, ignored=hidden.__contains__, read_only=read_only)
    done = build.step("cat /m/sub/deep/file; ls /m/sub", mount)
    assert done.text == "sub/deep/file\ndeep\n"
    below = bind(context, "sub", ignored=hidden.__contains__, read_only=read_only)
    assert build.step("ls /m", below).text == "deep\n"


def test_trees_of_stages(build: Build) -> None:
    """Through several layers, with a path inside, writes forgotten."""
    lower = build.layer(file("s/a", b"a\n"), file("s/b", b"b\n"))
    top = build.layer(file("s/.wh.a", b""), file("s/c", b"c\n"), on=lower)
    for path, inside in (("", "/m/s"), ("s", "/m")):
        source = MountSource(chain_id=top, path=path)
        mount = StepMount(kind="bind", target="/m", source=source)
        written = build.step(f"echo >{inside}/new; rm {inside}/b; ls {inside}", mount)
        assert written.text == "c\nnew\n"
        assert build.step(f"ls {inside}", mount).text == "b\nc\n"
    one = MountSource(chain_id=top, path="s/b")
    read_only = StepMount(kind="bind", target="/m", source=one, read_only=True)
    assert build.step("cat /m", read_only).text == "b\n"
    empty = StepMount(kind="bind", target="/m", source=MountSource())
    assert build.step("touch /m/x; ls -A /m", empty).text == "x\n"


def test_e72_targets_that_are_links_and_nested_mounts(build: Build, context: Path) -> None:
    base = build.layer(symlink("l", "/../../real/place"), directory("real"), symlink("d", "/tmp"))
    done = build.step(
        "ls /real/place; cat /d/x",
        bind(context, "sub/deep", target="/l"),
        bind(context, "plain", target="/d/x"),
        on=base,
    )
    assert (done.text, done.paths) == ("file\nplain\n", [])
    nested = build.step(
        "cat /t/a/plain; ls -A /t; cat /t/a/sub/deep/file",
        bind(context, "sub/secret", target="/t/a/sub/deep/file"),
        bind(context, target="/t/a"),
        StepMount(kind="tmpfs", target="/t"),
    )
    assert nested.text == "plain\na\nsub/secret\n"
    with pytest.raises(InvalidInput, match="absolute"):
        build.step("true", bind(context, target="relative"))
    for target in ("/", "/proc", "/proc/self"):
        with pytest.raises(Error):
            build.step("true", bind(context, target=target))


def test_more_mounts_than_there_can_be(build: Build, context: Path) -> None:
    many = [bind(context, target=f"/m/{number}") for number in range(48)]
    assert build.step("ls /m | wc -l", *many).text.strip() == "48"
    with pytest.raises(LimitExceeded):
        build.step("true", *many, cache())
    with pytest.raises(InvalidInput, match="magic"):
        build.step("true", StepMount(kind="magic", target="/x"))
