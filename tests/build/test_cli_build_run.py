"""`imgtools build` from the command line to images in the store: what is printed where, exit
codes, interruption, and that options reach the steps. Containers are real."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgtools.testing.registry import ScriptedRegistry
from tests.build.cli_builds import Builds
from tests.engine.run_rig import IMAGE, finish, line_of

SECRET = "hunter2-hunter2"
STDIN = "(standard input)"
TWO_STAGES = f"""\
FROM {IMAGE} AS maker
RUN echo made > /made; echo out; echo err >&2
FROM {IMAGE}
LABEL a=b
COPY --from=maker /made /copied
"""


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builds]:
    """One store for all; nothing may be left of a step."""
    found = Builds(tmp_path_factory.mktemp("builds"))
    yield found
    assert found.runs.left() == []


def test_the_log_is_buildahs(builds: Builds) -> None:
    """Steps and what commands write to standard output on standard output, the id last; the
    same again when all is cached, and no command is run."""
    out, err = builds.lines(TWO_STAGES, "-t", "one", "-t", "h.x/two:1", "--timestamp", "0")
    identity = out[-1]
    layers = [line for line in out if line.startswith("--> ")]
    assert [line for line in out if not line.startswith("--> ")] == [
        f"[1/2] STEP 1/2: FROM {IMAGE} AS maker",
        "[1/2] STEP 2/2: RUN echo made > /made; echo out; echo err >&2",
        "out",
        f"[2/2] STEP 1/3: FROM {IMAGE}",
        "[2/2] STEP 2/3: LABEL a=b",
        "[2/2] STEP 3/3: COPY --from=maker /made /copied",
        "COMMIT localhost/one:latest",
        "Successfully tagged localhost/one:latest",
        "Successfully tagged h.x/two:1",
        identity,
    ]
    assert len(identity) == 64
    assert layers[-1] == f"--> {identity[:12]}"
    assert err[0].startswith("imgtools: info: isolation ")
    assert err[1:] == ["err"]
    assert {"localhost/one:latest", "h.x/two:1"} <= set(builds.images())
    again, err = builds.lines(TWO_STAGES, "-t", "one", "--timestamp", "0")
    assert [line for line in again if line.startswith("--> Using cache ")] != []
    assert "out" not in again
    assert "err" not in err
    assert again[-1] == identity


def test_quiet_says_the_id_alone(builds: Builds) -> None:
    """And nothing on standard error."""
    out, err = builds.lines(f"FROM {IMAGE}\nRUN echo a; echo b >&2\n", "-q", "--no-cache")
    assert (len(out), len(out[0]), err) == (1, 64, [])


def test_e66_the_exit_code_is_the_commands(builds: Builds) -> None:
    """With its place; its last lines are told where they were not seen."""
    text = f"FROM {IMAGE}\nENV A=b\nRUN echo a; echo b >&2; \\\n  exit 7\n"
    out, err = builds.lines(text, code=7)
    assert out[-1] == "a"
    assert err[-2:] == [
        "b",
        f"imgtools: {STDIN}:3: RUN echo a; echo b >&2; exit 7: exit code 7",
    ]
    out, err = builds.lines(text, "-q", code=7)
    assert out == []
    assert err[1] == "its last lines were:"
    assert sorted(err[2:]) == ["  | a", "  | b"]


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        (f'FROM {IMAGE}\nRUN ["/nope"]\n', 127,
         [f'imgtools: {STDIN}:2: exec: "/nope": no such file or directory']),
        (f"FROM {IMAGE}\nCOPY nope /\n", 125, [f"imgtools: {STDIN}:2: "]),
        (f"FROM {IMAGE}\nRNU make\n", 125,
         [f"imgtools: {STDIN}:2: unknown instruction: RNU (did you mean RUN?)",
          "    2 | RNU make", "      | ^"]),
        ("FROM localhost/nothing\n", 125, [f"imgtools: {STDIN}:1: "]),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_told_with_its_place(
    builds: Builds, text: str, code: int, expected: list[str]
) -> None:
    """125 for everything but a command; errors in the file with the line and a caret."""
    _, err = builds.lines(text, "--pull=never", code=code)
    err = [line for line in err if not line.startswith("imgtools: info")]
    assert len(err) == len(expected)
    for line, start in zip(err, expected, strict=True):
        assert line.startswith(start)


def test_e69_a_secret_that_a_command_prints_is_masked_everywhere(builds: Builds) -> None:
    """On standard output and error, in files, JSON, and the last lines of a failure."""
    text = f"FROM {IMAGE}\nRUN --mount=type=secret,id=s cat /run/secrets/s; cat /run/secrets/s >&2"
    (builds.work / "secret").write_text(SECRET + "\n")
    secret = ("--secret", "id=s,src=secret", "--no-cache")
    found = [builds.lines(text, *secret), builds.lines(text, *secret, "--progress", "json")]
    found.append(builds.lines(text + "; exit 3", *secret, "-q", code=3))
    builds.lines(text, *secret, "--logfile", "log")
    found.append(([], (builds.work / "log").read_text().splitlines()))
    for out, err in found:
        everything = "\n".join(out + err)
        assert SECRET not in everything
        assert "***" in everything


def test_json_has_a_line_for_each_event(builds: Builds) -> None:
    """And nothing else; the last has the result."""
    out, err = builds.lines(TWO_STAGES, "--progress=json", "--no-cache", "-t", "json")
    events = [json.loads(line) for line in out]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "planned"
    assert kinds[-1] == "result"
    assert kinds.count("step-started") == kinds.count("step-finished") == events[0]["steps"] == 5
    assert {e["text"]: e["stream"] for e in events if e["event"] == "step-output"} == {
        "out\n": "stdout",
        "err\n": "stderr",
    }
    (image,) = events[-1]["images"]
    assert image["names"] == ["localhost/json:latest"]
    assert image["id"].startswith("sha256:")
    assert err == []


def test_files_take_what_would_be_printed(builds: Builds) -> None:
    """The id is in its file then and not on standard output."""
    out, err = builds.lines(
        TWO_STAGES, "--iidfile", "iid", "--metadata-file", "metadata", "--logfile", "log", "-t", "f"
    )
    assert (out, err) == ([], [])
    identity = (builds.work / "iid").read_text()
    found = json.loads((builds.work / "metadata").read_text())
    assert found["containerimage.config.digest"] == identity
    log = (builds.work / "log").read_text().splitlines()
    assert log[-1] == "Successfully tagged localhost/f:latest"


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, b"imgtools: interrupted\n"),
        (signal.SIGTERM, 143, b"imgtools: terminated\n"),
    ],
)
def test_e96_a_signal_stops_all_and_leaves_nothing(
    builds: Builds, number: int, code: int, said: bytes
) -> None:
    """In one line; what was built before counts the next time."""
    text = f"FROM {IMAGE}\nRUN echo {code}\nRUN echo running; sleep 60\n"
    process = builds.start(text)
    while line_of(process) != b"running\n":
        assert process.poll() is None
    process.send_signal(number)
    status, _, err = finish(process)
    assert (status, err.splitlines(keepends=True)[1:]) == (code, [said])
    assert builds.runs.left() == []
    out, _ = builds.lines(f"FROM {IMAGE}\nRUN echo {code}\n")
    assert any(line.startswith("--> Using cache") for line in out)


def on_terminal(builds: Builds, *words: str, env: dict[str, str]) -> tuple[int, str]:
    """Status of a build with a terminal, and all that it was given to show."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        builds.command(*words),
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env={**builds.env, **env},
        cwd=builds.work,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:
        # The other side is closed.
        pass
    finally:
        os.close(ours)
    return process.wait(60), shown.decode()


