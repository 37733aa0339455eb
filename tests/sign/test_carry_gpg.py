"""GPG signatures survive copies where registries.d says where they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, Outcome, cli
from tests.sign.attest_rig import Rig, rig
from tests.sign.ground import INDEX
from tests.sign.openpgp_home import Keys, payload

BY_NAME = "--signed-identity NAME:TAG accepts"
SIDES = ("--src-tls-verify=false", "--dest-tls-verify=false")


@dataclass(frozen=True)
class Kept:
    """An index whose manifests are all signed, in the lookaside storage of app."""

    made: Rig
    ring: Path
    places: Path

    @property
    def signed(self) -> str:
        """The name that was signed."""
        return self.made.name.removeprefix("docker://")

    def storage(self, repository: str) -> list[str]:
        """The signatures of a repository, by manifest."""
        top = self.made.path / repository
        return sorted(str(p.relative_to(top)).partition("@")[2] for p in top.rglob("signature-*"))

    def copy(self, *words: str) -> Outcome:
        """Copy the whole image, or another one."""
        sides = [s for s, name in zip(SIDES, words[-2:], strict=True) if "docker:" in name]
        return self.run("copy", "-q", "--all", *sides, *words)

    def verify(self, name: str, identity: str) -> Outcome:
        """Verify every manifest of an image by the key ring."""
        plain = (PLAIN,) if name.startswith("docker:") else ()
        by = ("--gpg-keyring", self.ring, "--signed-identity", identity, "--all", "--strict")
        return self.run("verify", *plain, *by, name)

    def run(self, *words: str | Path) -> Outcome:
        """A command that knows where signatures are kept."""
        return cli(self.made.path, "--registries.d", self.places, *words)


@pytest.fixture
def kept(tmp_path: Path, gpg_keys: Keys) -> Iterator[Kept]:
    """Storage for each of the repositories app and copy."""
    with rig(tmp_path, INDEX) as made:
        host = made.registry.host
        places = tmp_path / "registries.d"
        places.mkdir()
        (places / "here.yaml").write_text(
            "docker:\n"
            + "".join(
                f"  {host}/{name}:\n    lookaside: file://{tmp_path}/{name}\n"
                for name in ("app", "copy")
            )
        )
        for raw in (INDEX.top, *INDEX.manifests):
            place = tmp_path / "app" / f"app@sha256={raw.digest.hex}"
            place.mkdir(parents=True)
            content = payload(str(raw.digest), f"{host}/app:1")
            (place / "signature-1").write_bytes(gpg_keys.home.sign(content, "p256"))
        ring = tmp_path / "ring.gpg"
        ring.write_bytes(gpg_keys.public["p256"])
        yield Kept(made, ring, places)


def there(registry: ScriptedRegistry) -> str:
    return f"docker://{registry.host}/copy:1"


def test_registry_to_registry(kept: Kept) -> None:
    assert kept.verify(kept.made.name, "default").code == 0
    copied = there(kept.made.registry)
    assert kept.copy(kept.made.name, copied).code == 0
    assert kept.storage("copy") == kept.storage("app")
    assert kept.verify(copied, kept.signed).code == 0
    # Copies have another name than the one that was signed.
    kept.verify(copied, "default").refused("not for", BY_NAME, lines=5)


def test_across_the_gap_in_a_directory(kept: Kept) -> None:
    directory = f"dir:{kept.made.path / 'gap'}"
    assert kept.copy(kept.made.name, directory).code == 0
    assert kept.verify(directory, kept.signed).code == 0
    copied = there(kept.made.registry)
    assert kept.copy(directory, copied).code == 0
    assert kept.verify(copied, kept.signed).code == 0


def test_dry_runs_say_what_would_come_of_it(kept: Kept) -> None:
    directory = f"dir:{kept.made.path / 'gap'}"
    assert kept.copy(kept.made.name, directory).code == 0
    assert kept.copy("--dry-run", directory, there(kept.made.registry)).code == 0
    done = kept.copy("--dry-run", directory, f"oci:{kept.made.path / 'layout'}")
    done.refused("cannot hold the 3 signatures", "--remove-signatures")


@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_layouts_have_no_place_for_them(kept: Kept, transport: str) -> None:
    layout = f"{transport}:{kept.made.path / 'gap'}"
    for flags in ((), ("--referrers",)):
        done = kept.copy(*flags, kept.made.name, layout)
        done.refused(f"{transport}: cannot hold the 1 signature", "--remove-signatures")
    assert not (kept.made.path / "gap").exists()
    assert kept.copy("--remove-signatures", kept.made.name, layout).code == 0


def test_a_conversion_is_refused(kept: Kept) -> None:
    copied = there(kept.made.registry)
    done = kept.copy("--format", "v2s2", kept.made.name, copied)
    done.refused("1 signature", "the copy would change it", "--remove-signatures")
    assert kept.storage("copy") == []


def test_sync_across_the_gap(kept: Kept) -> None:
    """Into a directory of directories, and from there into another registry."""
    source = kept.signed.removesuffix(":1")
    usb = kept.made.path / "usb"
    words = ("sync", "--all", "--src", "docker", "--dest", "dir", SIDES[0])
    done = kept.run(*words, source, usb)
    assert done.code == 0, done.err
    assert kept.verify(f"dir:{usb / 'app:1'}", kept.signed).code == 0
    with ScriptedRegistry() as other:
        (kept.places / "other.yaml").write_text(
            f"docker:\n  {other.host}:\n    lookaside: file://{kept.made.path}/inside\n"
        )
        words = ("sync", "--all", "--src", "dir", "--dest", "docker", SIDES[1])
        done = kept.run(*words, usb, f"{other.host}/mirror")
        assert done.code == 0, done.err
        assert kept.verify(f"docker://{other.host}/mirror/app:1", kept.signed).code == 0
