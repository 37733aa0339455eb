"""The entry of imgtools-runtime: options before the command, the command, its exit code.

Everything that only some commands need is imported by those, so that `run` starts quickly.
"""

from __future__ import annotations

import os
import sys

from engine.cli.arguments import (
    Arguments,
    Option,
    Syntax,
    check_count,
    parse_arguments,
)
from engine.cli.context import Context, absolute, output
from engine.cli.log import Log
from engine.cli.version import VERSION
from engine.runtime.container.options import RuntimeOptions
from engine.runtime.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Failure,
    InvalidConfig,
    Unsupported,
)
from engine.runtime.kernel.files import open_missing_stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    Main = Callable[[Context], int]

NO_SYSTEMD = (
    "cgroups are not managed by systemd here; use --cgroup-manager=cgroupfs, "
    "as an option of podman too"
)
GLOBAL = Syntax(
    usage="[global options] COMMAND [options] [arguments...]",
    description="Run containers as the OCI runtime specification describes them.",
    options=(
        Option(name="debug", help="write debug messages to the log"),
        Option(name="log", value="FILE", help="append messages to FILE, not to standard error"),
        Option(name="log-format", value="FORMAT", help="text (default) or json"),
        Option(name="log-level", value="LEVEL", help="error, warning, info or debug"),
        Option(name="root", value="DIR", help="where the state of containers is kept"),
        Option(
            name="cgroup-manager",
            value="MANAGER",
            help="cgroupfs (default), or disabled to leave cgroups alone",
        ),
        Option(name="systemd-cgroup", help="not supported", refusal=NO_SYSTEMD),
        Option(
            name="rootless",
            value="BOOL",
            help="leave out limits that cannot be set: true, false or auto (default)",
        ),
        Option(
            name="criu",
            value="FILE",
            help="not supported",
            refusal="checkpoints are not supported",
        ),
        Option(name="version", letter="v", help="print the version and end"),
    ),
    maximum=None,
    options_first=True,
)
COMMANDS = {
    "create": "create a container; start lets its program run",
    "start": "run the program of a created container",
    "state": "print the state of a container",
    "kill": "send a signal to a container",
    "delete": "delete a container that has stopped",
    "run": "create and start a container, wait for it and delete it",
    "exec": "run another program in a running container",
    "ps": "list the processes of a container",
    "list": "list containers",
    "pause": "freeze the processes of a container",
    "resume": "let the processes of a paused container go on",
    "update": "change the resource limits of a container",
    "features": "print what this runtime supports",
    "spec": "write a config.json to begin with",
}
FOREIGN = ("checkpoint", "restore", "events", "mounts")
NOT_FOUND, NOT_EXECUTABLE, EXEC_FAILED = 127, 126, 255


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what `words` (the arguments without the program's name) say; the exit code.

    Errors are reported as the options say, and never raised but for those of writing to
    standard output.
    """
    log = Log()
    command = ""
    try:
        arguments = parse_arguments(GLOBAL, words)
        log = _log(arguments)
        if arguments.flag("version"):
            output(version_text())
            return 0
        if arguments.help or arguments.positional[:1] in ([], ["help"]):
            return _help(arguments)
        command, *rest = arguments.positional
        return _run(command, rest, arguments, log, environ)
    except Failure as e:
        log.error(e)
        return exit_code(command, e)


def exit_code(command: str, failure: Failure) -> int:
    """The exit code of a failed command: like a shell's where the program is at fault, 255 for
    other failures of `exec` as runc has it, which leaves 1 to the program."""
    if command in ("run", "exec"):
        if isinstance(failure, CommandNotFound):
            return NOT_FOUND
        if isinstance(failure, CommandNotExecutable):
            return NOT_EXECUTABLE
    return EXEC_FAILED if command == "exec" else 1


def version_text() -> str:
    """What --version prints; the last line is how crun tells what it was built with."""
    from engine.runtime.spec.version import NEWEST

    return f"imgtools-runtime version {VERSION}\nspec: {NEWEST}\n+CAP +SECCOMP +EBPF\n"


def _log(arguments: Arguments) -> Log:
    return Log(
        path=arguments.text("log"),
        form=arguments.text("log-format", "text"),
        level="debug" if arguments.flag("debug") else arguments.text("log-level"),
    )


def _help(arguments: Arguments) -> int:
    from engine.cli.help import command_help, overview

    topic = arguments.positional[1] if arguments.positional[1:] else ""
    if topic:
        output(command_help(topic, load(topic)[0]))
    else:
        output(overview(GLOBAL, COMMANDS))
    return 0


def _run(
    command: str, rest: list[str], outer: Arguments, log: Log, environ: Mapping[str, str]
) -> int:
    syntax, execute = load(command)
    arguments = parse_arguments(syntax, rest)
    if arguments.help:
        from engine.cli.help import command_help

        output(command_help(command, syntax))
        return 0
    check_count(command, syntax, arguments)
    runtime = RuntimeOptions(
        root=_root(outer, environ),
        cgroup_manager=_cgroup_manager(outer),
        rootless=_rootless(outer),
        environment=tuple(f"{name}={value}" for name, value in environ.items()),
        verbose=log.is_verbose,
    )
    log.debug(f"{command} with state in {runtime.root}")
    return execute(Context(runtime=runtime, log=log, environ=environ, arguments=arguments))


def load(command: str) -> tuple[Syntax, Main]:
    """A command's syntax and function; raises InvalidConfig for what is none, Unsupported for
    what is one of other runtimes only."""
    match command:
        case "create" | "run":
            from engine.cli.commands import create

            return create.COMMANDS[command]
        case "start" | "state" | "kill" | "delete":
            from engine.cli.commands import lifecycle

            return lifecycle.COMMANDS[command]
        case "exec":
            from engine.cli.commands import execute

            return execute.COMMANDS[command]
        case "list" | "ps":
            from engine.cli.commands import listing

            return listing.COMMANDS[command]
        case "pause" | "resume" | "update":
            from engine.cli.commands import limits

            return limits.COMMANDS[command]
        case "features" | "spec":
            from engine.cli.commands import describe

            return describe.COMMANDS[command]
        case _ if command in FOREIGN:
            raise Unsupported(f"{command}: this runtime has no such command")
        case _:
            raise InvalidConfig(
                f"unknown command {command!r}", hint="imgtools-runtime --help lists them"
            )


def _root(arguments: Arguments, environ: Mapping[str, str]) -> str:
    if not arguments.given("root"):
        from engine.cli.root import default_root

        return default_root(environ)
    root = os.path.normpath(absolute(arguments.text("root")) or "/")
    if root.strip("/") == "":
        raise InvalidConfig("option --root: expected a directory of its own, got /")
    return root


def _cgroup_manager(arguments: Arguments) -> str:
    manager = arguments.text("cgroup-manager", "cgroupfs")
    if manager == "systemd":
        raise Unsupported(f"option --cgroup-manager=systemd: {NO_SYSTEMD}")
    if manager not in ("cgroupfs", "disabled"):
        raise InvalidConfig(
            f"option --cgroup-manager: expected cgroupfs or disabled, got {manager!r}"
        )
    return manager


def _rootless(arguments: Arguments) -> bool | None:
    match arguments.text("rootless", "auto").lower():
        case "auto" | "":
            return None
        case "true" | "t" | "1":
            return True
        case "false" | "f" | "0":
            return False
        case other:
            raise InvalidConfig(f"option --rootless: expected true, false or auto, got {other!r}")


def entry() -> NoReturn:
    """Run as a program: with this process's arguments, and out without the interpreter's
    clearing up, which takes longer than many a command."""
    try:
        open_missing_stdio()
        code = main(sys.argv[1:], os.environ)
    except BrokenPipeError:
        code = 1
    except OSError as e:
        Log().error(Failure(f"write to standard output: {(e.strerror or str(e)).lower()}"))
        code = 1
    except MemoryError:
        Log().error(Failure("out of memory"))
        code = 1
    except KeyboardInterrupt:
        code = 130
    os._exit(code)
