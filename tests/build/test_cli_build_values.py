"""Wrong values of `build`'s options, contradictions, the environment, and what secrets, agents
and arguments are read from."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from imgtools.build.options import SecretSource, SshSource
from imgtools.cli import build_values as values
from imgtools.errors import InvalidInput
from tests.build.cli_request import requests, run
from tests.build.test_cli_build_options import asked, directory

__all__ = ["directory"]

WRONG = [
    ("--format tar", "format 'tar': expected oci or docker"),
    ("--pull=sometimes", "--pull sometimes: expected always, missing, newer or never"),
    ("--pull --pull-never", "only one of --pull, --pull-always and --pull-never can be given"),
    ("--platform linux/arm64 --arch arm", "--platform cannot be given with --os, --arch or"),
    ("--platform a/b/c/d/e", "a/b/c/d/e"),
    ("--build-arg =x", "build argument '=x' has no name"),
    ("--build-arg-file nothing", "--build-arg-file nothing: no such file or directory"),
    ("--build-context x", "--build-context 'x': expected NAME=PLACE"),
    ("--build-context =x", "--build-context '=x': expected NAME=PLACE"),
    ("--label =x", "--label '=x' has no name"),
    ("--annotation =x", "--annotation '=x' has no name"),
    ("--secret src=secret", "--secret src=secret: there is no id="),
    ("--secret id=s,src=nothing", "secret s: nothing is not a file that is there"),
    ("--secret id=s,env=UNSET_ANYWHERE", "secret s: the variable UNSET_ANYWHERE is not set"),
    ("--secret id=s,src=secret,env=HOME", "either a file or a variable"),
    ("--secret id=s,type=vault", "type is file or env"),
    ("--secret id=s,mode=1", "unexpected 'mode=1', expected id=, src="),
    ("--secret id", "unexpected 'id'"),
    ("--ssh default", "--ssh default: SSH_AUTH_SOCK is not set (start an agent"),
    ("--ssh =x", "--ssh '=x': expected default"),
    ("--ssh a=nothing", "nothing: no such file or directory"),
    ("--ssh a=.", "is neither a socket nor a key"),
    ("--timestamp 1 --source-date-epoch 2", "cannot be given together"),
    ("--source-date-epoch now", "--source-date-epoch 'now': expected whole seconds since 1970"),
    ("--timestamp x", "Invalid value for '--timestamp'"),
    ("--cache-ttl soon", "invalid duration 'soon'"),
    ("--cache-from type=gha", "a cache of type gha is not supported"),
    ("--cache-to type=registry", "ref is missing"),
    ("--cache-to a:tag", "a cache is a repository, without tag or digest (give "),
    ("--cache-from a --layers=false", "--cache-from and --cache-to need --layers"),
    ("--compression-format bzip2", "--compression-format 'bzip2': expected gzip or zstd"),
    ("--compression-format zstd:chunked", "zstd:chunked is not supported (use zstd)"),
    ("--compression-level 10", "--compression-level 10: expected 1 to 9"),
    ("--compression-format zstd --compression-level 21", "expected 1 to 20"),
    ("--progress fast", "progress 'fast': expected auto, plain or json"),
    ("--logsplit", "--logsplit needs --logfile"),
    ("--dry-run --check", "--dry-run and --check cannot be given together"),
    ("--isolation trace", "--isolation trace is not supported by this version"),
    ("--userns auto", "--userns auto is not supported (use private, or host, or leave it out)"),
    ("--userns /proc/1/ns/user", "is not supported"),
    ("--isolation chroot --userns private", "contradict each other"),
    ("--isolation ranges --userns host", "contradict each other"),
    ("--cgroupns host", "--cgroupns host is not supported (it is always private)"),
    ("--ipc host", "--ipc host is not supported"),
    ("--pid host", "--pid host is not supported"),
    ("--uts /proc/1/ns/uts", "--uts /proc/1/ns/uts is not supported"),
    ("--network ns:/proc/1/ns/net", "the network of something else cannot be joined (use host)"),
    ("--network none --dns 1.1.1.1", "--dns cannot be given with --network none"),
    ("--network none --dns-search a", "--dns-search cannot be given with --network none"),
    ("--dns none --dns 1.1.1.1", "--dns none cannot be given with other settings"),
    ("--dns none --dns-option ndots:1", "--dns none cannot be given with other settings"),
    ("--no-hosts --add-host a:1.1.1.1", "--no-hosts and --add-host cannot be given together"),
    ("--memory lots", "--memory lots: expected a size such as 512m"),
    ("--memory-swap 1g", "--memory-swap needs --memory"),
    ("--memory 1g --memory-swap 1m", "--memory-swap is memory and swap together"),
    ("--shm-size 0", "--shm-size has to be more than nothing"),
    ("--ulimit nofile", "--ulimit nofile: expected NAME=SOFT[:HARD]"),
    ("--volume a", "invalid volume 'a'"),
    ("--volume /a:/b:O", "option O"),
    ("--volume /a:/b:U", "option U"),
    ("--network bridge", "--network bridge is not supported (use host, none"),
    ("--network slirp4netns:mtu=1", "--network slirp4netns:mtu=1 is not supported"),
    ("--network some", "--network some: expected host, none"),
    ("--security-opt nope=1", "invalid --security-opt 'nope=1'"),
    ("--security-opt label=type:x_t", "SELinux labels are not made here"),
    ("--cap-add NOPE", "unknown capability 'NOPE'"),
    ("--cap-add CHOWN --cap-drop CHOWN", "is both added and dropped"),
    ("--add-host a", "invalid host 'a': expected NAME:ADDRESS"),
    ("--add-host a:b", "host 'a:b'"),
    ("--group-add keep-groups", "--group-add keep-groups: the caller's groups"),
    ("--device vendor.com/class=name", "invalid device"),
    ("--device null", "invalid device 'null': expected absolute paths"),
    ("--allow all", "--allow all: expected security.insecure or network.host"),
    ("--iidfile i --platform linux/amd64,linux/arm64", "--iidfile is for one image"),
    ("--metadata-file i --platform linux/amd64,linux/arm64", "--metadata-file is for one image"),
    ("--sbom trivy", "--sbom trivy: scanners' images are not run"),
    ("--sbom syft-spdx", "--sbom syft-spdx: scanners' images are not run"),
    ("--sbom generator=x", "--sbom generator=x: scanners' images are not run"),
    ("--sbom cyclonedx", "--sbom 'cyclonedx': expected true, false or spdx"),
    ("--sbom-output f", "--sbom-output needs --sbom"),
    ("--sbom true --sbom-output f --platform linux/amd64,linux/arm64",
     "--sbom-output is for one image"),
    ("--provenance max", "--provenance 'max': 'max' is not KEY=VALUE"),
    ("--attest mode=max", "--attest 'mode=max': expected type=provenance or type=sbom"),
    ("--attest type=sbom --attest type=sbom", "--attest 'type=sbom': type=sbom is given twice"),
    ("--attest-style x", "--attest-style x: expected referrer or index"),
    ("--all-platforms --platform linux/arm64", "--all-platforms and --platform cannot be"),
    ("--all-platforms --arch arm64", "--all-platforms and --platform cannot be given together"),
    ("--all-platforms -t a", "a name of the store is for one image"),
    ("--stdin -", "--stdin: standard input is the context or a Containerfile already"),
    ("--stage-labels", "--stage-labels needs --save-stages"),
    ("--source-policy-file nothing", "--source-policy-file nothing: no such file"),
    ("--manifest m -t m", "--tag and --manifest cannot be the same name"),
    ("--push", "--push needs a name: add --tag or --manifest"),
    ("-f - -", "standard input can be the context or a Containerfile, and once"),
    ("--jobs=-1", "Invalid value for '--jobs'"),
    ("--nope", "No such option"),
    ("a b", "unexpected extra argument"),
    ("--creds :x", "credentials have no user name"),
    ("--authfile nothing", "credentials file nothing does not exist"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[words for words, _ in WRONG])
def test_what_is_wrong_is_said_in_a_line_with_125(
    words: str,
    message: str,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """buildah's code for everything that is no command's failure."""
    found = requests(monkeypatch)
    assert run(directory, *words.split()) == 125
    out, err = capsys.readouterr()
    assert (out, found) == ("", [])
    assert message.lower() in err.lower()
    assert err.startswith("imgtools: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ["bud", "build-using-dockerfile"])
def test_buildahs_other_names_of_the_verb(
    verb: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the same command."""
    found = requests(monkeypatch)
    assert run(directory, "-t", "a", verb=verb) == 0
    assert found[0].result.tags == ("a",)


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("BUILDAH_FORMAT", "docker", "build.format", "docker"),
        ("BUILDAH_LAYERS", "false", "build.layers", False),
        ("BUILDAH_LAYERS", "0", "build.layers", False),
        ("BUILDAH_LAYERS", "True", "build.layers", True),
        ("BUILDAH_LAYERS", "1", "build.layers", True),
        ("BUILDAH_LAYERS", "", "build.layers", True),
        ("BUILDAH_ISOLATION", "chroot", "isolation", "chroot"),
        ("SOURCE_DATE_EPOCH", "7", "build.stamps.source_date_epoch", 7),
        ("SOURCE_DATE_EPOCH", "", "build.stamps.source_date_epoch", None),
        ("BUILDKIT_PROGRESS", "plain", "log.progress", "plain"),
        ("HTTP_PROXY", "http://p", "build.proxy", {"HTTP_PROXY": "http://p"}),
        ("no_proxy", "a,b", "build.proxy", {"no_proxy": "a,b"}),
        ("all_proxy", "", "build.proxy", {}),
    ],
)
def test_variables_count_where_no_option_is_given(
    name: str,
    value: str,
    field: str,
    expected: object,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of buildah, of reproducible builds, and docker's for progress."""
    monkeypatch.setenv(name, value)
    found: object = asked(monkeypatch, directory)
    for part in field.split("."):
        found = getattr(found, part)
    assert found == expected


@pytest.mark.parametrize(
    ("name", "value", "words", "field", "expected"),
    [
        ("BUILDAH_FORMAT", "docker", "--format oci", "format", "oci"),
        ("BUILDAH_LAYERS", "0", "--layers", "layers", True),
        ("SOURCE_DATE_EPOCH", "7", "--timestamp 8", "stamps.source_date_epoch", None),
        ("SOURCE_DATE_EPOCH", "7", "--source-date-epoch 8", "stamps.source_date_epoch", 8),
        ("SOURCE_DATE_EPOCH", "7", "--identity-label", "edits.identity_label", True),
        ("HTTP_PROXY", "http://p", "--http-proxy=false", "proxy", {}),
        ("A_VALUE", "1", "--build-arg A_VALUE", "build_args", {"A_VALUE": "1"}),
        ("A_VALUE", "1", "--env A_VALUE", "edits.env", ("A_VALUE=1",)),
        ("A_VALUE_XY", "1", "--env A_VALUE_*", "edits.env", ("A_VALUE_XY=1",)),
    ],
)
def test_options_count_more_than_variables_and_may_take_their_values(
    name: str,
    value: str,
    words: str,
    field: str,
    expected: object,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with buildah."""
    monkeypatch.setenv(name, value)
    found: object = asked(monkeypatch, directory, *words.split()).build
    for part in field.split("."):
        found = getattr(found, part)
    assert found == expected


def test_a_wrong_epoch_in_the_environment_is_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not the user's option that is wrong."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    requests(monkeypatch)
    assert run(directory) == 125
    assert "SOURCE_DATE_EPOCH 'yesterday'" in capsys.readouterr().err


def test_another_runtime_is_warned_about(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be set for buildah; nobody shall believe that it is used."""
    monkeypatch.setenv("BUILDAH_RUNTIME", "/usr/bin/runc")
    (warning,) = asked(monkeypatch, directory).warnings
    assert warning.startswith("BUILDAH_RUNTIME is not used")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id=s,src=file", SecretSource(id="s", file="file")),
        ("id=s,source=file", SecretSource(id="s", file="file")),
        ("type=file,id=s,src=file", SecretSource(id="s", file="file")),
        ("id=file", SecretSource(id="file", file="file")),
        ("id=s,env=TOKEN", SecretSource(id="s", value=b"from the environment\xff")),
        ("id=s,type=env,src=TOKEN", SecretSource(id="s", value=b"from the environment\xff")),
        ("id=TOKEN", SecretSource(id="TOKEN", value=b"from the environment\xff")),
        ("id=TOKEN,src=file", SecretSource(id="TOKEN", file="file")),
        ('id=s,"src=a,b"', SecretSource(id="s", file="a,b")),
    ],
)
def test_secrets(text: str, expected: SecretSource, directory: Path) -> None:
    """Of a file or a variable, as buildah guesses where nothing is said."""
    for name in ("file", "a,b"):
        (directory / name).touch()
    found = values.secrets([text], {"TOKEN": "from the environment\udcff"})
    path = str(directory / expected.file) if expected.file else ""
    assert found == (SecretSource(id=expected.id, file=path, value=expected.value),)
    assert "environment" not in repr(found)


