"""Options about how RUN is run, from the command line to what a command finds: networks, limits,
what is shown of the host. And attestations, from the command line to a registry."""

from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgtools.build.outputs.attest import SPDX
from imgtools.build.outputs.provenance import V1
from imgtools.spec.digest import Digest
from imgtools.testing.registry import ScriptedRegistry
from tests.build.cli_builds import Builds
from tests.engine.run_rig import IMAGE

MIB = 1 << 20
CGROUP = (
    "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null;"
    "cat cpu.max cpu/cpu.cfs_quota_us 2>/dev/null; true"
)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builds]:
    """One store for all; nothing may be left of a step."""
    found = Builds(tmp_path_factory.mktemp("steps"))
    yield found
    assert found.runs.left() == []


def output(builds: Builds, script: str, *words: str, code: int = 0) -> list[str]:
    """What a command writes in a build with these options."""
    text = f"FROM {IMAGE}\nRUN {script}\n".encode()
    done = builds("-f", "-", "--no-cache", "--progress", "json", *words, ".", stdin=text)
    assert done.returncode == code, done.stderr.decode()
    events = [json.loads(line) for line in done.stdout.decode().splitlines()]
    return [e["text"].rstrip("\n") for e in events if e["event"] == "step-output"]


def test_a_network_is_the_one_that_is_asked_for(builds: Builds) -> None:
    """One with nothing in it, or the host's, whose interfaces come and go meanwhile."""
    here = str(Path("/proc/self/ns/net").readlink())
    shown = "readlink /proc/self/ns/net; ls /sys/class/net"
    space, *interfaces = output(builds, shown, "--network", "none")
    assert space != here
    assert interfaces == ["lo"]
    assert output(builds, shown, "--network", "host")[0] == here


def test_the_resolver_and_the_table_of_hosts(builds: Builds) -> None:
    """As they are asked for, or as the image has them."""
    words = ("--network", "host", "--dns", "192.0.2.1,192.0.2.2", "--dns-search", "a.example",
             "--dns-option", "ndots:3", "--add-host", "in.hosts:192.0.2.9")  # fmt: skip
    found = output(builds, "cat /etc/resolv.conf; grep in.hosts /etc/hosts", *words)
    assert {"search a.example", "nameserver 192.0.2.1", "nameserver 192.0.2.2",
            "options ndots:3"} <= set(found)  # fmt: skip
    assert found[-1].split() == ["192.0.2.9", "in.hosts"]
    bare = ("--network", "host", "--dns", "none", "--no-hosts", "--no-hostname")
    assert output(builds, "cd /etc; ls resolv.conf hosts hostname 2>/dev/null; true", *bare) == []


def test_limits_of_processes_are_lowered_to_what_can_be(builds: Builds) -> None:
    """A million descriptors, which buildah asks for, are no error."""
    highest = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    found = output(builds, "ulimit -n; ulimit -H -n; ulimit -c", "--network", "none",
                   "--ulimit", "nofile=64:1073741816", "--ulimit", "core=0:0")  # fmt: skip
    assert found[0] == "64"
    assert int(found[1]) <= max(highest, 1 << 20)
    assert found[2] == "0"


def test_commands_read_standard_input_where_it_is_asked_for(builds: Builds) -> None:
    """Else there is nothing to read."""
    (builds.work / "Read").write_text(f"FROM {IMAGE}\nRUN cat\n")
    words = ("-f", "Read", "--no-cache", "--network", "none", ".")
    assert b"typed" in builds("--stdin", *words, stdin=b"typed\n").stdout
    assert b"typed" not in builds(*words, stdin=b"typed\n").stdout


def test_memory_and_processors_are_limited(builds: Builds) -> None:
    """In the cgroup of the step."""
    found = output(builds, CGROUP, "--network", "none", "--memory", "64m", "--cpu-period", "100000",
                   "--cpu-quota", "20000")  # fmt: skip
    assert found[0] == str(64 * MIB)
    assert found[1].split()[0] == "20000"


def test_shared_memory_has_its_size(builds: Builds) -> None:
    script = "dd if=/dev/zero of=/dev/shm/x bs=1024 count=2048 2>/dev/null; stat -c %s /dev/shm/x"
    assert output(builds, script, "--network", "none", "--shm-size", "1m") == [str(MIB)]
    assert output(builds, script, "--network", "none") == [str(2 * MIB)]


def test_volumes_and_devices_of_the_host(builds: Builds) -> None:
    """Writable or not, with labels that mean nothing here, by relative names too."""
    (builds.work / "shown").mkdir(exist_ok=True)
    (builds.work / "shown/file").write_text("of the host")
    script = (
        "cat /ro/file; echo; touch /ro/x 2>/dev/null || echo refused; echo new > /rw/made;"
        "test -c /dev/nothing && echo device; echo x > /dev/nothing && echo written"
    )
    volumes = ("-v", "./shown:/ro:ro,z", "-v", f"{builds.work}/shown:/rw:rw,Z")
    device = ("--device", "/dev/null:/dev/nothing:rwm")
    found = output(builds, script, "--network", "none", *volumes, *device)
    assert found == ["of the host", "refused", "device", "written"]
    assert (builds.work / "shown/made").read_text() == "new\n"


