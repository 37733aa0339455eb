"""Descriptors, the interpreter behind /proc/self/exe, and processes that join a container."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.engine.pitfalls.kit import LIMIT, PYTHON, Box, Images

IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
MAGIC = ("/proc/self/fd/{}", "/proc/self/fd/{}/..", "/proc/thread-self/fd/{}", "/proc/1/fd/{}")
ROOTS = ("/proc/1/root", "/proc/self/root" + "/.." * 2, "/proc/self/cwd", "/proc/1/cwd")


@pytest.fixture
def leaked() -> tuple[int, ...]:
    """What a careless caller has open: the host's root, and a file."""
    return (os.open("/", os.O_RDONLY | os.O_DIRECTORY), os.open("/etc/shadow", os.O_RDONLY))


def close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)


def test_d1_no_directory_of_the_host_for_run_and_exec(box: Box, leaked: tuple[int, ...]) -> None:
    """The directory has to be one of the container, whatever way it is named."""
    box.start("sleep", "60")
    marker = f"marker-{box.id}"
    (box.rootfs / marker).touch()
    try:
        for number in range(3, 14):
            for form in MAGIC:
                cwd = form.format(number)
                done = box("exec", "--cwd", cwd, box.id, "ls", pass_fds=leaked)
                assert done.returncode == 255, (cwd, done)
                assert "cwd" in done.stderr
                if number > 8:
                    break
        for cwd in ROOTS:
            done = box("exec", "--cwd", cwd, box.id, "ls", "..", pass_fds=leaked)
            assert done.returncode == 255 or marker in done.stdout, (cwd, done)
    finally:
        close(leaked)


@pytest.mark.parametrize("cwd", ["/proc/self/fd/3", "/proc/self/fd/8", "/proc/1/root", "rel/ative"])
def test_d1_the_working_directory_of_an_image(
    images: Images, leaked: tuple[int, ...], cwd: str, tmp_path: Path
) -> None:
    """As an image's config says it: refused, or in the container."""
    layout = tmp_path / "layout"
    shutil.copytree(images.work / "layout", layout)
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs/sha256"

    def put(document: object) -> dict[str, object]:
        content = json.dumps(document).encode()
        name = hashlib.sha256(content).hexdigest()
        (blobs / name).write_bytes(content)
        return {"digest": f"sha256:{name}", "size": len(content)}

    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    config.setdefault("config", {})["WorkingDir"] = cwd
    manifest["config"].update(put(config))
    index["manifests"][0].update(put(manifest))
    (layout / "index.json").write_text(json.dumps(index))
    name = f"localhost/cwd{abs(hash(cwd))}"
    done = images.cli(
        "copy", "-q", *images.flags, f"oci:{layout}:one", f"containers-storage:{name}"
    )
    assert done.returncode == 0, done.stderr
    try:
        words = images.words(name, "ls", "..")
        done = images.cli(*words, pass_fds=leaked)
        assert done.returncode in (125, 126, 127) or done.stdout.split()[0] == "bin", done
        assert "Traceback" not in done.stderr
    finally:
        close(leaked)
    images.check_clean()