def test_a_terminal_gets_a_live_view(builds: Builds) -> None:
    """Steps that are over stay, the id comes last; colours only where they are wanted."""
    (builds.work / "Live").write_text(TWO_STAGES)
    words = ("-f", "Live", "--network", "none", "--no-cache", "-t", "live", ".")
    code, shown = on_terminal(builds, *words, env={"TERM": "xterm", "NO_COLOR": "1"})
    assert code == 0
    assert "=> [2/2] 2/3 LABEL a=b  " in shown
    assert "Building " in shown
    last = shown.replace("\r", "").split("\x1b[?2026l")[-1].splitlines()
    assert last[-2] == "Successfully tagged localhost/live:latest"
    assert len(last[-1]) == 64
    assert re.search(r"\x1b\[\d+m", shown) is None
    assert "\x1b[?25l" not in shown
    code, shown = on_terminal(builds, *words, env={"TERM": "xterm"})
    assert "\x1b[32m=> [2/2] 3/3 COPY" in shown
    code, shown = on_terminal(builds, *words, env={"TERM": "dumb"})
    assert "\x1b" not in shown
    assert "[2/2] STEP 3/3" in shown


def test_a_failure_on_a_terminal_is_told_below_the_view(builds: Builds) -> None:
    """With the last lines, which went with it."""
    (builds.work / "Live").write_text(f"FROM {IMAGE}\nRUN echo why; exit 4\n")
    code, shown = on_terminal(
        builds, "-f", "Live", "--network", "none", ".", env={"TERM": "xterm", "NO_COLOR": "1"}
    )
    assert code == 4
    last = shown.replace("\r", "").split("\x1b[?2026l")[-1].splitlines()
    assert last == [
        "imgtools: Live:2: RUN echo why; exit 4: exit code 4", "its last lines were:", "  | why",
    ]  # fmt: skip


