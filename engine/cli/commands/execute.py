"""`exec`: another program in a running container, told by options or by a process.json."""

from __future__ import annotations

from engine.cli.arguments import Arguments, Option, Syntax, decimal
from engine.cli.commands.create import check_console
from engine.cli.context import Context, absolute
from engine.cli.files import read_document
from engine.runtime.container.configuration import saved_config
from engine.runtime.container.entering import exec_process
from engine.runtime.container.options import ExecOptions
from engine.runtime.container.state import StateDir
from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.spec.model import Capabilities, Process, User
from engine.runtime.spec.parse import parse_process

MAX_ID = (1 << 32) - 2


def execute(context: Context) -> int:
    """`imgtools-runtime exec`: the program's exit code, 0 if detached."""
    arguments = context.arguments
    process = _process(context)
    options = ExecOptions(
        console_socket=absolute(arguments.text("console-socket")),
        pid_file=absolute(arguments.text("pid-file")),
        preserve_fds=arguments.count("preserve-fds"),
        detach=arguments.flag("detach"),
        cgroup=_cgroup(arguments.texts("cgroup")),
        ignore_paused=arguments.flag("ignore-paused"),
    )
    check_console(
        terminal=process.terminal,
        detach=options.detach,
        console_socket=options.console_socket,
    )
    runtime, warn = context.runtime, context.log.warn
    if options.detach:
        return exec_process(runtime, context.id, process, options, warn)
    from engine.cli.foreground import Foreground

    with Foreground(terminal=process.terminal and not options.console_socket) as foreground:
        options = options.with_values(console_fd=foreground.console_fd)
        process = foreground.sized(process)
        return exec_process(runtime, context.id, process, options, warn, foreground.attend)


def _process(context: Context) -> Process:
    arguments = context.arguments
    if arguments.text("process"):
        document = read_document(arguments.text("process"))
        return parse_process(document)
    command = arguments.positional[1:]
    if not command:
        raise InvalidConfig("exec: no command", hint="name one, or a process.json with --process")
    with StateDir.find(context.runtime.root, context.id) as directory:
        config = saved_config(directory)
    return override(config.process or Process(), tuple(command), arguments)


def override(process: Process, command: tuple[str, ...], arguments: Arguments) -> Process:
    """The container's own process with `command` and what options say; raises InvalidConfig.

    Like runc: user id, capabilities and environment of the container stay but for what is
    given, a terminal is only made if asked for.
    """
    process = process.with_values(
        args=command,
        terminal=arguments.flag("tty"),
        cwd=_directory(arguments.text("cwd")) or process.cwd,
        env=(*process.env, *_environment(arguments.texts("env"))),
        user=_user(process.user, arguments),
        apparmor_profile=arguments.text("apparmor") or process.apparmor_profile,
        selinux_label=arguments.text("process-label") or process.selinux_label,
    )
    if arguments.given("no-new-privs"):
        process = process.with_values(no_new_privileges=arguments.flag("no-new-privs"))
    if arguments.given("cap"):
        process = process.with_values(
            capabilities=_add(process.capabilities or Capabilities(), arguments.texts("cap"))
        )
    return process


def _directory(path: str) -> str:
    if path and not path.startswith("/"):
        raise InvalidConfig(f"option --cwd: expected an absolute path, got {path!r}")
    return path


def _environment(entries: list[str]) -> list[str]:
    for entry in entries:
        if entry.find("=") < 1:
            raise InvalidConfig(f"option --env: expected NAME=VALUE, got {entry!r}")
    return entries


def _user(user: User, arguments: Arguments) -> User:
    given = arguments.text("user")
    if given:
        uid, sign, gid = given.partition(":")
        user = user.with_values(uid=decimal(uid, "option --user: user id", MAX_ID))
        if sign:
            user = user.with_values(gid=decimal(gid, "option --user: group id", MAX_ID))
    groups = arguments.texts("additional-gids")
    more = [decimal(group, "option --additional-gids", MAX_ID) for group in groups]
    return user.with_values(additional_gids=(*user.additional_gids, *more))


def _add(sets: Capabilities, names: list[str]) -> Capabilities:
    """`sets` with more capabilities. Ambient ones must be inheritable, which they are not made
    here (CVE-2022-29162), so they are added there only where the container has inheritable
    ones."""
    from engine.runtime.process.capabilities import NAMES

    for name in names:
        if name not in NAMES:
            raise InvalidConfig(f"option --cap: unknown capability {name!r}")
    more = tuple(names)
    return sets.with_values(
        bounding=sets.bounding + more,
        effective=sets.effective + more,
        permitted=sets.permitted + more,
        ambient=sets.ambient + more if sets.inheritable else sets.ambient,
    )


def _cgroup(given: list[str]) -> str:
    if len(given) > 1 or (given and ":" in given[0]):
        raise Unsupported(
            "option --cgroup: a cgroup per controller is not supported",
            hint="name one path below the container's cgroup",
        )
    path = given[0] if given else ""
    if ".." in path.split("/"):
        raise InvalidConfig(f"option --cgroup: {path!r} `..` components are not allowed")
    return path


COMMANDS = {
    "exec": (
        Syntax(
            usage="exec [options] CONTAINER COMMAND [arguments...]",
            description="Run COMMAND in a running container, or what a process.json says:\n"
            "exec --process FILE CONTAINER.",
            options=(
                Option(name="additional-gids", letter="g", value="GID", help="add a group"),
                Option(name="apparmor", value="PROFILE", help="the AppArmor profile"),
                Option(name="cap", letter="c", value="CAP", help="add a capability"),
                Option(name="cgroup", value="PATH", help="a cgroup below the container's"),
                Option(
                    name="console-socket",
                    value="SOCKET",
                    help="send the master of the terminal to this unix socket",
                ),
                Option(name="cwd", value="DIR", help="the working directory"),
                Option(name="detach", letter="d", help="end when the program runs"),
                Option(name="env", letter="e", value="NAME=VALUE", help="add to the environment"),
                Option(name="ignore-paused", help="wait in a paused container for its resume"),
                Option(name="no-new-privs", help="set no_new_privs"),
                Option(name="pid-file", value="FILE", help="write the process id to FILE"),
                Option(
                    name="pidfd-socket",
                    value="SOCKET",
                    refusal="pidfds are not sent, use the process id of --pid-file",
                ),
                Option(name="preserve-fds", value="N", help="keep N more descriptors open"),
                Option(name="process", letter="p", value="FILE", help="a process.json"),
                Option(name="process-label", value="LABEL", help="the SELinux label"),
                Option(name="tty", letter="t", help="make a terminal"),
                Option(name="user", letter="u", value="UID[:GID]", help="ids in numbers"),
            ),
            minimum=1,
            maximum=None,
            options_first=True,
        ),
        execute,
    ),
}
