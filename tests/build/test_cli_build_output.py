"""What a build prints: events in, lines, pictures and JSON out."""

from __future__ import annotations

import io
import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.build.events import (
    BuildEvent,
    BuildNote,
    BuildPlanned,
    ImageReady,
    StepFailed,
    StepFinished,
    StepId,
    StepOutput,
    StepStarted,
)
from imgtools.build.execute.errors import CommandFailed
from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.model import Location
from imgtools.build.masking import Mask, MaskedOutput, needles
from imgtools.cli.build_events import event_json
from imgtools.cli.build_failure import failure_lines
from imgtools.cli.build_frame import (
    Picture,
    Shown,
    coloured,
    fitted,
    plain_text,
    seconds_text,
    width,
)
from imgtools.cli.build_lines import MOST_WAITING, Lines
from imgtools.cli.build_live import Live
from imgtools.cli.build_log import PlainLog, Ready, Sink, ready_lines
from imgtools.cli.build_request import LogOptions
from imgtools.errors import InvalidInput, SeveralErrors
from imgtools.task import Advanced, Finished, Note, Started

LAYER = "sha256:0123456789abcdef" + "0" * 48
ISOLATED = BuildPlanned(steps=5, stages=("builder", "1"), isolation="ranges", reason="it works")
PLANNED = BuildPlanned(steps=5, stages=("builder", "1"), isolation="", reason="")


def step(number: int, total: int = 3, stage: str = "builder", platform: str = "") -> StepId:
    return StepId(stage=stage, number=number, total=total, platform=platform)


def started(at: StepId, text: str) -> StepStarted:
    return StepStarted(step=at, text=text)


def wrote(at: StepId, data: bytes, stream: int = 1) -> StepOutput:
    return StepOutput(step=at, stream=stream, data=data)


def finished(at: StepId, *, cached: bool = False, layer: str = "") -> StepFinished:
    return StepFinished(step=at, cached=cached, seconds=1.25, layer=layer, size=10)


def told(*events: BuildEvent) -> list[str]:
    """Stream and text of each line."""
    lines = Lines()
    found = [line for event in events for line in lines.take(event)]
    found += lines.rest()
    return [f"{line.stream} {line.data.decode().rstrip()}" for line in found]


def test_lines_are_buildahs() -> None:
    """Steps and what commands write to standard output on 1, all else on 2."""
    one, two = step(1), step(1, 2, "1")
    assert told(
        ISOLATED,
        BuildNote(level="warning", text="unused\x1b[2J", place="Containerfile:3"),
        started(one, "FROM  alpine \\\n AS builder"),
        finished(one),
        started(step(2), "RUN make"),
        wrote(step(2), b"cc\n"),
        wrote(step(2), b"warning", 2),
        finished(step(2), layer=LAYER),
        started(step(3), "USER a"),
        finished(step(3)),
        started(two, "COPY --from=builder / /"),
        finished(two, cached=True, layer=LAYER),
        started(step(2, 2, "1"), "ENV A=b"),
        finished(step(2, 2, "1"), cached=True),
    ) == [
        "2 imgtools: info: isolation ranges: it works",
        "2 imgtools: warning: Containerfile:3: unused\\x1b[2J",
        "1 [1/2] STEP 1/3: FROM alpine \\ AS builder",
        "1 [1/2] STEP 2/3: RUN make",
        "1 cc",
        "2 warning",
        "1 --> 0123456789ab",
        "1 [1/2] STEP 3/3: USER a",
        "1 [2/2] STEP 1/2: COPY --from=builder / /",
        f"1 --> Using cache {LAYER[7:]}",
        "1 --> 0123456789ab",
        "1 [2/2] STEP 2/2: ENV A=b",
        "1 --> Using cache",
    ]


def test_one_stage_has_no_number_and_a_platform_stands_first() -> None:
    """As with buildah."""
    single = BuildPlanned(steps=1, stages=("0",), isolation="", reason="")
    at = step(1, 1, "0", "linux/arm64")
    assert told(single, started(at, "FROM a")) == ["1 [linux/arm64] STEP 1/1: FROM a"]


