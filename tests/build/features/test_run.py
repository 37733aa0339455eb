"""RUN: what a command is given, sees and leaves behind; users, directories, networks."""

from __future__ import annotations

import re

import pytest

from imgtools.build.protocols import HostSettings
from tests.build.features.kit import BASE, Kit

F = f"FROM {BASE}\n"
# Instructions, and what is in /o then.
RAN = {
    "shell form": ("RUN echo a >/o", "a"),
    "shell is /bin/sh -c": ("RUN echo $0 >/o", "/bin/sh"),
    "exec form": ('RUN ["touch", "/o"]', ""),
    "exec form by PATH": ("ENV PATH=/own:/bin\nRUN mkdir /own; ln -s /bin/busybox /own/true; "
                          "printf '#!/bin/sh\\necho own >/o' >/own/x; chmod 755 /own/x\n"
                          'RUN ["x"]', "own"),
    "exec form relative to the directory": (
        "WORKDIR /w\nRUN printf '#!/bin/sh\\npwd >/o' >x; chmod 755 x\nRUN [\"./x\"]", "/w"
    ),
    "working directory": ("WORKDIR /w\nRUN pwd >/o", "/w"),
    "relative working directories": (
        "WORKDIR /a\nWORKDIR b\nWORKDIR c/../d\nRUN pwd >/o", "/a/b/d"
    ),
    "working directory by variables": (
        "ENV D=/path\nARG E=sub\nWORKDIR $D/$E\nRUN pwd >/o", "/path/sub"
    ),
    "working directory of a link": (
        "RUN mkdir /real; ln -s /real /link\nWORKDIR /link\nRUN pwd -P >/o", "/real"
    ),
    "working directory that goes away": (
        "WORKDIR /w/v\nRUN rm -r /w\nRUN pwd >/o", "/w/v"
    ),
    "user by name": ("USER joe\nRUN id >/tmp/o\nUSER 0\nRUN mv /tmp/o /o",
                     "uid=1000(joe) gid=1000(joe) groups=10(wheel),1000(joe)"),
    "user by number has the groups too": (
        "USER 1000\nRUN id -G >/tmp/o\nUSER 0\nRUN mv /tmp/o /o", "1000 10"
    ),
    "user and group": ("USER joe:audio\nRUN id -u >/tmp/o; id -G >>/tmp/o\nUSER 0\n"
                       "RUN mv /tmp/o /o", "1000\n29"),
    "user and group by number": ("USER 5:6\nRUN id -u >/tmp/o; id -G >>/tmp/o\nUSER 0\n"
                                 "RUN mv /tmp/o /o", "5\n6"),
    "user whom nobody knows": ("USER 4242\nRUN id -u >/tmp/o; id -g >>/tmp/o; echo $HOME >>/tmp/o\n"
                               "USER 0\nRUN mv /tmp/o /o", "4242\n0\n/"),
    "user by a variable": ("ARG U=joe G=10\nUSER $U:$G\nRUN id -u >/tmp/o; id -g >>/tmp/o\nUSER 0\n"
                           "RUN mv /tmp/o /o", "1000\n10"),
    "user that RUN has made": ("RUN echo 'ann:x:77:88::/home/ann:/bin/sh' >>/etc/passwd\nUSER ann\n"
                               "RUN id -u >/tmp/o; id -g >>/tmp/o\nUSER 0\nRUN mv /tmp/o /o",
                               "77\n88"),
    "number without a group is in root's": (
        "USER 1234\nRUN id >/tmp/o\nUSER 0\nRUN mv /tmp/o /o", "uid=1234 gid=0(root) groups=0(root)"
    ),
    "root is in its groups, whether or not it is named": (
        "RUN echo 'more:x:77:root' >>/etc/group\nRUN id -G >/o\nUSER root\nRUN id -G >>/o\n"
        "USER 0:0\nRUN id -G >>/o", "0 77\n0 77\n0"
    ),
    "name and number of a group": (
        "RUN echo 'more:x:77:joe' >>/etc/group\nUSER 1000:more\nRUN id >/tmp/o\nUSER joe:77\n"
        "RUN id >>/tmp/o\nUSER 0\nRUN sort -u /tmp/o >/o",
        "uid=1000(joe) gid=77(more) groups=77(more)",
    ),
    "HOSTNAME": ("RUN echo $HOSTNAME >/o", "build"),
    "ENTRYPOINT is not for RUN": ('ENTRYPOINT ["/none"]\nCMD ["/none"]\nRUN ["touch", "/o"]', ""),
    "home": ("RUN echo $HOME >/o\nUSER joe\nRUN echo $HOME >/tmp/p\nUSER root\nRUN cat /tmp/p >>/o",
             "/root\n/home/joe"),
    "home as ENV says": ("ENV HOME=/own\nRUN echo $HOME >/o", "/own"),
    "SHELL": ('SHELL ["/bin/sh", "-exc"]\nRUN echo $- >/o', "xce"),
    "SHELL twice": ('SHELL ["/bin/false"]\nSHELL ["/bin/sh", "-c"]\nRUN echo a >/o', "a"),
    "SHELL is not for the exec form": ('SHELL ["/bin/false"]\nRUN ["touch", "/o"]', ""),
    "SHELL with more words": ('SHELL ["env", "A=1", "/bin/sh", "-c"]\nRUN echo $A >/o', "1"),
    "nothing on standard input": ("RUN cat >/o; readlink /proc/self/fd/0 >>/o", "/dev/null"),
    "no terminal": ("RUN tty >/o || true", "not a tty"),
    "proc, sys and dev": ("RUN test -e /proc/self && test -d /sys/class && echo a >/dev/null && "
                          "head -c 3 /dev/zero | wc -c >/o && test -c /dev/urandom", "3"),
    "devices": ("RUN for d in null zero full random urandom tty; do test -c /dev/$d || echo $d; "
                "done >/o; test -d /dev/shm -a -d /dev/pts -a -e /dev/fd", ""),
    "shared memory can be written": ("RUN echo a >/dev/shm/a; cat /dev/shm/a >/o", "a"),
    "process substitution's files": ("RUN echo a | cat /dev/fd/0 >/o", "a"),
    "file mode creation mask": ("RUN umask >/o; touch /p; mkdir /q; stat -c %a /p /q >>/o",
                                "0022\n644\n755"),
    "first process or a child of it": ("RUN test $$ -lt 10 && echo a >/o", "a"),
    "name of the machine": ("RUN hostname >/o; grep -c $(hostname) /etc/hosts >>/o", "build\n1"),
    "localhost": ("RUN grep -c '^127.0.0.1.*localhost' /etc/hosts >/o", "1"),
    "hosts may be written, for the step": (
        "RUN echo 1.2.3.4 x >>/etc/hosts; grep -c x$ /etc/hosts\n"
        "RUN grep -c '^1.2.3.4' /etc/hosts >/o || true", "0"
    ),
    "set-user-id programs": (
        "RUN cp /bin/busybox /bin/su-id; ln -s su-id /bin/x; chmod 4755 /bin/su-id\nUSER joe\n"
        "RUN grep -c NoNewPrivs:.0 /proc/self/status >/tmp/o\nUSER 0\nRUN mv /tmp/o /o", "1"
    ),
    "nodes": ("RUN mknod /n c 1 3; mknod /b b 254 0; mkfifo /f; stat -c %F /n /b /f >/o",
              "character special file\nblock special file\nfifo"),
    "owners and modes": ("RUN touch /p; chown 12:34 /p; chmod 6755 /p; stat -c %a:%u:%g /p >/o",
                         "6755:12:34"),
    "replacing the shell": ("RUN cp /bin/busybox /x; ln -sf /x /bin/sh\nRUN echo a >/o", "a"),
    "--network=none has loopback only": ("RUN --network=none ls /sys/class/net >/o", "lo"),
    "--network=default": ("RUN --network=default echo a >/o", "a"),
    "--network by a variable is taken as written": ("RUN --network=none echo a >/o", "a"),
    "--security=sandbox": ("RUN --security=sandbox echo a >/o", "a"),
    "flags in any order": ("RUN --security=sandbox --mount=type=tmpfs,target=/t --network=none "
                           "ls /t >/o", ""),
    "a command with a flag of its own": ("RUN echo --network=none >/o", "--network=none"),
    "a failed command in front of ;": ("RUN false; echo a >/o", "a"),
    "long output": ("RUN yes | head -c 300000; echo a >/o", "a"),
    "a file with a whiteout's name elsewhere": ("RUN rm /etc/group; ls /etc >/o",
                                                "hostname\nhosts\npasswd\nresolv.conf"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "written"), RAN.values(), ids=RAN)
