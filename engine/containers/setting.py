"""What a container is put into: its user, network, files and limits, read from its root, from
what was asked and from this host."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from engine.containers.assemble import VARIABLES, Setting
from engine.containers.devices import plan_devices
from engine.containers.engine import Engine
from engine.containers.options import ImageDefaults, RunOptions
from engine.containers.security import SecurityPlan, plan_security, side_channels
from engine.containers.single import told
from engine.emulation.caller import Caller
from engine.network.files import make_hostname, make_hosts, make_resolv_conf
from engine.network.model import NetworkPlan
from engine.network.plan import prepare_network
from engine.runtime.process.capabilities import survey_own
from engine.runtime.process.rlimits import NAMES
from engine.runtime.process.users import ResolvedUser, resolve_group, resolve_user
from engine.storage.drivers.mounts import open_root
from engine.storage.options import Snapshot
from imgtools.blob.files import storage_errors
from imgtools.errors import Unsupported

SHORT_ID = 12
KEEP_GROUPS = "keep-groups"
INFINITY = (1 << 64) - 1
CAP_SYS_RESOURCE = 1 << 24
CLOCK_REALTIME_COARSE = 5
ADMINISTRATION = frozenset(("CAP_NET_ADMIN", "CAP_SYS_ADMIN"))


def make_setting(
    engine: Engine,
    options: RunOptions,
    defaults: ImageDefaults,
    snapshot: Snapshot,
    container_id: str,
    directory: str,
    *,
    variables: Mapping[str, str] = VARIABLES,
) -> Setting:
    """Look everything up, and write the container's files into `directory`. Raises Failure for
    an unknown user or group, InvalidInput, Unsupported, StorageError."""
    usual = "host" if engine.choice.shares_network else None
    network = prepare_network(options.network or usual, engine.network)
    if network.warning:
        engine.warn(network.warning)
    hostname = _hostname(engine, options, network, container_id)
    wanted, groups = _user(engine, options, defaults, snapshot)
    single = not engine.session.many_ids
    user, own_user = _only_user(engine, wanted, groups) if single else (wanted, False)
    uname = os.uname()
    security = plan_security(
        options.security,
        user.uid,
        uname.machine,
        kernel_version(uname.release),
        side_channels(),
    )
    if engine.networks is not None and _shares(engine, network, security):
        network = engine.networks.joined(network)
    return Setting(
        container_id=container_id,
        hostname=hostname,
        network=network,
        user=user,
        groups=groups,
        security=security,
        devices=plan_devices(
            options.devices,
            own_nodes=engine.choice.kind == "root" and not engine.session.in_user_namespace,
            privileged=options.security.privileged,
        ),
        pid_namespace=engine.choice.pid_namespace,
        own_hostname=engine.choice.hostname,
        single=single,
        own_user=own_user,
        caller=_caller(user, groups, security, own_user=own_user),
        creator=(wanted.uid, wanted.gid),
        # By the clock that file systems go by.
        since_ns=time.clock_gettime_ns(CLOCK_REALTIME_COARSE),
        files=_write_files(
            engine, options, network, hostname, directory, _told(engine, snapshot) if single else {}
        ),
        hard=hard_limits(name for name, _, _ in options.limits.ulimits),
        variables=variables,
        may_raise=not engine.session.in_user_namespace
        and bool(survey_own().permitted & CAP_SYS_RESOURCE),
    )


def _shares(engine: Engine, network: NetworkPlan, security: SecurityPlan) -> bool:
    """Whether nothing of this container can be left in a network namespace for the next one."""
    rights = ADMINISTRATION & set(security.capabilities["bounding"])
    return bool(network.helper) and engine.choice.pid_namespace and not rights


def _user(
    engine: Engine, options: RunOptions, defaults: ImageDefaults, snapshot: Snapshot
) -> tuple[ResolvedUser, tuple[int, ...]]:
    """The user and the further groups, looked up in the container's root."""
    root_fd = _opened(engine, snapshot)
    try:
        user = resolve_user(root_fd, options.user or defaults.user)
        if KEEP_GROUPS in options.group_add:
            raise Unsupported("--group-add keep-groups: the caller's groups are not passed on")
        groups = tuple(resolve_group(root_fd, name) for name in options.group_add)
    finally:
        os.close(root_fd)
    return user, groups


def _caller(
    user: ResolvedUser, groups: tuple[int, ...], security: SecurityPlan, *, own_user: bool
) -> Caller:
    """Who the container's programs are to be taken for, where there is a single id."""
    return Caller(
        uid=user.uid,
        gid=user.gid,
        groups=frozenset((*user.additional_gids, *groups)),
        capabilities=frozenset(security.capabilities["effective"]) if own_user else None,
    )


def _only_user(
    engine: Engine, user: ResolvedUser, groups: tuple[int, ...]
) -> tuple[ResolvedUser, bool]:
    """The user where there is a single id, root if no other can be had, and whether a user
    namespace makes it another one. Warns of what is not as it was asked for."""
    if groups:
        engine.warn("--group-add: where there is a single id, groups give no rights")
    other = (user.uid, user.gid) != (0, 0)
    if not other or engine.choice.own_user:
        return user, other
    engine.warn(
        f"user {user.uid}:{user.gid} does not exist where there is a single id: root is used"
    )
    only = ResolvedUser(uid=0, gid=0, additional_gids=(), home=user.home, name=user.name)
    return only, False


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


def hard_limits(names: Iterable[str] = ()) -> dict[str, int]:
    """This process's hard limits by the runtime-spec's names, of those with defaults and of
    `names`; unlimited is 2^64-1."""
    found = {}
    for name in ("RLIMIT_NOFILE", "RLIMIT_NPROC", *names):
        _, hard = resource.getrlimit(NAMES.index(name))
        found[name] = INFINITY if hard == resource.RLIM_INFINITY else hard
    return found


def _opened(engine: Engine, snapshot: Snapshot) -> int:
    """A descriptor of the snapshot's root, for reading: what was written in it is mounted as one
    layer more, which takes a fraction of the time that a mount for writing does."""
    root = engine.store.snapshots.root_mount(replace(snapshot, volatile=False))
    if root.upper:
        root = replace(root, lower=(root.upper, *root.lower), upper="", work="")
    return open_root(root)


def _told(engine: Engine, snapshot: Snapshot) -> dict[str, str]:
    root_fd = _opened(engine, snapshot)
    try:
        return told(root_fd)
    finally:
        os.close(root_fd)


def _write_files(
    engine: Engine,
    options: RunOptions,
    network: NetworkPlan,
    hostname: str,
    directory: str,
    more: Mapping[str, str],
) -> dict[str, str]:
    """resolv.conf, hosts and hostname, and `more`, beside the container's root, never in it:
    bound over what is there, they are in no layer."""
    names = tuple(name for name in (hostname, options.name) if name)
    texts = {
        "/etc/hosts": make_hosts(network, engine.network, names=names, add_hosts=options.add_hosts),
        "/etc/hostname": f"{hostname}\n",
        "/run/.containerenv": "",
        **more,
    }
    if not options.dns.as_it_is:
        texts["/etc/resolv.conf"] = make_resolv_conf(network, engine.network, options.dns)
    if options.no_hosts:
        del texts["/etc/hosts"]
    if options.no_hostname:
        del texts["/etc/hostname"]
    found = {}
    for destination, text in texts.items():
        path = os.path.join(directory, os.path.basename(destination))
        with storage_errors(path):
            with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
            os.chmod(path, 0o644)
        found[destination] = path
    return found
