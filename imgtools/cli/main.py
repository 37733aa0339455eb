"""The entry point: verbs loaded when they are used, errors to one line and an exit code.

Exit codes are skopeo's: 0 success, 1 failure or wrong usage, 2 image not found; 130 and 143
after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from imgtools.cli.command import GoBool, global_options, normalise_args
from imgtools.cli.leading import leading_options, leading_values
from imgtools.cli.output import complain
from imgtools.cli.settings import Settings
from imgtools.cli.state import Cli
from imgtools.errors import Cancelled, Error, ImageNotFound, SeveralErrors

IMPORTLIB = "<frozen importlib._bootstrap>"
_VERBS = {
    "add": "Add files, URLs and archives to a working container.",
    "attach": "Keep an SBOM, an attestation or a signature beside an image.",
    "attest": "Sign a statement about an image in a registry.",
    "build": "Build an image from a Containerfile.",
    "commit": "Make an image of a working container.",
    "config": "Change the config of a working container, or explain what is in force.",
    "containers": "List working containers.",
    "copy": "Copy an image from one place to another, or files into a working container.",
    "delete": "Delete an image from a registry or an OCI layout.",
    "diff": "Show what differs between two images.",
    "experimental-image-proxy": "Serve images to another program over a socket.",
    "from": "Make a working container of an image.",
    "generate-sigstore-key": "Make a key pair for signing images.",
    "images": "List the images of the store.",
    "info": "Show what this host lets containers do.",
    "inspect": "Look at an image where it is.",
    "list-tags": "List the tags of a repository.",
    "login": "Log in to a registry.",
    "logout": "Log out of a registry.",
    "manifest": "Make, change and push indexes of images.",
    "manifest-digest": "Compute the digest of a manifest file.",
    "mount": "Show the files of a working container.",
    "policy": "Explain and check the trust policy.",
    "prune": "Remove unused images and left-overs from the store.",
    "pull": "Pull an image into the store.",
    "push": "Push an image of the store.",
    "rename": "Give a working container another name.",
    "rm": "Remove working containers.",
    "rmi": "Remove images from the store.",
    "run": "Run a command in a container of an image, or in a working container.",
    "serve": "Offer a folder of OCI layouts as a registry.",
    "sign": "Sign an image in a registry.",
    "standalone-sign": "Sign a manifest in a file with an OpenPGP key.",
    "standalone-verify": "Verify the OpenPGP signature of a manifest, both in files.",
    "sync": "Keep images of one place in another, copying only what differs.",
    "tag": "Give an image of the store another name.",
    "umount": "Show the files of a working container no more.",
    "unshare": "Run a command in the user namespace of containers.",
    "verify": "Verify the signatures of an image.",
    "version": "Show the version of this program.",
}
# buildah's other names.
_ALIASES = {
    "bud": "build",
    "build-using-dockerfile": "build",
    "list": "containers",
    "ls": "containers",
    "ps": "containers",
    "unmount": "umount",
}
_ELSEWHERE = {
    "generate-key-pair": "generate-sigstore-key",
    "import-key-pair": "sign --key PATH, which reads PEM keys as they are",
    "verify-attestation": "verify --attestation TYPE",
    "tree": "inspect --referrers",
    "triangulate": "inspect --referrers",
    "download": "inspect --referrers, and copy by the digests that it shows",
    "save": "copy --all --referrers docker://... oci:DIRECTORY:NAME",
    "load": "copy --all --referrers oci:DIRECTORY:NAME docker://...",
    "clean": "inspect --referrers, and delete by the digests that it shows",
}
"""What does what verbs of cosign do, where ours have other names."""
_HIDDEN = frozenset(("untrusted-signature-dump-without-verification",))
"""Verbs that no list has: what they show may be anybody's word."""
_MODULES = {"from": "from_"}
"""Where a verb is that cannot be the name of a module."""


class VerbGroup(click.Group):
    """The verbs of `_VERBS`; a verb's module is imported when it is invoked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the verbs, in order."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of a verb, or None."""
        name = _ALIASES.get(name, name)
        if name not in _VERBS and name not in _HIDDEN:
            return None
        import importlib

        module = importlib.import_module(
            f"imgtools.cli.verbs.{_MODULES.get(name, name.replace('-', '_'))}"
        )
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, from the table, so that --help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Cobra's rules for the options before the verb."""
        if not args:
            raise click.UsageError("missing command; try 'imgtools --help'")
        split = _verb_position(self.get_params(ctx), args)
        head = normalise_args(self.get_params(ctx), args[:split])
        return super().parse_args(ctx, head + args[split:])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that is meant; an unknown one is a usage error with a suggestion."""
        if args and args[0] not in (*_VERBS, *_ALIASES, *_HIDDEN):
            import difflib

            if args[0] in _ELSEWHERE:
                raise click.UsageError(
                    f"unknown command {args[0]!r}; try 'imgtools {_ELSEWHERE[args[0]]}'"
                )
            close = difflib.get_close_matches(args[0], _VERBS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else "; try 'imgtools --help'"
            raise click.UsageError(f"unknown command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)


def _verb_position(params: list[click.Parameter], args: list[str]) -> int:
    """The index of the first word that is neither an option nor an option's value."""
    by_name = {name: p for p in params if isinstance(p, click.Option) for name in p.opts}
    position = 0
    while position < len(args) and args[position].startswith("-"):
        word = args[position]
        option = by_name.get(word)
        position += 1
        if option is not None and not option.is_flag and not isinstance(option, GoBool):
            position += 1
    return min(position, len(args))


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from imgtools import __version__

        click.echo(f"imgtools version {__version__}")
        ctx.exit()


