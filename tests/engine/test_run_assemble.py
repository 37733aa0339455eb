"""The config.json of a container as a pure function, by tables; and the words of its options."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.containers.assemble import Setting, assemble, command, environment
from engine.containers.devices import DevicePlan
from engine.containers.limits import is_default, resources, rlimits
from engine.containers.options import Device, ImageDefaults, Limits, RunOptions, Security, Volume
from engine.containers.security import capability_names, parse_security, plan_security
from engine.containers.volumes import parse_device, parse_tmpfs, parse_volume
from engine.network.model import NetworkPlan
from engine.runtime import jsontext
from engine.runtime.process.users import ResolvedUser
from engine.runtime.spec.parse import parse_config
from imgtools.errors import InvalidInput, Unsupported

ROOT = ResolvedUser(uid=0, gid=0, additional_gids=(0,), home="/root", name="root")
HARD = {"RLIMIT_NOFILE": 4096, "RLIMIT_NPROC": 1 << 40}


def setting(options: RunOptions, **values: Any) -> Setting:
    found: dict[str, Any] = {
        "container_id": "c" * 64,
        "hostname": "box",
        "network": NetworkPlan(mode="none", private=True),
        "user": ROOT,
        "security": plan_security(options.security, 0, "x86_64", (6, 1)),
        "files": {"/etc/hosts": "/files/hosts"},
        "hard": HARD,
        **values,
    }
    return Setting(**found)


def document(image: ImageDefaults | None = None, **options: Any) -> dict[str, Any]:
    """The document for options, which the runtime's own parser has to take."""
    asked = RunOptions(**{"command": ("true",), **options})
    found = assemble(image or ImageDefaults(), asked, setting(asked))
    parse_config(jsontext.parse(jsontext.encode(found).encode(), "config.json"))
    return found


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "asked_entrypoint", "asked", "expected"),
    [
        ((), ("c",), None, (), ("c",)),
        (("e",), ("c",), None, (), ("e", "c")),
        (("e",), ("c",), None, ("x",), ("e", "x")),
        (("e",), ("c",), ("f",), (), ("f",)),
        (("e",), ("c",), ("f", "g"), ("x",), ("f", "g", "x")),
        (("e",), ("c",), (), ("x",), ("x",)),
    ],
)
def test_commands(
    entrypoint: tuple[str, ...],
    cmd: tuple[str, ...],
    asked_entrypoint: tuple[str, ...] | None,
    asked: tuple[str, ...],
    expected: tuple[str, ...],
) -> None:
    image = ImageDefaults(entrypoint=entrypoint, cmd=cmd)
    assert command(image, RunOptions(entrypoint=asked_entrypoint, command=asked)) == expected


@pytest.mark.parametrize("entrypoint", [None, ()])
def test_no_command_at_all(entrypoint: tuple[str, ...] | None) -> None:
    image = ImageDefaults(cmd=() if entrypoint is None else ("c",))
    with pytest.raises(InvalidInput, match="no command"):
        command(image, RunOptions(entrypoint=entrypoint))


def test_variables_by_their_order() -> None:
    image = ImageDefaults(env=("A=image", "PATH=/p", "GONE=1"))
    options = RunOptions(env=("A=asked", "B=x=y", "A=last"), unset_env=("GONE", "TERM"))
    assert environment(image, options, setting(options)) == (
        "PATH=/p", "container=oci", "HOSTNAME=box", "A=last", "HOME=/root", "B=x=y",
    )  # fmt: skip


@given(st.lists(st.text(st.characters(exclude_characters="=\0"), min_size=1), unique=True))
def test_every_variable_is_there_once(names: list[str]) -> None:
    options = RunOptions(env=tuple(f"{name}=1" for name in (*names, *names)))
    found = [entry.partition("=")[0] for entry in environment(
        ImageDefaults(), options, setting(options))]  # fmt: skip
    assert len(found) == len(set(found))
    assert set(names) <= set(found)


def mount(found: dict[str, Any], destination: str) -> dict[str, Any]:
    (one,) = [m for m in found["mounts"] if m["destination"] == destination]
    assert isinstance(one, dict)
    return one


