"""The promises about a container's process, kept by whole containers of the command."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.engine.test_cli_containers import Runtime, runtime

__all__ = ["runtime"]

IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
EVERY_CAPABILITY = [
    "CAP_SYS_PTRACE",
    "CAP_SYS_ADMIN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_KILL",
]


def script(runtime: Runtime, content: str) -> str:
    """A program /bin/script in the container."""
    path = runtime.bundle / "rootfs/bin/script"
    path.write_text(content)
    path.chmod(0o755)
    return "script"


def with_user_namespace(runtime: Runtime) -> None:
    """Let the container have its own ids, and its processes every capability over them."""
    path = runtime.bundle / "config.json"
    config: dict[str, Any] = json.loads(path.read_text())
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {"uidMappings": IDS, "gidMappings": IDS}
    for kind in ("bounding", "permitted", "effective"):
        config["process"]["capabilities"][kind] = EVERY_CAPABILITY
    path.write_text(json.dumps(config))
    for directory in (runtime.bundle, *runtime.bundle.parents):
        if os.stat(directory).st_uid == os.getuid() and str(directory) != "/":
            os.chmod(directory, os.stat(directory).st_mode | 0o055)


@pytest.mark.parametrize("vector", ["program", "link", "script"])
def test_d4_proc_self_exe_leads_to_nothing(runtime: Runtime, vector: str) -> None:
    program = "/proc/self/exe"
    if vector == "link":
        (runtime.bundle / "rootfs/bin/link").symlink_to("/proc/self/exe")
        program = "/bin/link"
    if vector == "script":
        program = script(runtime, "#!/proc/self/exe -c\nimport os\n")
    runtime.configure(program, "-c", "import os")
    done = runtime("run", "c")
    assert done.returncode == 126
    assert "permission denied" in done.stderr


def test_d4_the_program_is_its_own_executable(runtime: Runtime) -> None:
    runtime.configure("ls", "-l", "/proc/self/exe")
    assert runtime.ok("run", "c").strip().endswith("/bin/busybox")


@pytest.mark.parametrize("content", ["#!/no/such\n", "no magic at all"])
def test_what_only_execve_finds_out_is_told_by_run(runtime: Runtime, content: str) -> None:
    runtime.configure(script(runtime, content))
    done = runtime("run", "c")
    expected = {"#": (127, "no such file or directory"), "n": (126, "exec format error")}
    code, text = expected[content[0]]
    assert done.returncode == code
    assert f'exec: "script": {text}' in done.stderr


def test_d1_a_leaked_descriptor_is_no_working_directory(runtime: Runtime) -> None:
    leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(3, 12):
            runtime.configure("ls", "-l", cwd=f"/proc/self/fd/{number}")
            done = runtime("run", f"c{number}", pass_fds=(leaked,))
            assert done.returncode == 1
            assert "cwd (" in done.stderr
    finally:
        os.close(leaked)


def test_d2_descriptors_of_the_caller_end_with_it(runtime: Runtime) -> None:
    leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        runtime.configure("ls", "/proc/self/fd")
        listed = runtime.ok("run", "c", pass_fds=(leaked,)).split()
    finally:
        os.close(leaked)
    # The fourth is the directory that ls itself reads.
    assert listed == ["0", "1", "2", "3"]


def test_g2_a_limit_of_three_descriptors_is_no_obstacle(runtime: Runtime) -> None:
    limit = {"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}
    user = {"uid": 1000, "gid": 1000, "additionalGids": [5]}
    runtime.configure("sh", "-c", "ulimit -n; id -G; pwd", rlimits=[limit], user=user, cwd="/w/x")
    assert runtime.ok("run", "c").split() == ["3", "1000", "5", "/w/x"]
    assert (runtime.bundle / "rootfs/w/x").stat().st_uid == 0


def test_f15_a_directory_that_only_root_may_enter(runtime: Runtime) -> None:
    closed = runtime.bundle / "rootfs/closed"
    closed.mkdir(0o700)
    runtime.configure("echo", "there", cwd="/closed", user={"uid": 1000, "gid": 1000})
    assert runtime.ok("run", "c") == "there\n"


def test_y1_a_program_starts_with_default_signals(runtime: Runtime) -> None:
    for name in ("yes", "head", "grep"):
        (runtime.bundle / "rootfs/bin" / name).symlink_to("busybox")
    runtime.configure("grep", "Sig[BI]", "/proc/self/status")
    lines = runtime.ok("run", "c").splitlines()
    assert [line.split() for line in lines] == [["SigBlk:", "0" * 16], ["SigIgn:", "0" * 16]]
    runtime.configure("sh", "-c", "yes | head -n 1")
    done = runtime("run", "c")
    assert (done.stdout, done.stderr) == ("y\n", "")


def test_d5_a_created_container_hides_the_interpreter(runtime: Runtime) -> None:
    """Even from processes with every capability of its user namespace."""
    runtime.configure("sleep", "60")
    with_user_namespace(runtime)
    runtime.spawned("create", "c")
    for path in ("/proc/1/exe", "/proc/1/fd", "/proc/1/root/bin"):
        done = runtime("exec", "c", "ls", "-l", path + "/" * path.endswith("bin"))
        assert "denied" in done.stderr, path
    runtime.ok("start", "c")
    assert runtime.ok("exec", "c", "ls", "-l", "/proc/1/exe").strip().endswith("/bin/busybox")
