"""Run as a program in an environment of ladder_rig.py: steps of a build with every kind of mount.

The argument is a JSON object: `root` and `runroot` of the store, the `image` (a tar), a `context`
directory, `mounts` whether there are to be any, `script` what to run. Prints what came of it as
JSON.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from typing import Any

from engine.builds.bases import BaseOptions
from engine.builds.host import BuildHost, build_engine
from engine.ids.model import IdOptions
from engine.ids.session import obtain_ids
from engine.probe.model import ProbeOptions
from engine.probe.survey import probe_host
from engine.storage.options import StoreLocation
from engine.storage.store import Store
from imgtools.build.protocols import CommitOptions, MountSource, RunSpec, StepMount
from imgtools.errors import Error
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_id
from imgtools.task import Task
from imgtools.transport.table import Transports

SCRIPT = """
cat /context/plain /writable/plain /stage/etc/group /run/secrets/s
echo more >>/writable/plain; ! test -e /context/hidden; ! touch /context/plain 2>/dev/null
echo cached >>/cache/file; echo lost >/memory/file; /bin/script
echo made >/made; chown 7:8 /made 2>/dev/null; chmod 4755 /made; rm -r /home; mkdir /home
stat -c '%u:%g %a' /run/secrets/s /cache
"""
PLAIN = (
    "id -u; echo made >/made; chown 7:8 /made 2>/dev/null; chmod 4755 /made; rm -r /home;"
    "mkdir /home"
)


def mounts(order: dict[str, Any], base: Digest) -> tuple[StepMount, ...]:
    """One of each kind."""
    context = MountSource(directory=order["context"], ignored=lambda path: path == "hidden")
    return (
        StepMount(kind="bind", target="/context", source=context, read_only=True),
        StepMount(kind="bind", target="/writable", source=context),
        StepMount(kind="bind", target="/stage", source=MountSource(chain_id=base)),
        StepMount(kind="cache", target="/cache", cache="one", mode=0o700, uid=0, gid=0),
        StepMount(kind="tmpfs", target="/memory", size=1 << 20),
        StepMount(kind="secret", target="/run/secrets/s", content=b"secret\n", mode=0o400),
        StepMount(kind="file", target="/bin/script", content=b"#!/bin/sh\necho script\n"),
    )


def described(tar: bytes) -> list[list[Any]]:
    """What a layer says of owners and modes."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return [[m.name, oct(m.mode), m.uid, m.gid, m.linkname] for m in archive]


def build(host: BuildHost, order: dict[str, Any]) -> dict[str, Any]:
    """Two steps; what they wrote, and the second one's layer."""
    task, store = Task(), host.store
    found = store.look_up(f"tarball:{order['image']}", None, "missing", task=task)
    store.obtain(found, task=task)
    base = chain_id(found.config.diff_ids)
    assert base is not None
    lines: list[str] = []
    given = mounts(order, base) if order["mounts"] else ()
    given = tuple(mount for mount in given if mount.kind not in order.get("without", ()))
    script = order.get("script") or (SCRIPT if given else PLAIN)
    spec = RunSpec(
        args=("sh", "-ec", script),
        env=("PATH=/bin",),
        mounts=given,
        network=order["network"],
        user=order.get("user", ""),
    )
    for _ in range(2):
        working = store.prepare(base, task=task)
        code = host.executor.run(
            working, spec, output=lambda _, line: lines.append(line.decode()), task=task
        )
        made = store.commit(working, CommitOptions(mtime=1), task=task)
    isolation = host.executor.isolation
    with store.open_layer(made.chain_id) as reader:
        tar = reader.read()
    return {
        "members": described(tar),
        "kind": isolation.kind,
        "reason": isolation.reason,
        "code": code,
        "output": "".join(lines),
        "layer": str(made.diff_id),
    }


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Build as a command line would."""
    report = probe_host(ProbeOptions(storage=order["root"]))
    give = (f"{order['root']}/imgtools", f"{order['runroot']}/imgtools")
    session = obtain_ids(IdOptions(mount_namespace=os.geteuid() != 0, give=give))
    location = StoreLocation(
        root=order["root"], runroot=order["runroot"], driver=order.get("driver", "")
    )
    warnings: list[str] = []
    with (
        Store.open(location) as store,
        Transports() as transports,
        build_engine(
            store,
            transports,
            report=report,
            session=session,
            options=BaseOptions(),
            path=("/usr/bin",),
            seccomp_cache=None,
            warn=warnings.append,
        ) as host,
    ):
        try:
            return {**build(host, order), "warnings": warnings}
        except Error as e:
            isolation = host.executor.isolation
            text = f"{type(e).__name__}: {e.message}; {e.hint}"
            return {"kind": isolation.kind, "runs": isolation.runs, "error": text}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
