"""Hints name options as verbs with one registry have them; copy and sync have them twice."""

from __future__ import annotations

import re
from collections.abc import Collection

from imgtools.errors import Error, SeveralErrors

_OPTION = re.compile(r"(?<![\w-])--(creds|no-creds|cert-dir|tls-verify)(=\w+)?(?![\w-])")


def adapt_hints(error: Error, options: Collection[str]) -> None:
    """Make the hints of `error` name options that are among `options`, those of the verb."""
    for each in error.errors if isinstance(error, SeveralErrors) else (error,):
        if each.hint is not None:
            each.hint = adapted(each.hint, options)


def adapted(hint: str, options: Collection[str]) -> str:
    """`hint` with `--creds` as `--src-creds or --dest-creds` where a verb has those."""

    def both(found: re.Match[str]) -> str:
        name, value = found[1], found[2] or ""
        if f"--src-{name}" not in options:
            return found[0]
        return f"--src-{name}{value} or --dest-{name}{value}"

    return _OPTION.sub(both, hint)
