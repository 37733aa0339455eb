"""Whole builds by Debian's buildah and by us, from the same context: the same files with the
same modes and owners, and the same config but for what is meant to differ."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.build.copying_rig import member, tar_of
from tests.rig import RunCli

APPLETS = ("cat", "chmod", "chown", "cp", "echo", "id", "ln", "ls", "mkdir", "mkfifo", "mv", "rm",
           "sed", "sh", "test", "touch", "tr")  # fmt: skip
BASE = "FROM scratch\nCOPY root /\nENV PATH=/bin\n"
CASES = {
    "stages": """
        FROM base AS made
        WORKDIR /src
        COPY --chown=7:8 --chmod=640 tree ./tree
        RUN tr a-z A-Z <tree/a >/src/out && chmod 711 /src/out && ln -s out /src/link
        FROM base
        COPY --from=made /src/out /src/link /bin/
        RUN mkdir -p /var/x && chown 3:4 /var/x && mkfifo /var/x/pipe && rm -r /gone
        USER user
        ENTRYPOINT ["/bin/sh"]
        CMD ["-c", "id"]
        """,
    "mounts": """
        FROM base
        RUN --mount=type=cache,target=/c,id=one echo a >/c/f && cp /c/f /got
        RUN --mount=type=secret,id=s cp /run/secrets/s /seen && rm /seen && echo done >/seen
        RUN --mount=type=bind,source=tree,target=/m cp -r /m /copied
        RUN --mount=type=tmpfs,target=/t touch /t/x && ls /t >/listed
        RUN rm -rf /c /m /t
        """,
    "config": """
        FROM base
        ARG WHO=nobody
        ENV A=1 B="two words" C=$WHO
        LABEL one=1 two="a b"
        EXPOSE 80 53/udp
        VOLUME /data /more
        WORKDIR rel/ative
        STOPSIGNAL SIGINT
        RUN echo $B >b
        CMD echo hi
        ONBUILD RUN true
        MAINTAINER me
        """,
    "add": """
        FROM base
        ADD archive.tar /into/
        ADD tree/a /plain/
        COPY tree/d/* /spread/
        RUN mv /gone /kept && sed -i s/x/y/ /kept/x && chmod 4755 /into/f && mkdir -m 1777 /sticky
        """,
}
MEANT = {
    "created",
    "config.Labels.io.buildah.version",  # whoever built it says so in its own label
    "config.Labels.io.imgtools.version",
    "annotations.org.opencontainers.image.base.digest",  # buildah's own copy of the manifest
    "annotations.org.opencontainers.image.base.name",  # the bases are only in the stores
    "annotations.org.opencontainers.image.created",  # as later versions of buildah have it
    "config.OnBuild",  # kept in OCI images by us alone
}


@dataclass(frozen=True)
class Beside:
    """Both tools with a store each, and images of both in one OCI layout."""

    cli: RunCli
    path: Path

    def buildah(self, *words: str) -> None:
        place = [f"--root={self.path}/b", f"--runroot={self.path}/br", "--storage-driver=vfs"]
        done = subprocess.run(["buildah", *place, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def both(self, name: str, text: str, *options: str) -> None:
        """Build with both."""
        file = self.path / f"{name}.containerfile"
        file.write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")
        words = ["-q", "-t", name, "-f", str(file), *options, str(self.path / "context")]
        self.cli("build", *words, check=True)
        self.buildah("build", "--isolation=chroot", "--layers", "--pull=never", *words)

    def difference(self, name: str) -> dict[str, Any]:
        """What `imgtools diff` says of the two images."""
        self.cli("push", "-q", name, f"oci:{self.path}/out:ours-{name}", check=True)
        self.buildah("push", "-q", name, f"oci:{self.path}/out:theirs-{name}")
        done = self.cli(
            "diff", "--json", "--read-shared", f"oci:{self.path}/out:ours-{name}",
            f"oci:{self.path}/out:theirs-{name}", check=True,
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module", name="beside")
def _beside(tmp_path_factory: pytest.TempPathFactory) -> Beside:
    path = tmp_path_factory.mktemp("beside")
    context = path / "context"
    root = context / "root"
    for name in ("bin", "etc", "gone", "tmp"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox (static) is needed"
    shutil.copy(busybox, root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nuser:x:50:60::/:/bin/sh\n")
    (root / "gone/x").write_text("x\n")
    (root / "tmp").chmod(0o1777)
    (context / "tree/d").mkdir(parents=True)
    (context / "tree/a").write_text("letters\n")
    for name in "xyz":
        (context / "tree/d" / name).write_text(name)
    (context / "tree/d/x").chmod(0o750)
    (context / "secret").write_text("hidden\n")
    (context / "archive.tar").write_bytes(tar_of((member("f", owner=(11, 12), mode=0o711), b"f")))
    (path / "cli").mkdir()
    beside = Beside(RunCli(path / "cli"), path)
    beside.both("base", BASE)
    return beside


@pytest.mark.parametrize("name", CASES)
def test_the_same_image(beside: Beside, name: str) -> None:
    secret = f"--secret=id=s,src={beside.path}/context/secret"
    beside.both(f"case-{name}", CASES[name], secret)
    found = beside.difference(f"case-{name}")
    changed = {".".join(change["Path"]) for change in found["Config"]}
    changed = {field for field in changed if not field.startswith(tuple(MEANT))}
    assert changed == set(), found["Config"]
    files = [each for each in found["Files"] if not _only_buildah(each)]
    assert files == [], files


def _only_buildah(each: dict[str, Any]) -> bool:
    """What buildah's way of running leaves in a layer: directories and files that it mounts
    over, and those of VOLUME, which BuildKit does not make."""
    return each["Path"].strip("/") in {
        "data", "more", "etc", "etc/hostname", "etc/hosts", "etc/resolv.conf", "run", "run/secrets",
        "dev", "proc", "sys",
    }  # fmt: skip
