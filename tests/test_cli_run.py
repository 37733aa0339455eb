"""`imgtools run` from the command line, one flag after the other, in real containers.

What podman 4.3.1 does with the same flags was looked up by running it; where we differ on
purpose the test says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgtools.cli import main
from imgtools.cli.settings import Settings
from imgtools.cli.state import Cli
from tests.engine.run_rig import IMAGE, Runs

DEFAULT_CAPABILITIES = "00000000800405fb"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The image in a store; nothing may be left when all is done."""
    found = Runs(tmp_path_factory.mktemp("runs"))
    yield found
    found.stop()
    assert found.left() == []


Failing = Callable[..., tuple[int, str]]


@pytest.fixture
def failure(runs: Runs, capfd: pytest.CaptureFixture[str]) -> Iterator[Failing]:
    """Status and message of a run that fails without a word from a container; it is called in
    this process, which saves a start."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run(*words: str) -> tuple[int, str]:
        settings = Settings.from_environment(runs.cli.env)
        with contextlib.chdir(runs.cli.work):
            code = main.run(runs.arguments(*words)[3:], Cli(settings=settings))
        out, err = capfd.readouterr()
        assert out == ""
        return code, err.strip()

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 255", 255),
        ("kill -9 $$; exit 3", 3),
        ("sleep 60 & kill -9 $!; wait $!", 137),
    ],
)
def test_exit_codes_are_the_commands(runs: Runs, script: str, code: int) -> None:
    """A shell as PID 1 cannot kill itself with 9, which is the kernel's rule."""
    assert runs(IMAGE, "sh", "-c", script).returncode == code


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ((IMAGE, "nope"), 127, 'exec: "nope": executable file not found in $PATH'),
        ((IMAGE, "/bin/nope"), 127, 'exec: "/bin/nope": no such file or directory'),
        ((IMAGE, "/bin"), 126, "is a directory"),
        ((IMAGE, "/etc/passwd"), 126, "permission denied"),
        ((IMAGE,), 125, "no command: the image has none"),
        (("--pull=never", "localhost/nothing", "true"), 125, "image not known"),
        (("--bogus", IMAGE, "true"), 125, "No such option '--bogus'"),
        (("--pull=sometimes", IMAGE, "true"), 125, "'sometimes' is not one of"),
        ((), 125, "Missing argument"),
        (("-u", "nobody", IMAGE, "true"), 125, "unable to find user nobody"),
        (("-u", "joe:nothing", IMAGE, "true"), 125, "unable to find group nothing"),
        (("-u", "4294967295", IMAGE, "true"), 125, "id 4294967295"),
        (("--group-add", "nothing", IMAGE, "true"), 125, "unable to find group nothing"),
        (("-v", "./missing:/v", IMAGE, "true"), 125, "no such file or directory"),
        (("-w", "/bin/sh", IMAGE, "true"), 125, "not a directory"),
        (("--ulimit", f"nofile={1 << 40}", IMAGE, "true"), 125, "--ulimit nofile: the highest"),
        (("--device", "/etc/passwd", IMAGE, "true"), 125, "is not a device"),
        (("--security-opt", "seccomp=/missing", IMAGE, "true"), 125, "/missing"),
        (("--add-host", "h:host-gateway", IMAGE, "true"), 125, "no address in this network"),
        (("--rm=false", IMAGE, "true"), 125, "containers are removed when they end"),
    ],
)
def test_what_cannot_be_run_says_so(
    failure: Failing, words: tuple[str, ...], code: int, text: str
) -> None:
    found, message = failure(*words)
    assert (found, text in message) == (code, True), message
    assert message.count("\n") == 0
    assert message.startswith("imgtools: ")


def test_the_environment_is_the_containers_own(runs: Runs) -> None:
    """S3: nothing of the caller's is in it, in /proc of no process either."""
    found = set(runs.out("--hostname=box", IMAGE, "env").split())
    assert found == {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TERM=xterm",
        "container=oci",
        "HOSTNAME=box",
        "HOME=/root",
    }


def test_variables_in_podmans_order(runs: Runs) -> None:
    """Files first, -e after, the last of a name counts; without a value it is the caller's."""
    work = runs.cli.work
    (work / "one").write_text("# note\nA=file one\nB=one\n\n  C=space before\nOWN\n")
    (work / "two").write_text('B=two\nD="quotes stay"\n')
    runs.cli.env.update(OWN="mine", OWN_TOO="too")
    flags = ("--env-file=one", "--env-file=two", "-e", "A=flag", "-e", "MISSING", "-e", "OWN*",
             "-eHOME=/x", "--unsetenv", "TERM")  # fmt: skip
    found = dict(line.split("=", 1) for line in runs.out(*flags, IMAGE, "env").splitlines())
    wanted = {"A": "flag", "B": "two", "C": "space before", "D": '"quotes stay"', "OWN": "mine",
              "OWN_TOO": "too", "HOME": "/x"}  # fmt: skip
    assert wanted.items() <= found.items()
    assert not {"MISSING", "TERM"} & found.keys()


