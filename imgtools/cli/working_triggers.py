"""What the ONBUILD of an image asks of a working container that is made from it.

Instructions about the config are carried out; those that copy files or run commands need a
build context, which `from` does not have.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from imgtools.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from engine.working.edits import ConfigEdit
    from engine.working.model import WorkingContainer

SHELL = ("/bin/sh", "-c")
Maker = Callable[[str], "ConfigEdit"]


def without_triggers(
    container: WorkingContainer, *, warn: Callable[[str], object]
) -> WorkingContainer:
    """The container with its triggers carried out and gone. Raises Unsupported, InvalidInput."""
    from imgtools.build.planning import config_state as state

    triggers = tuple(container.run_config.get("OnBuild") or ())
    document = {**container.document, "config": state.without_triggers(container.run_config)}
    return with_instructions(replace(container, document=document), triggers, warn=warn)


def with_instructions(
    container: WorkingContainer, lines: tuple[str, ...], *, warn: Callable[[str], object]
) -> WorkingContainer:
    """The container with instructions about its config carried out, one a line. Raises
    Unsupported for others, InvalidInput."""
    import time

    from engine.working.edits import edited
    from engine.working.times import rfc3339

    for line in lines:
        keyword, _, rest = line.strip().partition(" ")
        make = _MAKERS.get(keyword.upper())
        if make is None:
            raise Unsupported(
                f"{keyword.upper() or 'an empty line'} cannot be carried out here",
                hint=f"only {', '.join(_MAKERS)} can",
            )
        container = edited(container, make(rest.strip()), now=rfc3339(time.time_ns()), warn=warn)
    return container


def command_words(text: str) -> tuple[str, ...]:
    """The words of CMD and ENTRYPOINT: a JSON list of texts, or a line for the shell."""
    found = json_words(text)
    return found if found is not None else (*SHELL, text) if text else ()


def json_words(text: str) -> tuple[str, ...] | None:
    """The texts of a JSON list, None for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    return None


def shell_words(text: str, option: str) -> tuple[str, ...]:
    """The words that a shell would see; raises InvalidInput for an open quote."""
    try:
        return tuple(shlex.split(text))
    except ValueError as e:
        raise InvalidInput(f"{option} {text!r}: {e}") from e


def _pairs(text: str) -> tuple[str, ...]:
    words = shell_words(text, "ENV or LABEL")
    if words and "=" not in words[0]:
        name, _, value = text.partition(" ")
        return (f"{name}={value.strip()}",)
    if not all("=" in word for word in words):
        raise InvalidInput(f"{text!r}: expected NAME=VALUE")
    return words


def _edit(**changes: object) -> ConfigEdit:
    from engine.working.edits import ConfigEdit

    return ConfigEdit(**changes)  # type: ignore[arg-type]


def _health(text: str) -> ConfigEdit:
    from engine.working.edits import HealthEdit

    keyword, _, rest = text.partition(" ")
    if keyword.upper() == "NONE":
        return _edit(health=HealthEdit(test=("NONE",)))
    if keyword.upper() != "CMD":
        raise Unsupported("HEALTHCHECK with options cannot be carried out here")
    words = json_words(rest)
    test = ("CMD", *words) if words is not None else ("CMD-SHELL", rest.strip())
    return _edit(health=HealthEdit(test=test))


_MAKERS: Mapping[str, Maker] = MappingProxyType({
    "CMD": lambda text: _edit(command=command_words(text)),
    "ENTRYPOINT": lambda text: _edit(entrypoint=command_words(text)),
    "ENV": lambda text: _edit(env=_pairs(text)),
    "EXPOSE": lambda text: _edit(ports=tuple(text.split())),
    "HEALTHCHECK": _health,
    "LABEL": lambda text: _edit(labels=_pairs(text)),
    "MAINTAINER": lambda text: _edit(author=text),
    "ONBUILD": lambda text: _edit(triggers=(text,)),
    "SHELL": lambda text: _edit(shell=json_words(text) or ()),
    "STOPSIGNAL": lambda text: _edit(stop_signal=text),
    "USER": lambda text: _edit(user=text),
    "VOLUME": lambda text: _edit(volumes=json_words(text) or tuple(text.split())),
    "WORKDIR": lambda text: _edit(workdir=text),
})  # fmt: skip
