"""One build from request to images: the engine opened, the build watched, its results handed
to where they are to go."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imgtools import __version__
from imgtools.build.masking import Mask, secret_values
from imgtools.cli.build_deliver import Delivery, Destinations, destinations
from imgtools.cli.build_failure import exit_code, failure_lines
from imgtools.cli.build_log import BuildLog, open_log
from imgtools.cli.build_request import BuildRequest, ResultOptions
from imgtools.cli.options import destination_options, source_options
from imgtools.cli.output import Warnings, say_lines, write_bytes, write_json, write_lines
from imgtools.cli.sign_flags import SignRequest
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess
from imgtools.cli.trust import Trust
from imgtools.errors import Cancelled, Error, Unsupported
from imgtools.frozen import dataclass
from imgtools.task import Note, Task
from imgtools.transport.options import RegistryOptions
from imgtools.transport.table import Transports

if TYPE_CHECKING:
    from engine.builds.bases import Retry
    from engine.builds.host import BuildHost
    from imgtools.blob.placing import Placing
    from imgtools.build.cache.chain import CacheChain
    from imgtools.build.execute.environment import BuildEnvironment
    from imgtools.build.outputs.layer_blobs import LayerBlobs
    from imgtools.build.outputs.places import Places
    from imgtools.build.outputs.push_ahead import PushAhead
    from imgtools.build.protocols import NewLayer
    from imgtools.copy.attaching import Attaching
    from imgtools.sign.protocols import ImageSigner
    from imgtools.spec.reference import ImageName

NO_RETRY = ResultOptions(retry=0)
"""Checks do without an image rather than wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What one build is done with."""

    cli: Cli
    request: BuildRequest
    registry: RegistryOptions
    transports: Transports
    host: BuildHost
    log: BuildLog
    mask: Mask
    to: Destinations
    placing: Placing
    signers: tuple[ImageSigner, ...] = ()
    signing: SignRequest = SignRequest()


def run_build(
    cli: Cli,
    access: StoreAccess,
    request: BuildRequest,
    registry: RegistryOptions,
    signers: tuple[ImageSigner, ...] = (),
    signing: SignRequest | None = None,
) -> int:
    """The exit code: 0, 1 for what checks found, that of a command that failed, 125 for other
    errors, which are told. `signers` are those that `signing` asks for.

    Raises Unsupported where there is to be signed and no place that takes signatures.
    """
    to = destinations(request.result)
    if signers and not to.places and not to.indexes:
        raise Unsupported(
            "images of the store are not signed",
            hint="sign where the image goes: --push, or a docker:// name",
        )
    mask = Mask(secret_values(request.build.secrets))
    shown = False
    try:
        with _bench(cli, access, request, registry, mask, to) as bench:
            bench = replace(bench, signers=signers, signing=signing or SignRequest())
            for text in request.warnings:
                bench.log.progress(Note("warning", text))
            try:
                return _carry_out(bench)
            finally:
                shown = bench.log.shown
    except Cancelled:
        raise
    except Error as e:
        say_lines(mask.hide_text(line) for line in failure_lines(e, output_shown=shown))
        return exit_code(e)


@contextmanager
def _bench(
    cli: Cli,
    access: StoreAccess,
    request: BuildRequest,
    registry: RegistryOptions,
    mask: Mask,
    to: Destinations,
) -> Iterator[_Bench]:
    from engine.builds.bases import BaseOptions
    from engine.builds.host import build_engine
    from engine.probe.survey import probe_host
    from imgtools.cli.engine_host import probe_options, search_path

    env = dict(os.environ)
    # Probed before the user namespace is entered: inside, other things would be true.
    probes = probe_options(cli.settings, env, access.location.root)
    report = probe_host(probes, request.isolation)
    mode = _id_mode(request.isolation, report.choice.kind)
    cache = cli.settings.cache_dir
    once = _once(warnings := Warnings())
    with ExitStack() as undo:
        placing = undo.enter_context(access.placing(mode))
        request = _with_secrets(request, placing)
        session = access.enter(mode)
        store = undo.enter_context(access.open())
        transports = undo.enter_context(access.transports(warn=once))
        source = source_options(cli, registry)
        host = undo.enter_context(
            build_engine(
                store,
                transports,
                report=report,
                session=session,
                options=BaseOptions(
                    retry=_retrying(cli, request.result if request.mode != "check" else NO_RETRY),
                    source=source,
                    check_name=Trust(cli, transports, source).check_name,
                    host=cli.settings.host,
                ),
                path=search_path(env),
                seccomp_cache=cache and os.path.join(cache, "seccomp"),
                warn=once,
            )
        )
        terminal = sys.stdout.isatty() and sys.stderr.isatty()
        log = undo.enter_context(
            open_log(
                request.log,
                terminal=terminal and env.get("TERM", "dumb") != "dumb",
                colour=not env.get("NO_COLOR"),
                stdout_taken=request.result.takes_stdout,
                platforms=[*map(str, request.build.platforms)],
                placing=placing,
            )
        )
        undo.enter_context(warnings.shown_by(log.progress))
        yield _Bench(
            cli=cli, request=request, registry=registry, transports=transports, host=host,
            log=log, mask=mask, to=to, placing=placing,
        )  # fmt: skip


def _with_secrets(request: BuildRequest, placing: Placing) -> BuildRequest:
    """The request with the content of its secrets where the caller becomes somebody else in the
    user namespace, for whom their files may be closed."""
    if placing.near:
        return request
    from imgtools.build.execute.mounts import secret_content

    build = request.build
    secrets = tuple(replace(each, file="", value=secret_content(each)) for each in build.secrets)
    return replace(request, build=replace(build, secrets=secrets))


def _once(warn: Callable[[str], object]) -> Callable[[str], None]:
    """Warns of everything once: what is so for one step is so for the next."""
    seen: set[str] = set()

    def tell(text: str) -> None:
        if text not in seen:
            seen.add(text)
            warn(text)

    return tell


def _id_mode(asked: str | None, kind: str) -> Any:
    """The ids that an isolation which was asked for comes with; None for the most there is."""
    return None if asked is None or kind in ("chroot", "none") else kind


def _carry_out(bench: _Bench) -> int:
    task = bench.cli.task(bench.log.progress)
    if bench.request.mode == "check":
        from imgtools.cli.build_check import show_checks

        as_json = bench.request.log.progress == "json"
        return show_checks(bench.request.build, _environment(bench), as_json=as_json, task=task)
    if bench.request.mode == "plan":
        _show_plan(bench, task)
    else:
        _build(bench, task)
    return 0


def _build(bench: _Bench, task: Task) -> None:
    from imgtools.build.execute.api import build
    from imgtools.build.outputs.layer_blobs import LayerBlobs
    from imgtools.build.outputs.push_ahead import PushAhead

    request = bench.request
    with LayerBlobs(bench.host.store, tmpdir=bench.cli.tmpdir) as layers:
        places = _places(bench, layers)
        early = () if request.build.squash or not request.build.layers else bench.to.places
        with _cache(bench, layers, task) as cache, PushAhead(places, early, task=task) as ahead:
            environment = replace(_environment(bench), cache=cache, layer=_listener(ahead))
            result = build(request.build, environment, task=task)
            ahead.finish()
            if cache is not None:
                cache.finish()
        ready = _delivery(bench, places).deliver(result, task=task)
    files = request.result.id_file or request.result.raw_id_file
    bench.log.ready(ready, ids=not files and not request.result.takes_stdout)


def _delivery(bench: _Bench, places: Places) -> Delivery:
    from imgtools.cli.working_lists import add_committed

    result = bench.request.result
    store = bench.host.store.store
    return Delivery(
        store=bench.host.store,
        places=places,
        options=bench.request.build,
        result=result,
        to=bench.to,
        retry=_retrying(bench.cli, result),
        stdout=write_bytes,
        add=lambda name, image_id: add_committed(bench.cli, store, name, image_id),
        version=__version__,
        placing=bench.placing,
    )


def _retrying(cli: Cli, result: ResultOptions) -> Retry:
    """What --retry and --retry-delay ask for."""
    from imgtools.cli.retrying import retrying

    return retrying(cli, {"retry_times": result.retry, "retry_delay": result.retry_delay})


def _places(bench: _Bench, layers: LayerBlobs) -> Places:
    from imgtools.build.outputs.base_blobs import base_opener
    from imgtools.build.outputs.places import Places

    return Places(
        transports=bench.transports,
        layers=layers,
        form=bench.request.result.form,
        family=bench.request.build.format,
        options=destination_options(bench.cli, bench.registry),
        open_base=base_opener(bench.transports, source_options(bench.cli, bench.registry)),
        attaching=_signatures(bench) if bench.signers else None,
    )


def _signatures(bench: _Bench) -> Callable[[ImageName, Task], Attaching | None]:
    """What signs the images at each place, by its name."""
    from imgtools.cli.sign_copy import signing_of

    return signing_of(bench.cli, bench.transports, bench.registry, bench.signers, bench.signing)


def _cache(
    bench: _Bench, layers: LayerBlobs, task: Task
) -> AbstractContextManager[CacheChain | None]:
    """The caches in registries before the store's own memory, None where there are none."""
    options = bench.request.build.cache
    if not options.sources and not options.targets:
        return nullcontext()
    import time

    from imgtools.build.cache.chain import open_chain

    source = source_options(bench.cli, bench.registry)
    return open_chain(
        options,
        bench.host.store,
        bench.transports,
        layers,
        source_options=source,
        destination_options=destination_options(bench.cli, bench.registry),
        check_name=Trust(bench.cli, bench.transports, source).check_name,
        form=bench.request.result.form,
        now=time.time,
        task=task,
    )


