"""`imgtools sync` from a registry that registries.conf has mirrors of: what is attached too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgtools.testing.dialects import DISTRIBUTION_2
from imgtools.testing.images import Sample, random_artifact, random_image, random_index
from imgtools.testing.registry import ScriptedRegistry
from tests.rig import RunCli
from tests.sync_rig import load


class Site:
    """`example.test/app` at a primary with one mirror, and a registry to sync to."""

    def __init__(
        self, cli: RunCli, primary: ScriptedRegistry, mirror: ScriptedRegistry,
        target: ScriptedRegistry, directory: Path,
    ) -> None:  # fmt: skip
        self.cli, self.primary, self.mirror, self.target = cli, primary, mirror, target
        self.conf = directory / "registries.conf"

    def sync(self, *flags: str, primary: str = "", check: bool = True) -> str:
        """Sync `example.test/app` with the lines `primary` in its table; what was said."""
        self.conf.write_text(
            f'[[registry]]\nprefix = "example.test"\nlocation = "{self.primary.host}"\n'
            f"insecure = true\n{primary}\n"
            f'[[registry.mirror]]\nlocation = "{self.mirror.host}"\ninsecure = true\n'
        )
        return self.cli(
            "sync", "--registries-conf", self.conf, "--src", "docker", "--dest", "docker",
            "--dest-tls-verify=false", *flags, "example.test/app", f"{self.target.host}/to",
            check=check,
        ).stderr  # fmt: skip

    def holds(self, sample: Sample) -> bool:
        """Whether the target has a manifest."""
        return sample.top.digest in self.target.repository("to/app").manifests


@pytest.fixture(params=["spec", "old"])
def site(request: pytest.FixtureRequest, run_cli: RunCli, tmp_path: Path) -> Iterator[Site]:
    """With the referrers API, and without."""
    dialect = DISTRIBUTION_2 if request.param == "old" else None
    with (
        ScriptedRegistry(dialect=dialect) as primary,
        ScriptedRegistry() as mirror,
        ScriptedRegistry() as target,
    ):
        yield Site(run_cli, primary, mirror, target, tmp_path)


def test_a_blocked_primary(site: Site) -> None:
    """It is never asked; referrers are those that the mirror has, of instances too."""
    index = random_index(1)
    reports = [
        random_artifact(number, subject=raw.descriptor())
        for number, raw in enumerate((index.top, *index.manifests))
    ]
    load(site.mirror, "app", index, "v1")
    for report in reports:
        load(site.mirror, "app", report)
    site.sync("--all", primary="blocked = true")
    assert site.target.repository("to/app").tags == {"v1": index.top.digest}
    assert all(site.holds(report) for report in reports)
    assert site.primary.requests == []
    site.target.forget_requests()
    assert "1 same" in site.sync("--all", primary="blocked = true")
    assert {exchange.method for exchange in site.target.requests} == {"GET", "HEAD"}


def test_a_blocked_primary_whose_mirror_knows_no_referrers(site: Site) -> None:
    """Nothing attached is no failure."""
    load(site.mirror, "app", random_image(1), "v1")
    assert "1 new" in site.sync(primary="blocked = true")


def test_referrers_that_only_the_primary_has(site: Site) -> None:
    """Mirrors seldom keep them: the primary is asked when they know none."""
    image = random_image(1)
    report = random_artifact(1, subject=image.top.descriptor())
    for registry in (site.mirror, site.primary):
        load(registry, "app", image, "v1")
    load(site.primary, "app", report)
    site.sync()
    assert site.holds(report) == (site.primary.dialect is not DISTRIBUTION_2)
    assert site.primary.count("GET", "/blobs/") == (2 if site.holds(report) else 0)


def test_without_mirrors(site: Site) -> None:
    """--no-mirrors asks the primary alone, for what is attached as well."""
    image = random_image(1)
    load(site.primary, "app", image, "v1")
    site.sync("--no-mirrors")
    assert site.target.repository("to/app").tags == {"v1": image.top.digest}
    assert site.mirror.requests == []
    assert "is blocked" in site.sync("--no-mirrors", primary="blocked = true", check=False)