def test_stages_are_told_in_the_order_of_the_file() -> None:
    """Whatever runs at the same time; one that is over lets the next be told at once."""
    a, b, c = step(2, 2), step(2, 2, "1"), step(2, 2, "x")
    assert told(
        BuildPlanned(steps=3, stages=("builder", "1", "x"), isolation="", reason=""),
        started(b, "RUN b"),
        wrote(b, b"b1\n"),
        started(a, "RUN a"),
        started(c, "RUN c"),
        finished(b, layer=LAYER),
        wrote(a, b"a1\n"),
        wrote(c, b"c1\n"),
        finished(a),
        wrote(c, b"c2\n"),
        finished(c),
    ) == [
        "1 [1/3] STEP 2/2: RUN a", "1 a1", "1 [2/3] STEP 2/2: RUN b", "1 b1",
        "1 --> 0123456789ab", "1 [3/3] STEP 2/2: RUN c", "1 c1", "1 c2",
    ]  # fmt: skip


@pytest.mark.parametrize("planned", [(), ("linux/arm64", "linux/amd64")])
def test_platforms_are_told_one_after_the_other(planned: tuple[str, ...]) -> None:
    """In the order in which they were asked for, or were found out."""
    arm, amd = (step(1, 1, "0", f"linux/{arch}") for arch in ("arm64", "amd64"))
    lines = Lines([] if planned else ["linux/arm64", "linux/amd64"])
    events: list[BuildEvent] = [
        BuildPlanned(steps=2, stages=("0",), isolation="", reason="", platforms=planned),
        started(amd, "FROM a"), finished(amd), started(arm, "FROM a"), finished(arm),
    ]  # fmt: skip
    found = [line.data for event in events for line in lines.take(event)]
    assert found == [b"[linux/arm64] STEP 1/1: FROM a\n", b"[linux/amd64] STEP 1/1: FROM a\n"]


def test_a_step_with_much_output_does_not_wait_for_ever() -> None:
    """What waits is bounded; lines in between say whose they are."""
    a, b = step(2, 2), step(2, 2, "1")
    big = b"x" * (MOST_WAITING + 1)
    found = told(
        PLANNED, started(a, "RUN a"), started(b, "RUN b"), wrote(b, big), wrote(a, b"a1\n"),
        finished(a), wrote(b, b"b2\n"), finished(b),
    )  # fmt: skip
    titles = [line[2:] if len(line) < 99 else "big" for line in found]
    assert titles == [
        "[1/2] STEP 2/2: RUN a", "[2/2] STEP 2/2: RUN b", "big", "[1/2] STEP 2/2: RUN a", "a1",
        "[2/2] STEP 2/2: RUN b", "b2",
    ]  # fmt: skip


def test_nothing_is_lost_when_a_step_fails() -> None:
    """What others wrote by then is told too."""
    a, b = step(2), step(2, 3, "1")
    failed = StepFailed(step=a, text="RUN a", message="exit code 3", code=3)
    assert told(PLANNED, started(a, "RUN a"), started(b, "RUN b"), wrote(b, b"b1\n"), failed) == [
        "1 [1/2] STEP 2/3: RUN a", "1 [2/2] STEP 2/3: RUN b", "1 b1",
    ]  # fmt: skip


steps = st.sampled_from([step(n, 2, s) for n in (1, 2) for s in ("builder", "1")])


@given(st.lists(st.tuples(steps, st.integers(0, 2)), max_size=40))
def test_every_line_is_told_once_and_in_its_steps_order(moves: list[tuple[StepId, int]]) -> None:
    """Whatever runs beside whatever."""
    lines, running, said = Lines(), set[StepId](), dict[StepId, list[bytes]]()
    found = []
    for count, (at, what) in enumerate(moves):
        if what == 0 and at not in running:
            running.add(at)
            found += lines.take(started(at, f"{at.stage} {at.number} {count}"))
        elif what == 1 and at in running:
            data = f"{at.stage} {at.number} {count}\n".encode()
            said.setdefault(at, []).append(data)
            found += lines.take(wrote(at, data))
        elif what == 2 and at in running:
            running.discard(at)
            found += lines.take(finished(at))
    found += lines.rest()
    for at, expected in said.items():
        own = [x.data for x in found]
        assert [d for d in own if d.startswith(f"{at.stage} {at.number} ".encode())] == expected


