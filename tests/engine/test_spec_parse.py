"""config.json is read completely, and what is wrong in it is named by its path."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.errors import Failure, InvalidConfig, Unsupported
from engine.runtime.process import rlimits
from engine.runtime.spec import process
from engine.runtime.spec.model import DeviceRule, IdMapping, Mount, Namespace
from engine.runtime.spec.parse import parse_config, parse_process, parse_resources
from engine.runtime.spec.version import is_newer

MINIMAL: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "process": {"args": ["true"], "cwd": "/"},
    "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
}


def changed(path: str, value: object) -> dict[str, Any]:
    """MINIMAL with `value` at the dotted `path`."""
    document = copy.deepcopy(MINIMAL)
    *above, last = path.split(".")
    inner = document
    for name in above:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return document


MAPPING = {"containerID": 0, "hostID": 1000, "size": 1}
BIG = 1 << 64

WRONG = [
    ("ociVersion", None, "ociVersion: expected a version"),
    ("ociVersion", "", "ociVersion: expected a version"),
    ("ociVersion", "2.0.0", "ociVersion: expected a version .* got '2.0.0'"),
    ("ociVersion", "0.9.0", "ociVersion"),
    ("ociVersion", "1.0", "ociVersion"),
    ("ociVersion", "1.01.0", "ociVersion"),
    ("ociVersion", "1.0.0-", "ociVersion"),
    ("ociVersion", "v1.0.0", "ociVersion"),
    ("ociVersion", 1, "ociVersion: expected a string, got 1"),
    ("root", None, "root: expected an object"),
    ("root", [], "root: expected an object, got an array"),
    ("root.path", "", "root.path: expected a string that is not empty"),
    ("root.path", "a\0b", "root.path: contains a NUL"),
    ("root.path", "\ud800", "root.path: contains half a surrogate"),
    ("root.readonly", 1, "root.readonly: expected true or false, got 1"),
    ("process.args", [], "process.args: expected at least one"),
    ("process.args", "true", "process.args: expected an array, got 'true'"),
    ("process.args", ["a", 5], r"process.args\[1\]: expected a string, got 5"),
    ("process.cwd", "", "process.cwd: expected a string that is not empty"),
    ("process.cwd", "tmp", "process.cwd: expected an absolute path, got 'tmp'"),
    ("process.env", ["A=1", "B"], r"process.env\[1\]: expected NAME=VALUE, got 'B'"),
    ("process.env", ["=1"], r"process.env\[0\]"),
    ("process.terminal", "yes", "process.terminal: expected true or false"),
    ("process.user", 0, "process.user: expected an object, got 0"),
    ("process.user.uid", -1, "process.user.uid: expected an id from 0 to 4294967294, got -1"),
    ("process.user.uid", (1 << 32) - 1, "process.user.uid"),
    ("process.user.uid", True, "process.user.uid: .* got true"),
    ("process.user.uid", 1.0, "process.user.uid: .* got 1.0"),
    ("process.user.gid", 1 << 32, "process.user.gid"),
    ("process.user.umask", 0o1000, "process.user.umask"),
    ("process.user.additionalGids", [0, -1], r"process.user.additionalGids\[1\]"),
    ("process.consoleSize", {"height": 1}, "process.consoleSize.width"),
    ("process.consoleSize", {"height": 1, "width": 65536}, "process.consoleSize.width"),
    ("process.capabilities", ["CAP_KILL"], "process.capabilities: expected an object"),
    ("process.capabilities.bounding", [1], r"process.capabilities.bounding\[0\]"),
    ("process.oomScoreAdj", 1001, "process.oomScoreAdj: expected an integer from -1000"),
    ("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 1}], r"rlimits\[0\].hard"),
    ("process.rlimits", [{"type": "NOFILE", "soft": 1, "hard": 1}], r"rlimits\[0\].type"),
    ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 1, "hard": BIG}], r"rlimits\[0\].hard"),
    ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": -1, "hard": 1}], r"rlimits\[0\].soft"),
    ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}], "hard limit 1, got 2"),
    (
        "process.rlimits",
        [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2,
        r"rlimits\[1\].type: RLIMIT_CPU is set twice",
    ),
    ("process.scheduler", {}, "process.scheduler.policy"),
    ("process.scheduler", {"policy": "SCHED_FAST"}, "process.scheduler.policy: .*SCHED_FAST"),
    ("process.scheduler", {"policy": "SCHED_RR", "flags": ["X"]}, r"scheduler.flags\[0\]"),
    ("process.scheduler", {"policy": "SCHED_RR", "nice": 1 << 31}, "scheduler.nice"),
    ("process.scheduler", {"policy": "SCHED_RR", "nice": 1}, "no nice value for SCHED_RR"),
    ("process.scheduler", {"policy": "SCHED_OTHER", "nice": 20}, "nice value from -20 to 19"),
    ("process.scheduler", {"policy": "SCHED_IDLE", "priority": 1}, "no priority for SCHED_IDLE"),
    ("process.scheduler", {"policy": "SCHED_FIFO"}, "priority from 1 to 99 for SCHED_FIFO"),
    ("process.scheduler", {"policy": "SCHED_RR", "priority": 100}, "priority from 1 to 99"),
    ("process.scheduler", {"policy": "SCHED_OTHER", "runtime": 1}, "are for SCHED_DEADLINE"),
    ("process.scheduler", {"policy": "SCHED_DEADLINE"}, "SCHED_DEADLINE needs 1024 <= runtime"),
    (
        "process.scheduler",
        {"policy": "SCHED_DEADLINE", "runtime": 9999, "deadline": 9998, "period": 9999},
        "runtime <= deadline <= period, got 9999, 9998, 9999",
    ),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_NONE"}, "process.ioPriority.class"),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "ioPriority.priority"),
    ("process.execCPUAffinity", {"initial": "0;1"}, "process.execCPUAffinity.initial"),
    ("hostname", "a", "hostname: needs a uts namespace"),
    ("hostname", "a" * 65, "hostname: expected a name of at most 64 bytes"),
    ("domainname", "a", "domainname: needs a uts namespace"),
    ("mounts", {}, "mounts: expected an array"),
    ("mounts", ["/proc"], r"mounts\[0\]: expected an object"),
    ("mounts", [{"type": "proc"}], r"mounts\[0\].destination"),
    ("mounts", [{"destination": "/a", "options": "ro"}], r"mounts\[0\].options: .* array"),
    ("mounts", [{"destination": "/a", "uidMappings": [{}]}], r"uidMappings\[0\].containerID"),
    ("hooks", [], "hooks: expected an object"),
    ("hooks.prestart", [{"path": "x"}], r"hooks.prestart\[0\].path: expected an absolute"),
    ("hooks.poststop", [{}], r"hooks.poststop\[0\].path"),
    ("hooks.createRuntime", [{"path": "/x", "timeout": 0}], "timeout: .* greater than 0, got 0"),
    ("hooks.createContainer", [{"path": "/x", "timeout": -1}], "createContainer.*timeout"),
    ("hooks.startContainer", [{"path": "/x", "env": [1]}], r"startContainer\[0\].env\[0\]"),
    ("annotations", {"a": 1}, "annotations.a: expected a string"),
    ("annotations", {"": "1"}, "annotations: a name is empty"),
    ("linux.namespaces", [{"type": "net"}], r"linux.namespaces\[0\].type: expected a namespace"),
    ("linux.namespaces", [{}], r"linux.namespaces\[0\].type"),
    ("linux.namespaces", [{"type": "pid"}] * 2, r"namespaces\[1\].type: the pid .* twice"),
    ("linux.namespaces", [{"type": "pid", "path": "x"}], r"namespaces\[0\].path: .* absolute"),
    ("linux.uidMappings", [MAPPING], "linux.uidMappings: needs a user namespace"),
    ("linux.uidMappings", [{**MAPPING, "size": 0}], r"uidMappings\[0\].size"),
    ("linux.gidMappings", [{**MAPPING, "size": (1 << 32) - 1}], "size that stays below"),
    ("linux.devices", [{"type": "x", "path": "/dev/x"}], r"linux.devices\[0\].type"),
    ("linux.devices", [{"type": "c", "path": "/dev/x"}], "major and minor are needed"),
    ("linux.devices", [{"type": "p", "path": "dev/x"}], r"devices\[0\].path: .* absolute"),
    ("linux.netDevices", {"eth0": []}, "linux.netDevices.eth0: expected an object"),
    ("linux.netDevices", {"a/b": {}}, "linux.netDevices.*names of network interfaces"),
    ("linux.netDevices", {"eth0": {"name": "x" * 16}}, "names of network interfaces"),
    ("linux.netDevices", {"eth0": {"name": "a"}, "eth1": {"name": "a"}}, "the same name"),
    ("linux.netDevices", {"eth0": {}}, "linux.netDevices: needs a network namespace"),
    ("linux.cgroupsPath", 5, "linux.cgroupsPath"),
    ("linux.resources", [], "linux.resources: expected an object"),
    ("linux.resources.devices", [{}], r"devices\[0\].allow: expected true or false"),
    ("linux.resources.devices", [{"allow": True, "type": "p"}], "a, b or c, got 'p'"),
    ("linux.resources.devices", [{"allow": True, "access": "rwx"}], "access: .* rwm"),
    ("linux.resources.devices", [{"allow": True, "major": -2}], "major: expected a device"),
    ("linux.resources.memory.limit", 1 << 63, "memory.limit: expected a signed 64-bit"),
    ("linux.resources.memory.swappiness", -1, "memory.swappiness"),
    ("linux.resources.memory.disableOOMKiller", 0, "disableOOMKiller: expected true or"),
    ("linux.resources.cpu.shares", -1, "cpu.shares: expected an unsigned 64-bit"),
    ("linux.resources.cpu.cpus", 1, "cpu.cpus: expected a string"),
    ("linux.resources.pids.limit", "max", "pids.limit"),
    ("linux.resources.blockIO.weight", 65536, "blockIO.weight: expected an unsigned 16"),
    ("linux.resources.blockIO.weightDevice", [{"major": 8}], r"weightDevice\[0\].minor"),
    (
        "linux.resources.hugepageLimits",
        [{"pageSize": "2M", "limit": 0}],
        r"hugepageLimits\[0\].pageSize: expected a size such as 2MB",
    ),
    ("linux.resources.hugepageLimits", [{"pageSize": "02MB", "limit": 0}], "pageSize"),
    ("linux.resources.hugepageLimits", [{"pageSize": "2MB"}], r"hugepageLimits\[0\].limit"),
    ("linux.resources.network.classID", -1, "network.classID"),
    ("linux.resources.network.priorities", [{"name": "lo"}], r"priorities\[0\].priority"),
    ("linux.resources.unified", {"../x": "1"}, "unified: expected names of cgroup files"),
    ("linux.resources.unified", {"..": "1"}, "unified: expected names of cgroup files"),
    ("linux.resources.unified", {"memory.high": 1}, "unified.memory.high: expected a string"),
    ("linux.sysctl", {"kernel.x": 1}, "linux.sysctl.kernel.x: expected a string, got 1"),
    ("linux.rootfsPropagation", "none", "linux.rootfsPropagation: expected private"),
    ("linux.maskedPaths", ["proc/kcore"], r"linux.maskedPaths\[0\]: expected an absolute"),
    ("linux.readonlyPaths", [None], r"linux.readonlyPaths\[0\]: .* got nothing"),
    ("linux.personality", {"domain": "BSD"}, "linux.personality.domain: expected LINUX"),
    ("linux.timeOffsets", {"realtime": {}}, "linux.timeOffsets: .* got 'realtime'"),
    ("linux.timeOffsets", {"boottime": {"nanosecs": 10**9}}, "boottime.nanosecs"),
    ("linux.timeOffsets", {"boottime": {"secs": 1}}, "timeOffsets: needs a time namespace"),
    ("linux.memoryPolicy", {"mode": "MPOL_X"}, "linux.memoryPolicy.mode"),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND", "flags": ["X"]}, r"memoryPolicy.flags\[0\]"),
    ("linux.seccomp", {}, "linux.seccomp.defaultAction"),
    ("linux.seccomp", {"defaultAction": "X", "defaultErrnoRet": -1}, "defaultErrnoRet"),
    ("linux.seccomp", {"defaultAction": "X", "syscalls": [{"names": []}]}, "at least one"),
    (
        "linux.seccomp",
        {"defaultAction": "X", "syscalls": [{"names": ["a"], "action": "Y", "args": [{}]}]},
        r"linux.seccomp.syscalls\[0\].args\[0\].index",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_wrong_value_is_named(path: str, value: object, message: str) -> None:
    """One property at a time."""
    with pytest.raises(InvalidConfig, match=message) as caught:
        parse_config(changed(path, value))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("document", [None, [], "x", 5, True])
def test_document_has_to_be_an_object(document: object) -> None:
    """And process.json too."""
    with pytest.raises(InvalidConfig, match="expected an object"):
        parse_config(document)
    with pytest.raises(InvalidConfig, match="process: expected an object"):
        parse_process(document)
    with pytest.raises(InvalidConfig, match="resources: expected an object"):
        parse_resources(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("linux.intelRdt", {"closID": "x"}),
        ("linux.resources.rdma", {"mlx5": {"hcaHandles": 3}}),
        ("linux.personality", {"domain": "LINUX", "flags": ["X"]}),
        ("vm", {"kernel": {"path": "/k"}}),
        ("solaris", {"milestone": "x"}),
        ("windows", {"layerFolders": ["x"]}),
        ("zos", {"namespaces": []}),
        ("freebsd", {"devices": []}),
    ],
)
def test_what_is_not_done_is_unsupported(path: str, value: object) -> None:
    """A clear error rather than a container that is not what was asked for; asking for nothing
    is no request."""
    with pytest.raises(Unsupported, match=path.rpartition(".")[2]):
        parse_config(changed(path, value))
    if path != "linux.personality":
        for nothing in (None, {}):
            parse_config(changed(path, nothing))


@pytest.mark.parametrize(
    ("version", "newer"),
    [
        ("1.0.0-rc1", False),
        ("1.0.0-rc5-dev", False),
        ("1.0.2-dev", False),
        ("1.1.0+dev", False),
        ("1.2.1", False),
        ("1.3.0", False),
        ("1.3.7", False),
        ("1.4.0", True),
        ("1.10.0-rc.1+x", True),
    ],
)
def test_every_version_1_is_read(version: str, newer: bool) -> None:
    """Newer minor versions with a note, for they may say what is ignored here."""
    assert parse_config(changed("ociVersion", version)).oci_version == version
    assert is_newer(version) is newer


def test_unknown_properties_are_ignored() -> None:
    """At every level."""
    document = changed("x", {"y": 1})
    document["process"]["z"] = [1]
    document["linux"]["resources"] = {"quantum": {"limit": 1}}
    assert parse_config(document).process == parse_config(MINIMAL).process


def test_null_is_absent() -> None:
    """As Go's encoder writes what is not set."""
    document = changed("mounts", None)
    document["hooks"] = document["annotations"] = document["hostname"] = None
    document["process"] |= {"env": None, "user": None, "rlimits": None, "oomScoreAdj": None}
    document["linux"] |= {"seccomp": None, "resources": None, "uidMappings": None}
    assert parse_config(document) == parse_config(MINIMAL)


