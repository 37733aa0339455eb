"""The modes that --chmod asks for: octal digits, or the clauses of chmod(1).

Clauses follow the rules of setmode(3) of the BSDs with an umask of 0, which BuildKit has:
`u` and `g` carry set-id bits, so `u=rwx` clears set-uid, and `X` looks at the mode the file
had before the first clause.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from imgtools.errors import InvalidInput

ModeChange = Callable[[int, bool], int]
"""(mode without type, whether it is a directory) to the new mode."""

MAX_MODE = 0o7777
SET_UID, SET_GID, STICKY = 0o4000, 0o2000, 0o1000
CLASSES = {"u": SET_UID | 0o700, "g": SET_GID | 0o070, "o": 0o007, "a": SET_UID | SET_GID | 0o777}
EVERYBODY = CLASSES["a"]
BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
SHIFTS = {"u": 6, "g": 3, "o": 0}
CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXstugo]*)+)")
OPERATION = re.compile(r"([-+=])([rwxXstugo]*)")


def octal_mode(text: str) -> int | None:
    """The mode that `text` says in octal digits, None if it says clauses (or nothing).

    Raises InvalidInput beyond 7777 and for digits that are not octal.
    """
    if not text or not text[0].isdigit():
        return None
    if not re.fullmatch(r"[0-7]{1,12}", text) or int(text, 8) > MAX_MODE:
        raise InvalidInput(f"--chmod={text}: expected octal digits between 0 and 7777")
    return int(text, 8)


def mode_change(text: str) -> ModeChange | None:
    """What --chmod makes of a mode, None for an empty one; raises InvalidInput."""
    octal = octal_mode(text)
    if octal is not None:
        fixed = octal
        return lambda mode, is_dir: fixed
    if not text:
        return None
    steps: list[tuple[str, str, str]] = []
    for clause in text.split(","):
        found = CLAUSE.fullmatch(clause)
        if found is None:
            raise InvalidInput(
                f"--chmod={text}: {clause!r} is no clause of a mode",
                hint="write octal digits such as 755, or clauses such as u=rwX,go=rX",
            )
        steps += [(found[1], op, perms) for op, perms in OPERATION.findall(found[2])]
    return lambda mode, is_dir: _apply(steps, mode, is_dir)


def parents_mode(text: str) -> int:
    """The mode of directories that a copy makes on its way: what --chmod says in octal, its
    special bits left out, else 755 (BuildKit)."""
    octal = octal_mode(text)
    return 0o755 if octal is None else octal & 0o777


def _apply(steps: list[tuple[str, str, str]], before: int, is_dir: bool) -> int:
    mode = before
    searchable = is_dir or bool(before & 0o111)
    for classes, op, perms in steps:
        who = 0
        for letter in classes:
            who |= CLASSES[letter]
        bits = _bits(perms, who, mode, searchable or op == "-")
        reach = (who or EVERYBODY) | (STICKY if bits & STICKY else 0)
        if op == "=":
            mode = mode & ~reach | bits & reach
        elif op == "+":
            mode |= bits & reach
        else:
            mode &= ~(bits & reach)
    return mode


def _bits(perms: str, who: int, mode: int, searchable: bool) -> int:
    """The bits that letters stand for, in every class."""
    bits = 0
    others_only = bool(who) and not who & ~CLASSES["o"]
    for letter in perms:
        if letter in BITS:
            bits |= BITS[letter]
        elif letter == "X":
            bits |= 0o111 if searchable else 0
        elif letter in SHIFTS:
            copied = mode >> SHIFTS[letter] & 7
            bits |= copied << 6 | copied << 3 | copied
        elif not others_only:
            bits |= STICKY if letter == "t" else SET_UID | SET_GID
    return bits
