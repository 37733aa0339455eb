"""What `imgtools images` shows besides images by name: indexes, and images that others were made
from."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.rig import RunCli

SHOWN = "{{.Repository}}:{{.Tag}}"


class Shop:
    """The command line with a store of its own, in which small images are built."""

    def __init__(self, cli: RunCli, directory: Path) -> None:
        self.cli = cli
        self.directory = directory
        (directory / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{directory}/root"\n'
            f'runroot = "{directory}/run"\n'
        )

    def __call__(self, *words: str, status: int = 0) -> CompletedProcess[str]:
        done = self.cli(*words, env={"CONTAINERS_STORAGE_CONF": f"{self.directory}/storage.conf"})
        assert done.returncode == status, done.stderr
        return done

    def build(self, name: str, *lines: str) -> str:
        """The id of an image with the steps `lines`."""
        context = self.directory / "context"
        context.mkdir(exist_ok=True)
        (context / "file").write_text("content")
        (context / "Containerfile").write_text("\n".join(("FROM scratch", *lines)))
        return self("build", "-q", "-t", name, str(context)).stdout.strip().removeprefix("sha256:")

    def shown(self, *words: str) -> list[str]:
        """What `images` lists with options."""
        return sorted(self("images", "--format", SHOWN, *words).stdout.split())


@pytest.fixture
def shop(run_cli: RunCli, tmp_path: Path) -> Shop:
    return Shop(run_cli, tmp_path)


def test_images_that_others_were_made_from(shop: Shop) -> None:
    """Without a name they are hidden, unless they are asked for; with one they are not."""
    first = shop.build("x", "COPY file /a")
    shop.build("y", "COPY file /a", "LABEL a=b", "COPY file /b")
    assert shop.shown("--filter", "intermediate=true") == []
    shop.build("x", "COPY file /c")
    assert shop.shown() == ["localhost/x:latest", "localhost/y:latest"]
    assert shop.shown("--all") == ["<none>:<none>", "localhost/x:latest", "localhost/y:latest"]
    assert shop.shown("--filter", "intermediate=false") == shop.shown()
    only = shop("images", "--filter", "intermediate=true", "-q", "--no-trunc").stdout
    assert only == f"sha256:{first}\n"


def test_the_nameless_that_nothing_was_made_from_are_shown(shop: Shop) -> None:
    """The same layers under another history are no descent."""
    shop.build("x", "COPY file /a")
    shop.build("y", "LABEL first=yes", "COPY file /a", "COPY file /b")
    shop.build("x", "COPY file /c")
    assert shop.shown() == ["<none>:<none>", "localhost/x:latest", "localhost/y:latest"]
    assert shop.shown("--filter", "dangling=true") == ["<none>:<none>"]


def test_indexes_are_listed_and_removed(shop: Shop) -> None:
    shop.build("x", "COPY file /a")
    made = shop("manifest", "create", "several", "x").stdout.strip()
    assert shop.shown() == ["localhost/several:latest", "localhost/x:latest"]
    assert shop.shown("several") == shop.shown("--filter", "manifest=true")
    assert shop.shown("--filter", "manifest=false") == ["localhost/x:latest"]
    (found,) = json.loads(shop("images", "--json", "several").stdout)
    assert (found["Id"], found["Digest"]) == (made, f"sha256:{made}")
    assert found["IsManifestList"] is True
    assert found["Names"] == ["localhost/several:latest"]
    row = shop("images", "--noheading", "several").stdout.split()
    assert row[:3] == ["localhost/several", "latest", made[:12]]
    assert "year" not in " ".join(row)
    ids = shop("images", "-q").stdout.split()
    assert made[:12] in ids
    done = shop("rmi", *ids)
    assert f"Untagged: localhost/several:latest\nDeleted: {made}\n" in done.stdout
    assert shop.shown("--all") == []


def test_all_indexes_go_with_all_images(shop: Shop) -> None:
    shop.build("x", "COPY file /a")
    shop("manifest", "create", "several", "x")
    shop("manifest", "create", "empty")
    shop("rmi", "--force", "empty")
    assert shop.shown() == ["localhost/several:latest", "localhost/x:latest"]
    shop("rmi", "--all")
    assert shop.shown() == []


@pytest.mark.parametrize("key", ["intermediate", "manifest"])
def test_filters_that_are_no_booleans(shop: Shop, key: str) -> None:
    shop.build("x", "COPY file /a")
    assert "non-boolean" in shop("images", "--filter", f"{key}=perhaps", status=1).stderr


def test_times_of_images_in_templates(shop: Shop) -> None:
    """buildah's field is a time; podman's are texts."""
    shop.build("x", "COPY file /a", "LABEL a=b")
    (found,) = json.loads(shop("images", "--json").stdout)
    template = '{{.CreatedAtRaw.Unix}} {{.CreatedAtRaw.Format "2006"}}|{{.CreatedTime}}'
    unix, rest = shop("images", "--format", template).stdout.strip().split(" ", 1)
    assert int(unix) == found["Created"]
    assert rest.partition("|")[0] == found["CreatedAt"][:4]
    made = shop("from", "x").stdout.strip()
    times = "{{.OCIv1.Created.Unix}} {{.Docker.Created.Unix}} {{(index .OCIv1.History 0).Created}}"
    shown = shop("inspect", "--format", times, made).stdout.split()
    assert shown[:2] == [unix, unix]
    assert shown[-1] == "UTC"
    history = "{{range .Docker.History}}{{.Created.Year}} {{end}}"
    assert shop("inspect", "--format", history, made).stdout.split() == [found["CreatedAt"][:4]] * 2
    shop("rm", made)
