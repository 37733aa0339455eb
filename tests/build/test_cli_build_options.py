"""Every option of `buildah build` is one that works, one without meaning here, or one that is
refused: gone through one by one, against buildah's own list of them.

That an option works is shown by what it changes in what is asked for.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from imgtools.build.options import BuildOptions, NamedContext, SecretSource, SshSource
from imgtools.build.outputs.attest_options import AttestOptions
from imgtools.build.outputs.export_options import Export
from imgtools.build.outputs.model import Form
from imgtools.build.outputs.provenance import ProvenanceOptions
from imgtools.build.source_policy import Rule, SourcePolicy
from imgtools.cli.build_refused import MEANINGLESS, REFUSED
from imgtools.cli.build_request import BuildRequest, LogOptions, ResultOptions
from imgtools.cli.command import GoBool, global_options
from imgtools.cli.verbs.build import command
from imgtools.spec.platform import Platform
from tests.build.cli_request import requests, run

VARIABLES = (
    "BUILDAH_FORMAT", "BUILDAH_ISOLATION", "BUILDAH_LAYERS", "SOURCE_DATE_EPOCH",
    "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "BUILDAH_RUNTIME",
    "BUILDKIT_PROGRESS", "SSH_AUTH_SOCK", "http_proxy", "https_proxy", "no_proxy", "ftp_proxy",
    "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "FTP_PROXY", "ALL_PROXY",
)  # fmt: skip

# `buildah build --help` of 1.28 and what 1.45 has beyond it, hidden ones and aliases included.
BUILDAH_TEXT = """
add-host all-platforms annotation arch authfile blob-cache build-arg build-arg-file build-context
cache-from cache-to cache-ttl cap-add cap-drop cdi-config-dir cert-dir cgroup-parent cgroupns
compat-volumes compress compression-format compression-level cpp-flag cpu-period cpu-quota
cpu-shares cpuset-cpus cpuset-mems created-annotation creds cw decryption-key device
disable-compression disable-content-trust dns dns-option dns-search env file force-compression
force-rm format from group-add help hooks-dir http-proxy identity-label ignorefile iidfile
iidfile-raw inherit-annotations inherit-labels ipc isolation jobs label layer-label layers
log-rusage logfile loglevel logsplit manifest memory memory-swap metadata-file mount net network
no-cache no-hostname no-hosts omit-history os os-feature os-version output override-arch
override-os pid platform pull pull-always pull-never quiet raw-iidfile retry retry-delay
rewrite-timestamp rm runtime runtime-flag rusage-logfile save-stages sbom sbom-image-output
sbom-image-purl-output sbom-merge-strategy sbom-output sbom-purl-output sbom-scanner-command
sbom-scanner-image secret security-opt shm-size sign-by signature-policy skip-unused-stages
source-date-epoch source-policy-file squash ssh stage-labels stdin tag target timestamp tls-verify
ulimit unsetannotation unsetenv unsetlabel userns userns-gid-map userns-gid-map-group
userns-uid-map userns-uid-map-user uts variant volume
"""
BUILDAH = BUILDAH_TEXT.split()
SHORT = {"-c": "--cpu-shares", "-D": "--disable-compression", "-f": "--file", "-h": "--help",
         "-m": "--memory", "-o": "--output", "-q": "--quiet", "-t": "--tag",
         "-v": "--volume"}  # fmt: skip
# What is not in a request: transports, the store, and the help have them.
ELSEWHERE = {
    "authfile", "cert-dir", "creds", "tls-verify", "help", "signature-policy", "sign-by",
}  # fmt: skip

BUILD: list[tuple[str, dict[str, Any]]] = [
    ("--build-arg A=1", {"build_args": {"A": "1"}}),
    ("--build-arg A=", {"build_args": {"A": ""}}),
    ("--build-arg UNSET_ANYWHERE", {"build_args": {}}),
    ("--build-arg A=1 --build-arg A=2", {"build_args": {"A": "2"}}),
    ("--build-arg A=1 --build-arg UNSET_ANYWHERE", {"build_args": {"A": "1"}}),
    ("--build-arg-file args", {"build_args": {"FROM_FILE": "a=b", "X": "1"}}),
    ("--build-arg-file args --build-arg X=2", {"build_args": {"FROM_FILE": "a=b", "X": "2"}}),
    ("--build-context a=dir", {"contexts": (NamedContext(name="a", value="dir"),)}),
    ("--build-context a=container-image://alpine",
     {"contexts": (NamedContext(name="a", value="docker-image://alpine"),)}),
    ("--build-context a=docker://alpine",
     {"contexts": (NamedContext(name="a", value="docker-image://alpine"),)}),
    ("--compat-volumes", {"compat_volumes": True}),
    ("--cpp-flag -DA --cpp-flag -DB=1", {"cpp_flags": ("-DA", "-DB=1")}),
    ("--file one --file two", {"files": ("one", "two")}),
    ("-f one,two", {"files": ("one", "two")}),
    ("-f -", {"files": ("-",)}),
    ("--format docker", {"format": "docker"}),
    ("--from alpine", {"from_": "alpine"}),
    ("--source-policy-file policy",
     {"source_policy": SourcePolicy(rules=(Rule(action="DENY", identifier="*"),))}),
    ("--http-proxy=false", {"proxy": {}}),
    ("--ignorefile ign", {"ignore_file": "ign"}),
    ("--jobs 3", {"jobs": 3}),
    ("--layers=false", {"layers": False}),
    ("--mount type=tmpfs,target=/t", {"mounts": ("type=tmpfs,target=/t",)}),
    ("--all-platforms", {"all_platforms": True, "platforms": ()}),
    ("--platform linux/arm64", {"platforms": (Platform.parse("linux/arm64"),)}),
    ("--platform linux/arm64,linux/s390x --platform linux/arm64",
     {"platforms": (Platform.parse("linux/arm64"), Platform.parse("linux/s390x"))}),
    ("--arch arm --variant v6", {"platforms": (Platform.parse("linux/arm/v6"),)}),
    ("--os windows", {"platforms": "windows"}),
    ("--override-arch s390x", {"platforms": (Platform.parse("linux/s390x"),)}),
    ("--override-os windows", {"platforms": "windows"}),
    ("--variant v9", {"platforms": "v9"}),
    ("--pull", {"pull": "always"}),
    ("--pull=always", {"pull": "always"}),
    ("--pull=true", {"pull": "always"}),
    ("--pull=newer", {"pull": "newer"}),
    ("--pull=ifnewer", {"pull": "newer"}),
    ("--pull=never", {"pull": "never"}),
    ("--pull=false", {"pull": "never"}),
    ("--pull=missing", {"pull": "missing"}),
    ("--pull-always", {"pull": "always"}),
    ("--pull-never", {"pull": "never"}),
    ("--save-stages", {"save_stages": True}),
    ("--save-stages --stage-labels", {"save_stages": True, "stage_labels": True}),
    ("--secret id=s,src=secret", {"secrets": "secret"}),
    ("--skip-unused-stages=false", {"skip_unused_stages": False}),
    ("--squash", {"squash": "new"}),
    ("--squash-all", {"squash": "all"}),
    ("--ssh k=secret", {"ssh": "secret"}),
    ("--target t", {"target": "t"}),
    ("--allow security.insecure", {"allow_insecure": True}),
    ("--allow network.host", {}),
]  # fmt: skip
CACHE: list[tuple[str, dict[str, Any]]] = [
    ("--no-cache", {"enabled": False}),
    ("--no-cache=false", {"enabled": True}),
    ("--cache-ttl 90m", {"ttl": 5400.0}),
    ("--cache-ttl 0", {"ttl": 0.0, "enabled": False}),
    ("--cache-ttl=0s", {"ttl": 0.0, "enabled": False}),
    ("--cache-from a/b,c/d --cache-from e/f", {"sources": ("a/b,c/d", "e/f")}),
    ("--cache-from type=registry,ref=a/b", {"sources": ("type=registry,ref=a/b",)}),
    ("--cache-to a/b", {"targets": ("a/b",)}),
    ("--cache-to oci:dir --cache-to oci:dir", {"targets": ("oci:dir",)}),
]
STAMPS: list[tuple[str, dict[str, Any]]] = [
    ("--timestamp 0", {"timestamp": 0}),
    ("--source-date-epoch 1700000000", {"source_date_epoch": 1700000000}),
    ("--source-date-epoch 5 --rewrite-timestamp", {"source_date_epoch": 5, "rewrite": True}),
]
EDITS: list[tuple[str, dict[str, Any]]] = [
    ("--annotation a=b", {"annotations": (("a", "b"),)}),
    ("--annotation a", {"annotations": (("a", ""),)}),
    ("--created-annotation=false", {"created_annotation": False}),
    ("--env A=b", {"env": ("A=b",)}),
    ("--env UNSET_ANYWHERE", {"env": ()}),
    ("--identity-label=false", {"identity_label": False}),
    ("--inherit-annotations=false", {"inherit_annotations": False}),
    ("--inherit-labels=false", {"inherit_labels": False}),
    ("--label a=b=c,d --label e", {"labels": (("a", "b=c,d"), ("e", ""))}),
    ("--label a=1 --label a=2", {"labels": (("a", "2"),)}),
    ("--omit-history", {"omit_history": True}),
    ("--os-feature win32k --os-feature other-", {"os_features": ("win32k", "other-")}),
    ("--os-version 10.0", {"os_version": "10.0"}),
    ("--unsetannotation a,b", {"unset_annotations": ("a", "b")}),
    ("--unsetenv A --unsetenv B", {"unset_env": ("A", "B")}),
    ("--unsetlabel a", {"unset_labels": ("a",)}),
]
STEPS: list[tuple[str, dict[str, Any]]] = [
    ("--add-host a:1.2.3.4", {"add_hosts": ("a:1.2.3.4",)}),
    ("--add-host a:1.2.3.4,b:host-gateway", {"add_hosts": ("a:1.2.3.4", "b:host-gateway")}),
    ("--cap-add SYS_PTRACE,CHOWN", {"cap_add": ("SYS_PTRACE", "CHOWN")}),
    ("--cap-drop ALL", {"cap_drop": ("ALL",)}),
    ("--cgroupns private", {}),
    ("--ipc container", {}),
    ("--pid private", {}),
    ("--uts private", {}),
    ("--cpu-period 50000", {"cpu_period": 50000}),
    ("--cpu-quota 20000", {"cpu_quota": 20000}),
    ("--cpu-quota=-1", {"cpu_quota": None}),
    ("--cpu-shares 512", {"cpu_shares": 512}),
    ("-c 0", {"cpu_shares": None}),
    ("--cpuset-cpus 0-1", {"cpuset_cpus": "0-1"}),
    ("--cpuset-mems 0", {"cpuset_mems": "0"}),
    ("--device /dev/null:/dev/zero2:r", {"devices": ("/dev/null:/dev/zero2:r",)}),
    ("--dns 1.1.1.1,8.8.8.8", {"dns": ("1.1.1.1", "8.8.8.8")}),
    ("--dns none", {"dns": ("none",)}),
    ("--dns-option ndots:1", {"dns_options": ("ndots:1",)}),
    ("--dns-search example.com", {"dns_search": ("example.com",)}),
    ("--group-add 5,audio", {"group_add": ("5", "audio")}),
    ("--memory 64m", {"memory": 64 << 20}),
    ("-m 64m --memory-swap 1g", {"memory": 64 << 20, "memory_swap": 1 << 30}),
    ("-m 64m --memory-swap=-1", {"memory": 64 << 20, "memory_swap": -1}),
    ("--network host", {"network": "host"}),
    ("--net none", {"network": "none"}),
    ("--network container", {"network": "private"}),
    ("--network default", {"network": ""}),
    ("--no-hostname", {"no_hostname": True}),
    ("--no-hosts", {"no_hosts": True}),
    ("--security-opt seccomp=unconfined", {"security_opt": ("seccomp=unconfined",)}),
    ("--shm-size 1g", {"shm_size": 1 << 30}),
    ("--stdin", {"stdin": True}),
    ("--ulimit nofile=10:20", {"ulimits": (("RLIMIT_NOFILE", 10, 20),)}),
    ("--ulimit nproc=1,core=-1:-1",
     {"ulimits": (("RLIMIT_NPROC", 1, 1), ("RLIMIT_CORE", (1 << 64) - 1, (1 << 64) - 1))}),
    ("-v /a:/b:ro", {"volumes": ("/a:/b:ro",)}),
    ("--volume ./a:/b", {"volumes": "relative"}),
]  # fmt: skip
RESULT: list[tuple[str, dict[str, Any]]] = [
    ("--tag a -t docker://h/b", {"tags": ("a", "docker://h/b")}),
    ("--manifest m", {"manifest": "m"}),
    ("--push -t h.x/a", {"push": True, "tags": ("h.x/a",)}),
    (
        "--output type=local,dest=o -o -",
        {"outputs": (Export(kind="local", dest="o"), Export(kind="tar", dest="-"))},
    ),
    ("--sbom true", {"attest": AttestOptions(sbom=True)}),
    (
        "--sbom=spdx --sbom-output f --sbom-purl-output g",
        {"attest": AttestOptions(sbom=True, sbom_file="f", purl_file="g")},
    ),
    ("--sbom=false", {}),
    ("--provenance true", {"attest": AttestOptions(provenance=ProvenanceOptions())}),
    (
        "--provenance=mode=max,version=v0.2 --attest-style index",
        {
            "attest": AttestOptions(
                provenance=ProvenanceOptions(mode="max", version="v0.2"), style="index"
            )
        },
    ),
    ("--provenance=false --attest type=provenance", {}),
    (
        "--attest type=sbom --attest type=provenance,mode=min",
        {"attest": AttestOptions(sbom=True, provenance=ProvenanceOptions())},
    ),
    ("--attest type=sbom,disabled=true", {}),
    ("--iidfile i", {"id_file": "i"}),
    ("--iidfile-raw i", {"raw_id_file": "i"}),
    ("--raw-iidfile i", {"raw_id_file": "i"}),
    ("--metadata-file m", {"metadata_file": "m"}),
    ("--compression-format zstd", {"form": Form(compression="zstd", force=True)}),
    ("--compression-format gzip --force-compression=false", {"form": Form(compression="gzip")}),
    ("--compression-level 3", {"form": Form(level=3)}),
    ("--force-compression", {"form": Form(force=True)}),
    ("--retry 0", {"retry": 0}),
    ("--retry-delay 1m30s", {"retry_delay": 90.0}),
]
LOG: list[tuple[str, dict[str, Any]]] = [
    ("--progress plain", {"progress": "plain"}),
    ("--progress=rawjson", {"progress": "json"}),
    ("--progress tty", {}),
    ("--progress quiet", {"quiet": True}),
    ("--quiet", {"quiet": True}),
    ("--logfile l --logsplit", {"file": "l", "split": True}),
]
REQUEST: list[tuple[str, dict[str, Any]]] = [
    ("--isolation chroot", {"isolation": "chroot"}),
    ("--isolation OCI", {"isolation": None}),
    ("--isolation rootless", {"isolation": None}),
    ("--isolation auto", {"isolation": None}),
    ("--isolation userns", {"isolation": "userns"}),
    ("--userns private", {"isolation": "userns"}),
    ("--userns host", {"isolation": "root"}),
    ("--userns private --isolation single", {"isolation": "single"}),
    ("--dry-run", {"mode": "plan"}),
    ("--check", {"mode": "check"}),
]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command line is run; nothing of this process's environment counts."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "args").write_text("# a comment\n\nFROM_FILE=a=b\nX=1\n")
    (tmp_path / "secret").write_text("a secret")
    rules = [{"action": "DENY", "selector": {"identifier": "*"}}]
    (tmp_path / "policy").write_text(json.dumps({"rules": rules}))
    return tmp_path


def asked(monkeypatch: pytest.MonkeyPatch, directory: Path, *words: str) -> BuildRequest:
    """What a command line that has to be right asks for."""
    found = requests(monkeypatch)
    assert run(directory, *words) == 0
    return found[0]


def expected(directory: Path, part: str, changes: dict[str, Any]) -> BuildRequest:
    """The request of a command line without options, changed in one part."""
    special: dict[Any, Any] = {
        "secret": {
            "secrets": (SecretSource(id="s", file=str(directory / "secret")),),
            "ssh": (SshSource(id="k", keys=(str(directory / "secret"),)),),
        },
        "relative": {"volumes": (f"{directory}/a:/b",)},
    }
    changes = {
        name: special[value][name] if isinstance(value, str) and value in special else value
        for name, value in changes.items()
    }
    build = BuildOptions(context=str(directory))
    build = replace(build, edits=replace(build.edits, created_annotation=True))
    request = BuildRequest(build=build)
    match part:
        case "request":
            return replace(request, **changes)
        case "log":
            return replace(request, log=replace(LogOptions(), **changes))
        case "result":
            return replace(request, result=replace(ResultOptions(), **changes))
        case "build":
            return replace(request, build=replace(build, **changes))
    inner = replace(getattr(build, part), **changes)
    build = replace(build, **{part: inner})
    return replace(request, build=build)


PARTS = {"build": BUILD, "cache": CACHE, "stamps": STAMPS, "edits": EDITS, "host": STEPS,
         "result": RESULT, "log": LOG, "request": REQUEST}  # fmt: skip
CASES = [(part, words, changes) for part, rows in PARTS.items() for words, changes in rows]


@pytest.mark.parametrize(("part", "words", "changes"), CASES, ids=[case[1] for case in CASES])
def test_an_option_changes_what_is_asked_for(
    part: str,
    words: str,
    changes: dict[str, Any],
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each with its example; nothing else changes."""
    found = asked(monkeypatch, directory, *words.split())
    if changes.get("platforms") == "windows":
        assert [p.os for p in found.build.platforms] == ["windows"]
    elif changes.get("platforms") == "v9":
        assert [p.variant for p in found.build.platforms] == ["v9"]
    else:
        assert found == expected(directory, part, changes)