def _start(ctx: click.Context, **values: Any) -> None:
    ctx.obj = ctx.obj.with_globals(leading_values(values))


app = VerbGroup(
    "imgtools",
    help="Move, inspect, build and sign container images: no daemon, no root.",
    callback=click.pass_context(_start),
    params=[
        *global_options(),
        *leading_options(),
        click.Option(
            ["--version", "-v"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_print_version,
            help="Show the version.",
        ),
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    # Start-up makes many objects that live as long as the process: looking among them for
    # garbage costs 5 ms, and taking them apart at the end 12 ms more.
    gc.set_threshold(50_000, 20, 20)
    sys.unraisablehook = _unraisable
    _open_standard_files()
    args = list(sys.argv[1:] if argv is None else argv)
    code = run(args, Cli(settings=Settings.from_environment(os.environ)))
    os._exit(_flush(code))


def _open_standard_files() -> None:
    """Give standard input, output and error a file where the caller closed them, so that no
    file or socket of ours gets their numbers; writing to such an output is an error, writing
    to such an error is not."""
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: this one.
            os.open(os.devnull, flags)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def run(args: list[str], cli: Cli) -> int:
    """Run one command line; the exit code. Prints errors to stderr, one line each."""
    stop = _Stop(cli)
    signal.signal(signal.SIGTERM, stop.handle)
    signal.signal(signal.SIGINT, stop.handle)
    try:
        return _answered(args, cli, stop)
    except KeyboardInterrupt:
        # Another one, or a late one, while the end was being told.
        return stop.code
    finally:
        stop.over = True


def _answered(args: list[str], cli: Cli, stop: _Stop) -> int:
    try:
        # Not app.main, which answers Ctrl-C and closed pipes in its own way.
        with app.make_context("imgtools", args, obj=cli) as context:
            result = app.invoke(context)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        _complain(e.format_message())
        return e.exit_code if isinstance(e, click.FileError) else 1
    except (KeyboardInterrupt, click.Abort):
        cli.cancel.cancel("interrupted")
        _complain("terminated" if stop.terminated else "interrupted")
        return stop.code
    except Cancelled as e:
        _complain(e.message)
        return stop.code
    except BrokenPipeError:
        # Whoever read our output has gone; that is their decision, not an error of ours.
        _discard_output()
        return 1
    except OSError as e:
        _discard_output()
        _complain(f"{e.filename or 'standard output'}: {(e.strerror or str(e)).lower()}")
        return 1
    except Error as e:
        _report(e)
        return 2 if isinstance(e, ImageNotFound) else 1


def _unraisable(event: sys.UnraisableHookArgs) -> None:
    """An interrupt that came where nothing can be raised is no news: the work is cancelled."""
    if not issubclass(event.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(event)


class _Stop:
    """Ctrl-C and SIGTERM: cancel the work first, so that nothing waits, then unwind."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli
        self.terminated = False
        self.over = False

    @property
    def code(self) -> int:
        """What to exit with."""
        return 143 if self.terminated else 130

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Cancel the work and unwind the main thread; a little later if it is importing, which
        would leave the lock of all imports to nobody, and other threads waiting for it."""
        if self.over:
            return
        self.terminated = number == signal.SIGTERM
        reason = "terminated" if self.terminated else "interrupted"
        self._cli.cancel.cancel_from_handler(reason)
        if not _importing(frame):
            raise KeyboardInterrupt
        _thread.start_new_thread(_signal_again, (number,))


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == IMPORTLIB:
            return True
        frame = frame.f_back
    return False


def _signal_again(number: int) -> None:
    time.sleep(0.01)
    os.kill(os.getpid(), number)


def _report(error: Error) -> None:
    errors = error.errors if isinstance(error, SeveralErrors) else (error,)
    for e in errors:
        _complain(e.message + (f" ({e.hint})" if e.hint else ""))


def _complain(text: str) -> None:
    """One line on stderr, if there is anybody to read it."""
    with contextlib.suppress(BrokenPipeError):
        complain(text)


def _discard_output() -> None:
    """Let what is still buffered for stdout go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _flush(code: int) -> int:
    """Write what is buffered; the exit code, 1 for a `code` of 0 if that failed, for want of
    space or of a reader. After an error that was reported nothing more is said."""
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return code or 1
    except OSError as e:
        if not code:
            _complain(f"standard output: {(e.strerror or str(e)).lower()}")
        return code or 1
    return code


if __name__ == "__main__":
    main()