def test_the_picture() -> None:
    """Steps that are over scroll away, those that run have their last lines below."""
    picture = Picture(0.0)
    assert picture.take(PLANNED, 0.0) == []
    picture.take(started(step(1), "FROM alpine"), 0.0)
    assert picture.take(finished(step(1), cached=True), 0.5) == [
        Shown(kind="cached", text="=> [1/2] 1/3 FROM alpine  cached")
    ]
    picture.take(started(step(2), "RUN make"), 1.0)
    for number in range(9):
        picture.take(wrote(step(2), f"line {number}\n".encode()), 1.0)
    picture.take(started(step(1, 2, "1"), "COPY a b"), 2.0)
    assert [shown.text for shown in picture.frame(66.0, 24)] == [
        "=> [1/2] 2/3 RUN make  1m05s",
        *[f"  | line {number}" for number in range(3, 9)],
        "=> [2/2] 1/2 COPY a b  1m04s",
        "Building 1m06s  1/5 steps  1 cached",
    ]
    assert [shown.text for shown in picture.frame(66.0, 7)] == [
        "=> [1/2] 2/3 RUN make  1m05s",
        "  | line 8",
        "=> [2/2] 1/2 COPY a b  1m04s",
        "Building 1m06s  1/5 steps  1 cached",
    ]
    assert len(picture.frame(66.0, 4)) <= 4
    failed = StepFailed(step=step(2), text="RUN make", message="exit code 2", code=2)
    assert [shown.text for shown in picture.take(failed, 67.0)] == ["=> [1/2] 2/3 RUN make  FAILED"]
    assert [shown.kind for shown in picture.take(failed, 67.0)] == ["failed"]


def test_the_picture_counts_what_is_transferred() -> None:
    """While layers are pulled or pushed."""
    picture = Picture(0.0)
    picture.move(Started("sha256:a", "layer", 1000))
    picture.move(Advanced("sha256:a", 400))
    picture.move(Advanced("sha256:unknown", 400))
    assert picture.frame(1.0, 24)[-1].text == "Building 1.0s  transferring 400 B of 1000 B"
    picture.move(Finished("sha256:a", "stored"))
    assert picture.frame(1.0, 24)[-1].text == "Building 1.0s"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\r\n", "plain"),
        (b"\x1b[31mred\x1b[0m \x1b]0;title\x07x\n", "red x"),
        (b" 10%\r 50%\r 99%\n", " 99%"),
        (b"a\tb\n", "a       b"),
        (b"bell\x07 \xff\n", "bell\\x07 \ufffd"),
        (b"\x1b[2J\x1b[H\n", ""),
    ],
)
def test_output_cannot_steer_the_terminal(data: bytes, text: str) -> None:
    """Escape sequences are left out, other control characters shown."""
    assert plain_text(data) == text


@pytest.mark.parametrize(
    ("kind", "text", "columns", "expected"),
    [
        ("running", "=> 1/2 RUN make all the things  12.0s", 80, None),
        ("running", "=> 1/2 RUN make all the things  12.0s", 30, "=> 1/2 RUN make all...  12.0s"),
        ("running", "=> 1/2 RUN make all  12.0s", 12, "=> 1/2 RUN "),
        ("output", "  | a line", 8, "  | a l"),
        ("output", "  | \u6f22\u5b57\u6f22\u5b57", 10, "  | \u6f22\u5b57"),
        ("total", "Building 1.0s  1/5 steps", 15, "Building 1.0s "),
    ],
)
def test_lines_fit_the_terminal(kind: str, text: str, columns: int, expected: str | None) -> None:
    """A step keeps its time, and wide characters count twice."""
    found = fitted(Shown(kind=kind, text=text), columns)
    assert found == (text if expected is None else expected)
    assert width(found) < columns


@given(st.text(max_size=60), st.integers(20, 60), st.sampled_from(["running", "output", "total"]))
def test_no_line_is_wider_than_the_terminal(text: str, columns: int, kind: str) -> None:
    """Or the picture would be drawn over what stands above it."""
    assert width(fitted(Shown(kind=kind, text=text + "  1.0s"), columns)) < columns


def test_times_for_people() -> None:
    """Tenths up to a minute."""
    assert [seconds_text(s) for s in (-1.0, 0.04, 59.94, 60.0, 3599.0, 3720.0)] == [
        "0.0s", "0.0s", "59.9s", "1m00s", "59m59s", "1h02m",
    ]  # fmt: skip


