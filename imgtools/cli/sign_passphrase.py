"""The passphrase of a private key: from the file that was named, the environment, or a prompt."""

from __future__ import annotations

import sys

from imgtools.cli.settings import Settings
from imgtools.errors import InvalidInput
from imgtools.sign.keys.passphrase import VARIABLE, read_passphrase_file


def passphrase(settings: Settings, path: str, file: str | None, *, new: bool = False) -> bytes:
    """The passphrase of the key at `path`, which may be empty.

    It is the first line of `file` if one was named, else what COSIGN_PASSWORD is set to, else
    what the user types, twice for a `new` key. Raises InvalidInput without a terminal and for
    two different answers, and what reading the file raises.
    """
    if file:
        return read_passphrase_file(file)
    if settings.passphrase is not None:
        return settings.passphrase
    if not sys.stdin.isatty():
        raise InvalidInput(
            f"cannot prompt for a passphrase for key {path}, standard input is not a TTY",
            hint=f"name a file that has it in its first line, or set {VARIABLE}",
        )
    answer = _ask(f"Passphrase for key {path}: ")
    if new and _ask("The same again: ") != answer:
        raise InvalidInput("the two passphrases differ")
    return answer


def _ask(prompt: str) -> bytes:
    import getpass

    try:
        return getpass.getpass(prompt).encode("utf-8", "surrogateescape")
    except EOFError as e:
        raise InvalidInput("error reading password: EOF") from e
