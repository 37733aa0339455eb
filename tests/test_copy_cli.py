"""`imgtools copy` from the command line: between real registries, layouts and directories.

Requests are counted at a proxy; their number is what a mirror pays for each tag, each night.
"""

from __future__ import annotations

import filecmp
import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgtools.spec.digest import Digest
from tests.rig import LoggingProxy, RegistryServer, RunCli

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")


def assert_same_files(one: Path, other: Path) -> None:
    """Both directories have the same files with the same bytes."""
    found = filecmp.dircmp(one, other)
    assert (found.left_only, found.right_only) == ([], [])
    _, different, strange = filecmp.cmpfiles(one, other, found.common_files, shallow=False)
    assert (different, strange) == ([], [])


def kinds(proxy: LoggingProxy) -> Counter[str]:
    """The exchanges since the last call, counted by method and what they are about."""
    words = ("manifests", "blobs/uploads", "blobs")
    return Counter(
        f"{e.method} {next((w for w in words if f'/{w}/' in e.path), e.path)}" for e in proxy.take()
    )


@pytest.mark.parametrize(
    "kind",
    ["index", "nested-index", "docker-list", "artifact", "zero-layers", "oci-zstd"],
)
def test_there_and_back(
    kind: str,
    run_cli: RunCli,
    images_dir: Path,
    registry_plain: RegistryServer,
    repository: str,
    tmp_path: Path,
) -> None:
    """Through a registry, every byte comes back."""
    name = f"docker://{registry_plain.host}/{repository}:1"
    original = images_dir / "dir" / kind
    run_cli("copy", "-a", "--dest-tls-verify=false", f"dir:{original}", name, check=True)
    done = run_cli("copy", "-a", "--src-tls-verify=false", name, f"dir:{tmp_path}/back", check=True)
    assert done.stdout == ""
    assert done.stderr.startswith(f"copied {name} -> dir:{tmp_path}/back: sha256:")
    assert_same_files(original, tmp_path / "back")


def test_schema1_passes_through_a_registry(
    run_cli: RunCli,
    images_dir: Path,
    registry_plain: RegistryServer,
    repository: str,
    tmp_path: Path,
) -> None:
    """By its digest, that of what was signed: this registry puts a signature of its own."""
    name = f"docker://{registry_plain.host}/{repository}:1"
    there = run_cli(
        "copy", "--dest-tls-verify=false", f"dir:{images_dir}/dir/schema1", name, check=True
    )
    back = run_cli("copy", "--src-tls-verify=false", name, f"dir:{tmp_path}/back", check=True)
    assert there.stderr.split(": ")[1].split()[0] == back.stderr.split(": ")[1].split()[0]
    converted = run_cli(
        "copy", "-f", "oci", "--src-tls-verify=false", name, f"oci:{tmp_path}/out:1", check=True
    )
    assert " -> sha256:" in converted.stderr


def test_requests_of_a_mirror(
    run_cli: RunCli,
    images_dir: Path,
    registry_plain: RegistryServer,
    make_proxy: Callable[..., LoggingProxy],
    repository: str,
) -> None:
    """First copy, unchanged tag, another tag, another repository."""
    proxy = make_proxy(registry_plain)
    first = f"docker://{proxy.host}/{repository}"

    def copy(*arguments: str) -> Counter[str]:
        run_cli("copy", "-a", *PLAIN, *arguments, check=True)
        return kinds(proxy)

    new = copy(f"dir:{images_dir}/dir/index", f"{first}:1")
    assert new["POST blobs/uploads"] == new["PUT blobs/uploads"] == 11
    assert (new["HEAD manifests"], new["PUT manifests"], new["HEAD blobs"]) == (1, 6, 0)
    warm = copy(f"dir:{images_dir}/dir/index", f"{first}:1")
    assert warm["HEAD manifests"] == warm.total() - warm["GET /v2/"] == 1
    tagged = copy(f"{first}:1", f"{first}:2")
    assert (tagged["PUT manifests"], tagged["POST blobs/uploads"]) == (1, 0)
    mounted = copy(f"{first}:1", f"{first}/other:1")
    assert mounted["POST blobs/uploads"] == 11
    assert mounted["GET blobs"] == mounted["PUT blobs/uploads"] == 0


