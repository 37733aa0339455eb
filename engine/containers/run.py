"""One container of an image from begin to end: snapshot, files, config.json, launch, clean-up.

Everything is registered before it is made and undone in the reverse order; after kill -9 the
container has ended by itself, and the store's next prune finds what is left on disk.
"""

from __future__ import annotations

import logging
import os
import resource
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from engine.containers.assemble import Setting, assemble
from engine.containers.attend import Signals, TerminalRelay, attend
from engine.containers.limits import is_default
from engine.containers.options import ImageDefaults, RunOptions
from engine.containers.ownership import recording
from engine.containers.security import SecurityPlan, plan_security
from engine.containers.streams import Streams
from engine.emulation.filters import fake_filter, record_filter
from engine.ids.model import IdSession
from engine.network.attach import NetworkHandle, attach
from engine.network.files import make_hostname, make_hosts, make_resolv_conf
from engine.network.model import NetworkFacts, NetworkPlan
from engine.network.plan import prepare_network
from engine.probe.model import Choice
from engine.runtime.container.extras import Extras
from engine.runtime.errors import CommandNotExecutable, CommandNotFound, Failure
from engine.runtime.process.users import ResolvedUser, resolve_user
from engine.runtime.rootfs.model import RootOverlay
from engine.runtime.seccomp.cache import cached
from engine.runtime.seccomp.filter import Filter
from engine.runtime.spec.model import Seccomp
from engine.runtime.zygote.client import Zygote
from engine.runtime.zygote.request import LaunchRequest
from engine.storage.images import StoredImage
from engine.storage.options import RootMount, Snapshot
from engine.storage.store import Store
from imgtools.errors import Error, StorageError, Unsupported
from imgtools.task import Task

log = logging.getLogger(__name__)

NOT_FOUND, NOT_EXECUTABLE, OUR_FAULT = 127, 126, 125
SHORT_ID = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What running containers takes: the store, how containers are isolated here, whose ids
    there are, the launcher, and where things of containers that run are kept.

    `cache` holds compiled seccomp profiles, None for none.
    """

    store: Store
    choice: Choice
    session: IdSession
    zygote: Zygote
    network: NetworkFacts
    runroot: str
    cache: str | None
    warn: Callable[[str], object]


class RunFailed(Error):
    """The container could not be run; `code` is the exit code of podman for that: 127 for a
    command that is not there, 126 for one that cannot be executed, 125 for all else."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, hint=failure.hint or None)
        self.code = OUR_FAULT
        if isinstance(failure, CommandNotFound):
            self.code = NOT_FOUND
        elif isinstance(failure, CommandNotExecutable):
            self.code = NOT_EXECUTABLE


def run_container(
    engine: Engine,
    image: StoredImage,
    options: RunOptions,
    *,
    relay: TerminalRelay | None = None,
    console_fd: int = -1,
    keep: str = "",
    task: Task,
) -> int:
    """Run a container of `image` in the foreground and remove it; its exit code.

    `keep` is an id under which its snapshot stays, for `diff_container` and until `forget`.
    With `options.terminal` `relay` joins the terminals and `console_fd` is the socket that the
    container's is sent to. Raises RunFailed, InvalidInput, Unsupported, StorageError.
    """
    container_id = keep or secrets.token_hex(32)
    with ExitStack() as undo:
        try:
            defaults = ImageDefaults.from_config(engine.store.config(image))
            use = engine.store.use(
                image, container_id, name=options.name, persistent=bool(keep), task=task
            )
            undo.callback(use.detach if keep else use.end)
            snapshot = engine.store.snapshots.prepare(
                image.chain_id, container_id, volatile=not keep
            )
            if not keep:
                undo.callback(engine.store.snapshots.remove, container_id)
            files = undo.enter_context(_directory(engine.runroot, container_id))
            setting = _setting(engine, options, defaults, snapshot, container_id, files)
            document = assemble(defaults, options, setting)
            return _launch(
                engine, options, setting, document, snapshot, files, relay, console_fd, undo
            )
        except Failure as e:
            raise RunFailed(e) from e


@contextmanager
def _directory(runroot: str, container_id: str) -> Iterator[str]:
    """The directory for a container's own files, gone afterwards."""
    path = os.path.join(runroot, "imgtools", "containers", container_id)
    try:
        os.makedirs(os.path.join(path, "network"), 0o700)
        yield path
    except OSError as e:
        raise StorageError(f"{e.filename or path}: {(e.strerror or '').lower()}", path=path) from e
    finally:
        for directory in (os.path.join(path, "network"), path):
            if not os.path.isdir(directory):
                continue
            with os.scandir(directory) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.path)
            os.rmdir(directory)


def _setting(
    engine: Engine,
    options: RunOptions,
    defaults: ImageDefaults,
    snapshot: Snapshot,
    container_id: str,
    files: str,
) -> Setting:
    network = prepare_network(options.network or None, engine.network)
    hostname = _hostname(engine, options, network, container_id)
    root_fd = engine.store.snapshots.opened(snapshot)
    try:
        user = resolve_user(root_fd, options.user or defaults.user)
    finally:
        os.close(root_fd)
    single = not engine.session.many_ids
    if single and (user.uid or user.gid):
        engine.warn(
            f"user {user.uid}:{user.gid} does not exist where there is a single id: root is used"
        )
        user = ResolvedUser(uid=0, gid=0, additional_gids=(), home=user.home, name=user.name)
    uname = os.uname()
    return Setting(
        container_id=container_id,
        hostname=hostname,
        network=network,
        user=user,
        security=plan_security(
            options.security, user.uid, uname.machine, kernel_version(uname.release)
        ),
        pid_namespace=engine.choice.pid_namespace,
        own_hostname=engine.choice.hostname,
        single=single,
        files=_write_files(engine, options, network, hostname, files),
        hard=hard_limits(),
    )


