"""The options of `build` that say what is built and what becomes of it: names, short forms and
repeatability are those of `buildah build`, what it lacks is named as in docker and podman."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from imgtools.cli.command import Duration, GoBool, go_bool

Decorator = Callable[[Any], Any]


def text(*names: str, help: str, metavar: str, **kwargs: Any) -> Decorator:
    """A decorator for an option with one text, "" without it."""
    return click.option(*names, default="", metavar=metavar, help=help, **kwargs)


def many(*names: str, help: str, metavar: str, **kwargs: Any) -> Decorator:
    """A decorator for an option that may be given again and again."""
    return click.option(*names, multiple=True, metavar=metavar, help=help, **kwargs)


def bare(*names: str, help: str, metavar: str, **kwargs: Any) -> Decorator:
    """A decorator for an option whose value may be left out, which is then `true`; a value
    stands behind =, never in the next word."""
    return click.option(*names, cls=GoBool, type=str, metavar=metavar, help=help, **kwargs)


def build_flags(function: Any) -> Any:
    """A decorator that adds them all."""
    return together((*_source_flags(), *_image_flags(), *_output_flags(), *_log_flags()))(function)


def together(decorators: Sequence[Decorator]) -> Decorator:
    """One decorator that adds options in the order of `decorators`."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _source_flags() -> tuple[Decorator, ...]:
    return (
        many("--file", "-f", "files", metavar="FILE",
             help="The Containerfile, a URL of one, or - for standard input (default: "
             "Containerfile, then Dockerfile, in CONTEXT). Several are put together."),
        text("--target", metavar="STAGE", help="Build this stage, by name or number."),
        many("--build-arg", metavar="NAME[=VALUE]",
             help="Value of an ARG; without a value it is that of the environment."),
        many("--build-arg-file", type=click.Path(), metavar="FILE",
             help="Values of ARGs, a line NAME=VALUE each."),
        many("--build-context", metavar="NAME=PLACE",
             help="What --from=NAME and FROM NAME mean: a directory, a URL, docker-image://IMAGE "
             "or oci-layout:DIR."),
        text("--ignorefile", metavar="FILE", type=click.Path(),
             help="Instead of .containerignore or .dockerignore."),
        many("--cpp-flag", metavar="FLAG",
             help="For cpp, which reads Containerfiles that end in .in (BUILDAH_CPPFLAGS)."),
        text("--from", "from_", metavar="IMAGE", help="Replaces what the first FROM names."),
        text("--source-policy-file", metavar="FILE", type=click.Path(),
             help="Rules, as BuildKit has them, about which images and URLs are used."),
        many("--platform", "platforms", metavar="OS/ARCH[/VARIANT]",
             help="Build for this platform (default: the host's); several with commas or "
             "repeated."),
        go_bool("--all-platforms", help="Build for all platforms that the base images are for."),
        text("--os", "os_name", metavar="OS", help="Build for OS."),
        text("--arch", metavar="ARCH", help="Build for ARCH."),
        text("--variant", metavar="VARIANT", help="Build for VARIANT of the architecture."),
        bare("--pull", metavar="[=POLICY]",
             help="When to pull base images: missing (default), always (also --pull alone), "
             "newer or never."),
        go_bool("--pull-always", hidden=True, help="As --pull=always."),
        go_bool("--pull-never", hidden=True, help="As --pull=never."),
        go_bool("--no-cache", help="Execute every step, whatever was built before."),
        many("--cache-from", metavar="REPOSITORY",
             help="Look for steps in this repository, or oci:DIR, too; several with commas or "
             "repeated."),
        many("--cache-to", metavar="REPOSITORY", help="Keep steps in this repository too."),
        click.option("--cache-ttl", type=Duration(), metavar="DURATION",
                     help="Steps that are older, such as 24h, are executed anew; 0: all."),
        click.option("--jobs", type=click.IntRange(0, 1024), default=0, metavar="N",
                     help="Steps at a time (default: one for each processor, at least 4)."),
        go_bool("--skip-unused-stages", default=True,
                help="Leave out stages that the target does not need (default true)."),
        go_bool("--save-stages", help="Keep the images of all stages that are built."),
        go_bool("--stage-labels",
                help="Label the images of stages with name and base of the stage."),
        many("--secret", metavar="id=ID[,src=FILE|env=NAME]",
             help="A secret that RUN --mount=type=secret,id=ID may see."),
        many("--ssh", metavar="default|ID[=SOCKET|KEY[,KEY]]",
             help="An agent, or keys, that RUN --mount=type=ssh may use."),
        go_bool("--stdin", help="Let commands read our standard input (default: nothing)."),
        many("--allow", metavar="ENTITLEMENT",
             help="security.insecure lets RUN --security=insecure have all privileges."),
    )  # fmt: skip


