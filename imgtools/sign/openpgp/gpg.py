"""GnuPG, driven: verifying in a home of its own that lives as long as one call, signing with
the user's.

What holds is read from status lines (GnuPG's doc/DETAILS), every one of which counts: GnuPG
reports "valid" for signatures that expired and for keys that were revoked, and its exit code
says even less. python-gnupg runs the program and hands over the lines.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from imgtools.errors import InvalidKey, InvalidSignature, LimitExceeded, Unsupported
from imgtools.frozen import dataclass
from imgtools.sign.model import PAYLOAD_LIMIT
from imgtools.sign.openpgp.packets import read_message

_KEYRING_LIMIT = 32 * 1024 * 1024
_LONGEST = 60.0
"""Seconds of one run of gpg that nobody types for; it takes a fiftieth of one."""

_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")

_ISOLATED = (
    "--no-options",
    "--no-autostart",
    "--disable-dirmngr",
    "--no-auto-key-retrieve",
    "--no-auto-key-import",
    "--no-auto-check-trustdb",
    "--trust-model",
    "always",
)
"""No configuration, no agents, no network, and no opinion on who vouches for a key."""

_BAD = frozenset(
    (
        "BADSIG",
        "ERRSIG",
        "EXPSIG",
        "EXPKEYSIG",
        "REVKEYSIG",
        "NO_PUBKEY",
        "NODATA",
        "UNEXPECTED",
        "FAILURE",
        "ERROR",
        "BADARMOR",
        "DECRYPTION_FAILED",
        "DECRYPTION_OKAY",
        "ENC_TO",
    )
)
"""Status lines with any of which a message is not what it should be, whatever else is said."""

_REASONS = {
    "NO_PUBKEY": "the signature is of a key that is not among those given",
    "BADSIG": "the signature does not match what it signs",
    "ERRSIG": "the signature cannot be checked",
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "the key of the signature has expired",
    "REVKEYSIG": "the key of the signature was revoked",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpgVerified:
    """A message whose one signature holds. Fingerprints are upper-case hex; `primary` is of
    the key that owns the signing (sub)key, and is what keys are known by. `created` is when
    the signer says that it was signed."""

    payload: bytes
    primary_fingerprint: str
    signing_fingerprint: str
    created: datetime


def verify_message(
    blob: bytes, keyrings: Sequence[bytes], what: str, *, now: datetime | None = None
) -> GpgVerified:
    """Verify the signed message `blob`, named `what`, by any key of `keyrings` (binary or
    armored); `now` judges it at another time than the present.

    Raises InvalidSignature for one that does not hold; InvalidKey for a key ring in which
    there is no key; Unsupported where there is no GnuPG.
    """
    message = read_message(blob, what)
    with _home() as home:
        gpg = _gnupg(home, now)
        trusted = {key for number, ring in enumerate(keyrings, 1) for key in _import(
            gpg, ring, f"key ring {number} of {len(keyrings)}")}  # fmt: skip
        if not trusted:
            raise InvalidKey("there is no key to verify signatures with")
        result = _verify(gpg, blob, what)
    payload = bytes(result.data or b"")
    verified = _judged(result.lines, payload, what)
    if result.returncode != 0:
        raise InvalidSignature(f"{what}: gpg failed with status {result.returncode}")
    if payload != message.payload:
        raise InvalidSignature(f"{what}: gpg reads another payload from it than we do")
    if verified.primary_fingerprint not in trusted:
        raise InvalidSignature(f"{what}: it is signed by {verified.primary_fingerprint},"
                               " which is not among the keys given")  # fmt: skip
    return verified


def read_keys(keyrings: Sequence[bytes]) -> tuple[str, ...]:
    """The primary fingerprints of the keys in `keyrings`, in their order, each once.

    Raises InvalidKey for a key ring in which there is no key, Unsupported.
    """
    with _home() as home:
        gpg = _gnupg(home, None)
        found: dict[str, None] = {}
        for number, ring in enumerate(keyrings, 1):
            found.update(dict.fromkeys(_import(gpg, ring, f"key ring {number} of {len(keyrings)}")))
    return tuple(found)


def export_keys(fingerprints: Sequence[str], *, homedir: str | None = None) -> bytes:
    """The public keys with `fingerprints` in the user's own key ring, or the one of
    `homedir`; what is not there is left out. Raises InvalidKey, Unsupported."""
    for fingerprint in fingerprints:
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise InvalidKey(
                f"{fingerprint!r} is not the fingerprint of a key",
                hint="gpg --list-keys --with-colons shows fingerprints: 40 hexadecimal digits",
            )
    if not fingerprints:
        return b""
    gpg = _make(_GpgOptions(home=homedir, options=(), environment=None))
    exported = gpg.export_keys(list(fingerprints), armor=False, minimal=False)
    return exported if isinstance(exported, bytes) else b""


def export_key(key: str, *, homedir: str | None = None) -> bytes:
    """The public keys that `key` (as for `sign_message`) may mean, b"" for none; raises
    InvalidKey, Unsupported."""
    _check_key(key)
    gpg = _make(_GpgOptions(home=homedir, options=(), environment=None))
    exported = gpg.export_keys(key, armor=False, minimal=False)
    return exported if isinstance(exported, bytes) else b""


def sign_message(
    payload: bytes, key: str, *, homedir: str | None = None, passphrase: bytes | None = None
) -> bytes:
    """A signed message, binary and compressed, of `payload` by the secret key `key`: its
    fingerprint, key id, or the mail address of its owner.

    The key is in the user's own key ring, or the one of `homedir`. `passphrase` goes to GnuPG
    through a pipe; without it GnuPG's agent asks for one. Raises InvalidKey when there is no
    such key or it cannot be used, Unsupported.
    """
    _check_key(key)
    words = (passphrase or b"").decode("latin-1")
    if any(c in words for c in "\r\n\0"):
        raise InvalidKey("the passphrase has more than one line")
    extra = ["--local-user", key, "--digest-algo", "SHA512", "--compress-algo", "zip",
             "--no-armor", "--no-textmode", "--set-filename", ""]  # fmt: skip
    if passphrase is not None:
        # Without this a passphrase that is empty would be asked for on a terminal.
        extra += ["--pinentry-mode", "loopback"]
    gpg = _make(_GpgOptions(home=homedir, options=(), environment=None))
    result = gpg.sign(
        payload,
        passphrase=words or None,
        clearsign=False,
        detach=False,
        binary=True,
        extra_args=extra,
    )
    blob = bytes(result.data or b"")
    made = [value for name, value in result.lines if name == "SIG_CREATED"]
    if result.returncode != 0 or len(made) != 1 or not blob:
        why = _reason(result)
        raise InvalidKey(f"gpg cannot sign with the key {key!r}: {why}", hint=_advice(why))
    if read_message(blob, "what gpg signed").payload != payload:
        raise InvalidKey(f"gpg signed something else with the key {key!r} than it was given")
    return blob


def _check_key(key: str) -> None:
    """Raise InvalidKey for what gpg would not take for the name of a key."""
    if not key.strip() or key.startswith("-") or any(ord(c) < 0x20 for c in key):
        raise InvalidKey(f"{key!r} names no key", hint="give the fingerprint of a secret key")


def _judged(lines: Sequence[tuple[str, str]], payload: bytes, what: str) -> GpgVerified:
    """The one good signature that `lines` tell of; raises InvalidSignature."""
    names = [name for name, _ in lines]
    bad = [name for name in names if name in _BAD]
    if bad:
        known = next((name for name in _REASONS if name in bad), bad[0])
        raise InvalidSignature(f"{what}: {_REASONS.get(known, f'gpg says {known}')}")
    for name in ("NEWSIG", "GOODSIG", "VALIDSIG", "PLAINTEXT"):
        if names.count(name) != 1:
            raise InvalidSignature(
                f"{what}: gpg says {name} {names.count(name)} times, and not once"
            )
    # VALIDSIG: fingerprint, date, timestamp, expiry, version, reserved, key algorithm, digest
    # algorithm, class, and the primary key's fingerprint.
    fields = next(value for name, value in lines if name == "VALIDSIG").split()
    if len(fields) < 10 or not all(_FINGERPRINT.fullmatch(fields[i]) for i in (0, 9)):
        raise InvalidSignature(f"{what}: gpg does not say which key it is signed with")
    return GpgVerified(
        payload=payload,
        primary_fingerprint=fields[9],
        signing_fingerprint=fields[0],
        created=_time(fields[2]),
    )


def _time(text: str) -> datetime:
    """Seconds since 1970, or ISO 8601 basic form (doc/DETAILS allows both)."""
    if "T" in text:
        return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return datetime.fromtimestamp(int(text), UTC)


@contextmanager
def _home() -> Iterator[str]:
    """An empty GnuPG home, gone after the block; mode 0700 comes of mkdtemp."""
    with tempfile.TemporaryDirectory(prefix="gpg-", ignore_cleanup_errors=True) as path:
        yield path


@dataclass(frozen=True, slots=True, kw_only=True)
class _GpgOptions:
    """How gpg is run: `home` None is the user's, `environment` None the process's own; after
    `seconds` it is killed, None where it may wait for somebody to type."""

    home: str | None
    options: tuple[str, ...]
    environment: Mapping[str, str] | None
    seconds: float | None = None


def _gnupg(home: str, now: datetime | None) -> Any:
    """GnuPG in the home `home`, isolated from everything else."""
    faked = () if now is None else (f"--faked-system-time={int(now.timestamp())}!",)
    return _make(
        _GpgOptions(
            home=home,
            options=(*_ISOLATED, *faked),
            environment={"GNUPGHOME": home, "HOME": home, "LC_ALL": "C"},
            seconds=_LONGEST,
        )
    )


def _make(options: _GpgOptions) -> Any:
    """python-gnupg, with all status lines kept; raises Unsupported."""
    import gnupg

    class Lines(gnupg.Verify):  # type: ignore[misc]
        """Keeps every status line as it came."""

        def __init__(self, gpg: Any) -> None:
            super().__init__(gpg)
            self.lines: list[tuple[str, str]] = []
            self.data: bytes | None = None

        def handle_status(self, key: str, value: str) -> None:
            self.lines.append((key, value))

    class Gpg(gnupg.GPG):  # type: ignore[misc]
        """Results of our kind where we read them."""

        @property
        def result_map(self) -> dict[str, Any]:
            ours = {"verify": Lines, "sign": Lines, "import": Lines}
            return {**gnupg.GPG.result_map, **ours}

        def _open_subprocess(self, *arguments: Any, **named: Any) -> Any:
            """Started, and killed when it takes too long."""
            process = super()._open_subprocess(*arguments, **named)
            if options.seconds is not None:
                self.watch = threading.Timer(options.seconds, process.kill)
                self.watch.daemon = True
                self.watch.start()
            return process

        def done(self) -> None:
            """Watch the last run no more."""
            self.watch.cancel()

    program = shutil.which("gpg")
    if program is None:
        raise Unsupported(
            "simple signatures need GnuPG, and there is no gpg in the search path",
            hint="as root: apt-get install gnupg",
        )
    try:
        gpg = Gpg(
            gpgbinary=program,
            gnupghome=options.home,
            options=list(options.options),
            env=None if options.environment is None else dict(options.environment),
        )
        if options.seconds is not None:
            gpg.done()
        return gpg
    except (OSError, ValueError) as e:
        raise Unsupported(f"{program} does not work: {e}") from e


def _import(gpg: Any, keyring: bytes, what: str) -> tuple[str, ...]:
    """The primary fingerprints of the keys in `keyring`, which are in gpg's home then."""
    if len(keyring) > _KEYRING_LIMIT:
        raise LimitExceeded(what, _KEYRING_LIMIT)
    try:
        result = gpg.import_keys(keyring)
    except BrokenPipeError as e:
        raise InvalidKey(f"{what}: gpg reads only the beginning of it") from e
    finally:
        gpg.done()
    found = [value.split() for name, value in result.lines if name == "IMPORT_OK"]
    keys = tuple(words[1] for words in found if len(words) > 1 and _FINGERPRINT.fullmatch(words[1]))
    if not keys:
        raise InvalidKey(
            f"{what}: there is no OpenPGP public key in it",
            hint="gpg --export --armor FINGERPRINT writes one",
        )
    return keys


def _verify(gpg: Any, blob: bytes, what: str) -> Any:
    """gpg's status lines, status and the payload it read, for `blob`."""
    import io

    arguments = ["--output", "-", "--max-output", str(PAYLOAD_LIMIT)]
    try:
        return gpg.verify_file(io.BytesIO(blob), extra_args=arguments)
    except BrokenPipeError as e:
        raise InvalidSignature(f"{what}: gpg reads only the beginning of it") from e
    finally:
        gpg.done()


def _advice(why: str) -> str | None:
    """What to do about what gpg says when it cannot sign."""
    if "No secret key" in why:
        return "gpg --list-secret-keys shows the keys that can sign"
    if any(words in why for words in ("Inappropriate ioctl", "No pinentry", "No such device")):
        return "nobody can be asked for the passphrase here: give a file that has it"
    return None


def _reason(result: Any) -> str:
    """The last words of gpg for people, without its status lines."""
    lines = [line for line in str(result.stderr).splitlines() if not line.startswith("[GNUPG:]")]
    said = [line.removeprefix("gpg: ").strip() for line in lines if line.strip()]
    return said[-1] if said else f"it ended with status {result.returncode}"