def test_dry_run_and_check_build_nothing(builds: Builds) -> None:
    """They print the plan, and what checks find."""
    before = builds.images()
    out, err = builds.lines(f"FROM {IMAGE}\nENV A=b\nRUN echo never\n", "--dry-run", "-t", "dry")
    assert out == ["config  0 2  ENV A=b", "run     0 3  RUN echo never",
                   "2 steps: 0 cached, 1 to run"]  # fmt: skip
    assert err == []
    out, _ = builds.lines(f"FROM {IMAGE}\nENV A=b\n", "--dry-run", "--progress=json")
    assert json.loads(out[0])["steps"][0]["fate"] == "config"
    out, _ = builds.lines(f"FROM {IMAGE} as A\n", "--check", code=1)
    assert out[-1] == "2 warnings"
    assert builds.lines(f"FROM {IMAGE}\n", "--check")[0] == ["no warnings"]
    unknown = "FROM localhost:1/none\nENV A=$B\n"
    out, err = builds.lines(unknown, "--check", "--tls-verify=false")
    assert out == ["no warnings"]
    assert err[0].startswith("imgtools: warning: variables of localhost:1/none are not known")
    out, _ = builds.lines(f"FROM {IMAGE}\nENV A=$PATH B=$B\n", "--check", code=1)
    assert out[0].startswith("(standard input):2: UndefinedVar: ")
    assert out[-1] == "1 warning"
    assert builds.images() == before


def test_options_reach_the_steps(builds: Builds) -> None:
    """Those that say how RUN is run, and what the image becomes."""
    (builds.work / "shown").mkdir()
    (builds.work / "shown/file").write_text("of the host")
    script = (
        "ulimit -n; grep -c 'in.hosts' /etc/hosts; cat /v/file; echo; echo $ARG $HTTP_PROXY; ls /m"
    )
    out, _ = builds.lines(
        f"FROM {IMAGE}\nARG ARG=default\nRUN {script}\n",
        "--ulimit", "nofile=77:99", "--add-host", "in.hosts:10.0.0.1", "-v", "./shown:/v:ro",
        "--build-arg", "ARG=given", "--mount", "type=tmpfs,target=/m", "--no-cache",
        "--label", "l=v", "--env", "E=v", "--annotation", "n=v", "-t", "opts", "-q",
        "--logfile", "opts.log",
    )  # fmt: skip
    assert out == []
    done = builds("-f", "-", "--network", "none", "--no-cache", "--ulimit", "nofile=77:99",
                  "--add-host", "in.hosts:10.0.0.1", "-v", "./shown:/v:ro", "--build-arg",
                  "ARG=given", "--mount", "type=tmpfs,target=/m", ".",
                  stdin=f"FROM {IMAGE}\nARG ARG=default\nRUN {script}\n".encode(),
                  env={"HTTP_PROXY": "http://proxy"})  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert "77\n1\nof the host\ngiven http://proxy\n" in done.stdout.decode()


def test_the_context_may_come_on_standard_input(builds: Builds) -> None:
    """As an archive with the Containerfile in it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in (("Containerfile", "FROM scratch\nCOPY a /a\n"), ("a", "content")):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    done = builds("-o", "-", "-", stdin=packed.getvalue())
    assert done.returncode == 0, done.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        member = tar.extractfile("a")
        assert member is not None
        assert member.read() == b"content"
    assert b"STEP 2/2: COPY a /a" in done.stderr


def test_pushing_and_places(builds: Builds) -> None:
    """A registry gets the image while it is built, a layout gets an index of two platforms, and
    the store keeps an index by name."""
    with ScriptedRegistry() as registry:
        name = f"{registry.host}/team/app:1"
        out, _ = builds.lines(TWO_STAGES, "-t", name, "--push", "--tls-verify=false")
        assert f"Successfully tagged {name}" in out
        assert f"Successfully tagged docker://{name}" in out
        raw = builds.shown("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    assert len(json.loads(raw)["layers"]) == 2
    text = "FROM scratch\nCOPY Containerfile /\n"
    (builds.work / "Containerfile").write_text(text)
    both = ("--platform", "linux/amd64,linux/arm64")
    out, _ = builds.lines(text, *both, "-t", "oci:layout:all", "--manifest", "all")
    assert [line for line in out if line.startswith("[linux/")] == [
        f"[linux/{arch}] {what}"
        for arch in ("amd64", "arm64")
        for what in ("STEP 1/2: FROM scratch", "STEP 2/2: COPY Containerfile /")
    ] + [f"[linux/{arch}] COMMIT" for arch in ("amd64", "arm64")]
    assert len(out[-1]) == len(out[-2]) == 64
    listed = json.loads(builds.shown("manifest inspect", "all"))
    platforms = [entry["platform"]["architecture"] for entry in listed["manifests"]]
    assert platforms == ["amd64", "arm64"]
    index = json.loads((builds.work / "layout/index.json").read_text())
    assert len(index["manifests"]) == 1


def test_steps_of_other_hosts_come_from_a_cache_in_a_registry(
    builds: Builds, tmp_path: Path
) -> None:
    """With equal layers below; here from a layout, between two stores."""
    text = "FROM scratch\nCOPY Containerfile /\nCOPY Containerfile /again\n"
    (builds.work / "Containerfile").write_text(text)
    fixed = ("--timestamp", "0")
    builds.lines(text, *fixed, "--cache-to", f"oci:{tmp_path}/cache")
    other = ("--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run"))
    out, _ = builds.lines(text, *fixed, *other, "--cache-from", f"oci:{tmp_path}/cache")
    assert len([line for line in out if line.startswith("--> Using cache ")]) == 2
