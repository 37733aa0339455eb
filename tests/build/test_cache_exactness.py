"""A build with the memory of another build gives what it gives without: whatever was changed in
between, nothing stale is taken, and what was not changed is not made again."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgtools.build.options import CacheOptions, ConfigEdits, NamedContext, Stamps
from imgtools.build.protocols import HostSettings, Output, RunSpec, StepMount
from imgtools.errors import Error
from imgtools.spec.digest import Digest
from imgtools.task import Task
from tests.build.build_rig import BuildRig, ExecutorDouble

LINES = [
    "FROM scratch", "FROM one", "FROM scratch AS two", "FROM two", "FROM one AS one",
    "ARG A", "ARG A=1", "ARG A=2", "ARG TARGETARCH", "ENV A=3", "ENV B=$A", "ENV B=x",
    "RUN one", "RUN two", 'RUN ["one"]', "RUN <<E\none\nE", "RUN <<E cat\none\nE",
    "RUN --network=none one", "RUN --network=default one", "RUN --network=host one",
    "RUN --mount=type=bind,target=/m one", "RUN --mount=type=bind,source=a,target=/m one",
    "RUN --mount=type=bind,source=d,target=/m one", "RUN --mount=type=bind,source=d[1],target=/m x",
    "RUN --mount=type=bind,source=l/../a,target=/m one",
    "RUN --mount=type=bind,from=two,target=/m one", "RUN --mount=type=bind,from=c,target=/m one",
    "RUN --mount=type=cache,from=c,target=/m one", "RUN --mount=type=tmpfs,target=/m one",
    "RUN --mount=type=cache,target=/m one", "RUN --mount=type=cache,target=/m,mode=0700 one",
    "COPY a /", "COPY a /b", "COPY a b /x/", "COPY d /d", "COPY d/* /d/", "COPY l /l",
    "COPY --chmod=600 a /", "COPY --chown=5 a /", "COPY --link a /", "COPY --parents d/f /",
    "COPY --exclude=f d /d", "COPY --from=two / /t", "COPY --from=c f /", "ADD a /",
    "COPY <<E /h\n$A\nE", "COPY <<'E' /h\n$A\nE", "COPY . /all",
    "USER 5", "USER 6:7", "WORKDIR /w", "WORKDIR v", "VOLUME /w", "VOLUME /out",
    "LABEL a=b", "CMD one", 'SHELL ["/bin/x", "-y"]', "STOPSIGNAL 9",
]  # fmt: skip
OTHER = Digest.of(b"another")
FILES = ["a", "b", "d/f", "d/g", "d[1]/f", "d1/f", "s/a", "s/t/x", "c/f"]
Edit = tuple[str, int, str]
EDITS: st.SearchStrategy[Edit] = st.one_of(
    st.tuples(st.sampled_from(["line", "insert"]), st.integers(0, 7), st.sampled_from(LINES)),
    st.tuples(st.sampled_from(["drop", "swap"]), st.integers(0, 7), st.just("")),
    st.tuples(st.just("content"), st.just(0), st.sampled_from(FILES)),
    st.tuples(st.sampled_from(["mode", "remove"]), st.just(0), st.sampled_from(FILES)),
    st.tuples(st.just("ignore"), st.just(0), st.sampled_from(["a", "d", "d/f", "*\n!a", "**/f"])),
    st.tuples(st.just("option"), st.integers(0, 7), st.just("")),
)
OPTIONS: list[dict[str, Any]] = [
    {"build_args": {"A": "9"}},
    {"build_args": {"A": "8", "B": "7"}},
    {"host": HostSettings(network="none")},
    {"host": HostSettings(network="private")},
    {"compat_volumes": True},
    {"stamps": Stamps(timestamp=5)},
    {"stamps": Stamps(source_date_epoch=7, rewrite=True)},
    {"target": "two"},
    {"host": HostSettings(no_hosts=True)},
    {"host": HostSettings(add_hosts=("a:192.0.2.1",), devices=("/dev/null",))},
    {"host": HostSettings(volumes=("/a:/v",), cap_add=("CHOWN",), group_add=("5",))},
    {"stamps": Stamps(source_date_epoch=7)},
    {"stamps": Stamps(source_date_epoch=9)},
]


class TellTale(ExecutorDouble):
    """A step that writes down all that it was given, in places that VOLUME may name."""

    def _run(self, root: Path, spec: RunSpec, output: Output, task: Task) -> int:
        mounts = [(m.kind, m.target, m.mode, m.read_only, _digest(m)) for m in spec.mounts]
        network = spec.settings.network if spec.network in ("", "default") else spec.network
        network = "" if network == "private" else network
        told = (spec.args, sorted(spec.env), spec.workdir, spec.user, mounts, network)
        host = dataclasses.replace(spec.settings, network="")
        text = hashlib.sha256(repr((told, spec.insecure, host)).encode()).hexdigest()
        for name in ("w", "out"):
            (root / name).mkdir(exist_ok=True)
            (root / name / text[:8]).write_text(text)
        return 0


def _digest(mount: StepMount) -> str:
    source = mount.source
    if source is None or not source.directory:
        return repr((mount.content, source and source.path))
    # As the engine resolves it: in the root, links and all.
    top = Path(os.path.realpath(Path(source.directory, source.path.lstrip("/"))))
    found = sorted(path for path in (top, *top.rglob("*")) if path.is_file())
    ignored = source.ignored or (lambda path: False)
    return repr(
        [
            (str(path.relative_to(top)), path.stat().st_mode, path.read_bytes())
            for path in found
            if not ignored(str(path.relative_to(source.directory)))
        ]
    )


def _rig(directory: Path) -> BuildRig:
    rig = BuildRig(directory, executor=TellTale())
    rig.write(**{name.replace("/", "__"): name for name in FILES})
    (rig.context / "l").symlink_to("s/t")
    rig.base("one", {"config": {"Env": ["A=base"], "Volumes": {"/v": {}}}})
    return rig


def _options(rig: BuildRig) -> dict[str, Any]:
    return {"contexts": (NamedContext(name="c", value=str(rig.context / "c")),)}


def _edited(lines: list[str], edit: Edit, rig: BuildRig) -> tuple[list[str], dict[str, Any]]:
    kind, at, value = edit
    lines, at = list(lines), at % max(1, len(lines))
    path = rig.context / value
    if kind == "line" and lines:
        lines[at] = value
    elif kind == "insert":
        lines.insert(at, value)
    elif kind == "drop" and lines:
        del lines[at]
    elif kind == "swap" and lines:
        lines.append(lines.pop(at))
    elif kind == "content":
        path.write_text("another")
    elif kind == "mode":
        path.chmod(0o751)
    elif kind == "remove":
        path.unlink()
    elif kind == "ignore":
        (rig.context / ".dockerignore").write_text(value)
    elif kind == "option":
        return lines, OPTIONS[at % len(OPTIONS)]
    return lines, {}


def _outcome(rig: BuildRig, lines: list[str], more: dict[str, Any]) -> object:
    """All that an image is but for the times in it; what an error says where it is refused."""
    text = "FROM scratch AS two\nCOPY a /two\nFROM one\n" + "\n".join(lines) + "\n"
    try:
        image = rig.build(text, **_options(rig), **more)
    except Error as e:
        return type(e)
    nodes = {}
    for chain in [layer.chain_id for layer in image.layers][-1:]:
        with rig.store.scratch() as directory:
            rig.store._unpack(chain, directory)
            for path in sorted(Path(directory).rglob("*")):
                status = path.lstat()
                content = path.read_bytes() if path.is_file() else b""
                where = (status.st_mode, status.st_uid, status.st_gid, content)
                nodes[str(path.relative_to(directory))] = where
    history = [step.created_by for step in image.config.history]
    return nodes, image.config.document["config"], history


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(st.lists(st.sampled_from(LINES), max_size=4), EDITS)
def test_a_build_with_a_memory_gives_what_it_gives_without(lines: list[str], edit: Edit) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        rig, fresh = _rig(Path(one)), _rig(Path(other))
        _outcome(rig, lines, {})
        changed, more = _edited(lines, edit, rig)
        _edited(lines, edit, fresh)
        outcome = _outcome(rig, changed, more)
        assert outcome == _outcome(fresh, changed, more)
        if isinstance(outcome, tuple):
            ran = rig.ran
            assert _outcome(rig, changed, more) == outcome
            assert not rig.ran, f"{ran} steps ran first, {rig.ran} again"


KNOWN: list[tuple[list[str], list[str], dict[str, Any], dict[str, Any], Edit | None]] = [
    (["VOLUME /w", "RUN one"], ["VOLUME /w", "RUN one"], {}, OPTIONS[4], None),
    (["VOLUME /w", "RUN one"], ["VOLUME /out", "RUN one"], OPTIONS[4], OPTIONS[4], None),
    (["RUN --network=default one"],) * 2 + (OPTIONS[2], {}, None),
    ([LINES[23]], [LINES[23]], {}, {}, ("content", 0, "d[1]/f")),
    ([LINES[24]], [LINES[24]], {}, {}, ("content", 0, "s/a")),
    ([LINES[24]], [LINES[24]], {}, {}, ("content", 0, "a")),
    (["RUN --mount=type=cache,from=c,target=/m one"],) * 2 + ({}, {}, ("content", 0, "c/f")),
    (["RUN one"],) * 2 + ({}, OPTIONS[8], None),
    (["RUN one"],) * 2 + (OPTIONS[9], {}, None),
    (["RUN one"],) * 2 + (OPTIONS[9], OPTIONS[10], None),
]  # fmt: skip


@pytest.mark.parametrize("case", KNOWN)
def test_what_once_was_taken_for_the_same(case: Any, tmp_path: Path) -> None:
    first, then, before, after, edit = case
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    rig, fresh = _rig(tmp_path / "one"), _rig(tmp_path / "other")
    assert isinstance(_outcome(rig, first, before), tuple)
    for each in (rig, fresh):
        if edit is not None:
            _edited([], edit, each)
    assert _outcome(rig, then, after) == _outcome(fresh, then, after)


@pytest.mark.parametrize("network", ["", "default", "private"])
def test_names_of_the_usual_network_are_one(network: str, tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    _outcome(rig, ["RUN one"], {})
    _outcome(rig, ["RUN --network=default one"], {"host": HostSettings(network=network)})
    assert not rig.ran


PLAIN, SEVEN, NINE = (Stamps(source_date_epoch=epoch) for epoch in (None, 7, 9))
TWELVE = Stamps(timestamp=12)


@pytest.mark.parametrize("line", ["WORKDIR /w", "COPY a /new/b", "COPY --link <<E /h\nE"])
@pytest.mark.parametrize(("before", "after"), [(PLAIN, SEVEN), (SEVEN, NINE), (NINE, TWELVE)])
def test_what_is_made_has_the_time_of_this_build(
    line: str, before: Stamps, after: Stamps, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    rig, fresh = _rig(tmp_path / "one"), _rig(tmp_path / "other")
    for each in (rig, fresh):
        os.utime(each.context / "a", (5, 5))
    text = f"FROM one\n{line}\n"
    rig.build(text, stamps=before)
    warm, cold = (each.build(text, stamps=after) for each in (rig, fresh))
    assert [layer.diff_id for layer in warm.layers] == [layer.diff_id for layer in cold.layers]
    assert warm.config.created == cold.config.created


def test_an_age_is_counted_from_when_a_step_was_made(tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    for times in range(2):
        rig.build(
            "FROM one\nRUN one\n",
            stamps=Stamps(timestamp=0),
            cache=CacheOptions(ttl=3600.0),
        )
        assert rig.ran == 1 - times


def test_a_time_that_was_asked_for_is_not_that_of_the_next_build(tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    text, edits = "FROM one\nLABEL a=b\n", ConfigEdits(identity_label=False)
    rig.build(text, stamps=Stamps(timestamp=0), edits=edits)
    assert not rig.build(text, edits=edits).config.created.startswith("1970")


@pytest.mark.parametrize(("call", "ids"), [("geteuid", (7, -1)), ("getegid", (-1, 7))])
def test_whose_the_files_of_a_mount_are_counts(
    call: str, ids: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = _rig(tmp_path)
    ran = []
    for change in (False, False, True):
        if change and os.geteuid() == 0:
            os.chown(rig.context / "a", *ids)
        elif change:
            # What was the caller's, and so root's in a step, is somebody else's.
            monkeypatch.setattr(os, call, lambda: 4242)
        rig.build("FROM one\nRUN --mount=type=bind,target=/m one\n")
        ran.append(rig.ran)
    assert ran == [1, 0, 1]


DAMAGED: list[dict[str, Any]] = [
    {"created": 1e300}, {"created": float("nan")}, {"created": -1.0}, {"created": 3e11},
    {"size": -5}, {"diff_id": OTHER}, {"diff_id": None}, {"chain_id": OTHER}, {"chain_id": None},
    {"parent": OTHER},
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_records_that_contradict_themselves_are_forgotten(
    damage: dict[str, Any], tmp_path: Path
) -> None:
    rig = _rig(tmp_path)
    lines = ["COPY a /", "RUN one", "WORKDIR /v", "LABEL a=b"]
    before = _outcome(rig, lines, {})
    for key, record in rig.store.records.items():
        rig.store.records[key] = dataclasses.replace(record, **damage)
    assert _outcome(rig, lines, {}) == before
    assert _outcome(rig, lines, {}) == before
    assert rig.ran <= 1


@pytest.mark.parametrize("seconds", [-62_135_596_800, 0, 253_402_300_799])
def test_times_of_four_digit_years_are_written(seconds: int, tmp_path: Path) -> None:
    rig = _rig(tmp_path)
    image = rig.build("FROM scratch\nCOPY a /\n", stamps=Stamps(source_date_epoch=seconds))
    assert len(image.config.created) == len("2000-01-01T00:00:00Z")


def test_a_plan_pulls_nothing_and_knows_what_is_here(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("f"))
    rig = _rig(tmp_path)
    rig.base("other", {}, content.getvalue())
    text = "FROM scratch\nCOPY --from=other {} /g\n"
    rig.build(text.format("f"), dry=True)
    assert rig.store.obtained == []
    assert [step.fate for step in rig.result.planned] == ["run"]
    rig.build(text.format("f"))
    rig.build(text.format("./f"), dry=True)
    assert [step.fate for step in rig.result.planned] == ["cached"]