@pytest.mark.parametrize(
    ("flags", "words", "shown"),
    [
        (["--entrypoint="], ["echo", "a"], "a"),
        (["--entrypoint=echo"], ["a b", "c"], "a b c"),
        (["--entrypoint", '["echo", "x y"]'], ["z"], "x y z"),
        (["--entrypoint=[]"], ["echo", "a"], "a"),
    ],
)
def test_entrypoints(runs: Runs, flags: list[str], words: list[str], shown: str) -> None:
    assert runs.out(*flags, IMAGE, *words) == f"{shown}\n"


def test_users_of_the_image(runs: Runs) -> None:
    script = "echo $(id -u):$(id -g):$(id -G) $HOME; grep CapEff /proc/self/status"
    found = {
        user: runs.out("-u", user, IMAGE, "sh", "-c", script).split()
        for user in ("joe", "joe:10", "4242", "0")
    }
    assert found["joe"] == ["1000:1000:1000", "10", "/home/joe", "CapEff:", "0" * 16]
    assert found["joe:10"] == ["1000:10:10", "/home/joe", "CapEff:", "0" * 16]
    assert found["4242"] == ["4242:0:0", "/", "CapEff:", "0" * 16]
    assert found["0"] == ["0:0:0", "/root", "CapEff:", DEFAULT_CAPABILITIES]


def test_further_groups_by_name_and_number(runs: Runs) -> None:
    flags = ("-u", "joe", "--group-add", "audio", "--group-add=4000")
    assert set(runs.out(*flags, IMAGE, "id", "-G").split()) == {"1000", "10", "29", "4000"}


def test_volumes(runs: Runs) -> None:
    work = runs.cli.work
    (work / "dir").mkdir()
    (work / "dir/file").write_text("in dir\n")
    (work / "one").write_text("alone\n")
    flags = ("-v", "./dir:/rw", "-v", "./dir:/ro:ro", "-v", "./one:/etc/one", "-v",
             "./dir:/../../up:rshared")  # fmt: skip
    script = (
        "cat /rw/file /etc/one /up/file; echo new > /rw/new; cat /ro/new;"
        "touch /ro/no 2>/dev/null; echo $?; grep -c ' /up .* shared:' /proc/self/mountinfo"
    )
    assert runs.out(*flags, IMAGE, "sh", "-c", script).split("\n") == [
        "in dir", "alone", "in dir", "new", "1", "1", "",
    ]  # fmt: skip
    assert (work / "dir/new").read_text() == "new\n"
    # Of the shared volume nothing came to us, and what is set-uid in volumes does not count.
    options = runs.out("-v", "./dir:/v", IMAGE, "grep", " /v ", "/proc/self/mountinfo").split()[5]
    assert {"nosuid", "nodev"} <= set(options.split(","))


def test_working_directories(runs: Runs) -> None:
    """Made where missing, which podman refuses and docker and builds do."""
    assert runs.out("-w", "/new/dir", IMAGE, "sh", "-c", "pwd; stat -c %a:%u /new") == (
        "/new/dir\n755:0\n"
    )


def test_read_only_roots(runs: Runs) -> None:
    script = (
        "for d in / /etc /bin /run /tmp /var/tmp /dev/shm /more; do"
        " touch $d/x 2>/dev/null && echo $d; done; echo x 2>/dev/null >> /etc/hosts || echo kept"
    )
    found = runs.out("--read-only", "--tmpfs=/more", IMAGE, "sh", "-c", script).split()
    assert found == ["/run", "/tmp", "/var/tmp", "/dev/shm", "/more", "kept"]


def test_file_systems_in_memory(runs: Runs) -> None:
    """As podman's: the mode of what was there, what was in it is copied, size and mode count."""
    script = (
        "stat -c %a /home /new /sized; ls /home;"
        "grep ' /sized ' /proc/self/mountinfo; grep ' /new ' /proc/self/mountinfo"
    )
    flags = ("--tmpfs=/home", "--tmpfs=/new", "--tmpfs", "/sized:size=1m,mode=700,noexec")
    *first, sized, new = runs.out(*flags, IMAGE, "sh", "-c", script).strip().split("\n")
    assert first == ["755", "1777", "700", "joe"]
    assert "size=1024k" in sized
    assert "noexec" in sized
    assert {"nosuid", "nodev"} <= set(new.split()[5].split(","))
    assert "noexec" not in new.split()[5].split(",")