def test_mounts_by_default_and_of_a_privileged_container() -> None:
    found = document()
    assert mount(found, "/etc/hosts")["options"] == ["bind", "rprivate", "nosuid", "nodev"]
    assert "ro" in mount(found, "/sys")["options"]
    assert found["linux"]["maskedPaths"]
    bold = document(security=Security(privileged=True))
    assert "rw" in mount(bold, "/sys")["options"]
    assert "rw" in mount(bold, "/sys/fs/cgroup")["options"]
    assert bold["linux"]["maskedPaths"] == bold["linux"]["readonlyPaths"] == []


def test_read_only_roots_have_places_to_write() -> None:
    found = document(read_only=True)
    assert found["root"]["readonly"]
    for path in ("/tmp", "/var/tmp", "/run"):
        assert mount(found, path)["type"] == "tmpfs"
    assert "ro" in mount(found, "/etc/hosts")["options"]


def test_a_volume_takes_the_place_of_a_file_of_ours() -> None:
    volume = Volume(source="/mine", destination="/etc/hosts", options=("ro", "suid"))
    found = mount(document(volumes=(volume,)), "/etc/hosts")
    assert found["source"] == "/mine"
    assert set(found["options"]) == {"rbind", "ro", "suid", "rprivate", "nodev"}


def test_one_id_alone_has_no_groups_and_gains_none() -> None:
    options = RunOptions(command=("true",))
    found = assemble(ImageDefaults(), options, setting(options, single=True, groups=(5,)))
    assert found["process"]["user"]["additionalGids"] == []
    assert found["process"]["noNewPrivileges"]
    many = assemble(ImageDefaults(), options, setting(options, groups=(5, 0, 5)))
    assert many["process"]["user"]["additionalGids"] == [0, 5]


def test_devices_are_where_they_are_planned() -> None:
    options = RunOptions(command=("true",))
    bound = {"destination": "/dev/y", "type": "bind", "source": "/dev/y", "options": ["bind"]}
    plan = DevicePlan(
        nodes=({"path": "/dev/x", "type": "c", "major": 1, "minor": 3},),
        rules=({"allow": False, "access": "rwm"},),
        mounts=(bound,),
    )
    found = assemble(ImageDefaults(), options, setting(options, devices=plan))
    assert found["linux"]["devices"] == list(plan.nodes)
    assert found["linux"]["resources"]["devices"] == list(plan.rules)
    assert mount(found, "/dev/y")["source"] == "/dev/y"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), {"pids": {"limit": 2048}}),
        (Limits(ulimits=(("RLIMIT_CORE", 0, 0),)), {"pids": {"limit": 2048}}),
        (Limits(pids=0), {"pids": {"limit": -1}}),
        (Limits(memory=5), {"memory": {"limit": 5, "swap": 10}}),
        (Limits(memory=5, memory_swap=-1), {"memory": {"limit": 5, "swap": -1}}),
        (Limits(cpus=1.5), {"cpu": {"period": 100000, "quota": 150000}}),
        (Limits(cpus=0, cpuset_cpus="0"), {"cpu": {"cpus": "0"}}),
        (Limits(cpu_shares=7), {"cpu": {"shares": 7}}),
    ],
)
def test_limits(limits: Limits, expected: dict[str, Any]) -> None:
    assert resources(limits) == expected
    assert is_default(limits) == (expected == {"pids": {"limit": 2048}})


def test_g2_limits_of_processes() -> None:
    """Defaults are what can be had; what was asked for is set, or an error."""
    by_name = {one["type"]: one for one in rlimits(Limits(), HARD, may_raise=False)}
    assert by_name["RLIMIT_NOFILE"]["hard"] == 4096
    assert by_name["RLIMIT_NPROC"]["hard"] == 1 << 20
    asked = Limits(ulimits=(("RLIMIT_NOFILE", 10, 5000),), host_ulimits=True)
    assert rlimits(asked, HARD, may_raise=True) == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 5000}
    ]
    with pytest.raises(Unsupported, match="nofile: the highest that can be set is 4096"):
        rlimits(asked, HARD, may_raise=False)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("no-new-privileges", Security(no_new_privileges=True)),
        ("no-new-privileges:true", Security(no_new_privileges=True)),
        ("no-new-privileges=false", Security()),
        ("seccomp=unconfined", Security(seccomp="unconfined")),
        ("seccomp:/p", Security(seccomp="/p")),
        ("mask=/a:/b", Security(mask=("/a", "/b"))),
        ("unmask=ALL", Security(unmask=("ALL",))),
        ("systempaths=unconfined", Security(unmask=("ALL",))),
        ("proc-opts=hidepid=2,gid=5", Security(proc_options=("hidepid=2", "gid=5"))),
        ("apparmor=x", Security(apparmor="x")),
        ("label=disable", Security()),
    ],
)
def test_words_of_security_opt(word: str, expected: Security) -> None:
    assert parse_security([word], Security()) == expected


