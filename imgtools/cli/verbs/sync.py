"""`imgtools sync`: keep images of one place in another, copying only what differs.

Flags and messages are skopeo's where it has them. Standard output has the plan of --dry-run
and what --json prints, nothing else; the summary goes to standard error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.options import (
    format_flags,
    registry_flags,
    registry_options,
    taken_for_both,
    tls_verify_for_both,
)
from imgtools.cli.output import Warnings, complain, flush, notes, write_text
from imgtools.cli.retrying import retry_flags, retrying
from imgtools.cli.sign_flags import SignRequest, make_signers, sign_flags, sign_request
from imgtools.cli.sign_sync import SyncSigning
from imgtools.cli.state import Cli
from imgtools.errors import Error, InvalidInput
from imgtools.transport.table import Transports

if TYPE_CHECKING:
    from imgtools.cli.sync_watch import DigestFile, Record
    from imgtools.spec.reference import ImageName
    from imgtools.sync import SyncOptions, SyncPlan, SyncResult, Target, Wanted
    from imgtools.task import Task
    from imgtools.transport.options import RegistryOptions

_SOURCES = ("docker", "dir", "yaml")
_DESTINATIONS = ("docker", "dir")


class SyncFailed(Error):
    """Some images failed; each was reported before."""


@verb("sync", short_help="Keep images of one place in another, copying only what differs.")
@click.argument("places", metavar="SOURCE DESTINATION", nargs=-1)
@click.option("--src", "-s", default="", metavar="TRANSPORT", help="Of SOURCE: docker, dir, yaml.")
@click.option("--dest", "-d", default="", metavar="TRANSPORT", help="Of DESTINATION: docker, dir.")
@go_bool("--scoped", help="Name images at DESTINATION by the full name of their source.")
@click.option("--append-suffix", default="", metavar="TEXT", help="Append TEXT to tags.")
@go_bool("--all", "-a", help="Copy all images of an index, not only the one for this machine.")
@go_bool("--dry-run", help="Compare both sides and show what would be copied.")
@go_bool("--keep-going", help="Go on when an image fails, and fail in the end.")
@format_flags
@go_bool("--remove-signatures", help="Do not copy signatures kept beside the images of dir:.")
@go_bool(
    "--referrers",
    default=None,
    help="Copy what is attached to the images: signatures, attestations, SBOMs "
    "(default: true where DESTINATION is a registry).",
)
@click.option("--digestfile", type=click.Path(), metavar="FILE", help="Write digests to FILE.")
@click.option(
    "--image-parallel-copies",
    type=click.IntRange(0, 64),
    default=0,
    metavar="N",
    help="Transfers at a time for each image (default 6).",
)
@go_bool("--json", "as_json", help="Print events and the result as lines of JSON.")
@go_bool("--quiet", "-q", help="Print nothing but warnings and errors.")
@click.option(
    "--authfile", type=click.Path(), metavar="PATH", help="Credentials file for both sides."
)
@tls_verify_for_both
@registry_flags("src-", "source ")
@registry_flags("dest-", "destination ")
@retry_flags
@sign_flags
@click.pass_obj
def command(cli: Cli, /, **kwargs: Any) -> None:
    """Copy the images of SOURCE to DESTINATION that are not there yet or have changed.

    SOURCE is by --src a repository or image (docker), a directory (dir), or a YAML file that
    lists images of registries (yaml); DESTINATION by --dest a registry and path (docker), or
    a directory (dir). Both are written without a transport.
    """
    signing = sign_request(kwargs)
    source, base = _places(kwargs)
    if signing.wanted and kwargs["dest"] == "dir" and not signing.identity:
        raise InvalidInput(
            "images in directories have no names that could be signed",
            hint="say by which one: --sign-identity HOST/NAME:TAG",
        )
    if kwargs["dry_run"] and kwargs["digestfile"]:
        raise InvalidInput("--digestfile and --dry-run cannot be given together")
    taken_for_both(kwargs)
    authfile = kwargs.pop("authfile")
    source_registry = registry_options(cli, "src_", kwargs, authfile=authfile)
    destination_registry = registry_options(cli, "dest_", kwargs, authfile=authfile)
    from imgtools.sync import Target

    target = Target(place=kwargs["dest"], base=base, registry=destination_registry)
    run = _Run(cli, source, source_registry, target, _options(cli, kwargs), signing, kwargs)
    run()


def _places(kwargs: dict[str, Any]) -> tuple[str, str]:
    """SOURCE and DESTINATION, after skopeo's checks of them and their transports."""
    if len(kwargs["places"]) != 2:
        raise click.UsageError("Exactly two arguments expected")
    source, destination = kwargs["src"], kwargs["dest"]
    if not source:
        raise InvalidInput("A source transport must be specified", hint="--src docker, dir or yaml")
    if source not in _SOURCES:
        raise InvalidInput(f'"{source}" is not a valid source transport')
    if not destination:
        raise InvalidInput("A destination transport must be specified", hint="--dest docker or dir")
    if destination not in _DESTINATIONS:
        raise InvalidInput(f'"{destination}" is not a valid destination transport')
    if source == destination == "dir":
        raise InvalidInput("sync from 'dir' to 'dir' not implemented, consider using rsync instead")
    return kwargs["places"]  # type: ignore[no-any-return]