@pytest.mark.parametrize(
    ("flags", "effective"),
    [
        ((), DEFAULT_CAPABILITIES),
        (("--cap-add=net_admin,SYS_TIME",), "00000000820415fb"),
        (("--cap-drop=all", "--cap-add=CAP_CHOWN"), "0" * 15 + "1"),
        (("--cap-drop=ALL",), "0" * 16),
        (("--cap-add=NET_RAW", "-u", "joe"), "0000000000002000"),
    ],
)
def test_capabilities(runs: Runs, flags: tuple[str, ...], effective: str) -> None:
    found = runs.out(*flags, IMAGE, "grep", "Cap", "/proc/self/status").split()
    sets = dict(zip(found[::2], found[1::2], strict=True))
    assert sets["CapEff:"] == sets["CapPrm:"] == effective


def test_privileged_containers(runs: Runs) -> None:
    script = (
        "grep Seccomp: /proc/self/status; grep -c ' /proc/' /proc/self/mountinfo;"
        "grep ' /sys ' /proc/self/mountinfo; stat -c %t /dev/kmsg"
    )
    seccomp, covered, sys, kmsg = (
        runs.out("--privileged", IMAGE, "sh", "-c", script).strip().split("\n")
    )
    assert (seccomp.split()[1], covered, kmsg) == ("0", "0", "1")
    assert "rw" in sys.split()[5].split(",")


def test_security_options(runs: Runs) -> None:
    script = "grep -E 'NoNew|Seccomp:' /proc/self/status; ls /etc /home; mount | grep -c ' /proc/'"
    flags = ("--security-opt=no-new-privileges", "--security-opt=seccomp=unconfined",
             "--security-opt=mask=/etc:/home", "--security-opt=unmask=/proc/*",
             "--security-opt=label=disable")  # fmt: skip
    found = runs(*flags, IMAGE, "sh", "-c", script).stdout.decode().split()
    assert found == ["NoNewPrivs:", "1", "Seccomp:", "0", "/etc:", "/home:", "0"]
    hidden = runs.out("--security-opt=proc-opts=hidepid=2", IMAGE, "grep", " /proc ",
                      "/proc/self/mountinfo")  # fmt: skip
    assert re.search(r"hidepid=(2|invisible)", hidden)


def test_limits_of_processes(runs: Runs) -> None:
    """G2: what is the default is lowered to what can be had; what was asked for counts."""
    script = "ulimit -n; ulimit -Hn; ulimit -c"
    assert runs.out(
        "--ulimit=nofile=100:200", "--ulimit=core=0", IMAGE, "sh", "-c", script
    ).split() == ["100", "200", "0"]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    default = int(runs.out(IMAGE, "sh", "-c", "ulimit -n"))
    assert default == min(hard if hard >= 0 else 1 << 20, 1 << 20)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert int(runs.out("--ulimit=host", IMAGE, "sh", "-c", "ulimit -n")) == soft


def test_devices(runs: Runs) -> None:
    """Those asked for are there; making a node opens nothing else."""
    script = "stat -c %F /dev/more; echo a > /dev/more; mknod /tmp/kmsg c 1 11; cat /tmp/kmsg"
    done = runs("--device=/dev/null:/dev/more:rw", "--cap-add=MKNOD", IMAGE, "sh", "-c", script)
    assert done.stdout == b"character special file\n"
    assert done.returncode == 1


def test_names_of_the_container(runs: Runs) -> None:
    script = "hostname; cat /etc/hostname; grep box /etc/hosts"
    flags = ("--hostname=box", "--name=called", "--add-host=other;box2:192.0.2.7")
    assert runs.out(*flags, IMAGE, "sh", "-c", script).split("\n") == [
        "box", "box", "192.0.2.7\tother box2", "127.0.0.1\tbox called", "",
    ]  # fmt: skip


def test_a_name_is_one_containers(runs: Runs, failure: Failing) -> None:
    process = runs.start("--name=unique", IMAGE, "sh", "-c", "echo up; exec sleep 60")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        code, message = failure("--name=unique", IMAGE, "true")
        assert code == 125
        assert "container name 'unique' is in use" in message
        assert runs("--name=other", IMAGE, "true").returncode == 0
    finally:
        process.kill()
        process.communicate()
    # The kernel gives a dead one's name back.
    assert runs("--name=unique", IMAGE, "true").returncode == 0


