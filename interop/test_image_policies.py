"""policy.json beside containers/image: images that either signed, judged by both.

Each row has the verdict of both. They differ only about an index that is copied without its
instances: containers/image asks no policy then.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from imgtools.testing.sigstore.local import LocalSigstore
from interop.rig import Image, Registry
from interop.rig.cosign import PASSPHRASE, Ours
from interop.rig.peers import BIN
from tests.rig import RunCli
from tests.sign.conftest import gpg_keys
from tests.sign.openpgp_home import Keys

__all__ = ["gpg_keys"]

Who = Literal["ours", "theirs"]
SIGNERS: tuple[Who, ...] = ("ours", "theirs")
ADDRESS = "user@example.test"
MODES = {
    "": ((), ()),
    "all": (("--all",), ("-all",)),
    "index-only": (("--multi-arch=index-only",), ("-index-only",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """imgtools and containers/image, with one configuration and the keys `a` and `b`."""

    root: Path
    registry: Registry
    base: str
    images: dict[str, Image]
    ours: Ours
    keys: dict[str, tuple[Path, Path]] = field(default_factory=dict)

    def name(self, place: str) -> str:
        """REPOSITORY:TAG in full."""
        return f"{self.registry.host}/{self.base}/{place}"

    def cimage(self, *words: str | Path) -> str:
        """What containers/image complains of, "" for nothing."""
        done = subprocess.run(
            [BIN / "cimage", *words],
            env={"HOME": str(self.root), "PATH": os.defpath, "TMPDIR": str(self.root)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )
        return "" if done.returncode == 0 else done.stderr or "no reason"

    def policy(self, *requirements: dict[str, Any]) -> Path:
        """A policy for everything."""
        path = self.root / "policy.json"
        path.write_text(json.dumps({"default": list(requirements)}))
        return path

    def configure(self, text: str) -> Path:
        """registries.d for everything."""
        directory = self.root / "registries.d"
        directory.mkdir(exist_ok=True)
        (directory / "all.yaml").write_text(f"default-docker:\n{text}")
        return directory

    @property
    def registries_d(self) -> Path:
        """As it was configured."""
        return self.root / "registries.d"

    def put(self, kind: str, place: str) -> str:
        """Copy a test image there; its digest."""
        source = f"dir:{self.images[kind].directory}"
        self.ours(
            "copy", "--all", "--dest-tls-verify=false", source, f"docker://{self.name(place)}"
        )
        return self.images[kind].digest

    def sign(self, who: Who, place: str, key: str) -> None:
        """Sign an image that is there, all of it, with a key."""
        private, _ = self.keys[key]
        if who == "ours":
            self.ours.sign(self.name(place), private, "sigstore")
            return
        image = f"docker://{self.name(place)}"
        policy = self.policy({"type": "insecureAcceptAnything"})
        flags = ("copy", "-all", policy, self.registries_d)
        assert self.cimage(*flags, image, image, private, PASSPHRASE) == ""

    def judged(self, place: str, *requirements: dict[str, Any], mode: str = "") -> dict[Who, bool]:
        """Whether each admits the image."""
        policy, (ours, theirs) = self.policy(*requirements), MODES[mode]
        image, out = f"docker://{self.name(place)}", f"dir:{self.root}/out"
        said = self.cimage("copy", *theirs, policy, self.registries_d, image, out)
        flags = ("--policy", policy, "--registries.d", self.registries_d, "copy")
        more = ("--remove-signatures", "--src-tls-verify=false")
        done = self.ours.any_status(*flags, *more, *ours, image, out)
        assert done.returncode in (0, 1), done.stderr
        return {"ours": done.returncode == 0, "theirs": said == ""}

    def requirement(self, *keys: str, **more: Any) -> dict[str, Any]:
        """sigstoreSigned by any of these keys."""
        paths = [str(self.keys[key][1]) for key in keys]
        where = {"keyPath": paths[0]} if len(paths) == 1 else {"keyPaths": paths}
        return {"type": "sigstoreSigned", **where, **more}


AGREED = {True: {"ours": True, "theirs": True}, False: {"ours": False, "theirs": False}}


@pytest.fixture(scope="module", params=SIGNERS)
def who(request: pytest.FixtureRequest) -> Who:
    """Who signed."""
    found: Who = request.param
    return found


@pytest.fixture(scope="module")
def both(
    who: Who,
    any_registry: Registry,
    images: dict[str, Image],
    tmp_path_factory: pytest.TempPathFactory,
) -> Both:
    """Both, with attachments configured."""
    root = tmp_path_factory.mktemp("policies")
    made = Both(
        root=root,
        registry=any_registry,
        base=f"policies/{who}",
        images=images,
        ours=Ours(RunCli(root / "cli")),
    )
    made.configure("  use-sigstore-attachments: true\n")
    for key in ("a", "b", "c"):
        made.keys[key] = made.ours.generate(root / key, "ecdsa-p256")
    return made


@pytest.fixture(scope="module")
def signed(both: Both, who: Who) -> Both:
    """Images: app:v1 signed, app:v2 the same, elsewhere:v1 with the signature of app:v1 beside
    it, bundled:v1, unsigned:v1; indexes signed altogether, at the top, in their instances."""
    digest = both.put("oci", "app:v1")
    for place in ("app:v2", "elsewhere:v1", "bundled:v1", "unsigned:v1"):
        both.put("oci", place)
    both.sign(who, "app:v1", "a")
    both.ours.sign(both.name("bundled:v1"), both.keys["a"][0], "bundle")
    carry(both, digest, "app", "elsewhere")
    top = both.put("index", "whole:v1")
    below = [entry["digest"] for entry in json.loads(both.images["index"].manifest)["manifests"]]
    both.sign(who, "whole:v1", "a")
    both.put("index", "top:v1")
    carry(both, top, "whole", "top")
    both.put("index", "instances:v1")
    for instance in below:
        carry(both, instance, "whole", "instances")
    return both


def carry(both: Both, digest: str, source: str, target: str) -> None:
    """Put the attachment of a manifest beside it elsewhere too, as it is."""
    tag = digest.replace(":", "-") + ".sig"
    names = (f"docker://{both.name(f'{place}:{tag}')}" for place in (source, target))
    both.ours("copy", "--src-tls-verify=false", "--dest-tls-verify=false", *names)


def identity(kind: str, **more: str) -> Callable[[Both], dict[str, Any]]:
    """signedIdentity; {} in texts is where the images are."""

    def make(both: Both) -> dict[str, Any]:
        where = both.name("").rstrip("/")
        given = {key: text.format(where) for key, text in more.items()}
        return both.requirement("a", signedIdentity={"type": kind, **given})

    return make


def data(key: str) -> Callable[[Both], dict[str, Any]]:
    """The key itself, in the policy; several as a list."""

    def make(both: Both) -> dict[str, Any]:
        found = [base64.b64encode(both.keys[k][1].read_bytes()).decode() for k in key]
        field = {"keyData": found[0]} if len(found) == 1 else {"keyDatas": found}
        return {"type": "sigstoreSigned", **field}

    return make


ROWS: dict[str, tuple[str, Callable[[Both], dict[str, Any]], bool]] = {
    "a key": ("app:v1", lambda both: both.requirement("a"), True),
    "the second of two keys": ("app:v1", lambda both: both.requirement("b", "a"), True),
    "keyData": ("app:v1", data("a"), True),
    "keyDatas": ("app:v1", data("ba"), True),
    "by digest": ("app@{digest}", lambda both: both.requirement("a"), True),
    "by digest, matchExact": ("app@{digest}", identity("matchExact"), False),
    "another key": ("app:v1", lambda both: both.requirement("b"), False),
    "another tag": ("app:v2", lambda both: both.requirement("a"), False),
    "another tag, matchRepository": ("app:v2", identity("matchRepository"), True),
    "another repository": ("elsewhere:v1", lambda both: both.requirement("a"), False),
    "another repository, matchRepository": ("elsewhere:v1", identity("matchRepository"), False),
    "another repository, remapIdentity": (
        "elsewhere:v1",
        identity("remapIdentity", prefix="{}/elsewhere", signedPrefix="{}/app"),
        True,
    ),
    "another repository, exactReference": (
        "elsewhere:v1",
        identity("exactReference", dockerReference="{}/app:v1"),
        True,
    ),
    "another repository, exactRepository": (
        "elsewhere:v1",
        identity("exactRepository", dockerRepository="{}/app"),
        True,
    ),
    "another reference": (
        "app:v1",
        identity("exactReference", dockerReference="{}/app:v2"),
        False,
    ),
    "a bundle": ("bundled:v1", lambda both: both.requirement("a"), False),
    "nothing": ("unsigned:v1", lambda both: both.requirement("a"), False),
    "no such key": (
        "app:v1",
        lambda both: {"type": "sigstoreSigned", "keyPaths": [str(both.keys["a"][1]), "/no/key"]},
        False,
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_images_are_judged_alike(signed: Both, row: str) -> None:
    place, make, admitted = ROWS[row]
    place = place.format(digest=signed.images["oci"].digest)
    assert signed.judged(place, make(signed)) == AGREED[admitted]


def test_every_requirement_has_to_be_met(signed: Both) -> None:
    requirements = (signed.requirement("a"), signed.requirement("b"))
    assert signed.judged("app:v1", *requirements) == AGREED[False]


INDEXES = {
    ("whole", ""): AGREED[True],
    ("whole", "all"): AGREED[True],
    ("whole", "index-only"): AGREED[True],
    ("top", ""): AGREED[False],
    ("top", "all"): AGREED[False],
    ("top", "index-only"): AGREED[True],
    ("instances", ""): AGREED[True],
    ("instances", "all"): AGREED[True],
    ("instances", "index-only"): {"ours": False, "theirs": True},
}


@pytest.mark.parametrize(("place", "mode"), INDEXES)
def test_indexes_are_judged_alike(signed: Both, place: str, mode: str) -> None:
    """But those that are copied without instances, of which it asks nothing."""
    rule = identity("exactReference", dockerReference="{}/whole:v1")(signed)
    assert signed.judged(f"{place}:v1", rule, mode=mode) == INDEXES[place, mode]


def test_what_is_rejected_comes_in_by_no_way(signed: Both) -> None:
    """It brings in an index that no policy admits, when that comes without instances."""
    reject = {"type": "reject"}
    assert signed.judged("whole:v1", reject) == AGREED[False]
    assert signed.judged("whole:v1", reject, mode="all") == AGREED[False]
    only = signed.judged("whole:v1", reject, mode="index-only")
    assert only == {"ours": False, "theirs": True}


def test_signatures_of_both_join(both: Both, who: Who) -> None:
    """Whoever is second adds a layer."""
    digest = both.put("oci", "joined:v1")
    second: Who = "theirs" if who == "ours" else "ours"
    both.sign(who, "joined:v1", "a")
    both.sign(second, "joined:v1", "b")
    repository, tag = f"{both.base}/joined", digest.replace(":", "-") + ".sig"
    manifest = both.registry.manifest(repository, tag).json()
    blob = f"/v2/{repository}/blobs/{manifest['config']['digest']}"
    config = json.loads(both.registry.request("GET", blob).body)
    layers = [layer["digest"] for layer in manifest["layers"]]
    assert len(layers) == 2
    assert config["rootfs"] == {"type": "layers", "diff_ids": layers}
    for key, admitted in {"a": True, "b": True, "c": False}.items():
        assert both.judged("joined:v1", both.requirement(key)) == AGREED[admitted]


@pytest.fixture(scope="module")
def sigstore() -> Iterator[LocalSigstore]:
    """A certificate authority and a log."""
    with LocalSigstore() as services:
        yield services


def sign_by_parameters(both: Both, who: Who, place: str, parameters: dict[str, Any]) -> None:
    """Copy app:v1 there, signed as a file of parameters says."""
    file = both.root / "parameters.yaml"
    file.write_text(json.dumps(parameters))
    both.put("oci", "plain:v1")
    source, target = (f"docker://{both.name(p)}" for p in ("plain:v1", place))
    if who == "ours":
        flags = ("--src-tls-verify=false", "--dest-tls-verify=false")
        both.ours("copy", *flags, "--sign-by-sigstore", file, source, target)
    else:
        policy = both.policy({"type": "insecureAcceptAnything"})
        flags = ("-sign-by-sigstore", str(file))
        assert both.cimage("copy", *flags, policy, both.registries_d, source, target) == ""


def test_keys_in_a_log(both: Both, who: Who, sigstore: LocalSigstore) -> None:
    """By a file of parameters; what is in no log does not do."""
    (both.root / "passphrase").write_text(PASSPHRASE)
    log = both.root / "rekor.pub"
    log.write_bytes(sigstore.rekor.public_pem)
    parameters = {
        "privateKeyFile": str(both.keys["a"][0]),
        "privateKeyPassphraseFile": str(both.root / "passphrase"),
        "rekorURL": sigstore.url,
    }
    sign_by_parameters(both, who, "logged:v1", parameters)
    both.put("oci", "unlogged:v1")
    both.sign(who, "unlogged:v1", "a")
    asked = both.requirement("a", rekorPublicKeyPath=str(log))
    assert both.judged("logged:v1", asked) == AGREED[True]
    assert both.judged("logged:v1", both.requirement("a")) == AGREED[True]
    assert both.judged("unlogged:v1", asked) == AGREED[False]
    log.write_bytes(both.keys["b"][1].read_bytes())
    assert both.judged("logged:v1", asked) == AGREED[False]


def test_certificates(both: Both, who: Who, sigstore: LocalSigstore) -> None:
    """Of the right address and issuer, below the right root, in the right log."""
    log, root, other = (both.root / name for name in ("log.pub", "root.pem", "other.pem"))
    log.write_bytes(sigstore.rekor.public_pem)
    root.write_bytes(sigstore.root_pem)
    other.write_bytes(LocalSigstore().root_pem)
    parameters = {
        "fulcio": {
            "fulcioURL": sigstore.url,
            "oidcMode": "staticToken",
            "oidcIDToken": sigstore.token(ADDRESS),
        },
        "rekorURL": sigstore.url,
    }
    sign_by_parameters(both, who, "certified:v1", parameters)
    rows = {
        (): True,
        ("subjectEmail", "other@example.test"): False,
        ("oidcIssuer", "https://other.example"): False,
        ("caPath", str(other)): False,
    }
    for change, admitted in rows.items():
        fulcio = {
            "caPath": str(root),
            "oidcIssuer": sigstore.issuer.url,
            "subjectEmail": ADDRESS,
        }
        if change:
            fulcio[change[0]] = change[1]
        asked = {"type": "sigstoreSigned", "fulcio": fulcio, "rekorPublicKeyPath": str(log)}
        assert both.judged("certified:v1", asked) == AGREED[admitted], change


def test_simple_signatures(both: Both, who: Who, gpg_keys: Keys) -> None:
    """GPG with an RSA key, in lookaside storage; theirs is Debian's skopeo, since the library
    without GPGME only verifies."""
    both.put("oci", "plain:v1")
    lookaside = f"file://{both.root}/lookaside"
    # The old names, which all of them know.
    both.configure(f"  sigstore: {lookaside}\n  sigstore-staging: {lookaside}\n")
    source, target = (f"docker://{both.name(p)}" for p in ("plain:v1", "simple:v1"))
    insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
    fingerprint, home = gpg_keys.fingerprint["rsa"], str(gpg_keys.home.path)
    words = ("copy", *insecure, "--sign-by", fingerprint, source, target)
    flags = ("--registries.d", str(both.registries_d))
    if who == "ours":
        both.ours(*flags, *words, GNUPGHOME=home)
    else:
        env = {"HOME": str(both.root), "GNUPGHOME": home, "PATH": os.defpath}
        skopeo = ("skopeo", "--insecure-policy", *flags, *words)
        subprocess.run(skopeo, env=env, capture_output=True, check=True, timeout=60)
    for key, admitted in {"rsa": True, "p256": False}.items():
        ring = both.root / f"{key}.gpg"
        ring.write_bytes(gpg_keys.public[key])
        asked = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(ring)}
        assert both.judged("simple:v1", asked) == AGREED[admitted]
    asked = both.requirement("a")
    assert both.judged("simple:v1", asked) == AGREED[False]
    both.configure("  use-sigstore-attachments: true\n")


def test_signatures_are_lost_by_nobody(signed: Both) -> None:
    """A layout has no place for attachments; and where they are off nothing is signed. It has
    pushed the image by then, we have not."""
    image, layout = f"docker://{signed.name('app:v1')}", f"oci:{signed.root}/layout:v1"
    policy = signed.policy({"type": "insecureAcceptAnything"})
    said = signed.cimage("copy", "-keep", policy, signed.registries_d, image, layout)
    assert "signatures for OCI images is not supported" in said
    flags = ("--registries.d", signed.registries_d, "copy", "--src-tls-verify=false")
    refused = signed.ours(*flags, image, layout, status=1)
    assert "remove-signatures" in refused.stderr

    signed.configure("  use-sigstore-attachments: false\n")
    private = signed.keys["a"][0]
    signing = ("--dest-tls-verify=false", "--sign-by-sigstore-private-key", private)
    refused = signed.ours(
        *flags, *signing, image, f"docker://{signed.name('off-ours:v1')}", status=1
    )
    assert "disabled by configuration" in refused.stderr
    assert signed.registry.tags(f"{signed.base}/off-ours") == []
    target = f"docker://{signed.name('off-theirs:v1')}"
    words = ("copy", policy, signed.registries_d, image, target, private, PASSPHRASE)
    assert "disabled by configuration" in signed.cimage(*words)
    assert signed.registry.tags(f"{signed.base}/off-theirs") == ["v1"]
    signed.configure("  use-sigstore-attachments: true\n")