def _options(cli: Cli, kwargs: dict[str, Any]) -> SyncOptions:
    from imgtools.sync import SyncOptions

    return SyncOptions(
        scoped=kwargs["scoped"],
        append_suffix=kwargs["append_suffix"],
        all=kwargs["all"],
        platform=cli.platform(),
        format=kwargs["format"] or "",
        preserve_digests=kwargs["preserve_digests"],
        remove_signatures=kwargs["remove_signatures"],
        referrers=kwargs["referrers"],
        keep_going=kwargs["keep_going"],
        tmpdir=cli.tmpdir,
    )


class _Run:
    """One run of the verb."""

    def __init__(
        self,
        cli: Cli,
        source: str,
        source_registry: RegistryOptions,
        target: Target,
        options: SyncOptions,
        signing: SignRequest,
        kwargs: dict[str, Any],
    ) -> None:
        self.request, self.signers = signing, make_signers(cli, signing)
        self.cli, self.source, self.source_registry = cli, source, source_registry
        self.target, self.options, self.kwargs = target, options, kwargs
        self.retry = retrying(cli, kwargs)
        self.jobs = kwargs["image_parallel_copies"] or None
        self.warnings = Warnings()

    def __call__(self) -> None:
        from imgtools.sync import plan_sync, survey

        as_json = self.kwargs["as_json"]
        wanted = self._wanted()
        with Transports(self.cli.cancel, warn=self.warnings) as transports:
            task = self.cli.task(notes, jobs=self.jobs)
            trust = SyncSigning(
                self.cli,
                transports,
                (self.source_registry, self.target.registry),
                self.signers,
                self.request,
                remove_signatures=self.options.remove_signatures,
                from_dir=self.kwargs["src"] == "dir",
            )
            plan = plan_sync(
                survey(
                    wanted,
                    self.target,
                    self.options,
                    transports,
                    admit=trust.check_name,
                    attempt=self.retry,
                    task=task,
                ),
                self.options,
            )
            for warning in plan.warnings:
                task.warn(warning)
            if self.kwargs["dry_run"]:
                signed = trust.to_be_signed(plan, attempt=self.retry, task=task)
                _show_plan(plan, signed, as_json=as_json)
                if plan.failures or plan.count("failed") or _errors(signed):
                    raise SyncFailed("some images cannot be synced, see above")
                return
            result = self._execute(plan, transports, trust, task)
        self._show_result(result, as_json=as_json)
        self._fail(result)

    def _wanted(self) -> tuple[Wanted, ...]:
        from imgtools.sync import wanted

        return wanted(
            self.kwargs["src"],
            self.source,
            self.source_registry,
            warn=self.cli.task(notes).warn,
        )

    def _execute(
        self, plan: SyncPlan, transports: Transports, trust: SyncSigning, task: Task
    ) -> SyncResult:
        from imgtools.cli.sync_watch import DigestFile, Record

        digests = DigestFile(self.kwargs["digestfile"])
        quiet, as_json = self.kwargs["quiet"], self.kwargs["as_json"]
        if not (plan.units or self.signers or as_json):
            result = self._watched(plan, transports, trust, task, Record(), digests)
        else:
            from imgtools.cli.progress import listener

            with listener(quiet=quiet, as_json=as_json) as show, self.warnings.shown_by(show):
                task = self.cli.task(show, jobs=self.jobs)
                result = self._watched(plan, transports, trust, task, Record(show), digests)
        digests.write(result.outcomes)
        return result

    def _watched(
        self,
        plan: SyncPlan,
        transports: Transports,
        trust: SyncSigning,
        task: Task,
        record: Record,
        digests: DigestFile,
    ) -> SyncResult:
        """Execute; what was done before an interruption is in the digest file too."""
        from imgtools.sync.execute import execute
        from imgtools.sync.moves import Watch

        watch = Watch(planned=record.planned, done=record.done)
        try:
            result = execute(
                plan,
                self.options,
                transports,
                attempt=self.retry,
                watch=watch,
                trust=trust if trust.needed else None,
                task=task,
            )
            images = tuple(action.image for action in plan.images)
            signed = trust.sign_the_same(
                result, images, self.options, attempt=self.retry, task=task
            )
        except BaseException:
            digests.write(record.outcomes(plan))
            raise
        for before, after in zip(result.outcomes, signed.outcomes, strict=True):
            if after is not before:
                record.done(after)
        return signed

    def _show_result(self, result: SyncResult, *, as_json: bool) -> None:
        from imgtools.sync.render import result_json, result_text

        if as_json:
            import json

            write_text(json.dumps({"event": "result", **result_json(result)}) + "\n")
            flush()
        elif not self.kwargs["quiet"]:
            complain(result_text(result))

    def _fail(self, result: SyncResult) -> None:
        """Report what failed, and fail; without --keep-going by the first failure."""
        from imgtools.sync.render import FAILED

        failures = [(f"Error processing {name}", error) for name, error in result.failures]
        failures += [
            (f'Error copying ref "{outcome.source}"', outcome.error)
            for outcome in result.outcomes
            if outcome.error is not None
        ]
        if not failures:
            return
        if not self.options.keep_going and len(failures) == 1:
            what, error = failures[0]
            raise error.with_context(what)
        for what, error in failures:
            hint = f" ({error.hint})" if error.hint else ""
            complain(f"{what}: {error.message}{hint}")
        raise SyncFailed(FAILED)


def _errors(signed: dict[ImageName, bool | Error]) -> list[Error]:
    return [each for each in signed.values() if isinstance(each, Error)]


def _show_plan(plan: SyncPlan, signed: dict[ImageName, bool | Error], *, as_json: bool) -> None:
    from imgtools.sync.render import plan_json, render

    if as_json:
        import json

        write_text(json.dumps(plan_json(plan, signed)) + "\n")
    else:
        write_text(render(plan, signed))
    flush()