def test_resolv_conf(runs: Runs) -> None:
    flags = ("--dns=192.0.2.53", "--dns-search=a.example", "--dns-option=ndots:3")
    assert runs.out(*flags, IMAGE, "cat", "/etc/resolv.conf").split("\n") == [
        "search a.example", "nameserver 192.0.2.53", "options ndots:3", "",
    ]  # fmt: skip


def test_networks(runs: Runs, failure: Failing) -> None:
    """Without one there is a loopback that is up; the host's is the host's."""
    script = "readlink /proc/self/ns/net; cat /proc/net/dev | wc -l; cat /proc/net/fib_trie"
    own = os.readlink("/proc/self/ns/net")
    done = runs(IMAGE, "sh", "-c", script, network="none").stdout.decode()
    namespace, devices, *routes = done.split("\n")
    assert namespace != own
    assert devices == "3"
    assert "127.0.0.1" in "".join(routes)
    host = runs(IMAGE, "readlink", "/proc/self/ns/net", network="host").stdout.decode()
    assert host.strip() == own
    code, message = failure("--network=bridge", IMAGE, "true")
    assert code == 125
    assert "bridge" in message


def test_short_options_in_one_word(runs: Runs) -> None:
    (runs.cli.work / "cluster").mkdir()
    assert runs.out("-ieX=1", IMAGE, "sh", "-c", "echo $X") == "1\n"
    assert runs.out("-iv", "./cluster:/c", IMAGE, "ls", "-d", "/c") == "/c\n"
    # What follows the image is the command's, options and all.
    assert runs.out(IMAGE, "echo", "-i", "--network", "--", "-x") == "-i --network -- -x\n"
    assert runs.out("--", IMAGE, "echo", "a") == "a\n"


def test_images_by_all_their_names(runs: Runs, tmp_path: Path) -> None:
    at = ("--root", str(runs.root), "--runroot", str(runs.runroot))
    listed = runs.cli("images", *at, "--no-trunc", "--quiet", check=True).stdout.strip()
    image_id = listed.removeprefix("sha256:")
    layout = f"oci:{tmp_path}/layout:x"
    runs.cli("copy", *at, f"containers-storage:{IMAGE}", layout, check=True)
    for name in ("small", "localhost/small", image_id, image_id[:12], f"sha256:{image_id}"):
        assert runs.out(name, "echo", "a") == "a\n"
    assert runs.out(layout, "echo", "from a layout") == "from a layout\n"


def test_policy_is_asked_before_a_pull(runs: Runs, failure: Failing, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "reject"}]}')
    code, message = failure(f"--policy={policy}", f"oci:{tmp_path}/none", "true")
    assert code == 125
    assert "rejected by policy" in message
    assert runs(f"--policy={policy}", IMAGE, "true").returncode == 0


def test_f9_hostile_passwd_files(runs: Runs, failure: Failing, tmp_path: Path) -> None:
    """A passwd that is a FIFO or leads out of the root holds nobody up and names nobody."""
    (tmp_path / "passwd").write_text("spy:x:1234:1234::/:/bin/sh\n")
    for make in ("mknod /etc/passwd p", f"ln -s {tmp_path}/passwd /etc/passwd"):
        script = f"rm /etc/passwd; {make}"
        with_bad = _changed(runs, script)
        code, message = failure("-u", "spy", with_bad, "true")
        assert code == 125
        assert "passwd" in message


def _changed(runs: Runs, script: str) -> str:
    """An image with what a script changed in the small one; its name."""
    from engine.containers.options import RunOptions
    from engine.containers.ownership import diff_container, forget
    from engine.containers.run import run_container
    from imgtools.task import Task
    from tests.engine.run_rig import engine_of

    directory = runs.cli.work / f"changed-{len(os.listdir(runs.cli.work))}"
    directory.mkdir()
    with engine_of(runs.location) as engine:
        image, _ = engine.store.find(IMAGE)
        options = RunOptions(command=("sh", "-c", script), network="none")
        keep = directory.name
        try:
            assert run_container(engine, image, options, keep=keep, task=Task()) == 0
            snapshot = engine.store.snapshots.get(keep)
            with open(directory / "layer.tar", "wb") as file:
                diff_container(engine.store.snapshots, snapshot, file.write)
        finally:
            forget(engine.store, keep)
    base = runs.root.parent / "small.tar"
    name = f"localhost/{directory.name}:latest"
    at = ("--root", str(runs.root), "--runroot", str(runs.runroot))
    runs.cli(
        "copy", *at, f"tarball:{base}:{directory}/layer.tar", f"containers-storage:{name}",
        check=True,
    )  # fmt: skip
    return name
