"""What each limit of config.json becomes in the files of either version."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies

from engine.runtime.cgroups import limits_v2
from engine.runtime.cgroups.plan import plan_cgroups
from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.spec.model import (
    BlockIo,
    CpuLimits,
    HugepageLimit,
    MemoryLimits,
    NetworkLimits,
    NetworkPriority,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from tests.engine.cgroup_layouts import V2_CONTROLLERS, hybrid_host, v1_host, v2_host, writes

GIB = 1 << 30


EVERYTHING = Resources(
    memory=MemoryLimits(
        limit=2 * GIB,
        reservation=GIB,
        swap=3 * GIB,
        kernel=1,
        swappiness=10,
        disable_oom_killer=True,
        use_hierarchy=True,
    ),
    cpu=CpuLimits(
        shares=1024,
        quota=50000,
        burst=0,
        period=100000,
        realtime_runtime=900,
        realtime_period=1000,
        cpus="0-1,3",
        mems="0",
        idle=0,
    ),
    pids_limit=10,
    block_io=BlockIo(
        weight=500,
        leaf_weight=300,
        weight_device=(WeightDevice(major=8, minor=0, weight=200, leaf_weight=100),),
        throttle_read_bps_device=(ThrottleDevice(major=8, minor=0, rate=1000),),
        throttle_write_iops_device=(ThrottleDevice(major=8, minor=16, rate=0),),
    ),
    hugepage_limits=(HugepageLimit(page_size="2MB", limit=4 << 20),),
    network=NetworkLimits(class_id=0x100001, priorities=(NetworkPriority(name="lo", priority=5),)),
)


def test_every_limit_under_version_1() -> None:
    """Each goes verbatim to the file of its controller's hierarchy."""
    plan = plan_cgroups(v1_host(), "", EVERYTHING, "box")
    by_controller = {
        d.controllers: [f"{w.file}={w.value}" for w in d.writes] for d in plan.directories
    }
    assert by_controller == {
        ("name=systemd",): [],
        ("cpu", "cpuacct"): [
            "cpu.shares=1024",
            "cpu.idle=0",
            "cpu.rt_period_us=1000",
            "cpu.rt_runtime_us=900",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=50000",
            "cpu.cfs_burst_us=0",
        ],
        ("cpuset",): ["cpuset.cpus=0-1,3", "cpuset.mems=0"],
        ("memory",): [
            "memory.use_hierarchy=1",
            f"memory.limit_in_bytes={2 * GIB}",
            f"memory.memsw.limit_in_bytes={3 * GIB}",
            f"memory.soft_limit_in_bytes={GIB}",
            "memory.oom_control=1",
            "memory.swappiness=10",
        ],
        ("devices",): [],
        ("freezer",): [],
        ("blkio",): [
            "blkio.weight=500",
            "blkio.leaf_weight=300",
            "blkio.weight_device=8:0 200",
            "blkio.leaf_weight_device=8:0 100",
            "blkio.throttle.read_bps_device=8:0 1000",
            "blkio.throttle.write_iops_device=8:16 0",
        ],
        ("pids",): ["pids.max=10"],
        ("net_cls", "net_prio"): ["net_cls.classid=1048577", "net_prio.ifpriomap=lo 5"],
        ("hugetlb",): [
            "hugetlb.2MB.limit_in_bytes=4194304",
            "hugetlb.2MB.rsvd.limit_in_bytes=4194304",
        ],
    }
    assert any("kernel" in note for note in plan.notes)
    assert [d.copy_cpuset for d in plan.directories] == [
        d.controllers == ("cpuset",) for d in plan.directories
    ]