def _image_flags() -> tuple[Decorator, ...]:
    return (
        text("--format", metavar="FORMAT",
             help="oci (default) or docker; BUILDAH_FORMAT says so too."),
        go_bool("--layers", default=None,
                help="Keep a layer, and a cache entry, for each step (default true; "
                "BUILDAH_LAYERS)."),
        go_bool("--squash", help="Make one layer of all that is new."),
        go_bool("--squash-all", help="Make one layer of everything, the base image's included."),
        click.option("--timestamp", type=int, metavar="SECONDS",
                     help="Time of the image and of all files in new layers, since 1970."),
        click.option("--source-date-epoch", metavar="SECONDS", default=None,
                     help="Time of the image and its history (default: SOURCE_DATE_EPOCH)."),
        go_bool("--rewrite-timestamp",
                help="Files that are newer than --source-date-epoch get that time."),
        many("--label", metavar="NAME[=VALUE]", help="Set a label."),
        many("--annotation", metavar="NAME[=VALUE]", help="Set an annotation (oci only)."),
        many("--env", metavar="NAME[=VALUE]",
             help="Set a variable of the image; without a value it is ours."),
        many("--unsetenv", metavar="NAME", help="Remove a variable."),
        many("--unsetlabel", metavar="NAME", help="Remove a label of the base image."),
        many("--unsetannotation", metavar="NAME", help="Remove an annotation of the base image."),
        go_bool("--inherit-labels", default=True, help="Keep labels of the base (default true)."),
        go_bool("--inherit-annotations", default=True,
                help="Keep annotations of the base image (default true)."),
        go_bool("--identity-label", default=None,
                help="Label the image with our version (default true; false with --timestamp "
                "or --source-date-epoch)."),
        go_bool("--created-annotation", default=True,
                help="Annotate the image with its time (default true)."),
        go_bool("--omit-history", help="Write no history."),
        text("--os-version", metavar="VERSION", help="Version of the OS that the image needs."),
        many("--os-feature", metavar="FEATURE", help="Feature of the OS that the image needs."),
        go_bool("--compat-volumes", help="Forget what RUN changes below a VOLUME."),
    )  # fmt: skip


def _output_flags() -> tuple[Decorator, ...]:
    return (
        many("--tag", "-t", "tags", metavar="NAME",
             help="Name of the image in the store, or a place such as docker://host/name:tag, "
             "oci:DIR:tag or docker-archive:FILE."),
        text("--manifest", metavar="NAME",
             help="Put the images in this index, which is made if need be."),
        go_bool("--push", help="Push the image to the registries that its names say."),
        many("--output", "-o", "outputs", metavar="type=TYPE,dest=PATH",
             help="Write the files of the image (local, tar) or the image (oci, docker); PATH "
             "alone is a directory, - a tar on standard output."),
        text("--provenance", metavar="OPTIONS",
             help="Say how the image was built: true, or mode=max,version=v0.2,...; false for "
             "none (default)."),
        text("--sbom", metavar="true|spdx",
             help="Say what is installed in the image, found out by reading it."),
        many("--attest", metavar="type=TYPE,...",
             help="type=provenance,OPTIONS or type=sbom: the same in docker's words."),
        text("--attest-style", metavar="STYLE",
             help="referrer (default): attestations refer to the image; index: they also stand "
             "in an index with it, as buildx has it."),
        text("--sbom-output", metavar="FILE", type=click.Path(),
             help="Write the SPDX document to FILE too."),
        text("--sbom-purl-output", metavar="FILE", type=click.Path(),
             help="Write the package URLs to FILE."),
        text("--iidfile", metavar="FILE", type=click.Path(),
             help="Write the image's id to FILE instead of standard output."),
        text("--iidfile-raw", "--raw-iidfile", metavar="FILE", type=click.Path(),
             help="As --iidfile, without sha256: before it."),
        text("--metadata-file", metavar="FILE", type=click.Path(),
             help="Write the image's digests to FILE, as JSON."),
        click.option("--compression-format", metavar="FORMAT", default="",
                     help="Compress layers that leave the store with gzip (default) or zstd."),
        click.option("--compression-level", type=int, metavar="N", help="Level of compression."),
        go_bool("--force-compression", default=None,
                help="Compress also layers that the destination has in another format."),
        click.option("--retry", type=click.IntRange(0, 1000), default=3, metavar="N",
                     help="Further tries to pull or push (default 3)."),
        click.option("--retry-delay", type=Duration(), default=2.0, metavar="DURATION",
                     help="Time between tries (default 2s)."),
    )  # fmt: skip


def _log_flags() -> tuple[Decorator, ...]:
    return (
        text("--progress", metavar="KIND",
             help="auto (default: a view on a terminal, plain elsewhere), plain, or json: a line "
             "of JSON per event; BUILDKIT_PROGRESS says so too."),
        go_bool("--quiet", "-q", help="Print nothing but the image's id, warnings and errors."),
        text("--logfile", metavar="FILE", type=click.Path(),
             help="Write what would be printed to FILE."),
        go_bool("--logsplit", help="A log file for each platform: FILE_OS_ARCH."),
        go_bool("--dry-run",
                help="Show which steps are cached and which would run; build nothing."),
        go_bool("--check", help="Check the Containerfile as BuildKit's build checks do; build "
                "nothing."),
        text("--signature-policy", metavar="FILE", type=click.Path(), hidden=True,
             help="As --policy."),
    )  # fmt: skip