def test_run(kit: Kit, text: str, written: str) -> None:
    assert kit(text)["o"] == written


REFUSED = {
    "exit code": ("RUN exit 42", "exit code 42"),
    "signal": ("RUN sh -c 'kill -9 $$'; exit $?", "exit code 137"),
    "exec form fails": ('RUN ["false"]', "exit code 1"),
    "exec form of nothing": ('RUN ["/no/such"]', "/no/such"),
    "last command of a pipe": ("RUN true | false", "exit code 1"),
    "user whom the image has not": ("USER ann\nRUN true", "ann"),
    "group that the image has not": ("USER joe:nobodies\nRUN true", "nobodies"),
    "working directory that is a file": ("RUN touch /w\nWORKDIR /w\nRUN true", "/w"),
    "--network of an unknown kind": ("RUN --network=some true", "some"),
    "--security=insecure that nobody allows": ("RUN --security=insecure true", "insecure"),
    "--security of an unknown kind": ("RUN --security=some true", "some"),
    "exec form with words behind": ('RUN ["echo", "a"] this is none', "exit code"),
    "empty exec form": ("RUN []", r"\[\]|empty|RUN"),
    "an escape that is left out": ('RUN ["c:\\windows"]', "exit code"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_run_that_fails(kit: Kit, text: str, said: str) -> None:
    assert re.search(said, kit.fails(text))


def test_what_steps_write_is_heard(kit: Kit) -> None:
    built = kit("RUN echo out; echo err >&2")
    assert sorted(built.out.split()) == ["err", "out"]


def test_processes_that_are_left_are_ended(kit: Kit) -> None:
    built = kit("RUN (while true; do date >/beat; done) & sleep 0.05; echo a >/o\n"
                "RUN sleep 1000 >/dev/null 2>&1 &\n"
                "RUN ps | grep -c 'sleep 100[0]' >/p || true")  # fmt: skip
    assert (built["o"], built["p"]) == ("a", "0")


def test_nothing_is_left_of_what_every_step_gets(kit: Kit) -> None:
    built = kit("RUN echo a >/o")
    assert built.last == ["o"]
    bare = kit(f"FROM scratch\nCOPY --from={BASE} /bin/busybox /bin/sh\nRUN [\"/bin/sh\"]\n"
               "RUN echo a >/o")  # fmt: skip
    assert sorted(bare.tree) == ["bin", "bin/sh", "o"]
    mounted = kit("RUN mkdir -p /dev/own /proc /sys; echo a >/etc/hosts.own; touch /etc/x")
    assert "etc/resolv.conf" not in mounted.tree
    assert "etc/hosts" not in mounted.tree
    assert "dev/null" not in mounted.tree


def test_files_of_the_image_in_the_place_of_what_steps_get(kit: Kit) -> None:
    """They are covered during steps, and in the image afterwards."""
    files = {"resolv.conf": "own resolver", "hosts": "own hosts"}
    built = kit("COPY resolv.conf hosts /etc/\n"
                "RUN grep -c own /etc/resolv.conf /etc/hosts >/o; true", files)  # fmt: skip
    assert (built["etc/resolv.conf"], built["etc/hosts"]) == ("own resolver", "own hosts")
    assert built["o"] == "/etc/resolv.conf:0\n/etc/hosts:0"
    linked = kit("COPY d /etc/\nRUN cat /etc/resolv.conf >/o", {"d/resolv.conf": "->../run/r"})
    assert linked.tree["etc/resolv.conf"].text == "../run/r"
    assert "run/r" not in linked.tree


def test_changes_of_every_kind(kit: Kit) -> None:
    base = ("RUN mkdir -p /d/sub /e/deep /g; echo 1 >/d/a; echo 1 >/d/b; echo 1 >/d/sub/c; "
            "echo 1 >/e/deep/x; ln -s a /d/l; echo 1 >/g/h; ln /g/h /g/i\n")  # fmt: skip
    built = kit(base + "RUN rm /d/a; echo 2 >/d/b; rm -r /d/sub; mkdir /d/sub; echo 3 >/d/sub/n; "
                "mv /e/deep /e/moved; rm /d/l; mkdir /d/l; chmod 700 /g; chown 5:6 /g/h; "
                "rm -r /home; echo file >/home; "
                "touch \"/d/$(printf 'new\\nline')\" /d/.hidden")  # fmt: skip
    tree = built.tree
    assert not {"d/a", "d/sub/c", "e/deep", "e/deep/x", "home/joe"} & set(tree)
    assert (built["d/b"], built["d/sub/n"], built["e/moved/x"]) == ("2", "3", "1")
    assert (tree["d/l"].kind, tree["home"].kind, tree["g"].octal) == ("dir", "file", "700")
    assert tree["g/h"].owner == (5, 6)
    assert {"d/new\nline", "d/.hidden"} <= set(tree)


def test_only_what_was_changed_is_in_a_layer(kit: Kit) -> None:
    assert kit("RUN true").last == []
    assert kit("RUN cat /etc/passwd >/dev/null; ls -R / >/dev/null").last == []
    assert kit("RUN chmod 600 /etc/group").last == ["etc", "etc/group"]
    assert kit("RUN rm /etc/group").last == ["etc", "etc/.wh.group"]
    assert kit("RUN echo a >/tmp/.x").last == ["tmp", "tmp/.x"]


def test_working_directories(kit: Kit) -> None:
    built = kit("WORKDIR /a/b\nUSER joe\nWORKDIR /c/d\nUSER 7:8\nWORKDIR e\nWORKDIR /etc")
    tree = built.tree
    assert {tree[p].owner for p in ("a", "a/b")} == {(0, 0)}
    assert {tree[p].owner for p in ("c", "c/d")} == {(1000, 1000)}
    assert tree["c/d/e"].owner == (7, 8)
    assert {tree[p].octal for p in ("a", "a/b", "c", "c/d/e")} == {"755"}
    assert tree["etc"].owner == (0, 0)
    assert built.config["WorkingDir"] == "/etc"
    assert len(built.tars) == len(kit("RUN true").tars) - 1 + 3, "one for each that was missing"


def test_a_working_directory_that_is_there_stays(kit: Kit) -> None:
    built = kit("USER 7\nWORKDIR /home/joe\nWORKDIR /tmp")
    assert (built.tree["home/joe"].octal, built.tree["home/joe"].owner) == ("750", (1000, 1000))
    assert built.tree["tmp"].octal == "1777"


def test_variables_of_steps(kit: Kit) -> None:
    built = kit("ARG A='b c'\nENV D=\"e f\" G='$A'\nRUN env | sort >/o")
    env = dict(line.split("=", 1) for line in built.lines("o"))
    assert (env["A"], env["D"], env["G"], env["PATH"]) == ("b c", "e f", "$A", "/bin")
    assert env["HOME"] == "/root"
    assert not {"USER", "LANG", "SSH_AUTH_SOCK", "HTTP_PROXY"} & set(env)


def test_the_usual_path(kit: Kit) -> None:
    built = kit(f"FROM scratch\nCOPY --from={BASE} /bin/busybox /bin/sh\nRUN echo $PATH >/o")
    assert built["o"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_the_host_network(kit: Kit) -> None:
    built = kit("RUN --network=host readlink /proc/self/ns/net >/o\n"
                "RUN --network=none readlink /proc/self/ns/net >/p\n"
                "RUN readlink /proc/self/ns/net >/q",
                host=HostSettings(network="host"))  # fmt: skip
    from pathlib import Path

    own = str(Path("/proc/self/ns/net").readlink())
    assert (built["o"], built["q"]) == (own, own)
    assert built["p"] != own


def test_hosts_of_the_command_line(kit: Kit) -> None:
    built = kit("RUN grep -c '^10.1.2.3.*some.where' /etc/hosts >/o; cat /etc/resolv.conf >/p",
                host=HostSettings(network="none", add_hosts=("some.where:10.1.2.3",)))  # fmt: skip
    assert built["o"] == "1"


def test_security_insecure(kit: Kit) -> None:
    built = kit("RUN --security=insecure grep CapEff /proc/self/status >/o\n"
                "RUN --security=sandbox grep CapEff /proc/self/status >/p",
                allow_insecure=True)  # fmt: skip
    assert built["o"] > built["p"]


def test_volumes(kit: Kit) -> None:
    """What is done in a volume after it was declared is kept; nothing is made."""
    built = kit("RUN mkdir /v; echo 1 >/v/a\nVOLUME /v /not-there\nRUN echo 2 >/v/b\nCOPY f /v/c",
                {"f": "text"})  # fmt: skip
    assert [built[f"v/{name}"] for name in "abc"] == ["1", "2", "text"]
    assert "not-there" not in built.tree
    legacy = kit("RUN mkdir /v; echo 1 >/v/a\nVOLUME /v\nRUN echo 2 >/v/b; echo x >/v/a",
                 compat_volumes=True)  # fmt: skip
    assert (legacy["v/a"], "v/b" in legacy.tree) == ("1", False)


def test_steps_do_not_see_others_files(kit: Kit) -> None:
    built = kit(f"FROM {BASE} AS a\nRUN echo a >/a\nFROM {BASE} AS b\nRUN ls / >/o\n"
                "FROM b\nCOPY --from=a /a /x")  # fmt: skip
    assert "a" not in built.lines("o")


def test_capabilities_of_files_stay(kit: Kit) -> None:
    import os

    context = kit.context({"f": "text"})
    os.setxattr(context / "f", "security.capability",
                bytes.fromhex("0100000200040000000000000000000000000000"))  # fmt: skip
    built = kit("COPY f /f\nRUN mv /f /g", context=context)
    assert "SCHILY.xattr.security.capability" in built.tree["g"].xattrs
