"""`list` and `ps`: containers, and the processes of one."""

from __future__ import annotations

import os

from engine.cli.arguments import Option, Syntax
from engine.cli.context import Context, output
from engine.runtime.container import control, lifecycle
from engine.runtime.errors import InvalidConfig, KernelRefused, Unsupported
from engine.runtime.jsontext import encode
from engine.runtime.kernel.files import read_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
FORMAT = Option(name="format", letter="f", value="FORMAT", help="table (default) or json")
MIN_WIDTH, GAP = 12, 3
MAX_COMMAND = 4096


def list_containers(context: Context) -> int:
    """`imgtools-runtime list`."""
    arguments = context.arguments
    form = _format(arguments.text("format", "table"))
    containers = lifecycle.containers(context.runtime)
    for one in containers:
        one["owner"] = owner_of(os.path.join(context.runtime.root, one["id"]))
    if arguments.flag("quiet"):
        output("".join(f"{one['id']}\n" for one in containers))
    elif form == "json":
        output(encode(containers) + "\n")
    else:
        rows = [tuple(str(one.get(name.lower(), "")) for name in COLUMNS) for one in containers]
        output(table([COLUMNS, *rows]))
    return 0


def owner_of(path: str) -> str:
    """The name of the user that a container's state belongs to, `#1000` for one without."""
    import pwd

    try:
        uid = os.stat(path).st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def ps(context: Context) -> int:
    """`imgtools-runtime ps`."""
    arguments = context.arguments
    form = _format(arguments.text("format", "table"))
    pids = sorted(control.pids(context.runtime, context.id))
    if form == "json":
        output(encode(pids) + "\n")
        return 0
    options = arguments.positional[1:]
    try:
        listed = run_ps(options or ["-ef"])
    except FileNotFoundError as e:
        if options:
            raise Unsupported("ps: the program ps is not installed on this machine") from e
        output(table([("PID", "CMD"), *((str(pid), command_of(pid)) for pid in pids)]))
        return 0
    output(select(listed, set(pids)))
    return 0


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts with their columns aligned; the last one is as long as it is."""
    widths = [
        max(MIN_WIDTH, *(len(row[column]) + GAP for row in rows))
        for column in range(len(rows[0]) - 1)
    ]
    return "".join(
        "".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False))
        + f"{row[-1]}\n"
        for row in rows
    )


def run_ps(options: list[str]) -> str:
    """What the machine's ps prints; raises FileNotFoundError, KernelRefused."""
    import subprocess

    done = subprocess.run(["ps", *options], capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise KernelRefused(f"ps {' '.join(options)}: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode("utf-8", "surrogateescape")


def select(listed: str, pids: set[int]) -> str:
    """The title and those lines of ps that are about `pids`; raises InvalidConfig if no column
    tells."""
    title, *lines = listed.split("\n")
    names = title.split()
    if "PID" not in names:
        raise InvalidConfig("ps: its output has no column PID", hint="add pid to its format")
    column = names.index("PID")
    chosen = [title]
    for line in lines:
        fields = line.split()
        if len(fields) > column and fields[column].isdecimal() and int(fields[column]) in pids:
            chosen.append(line)
    return "\n".join(chosen) + "\n"


def command_of(pid: int) -> str:
    """The command line of a process on one line, empty if it is gone."""
    content = read_if_there(f"/proc/{pid}/cmdline", MAX_COMMAND)
    text = content.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def _format(name: str) -> str:
    if name not in ("table", "json"):
        raise InvalidConfig(f"option --format: expected table or json, got {name!r}")
    return name


COMMANDS = {
    "list": (
        Syntax(
            usage="list [options]",
            description="List the containers of --root.",
            options=(FORMAT, Option(name="quiet", letter="q", help="print names only")),
        ),
        list_containers,
    ),
    "ps": (
        Syntax(
            usage="ps [options] CONTAINER [ps options...]",
            description="List the processes of a container, by default as ps -ef does.",
            options=(FORMAT,),
            minimum=1,
            maximum=None,
            options_first=True,
        ),
        ps,
    ),
}
