"""cosign, and imgtools beside it: both with the same passphrase, on registries without TLS.

cosign runs without any service of sigstore: no log is written or asked, and nothing is fetched,
but where a test names the services of its own.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Literal

from interop.rig.peers import BIN
from tests.rig import RunCli

PASSPHRASE = "correct horse"
Format = Literal["sigstore", "bundle"]
FORMATS: tuple[Format, ...] = ("sigstore", "bundle")

_UNLOGGED = ("--tlog-upload=false", "--use-signing-config=false")


class Cosign:
    """The client in a home of its own; images are HOST/REPOSITORY@DIGEST or :TAG."""

    def __init__(self, home: Path) -> None:
        """Use `home` for keys and caches."""
        self.home = home

    def __call__(self, *arguments: str | Path, accept: bool = True) -> str:
        """Run it, which has to succeed, or with `accept` false to fail; all that it printed."""
        done = subprocess.run(
            [BIN / "cosign", *arguments],
            env={
                "COSIGN_PASSWORD": PASSPHRASE,
                "HOME": str(self.home),
                "PATH": "/usr/bin:/bin",
                "SIGSTORE_NO_CACHE": "1",
                "TMPDIR": str(self.home),
            },
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        said = f"{' '.join(map(str, arguments))}: status {done.returncode}: {done.stderr}"
        assert (done.returncode == 0) == accept, said
        return done.stdout if accept else done.stderr

    def generate(self, prefix: str) -> tuple[Path, Path]:
        """A new pair: the private key, the public key."""
        self("generate-key-pair", "--output-key-prefix", prefix)
        return self.home / f"{prefix}.key", self.home / f"{prefix}.pub"

    def sign(self, image: str, key: Path, form: Format, *more: str) -> None:
        """Sign with a key, without a log."""
        self("sign", "--key", key, *self._options(form), *_UNLOGGED, "-y", *more, image)

    def attest(self, image: str, key: Path, form: Format, kind: str, predicate: Path) -> None:
        """Say `predicate` of an image."""
        flags = ("--type", kind, "--predicate", predicate, *self._options(form), *_UNLOGGED, "-y")
        self("attest", "--key", key, *flags, image)

    def verify(
        self, image: str, key: Path, form: Format, *more: str, accept: bool = True
    ) -> list[Any]:
        """What it says of the signatures that hold; nothing unless `accept`."""
        flags = ("--key", key, "--insecure-ignore-tlog", *self._options(form))
        said = self("verify", *flags, *more, image, accept=accept)
        return list(json.loads(said)) if accept else []

    def verify_attestation(self, image: str, key: Path, form: Format, kind: str) -> Any:
        """The envelope that holds."""
        flags = ("--type", kind, "--insecure-ignore-tlog", *self._options(form))
        return json.loads(self("verify-attestation", "--key", key, *flags, image))

    def _options(self, form: Format) -> tuple[str, ...]:
        return ("--allow-http-registry", f"--new-bundle-format={str(form == 'bundle').lower()}")


class Ours:
    """imgtools with the passphrase; images are named as for cosign."""

    def __init__(self, run: RunCli) -> None:
        """Run it by `run`."""
        self._run = run

    def any_status(self, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run it, `env` added to its environment."""
        return self._run(*arguments, env={"COSIGN_PASSWORD": PASSPHRASE, **env})

    def __call__(
        self, *arguments: str | Path, status: int = 0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it, which has to end with `status`."""
        done = self.any_status(*arguments, **env)
        command = " ".join(map(str, arguments))
        assert done.returncode == status, f"{command}: status {done.returncode}: {done.stderr}"
        return done

    def generate(self, prefix: Path, kind: str) -> tuple[Path, Path]:
        """A new pair: the private key, the public key."""
        self("generate-sigstore-key", "--output-prefix", prefix, "--type", kind)
        return Path(f"{prefix}.private"), Path(f"{prefix}.pub")

    def sign(self, image: str, key: Path, form: str, *more: str | Path) -> None:
        """Sign with a key, and all instances as well."""
        flags = ("--tls-verify=false", "--format", form)
        self("sign", *flags, "--key", key, *more, f"docker://{image}")

    def verify(
        self, image: str, key: Path, *more: str | Path, status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Verify with a key."""
        flags = ("--tls-verify=false", "--key", key)
        return self("verify", *flags, *more, f"docker://{image}", status=status)