def test_every_option_of_buildah_works_or_is_meaningless_or_is_refused() -> None:
    """In exactly one of the three; and what is said to work has an example above."""
    known = {name for p in command.params for name in p.opts} | {"--help"}
    assert [name for name in BUILDAH if f"--{name}" not in known] == []
    assert [short for short in SHORT if short not in known | {"-h"}] == []
    assert not set(MEANINGLESS) & set(REFUSED)
    examples = {word.partition("=")[0] for _, words, _ in CASES for word in words.split()}
    odd = {*MEANINGLESS, *REFUSED}
    working = [f"--{name}" for name in BUILDAH if f"--{name}" not in odd and name not in ELSEWHERE]
    aliases = {
        name: {*p.opts} for p in command.params for name in p.opts if not p.opts[0].islower()
    }
    assert [name for name in working if not aliases.get(name, {name}) & examples] == []
    assert not examples & odd


def options_of_buildah() -> dict[str, bool]:
    """The options that the buildah of this machine has, and whether each has a value."""
    done = subprocess.run(["buildah", "build", "--help"], capture_output=True, check=True)
    found = re.findall(
        r"^ +(?:-\w, )?--([a-z0-9-]+) (?:(\S[^\n]*?)  )?", done.stdout.decode(), re.M
    )
    # What has a value of its own where none is given, takes no word behind it.
    return {f"--{name}": bool(value) and "[=" not in value for name, value in found}


