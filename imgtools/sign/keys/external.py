"""Signing with a key that somebody else holds: a command in front of a KMS, an HSM or a token.

The command reads what is to be signed from standard input and answers the signature on standard
output. It is somebody else's program: it gets no shell and limited time, its answer is bounded,
and a signature is used only after it was verified with the public key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
import selectors
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import field
from typing import IO

from imgtools.errors import InvalidInput, InvalidKey, InvalidSignature
from imgtools.frozen import dataclass
from imgtools.sign.keys.public import PublicKey

log = logging.getLogger(__name__)

SECONDS = 60.0
"""How long a command may take: a person may have to touch a token."""

_ANSWER_LIMIT = 16 * 1024
_ERRORS_LIMIT = 4096
_ERRORS_SHOWN = 500
_LOOK_UP = 0.25
"""Seconds between looks at whether the command has ended or the wait was cancelled."""


def _never() -> None:
    """Ends no wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalSigner:
    """A command that signs (a `protocols.KeySigner`), and the public key of what it signs with.

    `command` is a program and its arguments. On standard input it gets the message, or with
    `digest` the 32 bytes of its SHA-256; it answers the signature: ECDSA as DER or as r and s
    side by side, RSA PKCS #1 v1.5, Ed25519, each over SHA-256 where a hash is needed, as bytes
    or in base64. `timeout` is in seconds; `check` is called now and then, and may raise to end
    the wait. Raises InvalidInput for an empty command and for digests with an Ed25519 key.
    """

    command: tuple[str, ...] = field(repr=False)
    public: PublicKey
    digest: bool = False
    timeout: float = SECONDS
    check: Callable[[], object] = field(default=_never, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise InvalidInput("the command of an external signer is empty")
        if any("\0" in word for word in self.command):
            raise InvalidInput("the command of an external signer has a NUL character")
        if self.digest and self.public.is_ed25519:
            raise InvalidInput(
                "an Ed25519 key signs messages, not digests",
                hint="let the external signer take the message",
            )

    @property
    def public_pem(self) -> bytes:
        """The public key, PKIX PEM."""
        return self.public.pem

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`, verified, ECDSA as DER.

        Raises InvalidKey when the command cannot be started, fails, takes too long, or does
        not answer a signature by the public key; and what `check` raises.
        """
        data = hashlib.sha256(message).digest() if self.digest else message
        status, answer, errors = _run(self, data)
        program = _program(self)
        if status != 0:
            said = " ".join(errors.decode("utf-8", "replace").split())[:_ERRORS_SHOWN]
            how = f"status {status}" if status > 0 else f"signal {-status}"
            raise InvalidKey(f"external signer {program} failed ({how})" + (said and f": {said}"))
        for signature in _readings(answer):
            try:
                self.public.verify(signature, message)
            except InvalidSignature:
                continue
            return self.public.to_der(signature)
        raise InvalidKey(
            f"external signer {program} answered {len(answer)} bytes, which are no signature "
            f"by the {self.public.description} key {self.public.spki_sha256[:12]}",
            hint="check that the public key belongs to the signer's key, and that it signs "
            "over SHA-256",
        )


def _readings(answer: bytes) -> tuple[bytes, ...]:
    """What an answer may mean: the bytes of a signature, or base64 of them."""
    try:
        return answer, base64.b64decode(b"".join(answer.split()), validate=True)
    except binascii.Error:
        return (answer,)


def _program(signer: ExternalSigner) -> str:
    """The name of the program; its arguments may be secret."""
    return repr(os.path.basename(signer.command[0]))[:80]


def _run(signer: ExternalSigner, data: bytes) -> tuple[int, bytes, bytes]:
    """Status, standard output and the beginning of standard error of one call."""
    signer.check()
    program = _program(signer)
    log.debug("asking external signer %s for a signature", program)
    try:
        # In our own process group, so that it can ask for a PIN on the terminal.
        process = subprocess.Popen(
            signer.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        raise InvalidKey(f"external signer {program} does not start: {reason}") from e
    with process:
        try:
            answer, errors = _talk(process, signer, data)
        finally:
            if process.poll() is None:
                process.kill()
        return process.wait(), answer, errors


def _talk(
    process: subprocess.Popen[bytes], signer: ExternalSigner, data: bytes
) -> tuple[bytes, bytes]:
    """Write `data` and read both outputs at the same time, until the process has ended."""
    assert process.stdin
    assert process.stdout
    assert process.stderr
    deadline = time.monotonic() + signer.timeout
    outputs: dict[IO[bytes], bytearray] = {
        process.stdout: bytearray(),
        process.stderr: bytearray(),
    }
    rest = memoryview(data)
    with selectors.DefaultSelector() as selector:
        for stream in outputs:
            selector.register(stream, selectors.EVENT_READ)
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        while True:
            signer.check()
            ended = process.poll() is not None
            ready = selector.select(0 if ended else _LOOK_UP) if selector.get_map() else []
            for key, _ in ready:
                stream = key.fileobj  # type: ignore[assignment]
                if stream is process.stdin:
                    rest = rest[_feed(process.stdin, rest) :]
                    if not rest:
                        selector.unregister(stream)
                        _close(process.stdin)
                elif not _listen(stream, outputs[stream], process.stderr is stream, signer):
                    selector.unregister(stream)
            # What an agent that outlives the command keeps open is not waited for.
            if ended and not [key for key, _ in ready if key.fileobj is not process.stdin]:
                return bytes(outputs[process.stdout]), bytes(outputs[process.stderr])
            if time.monotonic() >= deadline:
                raise InvalidKey(
                    f"external signer {_program(signer)} did not answer within "
                    f"{signer.timeout:g} seconds"
                )
            if not selector.get_map():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_UP)


def _feed(stream: IO[bytes], rest: memoryview) -> int:
    """Bytes that were taken; a command that does not want the rest has taken it all."""
    try:
        return stream.write(rest) or 0
    except BrokenPipeError:
        return len(rest)


def _close(stream: IO[bytes]) -> None:
    with suppress(BrokenPipeError):
        stream.close()


def _listen(stream: IO[bytes], into: bytearray, errors: bool, signer: ExternalSigner) -> bool:
    """Read what is there; False at the end. Errors are cut, a long answer is refused."""
    data = stream.read(_ANSWER_LIMIT)
    if errors:
        into += (data or b"")[: _ERRORS_LIMIT - len(into)]
    else:
        into += data or b""
        if len(into) > _ANSWER_LIMIT:
            raise InvalidKey(
                f"external signer {_program(signer)} answered more than {_ANSWER_LIMIT} bytes"
            )
    return bool(data)
