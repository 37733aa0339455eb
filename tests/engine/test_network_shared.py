"""Containers of one build that follow each other share a network, unless they could change it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.builds.executor import BuildExecutor
from engine.containers.directory import network_directory
from engine.network.model import NetworkPlan
from engine.network.plan import prepare_network
from engine.network.shared import SharedNetworks
from imgtools.build.protocols import HostSettings
from imgtools.errors import Unsupported
from imgtools.task import Task
from tests.engine.builds_rig import Build, build_of
from tests.engine.layer_tools import working_directory
from tests.engine.network_child import helpers
from tests.engine.run_rig import wait_until

NAMESPACE = "readlink /proc/self/ns/net; grep -c . /proc/net/dev"


@contextmanager
def sharing(directory: Path) -> Iterator[Build]:
    """A build whose steps share a network, of which nothing is left at the end."""
    runroot = str(directory / "run")
    with build_of(directory, "overlay") as build:
        with SharedNetworks(lambda name: network_directory(runroot, name)) as networks:
            engine = replace(build.engine, networks=networks)
            executor = BuildExecutor(engine.choice, lambda: engine)
            yield replace(build, engine=engine, executor=executor)
        assert helpers(str(directory)) == []


@pytest.fixture(name="build", scope="module")
def _build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    with (
        working_directory(tmp_path_factory.mktemp("shared")) as path,
        sharing(path) as build,
    ):
        yield build


def seen(build: Build, **more: Any) -> tuple[str, int]:
    """The network namespace of a step, and how many interfaces it has."""
    working = build.store.prepare(build.base, task=Task())
    try:
        ran = build.run(working, "sh", "-c", NAMESPACE, **{"network": "", **more})
    finally:
        build.store.discard(working)
    assert ran.code == 0, ran.text
    name, lines = ran.text.split()
    return name, int(lines) - 2


def test_steps_of_one_thread_share_a_network_that_is_connected(build: Build) -> None:
    first = seen(build)
    assert first == seen(build)
    assert first[1] == 2
    assert first[0] != os.readlink("/proc/self/ns/net")


def test_no_network_and_the_hosts_are_not_shared(build: Build) -> None:
    shared, _ = seen(build)
    # Two such steps cannot be compared: the number of a namespace that is gone is given again.
    alone, interfaces = seen(build, network="none")
    assert alone not in (shared, os.readlink("/proc/self/ns/net"))
    assert interfaces < 2
    assert seen(build, network="host")[0] == os.readlink("/proc/self/ns/net")


@pytest.mark.parametrize(
    "rights",
    [{"settings": HostSettings(cap_add=("NET_ADMIN",))}, {"insecure": True}],
    ids=["NET_ADMIN", "insecure"],
)
def test_who_can_change_a_network_has_one_alone(build: Build, rights: dict[str, Any]) -> None:
    shared, _ = seen(build)
    alone, interfaces = seen(build, **rights)
    assert alone != shared
    assert interfaces == 2
    assert seen(build)[0] == shared


def test_threads_have_networks_of_their_own(build: Build) -> None:
    """Steps that run at the same time may want the same port."""
    found = [seen(build)[0]]
    thread = threading.Thread(target=lambda: found.append(seen(build)[0]))
    thread.start()
    thread.join()
    assert len(set(found)) == 2


def test_a_network_whose_helper_ended_is_replaced(build: Build) -> None:
    first, _ = seen(build)
    for pid in pids(str(build.directory)):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: helpers(str(build.directory)) == [], "pasta is still there")
    found: list[str] = []

    def replaced() -> bool:
        found.append(seen(build)[0])
        return found[-1] != first

    wait_until(replaced, "the network of a dead helper is still used")
    assert seen(build) == (found[-1], 2)


def test_a_helper_that_fails_is_an_error_and_leaves_nothing(build: Build) -> None:
    networks = SharedNetworks(lambda name: network_directory(build.engine.runroot, name))
    plan = replace(prepare_network(None, build.engine.network), helper=("/bin/false",))
    assert isinstance(plan, NetworkPlan)
    before = os.listdir("/proc/self/fd")
    with networks, pytest.raises(Unsupported, match="pasta"):
        networks.joined(plan)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def pids(directory: str) -> list[int]:
    """The processes of helpers with files below a directory."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            used = any(directory.encode() in word for word in words[1:])
            if used and os.path.basename(words[0]).startswith((b"pasta", b"passt")):
                found.append(int(name))
    return found
