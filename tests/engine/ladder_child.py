"""Run as a program in an environment of ladder_rig.py: containers kept, and their changes.

Arguments: the action, and a JSON object with the store's place and options. Prints JSON.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
from dataclasses import replace
from typing import Any

from engine.containers.options import RunOptions
from engine.containers.ownership import diff_container, forget
from engine.containers.run import Engine, run_container
from engine.ids.model import IdOptions
from engine.ids.session import obtain_ids
from engine.network.survey import survey_network
from engine.probe.model import ProbeOptions
from engine.probe.survey import probe_host
from engine.runtime.zygote.client import Zygote
from engine.storage.options import DiffOptions, StoreLocation
from engine.storage.store import Store
from imgtools.task import Task


def _enter(order: dict[str, Any]) -> Any:
    give = (f"{order['root']}/imgtools", f"{order['runroot']}/imgtools")
    return obtain_ids(IdOptions(mount_namespace=os.geteuid() != 0, give=give))


def _store(order: dict[str, Any]) -> Store:
    return Store.open(
        StoreLocation(root=order["root"], runroot=order["runroot"], driver=order.get("driver", ""))
    )


def run(order: dict[str, Any]) -> Any:
    """Run `script` in a container of `image` that is kept as `keep`; `choice` has what the
    isolation is to be taken for beside what was found."""
    report = probe_host(ProbeOptions(storage=order["root"]))
    choice = replace(report.choice, **order.get("choice", {}))
    session = _enter(order)
    warnings: list[str] = []
    with Zygote.start(sys.executable) as zygote, _store(order) as store:
        engine = Engine(
            store=store,
            choice=choice,
            session=session,
            zygote=zygote,
            network=survey_network(()),
            runroot=order["runroot"],
            cache=None,
            warn=warnings.append,
        )
        options = RunOptions(
            command=("sh", "-c", order["script"]),
            network="host",
            interactive=False,
            user=order.get("user", ""),
        )
        image, _ = store.find(order["image"])
        code = run_container(engine, image, options, keep=order["keep"], task=Task())
    return {"code": code, "kind": report.choice.kind, "warnings": warnings}


def diff(order: dict[str, Any]) -> Any:
    """The layer of what was changed in `keep`: its digest, and its members."""
    _enter(order)
    with _store(order) as store:
        snapshot = store.snapshots.get(order["keep"])
        parts: list[bytes] = []
        result = diff_container(
            store.snapshots, snapshot, parts.append, DiffOptions(mtime=order.get("mtime", 1))
        )
        again = hashlib.sha256(b"".join(parts)).hexdigest()
        assert result.diff_id.hex == again
        forget(store, order["keep"])
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
        members = {m.name: _described(archive, m) for m in archive}
    return {"digest": str(result.diff_id), "members": members}


def _described(archive: tarfile.TarFile, member: tarfile.TarInfo) -> list[Any]:
    """Type, mode, owner, group, size, link, device, attributes, and the digest of a file."""
    content = archive.extractfile(member) if member.isreg() else None
    return [
        member.type.decode("latin-1"),
        oct(member.mode),
        member.uid,
        member.gid,
        member.size,
        member.linkname,
        [member.devmajor, member.devminor],
        sorted(key for key in member.pax_headers if key.startswith("SCHILY.xattr.")),
        hashlib.sha256(content.read()).hexdigest() if content else "",
    ]


ACTIONS = {"run": run, "diff": diff}

if __name__ == "__main__":
    print(json.dumps(ACTIONS[sys.argv[1]](json.loads(sys.argv[2]))))
