"""`imgtools config CONTAINER`: what an image of a working container will say of itself."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.build_flags import many, together
from imgtools.cli.build_values import words
from imgtools.cli.output import notes, warn
from imgtools.cli.state import Cli
from imgtools.cli.store_options import store_flags
from imgtools.cli.working_command import records_of, working_verb
from imgtools.cli.working_flags import history_flag, wants_history
from imgtools.errors import InvalidInput

if TYPE_CHECKING:
    from engine.working.edits import ConfigEdit, HealthEdit

NOP = "/bin/sh -c #(nop)"
_PLAIN = (
    ("author", ("--author",), "Who maintains the image."),
    ("created_by", ("--created-by",), "What the history says of how the layer was made."),
    ("architecture", ("--arch",), "Architecture."),
    ("variant", ("--variant",), "Variant of the architecture."),
    ("os", ("--os",), "Operating system."),
    ("os_version", ("--os-version",), "Version of it that is needed; - for none."),
    ("user", ("--user", "-u"), "User of commands."),
    ("stop_signal", ("--stop-signal",), "Signal that stops a container."),
    ("workdir", ("--workingdir",), "Working directory."),
    ("comment", ("--comment",), "Comment (of docker's format)."),
    ("history_comment", ("--history-comment",), "Comment of the layer's history."),
    ("hostname", ("--hostname",), "Host name (of docker's format, and of commands here)."),
    ("domainname", ("--domainname",), "Domain name (of docker's format)."),
)
_LISTS = (
    ("os_features", ("--os-feature",), "Feature of the system that is needed."),
    ("ports", ("--port", "-p"), "Port that is listened at."),
    ("env", ("--env", "-e"), "Variable NAME=VALUE, where $NAME is what it was."),
    ("volumes", ("--volume", "-v"), "Directory for a volume."),
    ("labels", ("--label", "-l"), "Label NAME=VALUE."),
    ("unset_labels", ("--unsetlabel",), "Label to take away."),
    ("triggers", ("--onbuild",), "Instruction for images made from this one."),
    ("annotations", ("--annotation", "-a"), "Annotation NAME=VALUE."),
    ("unset_annotations", ("--unsetannotation",), "Annotation to take away."),
)
_HEALTH = (
    ("interval", "Time between runs of the check."),
    ("timeout", "Time that the check may take."),
    ("start_period", "Time in which failures do not count."),
    ("start_interval", "Time between runs in the start period."),
)
_WITH_COMMAS = ("ports", "volumes", "triggers", "unset_labels", "unset_annotations")


def _flags(function: Any) -> Any:
    decorators = [click.option(*names, field, metavar="VALUE", help=note)
                  for field, names, note in _PLAIN]  # fmt: skip
    decorators += [many(*names, field, metavar="VALUE", help=note + " A trailing - removes one, "
                        "- alone all.") for field, names, note in _LISTS]  # fmt: skip
    decorators += [click.option(f"--healthcheck-{field.replace('_', '-')}", f"health_{field}",
                                metavar="DURATION", help=note)
                   for field, note in _HEALTH]  # fmt: skip
    decorators += [
        click.option("--healthcheck", metavar="COMMAND",
                     help="CMD WORD..., CMD-SHELL LINE or NONE; empty for that of the base."),
        click.option("--healthcheck-retries", "health_retries", type=int, metavar="N",
                     help="Failures in a row that count."),
        click.option("--cmd", "cmd", metavar="COMMAND", help="Default command: words, or JSON."),
        click.option("--entrypoint", metavar="COMMAND",
                     help="Entry point: a JSON list, or a line for the shell."),
        click.option("--shell", metavar="WORDS", help="Shell of lines."),
        history_flag,
    ]  # fmt: skip
    return together(decorators)(function)


@working_verb("config", program=True, short_help="Change what an image will say of itself.")
@click.argument("words_", nargs=-1, metavar="CONTAINER")
@_flags
@store_flags
@click.pass_obj
def command(cli: Cli, /, words_: tuple[str, ...], **kwargs: Any) -> None:
    """Change the config of the images that the working CONTAINER will be committed to."""
    if len(words_) != 1:
        raise InvalidInput(
            "too many arguments specified" if words_ else "container ID must be specified"
        )
    from engine.working.edits import edited
    from engine.working.times import rfc3339

    with records_of(cli, kwargs) as containers:
        edit = _edit(kwargs)
        with containers.held(words_[0], task=cli.task(notes)) as held:
            if edit.hostname and held.container.format == "oci":
                warn("a host name is kept by docker's format only, not by OCI's")
            held.change(edited(held.container, edit, now=rfc3339(time.time_ns()), warn=warn))


def _edit(kwargs: dict[str, Any]) -> ConfigEdit:
    from engine.working.edits import ConfigEdit
    from imgtools.cli.working_words import json_words, shell_words

    found: dict[str, Any] = {field: kwargs[field] for field, _, _ in _PLAIN}
    for field, _, _ in _LISTS:
        found[field] = words(kwargs[field]) if field in _WITH_COMMAS else tuple(kwargs[field])
    found["env"] = tuple(_with_value(each) for each in found["env"])
    if (line := kwargs["cmd"]) is not None:
        given = json_words(line)
        found["command"] = given if given is not None else shell_words(line, "--cmd")
    if (line := kwargs["entrypoint"]) is not None:
        given = json_words(line)
        found["entrypoint"] = (
            given if given is not None else ("/bin/sh", "-c", line) if line.strip() else ()
        )
    if kwargs["shell"] is not None:
        found["shell"] = shell_words(kwargs["shell"], "--shell")
    found["health"] = _health(kwargs)
    history = _history(kwargs) if wants_history(kwargs) else ()
    return ConfigEdit(**found, history=history)


def _with_value(entry: str) -> str:
    """NAME=VALUE, with our own value where only NAME was given."""
    if "=" in entry or entry.endswith("-"):
        return entry
    value = os.environ.get(entry, "")
    if not value:
        raise InvalidInput(f"setting env {entry!r}: no value given")
    return f"{entry}={value.replace('$', '$$')}"


def _health(kwargs: dict[str, Any]) -> HealthEdit | None:
    from engine.working.edits import HealthEdit
    from imgtools.cli.working_words import shell_words

    given = {field: kwargs[f"health_{field}"] for field, _ in _HEALTH}
    given["retries"] = kwargs["health_retries"]
    line = kwargs["healthcheck"]
    if line is None and all(value is None for value in given.values()):
        return None
    if line is not None:
        given["test"] = shell_words(line, "--healthcheck")
    return HealthEdit(**given)


def _history(kwargs: dict[str, Any]) -> tuple[str, ...]:
    """What the history says of each option, in buildah's words and order."""
    found = []
    steps = (
        ("USER", kwargs["user"]),
        ("SHELL", kwargs["shell"]),
        ("STOPSIGNAL", kwargs["stop_signal"]),
        ("EXPOSE", " ".join(kwargs["ports"]) or None),
        ("ENV", " ".join(kwargs["env"]) or None),
        ("ENTRYPOINT", kwargs["entrypoint"]),
        ("CMD", kwargs["cmd"]),
        *(("VOLUME", each) for each in kwargs["volumes"]),
        ("HEALTHCHECK", kwargs["healthcheck"]),
        ("LABEL", " ".join(kwargs["labels"]) or None),
        ("WORKDIR", kwargs["workdir"]),
        *(("ONBUILD", each) for each in kwargs["triggers"]),
    )
    for keyword, value in steps:
        if value is not None:
            found.append(f"{NOP} {keyword} {value}")
    return tuple(found)