@pytest.mark.parametrize("word", ["", "x", "seccomp", "mask=", "no-new-privileges=maybe", "a=b"])
def test_words_that_are_none(word: str) -> None:
    with pytest.raises(InvalidInput, match="invalid --security-opt"):
        parse_security([word], Security())
    with pytest.raises(Unsupported):
        parse_security(["label=type:x_t"], Security())


def test_unmasking_by_patterns() -> None:
    plan = plan_security(Security(unmask=("/proc/*", "/sys/firmware/")), 0, "x86_64", (6, 1))
    assert plan.readonly_paths == ()
    assert all(not path.startswith("/proc/") for path in plan.masked_paths)
    assert "/sys/firmware" not in plan.masked_paths
    assert "/sys/devices/virtual/powercap" in plan.masked_paths
    more = plan_security(Security(mask=("/etc",)), 0, "x86_64", (6, 1))
    assert "/etc" in more.masked_paths


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        (Security(cap_drop=("ALL",), cap_add=("chown",)), {"CAP_CHOWN"}),
        (Security(cap_drop=("all",)), set()),
    ],
)
def test_capabilities(security: Security, expected: set[str]) -> None:
    assert set(capability_names(security)) == expected


@pytest.mark.parametrize(
    "security",
    [
        Security(cap_add=("ALL",), cap_drop=("ALL",)),
        Security(cap_add=("CHOWN",), cap_drop=("CAP_CHOWN",)),
        Security(cap_add=("FLY",)),
    ],
)
def test_capabilities_that_make_no_sense(security: Security) -> None:
    with pytest.raises(InvalidInput):
        capability_names(security)


@pytest.mark.parametrize(
    ("text", "source", "destination", "options"),
    [
        ("/a:/b", "/a", "/b", ()),
        ("./a:/b:ro", "/here/a", "/b", ("ro",)),
        ("../a:/b", "/a", "/b", ()),
        ("a/b:/c:z", "/here/a/b", "/c", ()),
        ("/a:/b:rshared,noexec", "/a", "/b", ("rshared", "noexec")),
    ],
)
def test_volumes(text: str, source: str, destination: str, options: tuple[str, ...]) -> None:
    assert parse_volume(text, "/here") == Volume(
        source=source, destination=destination, options=options
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (":", InvalidInput),
        ("a", InvalidInput),
        ("/a", Unsupported),
        ("name:/a", Unsupported),
        ("/a:b", InvalidInput),
        ("/a:/b:ro,rw", InvalidInput),
        # F5: an option cannot bring others along.
        ("/a:/b:size=5", InvalidInput),
        ("/a:/b:ro=1", InvalidInput),
        ("/a:/b:O", Unsupported),
        ("/a:/b:U", Unsupported),
        ("/a:/b:ro:x", InvalidInput),
    ],
)
def test_volumes_that_are_none(text: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        parse_volume(text, "/here")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/dev/a", Device(source="/dev/a", path="/dev/a")),
        ("/dev/a:r", Device(source="/dev/a", path="/dev/a", access="r")),
        ("/dev/a:/dev/b", Device(source="/dev/a", path="/dev/b")),
        ("/dev/a:/dev/b:rw", Device(source="/dev/a", path="/dev/b", access="rw")),
    ],
)
def test_devices(text: str, expected: Device) -> None:
    assert parse_device(text) == expected


@pytest.mark.parametrize("text", ["a", "/a:x", "/a:rr", "/a:/b:", "/a:/b:r:w", "/a:b:r", ""])
def test_devices_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_device(text)


@pytest.mark.parametrize("text", ["a", "/a:bogus", "/a:size", "/a:x=1", "/a:bind"])
def test_file_systems_in_memory_that_are_none(text: str) -> None:
    assert parse_tmpfs("/a:size=1m,notmpcopyup").options == ("size=1m", "notmpcopyup")
    with pytest.raises(InvalidInput):
        parse_tmpfs(text)