def test_agents_and_keys(directory: Path) -> None:
    """A socket is an agent's, files are keys; the last of an id counts."""
    for name in ("key1", "key2"):
        (directory / name).touch()
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind("agent")
        env = {"SSH_AUTH_SOCK": str(directory / "agent")}
        where = str(directory)
        assert values.ssh_sources(["default"], env) == (
            SshSource(id="default", socket=f"{where}/agent"),
        )
        assert values.ssh_sources(["a=agent", "b=key1,key2", "a=key2"], env) == (
            SshSource(id="a", keys=(f"{where}/key2",)),
            SshSource(id="b", keys=(f"{where}/key1", f"{where}/key2")),
        )
        with pytest.raises(InvalidInput, match="either one socket, or keys"):
            values.ssh_sources(["a=agent,key1"], env)
        assert os.path.exists("agent")


def test_a_file_of_arguments_is_not_read_without_end(directory: Path) -> None:
    """It is one line of arguments each, not an image."""
    (directory / "large").write_bytes(b"A=" + bytes(values.MAX_ARG_FILE))
    with pytest.raises(InvalidInput, match="is larger than 1048576 bytes"):
        values.build_args(["large"], [], {})


def test_the_context_is_the_current_directory_by_default(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything else is taken as it is: what it means is found out when it is opened."""
    assert asked(monkeypatch, directory).build.context == str(directory)
    for word in ("-", ".", "https://h/x.git#main:sub"):
        assert asked(monkeypatch, directory, word).build.context == word


@pytest.mark.parametrize("text", ["253402300800", "999999999999", "-62135596801"])
def test_times_that_cannot_be_written_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="years 1 to 9999"):
        values.seconds(text, "--timestamp")
