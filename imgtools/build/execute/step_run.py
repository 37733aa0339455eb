"""RUN: what its mounts show, its key, and its command executed in a tree of its own.

Secrets are read when the command is about to run and are handed to the engine alone.
"""

from __future__ import annotations

import os
import re
from collections import deque
from contextlib import ExitStack

from imgtools.build.events import StepOutput
from imgtools.build.execute.crew import Crew, Keyed, Made, StepContext
from imgtools.build.execute.errors import CommandFailed
from imgtools.build.execute.mounts import add_agent, add_secret, agent_source, cache_mount
from imgtools.build.execute.ssh import agent_socket
from imgtools.build.masking import Mask, MaskedOutput, secret_values
from imgtools.build.planning.keys import run_key
from imgtools.build.planning.model import MountWork, RunWork, ScratchRef
from imgtools.build.protocols import (
    CommitOptions,
    MountSource,
    NewLayer,
    RunSpec,
    StepMount,
    Working,
)

TAIL = 20
"""Lines of output that an error shows again."""
NAMESPACE = "BUILDKIT_CACHE_MOUNT_NS"


def prepare_run(work: RunWork, context: StepContext) -> Keyed:
    """A RUN to be looked up or executed; waits for stages that it mounts."""
    crew = context.crew
    shown = tuple(_shown(mount, context) for mount in work.mounts)
    key = run_key(
        context.run.chain_id,
        work,
        shown,
        context.run.plan.standing.platform,
        crew.options.stamps,
        crew.options.host,
        _kept_out(work, crew),
    )
    return Keyed(keys=(key,), execute=lambda: _execute(work, shown, context))


def _shown(work: MountWork, context: StepContext) -> str:
    """What a mount shows, as far as it decides about the result; "" if it does not."""
    mount, sources = work.mount, context.crew.sources
    if mount.kind != "bind" and not (mount.kind == "cache" and mount.from_):
        return ""
    opened = sources.context(work.source, context.task)
    if opened is None:
        return f"{sources.chain(work.source, context.task)} {mount.source}"
    from imgtools.build.copying.digests import content_digest
    from imgtools.build.copying.model import CopyRequest, TreeFiles
    from imgtools.build.copying.survey import plan_copy

    files = TreeFiles(
        tree=opened.tree,
        # A mount has no patterns: every letter is meant.
        patterns=(re.sub(r"[*?\[\\]", r"\\\g<0>", mount.source) or "/",),
        ignored=opened.ignored,
        may_keep=opened.may_keep,
    )
    request = CopyRequest(sources=(files,), destination="/", base=None, link=True, keep_owner=True)
    plan = plan_copy(request, task=context.task)
    # A command sees whose the files are; what is the caller's is root's there.
    own_uid, own_gid = os.geteuid(), os.getegid()
    for member in (member for found in plan.found for member in found.members):
        member.uid = 0 if member.uid == own_uid else member.uid
        member.gid = 0 if member.gid == own_gid else member.gid
    return str(content_digest(plan, context.crew.hashes))


def _execute(work: RunWork, shown: tuple[str, ...], context: StepContext) -> Made:
    crew, task = context.crew, context.task
    executor = crew.executor()
    with ExitStack() as undo:
        mounts, env = _mounts(work, shown, context, undo)
        spec = RunSpec(
            args=work.args,
            env=tuple(f"{name}={value}" for name, value in (*work.env, *work.hidden, *env)),
            workdir=work.workdir,
            user=work.user,
            mounts=mounts,
            network=work.network,
            insecure=work.insecure,
            settings=crew.options.host,
            platform=context.run.plan.standing.platform,
        )
        tail: deque[bytes] = deque(maxlen=TAIL)

        def tell(stream: int, data: bytes) -> None:
            tail.append(data)
            crew.environment.report(StepOutput(step=context.id, stream=stream, data=data))

        output = MaskedOutput(Mask(secret_values(crew.options.secrets)), tell)
        store = crew.environment.store
        working = store.prepare(context.run.chain_id, task=task)
        try:
            code = executor.run(working, spec, output=output.write, task=task)
            output.finish()
            if code:
                instruction = context.step.instruction
                raise CommandFailed(context.step.text, code, instruction.location, tuple(tail))
            layer = _commit(work, working, crew, context)
        finally:
            store.discard(working)
    return Made(layer=layer)


def _commit(work: RunWork, working: Working, crew: Crew, context: StepContext) -> NewLayer:
    mtime, clamp = crew.file_times()
    kept_out = tuple(os.fsencode(path) for path in _kept_out(work, crew))
    options = CommitOptions(mtime=mtime, mtime_clamp=clamp, exclude=kept_out)
    return crew.environment.store.commit(working, options, task=context.task)


def _kept_out(work: RunWork, crew: Crew) -> tuple[str, ...]:
    """The volumes whose changes --compat-volumes forgets, relative to the root."""
    if not crew.options.compat_volumes:
        return ()
    return tuple(path.strip("/") for path in work.volumes if path.strip("/"))


def _mounts(
    work: RunWork, shown: tuple[str, ...], context: StepContext, undo: ExitStack
) -> tuple[tuple[StepMount, ...], tuple[tuple[str, str], ...]]:
    """The mounts of the engine, and variables that secrets and agents become."""
    found: list[StepMount] = []
    env: list[tuple[str, str]] = []
    for number, each in enumerate(work.mounts):
        mount = each.mount
        crew = context.crew
        if mount.kind == "secret":
            add_secret(mount, crew.options.secrets, found, env)
        elif mount.kind == "ssh":
            source = agent_source(mount, crew.options.ssh)
            if source is not None:
                socket = undo.enter_context(agent_socket(source, crew.scratch, task=context.task))
                add_agent(mount, number, socket, found, env)
        elif mount.kind == "tmpfs":
            found.append(
                StepMount(
                    kind="tmpfs",
                    target=mount.target,
                    size=mount.size,
                    read_only=bool(mount.read_only),
                )
            )
        elif mount.kind == "cache":
            # What it begins with is part of its name: see cache_mount.
            space = crew.options.build_args.get(NAMESPACE) or ""
            first = _source(each, context) if mount.from_ else None
            if isinstance(each.source, ScratchRef):
                first = None
            found.append(cache_mount(mount, space, first, shown[number]))
        else:
            found.append(_bind(each, context))
    if work.script is not None:
        found.append(
            StepMount(
                kind="file", target=work.script.target, content=work.script.content, mode=0o755
            )
        )
    return tuple(found), tuple(env)


def _bind(work: MountWork, context: StepContext) -> StepMount:
    return StepMount(
        kind="bind",
        target=work.mount.target,
        source=_source(work, context),
        read_only=work.mount.read_only is not False,
    )


def _source(work: MountWork, context: StepContext) -> MountSource:
    sources = context.crew.sources
    opened = sources.context(work.source, context.task)
    if opened is not None:
        return MountSource(
            directory=opened.directory, path=work.mount.source, ignored=opened.ignored
        )
    chain = sources.chain(work.source, context.task)
    sources.obtain(work.source, context.task)
    return MountSource(chain_id=chain, path=work.mount.source)