def test_the_live_view_draws_over_itself_and_goes_away() -> None:
    """What scrolled stays, without colours where they are not wanted; the cursor is not
    hidden, so it need not be brought back."""
    stream = io.StringIO()
    now = [0.0]
    live = Live(stream, colour=False, clock=lambda: now[0], ticking=False)
    live.report(PLANNED)
    live.report(started(step(1), "FROM a"))
    now[0] = 1.0
    live.report(finished(step(1)))
    live.progress(Note("warning", "mind\x1b the gap"))
    live.draw()
    live.close()
    live.close()
    begin, end, tail = "\x1b[?2026h", "\x1b[J\x1b[?2026l", "\x1b[K\n"
    assert stream.getvalue() == (
        f"{begin}\r=> [1/2] 1/3 FROM a  0.0s{tail}Building 0.0s  0/5 steps{tail}{end}"
        f"{begin}\x1b[2A\r=> [1/2] 1/3 FROM a  1.2s{tail}imgtools: mind\\x1b the gap{tail}"
        f"Building 1.0s  1/5 steps{tail}{end}"
        f"{begin}\x1b[1A\r{end}"
    )
    assert "\x1b[?25l" not in stream.getvalue()


def test_a_terminal_that_became_narrow_is_cleared_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old lines stand in more rows now."""
    stream = io.StringIO()
    live = Live(stream, colour=False, clock=lambda: 0.0, ticking=False)
    monkeypatch.setattr(live, "_terminal", lambda: (80, 24))
    live.report(started(step(1), "RUN " + "x" * 60))
    live.draw()
    stream.truncate(0)
    monkeypatch.setattr(live, "_terminal", lambda: (30, 24))
    live.draw()
    assert "\x1b[4A\r" in stream.getvalue()


def test_colours() -> None:
    """Only kinds that mean something have one."""
    assert coloured("cached", "a") == "\x1b[36ma\x1b[0m"
    assert coloured("running", "a") == "a"


def test_events_as_json_keep_their_form() -> None:
    """The schema is in docs/build.md; fields are only ever added."""
    at = step(2, 3, "builder", "linux/amd64")
    where = {"stage": "builder", "number": 2, "total": 3, "platform": "linux/amd64"}
    table: list[tuple[BuildEvent, dict[str, object]]] = [
        (ISOLATED, {"event": "planned", "steps": 5, "stages": ["builder", "1"],
                   "platforms": [], "isolation": "ranges", "reason": "it works"}),
        (started(at, "RUN a"), {"event": "step-started", **where, "text": "RUN a"}),
        (wrote(at, b"x\xff\n", 2),
         {"event": "step-output", **where, "stream": "stderr", "text": "x\ufffd\n"}),
        (finished(at, layer=LAYER),
         {"event": "step-finished", **where, "cached": False, "seconds": 1.25, "layer": LAYER,
          "size": 10}),
        (StepFailed(step=at, text="RUN a", message="m", tail=(b"t\n",)),
         {"event": "step-failed", **where, "text": "RUN a", "message": "m", "code": None,
          "tail": ["t\n"]}),
        (BuildNote(level="info", text="t"),
         {"event": "note", "level": "info", "text": "t", "place": None}),
        (ImageReady(digest=LAYER), {"event": "image", "digest": LAYER, "id": None, "name": None}),
    ]  # fmt: skip
    for event, expected in table:
        assert event_json(event) == expected
        assert json.loads(json.dumps(event_json(event))) == expected


SECRET = b"hunter2-hunter2"


def test_e69_secrets_are_masked_in_what_is_told() -> None:
    """Exact values of 8 bytes and more, each line of longer ones; shorter would hide too much."""
    found: list[BuildEvent] = []
    values = [SECRET + b"\n", b"short", b"-----BEGIN-----\n  secret line 2\nab\n", b"hunter2-"]
    report = Mask(values).report(found.append)
    report(wrote(step(1), b"token=" + SECRET + b" short hunter2-\n"))
    report(wrote(step(1), b"secret line 2\n"))
    report(StepFailed(step=step(1), text="RUN x", message="bad hunter2-hunter2", tail=(SECRET,)))
    report(BuildNote(level="info", text="is hunter2-hunter2\udcff"))
    report(PLANNED)
    assert found == [
        wrote(step(1), b"token=*** short ***\n"),
        wrote(step(1), b"***\n"),
        StepFailed(step=step(1), text="RUN x", message="bad ***", tail=(b"***",)),
        BuildNote(level="info", text="is ***\udcff"),
        PLANNED,
    ]
    assert needles([b"1234567", b"", b"12345678"]) == (b"12345678",)
    assert Mask([b"short"]).report(found.append) == found.append


@given(st.lists(st.binary(min_size=8, max_size=20), min_size=1, max_size=4), st.binary())
def test_no_secret_is_left_in_a_line(values: list[bytes], around: bytes) -> None:
    """Whatever stands around it."""
    found: list[BuildEvent] = []
    report = Mask(values).report(found.append)
    for needle in needles(values):
        report(wrote(step(1), around + needle))
        last = found.pop()
        assert isinstance(last, StepOutput)
        assert needle not in last.data.replace(b"***", b"\0")


@given(st.lists(st.integers(0, 60), max_size=5), st.binary(max_size=20), st.booleans())
def test_no_secret_is_left_across_the_pieces_of_a_line(
    cuts: list[int], around: bytes, twice: bool
) -> None:
    """Wherever it is cut; all else comes through, in its order."""
    found: list[bytes] = []
    line = around + SECRET + b"-" + SECRET * twice + around
    output = MaskedOutput(Mask([SECRET, b"hunter2-"]), lambda stream, data: found.append(data))
    places = [0, *sorted(min(cut, len(line)) for cut in cuts), len(line)]
    for start, end in pairwise(places):
        output.write(1, line[start:end])
    output.write(2, b"other\n")
    output.finish()
    found.remove(b"other\n")
    assert b"".join(found) == Mask([SECRET, b"hunter2-"]).hide(line)


def test_errors_in_a_containerfile_show_the_line_and_a_caret() -> None:
    """With its number, on one line whatever is in it."""
    place = Location(file="Containerfile", first=12, last=12)
    error = ContainerfileError(
        "unknown instruction RNU", place, excerpt="\tRNU x\x1b", column=2, hint="did you mean RUN?"
    )
    assert failure_lines(error, output_shown=False) == [
        "imgtools: Containerfile:12: unknown instruction RNU (did you mean RUN?)",
        "   12 |  RNU x\\x1b",
        "      |  ^",
    ]
    plain = ContainerfileError("no FROM", place, excerpt="ARG A")
    assert failure_lines(plain, output_shown=False)[1:] == ["   12 | ARG A"]


def test_e66_a_failed_command_is_told_with_its_last_lines() -> None:
    """Unless people have seen them already."""
    place = Location(file="Containerfile", first=2, last=3)
    tail = tuple(f"line {n}\n".encode() for n in range(30))
    error = CommandFailed("RUN  make \\\n test", 2, place, tail)
    first = "imgtools: Containerfile:2: RUN make \\ test: exit code 2"
    assert failure_lines(error, output_shown=True) == [first]
    assert failure_lines(error, output_shown=False) == [
        first, "its last lines were:", *[f"  | line {n}" for n in range(10, 30)],
    ]  # fmt: skip
    both = SeveralErrors([error, InvalidInput("other", hint="try")])
    assert failure_lines(both, output_shown=True) == [first, "imgtools: other (try)"]


def test_what_is_said_of_a_finished_image_is_buildahs() -> None:
    """Its names one by one."""
    ready = Ready(image_id=LAYER, digest="", names=("localhost/a:latest", "h/b:1"))
    assert ready_lines(ready) == [
        "COMMIT localhost/a:latest",
        "--> 0123456789ab",
        "Successfully tagged localhost/a:latest",
        "Successfully tagged h/b:1",
    ]
    assert ready_lines(Ready(image_id=LAYER, digest="", platform="linux/arm64"))[0] == (
        "[linux/arm64] COMMIT"
    )


def test_log_files_one_for_each_platform(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Nobody else may read them; notes go where no platform's file is."""
    path = str(tmp_path / "log")
    options = LogOptions(file=path, split=True)
    sink = Sink(options)
    log = PlainLog(sink, options)
    log.report(started(step(1, platform="linux/arm64"), "FROM a"))
    log.report(BuildNote(level="info", text="note"))
    log.ready([Ready(image_id=LAYER, digest="")], ids=True)
    log.close()
    log.close()
    assert (tmp_path / "log_linux_arm64").read_text() == "[linux/arm64] STEP 1/3: FROM a\n"
    assert (tmp_path / "log").read_text() == (
        f"imgtools: info: note\nCOMMIT\n--> 0123456789ab\n{LAYER[7:]}\n"
    )
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert capfdbinary.readouterr() == (b"", b"")