def test_every_limit_that_cgroup2_has() -> None:
    """Converted where the units differ; controllers are handed down from the mount."""
    resources = EVERYTHING.with_values(
        memory=MemoryLimits(limit=2 * GIB, reservation=GIB, swap=3 * GIB),
        cpu=CpuLimits(shares=1024, quota=50000, burst=7, cpus="0", mems="0", idle=1),
        block_io=BlockIo(
            weight=500,
            weight_device=(WeightDevice(major=8, minor=0, weight=1000),),
            throttle_read_bps_device=(ThrottleDevice(major=8, minor=0, rate=1000),),
            throttle_write_iops_device=(ThrottleDevice(major=8, minor=16, rate=0),),
        ),
        network=None,
        unified=(("memory.high", "max"), ("cgroup.max.depth", "3"), ("io.max", "1:2 a\n3:4 b")),
    )
    plan = plan_cgroups(v2_host(), "", resources, "box")
    assert writes(plan) == [
        f"memory.swap.max={GIB}",
        f"memory.max={2 * GIB}",
        f"memory.low={GIB}",
        "memory.high=max",
        "cpu.weight=100",
        "cpu.idle=1",
        "cpu.max=50000 100000",
        "cpu.max.burst=7",
        "cpuset.cpus=0",
        "cpuset.mems=0",
        "pids.max=10",
        "io.bfq.weight=500",
        "io.bfq.weight=8:0 1000",
        "io.max=8:0 rbps=1000",
        "io.max=8:16 wiops=max",
        "io.max=1:2 a\n3:4 b",
        "hugetlb.2MB.max=4194304",
        "[hugetlb.2MB.rsvd.max=4194304]",
        "cgroup.max.depth=3",
    ]
    (directory,) = plan.directories
    other = [w.instead.value for w in directory.writes if w.instead is not None]
    assert other == ["default 4950", "8:0 10000"]
    assert directory.enable == V2_CONTROLLERS
    assert [w.lines for w in directory.writes if w.field.startswith("unified")] == [True] * 3


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (MemoryLimits(limit=100, swap=300), "200"),
        (MemoryLimits(limit=100, swap=100), "0"),
        (MemoryLimits(limit=100, swap=-1), "max"),
        (MemoryLimits(limit=-1, swap=300), "300"),
        (MemoryLimits(limit=-1), "max"),
        (MemoryLimits(limit=-1, swap=-1), "max"),
        (MemoryLimits(swap=-1), "max"),
        (MemoryLimits(limit=100), None),
        (MemoryLimits(limit=100, swap=0), None),
        (MemoryLimits(), None),
    ],
)
def test_swap_of_cgroup2(memory: MemoryLimits, expected: str | None) -> None:
    """config.json counts memory and swap together, cgroup2 swap alone."""
    found = dict(
        w.split("=")
        for w in writes(plan_cgroups(v2_host(), "", Resources(memory=memory), "b"))
        for w in [w.strip("[]")]
    )
    assert found.get("memory.swap.max") == expected


@pytest.mark.parametrize("memory", [MemoryLimits(swap=100), MemoryLimits(limit=200, swap=100)])
def test_swap_of_cgroup2_that_makes_no_sense(memory: MemoryLimits) -> None:
    """An error, not a surprise."""
    with pytest.raises(InvalidConfig, match=r"memory\.swap"):
        plan_cgroups(v2_host(), "", Resources(memory=memory), "box")


@hypothesis.given(strategies.integers(min_value=2, max_value=262144))
def test_weight_of_shares_keeps_the_order_and_the_range(shares: int) -> None:
    """More shares never weigh less; the ends and the default meet."""
    weight = limits_v2.weight_of_shares(shares)
    assert 1 <= weight <= limits_v2.weight_of_shares(shares + 1) <= 10000
    assert [limits_v2.weight_of_shares(s) for s in (0, 2, 1024, 262144, 1 << 60)] == [
        1,
        1,
        100,
        10000,
        10000,
    ]


@pytest.mark.parametrize(
    ("limit", "value"), [(-1, "max"), (-5, "max"), (0, "1"), (1, "1"), (1 << 40, str(1 << 40))]
)
def test_pids_limit(limit: int, value: str) -> None:
    """0 is a real limit since runtime-spec 1.3: nothing can fork."""
    for host in (v1_host(), v2_host(), hybrid_host()):
        assert writes(plan_cgroups(host, "", Resources(pids_limit=limit), "b")) == [
            f"pids.max={value}"
        ]


@pytest.mark.parametrize(
    "resources",
    [
        Resources(memory=MemoryLimits(disable_oom_killer=True)),
        Resources(memory=MemoryLimits(swappiness=3)),
        Resources(cpu=CpuLimits(realtime_runtime=3)),
        Resources(block_io=BlockIo(leaf_weight=10)),
        Resources(network=NetworkLimits(class_id=1)),
    ],
)
def test_what_cgroup2_cannot_do(resources: Resources) -> None:
    """Refused by name, a note where the limits are only defaults."""
    with pytest.raises(Unsupported, match=r"linux\.resources\."):
        plan_cgroups(v2_host(), "", resources, "box")
    plan = plan_cgroups(v2_host(), "", resources, "box", forgiving=True)
    assert writes(plan) == []
    assert any("linux.resources." in note for note in plan.notes)


def test_plan_can_be_printed() -> None:
    """As evidence of a decision."""
    text = repr(plan_cgroups(hybrid_host(), "", EVERYTHING.with_values(network=None), "box"))
    assert "memory.limit_in_bytes" in text
    assert "devices=DeviceList(allow=False" in text
