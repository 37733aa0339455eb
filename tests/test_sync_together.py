"""Several syncs into one repository: what each gets in the other's way of is done again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from imgtools.testing.images import random_artifact, random_image
from imgtools.testing.registry import ScriptedRegistry
from tests.rig import RegistryServer, RunCli
from tests.sync_rig import PLAIN, Sync, load


@pytest.fixture
def sync(run_cli: RunCli) -> Iterator[Sync]:
    """Two registries that have everything the specification has."""
    with ScriptedRegistry() as source, ScriptedRegistry() as target:
        yield Sync(run_cli, source, target)


@pytest.mark.parametrize(("times", "outcome"), [(3, "new"), (20, "failed")])
def test_a_put_that_another_sync_got_in_the_way_of(sync: Sync, times: int, outcome: str) -> None:
    """Distribution's files say so of a manifest that two put at once; it is put again, not for
    ever."""
    load(sync.source, "ns/app", random_image("a"), "a")
    number = sync.target.fail(
        method="PUT", path="/manifests/a", nth=range(1, times + 1), status=400,
        body='{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}',
    )  # fmt: skip
    assert sync.outcomes(check=outcome == "new") == {"app:a": outcome}
    assert sync.target.faults.applied(number) == min(times, 5)


def test_an_immutable_tag_is_put_once(sync: Sync) -> None:
    """Another try cannot change that."""
    load(sync.source, "ns/app", random_image("a"), "a")
    load(sync.target, "mirror/app", random_image("other"), "a")
    sync.target.fail(method="PUT", path="/manifests/a", status=409, body="tag is immutable")
    assert sync.outcomes(check=False) == {"app:a": "failed"}
    assert sync.target.count("PUT", "/manifests/a") == 1


def test_syncs_into_one_repository_at_the_same_time(
    sync: Sync, registry_plain: RegistryServer, repository: str
) -> None:
    """Each of them succeeds, and what all of them put is there."""
    reports = 0
    for tag in "abcd":
        sample = random_image(tag)
        load(sync.source, "ns/app", sample, tag)
        for number in range(3):
            report = random_artifact(f"{tag}{number}", subject=sample.top.descriptor())
            load(sync.source, "ns/app", report)
            reports += 1
    arguments = (
        "sync", "--src", "docker", "--dest", "docker", *PLAIN, "--json",
        f"{sync.source.host}/ns/app", f"{registry_plain.host}/{repository}",
    )  # fmt: skip
    processes = [sync.cli.start(*arguments) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    result = json.loads(sync.cli(*arguments, check=True).stdout.splitlines()[-1])
    assert [each["outcome"] for each in result["images"]] == ["same"] * 4
    done = sync.cli("sync", "--src", "docker", "--dest", "docker", *PLAIN, "--dry-run", "--json",
                    f"{registry_plain.host}/{repository}/app", f"{sync.target.host}/m",
                    check=True)  # fmt: skip
    assert len(json.loads(done.stdout)["referrers"]) == reports
