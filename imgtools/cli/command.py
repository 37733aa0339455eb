"""Commands that parse arguments as Go's cobra does, so that scripts written for skopeo work.

Three differences from click matter: a boolean takes `--flag=false` and never the next word;
global options may also follow the verb; and a wrong command line exits with 1, because 2
means "image not found".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from imgtools.cli.leading import with_log_level
from imgtools.cli.running import running
from imgtools.errors import Error

F = TypeVar("F", bound=Callable[..., Any])

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_BYTES = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([kKmMgGtT]?)(i?)[bB]?")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class GoBool(click.Option):
    """A boolean option that takes `--flag`, `--flag=true` and `--flag=false`."""


# Generic in new versions of click only, so it takes no parameter here.
class Duration(click.ParamType):  # type: ignore[type-arg]
    """A Go duration such as 1m30s, as seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds; fails with a usage error."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value)
        if text == "0":
            return 0.0
        parts = _DURATION.findall(text)
        if not parts or "".join(n + u for n, u in parts) != text:
            self.fail(f"invalid duration {text!r}: expected a form such as 30s or 1m30s")
        return sum(float(number) * _UNITS[unit] for number, unit in parts)


class ByteCount(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes such as 500k, 10M or 1GiB: powers of 1024 with an i, else of 1000."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, at least 1; fails with a usage error."""
        if isinstance(value, int):
            return value
        found = _BYTES.fullmatch(str(value).strip())
        count = 0
        if found:
            power = " kmgt".index(found[2].lower() or " ")
            count = int(float(found[1]) * (1024 if found[3] else 1000) ** power)
        if count < 1:
            self.fail(f"invalid number of bytes {value!r}: expected a form such as 500k or 10M")
        return count


class VerbCommand(click.Command):
    """A verb: cobra's argument rules, and the global options accepted after the verb too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = {name for p in self.params for name in (*p.opts, *p.secondary_opts)}
        for option in global_options():
            if not own.intersection(option.opts):
                option.hidden = True
                self.params.append(option)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Click's parsing after the arguments were put in its terms."""
        return super().parse_args(ctx, normalise_args(self.get_params(ctx), args))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; global options that follow it join those before it."""
        found = {}
        for option in global_options():
            name = option.name or ""
            if name in ctx.params and self._is_injected(name):
                value = ctx.params.pop(name)
                if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                    found[name] = value
        if ctx.obj is not None:
            ctx.obj = ctx.obj.with_globals(with_log_level(found))
            try:
                with running(ctx.obj):
                    return super().invoke(ctx)
            except Error as e:
                from imgtools.cli.hints import adapt_hints

                adapt_hints(e, {name for p in self.params for name in p.opts})
                raise
        return super().invoke(ctx)

    def _is_injected(self, name: str) -> bool:
        return any(p.name == name and getattr(p, "hidden", False) for p in self.params)


def normalise_args(params: list[click.Parameter], args: list[str]) -> list[str]:
    """`args` with every bare boolean written as `--flag=true` and short clusters split."""
    by_name = {name: p for p in params if isinstance(p, click.Option) for name in p.opts}
    out: list[str] = []
    position = 0
    while position < len(args):
        word = args[position]
        position += 1
        if word == "--":
            return [*out, word, *args[position:]]
        option = by_name.get(word.partition("=")[0]) if word.startswith("--") else None
        if isinstance(option, GoBool):
            out.append(word if "=" in word else f"{word}=true")
        elif option is not None:
            out.append(word)
            if "=" not in word and not option.is_flag and position < len(args):
                out.append(args[position])
                position += 1
        elif word.startswith("-") and not word.startswith("--") and len(word) > 1:
            taken = _split_cluster(by_name, word, out)
            if taken and position < len(args):
                out.append(args[position])
                position += 1
        else:
            out.append(word)
    return out


def _split_cluster(by_name: dict[str, click.Option], word: str, out: list[str]) -> bool:
    """Append the options of `-abc` to `out`; whether the last one takes the next word."""
    letters = word[1:]
    for index, letter in enumerate(letters):
        option = by_name.get(f"-{letter}")
        rest = letters[index + 1 :]
        if isinstance(option, GoBool):
            long = next(name for name in option.opts if name.startswith("--"))
            if rest.startswith("="):
                out.append(f"{long}{rest}")
                return False
            out.append(f"{long}=true")
        elif option is not None and not option.is_flag:
            out.append(f"-{letter}{rest.removeprefix('=')}" if rest else f"-{letter}")
            return not rest
        else:
            out.append(f"-{letters[index:]}")
            return False
    return False


def go_bool(
    *names: str, help: str, default: bool | None = False, hidden: bool = False
) -> Callable[[F], F]:
    """A decorator for a boolean option; `default` None tells "not given" from false."""
    return click.option(
        *names, cls=GoBool, type=bool, default=default, help=help, hidden=hidden, metavar=""
    )


def verb(name: str, **kwargs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A decorator that makes a verb; keyword arguments are those of click.command."""
    settings = kwargs.pop("context_settings", {})
    settings.setdefault("help_option_names", ["-h", "--help"])
    return click.command(name, cls=VerbCommand, context_settings=settings, **kwargs)


def global_options() -> list[click.Option]:
    """The options that every verb takes, before it or after it; made anew on each call."""
    text = click.Option
    return [
        GoBool(["--debug"], type=bool, default=False, help="Say on stderr what is decided.",
               metavar=""),
        text(["--command-timeout"], type=Duration(), metavar="DURATION",
             help="Give up when the command takes longer, for example 5m."),
        GoBool(["--insecure-policy"], type=bool, default=False, metavar="",
               help="Admit every image, whatever policy.json says."),
        GoBool(["--require-policy"], type=bool, default=False, metavar="",
               help="Fail when there is no policy.json, instead of admitting every image."),
        GoBool(["--require-signed"], type=bool, default=False, metavar="",
               help="Admit only images with a signature that the policy asks for."),
        text(["--policy"], type=click.Path(), help="The trust policy file.", metavar="PATH"),
        text(["--policy-companion"], type=click.Path(), metavar="PATH",
             help="A file with requirements that policy.json has no words for."),
        text(["--override-os"], help="Choose images for OS.", metavar="OS"),
        text(["--override-arch"], help="Choose images for ARCH.", metavar="ARCH"),
        text(["--override-variant"], help="Choose images for VARIANT.", metavar="VARIANT"),
        text(["--registries.d", "registries_d"], type=click.Path(), metavar="DIR",
             help="The directory of files that say where signatures are kept."),
        text(["--tmpdir"], type=click.Path(), metavar="DIR",
             help="Where temporary files go (default: TMPDIR, else /var/tmp)."),
        text(["--registries-conf"], type=click.Path(), metavar="PATH",
             help="The registries.conf to use instead of those that are searched for."),
        text(["--tls-details"], type=click.Path(), metavar="PATH",
             help="A file with details of TLS: minVersion, cipherSuites, namedGroups."),
        text(["--user-agent-prefix"], metavar="PREFIX", help="What User-Agent begins with."),
        text(["--rate-limit"], type=click.FloatRange(0, min_open=True), metavar="N",
             help="Send at most N requests per second to a registry."),
        text(["--limit-bandwidth"], type=ByteCount(), metavar="BYTES",
             help="Move at most BYTES per second, for example 10M."),
        GoBool(["--no-mirrors"], type=bool, default=False, metavar="",
               help="Do not use the mirrors of registries.conf."),
        text(["--allow-private"], multiple=True, metavar="HOST",
             help="A private host that public registries may lead to (a name or network)."),
        text(["--jobs", "-j"], type=click.IntRange(1, 64), metavar="N", hidden=True,
             help="Transfers at a time."),
        text(["--log-level"], metavar="LEVEL", hidden=True),
    ]  # fmt: skip