def _hostname(engine: Engine, options: RunOptions, network: NetworkPlan, container_id: str) -> str:
    """The container's host name; the host's where there is no other to be had."""
    if engine.choice.hostname:
        return make_hostname(
            options.hostname or None, network, engine.network, container_id[:SHORT_ID]
        )
    if options.hostname:
        raise Unsupported(
            "a host name of its own cannot be given to a container here",
            hint="imgtools info says why, at uts-namespace",
        )
    return engine.network.host_name or container_id[:SHORT_ID]


def kernel_version(release: str) -> tuple[int, int]:
    """(major, minor) of uname's release."""
    major, _, rest = release.partition(".")
    minor = ""
    for letter in rest:
        if not letter.isdigit():
            break
        minor += letter
    return int(major) if major.isdigit() else 0, int(minor or 0)


def hard_limits() -> dict[str, int]:
    """This process's hard limits by the runtime-spec's names; unlimited is 2^64-1."""
    found = {}
    for name in ("NOFILE", "NPROC"):
        _, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        found[f"RLIMIT_{name}"] = (1 << 64) - 1 if hard == resource.RLIM_INFINITY else hard
    return found


def _write_files(
    engine: Engine, options: RunOptions, network: NetworkPlan, hostname: str, directory: str
) -> dict[str, str]:
    """resolv.conf, hosts and hostname beside the container's root, never in it: bound over
    what is there, they are in no layer."""
    names = tuple(name for name in (hostname, options.name) if name)
    texts = {
        "/etc/resolv.conf": make_resolv_conf(network, engine.network, options.dns),
        "/etc/hosts": make_hosts(network, engine.network, names=names, add_hosts=options.add_hosts),
        "/etc/hostname": f"{hostname}\n",
        "/run/.containerenv": "",
    }
    found = {}
    for destination, text in texts.items():
        path = os.path.join(directory, os.path.basename(destination))
        with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(path, 0o644)
        found[destination] = path
    return found


def _launch(
    engine: Engine,
    options: RunOptions,
    setting: Setting,
    document: dict[str, Any],
    snapshot: Snapshot,
    files: str,
    relay: TerminalRelay | None,
    console_fd: int,
    undo: ExitStack,
) -> int:
    root = engine.store.snapshots.root_mount(snapshot)
    if root.path:
        document["root"]["path"] = root.path
    request = LaunchRequest(
        id=setting.container_id,
        state_root=os.path.join(engine.runroot, "imgtools", "runtime"),
        bundle=files,
        rootless=engine.session.in_user_namespace or os.geteuid() != 0,
        no_pivot=engine.choice.root_change == "move",
        linked=setting.network.private,
        extras=Extras(
            overlay=None if root.path else overlay(root),
            profile=compiled_profile(setting.security, engine.cache),
            filters=_emulation(engine, setting),
            forgiving=is_default(options.limits),
            die_with_creator=True,
        ),
    )
    signals = Signals()
    streams = None
    if options.terminal:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        undo.callback(os.close, null)
        stdio = (null, null, null)
    else:
        streams = undo.enter_context(Streams(interactive=options.interactive))
        stdio = streams.theirs
    handles: list[NetworkHandle] = []

    def link(pid: int) -> None:
        handles.append(attach(setting.network, pid, os.path.join(files, "network")))
        undo.callback(handles[-1].close)

    with signals.caught():
        running = undo.enter_context(
            engine.zygote.launch(
                request,
                document,
                stdio,
                console_fd=console_fd if options.terminal else -1,
                warn=engine.warn,
                link=link,
            )
        )
        if streams is not None:
            streams.release()
        if request.extras.filters:
            undo.enter_context(recording(engine.store.snapshots, snapshot, running))
        return attend(running, streams, relay, signals)


def overlay(root: RootMount) -> RootOverlay:
    """The same root in the runtime's words."""
    return RootOverlay(
        lower=tuple(os.fsencode(path) for path in root.lower),
        upper=os.fsencode(root.upper),
        work=os.fsencode(root.work),
        userxattr=root.userxattr,
        volatile=root.volatile,
    )


def compiled_profile(security: SecurityPlan, cache: str | None) -> Filter | None:
    """The filter of a container's seccomp profile; kept in `cache`, because compiling takes as
    long as launching."""
    profile: Seccomp | None = security.seccomp
    if profile is None:
        return None
    machine = os.uname().machine
    if cache is None:
        from engine.runtime.seccomp.compiler import compile_profile

        return compile_profile(profile, machine)
    return cached(cache, profile, machine)


def _emulation(engine: Engine, setting: Setting) -> tuple[Filter, ...]:
    """What answers for the ids that do not exist here."""
    machine = os.uname().machine
    match engine.choice.emulation if setting.single else "":
        case "notify":
            return (record_filter(machine),)
        case "errno":
            return (fake_filter(machine),)
    return ()
