"""podman and buildah accept our runtime: their containers and builds run on it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.peers import LIMITS, Peer

SHOW = "; ".join(
    (
        "id -u",
        "hostname",
        "touch /no 2>/dev/null || echo read-only",
        "echo x > /volume/file",
        "touch /scratch/file && echo scratch",
        "cat /sysctl",
        "grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status",
        "cat /proc/self/oom_score_adj",
        "echo $HOME",
    )
)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    made = Peer(tmp_path_factory.mktemp("peer"))
    yield made
    made.close()


def test_run_passes_on_what_the_program_says(peer: Peer) -> None:
    assert peer.run("box", "sh", "-c", "echo out; exit 42", code=42) == "out\n"
    assert peer.errors == "", "no word of ours gets into the program's output"
    peer.run("box", "nosuch", code=127)
    assert "executable file not found" in peer.errors
    peer.run("box", "/etc/passwd", code=126)
    assert "permission denied" in peer.errors


def test_run_with_options_of_every_kind(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume").chmod(0o777)
    (tmp_path / "sysctl").write_text("mounted\n")
    said = peer.run(
        "--read-only", "--cap-drop=all", "--user=user", "--hostname=inside", "--pids-limit=20",
        f"--volume={tmp_path}/volume:/volume", f"--volume={tmp_path}/sysctl:/sysctl:ro",
        "--tmpfs=/scratch", "--security-opt=no-new-privileges", "--oom-score-adj=321",
        "--shm-size=1m", "--init=false", "--umask=0077", "box", "sh", "-c", SHOW,
    )  # fmt: skip
    words = said.split()
    assert words[:6] == ["1000", "inside", "read-only", "scratch", "mounted", "CapEff:"]
    assert words.count("0000000000000000") == 2
    assert words[-6:] == ["NoNewPrivs:", "1", "Seccomp:", "2", "321", "/home/user"]
    assert (tmp_path / "volume/file").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "volume/file").stat().st_uid == 1000


def test_ids_of_its_own(peer: Peer) -> None:
    said = peer.run("--uidmap=0:100000:1000", "--gidmap=0:100000:1000", "box", "sh", "-c",
                    "cat /proc/self/uid_map; id -u")  # fmt: skip
    assert said.split() == ["0", "100000", "1000", "0"]


def test_a_terminal(peer: Peer) -> None:
    words = (*peer.podman, "run", "--rm", "-it", "--network=none", *LIMITS, "box", "tty")
    assert "/dev/pts/0" in peer("script", "-qec", shlex.join(words), "/dev/null")


def test_the_life_of_a_container(peer: Peer) -> None:
    podman = peer.podman
    script = "trap 'echo bye; exit 3' TERM; echo started; while :; do sleep 0.05; done"
    peer(*podman, "run", "-d", "--name=life", "--network=none", *LIMITS, "box", "sh", "-c", script)
    assert peer(*podman, "exec", "life", "sh", "-c", "exit 7", code=7) == ""
    said = peer(*podman, "exec", "--user=1000", "-e", "A=b", "-w", "/etc", "life", "sh", "-c",
                "id -u; echo $A; ls")  # fmt: skip
    assert said.split()[:2] == ["1000", "b"]
    assert "passwd" in said
    peer(*podman, "exec", "life", "nosuch", code=127)
    assert "trap" in peer(*podman, "top", "life", "args")
    if Path("/sys/fs/cgroup/freezer").exists() or Path("/sys/fs/cgroup/cgroup.procs").exists():
        peer(*podman, "pause", "life")
        assert state(peer, "life")["Status"] == "paused"
        peer(*podman, "unpause", "life")
    pid = state(peer, "life")["Pid"]
    assert os.path.exists(f"/proc/{pid}")
    peer(*podman, "stop", "--time=10", "life")
    assert (state(peer, "life")["Status"], state(peer, "life")["ExitCode"]) == ("exited", 3)
    assert peer(*podman, "logs", "life") == "started\nbye\n"
    peer(*podman, "start", "life")
    peer(*podman, "kill", "life")
    peer(*podman, "wait", "life")
    assert state(peer, "life")["ExitCode"] == 137
    peer(*podman, "rm", "life")
    assert not os.path.exists(f"/proc/{pid}")


def state(peer: Peer, name: str) -> dict[str, Any]:
    (found,) = json.loads(peer(*peer.podman, "inspect", "--type=container", name))
    assert found["OCIRuntime"] == str(peer.runtime)
    result: dict[str, Any] = found["State"]
    return result


def test_a_build(peer: Peer) -> None:
    context = peer.directory / "context"
    context.mkdir()
    (context / "Containerfile").write_text(
        "FROM localhost/box\n"
        "RUN touch /made && id -u\n"
        "USER 1000\n"
        "RUN --mount=type=tmpfs,target=/x id -u && ! touch /refused\n"
        "RUN test -e /made && test ! -e /refused\n"
    )
    how = ("--isolation=oci", "--network=none", f"--runtime={peer.runtime}")
    said = peer(*peer.buildah, "bud", *how, *LIMITS, "-t", "built", str(context))
    assert "\n0\n" in said
    assert "\n1000\n" in said
    assert "imgtools-runtime" not in peer.errors, "no word of ours gets into a build's output"
    container = peer(*peer.buildah, "from", "localhost/built").strip()
    assert peer(*peer.buildah, "run", *how, container, "sh", "-c", "echo ran") == "ran\n"
    peer(*peer.buildah, "run", *how, container, "sh", "-c", "exit 5", code=5)
    peer(*peer.buildah, "rm", container)


def test_a_bundle_of_podman_runs_without_podman(peer: Peer, tmp_path: Path) -> None:
    """`podman create` and `podman init` write a config.json that is complete in itself."""
    podman = peer.podman
    peer(*podman, "create", "--name=whole", "--network=none", *LIMITS, "box", "echo", "bundled")
    peer(*podman, "init", "whole")
    (found,) = json.loads(peer(*podman, "inspect", "whole"))
    config = json.loads(Path(found["OCIConfigPath"]).read_text())
    peer(*podman, "mount", "whole")
    config["linux"]["cgroupsPath"] = f"/imgtools-test-{os.urandom(6).hex()}"
    # What podman starts when a container ends would end the container that we do not run.
    config.pop("hooks", None)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(config))
    said = peer(str(peer.runtime), "--root", str(tmp_path / "state"), "run", "--bundle",
                str(bundle), "whole")  # fmt: skip
    assert said == "bundled\n"
    peer(*podman, "rm", "--force", "--time=0", "whole")