def test_a_directory_of_devices_stands_for_all_of_them(builds: Builds) -> None:
    """And no hooks are run without a word."""
    held = builds.work / "devices/below"
    held.mkdir(parents=True)
    for path, minor in ((held.parent / "none", 3), (held / "nothing", 5)):
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        path.chmod(0o666)
    (held / "file").write_text("")
    script = "cd /dev/many; find . -type c | sort; find . -type f; head -c 2 below/nothing | wc -c"
    words = ("--network", "none", "--device", f"{held.parent}:/dev/many:r")
    assert output(builds, script, *words) == ["./below/nothing", "./none", "2"]
    (builds.work / "empty").mkdir()
    _, errors = builds.lines(
        f"FROM {IMAGE}\nRUN true\n", "--device", f"{builds.work}/empty:/dev/x", code=125
    )
    assert any("a directory without devices" in line for line in errors)
    _, errors = builds.lines("FROM scratch\n", "--hooks-dir", "/hooks", code=125)
    assert "imgtools: --hooks-dir is not supported (hooks are not run for steps)" in errors


def test_every_run_has_the_mounts_that_are_asked_for(builds: Builds) -> None:
    """And nothing of them is in the image."""
    text = f"FROM {IMAGE}\nRUN echo 1 > /m/a\nRUN ls /m; cat /s\n"
    (builds.work / "hidden").write_text("secret content\n")
    words = ("--network", "none", "--no-cache", "--mount", "type=tmpfs,target=/m",
             "--mount", "type=secret,id=s,target=/s", "--secret", "id=s,src=hidden")  # fmt: skip
    out, _ = builds.lines(text, *words, "-t", "mounted")
    assert "***" in out
    assert "a" not in out
    listing, _ = builds.lines("FROM localhost/mounted\nRUN ls / | grep '^[ms]$'; true\n")
    assert not {"m", "s"} & set(listing)


@pytest.mark.parametrize("style", ["referrer", "index"])
def test_attestations_are_pushed_with_the_image(builds: Builds, style: str, tmp_path: Path) -> None:
    """And files say what was pushed, under buildx's keys."""
    text = f"FROM {IMAGE}\nARG TOKEN\nARG V\nRUN echo $V > /f\nLABEL a=b\n"
    with ScriptedRegistry() as registry:
        name = f"{registry.host}/team/app:1"
        _, err = builds.lines(
            text, "-t", name, "--push", "--tls-verify=false", "--sbom", "true",
            "--provenance", "mode=max", "--attest-style", style, "--build-arg", "V=1",
            "--build-arg", "TOKEN=hunter2", "--metadata-file", str(tmp_path / "metadata"),
            "--iidfile", str(tmp_path / "iid"),
        )  # fmt: skip
        pushed = registry.repository("team/app")
        manifests = {str(d): json.loads(m.content) for d, m in pushed.manifests.items()}
        blobs = b"".join(m.content for m in pushed.manifests.values())
        statements = [
            json.loads(pushed.blobs[Digest.parse(layer["digest"])])
            for manifest in manifests.values()
            for layer in manifest.get("layers", ())
            if layer["mediaType"] == "application/vnd.in-toto+json"
        ]
    metadata = json.loads((tmp_path / "metadata").read_text())
    top = image = metadata["containerimage.digest"]
    assert str(pushed.tags["1"]) == top
    if style == "index":
        first, second = manifests[top]["manifests"]
        assert second["annotations"]["vnd.docker.reference.digest"] == first["digest"]
        image = first["digest"]
    (said,) = [m for m in manifests.values() if "subject" in m]
    assert said["subject"]["digest"] == image
    config = manifests[image]["config"]["digest"]
    assert metadata["containerimage.config.digest"] == config
    assert (tmp_path / "iid").read_text() == config
    assert metadata["image.name"] == name
    assert {each["predicateType"] for each in statements} == {V1, SPDX}
    for each in statements:
        (subject,) = each["subject"]
        assert subject["digest"]["sha256"] == image.removeprefix("sha256:")
        assert subject["name"].startswith("pkg:docker/")
    body = metadata["buildx.build.provenance"]
    args = body["buildDefinition"]["externalParameters"]["request"]["args"]
    assert args == {"build-arg:TOKEN": "<hidden>", "build-arg:V": "1"}
    assert b"hunter2" not in blobs + json.dumps([statements, metadata]).encode()
    warnings = [line for line in err if "warning" in line]
    assert ["SecretsUsedInArgOrEnv" in line for line in warnings] == [True]