def test_d2_a_container_that_waits_keeps_nothing_of_the_caller(
    box: Box, leaked: tuple[int, ...]
) -> None:
    """Neither what leaked nor a pipe whose end somebody waits for."""
    reading, writing = os.pipe()
    box.configure("sleep", "60")
    with open(box.bundle / "output", "w") as output:
        subprocess.run(
            box.words("create", box.id),
            cwd=box.bundle,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(*leaked, writing),
            timeout=LIMIT,
            check=True,
        )
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)
    pid = box.state(box.id)["pid"]
    held = [os.stat(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert not any(stat.S_ISDIR(st.st_mode) for st in held)
    secret = os.fstat(leaked[1])
    assert (secret.st_dev, secret.st_ino) not in [(st.st_dev, st.st_ino) for st in held]
    close(leaked)


def test_d2_exec_and_run_pass_only_what_is_asked_for(box: Box, leaked: tuple[int, ...]) -> None:
    box.start("sleep", "60")
    try:
        done = box.exec("ls", "/proc/self/fd", pass_fds=leaked)
        assert done.stdout.split() == ["0", "1", "2", "3"]
    finally:
        close(leaked)


def test_d3_the_callers_files_are_not_the_containers(images: Images, tmp_path: Path) -> None:
    """A container cannot cut, read or seek in the file that takes its output."""
    output = tmp_path / "output"
    output.write_text("before\n")
    # Who reads the pipe has gone before anything is said: it would get a part of that.
    script = (
        "cat /proc/self/fd/1 </dev/null & reader=$!; : >/proc/self/fd/1; kill $reader; wait;"
        "echo said; ls -l /proc/self/fd"
    )
    with open(output, "a") as file:
        words = images.words("IMAGE", "sh", "-c", script)
        done = images.cli(*words, capture_output=False, stdout=file, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    said = output.read_text()
    assert said.startswith("before\nsaid\n")
    assert said.count("pipe:[") == 2
    assert "before" not in said[7:]


ATTACK = """
for p in /proc/[0-9]*; do
    e=$(readlink $p/exe) || continue
    case $e in ''|/bin/busybox) ;; *memfd:imgtools-exec*) ;; *) echo "exe $p $e" ;; esac
    ls $p/fd/ $p/cwd/ $p/root/ 2>/dev/null | grep -q ^victim- && echo "files of $p"
done
"""


def overwritten(box: Box, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the runtime, whose interpreter is a copy that nothing protects: bound over
    the real one, in a mount namespace of its own."""
    copy = box.bundle / "interpreter"
    if not copy.exists():
        shutil.copy2(PYTHON, copy)
    script = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
    return subprocess.run(
        [*UNSHARE, script, "sh", str(copy), PYTHON, *box.words(*words)],
        cwd=box.bundle,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


UNSHARE = ("unshare", "-m", "--propagation", "private", "sh", "-ec")
KEEP = "exec 9</proc/self/exe; sleep 1; echo overwritten > /proc/self/fd/9"


@pytest.mark.parametrize("command", ["run", "exec"])
@pytest.mark.parametrize("vector", ["program", "link", "script", "nested", "library"])
def test_d4_no_way_to_the_interpreter(box: Box, command: str, vector: str) -> None:
    """By the whole command, with an interpreter that could be overwritten."""
    program = box.rootfs / "bin/attack"
    words = ["/bin/attack", "-S", "-c", "import os; os.open('/proc/self/exe', os.O_PATH)"]
    if vector == "program":
        words[0] = "/proc/self/exe"
    elif vector == "link":
        program.symlink_to("/proc/self/exe")
    elif vector == "library":
        words = ["/bin/sh", "-c", KEEP]
    else:
        inner = "/proc/self/exe" if vector == "script" else "/bin/inner"
        program.write_text(f"#!{inner}\n")
        (box.rootfs / "bin/inner").write_text("#!/proc/self/exe\n")
        for path in (program, box.rootfs / "bin/inner"):
            path.chmod(0o755)
    before = hashlib.sha256(Path(PYTHON).read_bytes()).digest()
    if command == "exec":
        box.start("sleep", "60")
        done = overwritten(box, "exec", box.id, *words)
    else:
        config = box.config
        config["process"]["args"] = words
        box.config = config
        done = overwritten(box, "run", box.id)
    assert hashlib.sha256((box.bundle / "interpreter").read_bytes()).digest() == before
    if vector != "library":
        assert done.returncode == 126, done
        assert "permission denied" in done.stderr


def test_d4_hooks_of_the_image_have_the_programs_rights(box: Box) -> None:
    """A startContainer hook is a file of the image: it gets neither the interpreter nor
    privileges that the container does not have."""
    hook = box.rootfs / "bin/hook"
    report = "cat /proc/self/status > /report; id > /report.id; readlink /proc/1/exe > /report.exe"
    report += "; ls /proc/1/fd/ > /report.fd"
    hook.write_text(f"#!/bin/sh\n{report}\nexit 0\n")
    hook.chmod(0o755)
    (box.rootfs / "tmp").chmod(0o777)
    box.rootfs.chmod(0o777)
    config = box.config
    config["root"]["readonly"] = False
    config["hooks"] = {"startContainer": [{"path": "/bin/hook", "env": ["PATH=/bin"]}]}
    config["process"]["noNewPrivileges"] = True
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["sync"], "action": "SCMP_ACT_ERRNO"}],
    }
    box.config = config
    user = {"uid": 1000, "gid": 1000}
    assert box.says("cat", "/proc/self/status", user=user)
    told = {}
    for line in (box.rootfs / "report").read_text().splitlines():
        name, _, value = line.partition(":")
        told[name] = value.strip()
    assert told["Uid"].split() == ["1000"] * 4
    assert int(told["CapEff"], 16) == 0
    assert int(told["CapBnd"], 16) != (1 << 41) - 1
    assert told["NoNewPrivs"] == "1"
    assert told["Seccomp"] == "2"
    assert (box.rootfs / "report.exe").read_text() == ""
    assert (box.rootfs / "report.fd").read_text() == ""


def test_d5_what_enters_shows_nothing(box: Box) -> None:
    """A process of the container that has every capability of its user namespace looks at
    every process that comes by exec."""
    config = box.config
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {"uidMappings": IDS, "gidMappings": IDS}
    everything = ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"]
    for kind in ("bounding", "permitted", "effective"):
        config["process"]["capabilities"][kind] = everything
    box.config = config
    capabilities = config["process"]["capabilities"]
    open_up(box.bundle)
    (box.bundle / "victim-file").touch()
    script = f"while :; do {ATTACK} done"
    box.start("sh", "-c", script, capabilities=capabilities)
    for _ in range(8):
        done = box.exec("true", env={"SECRET": "host"})
        assert done.returncode == 0, done.stderr
    assert (box.bundle / "output").read_text() == ""


def test_d5_a_neighbour_in_the_same_pid_namespace(box: Box, tmp_path: Path) -> None:
    """A container that joins the PID namespace of another does not show its init either, even
    where root there owns the user namespace that the new one makes."""
    pid = box.start("sh", "-c", f"while :; do {ATTACK} done")
    other = Box(tmp_path / "other")
    config = other.config
    kept = [n for n in config["linux"]["namespaces"] if n["type"] != "pid"]
    kept += [{"type": "pid", "path": f"/proc/{pid}/ns/pid"}, {"type": "user"}]
    config["linux"]["namespaces"] = kept
    same = [{"containerID": 0, "hostID": 0, "size": 65536}]
    config["linux"] |= {"uidMappings": same, "gidMappings": same}
    # Until the hook ends the init waits, with the host's root before its eyes.
    pause = {"path": shutil.which("sleep"), "args": ["sleep", "0.5"]}
    config["hooks"] = {"createRuntime": [pause]}
    config["mounts"] = [m for m in config["mounts"] if m["type"] in ("tmpfs", "devpts")]
    other.config = config
    other.says("true")
    other.delete()
    assert (box.bundle / "output").read_text() == ""


def open_up(path: Path) -> None:
    """Let other ids reach `path`."""
    for directory in (path, *path.parents):
        if str(directory) != "/":
            os.chmod(directory, stat.S_IMODE(directory.stat().st_mode) | 0o055)


def test_d6_streams_are_all_there_is(box: Box) -> None:
    """For a program of a container, and for one that waits to be started."""
    assert box.says("ls", "/proc/1/fd").split() == ["0", "1", "2", "3"]
    box.configure("sleep", "60")
    box.spawned("create", box.id)
    pid = box.state(box.id)["pid"]
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        assert target.startswith(("socket:", "/memfd:", "anon_inode:", "/dev/null")) or (
            target == str(box.bundle / "output")
        ), target


def test_d2_the_launcher_passes_nothing_on(images: Images, leaked: tuple[int, ...]) -> None:
    """Nor does it keep the caller's environment."""
    try:
        said = images.cli(
            *images.words("IMAGE", "sh", "-c", "ls /proc/self/fd; cat /proc/1/environ"),
            pass_fds=leaked,
            env={"SECRET_OF_THE_HOST": "1"},
        )
    finally:
        close(leaked)
    assert said.stdout.split()[:4] == ["0", "1", "2", "3"]
    assert "SECRET" not in said.stdout
