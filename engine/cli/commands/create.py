"""`create` and `run`: both make a container of a bundle; `run` starts it too and, unless
detached, waits for it."""

from __future__ import annotations

import os

from engine.cli.arguments import Option, Syntax
from engine.cli.context import Context, absolute
from engine.runtime.container import launch
from engine.runtime.container.configuration import load_config
from engine.runtime.container.options import CreateOptions
from engine.runtime.errors import InvalidConfig, refused
from engine.runtime.spec.model import Config
from engine.runtime.spec.version import NEWEST, is_newer

CONFIG = "config.json"
NO_CONSOLE_SOCKET = "cannot allocate tty if the runtime will detach without setting console socket"
NO_TERMINAL = "cannot use console socket if the container has no terminal"

_BEFORE = (
    Option(name="bundle", letter="b", value="DIR", help="the bundle, by default this directory"),
    Option(name="config", letter="f", value="FILE", help="read FILE instead of config.json"),
    Option(
        name="console-socket",
        value="SOCKET",
        help="send the master of the terminal to this unix socket",
    ),
)
_DETACH = (
    Option(name="detach", letter="d", help="end when the program runs"),
    Option(name="keep", help="do not delete the container when it ends"),
)
_AFTER = (
    Option(name="no-new-keyring", help="keep the session keyring of the caller"),
    Option(name="no-pivot", help="change the root without pivot_root, for a root on a ramdisk"),
    Option(name="no-subreaper", help="do not adopt processes that outlive their parents"),
    Option(name="pid-file", value="FILE", help="write the process id of the container to FILE"),
    Option(name="preserve-fds", value="N", help="keep N descriptors open besides the first 3"),
    Option(
        name="pidfd-socket",
        value="SOCKET",
        refusal="pidfds are not sent, use the process id of --pid-file",
    ),
)
_TEXT = """The bundle is a directory with a config.json and the root file system it names;
CONTAINER is the name the new container gets."""


def create(context: Context) -> int:
    """`imgtools-runtime create`."""
    config, options = _prepare(context, detach=True)
    launch.create(context.runtime, config, options, context.log.warn)
    return 0


def run(context: Context) -> int:
    """`imgtools-runtime run`: the container's exit code, 0 if detached."""
    config, options = _prepare(context, detach=context.arguments.flag("detach"))
    if options.detach:
        return launch.run(context.runtime, config, options, context.log.warn)
    from engine.cli.foreground import Foreground

    terminal = config.process is not None and config.process.terminal
    with Foreground(terminal=terminal and not options.console_socket) as foreground:
        options = options.with_values(console_fd=foreground.console_fd)
        if config.process is not None:
            config = config.with_values(process=foreground.sized(config.process))
        return launch.run(context.runtime, config, options, context.log.warn, foreground.attend)


def _prepare(context: Context, *, detach: bool) -> tuple[Config, CreateOptions]:
    arguments = context.arguments
    config_path = arguments.text("config")
    bundle = resolved(arguments.text("bundle") or ".")
    config = load_config(bundle, "" if config_path == CONFIG else absolute(config_path))
    if is_newer(config.oci_version):
        context.log.warn(
            f"ociVersion: {config.oci_version} is newer than {NEWEST}: "
            "properties it added are ignored"
        )
    config, listening = pass_listeners(config, context)
    check_console(
        terminal=config.process is not None and config.process.terminal,
        detach=detach,
        console_socket=arguments.text("console-socket"),
    )
    return config, CreateOptions(
        id=context.id,
        bundle=bundle,
        console_socket=absolute(arguments.text("console-socket")),
        pid_file=absolute(arguments.text("pid-file")),
        preserve_fds=arguments.count("preserve-fds") + listening,
        no_pivot=arguments.flag("no-pivot"),
        no_new_keyring=arguments.flag("no-new-keyring"),
        no_subreaper=arguments.flag("no-subreaper"),
        detach=detach,
        keep=arguments.flag("keep"),
    )


def resolved(bundle: str) -> str:
    """The bundle's path for the container's state: absolute; raises KernelRefused."""
    if bundle.startswith("/"):
        return bundle
    try:
        return os.path.realpath(bundle, strict=True)
    except OSError as e:
        raise refused(f"bundle {bundle}", e) from e


def check_console(*, terminal: bool, detach: bool, console_socket: str) -> None:
    """Raises InvalidConfig if a terminal would have nobody at its other end, or the other way
    round."""
    if terminal and detach and not console_socket:
        raise InvalidConfig(
            NO_CONSOLE_SOCKET, hint="name one with --console-socket, or set process.terminal false"
        )
    if console_socket and not terminal:
        raise InvalidConfig(NO_TERMINAL)


def pass_listeners(config: Config, context: Context) -> tuple[Config, int]:
    """The config whose process knows of the sockets that this one was activated with
    (sd_listen_fds(3)), and their number."""
    environ = context.environ
    number = environ.get("LISTEN_FDS", "")
    if config.process is None or environ.get("LISTEN_PID") != str(os.getpid()):
        return config, 0
    if not number.isdecimal() or not 0 < int(number) < 1 << 16:
        return config, 0
    env = (*config.process.env, f"LISTEN_FDS={number}", "LISTEN_PID=1")
    return config.with_values(process=config.process.with_values(env=env)), int(number)


COMMANDS = {
    "create": (
        Syntax(
            usage="create [options] CONTAINER",
            description=f"Create a container that start lets run its program.\n\n{_TEXT}",
            options=_BEFORE + _AFTER,
            minimum=1,
            maximum=1,
        ),
        create,
    ),
    "run": (
        Syntax(
            usage="run [options] CONTAINER",
            description=f"Create and start a container, wait for it and delete it.\n\n{_TEXT}",
            options=_BEFORE + _DETACH + _AFTER,
            minimum=1,
            maximum=1,
        ),
        run,
    ),
}
