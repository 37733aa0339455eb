"""`features` and `spec`: what this runtime can do, and a config.json to begin with."""

from __future__ import annotations

import os

from engine.cli.arguments import Option, Syntax
from engine.cli.context import Context, absolute, output
from engine.cli.files import write_new
from engine.cli.version import VERSION
from engine.runtime.jsontext import encode

INDENT = 4


def features(_context: Context) -> int:
    """`imgtools-runtime features`."""
    from engine.runtime.features import features_document

    output(encode(features_document(VERSION), indent=INDENT) + "\n")
    return 0


def spec(context: Context) -> int:
    """`imgtools-runtime spec`."""
    from engine.runtime.spec.defaults import default_config

    arguments = context.arguments
    document = default_config(
        rootless=arguments.flag("rootless"), uid=os.geteuid(), gid=os.getegid()
    )
    path = arguments.text("file", "config.json")
    if not path.startswith("/"):
        path = os.path.join(absolute(arguments.text("bundle")) or os.getcwd(), path)
    write_new(path, encode(document, indent=INDENT).encode() + b"\n")
    return 0


COMMANDS = {
    "features": (
        Syntax(
            usage="features",
            description="Print what this runtime supports (features.md of the runtime-spec).",
        ),
        features,
    ),
    "spec": (
        Syntax(
            usage="spec [options]",
            description="Write a config.json that runs a shell in the directory rootfs.",
            options=(
                Option(name="bundle", letter="b", value="DIR", help="write it there"),
                Option(name="file", letter="f", value="FILE", help="give it another name"),
                Option(name="rootless", help="for users that are not root"),
            ),
        ),
        spec,
    ),
}