def test_skopeo_reads_what_was_converted(
    run_cli: RunCli,
    images_dir: Path,
    registry_plain: RegistryServer,
    repository: str,
    skopeo: Skopeo,
    tmp_path: Path,
) -> None:
    """Each format and compression, verified by another implementation."""
    for number, flags in enumerate(
        (
            ["-f", "v2s2"],
            ["--dest-compress-format", "zstd", "--dest-compress-level", "9"],
            ["--multi-arch", "linux/amd64,linux/arm64"],
            ["--platform", "linux/arm64"],
        )
    ):
        name = f"docker://{registry_plain.host}/{repository}:{number}"
        source = images_dir / "dir" / ("oci" if number < 2 else "index")
        done = run_cli("copy", *flags, "--dest-tls-verify=false", f"dir:{source}", name, check=True)
        if number < 3:
            assert "imgtools: info: manifest sha256:" in done.stderr
            assert " -> sha256:" in done.stderr
        every = ["--all"] if number == 2 else []
        skopeo("copy", *every, "--src-tls-verify=false", name, f"dir:{tmp_path}/{number}")


def test_archives_keep_their_layers(
    run_cli: RunCli, images_dir: Path, tmp_path: Path, skopeo: Skopeo
) -> None:
    """oci -> docker-archive -> oci: the layers are compressed again, their content is the same."""
    archive, layout = f"docker-archive:{tmp_path}/a.tar:app:1", f"oci:{tmp_path}/out:1"
    source = f"dir:{images_dir}/dir/oci"
    run_cli("copy", source, archive, check=True)
    run_cli("copy", archive, layout, check=True)
    skopeo("inspect", archive)

    def diff_ids(name: str) -> Any:
        text = run_cli("inspect", "--config", name, check=True).stdout
        return json.loads(text)["rootfs"]["diff_ids"]

    assert diff_ids(source) == diff_ids(layout)
    manifest = json.loads(run_cli("inspect", "--raw", layout, check=True).stdout)
    assert all(layer["mediaType"].endswith("gzip") for layer in manifest["layers"])
    plan = run_cli("copy", "--dry-run", "--dest-oci-accept-uncompressed-layers", archive,
                   f"oci:{tmp_path}/plain:1", check=True)  # fmt: skip
    assert "layer types corrected" in plan.stdout


def test_referrers(
    run_cli: RunCli,
    images_dir: Path,
    registry_plain: RegistryServer,
    repository: str,
    tmp_path: Path,
) -> None:
    """What refers to an image goes where the image goes."""
    layout = f"oci:{images_dir}:referrer-image"
    name = f"docker://{registry_plain.host}/{repository}:1"
    run_cli("copy", "--referrers", "--dest-tls-verify=false", layout, name, check=True)
    shown = run_cli("inspect", "--referrers", "--tls-verify=false", name, check=True).stdout
    assert shown == run_cli("inspect", "--referrers", layout, check=True).stdout
    again = run_cli("copy", "--referrers", "--dest-tls-verify=false", layout, name, check=True)
    assert again.stderr.startswith("up to date: ")
    refused = run_cli("copy", "--referrers", layout, f"dir:{tmp_path}/d")
    assert refused.returncode == 1
    assert "cannot hold referrers" in refused.stderr


def test_digest_file_and_json(run_cli: RunCli, images_dir: Path, tmp_path: Path) -> None:
    """The digest as stored; events and the result one JSON object a line."""
    file = tmp_path / "digest"
    done = run_cli("copy", "--json", "--digestfile", file, f"dir:{images_dir}/dir/docker",
                   "-f", "oci", f"oci:{tmp_path}/out:1", check=True)  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines].count("result") == 1
    result = lines[-1]
    assert (result["event"], result["bytesMoved"] > 0) == ("result", True)
    started = {line["item"]: line["total"] for line in lines if line["event"] == "started"}
    for item, total in started.items():
        moved = [x["amount"] for x in lines if x["event"] == "advanced" and x["item"] == item]
        assert sum(moved) == total
    assert file.read_text() == result["digest"]
    (manifest,) = result["manifests"]
    assert manifest["digest"] != manifest["oldDigest"]
    assert manifest["changes"] == ["v2s2 -> oci"]
    device = run_cli("copy", "-q", "--digestfile", "/dev/stdout", f"dir:{images_dir}/dir/docker",
                     f"dir:{tmp_path}/d", check=True)  # fmt: skip
    assert device.stdout == result["manifests"][0]["oldDigest"]
    raw = run_cli("inspect", "--raw", f"oci:{tmp_path}/out:1", check=True).stdout
    assert str(Digest.of(raw.encode())) == result["digest"]