def test_process_may_be_missing() -> None:
    """It is needed by `start` only."""
    document = changed("hostname", "")
    del document["process"]
    assert parse_config(document).process is None


def test_normal_forms() -> None:
    """What several writers say differently is the same in the Config."""
    config = parse_config(changed("mounts", [{"destination": "proc"}]))
    assert config.mounts == (Mount(destination="/proc"),)
    rules = [
        {"allow": False},
        {"allow": True, "type": "", "major": -1, "minor": 3, "access": "r"},
        {"allow": True, "type": "b", "major": None, "access": ""},
    ]
    resources = parse_resources({"devices": rules, "pids": {"limit": 0}, "unified": {"foo": "1"}})
    assert resources.devices == (
        DeviceRule(allow=False),
        DeviceRule(allow=True, minor=3, access="r"),
        DeviceRule(allow=True, type="b"),
    )
    assert resources.pids_limit == 0
    assert resources.unified == (("foo", "1"),)
    device = {"type": "c", "path": "/dev/x", "major": 1, "minor": 3, "fileMode": 0o020666}
    assert parse_config(changed("linux.devices", [device])).linux.devices[0].file_mode == 0o666


def test_bytes_that_are_no_text_survive() -> None:
    """JSON can say them as the half surrogates that os.fsdecode makes."""
    config = parse_config(changed("root.path", "caf\udce9"))
    assert config.root.path.encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_namespaces_and_maps() -> None:
    """Both id maps, with a user namespace."""
    document = changed("linux.namespaces", [{"type": "user", "path": "/proc/1/ns/user"}])
    document["linux"] |= {"uidMappings": [MAPPING], "gidMappings": [MAPPING]}
    linux = parse_config(document).linux
    assert linux.namespaces == (Namespace(type="user", path="/proc/1/ns/user"),)
    assert linux.uid_mappings == (IdMapping(container_id=0, host_id=1000, size=1),)
    del document["linux"]["gidMappings"]
    with pytest.raises(InvalidConfig, match="given together"):
        parse_config(document)
    joined = changed("linux.namespaces", [{"type": "time", "path": "/proc/1/ns/time"}])
    joined["linux"]["timeOffsets"] = {"boottime": {"secs": 1}}
    with pytest.raises(InvalidConfig, match="joined"):
        parse_config(joined)


def test_resource_limits_are_those_that_can_be_set() -> None:
    """Two modules name them, for neither may know the other."""
    assert frozenset(rlimits.NAMES) == process.RLIMITS


PEERS = [name for name in ("runc", "crun") if shutil.which(name)]


@pytest.mark.parametrize("rootless", [False, True])
def test_configs_of_other_runtimes_are_read(tmp_path: Path, rootless: bool) -> None:
    """What their `spec` writes."""
    for peer in PEERS:
        (tmp_path / "config.json").unlink(missing_ok=True)
        command = [peer, "spec", *(["--rootless"] if rootless else [])]
        subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
        config = parse_config(json.loads((tmp_path / "config.json").read_bytes()))
        assert config.process is not None
        assert config.process.args == ("sh",)
        assert ("user" in [n.type for n in config.linux.namespaces]) is rootless


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
PATHS = sorted({path for path, _, _ in WRONG})


@given(st.sampled_from(PATHS), ANYTHING)
def test_nothing_but_failures_is_raised(path: str, value: object) -> None:
    """Whatever stands wherever."""
    with contextlib.suppress(Failure):
        parse_config(changed(path, value))
