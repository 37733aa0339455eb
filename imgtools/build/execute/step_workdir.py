"""WORKDIR: a layer with the directories that are not there yet; none if all are."""

from __future__ import annotations

import hashlib
import io
import os

from imgtools.blob.tar import Entry, EntryType
from imgtools.blob.tar.writer import TarWriter
from imgtools.build.execute.crew import Keyed, Made, StepContext
from imgtools.build.execute.users import owner_of_user
from imgtools.build.planning.keys import workdir_key
from imgtools.build.planning.model import WorkdirWork
from imgtools.build.tree import Tree
from imgtools.build.trees import resolve, stat_of
from imgtools.errors import Conflict
from imgtools.spec.digest import Digest

MODE = 0o755
NANOSECONDS = 1_000_000_000


def prepare_workdir(work: WorkdirWork, context: StepContext) -> Keyed:
    """A WORKDIR to be looked up or executed."""
    key = workdir_key(context.run.chain_id, work, context.crew.options.stamps)
    return Keyed(keys=(key,), execute=lambda: _execute(work, context))


def _execute(work: WorkdirWork, context: StepContext) -> Made:
    crew, task = context.crew, context.task
    store, chain = crew.environment.store, context.run.chain_id
    mtime, clamp = crew.file_times()
    seconds = crew.created() if mtime is None else mtime
    if clamp is not None:
        seconds = min(seconds, clamp)
    with store.tree(chain) as tree:
        missing = missing_directories(tree, os.fsencode(work.path))
        if not missing:
            return Made(layer=None)
        uid, gid = owner_of_user(tree, work.user) if work.user else (0, 0)
    content = io.BytesIO()
    writer = TarWriter(content.write)
    for path in missing:
        writer.add(
            Entry(
                path=os.fsdecode(path) + "/",
                type=EntryType.DIR,
                mode=MODE,
                uid=uid,
                gid=gid,
                mtime_ns=seconds * NANOSECONDS,
            ),
            None,
        )
    writer.finish()
    data = content.getvalue()
    diff_id = Digest("sha256", hashlib.sha256(data).hexdigest())
    layer = store.apply(chain, diff_id, io.BytesIO(data), len(data), task=task)
    return Made(layer=layer)


def missing_directories(tree: Tree, path: bytes) -> tuple[bytes, ...]:
    """The directories to be made for `path` to be one, upper ones first, where links of the
    tree lead. Raises Conflict if a file is in the way."""
    parts = resolve(tree, path, last=True).split(b"/")
    missing: list[bytes] = []
    for count in range(1, len(parts) + 1):
        here = b"/".join(parts[:count])
        node = stat_of(tree, here) if here and not missing else None
        if node is None and here:
            missing.append(here)
        elif node is not None and not node.is_dir:
            raise Conflict(f"/{os.fsdecode(here)} is no directory")
    return tuple(missing)