def test_dry_run_does_nothing(run_cli: RunCli, images_dir: Path, tmp_path: Path) -> None:
    """And prints the plan, as text or JSON."""
    arguments = ("copy", "--dry-run", "-a", f"dir:{images_dir}/dir/index", f"oci:{tmp_path}/out:1")
    text = run_cli(*arguments, check=True).stdout
    assert text.startswith(
        f"copy dir:{images_dir}/dir/index -> oci:{tmp_path}/out:1\n  6 manifests"
    )
    value = json.loads(run_cli(*arguments, "--json", check=True).stdout)
    assert len(value["manifests"]) == 6
    assert not (tmp_path / "out").exists()


def test_quiet(run_cli: RunCli, images_dir: Path, tmp_path: Path) -> None:
    """Nothing at all."""
    done = run_cli("copy", "-q", f"dir:{images_dir}/dir/oci", f"dir:{tmp_path}/d", check=True)
    assert (done.stdout, done.stderr) == ("", "")


WRONG = [
    (["--all", "--multi-arch", "all"], "--all and --multi-arch cannot be given together"),
    (["--all", "--platform", "linux/amd64"], "--all and --platform cannot be given together"),
    (["--sparse"], "--sparse needs a list of platforms"),
    (["--sparse", "--platform", "linux/amd64"], "--sparse needs a list of platforms"),
    (["--multi-arch", "amd64"], "the architecture is missing"),
    (["--dest-compress", "--dest-decompress"], "cannot be given together"),
    (["--dest-compress-format", "lzma"], "unknown compression format 'lzma'"),
    (["--dest-compress-format", "zstd:chunked"], "not supported"),
    (["--dest-force-compress-format"], "needs --dest-compress-format"),
    (["--dest-compress-level", "11"], "gzip level 11 is not in 1 to 9"),
    (["--dry-run", "--digestfile", "x"], "cannot be given together"),
    (["--encryption-key", "jwe:x"], "--encryption-key is not supported by this version"),
    (["--sign-by-sq-fingerprint", "me"], "--sign-by-sq-fingerprint is not supported"),
    (["--sign-identity", "a:b"], "need a --sign-by option"),
    (["--format", "v2s1"], "writing Docker schema 1 manifests is not supported"),
    (["--additional-tag", "x"], "does not take additional tags"),
    (["--preserve-digests", "--format", "v2s2"], "digests cannot be preserved"),
]


@pytest.mark.parametrize(("flags", "text"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_refused(
    flags: list[str], text: str, run_cli: RunCli, images_dir: Path, tmp_path: Path
) -> None:
    """One line, exit code 1, and nothing written."""
    done = run_cli("copy", *flags, f"dir:{images_dir}/dir/oci", f"dir:{tmp_path}/d")
    assert done.returncode == 1
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "d").exists()


def test_no_image_is_exit_code_2(
    run_cli: RunCli, registry_plain: RegistryServer, images_dir: Path, tmp_path: Path
) -> None:
    """As in skopeo, in a registry and in a layout."""
    for source in (f"docker://{registry_plain.host}/none:1", f"oci:{images_dir}:none"):
        done = run_cli("copy", "--src-tls-verify=false", source, f"dir:{tmp_path}/d")
        assert done.returncode == 2
        assert done.stderr.startswith(f"imgtools: copy {source} to dir:{tmp_path}/d: ")


def test_dir_compression_elsewhere_is_a_warning(
    run_cli: RunCli, images_dir: Path, tmp_path: Path
) -> None:
    """As in skopeo."""
    arguments = ("--dest-decompress", f"dir:{images_dir}/dir/oci")
    done = run_cli("copy", *arguments, f"oci:{tmp_path}/out:1", check=True)
    assert "warning: --dest-decompress has an effect on dir: destinations only" in done.stderr
    done = run_cli("copy", *arguments, f"dir:{tmp_path}/d", check=True)
    assert "warning" not in done.stderr
    manifest = json.loads((tmp_path / "d" / "manifest.json").read_text())
    assert all(layer["mediaType"].endswith("tar") for layer in manifest["layers"])


def test_signatures_beside_a_directory(run_cli: RunCli, images_dir: Path, tmp_path: Path) -> None:
    """They are not lost without being told."""
    import shutil

    source = tmp_path / "signed"
    shutil.copytree(images_dir / "dir" / "oci", source)
    (source / "signature-1").write_bytes(b"\xa3\x01 by somebody")
    done = run_cli("copy", f"dir:{source}", f"oci:{tmp_path}/out:1")
    assert done.returncode == 1
    assert "cannot hold the 1 signature of" in done.stderr
    assert "--remove-signatures" in done.stderr
    run_cli("copy", "--remove-signatures", f"dir:{source}", f"oci:{tmp_path}/out:1", check=True)


def test_policy_refuses_before_anything_is_read(
    run_cli: RunCli, images_dir: Path, tmp_path: Path
) -> None:
    """policy.json decides by name."""
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "reject"}]}')
    arguments = (f"dir:{images_dir}/dir/oci", f"dir:{tmp_path}/d")
    done = run_cli("--policy", policy, "copy", *arguments)
    assert done.returncode == 1
    assert not (tmp_path / "d").exists()
    run_cli("--policy", policy, "--insecure-policy", "copy", *arguments, check=True)


