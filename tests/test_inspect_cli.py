"""inspect, list-tags, manifest-digest and diff on the command line, held against skopeo."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgtools.cli.main import run
from imgtools.cli.settings import Settings
from imgtools.cli.state import Cli
from imgtools.spec.platform import Platform
from tests.inspect_doubles import sha256, tar_of
from tests.rig import LoggingProxy, RegistryServer, Reply, RunCli

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
Call = Callable[..., tuple[int, str, str]]

KINDS = (
    "annotations", "docker", "docker-list", "empty-layer", "foreign", "index", "nested-index",
    "oci", "oci-uncompressed", "oci-zstd", "repeated", "schema1", "zero-layers",
)  # fmt: skip


@pytest.fixture
def call(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Call:
    """call("inspect", ...) runs the command line in this process: code, stdout, stderr."""
    settings = Settings(
        tmpdir=str(tmp_path), host=Platform(os="linux", architecture="amd64"), cache_dir=None
    )

    def invoke(*arguments: str | Path) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = run([str(argument) for argument in arguments], Cli(settings=settings))
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return invoke


@pytest.mark.parametrize("kind", KINDS)
def test_inspect_prints_what_skopeo_prints(
    call: Call, skopeo: Skopeo, images_dir: Path, kind: str
) -> None:
    name = f"dir:{images_dir}/dir/{kind}"
    code, out, err = call("inspect", name)
    assert (code, err) == (0, "")
    value = json.loads(out)
    # Debian's skopeo is older than this field.
    assert [layer["Digest"] for layer in value.pop("LayersData")] == value["Layers"]
    theirs = skopeo("inspect", name).stdout
    assert json.dumps(value, indent=4, ensure_ascii=False) + "\n" == theirs
    for flags in (["--config"], ["--raw"], ["--raw", "--config"]):
        assert call("inspect", *flags, name) == (0, skopeo("inspect", *flags, name).stdout, "")


@pytest.mark.parametrize(
    "template",
    ["{{.Digest}}", "{{.Name}}|{{.Tag}}|{{.Created}}", "{{.Labels}} {{.Env}}", "{{.Layers}}",
     "{{range .Env}}{{.}}\\n{{end}}", "json", "{{.Os}}/{{.Architecture}}"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["oci", "schema1", "zero-layers"])
def test_templates(call: Call, skopeo: Skopeo, images_dir: Path, kind: str, template: str) -> None:
    name = f"dir:{images_dir}/dir/{kind}"
    code, out, err = call("inspect", "--format", template, name)
    theirs = skopeo("inspect", "--format", template, name).stdout
    if template == "json":
        value = json.loads(out)
        del value["LayersData"]
        assert value == json.loads(theirs)
    else:
        assert (code, out, err) == (0, theirs, "")


@pytest.mark.parametrize(
    "template", ["{{.Config.Env}}", "{{.History}}", "{{.OS}} {{.Created}}", "{{.RootFS.DiffIDs}}"]
)
def test_config_templates(call: Call, skopeo: Skopeo, images_dir: Path, template: str) -> None:
    arguments = ("inspect", "--config", "--format", template, f"dir:{images_dir}/dir/oci")
    assert call(*arguments) == (0, skopeo(*arguments).stdout, "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--raw", "--layers"], "--raw and --layers cannot be given together"),
        (["--raw", "--format", "x"], "raw output does not support format option"),
        (["--path", "x"], "--path is for --files"),
        (["--unverified"], "--unverified is for --files and --cat"),
        (["--cat", "x", "--json"], "--json and --cat cannot be given together"),
        (["--override-arch", "s390x"], "linux/arm64"),
        (["--cat", "/etc"], "/etc is a directory"),
        (["--cat", "/none"], "there is no /none in the image"),
        (["--format", "{{.Nope}}"], "Nope"),
    ],
)
def test_errors_are_one_line(
    call: Call, images_dir: Path, arguments: list[str], expected: str
) -> None:
    code, out, err = call("inspect", *arguments, f"oci:{images_dir}:index")
    assert (code, out) == (1, "")
    assert expected in err
    assert err.count("\n") == 1


def test_an_image_that_is_not_there_exits_with_2(call: Call, images_dir: Path) -> None:
    assert call("inspect", f"oci:{images_dir}:nope")[0] == 2


def test_tables_and_their_json(call: Call, images_dir: Path) -> None:
    for flag, count in (("--platforms", 6), ("--layers", 2), ("--referrers", 1)):
        name = f"oci:{images_dir}:nested-index"
        code, out, err = call("inspect", flag, name)
        assert (code, err) == (0, "")
        assert len(out.splitlines()) > count - 1
        assert len(json.loads(call("inspect", flag, "--json", name)[1])) == count


def test_files_and_their_content(call: Call, images_dir: Path) -> None:
    for kind in ("oci-zstd", "oci-uncompressed"):
        name = f"dir:{images_dir}/dir/{kind}"
        flavour = kind.removeprefix("oci-") + "\n"
        assert call("inspect", "--cat", "etc/flavour", name) == (0, flavour, "")
    for kind in ("oci", "docker", "schema1"):
        name = f"dir:{images_dir}/dir/{kind}"
        listed = json.loads(call("inspect", "--files", "--json", name)[1])
        paths = [item["Path"] for item in listed]
        assert "usr/bin/hello" in paths
        assert ("etc/removed-later" in paths) is False
        assert call("inspect", "--cat", "/bin/hi", name)[1] == "#!/bin/sh\necho hello\n"
        assert call("inspect", "--cat", "bin/hi", "--unverified", name)[1].startswith("#!/bin/sh")
        lines = call("inspect", "--files", "--path", "bin/", name)[1].splitlines()
        assert [line.split()[6] for line in lines[1:]] == ["usr/bin/hello", "usr/bin/hi"]
        assert lines[1].startswith("-rwsr-xr-x 0/0")


def test_artifacts_are_shown(call: Call, images_dir: Path) -> None:
    value = json.loads(call("inspect", f"oci:{images_dir}:artifact")[1])
    assert value["ArtifactType"] == "application/vnd.example.greeting.v1"
    code, _, err = call("inspect", "--files", f"oci:{images_dir}:artifact")
    assert (code, "artifact" in err) == (1, True)
    assert call("inspect", "--config", "--raw", f"oci:{images_dir}:artifact")[1] == "{}"


def test_the_algorithm_of_the_digest(call: Call, images_dir: Path) -> None:
    name = f"oci:{images_dir}:oci"
    value = json.loads(call("inspect", "--manifest-digest=sha512", name)[1])
    manifest = (images_dir / "dir/oci/manifest.json").read_bytes()
    assert value["Digest"].startswith("sha512:")
    path = images_dir / "dir/oci/manifest.json"
    assert call("manifest-digest", "--algorithm", "sha512", path)[1] == value["Digest"] + "\n"
    assert call("manifest-digest", path)[1] == sha256(manifest) + "\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"no json", b"{}", b'{"schemaVersion":1}', b'{"schemaVersion":1,"a":1,"a":2}', b"[]"],
)
def test_manifest_digest_of_anything(
    call: Call, skopeo: Skopeo, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "manifest"
    file.write_bytes(content)
    assert call("manifest-digest", file)[1] == skopeo("manifest-digest", file).stdout


def test_manifest_digest_of_signed_manifests(
    call: Call, skopeo: Skopeo, images_dir: Path, tmp_path: Path
) -> None:
    file = images_dir / "dir/schema1/manifest.json"
    assert call("manifest-digest", file)[1] == skopeo("manifest-digest", file).stdout
    bad = tmp_path / "bad"
    bad.write_bytes(b'{"schemaVersion":1,"signatures":[{"protected":"!"}]}')
    large = tmp_path / "large"
    large.write_bytes(bytes(5 << 20))
    for name in (bad, large, tmp_path / "none", tmp_path):
        code, out, err = call("manifest-digest", name)
        assert (code, out, err.count("\n")) == (1, "", 1)


def test_list_tags_of_archives(
    call: Call, skopeo: Skopeo, images_dir: Path, tmp_path: Path
) -> None:
    archive = f"docker-archive:{tmp_path}/a.tar"
    source = f"dir:{images_dir}/dir/docker"
    skopeo("copy", source, f"{archive}:a/b:1", "--additional-tag=example.org/c:2")
    assert call("list-tags", archive) == (0, skopeo("list-tags", archive).stdout, "")
    skopeo("copy", source, f"docker-archive:{tmp_path}/b.tar")
    untagged = f"docker-archive:{tmp_path}/b.tar"
    assert call("list-tags", untagged) == (0, skopeo("list-tags", untagged).stdout, "")
    value = json.loads(call("inspect", f"{archive}:a/b:1")[1])
    assert value["Name"] == "docker.io/a/b"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("oci:x", "Unsupported transport 'oci' for tag listing. Only supported: docker, "),
        ("x", 'Invalid "x": does not specify a transport'),
        ("docker://example.org/a:1", "No tag or digest allowed in reference"),
        ("docker:a", "begin with //"),
    ],
)
def test_list_tags_errors(call: Call, name: str, expected: str) -> None:
    code, out, err = call("list-tags", name)
    assert (code, out) == (1, "")
    assert expected in err


def test_diff(call: Call, images_dir: Path) -> None:
    a, b = f"oci:{images_dir}:oci", f"dir:{images_dir}/dir/docker"
    code, out, _ = call("diff", a, b)
    assert code == 0
    assert "  ~ etc/flavour  size 4 -> 7, content" in out.splitlines()
    assert call("diff", "--exit-code", a, b)[0] == 1
    assert call("diff", "--exit-code", a, a)[0] == 0
    value = json.loads(call("diff", "--json", "--read-shared", a, b)[1])
    assert [item["Path"] for item in value["Files"]] == ["etc/flavour"]
    assert value["FilesComplete"] is True
    assert json.loads(call("diff", "--json", "--no-files", a, b)[1])["Files"] is None
    index = f"oci:{images_dir}:index"
    found = json.loads(call("diff", "--json", "--platform-b", "linux/arm64", index, index)[1])[
        "Config"
    ]
    assert ["architecture"] in [change["Path"] for change in found]
    code, _, err = call("diff", "--no-files", "--read-shared", a, b)
    assert (code, err.count("\n")) == (1, 1)


# --- registries


def flags_of(registry: RegistryServer) -> list[str]:
    return ["--tls-verify=false", f"--creds={registry.username}:{registry.password}"]


def test_a_registry_is_inspected_in_at_most_five_requests(
    call: Call,
    skopeo: Skopeo,
    registry_token: RegistryServer,
    repository: str,
    preload: Any,
    make_proxy: Callable[..., LoggingProxy],
) -> None:
    for tag in ("b", "a"):
        preload(registry_token, "docker", f"{repository}:{tag}")
    proxy = make_proxy(registry_token)
    name = f"docker://{proxy.host}/{repository}:a"
    code, out, err = call("inspect", *flags_of(registry_token), name)
    assert (code, err) == (0, "")
    asked = [(e.path.partition("?")[0].split("/")[-2], e.status) for e in proxy.take()]
    # Tags and manifest are asked for at the same time: one of them is refused, or, where
    # neither waits for the other's token, both.
    assert len(asked) <= 5
    assert sorted(e for e in asked if e[1] == 200) == [
        ("blobs", 200), ("manifests", 200), ("tags", 200),
    ]  # fmt: skip
    refused = [e for e in asked if e[1] != 200]
    assert refused
    assert set(refused) <= {("manifests", 401), ("tags", 401)}
    value = json.loads(out)
    value.pop("LayersData")
    theirs = json.loads(skopeo("inspect", *registry_token.skopeo_flags(), name).stdout)
    theirs["RepoTags"].sort()
    value["RepoTags"].sort()
    assert value == theirs
    assert value["Name"] == f"{proxy.host}/{repository}"
    proxy.take()
    call("inspect", "--no-tags", *flags_of(registry_token), name)
    assert not [e for e in proxy.take() if "tags" in e.path]


def test_tags_that_are_refused_are_a_warning(
    call: Call, registry_plain: RegistryServer, repository: str, preload: Any, make_proxy: Any
) -> None:
    preload(registry_plain, "oci", f"{repository}:a")

    def no_tags(head: Any) -> Any:
        return Reply(status=403, body=b"{}") if "/tags/" in head.target else None

    proxy = make_proxy(registry_plain, on_request=no_tags)
    name = f"docker://{proxy.host}/{repository}:a"
    code, out, err = call("inspect", "--tls-verify=false", name)
    assert code == 0
    assert json.loads(out)["RepoTags"] == []
    assert err.startswith("imgtools: warning: the tags of the repository cannot be listed")
    assert err.count("\n") == 1
    assert call("list-tags", "--tls-verify=false", f"docker://{proxy.host}/{repository}")[0] == 1


def test_list_tags_of_a_registry(
    call: Call, skopeo: Skopeo, registry_plain: RegistryServer, repository: str, preload: Any
) -> None:
    for tag in ("b", "a", "c"):
        preload(registry_plain, "oci", f"{repository}:{tag}")
    name = f"docker://{registry_plain.host}/{repository}"
    arguments = ("list-tags", "--tls-verify=false", name)
    assert call(*arguments) == (0, skopeo(*arguments).stdout, "")


def test_files_of_a_registry(
    call: Call, registry_plain: RegistryServer, repository: str, preload: Any
) -> None:
    preload(registry_plain, "oci", f"{repository}:a")
    name = f"docker://{registry_plain.host}/{repository}:a"
    assert call("inspect", "--tls-verify=false", "--cat", "etc/flavour", name)[1] == "oci\n"
    out = call("inspect", "--tls-verify=false", "--files", name)[1]
    assert out.splitlines()[-1].endswith(" usr/share/noise")


def test_retries_of_the_whole_operation(
    call: Call, registry_plain: RegistryServer, repository: str, preload: Any, make_proxy: Any
) -> None:
    preload(registry_plain, "oci", f"{repository}:a")
    refused = []

    def flaky(head: Any) -> Any:
        if "/manifests/" in head.target and len(refused) < 2:
            refused.append(head.target)
            return Reply(status=501, body=b"{}")
        return None

    proxy = make_proxy(registry_plain, on_request=flaky)
    name = f"docker://{proxy.host}/{repository}:a"
    flags = ["--no-tags", "--tls-verify=false", "--retry-delay=1ms"]
    assert call("inspect", *flags, "--retry-times=1", name)[0] == 1
    refused.clear()
    assert call("inspect", *flags, "--retry-times=2", name)[0] == 0


def test_a_process_of_its_own(run_cli: RunCli, images_dir: Path) -> None:
    done = run_cli("inspect", "--cat", "etc/flavour", f"oci:{images_dir}:oci", check=True)
    assert (done.stdout, done.stderr) == ("oci\n", "")
    done = run_cli("manifest-digest", "-", input="{}", check=True)
    assert done.stdout.startswith("sha256:44136fa355b3678a")


def test_layers_that_skopeo_made_zstd_chunked(call: Call, skopeo: Skopeo, tmp_path: Path) -> None:
    noise = b"".join(bytes.fromhex(sha256(str(n).encode())[7:]) for n in range(20_000))
    files = {"d": None, "d/small": b"small\n", "d/noise": noise, "zeros": bytes(200_000)}
    (tmp_path / "layer.tar").write_bytes(tar_of({**files, "d/link": "-> noise"}))
    name = f"oci:{tmp_path}/layout:x"
    source = f"tarball:{tmp_path}/layer.tar"
    skopeo("copy", "--dest-compress-format=zstd:chunked", source, name)
    listed = json.loads(call("inspect", "--files", "--json", name)[1])
    # The tables of contents have digests, which streaming would not have computed.
    digests = {item["Path"]: item.get("Digest") for item in listed}
    assert digests["d/noise"] == sha256(noise)
    assert set(digests) == {*files, "d/link"}
    for path, content in (("d/small", b"small\n"), ("zeros", bytes(200_000)), ("d/link", noise)):
        out = tmp_path / "out"
        with out.open("wb") as file:
            subprocess.run(RunCli.command("inspect", "--cat", path, name), stdout=file, check=True)
        assert out.read_bytes() == content


def test_a_plain_look_loads_no_codec(run_cli: RunCli, images_dir: Path) -> None:
    program = (
        "import sys; from imgtools.cli.main import run; from imgtools.cli.state import Cli; "
        "from imgtools.cli.settings import Settings; "
        f"run(['inspect', 'oci:{images_dir}:oci'], Cli(settings=Settings())); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=run_cli.env, capture_output=True, text=True, check=True
    )
    heavy = {
        "zstandard", "isal", "imgtools.blob.tar", "imgtools.blob.compression", "tempfile",
        "imgtools.cli.gotemplate", "imgtools.image.files", "imgtools.copy", "http.client",
    }  # fmt: skip
    assert heavy & set(done.stderr.split()) == set()