def _listener(ahead: PushAhead) -> Callable[[NewLayer], None]:
    from imgtools.build.outputs.model import BuiltLayer

    def made(layer: NewLayer) -> None:
        built = BuiltLayer(diff_id=layer.diff_id, chain_id=layer.chain_id, size=layer.size)
        ahead.layer(built)

    return made


def _environment(bench: _Bench) -> BuildEnvironment:
    from imgtools.build.contexts.options import FetchOptions, GitOptions
    from imgtools.build.execute.environment import BuildEnvironment

    cache = bench.cli.settings.cache_dir
    env = dict(os.environ)
    git = GitOptions(environment=env, ssh_socket=env.get("SSH_AUTH_SOCK", ""))
    return BuildEnvironment(
        store=bench.host.store,
        executor=lambda: bench.host.executor,
        host=bench.cli.settings.host,
        directory=os.getcwd(),
        hashes=os.path.join(cache, "build-hashes") if cache else "",
        fetch=FetchOptions(
            registry=bench.registry,
            git=git,
            memory=os.path.join(cache, "urls") if cache else "",
        ),
        stdin=sys.stdin.buffer,
        report=bench.mask.report(bench.log.report),
    )


def _show_plan(bench: _Bench, task: Task) -> None:
    from imgtools.build.execute.api import build
    from imgtools.build.outputs.layer_blobs import LayerBlobs
    from imgtools.cli.build_plan import plan_json, plan_lines

    # What would be sent is not asked.
    cached = replace(bench.request.build.cache, targets=())
    request = replace(bench.request, build=replace(bench.request.build, cache=cached))
    bench = replace(bench, request=request)
    with (
        LayerBlobs(bench.host.store, tmpdir=bench.cli.tmpdir) as layers,
        _cache(bench, layers, task) as cache,
    ):
        environment = replace(_environment(bench), cache=cache)
        planned = build(request.build, environment, task=task, dry=True).planned
    if request.log.progress == "json":
        write_json(plan_json(planned))
    else:
        write_lines(plan_lines(planned))