def test_the_list_has_what_buildah_says_of_itself() -> None:
    """And whoever gives an option a value there does here, so that no word is taken for one."""
    theirs = options_of_buildah()
    assert len(theirs) > 80
    assert [name for name in theirs if name.removeprefix("--") not in BUILDAH] == []
    ours = {name: p for p in command.params if isinstance(p, click.Option) for name in p.opts}
    different = [
        name
        for name, valued in theirs.items()
        if name in ours and valued != (ours[name].nargs == 1 and not takes_no_value(ours[name]))
    ]
    assert different == []


def takes_no_value(option: click.Option) -> bool:
    """Whether the next word is not the option's: a flag, a boolean, one with a value that is
    given behind = alone."""
    return option.is_flag or isinstance(option, GoBool) or option.name == "pull"


@pytest.mark.parametrize("name", sorted(MEANINGLESS))
def test_an_option_without_meaning_is_accepted(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes nothing, as boolean or with a value, and is not in --help."""
    odd = MEANINGLESS[name]
    for spelling in (name, *odd.names):
        words = [spelling] if odd.boolean else [spelling, "value"]
        assert asked(monkeypatch, directory, *words) == expected(directory, "request", {})


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_option_that_is_not_supported_is_refused(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its name and the reason; a boolean may be given as false."""
    found = requests(monkeypatch)
    odd = REFUSED[name]
    assert run(directory, *([name] if odd.boolean else [name, "value"])) == 125
    assert found == []
    assert capsys.readouterr().err == f"imgtools: {name} is not supported ({odd.why})\n"
    if odd.boolean:
        assert run(directory, f"{name}=false") == 0


def test_every_option_is_in_the_documentation() -> None:
    """By its first name; those of all verbs and of registries have pages of their own."""
    text = (Path(__file__).parents[2] / "docs/build.md").read_text(encoding="utf-8")
    elsewhere = {"--username", "--password", "--registry-token", "--no-creds", "--daemon-host"}
    elsewhere |= {option.opts[0] for option in global_options()} - {"--jobs"}
    old = {"--pull-always", "--pull-never", "--signature-policy"}
    names = [p.opts[0] for p in command.params if isinstance(p, click.Option)]
    missing = [
        name
        for name in names
        if name not in elsewhere | old and f"`{name}" not in text and f", {name}" not in text
    ]
    assert [name for name in missing if not name.startswith(("--sbom-", "--sign-"))] == []
