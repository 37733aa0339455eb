"""`imgtools config show`: every decision with the file that made it, and never a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rig import RunCli

CONF = """
unqualified-search-registries = ["one.test", "two.test"]
[aliases]
short = "example.test/ns/short"

[[registry]]
prefix = "example.test"
location = "inside.test/pub"

[[registry.mirror]]
location = "mirror.test/cache"
insecure = true

[[registry.mirror]]
location = "digests.test"
pull-from-mirror = "digest-only"

[[registry]]
location = "evil.test"
blocked = true
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A registries.conf."""
    path = tmp_path / "r.conf"
    path.write_text(CONF)
    return path


def shown(run_cli: RunCli, conf: Path, *arguments: str, **env: str) -> dict[str, Any]:
    done = run_cli(
        f"--registries-conf={conf}", "config", "show", "--json", *arguments, env=env, check=True
    )
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def test_endpoints_in_order(run_cli: RunCli, conf: Path) -> None:
    value = shown(run_cli, conf, "docker://example.test/app:v1")
    assert value["files"][0] == str(conf)
    (reference,) = value["references"]
    assert reference["reference"] == "example.test/app:v1"
    mirror, primary = reference["reads"]
    where = f"{conf}: [[registry]] 'example.test'"
    assert (mirror["kind"], mirror["reference"], mirror["decidedBy"], mirror["location"]) == (
        "mirror",
        "mirror.test/cache/app:v1",
        where,
        "mirror.test/cache",
    )
    assert (mirror["insecure"], mirror["insecureBy"]) == (True, f"insecure = true in {conf}")
    assert (primary["kind"], primary["reference"]) == ("primary", "inside.test/pub/app:v1")
    assert (primary["insecure"], primary["insecureBy"]) == (False, "the default")
    assert primary["credentials"] == "none"
    (skipped,) = reference["skippedMirrors"]
    assert skipped["location"] == "digests.test"
    assert "digest-only" in skipped["reason"]
    assert reference["write"]["reference"] == "example.test/app:v1"


def test_options_that_override(run_cli: RunCli, conf: Path) -> None:
    name = "docker://example.test/app:v1"
    (reference,) = shown(run_cli, conf, "--tls-verify", name)["references"]
    assert [(p["insecure"], p["insecureBy"]) for p in reference["reads"]] == [
        (False, "--tls-verify")
    ] * 2
    (reference,) = shown(run_cli, conf, "--no-mirrors", name)["references"]
    assert [p["kind"] for p in reference["reads"]] == ["primary"]
    (reference,) = shown(run_cli, conf, "--creds=me:hunter2", name)["references"]
    assert [p["credentials"] for p in reference["reads"]] == ["none", "given as options"]


def test_blocked(run_cli: RunCli, conf: Path) -> None:
    (reference,) = shown(run_cli, conf, "docker://evil.test/app")["references"]
    (place,) = reference["reads"]
    assert place["blocked"] is True
    assert place["blockedBy"] == f"{conf}: [[registry]] 'evil.test'"
    assert reference["write"]["blocked"] is True


@pytest.mark.parametrize(
    ("name", "references", "resolved_by", "ambiguous"),
    [
        ("short:v2", ["example.test/ns/short:v2"], "alias", ""),
        ("other", ["one.test/other:latest", "two.test/other:latest"], "search", "prefer"),
        ("full.test/x", ["full.test/x:latest"], None, None),
        ("docker://other", ["docker.io/library/other:latest"], None, None),
    ],
)
def test_short_names(
    run_cli: RunCli,
    conf: Path,
    name: str,
    references: list[str],
    resolved_by: str | None,
    ambiguous: str | None,
) -> None:
    value = shown(run_cli, conf, name)
    assert [r["reference"] for r in value["references"]] == references
    said = value.get("shortName", {})
    assert (said.get("resolvedBy"), said.get("ambiguous")) == (resolved_by, ambiguous)


def test_sources_of_everything_else(run_cli: RunCli, conf: Path, tmp_path: Path) -> None:
    auth = tmp_path / "auth.json"
    auth.write_text('{"auths": {"mirror.test/cache": {"username": "me", "password": "hunter2"}}}')
    certs = run_cli.home / ".config/containers/certs.d/mirror.test"
    certs.mkdir(parents=True)
    (certs / "ca.crt").write_text("")
    (certs / "notes.txt").write_text("")
    cache = run_cli.home / ".cache/imgtools"
    cache.mkdir(parents=True)
    entry = {"scheme": "https", "auth": "bearer", "realm": "https://auth.test/token"}
    (cache / "registries.json").write_text(
        json.dumps({"version": 1, "hosts": {"mirror.test": entry}})
    )
    policy = tmp_path / "policy.json"
    policy.write_text(
        '{"default": [{"type": "reject"}],'
        ' "transports": {"docker": {"example.test": [{"type": "insecureAcceptAnything"}]}}}'
    )
    arguments = (f"--authfile={auth}", f"--policy={policy}", "docker://example.test/app:v1")
    env = {"HTTPS_PROXY": "http://user:hunter2@proxy.test:3128", "NO_PROXY": "inside.test"}
    (reference,) = shown(run_cli, conf, *arguments, **env)["references"]
    mirror, primary = reference["reads"]
    assert mirror["credentials"] == f"{auth}: entry 'mirror.test/cache'"
    assert mirror["certificates"] == {"directory": str(certs), "files": ["ca.crt"]}
    assert (mirror["proxy"], primary["proxy"]) == ("http://proxy.test:3128", "")
    assert mirror["known"] == "https, bearer, https://auth.test/token"
    assert reference["policy"] == {
        "file": str(policy),
        "scope": "docker: 'example.test'",
        "requirements": ["insecureAcceptAnything"],
    }
    text = run_cli(
        f"--registries-conf={conf}", "config", "show", *arguments, env=env, check=True
    ).stdout
    assert "hunter2" not in text
    for expected in (
        "read 1: mirror mirror.test/cache/app:v1",
        f"credentials:  {auth}: entry 'mirror.test/cache'",
        f"certificates: {certs}: ca.crt",
        "proxy:        http://proxy.test:3128",
        "not read: mirror digests.test: ",
        "write: example.test/app:v1",
        "policy: insecureAcceptAnything",
    ):
        assert expected in text


def test_text_of_blocked_and_ambiguous_names(run_cli: RunCli, conf: Path) -> None:
    text = run_cli("config", f"--registries-conf={conf}", "show", "other", check=True).stdout
    assert f"short name: unqualified-search-registries of {conf}; somebody at a" in text
    text = run_cli("config", "show", f"--registries-conf={conf}", "evil.test/x", check=True).stdout
    assert f"blocked:      by {conf}: [[registry]] 'evil.test'" in text


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["config", "--help"], 0, "show"),
        (["config", "show", "--help"], 0, "REFERENCE"),
        (["config"], 1, "missing command"),
        (["config", "hide"], 125, 'container "hide": container not known'),
        (["config", "show"], 1, "Missing argument"),
        (["config", "show", "oci:dir"], 1, "only docker:// names"),
        (["config", "show", "http://x.test/a"], 1, "unknown transport"),
        (["--registries-conf=/nowhere.conf", "config", "show", "a"], 1, "does not exist"),
        (["config", "--debug", "show", "x.test/a"], 0, "x.test/a:latest"),
    ],
)
def test_command_line(run_cli: RunCli, arguments: list[str], status: int, said: str) -> None:
    done = run_cli(*arguments)
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done


def test_a_wrong_file_stops_commands_before_any_request(run_cli: RunCli, tmp_path: Path) -> None:
    conf = tmp_path / "r.conf"
    conf.write_text('[[registry]]\nlocation = "http://a.test"\n')
    done = run_cli(
        "list-tags", "docker://nobody.test/a", env={"CONTAINERS_REGISTRIES_CONF": str(conf)}
    )
    assert done.returncode == 1
    assert f"{conf}: [[registry]] number 1: location" in done.stderr


def test_secrets_of_a_remembered_realm_are_not_shown(run_cli: RunCli) -> None:
    cache = run_cli.home / ".cache" / "imgtools"
    cache.mkdir(parents=True)
    host = {
        "auth": "bearer",
        "realm": "https://me:secret@auth.test/token?key=secret",
        "service": "",
    }
    (cache / "registries.json").write_text(json.dumps({"version": 1, "hosts": {"r.test": host}}))
    for flags in ((), ("--json",)):
        done = run_cli("config", "show", *flags, "docker://r.test/a", check=True)
        assert "bearer, https://auth.test/token?key=…" in done.stdout
        assert "secret" not in done.stdout