def test_whole_copy_is_tried_again(
    run_cli: RunCli,
    images_dir: Path,
    registry_plain: RegistryServer,
    make_proxy: Callable[..., LoggingProxy],
    repository: str,
    tmp_path: Path,
) -> None:
    """--retry-times, on top of the registry client's own patience."""
    from tests.rig import Head, Reply

    refused: list[str] = []

    def refuse(head: Head) -> Reply | None:
        # 501 is not tried again by the client, because waiting seldom helps.
        if head.method == "PUT" and "/manifests/" in head.target and not refused:
            refused.append(head.target)
            return Reply(status=501)
        return None

    proxy = make_proxy(registry_plain, on_request=refuse)
    arguments = ("copy", "--dest-tls-verify=false", f"dir:{images_dir}/dir/oci",
                 f"docker://{proxy.host}/{repository}:1")  # fmt: skip
    done = run_cli(*arguments)
    assert (done.returncode, len(refused)) == (1, 1)
    refused.clear()
    run_cli(*arguments, "--retry-times", "1", "--retry-delay", "1ms", check=True)
    assert len(refused) == 1


def test_ctrl_c_leaves_nothing(
    run_cli: RunCli,
    images_dir: Path,
    registry_plain: RegistryServer,
    make_proxy: Callable[..., LoggingProxy],
    preload: Callable[[RegistryServer, str, str], str],
    repository: str,
    tmp_path: Path,
) -> None:
    """Exit code 130, one line, no directory and no temporary file."""
    preload(registry_plain, "oci", f"{repository}:1")
    proxy = make_proxy(registry_plain, latency=1.0)
    process = run_cli.start(
        "copy", "--src-tls-verify=false", f"docker://{proxy.host}/{repository}:1",
        f"docker-archive:{tmp_path}/a.tar",
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while not any("/blobs/" in e.path for e in proxy.exchanges) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.strip() == b"imgtools: interrupted"
    assert list(tmp_path.glob("a.tar*")) == []
    assert list(Path(run_cli.env["TMPDIR"]).iterdir()) == []


def test_docker_manifests_become_oci_in_a_layout_unless_kept(
    run_cli: RunCli, images_dir: Path, tmp_path: Path, skopeo: Any
) -> None:
    """What skopeo reads by name, and what comes out again with the digest it had."""
    source = f"dir:{images_dir}/dir/docker-list"
    digest = run_cli("manifest-digest", images_dir / "dir/docker-list/manifest.json").stdout.strip()
    done = run_cli("copy", "--all", source, f"oci:{tmp_path}/a:x", check=True)
    assert f"manifest {digest} -> sha256:" in done.stderr
    raw = skopeo("inspect", "--raw", f"oci:{tmp_path}/a:x").stdout
    assert json.loads(raw)["mediaType"] == "application/vnd.oci.image.index.v1+json"
    run_cli("copy", "--all", "--preserve-digests", source, f"oci:{tmp_path}/b:x", check=True)
    run_cli("copy", "--all", f"oci:{tmp_path}/b:x", f"dir:{tmp_path}/c", check=True)
    back = run_cli("manifest-digest", tmp_path / "c/manifest.json").stdout.strip()
    assert back == digest


def test_older_and_shorter_forms_of_options(
    run_cli: RunCli, registry_htpasswd: RegistryServer, images_dir: Path
) -> None:
    source = f"dir:{images_dir}/dir/oci"
    target = f"docker://{registry_htpasswd.host}/older:1"
    creds = f"{registry_htpasswd.username}:{registry_htpasswd.password}"
    done = run_cli("copy", "--tls-verify=false", "--dcreds", creds, source, target)
    assert done.returncode == 0, done.stderr
    assert "--dest-tls-verify" in done.stderr
    back = run_cli("copy", "-q", "--src-tls-verify=false", "--screds", creds, target, "dir:back")
    assert back.returncode == 0, back.stderr
    # What is said of one side counts more.
    strict = ("--tls-verify=false", "--src-tls-verify=true", "--screds", creds)
    assert run_cli("copy", "-q", *strict, target, "dir:again").returncode == 1
