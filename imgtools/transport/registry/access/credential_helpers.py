"""Speaks with credential helpers: programs `docker-credential-NAME` that keep secrets.

The protocol is docker-credential-helpers': an action as the argument, a server or JSON on
standard input, JSON on standard output, status 1 with a fixed sentence for "nothing there".
A helper is somebody else's program: it gets no shell, limited time, and its answer is bounded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any, Literal

from imgtools.errors import InvalidInput, InvalidJSON, LimitExceeded
from imgtools.spec import strict_json
from imgtools.spec.reference import DOCKER_HUB
from imgtools.transport.options import Credentials
from imgtools.transport.registry.access.auth_files import DOCKER_HUB_KEY, is_text
from imgtools.transport.registry.wire.url import clean

log = logging.getLogger(__name__)

IDENTITY_USER = "<token>"
"""The user name with which a helper says that its secret is an identity token."""

_SECONDS = 30.0
_OUTPUT_LIMIT = 1024 * 1024
_STDERR_LIMIT = 4096
# What a pipe takes without a reader, so that no helper can block us by not reading.
_INPUT_LIMIT = 60 * 1024
_LOOK_UP = 0.25
"""Seconds between looks at whether the wait was cancelled."""
_NOTHING = "credentials not found in native keychain"

Action = Literal["get", "store", "erase", "list"]
Check = Callable[[], object]
"""Raises to end a wait."""


class HelperMissing(InvalidInput):
    """The program of a credential helper is not installed."""


class HelperFailed(InvalidInput):
    """A credential helper did not do what it was asked."""


def _never() -> None:
    """Ends no wait."""


def helper_get(helper: str, registry: str, *, check: Check = _never) -> Credentials | None:
    """What `helper` keeps for `registry`, None when it has nothing.

    `check` is called now and then. Raises HelperMissing, HelperFailed or InvalidInput, and
    what `check` raises, which ends the helper.
    """
    for server in servers(registry):
        found = _get(helper, server, check)
        if found is not None:
            return found
    return None


def helper_store(helper: str, registry: str, credentials: Credentials) -> None:
    """Have `helper` keep credentials; raises HelperMissing, HelperFailed or InvalidInput."""
    username, secret = credentials.username, credentials.password
    if credentials.identity_token:
        username, secret = IDENTITY_USER, credentials.identity_token
    if not is_text(username + secret):
        raise InvalidInput(f"{_program(helper)} can keep only text, and this is not UTF-8")
    value = {"ServerURL": servers(registry)[0], "Username": username, "Secret": secret}
    status, _, _ = _run(helper, "store", strict_json.dumps(value))
    if status != 0:
        # Not with what it said: that may repeat what it was given.
        raise HelperFailed(f"{_program(helper)} did not keep the credentials (status {status})")


def helper_erase(helper: str, registry: str) -> bool:
    """Have `helper` forget a registry; False when it had nothing of it.

    Raises HelperMissing, HelperFailed or InvalidInput.
    """
    erased = False
    for server in servers(registry):
        # Not every helper complains of what is not there, so it is asked before.
        if _get(helper, server) is None:
            continue
        status, output, errors = _run(helper, "erase", server.encode())
        if status != 0 and not _is_nothing(output):
            raise _failed(helper, status, output, errors)
        erased = True
    return erased


def helper_list(helper: str) -> tuple[str, ...]:
    """The servers that `helper` has credentials for.

    Raises HelperMissing, HelperFailed or InvalidInput.
    """
    status, output, errors = _run(helper, "list", b"unused")
    if status != 0:
        raise _failed(helper, status, output, errors)
    return tuple(_parse(helper, output))


def servers(registry: str) -> tuple[str, ...]:
    """What a registry may be called by whoever stored its credentials.

    docker calls Docker Hub by a URL, containers/image by its name.
    """
    return (DOCKER_HUB_KEY, DOCKER_HUB) if registry == DOCKER_HUB else (registry,)


def _get(helper: str, server: str, check: Check = _never) -> Credentials | None:
    status, output, errors = _run(helper, "get", server.encode("utf-8", "surrogateescape"), check)
    if status != 0:
        if not _is_nothing(output):
            raise _failed(helper, status, output, errors)
        log.debug("%s has no credentials of %s", _program(helper), server)
        return None
    value = _parse(helper, output)
    username, secret = value.get("Username"), value.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str):
        raise HelperFailed(f"the answer of {_program(helper)} has no Username or Secret")
    if not is_text(username + secret):
        raise HelperFailed(f"the answer of {_program(helper)} has half a character")
    if username == IDENTITY_USER:
        return Credentials(identity_token=secret) if secret else None
    return Credentials(username=username, password=secret) if username or secret else None


def _is_nothing(output: bytes) -> bool:
    return output.strip() == _NOTHING.encode()


def _parse(helper: str, output: bytes) -> Mapping[str, Any]:
    try:
        return strict_json.loads_object(output, "it", limit=_OUTPUT_LIMIT)
    except (InvalidJSON, LimitExceeded) as e:
        raise HelperFailed(f"the answer of {_program(helper)} is not what it should be: {e}") from e


def _failed(helper: str, status: int, output: bytes, errors: bytes) -> HelperFailed:
    """The error for a status; what the helper said is in it unless that may be an answer."""
    text = (output if output.strip() else errors).decode("utf-8", "replace")
    said = "" if "secret" in text.lower() else clean(text)
    return HelperFailed(
        f"{_program(helper)} failed (status {status})" + (f": {said}" if said else ""),
    )


def _program(helper: str) -> str:
    if not helper or "/" in helper or not helper.isprintable():
        raise InvalidInput(f"credential helper {helper!r} is not the end of a program's name")
    return f"docker-credential-{helper}"


def _run(
    helper: str, action: Action, data: bytes, check: Check = _never
) -> tuple[int, bytes, bytes]:
    """Status, standard output and the beginning of standard error of one call."""
    import subprocess

    check()

    program = _program(helper)
    deadline = time.monotonic() + _SECONDS
    if len(data) > _INPUT_LIMIT:
        raise InvalidInput(f"that is too long to be given to {program}")
    log.debug("asking %s to %s", program, action)
    try:
        process = subprocess.Popen(
            [program, action],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
    except FileNotFoundError as e:
        raise HelperMissing(f"credential helper {program} is not installed") from e
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        raise HelperFailed(f"credential helper {program} does not start: {reason}") from e
    with process:
        try:
            assert process.stdin is not None
            _feed(process.stdin, data)
            output, errors = _listen(process, program, deadline, check)
            while process.poll() is None:
                check()
                if time.monotonic() >= deadline:
                    raise HelperFailed(f"credential helper {program} does not end")
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_UP)
        finally:
            if process.poll() is None:
                process.kill()
    return process.returncode, output, errors


def _feed(stdin: IO[bytes], data: bytes) -> None:
    try:
        stdin.write(data)
        stdin.close()
    except BrokenPipeError:
        # It did not want to know; its status says what came of that.
        stdin.close()


def _listen(process: Any, program: str, deadline: float, check: Check) -> tuple[bytes, bytes]:
    """Both outputs of a process until they end; raises HelperFailed after `deadline`."""
    import os
    import selectors

    output, errors = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, output)
        selector.register(process.stderr, selectors.EVENT_READ, errors)
        while selector.get_map():
            check()
            left = deadline - time.monotonic()
            if left <= 0:
                raise HelperFailed(f"credential helper {program} does not answer")
            for key, _ in selector.select(min(left, _LOOK_UP)):
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.data is output:
                    output += chunk
                else:
                    errors += chunk[: _STDERR_LIMIT - len(errors)]
            if len(output) > _OUTPUT_LIMIT:
                raise HelperFailed(f"the answer of {program} has no end")
    return bytes(output), bytes(errors)
