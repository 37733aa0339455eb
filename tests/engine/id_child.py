"""Run as a program: becomes a process of a rung of jail.py, does one thing, prints JSON.

Arguments: the rung, the action, and a JSON object of options for it. Everything is imported
before, since the interpreter may not be readable for the user it turns into.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from engine.ids.model import CAP_SETFCAP, IdOptions
from engine.ids.session import enter_user_namespace, obtain_ids
from engine.probe.model import ProbeOptions
from engine.probe.survey import probe_host
from engine.runtime.kernel.processes import capset
from imgtools.errors import Error, Unsupported
from tests.engine import jail
from tests.rig import REPOSITORY

SECONDS = 40


def run(rung: str, action: str, **options: Any) -> Any:
    """The answer of a child, or {"error": name, "message": text, "hint": text}."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.id_child", rung, action, json.dumps(options)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS + 10,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return json.loads(done.stdout)


def session(options: dict[str, Any]) -> Any:
    """Enter the namespace; who we are then."""
    groups = options.pop("groups", None)
    if groups is not None:
        os.setgroups(groups)
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    before = os.getppid()
    lenient = options.pop("lenient", False)
    found = (obtain_ids if lenient else enter_user_namespace)(IdOptions(**options))
    answer = dataclasses.asdict(found)
    answer["maps"] = {
        kind: [[m.container_id, m.host_id, m.size] for m in getattr(found.maps, kind)]
        for kind in ("uids", "gids")
    }
    answer["uid_map"] = _words("/proc/self/uid_map")
    answer["gid_map"] = _words("/proc/self/gid_map")
    answer["ids"] = [*os.getresuid(), *os.getresgid()]
    answer["groups"] = os.getgroups()
    answer["children"] = _children()
    answer["same_parent"] = before == os.getppid()
    answer["writable_self"] = os.access("/proc/self/oom_score_adj", os.W_OK)
    return answer


def _words(path: str) -> list[list[int]]:
    with open(path, encoding="ascii") as file:
        return [[int(word) for word in line.split()] for line in file]


def _children() -> str:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return file.read().strip()


def owners(options: dict[str, Any]) -> Any:
    """Enter, then give a file away in `directory`; how it looks inside."""
    enter_user_namespace(IdOptions(give=(options["directory"],), mount_namespace=True))
    path = os.path.join(options["directory"], "file")
    with open(path, "wb"):
        pass
    found = {}
    for owner in (0, 33, 70000):
        try:
            os.chown(path, owner, owner)
            found[owner] = os.stat(path).st_uid
        except OSError as e:
            found[owner] = -(e.errno or 0)
    return found


def threads(options: dict[str, Any]) -> Any:
    """Enter while a thread runs."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        return session(options)
    finally:
        stop.set()
        thread.join()


def limited(options: dict[str, Any]) -> Any:
    """Enter where an administrator allows no more user namespaces."""
    enter_user_namespace(IdOptions(mode="single"))
    with open("/proc/sys/user/max_user_namespaces", "w", encoding="ascii") as file:
        file.write("0")
    return _report(options)


def forbidden(options: dict[str, Any]) -> Any:
    """Enter a namespace of one's own where an administrator allows none."""
    enter_user_namespace(IdOptions(mode="single"))
    with open("/proc/sys/user/max_user_namespaces", "w", encoding="ascii") as file:
        file.write("0")
    capset(1 << CAP_SETFCAP, 1 << CAP_SETFCAP, 0)
    return session({"mode": "single"})


def nested(options: dict[str, Any]) -> Any:
    """Enter a namespace from the one that was entered, without CAP_SYS_ADMIN in it."""
    enter_user_namespace(IdOptions())
    keep = sum(1 << number for number in (0, 1, 3, 6, 7, 8, 31))
    capset(keep, keep, 0)
    return session(options)


def probe(options: dict[str, Any]) -> Any:
    """Probe the host."""
    return _report(options)


def _report(options: dict[str, Any]) -> Any:
    asked = options.pop("asked", None)
    files = len(os.listdir("/proc/self/fd"))
    report = probe_host(ProbeOptions(**options), asked)
    return {
        "choice": dataclasses.asdict(report.choice),
        "probes": {p.name: dataclasses.asdict(p) for p in report.probes},
        "cached": report.cached,
        "facts": report.facts,
        "children": _children(),
        "leaked_files": len(os.listdir("/proc/self/fd")) - files,
        "left": os.listdir(options["storage"]),
    }


ACTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    f.__name__: f for f in (session, owners, threads, limited, forbidden, nested, probe)
}


def prepare(options: dict[str, Any]) -> None:
    """What a test wants of the host, done as root: "unprivileged" is a directory for copies of
    the helpers, "broken" a program, "masked" hides parts of /proc, "root" is chrooted to."""
    directory = options.pop("unprivileged", "")
    if directory:
        for name in ("newuidmap", "newgidmap"):
            jail.unprivileged_copy(f"/usr/bin/{name}", directory)
    broken = options.pop("broken", "")
    if broken:
        jail.break_program(broken)
    if options.pop("masked", False):
        jail.hide_proc()
    root = options.pop("root", "")
    if root:
        jail.enter_chroot(root)


def main() -> None:
    """Become what argv says, act, print."""
    rung, action, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    jail.enter(rung, functools.partial(prepare, options))
    try:
        answer = ACTIONS[action](options)
    except Error as e:
        answer = {
            "error": "Unsupported" if isinstance(e, Unsupported) else type(e).__name__,
            "message": e.message,
            "hint": e.hint,
        }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
