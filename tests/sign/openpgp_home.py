"""A GnuPG home with keys of every kind, made anew in each run, and messages signed with them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}'
REFERENCE = "registry.example/ns/app:v1"
PASSPHRASE = "correct horse"
THEN = "20200601T120000"
"""When what has expired by now was made."""


def payload(digest: str, reference: str = REFERENCE, **optional: object) -> bytes:
    """A payload as skopeo writes it."""
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": digest},
        "type": "atomic container signature",
    }
    return json.dumps({"critical": critical, "optional": optional}, separators=(",", ":")).encode()


class GpgHome:
    """Runs gpg in a home of its own, which goes with its agent at the end of the block."""

    def __init__(self) -> None:
        # Not below pytest's directories: the path of an agent's socket has 107 bytes at most.
        self.path = Path(tempfile.mkdtemp(prefix="gpg-"))
        # A passphrase that is remembered would make a wrong one do in the next test.
        (self.path / "gpg-agent.conf").write_text("default-cache-ttl 0\nmax-cache-ttl 0\n")

    def __enter__(self) -> GpgHome:
        return self

    def __exit__(self, *_: object) -> None:
        command = ["gpgconf", "--homedir", str(self.path), "--kill", "all"]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        shutil.rmtree(self.path, ignore_errors=True)

    def __call__(self, *arguments: str, input: bytes = b"", check: bool = True) -> bytes:
        """Standard output of `gpg --batch ARGUMENTS`."""
        done = subprocess.run(
            ["gpg", "--homedir", str(self.path), "--batch", "--quiet", "--no-tty", "--yes",
             "--trust-model", "always", *arguments],
            input=input, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr.decode()
        return done.stdout

    def make_key(
        self, name: str, kind: str = "nistp256", usage: str = "sign", expiry: str = "never",
        *options: str, passphrase: str = "",
    ) -> str:  # fmt: skip
        """Make a key of `name`@example.com; its fingerprint."""
        self("--pinentry-mode", "loopback", "--passphrase", passphrase, *options,
             "--quick-gen-key", f"{name} <{name}@example.com>", kind, usage, expiry)  # fmt: skip
        return self.fingerprints(name)[0]

    def fingerprints(self, name: str) -> list[str]:
        """Of the key of `name`: the primary one, and those of its subkeys."""
        listed = self("--with-colons", "--list-keys", f"{name}@example.com").decode()
        return [line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")]

    def edit(self, name: str, *words: str) -> None:
        """Answer the questions of --edit-key with `words`."""
        self("--expert", "--command-fd", "0", "--edit-key", f"{name}@example.com",
             input="".join(f"{word}\n" for word in (*words, "save")).encode())  # fmt: skip

    def sign(self, content: bytes, name: str, *options: str) -> bytes:
        """A signed message, or what `options` make of it."""
        return self(*options, "-u", f"{name}@example.com", "--sign", input=content)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys: `public` is the key ring of each by name, `fingerprint` the primary one."""

    home: GpgHome
    public: dict[str, bytes] = field(default_factory=dict)
    fingerprint: dict[str, str] = field(default_factory=dict)
    signing: dict[str, str] = field(default_factory=dict)
    made_before: dict[str, bytes] = field(default_factory=dict)
    """What keys signed before they were revoked, or lost their purpose."""


def make_keys(home: GpgHome, content: bytes) -> Keys:
    """Keys of every kind; `content` is signed by those that cannot do it later."""
    keys = Keys(home)
    faked = f"--faked-system-time={THEN}"
    home.make_key("rsa", "rsa2048")
    home.make_key("p256")
    home.make_key("ed25519", "ed25519")
    home.make_key("other")
    home.make_key("locked", passphrase=PASSPHRASE)
    home.make_key("expired", "nistp256", "sign", "1y", faked)
    keys.made_before["expired"] = home.sign(content, "expired", faked)
    home.make_key("old", "nistp256", "sign", "never", faked)
    for name in ("sub", "retired"):
        primary = home.make_key(name, "nistp256", "cert")
        home("--passphrase", "", "--pinentry-mode", "loopback",
             "--quick-add-key", primary, "ed25519", "sign", "never")  # fmt: skip
    keys.made_before["retired"] = home.sign(content, "retired")
    home.edit("retired", "key 1", "revkey", "y", "0", "", "y")
    fingerprint = home.make_key("revoked")
    keys.made_before["revoked"] = home.sign(content, "revoked")
    revocation = (home.path / "openpgp-revocs.d" / f"{fingerprint}.rev").read_bytes()
    home("--import", input=revocation.replace(b":-----BEGIN", b"-----BEGIN"))
    home.make_key("nosign", "nistp256", "sign")
    keys.made_before["nosign"] = home.sign(content, "nosign")
    home.edit("nosign", "change-usage", "s", "q")
    for name in ("rsa", "p256", "ed25519", "other", "locked", "expired", "old", "sub",
                 "retired", "revoked", "nosign"):  # fmt: skip
        found = home.fingerprints(name)
        keys.fingerprint[name], keys.signing[name] = found[0], found[-1]
        keys.public[name] = home("--export", f"{name}@example.com")
    return keys
