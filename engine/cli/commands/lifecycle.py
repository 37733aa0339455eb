"""`start`, `state`, `kill` and `delete`: what is done to a container that exists."""

from __future__ import annotations

from engine.cli.arguments import Option, Syntax
from engine.cli.context import Context, output
from engine.runtime.container import lifecycle, removal
from engine.runtime.errors import Failure, InvalidConfig
from engine.runtime.jsontext import encode
from engine.runtime.process.signals import signal_number

REGEX = Option(name="regex", letter="r", help="CONTAINER is a regular expression for names")


def start(context: Context) -> int:
    """`imgtools-runtime start`."""
    lifecycle.start(context.runtime, context.id, context.log.warn)
    return 0


def state(context: Context) -> int:
    """`imgtools-runtime state`."""
    output(encode(lifecycle.state(context.runtime, context.id), indent=2) + "\n")
    return 0


def kill(context: Context) -> int:
    """`imgtools-runtime kill`."""
    arguments = context.arguments
    name = arguments.positional[1] if arguments.positional[1:] else "SIGTERM"
    # 0 is no signal, but asks whether one could be sent (kill(2)).
    number = 0 if name == "0" else signal_number(name)
    everything = arguments.flag("all")
    if not arguments.flag("regex"):
        lifecycle.kill(context.runtime, context.id, number, all=everything)
        return 0
    for name in matching(context):
        try:
            lifecycle.kill(context.runtime, name, number, all=everything)
        except Failure as e:
            context.log.warn(e.message)
    return 0


def delete(context: Context) -> int:
    """`imgtools-runtime delete`."""
    force = context.arguments.flag("force")
    if not context.arguments.flag("regex"):
        removal.delete(context.runtime, context.id, force, context.log.warn)
        return 0
    for name in matching(context):
        try:
            removal.delete(context.runtime, name, force, context.log.warn)
        except Failure as e:
            context.log.warn(e.message)
    return 0


def matching(context: Context) -> list[str]:
    """The ids that the regular expression in place of a container's id finds something in;
    raises InvalidConfig."""
    import re

    try:
        expression = re.compile(context.id)
    except re.error as e:
        raise InvalidConfig(f"invalid regular expression {context.id!r}: {e}") from e
    names = [str(one["id"]) for one in lifecycle.containers(context.runtime)]
    return [name for name in names if expression.search(name)]


COMMANDS = {
    "start": (
        Syntax(
            usage="start CONTAINER",
            description="Let the program of a created container run.",
            minimum=1,
            maximum=1,
        ),
        start,
    ),
    "state": (
        Syntax(
            usage="state CONTAINER",
            description="Print the state of a container as JSON.",
            minimum=1,
            maximum=1,
        ),
        state,
    ),
    "kill": (
        Syntax(
            usage="kill [options] CONTAINER [SIGNAL]",
            description="Send SIGNAL (9, KILL, SIGKILL, RTMIN+1; by default TERM) to the init\n"
            "process of a container.",
            options=(
                Option(name="all", letter="a", help="send it to all processes of the container"),
                REGEX,
            ),
            minimum=1,
            maximum=2,
        ),
        kill,
    ),
    "delete": (
        Syntax(
            usage="delete [options] CONTAINER",
            description="Delete a container that has stopped, with all that create made for it.",
            options=(
                Option(name="force", letter="f", help="kill the container first if it runs"),
                REGEX,
            ),
            minimum=1,
            maximum=1,
        ),
        delete,
    ),
}
