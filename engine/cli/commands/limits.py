"""`update`, `pause` and `resume`: what is done to a container's cgroup."""

from __future__ import annotations

from engine.cli.arguments import Arguments, Option, Syntax
from engine.cli.context import Context
from engine.cli.files import read_document
from engine.runtime.container import control
from engine.runtime.errors import InvalidConfig
from engine.runtime.spec.parse import parse_resources

UNITS = "kmgtp"
MAX_DIGITS = 24
NO_RDT = "Intel RDT is not supported"
# Option, kind of value, place in the document of linux.resources.
LIMITS = (
    ("blkio-weight", "integer", "blockIO.weight"),
    ("cpu-burst", "integer", "cpu.burst"),
    ("cpu-idle", "integer", "cpu.idle"),
    ("cpu-period", "integer", "cpu.period"),
    ("cpu-quota", "integer", "cpu.quota"),
    ("cpu-rt-period", "integer", "cpu.realtimePeriod"),
    ("cpu-rt-runtime", "integer", "cpu.realtimeRuntime"),
    ("cpu-share", "integer", "cpu.shares"),
    ("cpuset-cpus", "text", "cpu.cpus"),
    ("cpuset-mems", "text", "cpu.mems"),
    ("kernel-memory", "size", "memory.kernel"),
    ("kernel-memory-tcp", "size", "memory.kernelTCP"),
    ("memory", "size", "memory.limit"),
    ("memory-reservation", "size", "memory.reservation"),
    ("memory-swap", "size", "memory.swap"),
    ("pids-limit", "integer", "pids.limit"),
)


def pause(context: Context) -> int:
    """`imgtools-runtime pause`."""
    control.pause(context.runtime, context.id)
    return 0


def resume(context: Context) -> int:
    """`imgtools-runtime resume`."""
    control.resume(context.runtime, context.id)
    return 0


def update(context: Context) -> int:
    """`imgtools-runtime update`."""
    arguments = context.arguments
    if arguments.text("resources"):
        document = read_document(arguments.text("resources"))
    else:
        document = resources_of(arguments)
    resources = parse_resources(document)
    control.update(context.runtime, context.id, resources, context.log.warn)
    return 0


def resources_of(arguments: Arguments) -> dict[str, dict[str, object]]:
    """The linux.resources that options ask for; raises InvalidConfig.

    No option at all changes nothing, which is not an error for runc either.
    """
    document: dict[str, dict[str, object]] = {}
    for name, kind, place in LIMITS:
        text = arguments.text(name)
        if not text:
            continue
        value: object = text
        if kind == "integer":
            value = _integer(text, name)
        elif kind == "size":
            value = size(text, f"option --{name}")
        section, _, member = place.partition(".")
        document.setdefault(section, {})[member] = value
    return document


def _integer(text: str, name: str) -> int:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 20:
        raise InvalidConfig(f"option --{name}: expected an integer, got {text!r}")
    return int(text)


def size(text: str, name: str) -> int:
    """Bytes: -1, 1048576, 512m, 1.5GiB (powers of 1024); raises InvalidConfig calling it
    `name`."""
    if text == "-1":
        return -1
    lower = text.lower().removesuffix("b").removesuffix("i")
    factor = 1
    if lower[-1:] and lower[-1] in UNITS:
        factor = 1024 ** (UNITS.index(lower[-1]) + 1)
        lower = lower[:-1]
    whole, point, fraction = lower.strip().partition(".")
    digits = whole + fraction
    plain = digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS
    if not plain or (point and not fraction):
        raise InvalidConfig(f"{name}: expected bytes such as 512m, or -1, got {text!r}")
    parts: int = 10 ** len(fraction)
    return int(digits) * factor // parts


COMMANDS = {
    "pause": (
        Syntax(
            usage="pause CONTAINER",
            description="Freeze the processes of a container.",
            minimum=1,
            maximum=1,
        ),
        pause,
    ),
    "resume": (
        Syntax(
            usage="resume CONTAINER",
            description="Let the processes of a paused container go on.",
            minimum=1,
            maximum=1,
        ),
        resume,
    ),
    "update": (
        Syntax(
            usage="update [options] CONTAINER",
            description="Change resource limits of a container; those not named stay.\n"
            "Sizes are bytes, or have a unit (512m, 1.5g); times are microseconds.",
            options=(
                Option(
                    name="resources",
                    letter="r",
                    value="FILE",
                    help="take all limits from FILE (linux.resources as JSON), - is stdin",
                ),
                Option(name="blkio-weight", value="N", help="weight of block I/O, 10 to 1000"),
                Option(name="cpu-burst", value="TIME", help="unused time that may be saved up"),
                Option(name="cpu-idle", value="0|1", help="1 runs only when nothing else does"),
                Option(name="cpu-period", value="TIME", help="the period of the quota"),
                Option(name="cpu-quota", value="TIME", help="CPU time in each period"),
                Option(name="cpu-rt-period", value="TIME", help="the period for real time"),
                Option(name="cpu-rt-runtime", value="TIME", help="real time in each period"),
                Option(name="cpu-share", value="N", help="weight of CPU time"),
                Option(name="cpuset-cpus", value="LIST", help="CPUs to use"),
                Option(name="cpuset-mems", value="LIST", help="memory nodes to use"),
                Option(name="kernel-memory", value="SIZE", help="cgroup v1 only, deprecated"),
                Option(name="kernel-memory-tcp", value="SIZE", help="cgroup v1 only"),
                Option(name="memory", value="SIZE", help="limit of memory, -1 is none"),
                Option(name="memory-reservation", value="SIZE", help="the soft limit"),
                Option(name="memory-swap", value="SIZE", help="memory and swap together"),
                Option(name="pids-limit", value="N", help="limit of processes, -1 is none"),
                Option(name="l3-cache-schema", value="SCHEMA", refusal=NO_RDT),
                Option(name="mem-bw-schema", value="SCHEMA", refusal=NO_RDT),
            ),
            minimum=1,
            maximum=1,
        ),
        update,
    ),
}
