"""Run as a program, in namespaces of its own: connects a network namespace, reports, and ends in
the way that a test asks for. Prints one JSON object per line.

Arguments: the network mode, the end ("close", "wait", "container"), a directory.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import sys
import time
from dataclasses import replace

from engine.network.attach import attach
from engine.network.plan import prepare_network
from engine.network.survey import survey_network
from engine.runtime.kernel.links import link_is_up, raise_link
from engine.runtime.kernel.processes import (
    CLONE_NEWNET,
    PR_SET_PDEATHSIG,
    prctl,
    setns,
    unshare,
)
from engine.runtime.seccomp.compiler import compile_profile
from engine.runtime.seccomp.load import load
from engine.runtime.spec.model import Seccomp, SeccompSyscall
from imgtools.errors import Error

PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
SIOCGIFCONF = 0x8912


def container(*, raised: bool) -> int:
    """A process with a network namespace of its own, the loopback of which it has `raised`."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        unshare(CLONE_NEWNET)
        if raised:
            raise_link()
        os.write(writing, b"1")
        signal.pause()
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return pid


def look(pid: int) -> dict[str, object]:
    """The interfaces that have addresses, and whether the loopback is up, in its namespace."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)
        with socket.socket() as probe:
            names = [name for _, name in socket.if_nameindex()]
            addresses = _addresses(probe)
        found = {"links": names, "addresses": addresses, "loopback": link_is_up()}
        os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        content = file.read()
    os.waitpid(child, 0)
    found_there: dict[str, object] = json.loads(content)
    return found_there


def _addresses(probe: socket.socket) -> list[str]:
    """SIOCGIFCONF (netdevice(7)): entries of a 16 byte name and a sockaddr."""
    import fcntl

    memory = array.array("B", bytes(40 * 32))
    address, length = memory.buffer_info()
    request = length.to_bytes(8, sys.byteorder) + address.to_bytes(8, sys.byteorder)
    answer = fcntl.ioctl(probe.fileno(), SIOCGIFCONF, request)
    used = int.from_bytes(answer[:4], sys.byteorder)
    entries = [memory[at : at + 40] for at in range(0, used, 40)]
    return [socket.inet_ntoa(entry[20:24].tobytes()) for entry in entries]


def helpers(directory: str) -> list[str]:
    """pasta and slirp4netns with `directory` in their command line, by name."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            program = os.path.basename(words[0]).decode("ascii", "replace")
            used = any(directory.encode() in word for word in words[1:])
            if used and program.startswith(("pasta", "slirp4netns")):
                found.append(program)
    return sorted(found)


def say(value: dict[str, object]) -> None:
    """One line for the test."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Connect, report, end."""
    mode, end, directory = sys.argv[1:4]
    signal.alarm(40)
    facts = survey_network(PATH)
    plan = prepare_network(mode, facts)
    if end == "broken":
        plan = replace(plan, helper=("/bin/false",))
    if end == "missing":
        plan = replace(plan, helper=("/nonexistent/helper",))
    if end == "silent":
        plan = replace(plan, helper=("/bin/sh", "-c", "exec sleep 30"))
    pid = container(raised=end == "raised")
    if end == "raised":
        denied = SeccompSyscall(names=("setns",), action="SCMP_ACT_ERRNO", errno_ret=1)
        profile = Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(denied,))
        load(compile_profile(profile, os.uname().machine))
    before = len(os.listdir("/proc/self/fd"))
    try:
        handle = attach(plan, pid, directory, seconds=1 if end == "silent" else 10)
    except Error as e:
        left = len(os.listdir("/proc/self/fd")) - before
        kept = os.listdir(directory) if os.path.isdir(directory) else []
        say({"error": e.message, "hint": e.hint, "left": kept, "files": left})
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return
    seen = {} if end == "raised" else look(pid)
    say({**seen, "helpers": len(helpers(directory)), "own": facts.host_address})
    if end == "wait":
        time.sleep(30)
    if end == "container":
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while len(helpers(directory)) > 0:
            time.sleep(0.01)
        handle.close()
    handle.close()
    handle.close()
    left = len(os.listdir("/proc/self/fd")) - before
    say({"left": os.listdir(directory), "files": left, "helpers": len(helpers(directory))})
    if end != "container":
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
