"""Valid config.json documents: one with every property, and Hypothesis strategies for those with
any of them."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from engine.runtime.spec import linux, process

Documents = SearchStrategy[dict[str, Any]]


def integers(bits: int, *, signed: bool = False) -> SearchStrategy[int]:
    """The whole range of an integer type."""
    if signed:
        return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
    return st.integers(0, (1 << bits) - 1)


def record(required: dict[str, Any] | None = None, **optional: Any) -> Documents:
    """An object that has `required`, and any of `optional`, possibly as null."""
    maybe = {name: st.none() | strategy for name, strategy in optional.items()}
    return st.fixed_dictionaries(required or {}, optional=maybe)


def some(strategy: SearchStrategy[Any], **options: Any) -> SearchStrategy[list[Any]]:
    """A short array."""
    return st.lists(strategy, max_size=3, **options)


u16, u32, u64 = integers(16), integers(32), integers(64)
i64 = integers(64, signed=True)
ids = st.integers(0, (1 << 32) - 2)
text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.just("\udc80"),
    max_size=6,
)
name = st.text(string.ascii_letters + string.digits, min_size=1, max_size=6)
path = text.map(lambda rest: f"/{rest}")
pairs = st.dictionaries(name, text, max_size=3)
flag = st.booleans()
env = some(st.builds("{}={}".format, name, text))

mapping = st.fixed_dictionaries(
    {"containerID": ids, "hostID": ids, "size": st.integers(1, 9)}
).filter(lambda m: max(m["containerID"], m["hostID"]) + m["size"] <= 1 << 32)
hook = record({"path": path}, args=some(text), env=env, timeout=st.integers(1, 99))
mount = record(
    {"destination": path},
    type=text,
    source=text,
    options=some(text),
    uidMappings=some(mapping),
    gidMappings=some(mapping),
)


def rlimit(kind: str) -> Documents:
    """One with a soft limit that is no higher than the hard one."""
    return st.tuples(u64, u64).map(lambda v: {"type": kind, "soft": min(v), "hard": max(v)})


rlimits = st.sets(st.sampled_from(sorted(process.RLIMITS)), max_size=3).flatmap(
    lambda kinds: st.tuples(*map(rlimit, sorted(kinds))).map(list)
)
sets = record(**dict.fromkeys(("bounding", "effective", "permitted", "ambient"), some(name)))
scheduler_flags = some(st.sampled_from(process.SCHEDULER_FLAGS))
schedulers = (
    record(
        {"policy": st.sampled_from(("SCHED_OTHER", "SCHED_BATCH"))},
        nice=st.integers(-20, 19),
        flags=scheduler_flags,
    )
    | record(
        {"policy": st.sampled_from(("SCHED_FIFO", "SCHED_RR")), "priority": st.integers(1, 99)},
        flags=scheduler_flags,
    )
    | record(
        {
            "policy": st.just("SCHED_DEADLINE"),
            "runtime": st.integers(1024, 1 << 30),
            "deadline": st.integers(1 << 30, 1 << 40),
        },
        period=st.integers(1 << 40, (1 << 63) - 1),
        flags=scheduler_flags,
    )
)
processes = record(
    {"args": st.lists(text, min_size=1, max_size=3), "cwd": path},
    env=env,
    user=record(uid=ids, gid=ids, umask=st.integers(0, 0o777), additionalGids=some(ids)),
    terminal=flag,
    consoleSize=st.fixed_dictionaries({"height": u16, "width": u16}),
    capabilities=sets,
    rlimits=rlimits,
    noNewPrivileges=flag,
    apparmorProfile=text,
    selinuxLabel=text,
    oomScoreAdj=st.integers(-1000, 1000),
    scheduler=schedulers,
    ioPriority=record(
        {"class": st.sampled_from(process.IOPRIO_CLASSES)}, priority=st.integers(0, 7)
    ),
    execCPUAffinity=record(initial=st.just("0-1,3"), final=st.just("2")),
)
rule = record(
    {"allow": flag},
    type=st.sampled_from(("", "a", "b", "c")),
    major=st.integers(-1, 4095),
    minor=st.integers(-1, 4095),
    access=st.sampled_from(("", "r", "rw", "rwm")),
)
throttle = some(record({"major": i64, "minor": i64}, rate=u64))
resources = record(
    devices=some(rule),
    memory=record(
        limit=i64,
        reservation=i64,
        swap=i64,
        kernel=i64,
        kernelTCP=i64,
        swappiness=u64,
        disableOOMKiller=flag,
        useHierarchy=flag,
        checkBeforeUpdate=flag,
    ),
    cpu=record(
        shares=u64,
        quota=i64,
        burst=u64,
        period=u64,
        realtimeRuntime=i64,
        realtimePeriod=u64,
        cpus=text,
        mems=text,
        idle=i64,
    ),
    pids=record(limit=i64),
    blockIO=record(
        weight=u16,
        leafWeight=u16,
        weightDevice=some(record({"major": i64, "minor": i64}, weight=u16, leafWeight=u16)),
        throttleReadBpsDevice=throttle,
        throttleWriteBpsDevice=throttle,
        throttleReadIOPSDevice=throttle,
        throttleWriteIOPSDevice=throttle,
    ),
    hugepageLimits=some(
        st.fixed_dictionaries({"pageSize": st.sampled_from(("2MB", "1GB")), "limit": u64})
    ),
    network=record(
        classID=u32, priorities=some(st.fixed_dictionaries({"name": name, "priority": u32}))
    ),
    unified=pairs,
)
argument = record(
    {"index": st.integers(0, 5), "value": u64, "op": st.just("SCMP_CMP_EQ")}, valueTwo=u64
)
seccomp = record(
    {"defaultAction": name},
    defaultErrnoRet=u32,
    architectures=some(name),
    flags=some(name),
    listenerPath=path,
    listenerMetadata=text,
    syscalls=some(
        record(
            {"names": st.lists(name, min_size=1, max_size=3), "action": name},
            errnoRet=u32,
            args=some(argument),
        )
    ),
)
device = record(
    {"type": st.sampled_from("cbup"), "path": path, "major": u32, "minor": u32},
    fileMode=st.integers(0, 0o7777),
    uid=ids,
    gid=ids,
)
offset = record(secs=i64, nanosecs=st.integers(0, 999_999_999))
# Every namespace but one each for what needs them, so that all properties are possible.
namespaces = st.permutations(linux.NAMESPACES).flatmap(
    lambda kinds: st.tuples(
        *(record({"type": st.just(k)}, **({} if k == "time" else {"path": path})) for k in kinds)
    ).map(list)
)
linuxes = record(
    {
        "namespaces": namespaces,
        "uidMappings": some(mapping, min_size=1),
        "gidMappings": some(mapping, min_size=1),
    },
    devices=some(device),
    netDevices=st.dictionaries(name, record(), max_size=2),
    cgroupsPath=text,
    resources=resources,
    sysctl=pairs,
    seccomp=seccomp,
    rootfsPropagation=st.sampled_from(linux.PROPAGATIONS),
    maskedPaths=some(path),
    readonlyPaths=some(path),
    mountLabel=text,
    personality=record({"domain": st.sampled_from(("LINUX", "LINUX32"))}),
    timeOffsets=record(monotonic=offset, boottime=offset),
    memoryPolicy=record(
        {"mode": st.sampled_from(linux.MEMORY_POLICY_MODES)},
        nodes=text,
        flags=some(st.sampled_from(linux.MEMORY_POLICY_FLAGS)),
    ),
)
stages = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
configs = record(
    {
        "ociVersion": st.sampled_from(("1.0.0", "1.2.0-rc.1", "1.3.0")),
        "root": record({"path": path}, readonly=flag),
        "linux": linuxes,
    },
    process=processes,
    hostname=name,
    domainname=name,
    mounts=some(mount),
    hooks=record(**dict.fromkeys(stages, some(hook))),
    annotations=pairs,
)

ALL_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
EVERYTHING: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs", "readonly": True},
    "process": {
        "args": ["a", "b"],
        "cwd": "/w",
        "env": ["A=1"],
        "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3]},
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "capabilities": {kind: ["CAP_KILL"] for kind in ALL_SETS},
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": (1 << 64) - 1}],
        "noNewPrivileges": True,
        "apparmorProfile": "p",
        "selinuxLabel": "l",
        "oomScoreAdj": 5,
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RECLAIM"],
            "runtime": 1024,
            "deadline": 1025,
            "period": 1026,
        },
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 3},
        "execCPUAffinity": {"initial": "0", "final": "1"},
    },
    "hostname": "h",
    "domainname": "d",
    "mounts": [
        {
            "destination": "/m",
            "type": "bind",
            "source": "/s",
            "options": ["rbind"],
            "uidMappings": [{"containerID": 0, "hostID": 5, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 6, "size": 1}],
        }
    ],
    "hooks": {
        stage: [{"path": f"/{stage}", "args": ["h"], "env": ["H=1"], "timeout": 9}]
        for stage in stages
    },
    "annotations": {"k": "v"},
    "linux": {
        "namespaces": [
            {"type": "user"},
            {"type": "uts"},
            {"type": "mount"},
            {"type": "time"},
            {"type": "network", "path": "/n"},
        ],
        "uidMappings": [{"containerID": 0, "hostID": 7, "size": 8}],
        "gidMappings": [{"containerID": 0, "hostID": 9, "size": 10}],
        "devices": [
            {
                "type": "c",
                "path": "/dev/x",
                "major": 1,
                "minor": 2,
                "fileMode": 438,
                "uid": 3,
                "gid": 4,
            }
        ],
        "netDevices": {"eth0": {"name": "eth1"}},
        "cgroupsPath": "/c",
        "resources": {
            "devices": [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}],
            "memory": {
                "limit": 1,
                "reservation": 2,
                "swap": 3,
                "kernel": 4,
                "kernelTCP": 5,
                "swappiness": 6,
                "disableOOMKiller": True,
                "useHierarchy": True,
                "checkBeforeUpdate": True,
            },
            "cpu": {
                "shares": 1,
                "quota": 2,
                "burst": 3,
                "period": 4,
                "realtimeRuntime": 5,
                "realtimePeriod": 6,
                "cpus": "0",
                "mems": "1",
                "idle": 1,
            },
            "pids": {"limit": 7},
            "blockIO": {
                "weight": 1,
                "leafWeight": 2,
                "weightDevice": [{"major": 1, "minor": 2, "weight": 3, "leafWeight": 4}],
                "throttleReadBpsDevice": [{"major": 1, "minor": 2, "rate": 3}],
                "throttleWriteBpsDevice": [{"major": 4, "minor": 5, "rate": 6}],
                "throttleReadIOPSDevice": [{"major": 7, "minor": 8, "rate": 9}],
                "throttleWriteIOPSDevice": [{"major": 10, "minor": 11, "rate": 12}],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 5}],
            "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 2}]},
            "unified": {"memory.high": "9"},
        },
        "sysctl": {"kernel.domainname": "d"},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/l",
            "listenerMetadata": "m",
            "syscalls": [
                {
                    "names": ["read"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 2,
                    "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_NE"}],
                }
            ],
        },
        "rootfsPropagation": "shared",
        "maskedPaths": ["/x"],
        "readonlyPaths": ["/y"],
        "mountLabel": "l",
        "personality": {"domain": "LINUX32"},
        "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}},
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
    },
}
