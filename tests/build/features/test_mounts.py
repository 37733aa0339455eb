"""RUN --mount of every kind, and what is left of mounts."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.build.options import SecretSource, SshSource
from tests.build.features.kit import BASE, Kit

FILES: dict[str, Any] = {
    "f": "text", "d/x": "x", "d/e/y": "y", "hidden": "no", ".dockerignore": "hidden\n",
    "l": "->d",
}  # fmt: skip
ONE = f"FROM {BASE} AS one\nRUN mkdir -p /s/t; echo one >/s/t/u\n"
F = f"FROM {BASE}\n"
SECRETS = (
    SecretSource(id="sec", value=b"hunter2"), SecretSource(id="TOKEN", value=b"t0ken"),
    SecretSource(id="empty", value=b""),
)  # fmt: skip
# RUN with mounts, and what it writes to /o.
MOUNTED = {
    "bind the context": ("--mount=type=bind,target=/m cat /m/f /m/d/x", "textx"),
    "bind is the default": ("--mount=target=/m cat /m/f", "text"),
    "bind a directory": ("--mount=type=bind,source=d,target=/m cat /m/e/y", "y"),
    "bind a file": ("--mount=type=bind,source=f,target=/m/n cat /m/n", "text"),
    "bind, source with a slash": ("--mount=type=bind,source=/d/e,target=/m cat /m/y", "y"),
    "bind, source above the context": ("--mount=source=../../d,target=/m cat /m/x", "x"),
    "bind, source is a link": ("--mount=source=l,target=/m cat /m/x", "x"),
    "bind leaves out what is ignored": ("--mount=target=/m ls /m/hidden 2>&1 | grep -c No", "1"),
    "src, dst": ("--mount=type=bind,src=f,dst=/m cat /m", "text"),
    "destination": ("--mount=type=bind,source=f,destination=/m cat /m", "text"),
    "keys in any case": ("--mount=Type=bind,Source=f,TARGET=/m cat /m", "text"),
    "quoted values": ('--mount=type=bind,"source=f","target=/m n" cat "/m n"', "text"),
    "relative target": ("--mount=source=f,target=m/n cat /w/m/n", "text"),
    "target .": ("--mount=target=. cat /w/f", "text"),
    "bind is read-only": ("--mount=target=/m sh -c '! touch /m/new' 2>&1; echo $?", "-ro"),
    "bind,ro": ("--mount=target=/m,ro sh -c 'touch /m/new || echo ro'", "ro"),
    "bind,readonly=true": ("--mount=target=/m,readonly=true sh -c 'touch /m/a || echo ro'", "ro"),
    "bind,rw": ("--mount=target=/m,rw echo new >/m/new; cat /m/new /m/f", "new\ntext"),
    "bind,readwrite": ("--mount=target=/m,readwrite echo new >/m/f; cat /m/f", "new"),
    "bind,rw=true": ("--mount=target=/m,rw=true rm /m/f; ls /m", "d\nl"),
    "bind,readonly=false": ("--mount=target=/m,readonly=false echo new >/m/f; cat /m/f", "new"),
    "from a stage": ("--mount=from=one,target=/m cat /m/s/t/u", "one"),
    "from a stage by number": ("--mount=from=0,target=/m cat /m/s/t/u", "one"),
    "from a stage, source": ("--mount=from=one,source=/s/t,target=/m cat /m/u", "one"),
    "from an image": (f"--mount=from={BASE},source=/etc/group,target=/m grep -c wheel /m", "1"),
    "from a stage, rw": ("--mount=from=one,target=/m,rw echo two >/m/s/t/u; cat /m/s/t/u", "two"),
    "two": ("--mount=source=f,target=/m --mount=source=d,target=/n cat /m /n/x", "textx"),
    "one in the other": ("--mount=source=d,target=/m,rw --mount=source=f,target=/m/e/z "
                         "ls /m/e; cat /m/e/z", "y\nz\ntext"),
    "two on one target": ("--mount=target=/m --mount=source=d,target=/x/../m ls /m", "e\nx"),
    "over what is there": ("--mount=source=d,target=/etc ls /etc | head -n 1", "e"),
    "tmpfs": ("--mount=type=tmpfs,target=/m touch /m/a; mount | grep -c 'on /m type tmpfs'", "1"),
    "tmpfs with a size": (
        "--mount=type=tmpfs,target=/m,size=128m mount | grep ' /m ' | grep -o 'size=[0-9k]*'",
        "size=131072k",
    ),
    "tmpfs,ro": ("--mount=type=tmpfs,target=/m,ro sh -c 'touch /m/a || echo ro'", "ro"),
    "tmpfs hides": ("--mount=type=tmpfs,target=/etc ls /etc", ""),
    "cache": ("--mount=type=cache,target=/m echo a >/m/a; cat /m/a", "a"),
    "cache, mode and owner": (
        "--mount=type=cache,target=/m,id=owned,mode=0711,uid=7,gid=8 stat -c %a:%u:%g /m", "711:7:8"
    ),
    "cache, usual mode and owner": ("--mount=type=cache,target=/m,id=u stat -c %a:%u:%g /m",
                                    "755:0:0"),
    "cache begins as a stage": (
        "--mount=type=cache,target=/m,id=from,from=one,source=/s/t cat /m/u", "one"
    ),
    "cache,ro": ("--mount=type=cache,target=/m,id=ro,ro sh -c 'touch /m/a || echo ro'", "ro"),
    "cache, sharing": ("--mount=type=cache,target=/m,id=l,sharing=locked "
                       "--mount=type=cache,target=/n,id=p,sharing=private "
                       "--mount=type=cache,target=/q,id=s,sharing=shared ls /m /n /q | wc -l", "5"),
    "secret": ("--mount=type=secret,id=sec cat /run/secrets/sec", "hunter2"),
    "secret, target": ("--mount=type=secret,id=sec,target=/m/n cat /m/n", "hunter2"),
    "secret, relative target": ("--mount=type=secret,id=sec,target=m cat /w/m", "hunter2"),
    "secret, id from the target": ("--mount=type=secret,target=/m/sec cat /m/sec", "hunter2"),
    "secret, usual mode and owner": (
        "--mount=type=secret,id=sec stat -c %a:%u:%g /run/secrets/sec", "400:0:0"
    ),
    "secret, mode and owner": (
        "--mount=type=secret,id=sec,mode=0741,uid=7,gid=8,dst=/m stat -c %a:%u:%g /m", "741:7:8"
    ),
    "secret as a variable": ("--mount=type=secret,id=TOKEN,env=OWN echo $OWN", "t0ken"),
    "secret as a variable is no file": (
        "--mount=type=secret,id=TOKEN,env=OWN ls /run/secrets 2>&1 | grep -c 'No such'", "1"
    ),
    "secret as both": ("--mount=type=secret,id=TOKEN,env=A,target=/m echo $A$(cat /m)",
                       "t0kent0ken"),
    "secret that is not there": ("--mount=type=secret,id=none ls /run/secrets/none 2>&1 | wc -l",
                                 "1"),
    "secret as a variable that is not there": (
        "--mount=type=secret,id=none,env=A echo ${A-unset}", "unset"
    ),
    "secret, required": ("--mount=type=secret,id=sec,required cat /run/secrets/sec", "hunter2"),
    "empty secret": ("--mount=type=secret,id=empty,required wc -c </run/secrets/empty", "0"),
    "variable in the target": ("--mount=source=f,target=/m/$VAR cat /m/val", "text"),
    "variable in the source": ("--mount=source=${DIR}/x,target=/m cat /m", "x"),
    "variable in the id": ("--mount=type=secret,id=$ID,target=/m cat /m", "hunter2"),
    "variable of a secret": ("--mount=type=secret,id=sec,env=E_$VAR echo $E_val", "hunter2"),
    "variable in the type": ("--mount=type=$KIND,target=/m mount | grep -c ' /m type tmpfs'", "1"),
    "variables in modes": ("--mount=type=cache,id=v,target=/m,mode=$MODE,uid=$N,gid=$N "
                           "stat -c %a:%u:%g /m", "700:7:7"),
    "type in any case": ("--mount=type=BIND,source=f,target=/m cat /m", "text"),
    "no target is the working directory": ("--mount=source=d cat /w/x", "x"),
    "source of a secret": ("--mount=type=secret,source=sec,target=/m cat /m", "hunter2"),
    "JSON form": ('--mount=source=f,target=/m ["sh", "-c", "cat /m >/o"]', "text"),
}  # fmt: skip
DECLARED = ("ARG VAR=val\nENV DIR=d\nARG ID=sec KIND=tmpfs MODE=0700 N=7\n"
            "WORKDIR /w\n")  # fmt: skip


@pytest.mark.parametrize(("run", "written"), MOUNTED.values(), ids=MOUNTED)
def test_mounts(kit: Kit, run: str, written: str) -> None:
    flags = re.match(r'(--mount=(?:"[^"]*"|\S)+\s+)+', run)
    assert flags is not None
    command = run[flags.end() :]
    whole = command if command.startswith("[") else f"{{ {command}; }} >/o"
    built = kit(f"{ONE}{F}{DECLARED}RUN {flags[0]}{whole}", FILES, secrets=SECRETS)
    if written == "-ro":
        assert "Read-only" in built["o"]
    else:
        assert built["o"] == written
    assert not {"m", "n", "q", "w/m", "m n", "run"} & set(built.tree)
    assert "hunter2" not in str(built.document)


REFUSED = {
    "unknown type": ("--mount=type=overlay,target=/m true", "overlay"),
    "unknown key": ("--mount=type=bind,target=/m,colour=red true", "colour"),
    "a variable as a whole": ("--mount=$VAR,target=/m true", "VAR"),
    "mode of a bind": ("--mount=type=bind,target=/m,mode=700 true", "mode"),
    "sharing of a bind": ("--mount=type=bind,target=/m,sharing=locked true", "sharing"),
    "unknown sharing": ("--mount=type=cache,target=/m,sharing=some true", "some"),
    "size of a cache": ("--mount=type=cache,target=/m,size=1m true", "size"),
    "bad size": ("--mount=type=tmpfs,target=/m,size=big true", "big"),
    "bad mode": ("--mount=type=cache,target=/m,mode=9 true", "9"),
    "bad flag": ("--mount=target=/m,ro=perhaps true", "perhaps"),
    "source that is not there": ("--mount=source=nothing,target=/m true", "nothing"),
    "source that is ignored": ("--mount=source=hidden,target=/m true", "hidden"),
    "source of a stage that is not there": ("--mount=from=one,source=/no,target=/m true", "no in"),
    "stage that is not there": ("--mount=from=nowhere.invalid/a,target=/m true", "nowhere"),
    "variable in from": ("--mount=from=$VAR,target=/m true", "from"),
    "secret that is required": ("--mount=type=secret,id=none,required true", "none"),
    "secret that is required as a variable": (
        "--mount=type=secret,id=none,env=A,required=true true", "none"
    ),
    "secret without id and target": ("--mount=type=secret true", "id|target"),
    "secret twice in one value": ("--mount=type=secret,id=sec,env true", "env"),
    "ssh that is required": ("--mount=type=ssh,required true", "ssh|default"),
    "bind over everything": ("--mount=target=/ true", "/"),
}  # fmt: skip


@pytest.mark.parametrize(("run", "said"), REFUSED.values(), ids=REFUSED)
def test_mounts_that_are_refused(kit: Kit, run: str, said: str) -> None:
    text = f"{ONE}{F}{DECLARED}RUN {run}"
    assert re.search(said, kit.fails(text, FILES, secrets=SECRETS, pull="never"))


@pytest.mark.parametrize("kind", ["bind", "tmpfs", "cache"])
def test_a_mount_over_everything_is_refused(kit: Kit, kind: str) -> None:
    assert "target" in kit.fails(f"RUN --mount=type={kind} true", FILES)


def test_what_is_written_to_a_bind_is_forgotten(kit: Kit) -> None:
    """By the next step, by the stage that it came from, and by the host."""
    context = kit.context(FILES)
    built = kit(f"{ONE}{F}RUN --mount=target=/m,rw --mount=from=one,target=/n,rw "
                "echo new >/m/f; echo new >/m/new; echo new >/n/s/t/u; rm -r /m/d\n"
                "RUN --mount=target=/m --mount=from=one,target=/n cat /m/f /n/s/t/u >/o; "
                f"ls /m >>/o\nCOPY f /f\nCOPY --from=one /s/t/u /u", context=context)  # fmt: skip
    assert built["o"] == "textone\nd\nf\nl"
    assert (built["f"], built["u"]) == ("text", "one")
    assert sorted(p.name for p in context.iterdir()) == [".dockerignore", "d", "f", "hidden", "l"]
    assert (context / "f").read_text() == "text"


def test_nothing_is_left_of_mounts(kit: Kit) -> None:
    built = kit(
        "RUN mkdir -p /was/there\n"
        "RUN --mount=source=f,target=/p/q/file --mount=source=d,target=/r/s/dir "
        "--mount=type=tmpfs,target=/t --mount=type=cache,target=/u/v "
        "--mount=type=secret,id=sec,target=/w/x --mount=type=secret,id=sec "
        "--mount=source=d,target=/was/there/too --mount=source=d,target=/kept/m echo a >/kept/a",
        FILES, secrets=SECRETS,
    )  # fmt: skip
    assert built.last == ["kept", "kept/a"]
    assert built.tree["was/there"].kind == "dir"


def test_targets_that_are_there_stay_as_they_are(kit: Kit) -> None:
    built = kit(
        "RUN mkdir -m 750 /dir; echo old >/dir/a; echo old >/file; ln -s /dir /link\n"
        "RUN --mount=source=d,target=/dir --mount=source=f,target=/file cat /dir/x /file >/o\n"
        "RUN --mount=source=d,target=/link cat /dir/x /link/x >/p",
        FILES,
    )
    assert (built["o"], built["p"]) == ("xtext", "xx")
    assert (built["dir/a"], built["file"], built.tree["dir"].octal) == ("old", "old", "750")
    assert built.tree["link"].text == "/dir"
    assert built.last == ["p"]


def test_caches_stay(kit: Kit) -> None:
    flag = "RUN --mount=type=cache,id=stay,target"
    first = kit(f"{flag}=/m echo a >>/m/log; cat /m/log >/o")
    second = kit(f"{flag}=/n echo b >>/n/log; cat /n/log >/o")
    assert (first["o"], second["o"]) == ("a", "a\nb")
    assert kit(f"{flag}=/m echo a >>/m/log; cat /m/log >/o")["o"] == "a", "done already"
    assert "exit code 1" in kit.fails(f"{flag}=/m echo c >>/m/log; false")
    assert kit(f"{flag}=/m cat /m/log >/p")["p"] == "a\nb\nc"


def test_caches_without_id_are_known_by_their_target(kit: Kit) -> None:
    kit("RUN --mount=type=cache,target=/by/target echo a >/by/target/a")
    built = kit("RUN --mount=type=cache,target=/by/target/ cat /by/target/a >/o\n"
                "RUN --mount=type=cache,id=/by/target,target=/x cat /x/a >/p\n"
                "WORKDIR /by\nRUN --mount=type=cache,target=target cat target/a >/q")  # fmt: skip
    assert (built["o"], built["p"], built["q"]) == ("a", "a", "a")


def test_caches_lead_nowhere(kit: Kit) -> None:
    """A link in a cache is no way out of it; a part of one cannot be mounted."""
    cache = "RUN --mount=type=cache,id=leads"
    kit(f"{cache},target=/c ln -s /etc /c/sel; ln -s ../../../../../../etc /c/up")
    for source in ("sel", "up"):
        assert "from" in kit.fails(f"{cache},source={source},target=/v ls /v")
    built = kit(f"{cache},source=/,target=/v ls /v >/o; ls /v/up/shadow || true")
    assert built["o"] == "sel\nup"
    assert "root:" not in built.out


def test_caches_of_users(kit: Kit) -> None:
    built = kit("USER joe\nRUN --mount=type=cache,id=joes,target=/m,uid=1000,mode=0700 "
                "touch /m/a; stat -c %u /m/a >/tmp/o")  # fmt: skip
    assert built["tmp/o"] == "1000"


def test_private_caches_are_not_shared(kit: Kit) -> None:
    flag = "RUN --mount=type=cache,id=priv,sharing={},target=/m"
    wait = ("echo {0} >/m/own; for i in 1 2 3 4 5; do sleep 0.1; done; cat /m/own >/o")  # fmt: skip
    text = (f"FROM {BASE} AS a\n{flag.format('private')} {wait.format('a')}\n"
            f"FROM {BASE} AS b\n{flag.format('private')} {wait.format('b')}\n"
            "FROM scratch\nCOPY --from=a /o /a\nCOPY --from=b /o /b")  # fmt: skip
    built = kit(text, jobs=2)
    assert (built["a"], built["b"]) == ("a", "b")


def test_locked_caches_wait(kit: Kit) -> None:
    flag = "RUN --mount=type=cache,id=lock,sharing=locked,target=/m"
    busy = "test ! -e /m/busy; touch /m/busy; sleep 0.3; rm /m/busy; echo {} >/o"
    text = (f"FROM {BASE} AS a\n{flag} set -e; {busy.format('a')}\n"
            f"FROM {BASE} AS b\n{flag} set -e; {busy.format('b')}\n"
            "FROM scratch\nCOPY --from=a /o /a\nCOPY --from=b /o /b")  # fmt: skip
    assert kit(text, jobs=2)["b"] == "b"


def test_secrets_are_no_part_of_the_cache(kit: Kit) -> None:
    text = "RUN --mount=type=secret,id=s wc -c </run/secrets/s >/o"
    assert kit(text, secrets=(SecretSource(id="s", value=b"1"),))["o"] == "1"
    assert kit(text, secrets=(SecretSource(id="s", value=b"12345"),))["o"] == "1"


def test_what_is_mounted_is(kit: Kit) -> None:
    text = "RUN --mount=source=d,target=/m cat /m/x /proc/sys/kernel/random/uuid >/o"
    first = kit(text, FILES)["o"]
    assert kit(text, {**FILES, "f": "changed"})["o"] == first
    assert kit(text, {**FILES, "d/x": "changed"})["o"] != first


def test_secrets_from_files(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"two\nlines\0and \xff")
    built = kit("RUN --mount=type=secret,id=s cp /run/secrets/s /o",
                secrets=(SecretSource(id="s", file=str(tmp_path / "s")),))  # fmt: skip
    assert built.tree["o"].raw == b"two\nlines\0and \xff"


@pytest.fixture(name="agent")
def _agent(tmp_path: Path) -> Iterator[str]:
    """A socket that says who was asked."""
    path = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                peer.sendall(b"agent says hello\n")
                peer.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


SSH = {
    "usual": ("", "/run/buildkit/ssh_agent.0", "600:0:0"),
    "id": ("id=other,", "/run/buildkit/ssh_agent.0", "600:0:0"),
    "target": ("target=/m/agent,", "/m/agent", "600:0:0"),
    "mode and owner": ("mode=741,uid=1000,gid=29,", "/run/buildkit/ssh_agent.0", "741:1000:29"),
}


@pytest.mark.parametrize(("options", "path", "state"), SSH.values(), ids=SSH)
def test_agents(kit: Kit, agent: str, options: str, path: str, state: str) -> None:
    sources = tuple(SshSource(id=name, socket=agent) for name in ("default", "other"))
    built = kit(f"RUN --mount=type=ssh,{options}required echo $SSH_AUTH_SOCK >/o; "
                f"stat -c %a:%u:%g $SSH_AUTH_SOCK >>/o; test -S $SSH_AUTH_SOCK\n"
                "RUN echo [$SSH_AUTH_SOCK] >/p", ssh=sources)  # fmt: skip
    assert built["o"] == f"{path}\n{state}"
    assert built["p"] == "[]"
    assert not {"run", "m"} & set(built.tree)


def test_an_agent_that_is_not_there(kit: Kit) -> None:
    assert kit("RUN --mount=type=ssh echo [$SSH_AUTH_SOCK] >/o")["o"] == "[]"


def test_mounts_of_the_command_line(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("host")
    os.chmod(tmp_path, 0o755)
    built = kit("RUN cat /v/a >/o\nRUN cat /v/a /t/f >/p",
                FILES, mounts=("type=bind,target=/t",),
                host=host_with(volumes=(f"{tmp_path}:/v:ro",)))  # fmt: skip
    assert (built["o"], built["p"]) == ("host", "hosttext")


def host_with(**more: Any) -> Any:
    """Settings of the host, without a network."""
    from imgtools.build.protocols import HostSettings

    return HostSettings(network="none", **more)
