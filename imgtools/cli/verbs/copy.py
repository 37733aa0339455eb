"""`imgtools copy`: copy an image from one place to another.

Takes the options of `skopeo copy`. Nothing is printed on standard output but for --json and
--dry-run; progress goes to standard error, and only on a terminal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool
from imgtools.cli.copy_attached import Ends, attached_tags, copy_attached
from imgtools.cli.options import (
    destination_options,
    format_flags,
    registry_flags,
    registry_options,
    source_options,
    taken_for_both,
    tls_verify_for_both,
)
from imgtools.cli.output import Warnings, flush, say, write_text
from imgtools.cli.retrying import retry_flags, retrying
from imgtools.cli.sign_copy import CopySigning
from imgtools.cli.sign_flags import SignRequest, make_signers, sign_flags, sign_request
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.working_choice import EitherCommand
from imgtools.errors import InvalidInput, Unsupported
from imgtools.spec.platform import Platform
from imgtools.transport.table import Transports, parse_name

if TYPE_CHECKING:
    from imgtools.cli.progress import Quiet
    from imgtools.copy import CopyOptions, CopyPlan, CopyResult, Selection
    from imgtools.sign.model import Format

_NOT_YET = {
    "encrypt_layer": "--encrypt-layer",
    "encryption_key": "--encryption-key",
    "decryption_key": "--decryption-key",
}


def _unsupported_flags(function: Any) -> Any:
    for name, flag in _NOT_YET.items():
        function = click.option(flag, name, multiple=True, hidden=True)(function)
    return function


class _CopyCommand(EitherCommand):
    """Copies images, and files into working containers."""

    other = "working_copy:command"


@click.command(
    "copy",
    cls=_CopyCommand,
    short_help="Copy an image from one place to another.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("source", metavar="SOURCE-IMAGE")
@click.argument("destination", metavar="DESTINATION-IMAGE")
@go_bool("--all", "-a", help="Copy all images if SOURCE-IMAGE is an index.")
@click.option(
    "--multi-arch",
    metavar="WHICH",
    help="Of an index copy: system (the image for this machine), all, index-only, or the "
    "images for a list of platforms such as linux/amd64,linux/arm64.",
)
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="OS/ARCH[/VARIANT]",
    help="Copy the image for this platform; given more than once, an index of several.",
)
@go_bool("--sparse", help="With a list of platforms: keep the index as it is, byte for byte.")
@format_flags
@click.option("--digestfile", type=click.Path(), metavar="FILE", help="Write the digest to FILE.")
@click.option(
    "--additional-tag",
    "additional_tags",
    multiple=True,
    metavar="TAG",
    help="Another tag for the copy (docker:// and docker-archive:).",
)
@go_bool("--referrers", help="Copy what refers to the image too, such as signatures.")
@go_bool("--remove-signatures", help="Do not copy signatures kept beside SOURCE-IMAGE.")
@go_bool("--dest-compress", help="Compress layers (dir: only).")
@go_bool("--dest-decompress", help="Decompress layers (dir: only).")
@click.option("--dest-compress-format", metavar="FORMAT", help="Compress layers with gzip or zstd.")
@click.option("--dest-compress-level", type=int, metavar="N", help="Level of compression.")
@go_bool(
    "--dest-force-compress-format",
    help="Recompress also layers that the destination has in another format.",
)
@go_bool(
    "--dest-oci-accept-uncompressed-layers",
    "accept_uncompressed",
    help="Keep uncompressed layers of archives as they are.",
)
@go_bool("--dest-precompute-digests", hidden=True, help="Always done where it is of use.")
@click.option(
    "--src-shared-blob-dir",
    type=click.Path(),
    metavar="DIR",
    help="Blobs shared by OCI layouts, to read.",
)
@click.option(
    "--dest-shared-blob-dir",
    type=click.Path(),
    metavar="DIR",
    help="Blobs shared by OCI layouts, to write.",
)
@click.option(
    "--image-parallel-copies",
    type=click.IntRange(0, 64),
    default=0,
    metavar="N",
    help="Transfers at a time (default 6).",
)
@go_bool("--dry-run", help="Show what would be done, and do nothing.")
@go_bool("--json", "as_json", help="Print events and the result as lines of JSON.")
@go_bool("--quiet", "-q", help="Print nothing but warnings and errors.")
@click.option(
    "--authfile", type=click.Path(), metavar="PATH", help="Credentials file for both registries."
)
@registry_flags("src-", "source ")
@registry_flags("dest-", "destination ")
@tls_verify_for_both
@store_flags
@retry_flags
@sign_flags
@_unsupported_flags
@click.pass_obj
def command(cli: Cli, /, **kwargs: Any) -> None:
    """Copy SOURCE-IMAGE to DESTINATION-IMAGE.

    Both are named transport:reference, for example docker://busybox or oci:dir:tag. The
    bytes of manifests and layers are kept unless an option asks for a change or the
    destination needs one; every change of a digest is printed.

    Where SOURCE-IMAGE is the name of a working container, files are copied into that: see
    imgtools add --help for the arguments.
    """  # fmt: skip
    for name, flag in _NOT_YET.items():
        if kwargs.pop(name):
            raise Unsupported(f"{flag} is not supported by this version")
    retry = retrying(cli, kwargs)
    store = StoreAccess(cli, kwargs)
    taken_for_both(kwargs)
    authfile = kwargs.pop("authfile")
    source_registry = registry_options(cli, "src_", kwargs, authfile=authfile)
    destination_registry = registry_options(cli, "dest_", kwargs, authfile=authfile)
    signing = sign_request(kwargs)
    options = _copy_options(cli, kwargs, signing)
    names = parse_name(kwargs["source"]), parse_name(kwargs["destination"])
    if kwargs["dry_run"] and kwargs["digestfile"]:
        raise InvalidInput("--digestfile and --dry-run cannot be given together")
    ends = Ends(
        names=names,
        source=source_options(cli, source_registry, shared_blob_dir=kwargs["src_shared_blob_dir"]),
        destination=destination_options(
            cli,
            destination_registry,
            shared_blob_dir=kwargs["dest_shared_blob_dir"],
            additional_tags=options.additional_tags,
            accept_uncompressed=options.accept_uncompressed,
        ),
    )
    warnings = Warnings()
    signers = make_signers(cli, signing)
    with store.transports(warn=warnings) as transports:
        signed = CopySigning(cli, transports, ends.source, ends.destination, signers, signing)
        done = retry(lambda: _run(cli, transports, ends, options, signed, kwargs, warnings))
    if done is not None and kwargs["digestfile"]:
        _write_digest(kwargs["digestfile"], str(done.top.digest))


def _write_digest(path: str, digest: str) -> None:
    """Write the digest without a line end, as skopeo does; the path may be a device or pipe."""
    from imgtools.blob.files import storage_errors

    with storage_errors(path), open(path, "wb") as file:
        file.write(digest.encode())


def _run(
    cli: Cli,
    transports: Transports,
    ends: Ends,
    options: CopyOptions,
    signed: CopySigning,
    kwargs: dict[str, Any],
    warnings: Warnings,
) -> CopyResult | None:
    from imgtools.cli.progress import listener
    from imgtools.copy import execute, failures_named, prepare

    quiet, as_json, dry_run = kwargs["quiet"], kwargs["as_json"], kwargs["dry_run"]
    admit = signed.trust.check_name(ends.names[0])
    with (
        transports.open_source(ends.names[0], ends.source) as source,
        transports.open_destination(ends.names[1], ends.destination) as destination,
    ):
        with (
            listener(quiet=quiet, as_json=as_json and not dry_run) as show,
            warnings.shown_by(show),
        ):
            task = cli.task(show, jobs=kwargs["image_parallel_copies"] or None)
            attaching = signed.attaching(ends.names, options, task)
            # A dry run attaches nothing, so that nobody else would say that it cannot be done.
            held = not dry_run or ends.names[1].transport in ("docker", "dir")
            carried = replace(options, signatures_carried=attaching is not None and held)
            plan = prepare(source, destination, carried, admit=admit, task=task)
            if not dry_run:
                _expect(show, plan)
                with failures_named(source, destination):
                    result = execute(plan, source, destination, attaching=attaching, task=task)
                if options.referrers:
                    check_name = signed.trust.check_name if admit is not None else None
                    copy_attached(transports, ends, source, result, check_name, task)
        if dry_run:
            tags = attached_tags(transports, ends, source, plan, task) if options.referrers else []
            _show_plan(plan, tags, signed.planned(ends.names[1], plan.root), as_json=as_json)
            return None
    _show_result(result, quiet=quiet, as_json=as_json)
    return result


def _expect(show: Quiet, plan: CopyPlan) -> None:
    from imgtools.copy.actions import Mount, Reuse, Skip, Transfer

    moved = [action for action in plan.blobs if not isinstance(action, Reuse | Skip)]
    # What is recompressed or measured is worked on twice: read, then put.
    once = [a for a in moved if isinstance(a, Mount) or (isinstance(a, Transfer) and not a.measure)]
    twice = len(moved) - len(once)
    show.expect(len(moved) + twice, sum(max(0, action.blob.size) for action in moved))


def _show_plan(
    plan: CopyPlan, tags: list[str], signed: tuple[str, list[Format]], *, as_json: bool
) -> None:
    from imgtools.copy import render, to_json

    name, formats = signed
    if as_json:
        import json

        sign = {"sign": {"identity": name, "formats": formats}} if name else {}
        write_text(json.dumps({**to_json(plan), "attachedTags": tags, **sign}) + "\n")
    else:
        lines = [f"  attached-tag {tag}\n" for tag in tags]
        lines += [f"  sign {kind} as {name}\n" for kind in formats]
        write_text(render(plan) + "".join(lines))
    flush()


def _show_result(result: CopyResult, *, quiet: bool, as_json: bool) -> None:
    from imgtools.copy.render import result_json, result_text

    if as_json:
        import json

        write_text(json.dumps({"event": "result", **result_json(result)}) + "\n")
        flush()
    elif not quiet:
        say(result_text(result))


def _copy_options(cli: Cli, kwargs: dict[str, Any], signing: SignRequest) -> CopyOptions:
    from imgtools.copy import CopyOptions

    compression: Any = kwargs["dest_compress_format"] or ""
    if compression == "zstd:chunked":
        raise Unsupported("--dest-compress-format zstd:chunked is not supported", hint="use zstd")
    if compression not in ("", "gzip", "zstd"):
        raise InvalidInput(f"unknown compression format {compression!r}: use gzip or zstd")
    if kwargs["dest_compress"] and kwargs["dest_decompress"]:
        raise InvalidInput("--dest-compress and --dest-decompress cannot be given together")
    if kwargs["dest_force_compress_format"] and not compression:
        raise InvalidInput("--dest-force-compress-format needs --dest-compress-format")
    return CopyOptions(
        selection=_selection(cli, kwargs),
        format=kwargs["format"] or "",
        compression=compression,
        compression_level=kwargs["dest_compress_level"],
        force_compression=kwargs["dest_force_compress_format"],
        compress=kwargs["dest_compress"],
        decompress=kwargs["dest_decompress"],
        accept_uncompressed=kwargs["accept_uncompressed"],
        preserve_digests=kwargs["preserve_digests"],
        additional_tags=_split(kwargs["additional_tags"]),
        referrers=kwargs["referrers"],
        remove_signatures=kwargs["remove_signatures"],
        entire=signing.wanted,
        tmpdir=cli.tmpdir,
    )


def _split(values: tuple[str, ...]) -> tuple[str, ...]:
    """Values that may be given one by one or with commas, as cobra has it."""
    return tuple(part for value in values for part in value.split(","))


def _selection(cli: Cli, kwargs: dict[str, Any]) -> Selection:
    from imgtools.copy import Selection

    which, platforms = kwargs["multi_arch"], _split(kwargs["platforms"])
    given = [
        flag
        for flag, value in (
            ("--all", kwargs["all"]),
            ("--multi-arch", which is not None),
            ("--platform", platforms),
        )
        if value
    ]
    if len(given) > 1:
        raise InvalidInput(f"{given[0]} and {given[1]} cannot be given together")
    if which == "all" or kwargs["all"]:
        selection = Selection(mode="all")
    elif which == "index-only":
        selection = Selection(mode="index-only")
    elif which in (None, "system") and len(platforms) < 2:
        one = Platform.parse(platforms[0]) if platforms else cli.platform()
        selection = Selection(platform=one)
    else:
        wanted = tuple(Platform.parse(text) for text in platforms or _split((which,)))
        return Selection(mode="platforms", platforms=wanted, sparse=kwargs["sparse"])
    if kwargs["sparse"]:
        raise InvalidInput("--sparse needs a list of platforms")
    return selection
