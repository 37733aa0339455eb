"""Builds in pods with a read-only root file system: by a uid without a name whose HOME is /,
with one small place for the store and another for temporary files, and with neither."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine import pod_rig
from tests.engine.ladder_rig import Ladder
from tests.engine.pod_rig import DATA, TEMPORARY, Pod
from tests.engine.run_rig import make_image
from tests.rig.registry import RegistryServer

CONTAINERFILE = """\
FROM oci-archive:{base}
COPY tool /usr/bin/tool
RUN mkdir /shared && chown 33:42 /shared 2>/dev/null && test $(id -u) = 0
USER joe
WORKDIR /home/joe/deep
RUN echo a >made && test $(id -u) = 1000
"""
PLACES = f"--root {DATA}/root --runroot {DATA}/run"
LEFT = f"find {DATA} {TEMPORARY} -type f ! -path '*/locks/*' ! -name '*.lock'"
ENOUGH = 8000
TOOL = 1 << 20


@dataclass(frozen=True)
class Site:
    """What the pods read."""

    directory: Path

    def build(self, options: str = PLACES) -> str:
        """The command of the build."""
        file, context = self.directory / "Containerfile", self.directory / "context"
        return (
            f"imgtools build {options} --network=none --quiet --timestamp=1 -t x "
            f"-f {file} {context}"
        )


@pytest.fixture(scope="module", name="site")
def _site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        base = Ladder(directory).base(make_image(directory))
        (directory / "context").mkdir()
        (directory / "context/tool").write_bytes(bytes(range(256)) * (TOOL // 256))
        (directory / "Containerfile").write_text(CONTAINERFILE.format(base=base))
        yield Site(directory)


def lines_of(text: str) -> list[str]:
    """Lines of standard error that say more than how steps are isolated."""
    return [line for line in text.splitlines() if not line.startswith("imgtools: info: isolation")]


def test_e97_a_build_in_two_small_places(site: Site) -> None:
    """By options and by variables, the same image, and nothing is left in TMPDIR."""
    pod = Pod(data=ENOUGH, temporary=1000)
    after = f" && find {TEMPORARY} -mindepth 1; id -un || true"
    flags = pod_rig.execute(pod, site.build() + after, TMPDIR=TEMPORARY)
    run = f"{DATA}/run"
    named = {"XDG_DATA_HOME": DATA, "XDG_RUNTIME_DIR": run, "TMPDIR": TEMPORARY}
    variables = pod_rig.execute(pod, f"mkdir -m 700 {run}; {site.build('')}{after}", **named)
    for done in (flags, variables):
        *complaints, nameless = lines_of(done.err)
        assert (complaints, len(done.out.split())) == ([], 2), done
        assert "cannot find name for user ID 1000640000" in nameless
        assert done.out == flags.out


@pytest.mark.parametrize(
    ("free", "what"),
    [(300, "bin/busybox"), (2700, "Containerfile:2: /etc/data/root/")],
    ids=["base", "COPY"],
)
def test_e97_too_little_space(site: Site, free: int, what: str) -> None:
    """One line names place and remedy; when there is space, the next build has the place."""
    filler = f"{DATA}/filler"
    script = f"""
head -c $(({ENOUGH - free} * 1024)) /dev/zero >{filler}
{site.build()} && exit 1
echo $?
{LEFT} ! -path {filler} -size +64k | grep -v /layers/sha256/
find {DATA}/root/imgtools/tmp {DATA}/root/imgtools/snapshots -mindepth 1 ! -name '*.lock'
rm {filler}
{site.build()} && {LEFT} -path '{TEMPORARY}/*'
"""
    done = pod_rig.execute(Pod(data=ENOUGH, temporary=1000), script, TMPDIR=TEMPORARY)
    code, *rest = done.out.split()
    assert (code, len(rest)) == ("125", 1), done
    (line,) = lines_of(done.err)
    assert "o space left on device" in line
    assert what in line
    for part in (f"{DATA}/root", "TMPDIR", "--root"):
        assert part in line


def test_e97_no_place_at_all(site: Site) -> None:
    """What is missing, and what names another, before anything is read of the base."""
    runtime = {"XDG_RUNTIME_DIR": f"{TEMPORARY}/run", "TMPDIR": TEMPORARY}
    for options, variables, place, remedies in (
        ("", {}, "/tmp/storage-run-1000640000", ("--runroot", "XDG_RUNTIME_DIR")),
        (f"--runroot {TEMPORARY}/r", {}, "/.local/share/containers", ("--root", "XDG_DATA_HOME")),
        ("", runtime, "/.local/share/containers", ("--root", "XDG_DATA_HOME")),
    ):
        script = f"mkdir -m 700 {TEMPORARY}/run; {site.build(options)}; echo $?; "
        script += f"{LEFT} ! -name 'probes-*'"
        done = pod_rig.execute(Pod(data=0, temporary=4000), script, **variables)
        assert done.out == "125\n", done
        (line,) = lines_of(done.err)
        assert line.startswith(f"imgtools: {place}"), line
        assert "read-only file system" in line
        assert all(remedy in line for remedy in remedies), line


def test_e97_what_needs_no_store_needs_no_home(site: Site) -> None:
    """Images are inspected, copied and signed where no cache can be kept, without a word."""
    with tempfile.TemporaryDirectory() as name:
        keys = Path(name)
        keys.chmod(0o755)
        with RegistryServer("plain", keys / "registry", keys) as registry:
            image = f"docker://127.0.0.1:{registry.port}/base:1"
            plain = "-tls-verify=false"
            script = f"""
set -e
imgtools copy --quiet --dest{plain} oci-archive:{site.directory}/base.tar {image}
imgtools inspect -{plain} --format '{{{{.Architecture}}}}' {image}
imgtools copy --quiet --src{plain} {image} dir:{TEMPORARY}/copy
echo secret >{TEMPORARY}/pass
imgtools generate-sigstore-key --output-prefix {TEMPORARY}/key \\
    --passphrase-file {TEMPORARY}/pass >/dev/null
imgtools sign --dry-run -{plain} --sign-by-sigstore-private-key {TEMPORARY}/key.private \\
    --sign-passphrase-file {TEMPORARY}/pass {image}
"""
            done = pod_rig.execute(Pod(data=0, temporary=4000, rung="E"), script, TMPDIR=TEMPORARY)
    assert (done.code, done.err) == (0, ""), done
    assert "sha256:" in done.out
