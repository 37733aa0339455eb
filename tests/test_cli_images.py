"""`imgtools images`, `tag`, `rmi` and `prune`, and `containers-storage:` names of other verbs."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from engine.storage.images import StoredImage
from engine.storage.options import StoreLocation
from engine.storage.store import Store
from imgtools.cli.images_view import (
    columns,
    filtered,
    human_bytes,
    human_since,
    rows_of,
    seconds,
    until,
)
from imgtools.errors import ImageNotFound, InvalidInput
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Task
from imgtools.testing import images
from imgtools.testing.contract_kit import put
from imgtools.transport.options import DestinationOptions
from imgtools.transport.table import Transports
from tests.rig import RunCli


@dataclass(frozen=True)
class Rig:
    """The command line with a store of its own, and a layout with the images a and b."""

    cli: RunCli
    directory: Path

    def __call__(self, *words: str, status: int = 0, input: str = "") -> CompletedProcess[str]:
        env = {"CONTAINERS_STORAGE_CONF": str(self.directory / "storage.conf")}
        done = self.cli(*words, env=env, input=input)
        assert done.returncode == status, done.stderr
        return done

    def open(self) -> Store:
        return Store.open(
            StoreLocation(
                root=str(self.directory / "root"),
                runroot=str(self.directory / "run"),
                driver="flat",
            )
        )


@pytest.fixture
def run(run_cli: RunCli, tmp_path: Path) -> Rig:
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/root"\nrunroot = "{tmp_path}/run"\n'
    )
    with Transports() as transports:
        for seed in ("a", "b"):
            name = f"oci:{tmp_path}/layout:{seed}"
            with transports.open_destination(name, DestinationOptions()) as destination:
                put(destination, images.random_image(seed))
                destination.commit()
    return Rig(cli=run_cli, directory=tmp_path)


@pytest.fixture
def stored(run: Rig) -> Rig:
    """The same, with a and b in the store, and a by another name."""
    for seed in ("a", "b"):
        run("copy", f"oci:{run.directory}/layout:{seed}", f"containers-storage:{seed}")
    run("tag", "a", "team/other:2")
    return run


def lines(done: CompletedProcess[str]) -> list[list[str]]:
    return [line.split() for line in done.stdout.splitlines()]


def test_empty_store_has_a_heading(run: Rig) -> None:
    assert lines(run("images")) == [
        ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"],
    ]
    assert run("images", "-q").stdout == run("images", "-n").stdout == ""
    assert json.loads(run("images", "--format", "json").stdout) == []


def test_images_are_listed_by_name(stored: Rig) -> None:
    a, b = (Digest.of(_config(seed)).hex[:12] for seed in ("a", "b"))
    found = sorted(lines(stored("images", "--noheading")))
    assert [row[:3] for row in found] == [
        ["docker.io/library/a", "latest", a],
        ["docker.io/library/b", "latest", b],
        ["localhost/team/other", "2", a],
    ]
    assert found[0][-2:] == ["2.97", "kB"]
    assert sorted(stored("images", "-q").stdout.split()) == sorted([a, b])
    full = stored("images", "-q", "--no-trunc", "a").stdout
    assert full == f"sha256:{Digest.of(_config('a')).hex}\n"
    digests = lines(stored("images", "--digests", "team/other:2"))
    assert digests[1][2] == str(images.random_image("a").top.digest)


def test_images_as_json_and_by_template(stored: Rig) -> None:
    (found,) = json.loads(stored("images", "--format", "json", "b").stdout)
    assert found["Names"] == ["docker.io/library/b:latest"]
    assert found["Digest"] == str(images.random_image("b").top.digest)
    assert found["RepoDigests"] == [f"docker.io/library/b@{found['Digest']}"]
    assert found["CreatedAt"] == "2024-01-02T03:04:05Z"
    assert found["Labels"] == {"seed": "b"}
    shown = stored("images", "--format", "{{.Repository}}:{{.Tag}} {{.Labels.seed}}", "b").stdout
    assert shown == "docker.io/library/b:latest b\n"
    table = stored("images", "--format", "table {{.Repository}} {{.Size}}", "b").stdout
    assert table == "REPOSITORY           SIZE\ndocker.io/library/b  2.97 kB\n"
    assert "can't evaluate" in stored("images", "--format", "{{.Nope}}", status=1).stderr


FILTERS = (
    (["a"], {"a:latest"}),
    (["other:2"], {"team/other:2"}),
    (["*/o*"], {"team/other:2"}),
    (["-f", "reference=b", "-f", "reference=team/*"], {"b:latest", "team/other:2"}),
    (["-f", "label=seed=b"], {"b:latest"}),
    (["-f", "label!=seed=b"], {"a:latest", "team/other:2"}),
    (["-f", "label=nope"], set()),
    (["-f", "dangling=true"], set()),
    (["-f", "dangling=false", "b"], {"b:latest"}),
    (["-f", "before=a"], set()),
    (["-f", "since=a"], set()),
    (["-f", "until=2025-01-01", "b"], {"b:latest"}),
    (["-f", "until=2023-01-01"], set()),
    (["nothing"], set()),
)


def test_images_are_filtered(stored: Rig) -> None:
    for words, expected in FILTERS:
        shown = stored("images", "--format", "{{.Repository}}:{{.Tag}}", *words).stdout.split()
        short = {s.removeprefix("docker.io/library/").removeprefix("localhost/") for s in shown}
        assert short == expected, words


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["images", "-f", "nope=1"], "unsupported image filter"),
        (["images", "-f", "dangling"], "key=value"),
        (["images", "-f", "dangling=perhaps"], "non-boolean"),
        (["images", "-f", "before=nope"], "image not known"),
        (["images", "-f", "until=nope"], "neither a time"),
        (["images", "--sort", "colour"], "not a valid field"),
        (["rmi"], "must be specified"),
        (["rmi", "-a", "x"], "may not pass"),
        (["tag", "nope", "x"], "nope: image not known"),
        (["tag", "a"], "NAME"),
        (["prune", "--filter", "reference=x"], "unsupported filter"),
        (["images", "--storage-driver", "btrfs"], "unknown storage driver"),
        (["images", "--storage-opt", "a=b"], "not supported"),
    ],
)
def test_mistakes_are_told(words: list[str], text: str, run: Rig) -> None:
    env = {"CONTAINERS_STORAGE_CONF": str(run.directory / "storage.conf")}
    done = run.cli(*words, env=env)
    assert done.returncode in (1, 2)
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_rmi_takes_names_and_then_the_image(stored: Rig) -> None:
    image_id = Digest.of(_config("a")).hex
    assert stored("rmi", "team/other:2").stdout == "Untagged: localhost/team/other:2\n"
    stored("tag", image_id[:8], "x", "y")
    refused = stored("rmi", image_id[:10], status=1)
    assert "more than one tag" in refused.stderr
    assert stored("rmi", "--force", image_id[:10]).stdout == (
        "Untagged: docker.io/library/a:latest\nUntagged: localhost/x:latest\n"
        f"Untagged: localhost/y:latest\nDeleted: {image_id}\n"
    )
    mixed = stored("rmi", "a", "b", status=1)
    assert "a: image not known" in mixed.stderr
    assert "Untagged: docker.io/library/b:latest" in mixed.stdout
    assert stored("rmi", "--ignore", "a").stdout == ""
    with stored.open() as store:
        contents = store.contents()
        assert contents.images == contents.names == contents.layers == {}


def test_rmi_of_all_and_of_the_nameless(stored: Rig) -> None:
    for name in ("localhost/team/other:2", "docker.io/library/a"):
        stored("copy", f"oci:{stored.directory}/layout:b", f"containers-storage:{name}")
    nameless = stored("images", "-f", "dangling=true", "--format", "{{.Repository}} {{.Tag}}")
    assert nameless.stdout == "<none> <none>\n"
    assert stored("rmi", "--prune").stdout == f"Deleted: {Digest.of(_config('a')).hex}\n"
    assert "Deleted" in stored("rmi", "--all").stdout
    assert stored("images", "-q").stdout == ""


def test_rmi_of_an_image_in_use(stored: Rig) -> None:
    with stored.open() as store:
        use = store.use(store.find("b")[0], "c0ffee", task=Task())
        refused = stored("rmi", "b", status=2)
        assert "image used by c0ffee: image is in use by a container" in refused.stderr
        (found,) = json.loads(stored("images", "--json", "b").stdout)
        assert found["Containers"] == 1
        assert stored("prune", "--all").stdout.splitlines()[0] == Digest.of(_config("a")).hex
        stored("rmi", "-f", "b")
        use.end()
    assert stored("prune").stdout == "Total reclaimed space: 2 kB\n"


def test_prune_by_filter(stored: Rig) -> None:
    assert stored("prune", "-a", "--filter", "label=seed=b").stdout == (
        f"{Digest.of(_config('b')).hex}\nTotal reclaimed space: 2 kB\n"
    )
    assert stored("prune", "-a", "--filter", "until=100000h").stdout == (
        "Total reclaimed space: 0 B\n"
    )
    assert stored("prune").stdout == "Total reclaimed space: 0 B\n"
    assert len(stored("images", "-n").stdout.splitlines()) == 2


def test_prune_of_what_builds_remember(stored: Rig, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("content")
    (context / "Containerfile").write_text("FROM scratch\nCOPY file /\n")

    def built() -> str:
        return stored("build", "-t", "built", str(context)).stdout

    assert "Using cache" not in built()
    stored("rmi", "localhost/built")
    stored("prune", "--force")
    assert "Using cache" in built(), "a build's steps outlive its image"
    stored("rmi", "localhost/built")
    stored("prune", "--build-cache", "--filter", "until=1h")
    assert "Using cache" in built(), "they were used a moment ago"
    stored("rmi", "localhost/built")
    stored("prune", "--build-cache")
    assert "Using cache" not in built()


def test_other_verbs_know_the_store(stored: Rig) -> None:
    sample = images.random_image("a")
    shown = json.loads(stored("inspect", "containers-storage:a").stdout)
    assert shown["Name"] == "docker.io/library/a"
    assert shown["Digest"] == str(sample.top.digest)
    assert shown["Layers"] == [str(d.digest) for d in sample.blobs if "layer" in d.media_type]
    raw = stored("inspect", "--raw", f"containers-storage:@{Digest.of(_config('a')).hex}")
    assert raw.stdout.encode() == sample.top.content
    assert "data-a" in stored("inspect", "--files", "containers-storage:a").stdout
    back = f"oci:{stored.directory}/back"
    stored("copy", "containers-storage:team/other:2", back)
    difference = stored("diff", "--exit-code", back, f"oci:{stored.directory}/layout:a", status=0)
    assert "changed" not in difference.stdout
    again = stored("copy", f"oci:{stored.directory}/layout:a", "containers-storage:a")
    assert "up to date" in again.stderr
    assert "not known" in stored("inspect", "containers-storage:nope", status=2).stderr


def test_delete_takes_a_name_or_all(stored: Rig) -> None:
    planned = stored("delete", "--dry-run", "--all-tags", "containers-storage:a").stdout
    assert "delete reference localhost/team/other:2\n" in planned
    assert f"delete image {Digest.of(_config('a')).hex}\n" in planned
    stored("delete", "containers-storage:a")
    assert stored("images", "-q", "team/other:2").stdout
    stored("delete", "containers-storage:localhost/team/other:2")
    assert stored("delete", "containers-storage:a", status=2).stderr
    stored("delete", "--all-tags", "containers-storage:b")
    assert stored("images", "-q").stdout == ""


def test_flags_and_brackets_name_stores(stored: Rig) -> None:
    other = stored.directory / "other"
    flags = ("--root", f"{other}/root", "--runroot", f"{other}/run", "--storage-driver", "vfs")
    bracket = f"[vfs@{other}/root+{other}/run]"
    assert stored("images", "-q", *flags).stdout == ""
    stored("copy", "containers-storage:b", f"containers-storage:{bracket}c")
    assert stored("images", "-q", *flags).stdout.split() == [Digest.of(_config("b")).hex[:12]]
    stored("rmi", *flags, "c")
    assert stored("images", "-q").stdout != ""


def _config(seed: str) -> bytes:
    sample = images.random_image(seed)
    return next(c for d, c in sample.blobs.items() if "config" in d.media_type)


@pytest.mark.parametrize(
    ("past", "text"),
    [
        (0, "Less than a second ago"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "About a minute ago"),
        (3500, "58 minutes ago"),
        (3600, "About an hour ago"),
        (47 * 3600, "47 hours ago"),
        (49 * 3600, "2 days ago"),
        (15 * 86400, "2 weeks ago"),
        (70 * 86400, "2 months ago"),
        (800 * 86400, "2 years ago"),
        (-50, "Less than a second ago"),
    ],
)
def test_ages_are_gos(past: int, text: str) -> None:
    assert human_since(1_700_000_000 - past, 1_700_000_000) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (6643, "6.64 kB"), (77_800_000, "77.8 MB"), (1.2e9, "1.2 GB")],
)
def test_sizes_are_podmans(size: float, text: str) -> None:
    assert human_bytes(size) == text


def test_columns_are_podmans() -> None:
    assert columns([["A", "B"], ["longer than twelve", "x"]]) == [
        "A                   B",
        "longer than twelve  x",
    ]


def test_times() -> None:
    assert seconds("1970-01-01T00:00:01.5Z") == 1.5
    assert seconds("1970-01-01T01:00:00+01:00") == 0
    assert seconds("nonsense") is None
    now = time.time()
    assert until("1h30m", now) == now - 5400
    assert until("0", now) == 0
    with pytest.raises(InvalidInput):
        until("1h30", now)


def test_bad_pattern_is_an_error() -> None:
    def none(text: str) -> tuple[StoredImage, str]:
        raise ImageNotFound(text)

    document = Descriptor(media_type="m", digest=Digest.of(b""), size=0)
    image = StoredImage(id="0" * 64, manifest=document, config=document, layers=())
    rows = rows_of([image], [], {})
    with pytest.raises(InvalidInput):
        filtered(rows, ["reference=[z-a]"], find=none, now=0)
