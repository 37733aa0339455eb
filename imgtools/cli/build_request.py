"""What one command line of `build` asks for, as frozen data: the build itself, and what the
command line does before and after it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Literal

from imgtools.blob.files import storage_errors
from imgtools.build.cache.locations import cache_locations
from imgtools.build.options import BuildOptions, CacheOptions, ConfigEdits, Stamps
from imgtools.build.outputs.attest_options import AttestOptions, parse_attestations
from imgtools.build.outputs.export_options import STDOUT, Export, parse_export
from imgtools.build.outputs.model import Compression, Form
from imgtools.build.outputs.names import as_place, output_names
from imgtools.cli import build_values as values
from imgtools.cli.build_host import host_settings, isolation_kind
from imgtools.errors import InvalidInput, Unsupported
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform

Progress = Literal["auto", "plain", "json"]
# docker's words for the same things.
_PROGRESS: Mapping[str, Progress] = {
    "": "auto", "auto": "auto", "tty": "auto", "plain": "plain", "json": "json", "rawjson": "json",
}  # fmt: skip
_COMPRESSIONS: Mapping[str, Compression] = {"": "", "gzip": "gzip", "zstd": "zstd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What is printed and where: `file` "" for standard output and error; with `split` one
    file per platform."""

    progress: Progress = "auto"
    quiet: bool = False
    file: str = ""
    split: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultOptions:
    """What becomes of the images: `tags` are names in the store or places of transports,
    `outputs` the values of --output; the others are files to write, "" for none. `form` is how
    layers are compressed that leave the store; `retry` further tries, `retry_delay` seconds."""

    tags: tuple[str, ...] = ()
    manifest: str = ""
    push: bool = False
    outputs: tuple[Export, ...] = ()
    id_file: str = ""
    raw_id_file: str = ""
    metadata_file: str = ""
    form: Form = field(default_factory=Form)
    attest: AttestOptions = field(default_factory=AttestOptions)
    retry: int = 3
    retry_delay: float = 2.0

    @property
    def takes_stdout(self) -> bool:
        """Whether standard output is where the result goes."""
        return any(export.dest == STDOUT for export in self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """A whole command line. `isolation` None is the strongest that works; `mode` is whether to
    build, to show the plan, or to check the Containerfile."""

    build: BuildOptions
    isolation: str | None = None
    result: ResultOptions = ResultOptions()
    log: LogOptions = LogOptions()
    mode: Literal["build", "plan", "check"] = "build"
    warnings: tuple[str, ...] = ()


def build_request(
    kwargs: dict[str, Any], context: str | None, env: Mapping[str, str], host: Platform
) -> BuildRequest:
    """Take the values of `build_flags` and `step_flags` out of `kwargs`. `context` None is the
    current directory, `env` the caller's environment, `host` the platform to build for where
    none is named. Raises InvalidInput, Unsupported, StorageError."""
    isolation = isolation_kind(
        kwargs.pop("isolation") or env.get("BUILDAH_ISOLATION", ""), kwargs.pop("userns")
    )
    log = _log(kwargs, env)
    result = _result(kwargs)
    stamps = _stamps(kwargs, env)
    cache = _cache(kwargs)
    context, files = _inputs(context, values.words(kwargs.pop("files")))
    options = BuildOptions(
        context=context,
        files=files,
        ignore_file=kwargs.pop("ignorefile"),
        target=kwargs.pop("target"),
        build_args=values.build_args(kwargs.pop("build_arg_file"), kwargs.pop("build_arg"), env),
        contexts=values.contexts(kwargs.pop("build_context")),
        from_=kwargs.pop("from_"),
        all_platforms=kwargs["all_platforms"],
        platforms=_platforms(kwargs, host),
        pull=values.pull_policy(
            kwargs.pop("pull"), always=kwargs.pop("pull_always"), never=kwargs.pop("pull_never")
        ),
        jobs=kwargs.pop("jobs"),
        layers=_layers(kwargs.pop("layers"), env),
        squash=_squash(kwargs.pop("squash"), kwargs.pop("squash_all")),
        skip_unused_stages=kwargs.pop("skip_unused_stages"),
        cache=cache,
        stamps=stamps,
        format=_format(kwargs.pop("format") or env.get("BUILDAH_FORMAT", "")),
        edits=_edits(kwargs, stamps, env),
        secrets=values.secrets(kwargs.pop("secret"), env),
        ssh=values.ssh_sources(kwargs.pop("ssh"), env),
        host=replace(host_settings(kwargs), stdin=kwargs.pop("stdin")),
        mounts=kwargs.pop("mounts"),
        proxy=values.proxies(env) if kwargs.pop("http_proxy") else {},
        allow_insecure=_allow_insecure(values.words(kwargs.pop("allow"))),
        compat_volumes=kwargs.pop("compat_volumes"),
        save_stages=kwargs.pop("save_stages"),
        stage_labels=kwargs.pop("stage_labels"),
        source_policy=values.source_policy(kwargs.pop("source_policy_file"), env),
        cpp_flags=kwargs.pop("cpp_flag") or tuple(shlex.split(env.get("BUILDAH_CPPFLAGS", ""))),
    )
    mode = _mode(kwargs.pop("dry_run"), kwargs.pop("check"))
    _check_together(options, result, log)
    return BuildRequest(
        build=options, isolation=isolation, result=result, log=log, mode=mode,
        warnings=_warnings(env),
    )  # fmt: skip


def _warnings(env: Mapping[str, str]) -> tuple[str, ...]:
    if not env.get("BUILDAH_RUNTIME"):
        return ()
    return ("BUILDAH_RUNTIME is not used: steps are run by imgtools' own runtime",)


def _inputs(context: str | None, files: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The context and the Containerfiles. As with buildah, the name of a Containerfile in place
    of the context means that file, and its directory."""
    if context is None:
        return os.getcwd(), files
    if context == "":
        raise InvalidInput("the context is empty: name a directory, a URL, or -")
    if not files and os.path.isfile(context):
        from imgtools.build.contexts.archive import is_archive, read_start

        with storage_errors(context), open(context, "rb", buffering=0) as file:
            if not is_archive(read_start(file)):
                return os.path.dirname(os.path.abspath(context)), (os.path.abspath(context),)
    return context, files


def _mode(dry_run: bool, check: bool) -> Literal["build", "plan", "check"]:
    if dry_run and check:
        raise InvalidInput("--dry-run and --check cannot be given together")
    return "plan" if dry_run else "check" if check else "build"


def _check_together(options: BuildOptions, result: ResultOptions, log: LogOptions) -> None:
    """What may not be given together, because one file or name cannot be of several images."""
    several = options.all_platforms or len(options.platforms) > 1
    single = {
        "--iidfile": result.id_file,
        "--iidfile-raw": result.raw_id_file,
        "--metadata-file": result.metadata_file,
        "--sbom-output": result.attest.sbom_file,
        "--sbom-purl-output": result.attest.purl_file,
    }
    for name, value in single.items():
        index = result.manifest and (result.push or as_place(result.manifest) is not None)
        if value and several and not index:
            raise InvalidInput(
                f"{name} is for one image, not for several platforms",
                hint="with --manifest and --push it is for the index",
            )
    if options.stage_labels and not options.save_stages:
        raise InvalidInput("--stage-labels needs --save-stages")
    if result.manifest and result.manifest in result.tags:
        raise InvalidInput("--tag and --manifest cannot be the same name")
    if log.split and not log.file:
        raise InvalidInput("--logsplit needs --logfile")
    if not options.layers and (options.cache.sources or options.cache.targets):
        raise InvalidInput("--cache-from and --cache-to need --layers")
    if result.push and not (result.tags or result.manifest):
        raise InvalidInput("--push needs a name: add --tag or --manifest")
    names = output_names((*result.tags, *([result.manifest] if result.manifest else ())))
    if result.push:
        _check_push(names.local)
    if sum(export.dest == STDOUT for export in result.outputs) > 1:
        raise InvalidInput("only one --output can go to standard output")
    if (
        several
        and result.tags
        and not result.push
        and any(as_place(t) is None for t in result.tags)
    ):
        raise InvalidInput(
            "a name of the store is for one image, not for several platforms",
            hint="use --push or a place such as oci:DIR:TAG, which hold an index",
        )
    stdin = [name for name in (options.context, *options.files) if name == "-"]
    if stdin and options.host.stdin:
        raise InvalidInput("--stdin: standard input is the context or a Containerfile already")
    if len(stdin) > 1:
        raise InvalidInput("standard input can be the context or a Containerfile, and once")


def _check_push(names: tuple[str, ...]) -> None:
    for name in names:
        if name.startswith("localhost/"):
            raise InvalidInput(f"--push: {name} names no registry", hint="use -t registry/name")


def _platforms(kwargs: dict[str, Any], host: Platform) -> tuple[Platform, ...]:
    if kwargs.pop("all_platforms"):
        named = [kwargs.pop(name) for name in ("platforms", "os_name", "arch", "variant")]
        if any(named):
            raise InvalidInput("--all-platforms and --platform cannot be given together")
        return ()
    return values.platforms(
        kwargs.pop("platforms"),
        os_name=kwargs.pop("os_name"),
        arch=kwargs.pop("arch"),
        variant=kwargs.pop("variant"),
        host=host,
    )


def _log(kwargs: dict[str, Any], env: Mapping[str, str]) -> LogOptions:
    asked = kwargs.pop("progress")
    word = asked or env.get("BUILDKIT_PROGRESS", "")
    quiet = kwargs.pop("quiet") or word == "quiet"
    if word not in (*_PROGRESS, "quiet"):
        raise InvalidInput(f"progress {word!r}: expected auto, plain or json")
    return LogOptions(
        progress=_PROGRESS.get(word, "auto"),
        quiet=quiet,
        file=kwargs.pop("logfile"),
        split=kwargs.pop("logsplit"),
    )


def _result(kwargs: dict[str, Any]) -> ResultOptions:
    compression, level = kwargs.pop("compression_format"), kwargs.pop("compression_level")
    forced = kwargs.pop("force_compression")
    if compression == "zstd:chunked":
        raise Unsupported("--compression-format zstd:chunked is not supported", hint="use zstd")
    if compression not in _COMPRESSIONS:
        raise InvalidInput(f"--compression-format {compression!r}: expected gzip or zstd")
    highest = 20 if compression == "zstd" else 9
    if level is not None and not 1 <= level <= highest:
        raise InvalidInput(f"--compression-level {level}: expected 1 to {highest}")
    return ResultOptions(
        tags=tuple(dict.fromkeys(kwargs.pop("tags"))),
        manifest=kwargs.pop("manifest"),
        push=kwargs.pop("push"),
        outputs=tuple(parse_export(text) for text in kwargs.pop("outputs")),
        id_file=kwargs.pop("iidfile"),
        raw_id_file=kwargs.pop("iidfile_raw"),
        metadata_file=kwargs.pop("metadata_file"),
        form=Form(
            compression=_COMPRESSIONS[compression],
            level=level,
            force=bool(compression) if forced is None else forced,
        ),
        attest=_attest(kwargs),
        retry=kwargs.pop("retry"),
        retry_delay=kwargs.pop("retry_delay"),
    )


def _attest(kwargs: dict[str, Any]) -> AttestOptions:
    sbom_file, purl_file = kwargs.pop("sbom_output"), kwargs.pop("sbom_purl_output")
    found = parse_attestations(
        kwargs.pop("attest"),
        provenance=kwargs.pop("provenance"),
        sbom=kwargs.pop("sbom"),
        style=kwargs.pop("attest_style"),
    )
    if (sbom_file or purl_file) and not found.sbom:
        name = "--sbom-output" if sbom_file else "--sbom-purl-output"
        raise InvalidInput(f"{name} needs --sbom", hint="add --sbom true")
    return replace(found, sbom_file=sbom_file, purl_file=purl_file)


def _stamps(kwargs: dict[str, Any], env: Mapping[str, str]) -> Stamps:
    timestamp, epoch = kwargs.pop("timestamp"), kwargs.pop("source_date_epoch")
    rewrite = kwargs.pop("rewrite_timestamp")
    if timestamp is not None and epoch:
        raise InvalidInput("--timestamp and --source-date-epoch cannot be given together")
    name = "--source-date-epoch"
    if epoch is None and timestamp is None:
        name, epoch = "SOURCE_DATE_EPOCH", env.get("SOURCE_DATE_EPOCH", "")
    return Stamps(
        timestamp=timestamp,
        source_date_epoch=values.seconds(epoch, name) if epoch else None,
        rewrite=rewrite,
    )


def _cache(kwargs: dict[str, Any]) -> CacheOptions:
    ttl = kwargs.pop("cache_ttl")
    return CacheOptions(
        # buildah's reading: nothing is younger than no time at all.
        enabled=not kwargs.pop("no_cache") and ttl != 0,
        sources=_locations(kwargs.pop("cache_from")),
        targets=_locations(kwargs.pop("cache_to")),
        ttl=ttl,
    )


def _locations(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The values as they are, once it is known that they mean something."""
    cache_locations(texts)
    return tuple(dict.fromkeys(texts))


def _edits(kwargs: dict[str, Any], stamps: Stamps, env: Mapping[str, str]) -> ConfigEdits:
    return ConfigEdits(
        labels=values.pairs(kwargs.pop("label"), "--label"),
        annotations=values.pairs(kwargs.pop("annotation"), "--annotation"),
        env=values.environment(kwargs.pop("env"), env),
        unset_env=values.words(kwargs.pop("unsetenv")),
        unset_labels=values.words(kwargs.pop("unsetlabel")),
        unset_annotations=values.words(kwargs.pop("unsetannotation")),
        inherit_labels=kwargs.pop("inherit_labels"),
        inherit_annotations=kwargs.pop("inherit_annotations"),
        identity_label=kwargs.pop("identity_label"),
        created_annotation=kwargs.pop("created_annotation"),
        omit_history=kwargs.pop("omit_history"),
        os_version=kwargs.pop("os_version"),
        os_features=kwargs.pop("os_feature"),
    )


def _squash(new: bool, everything: bool) -> Literal["", "new", "all"]:
    return "all" if everything else "new" if new else ""


def _layers(given: bool | None, env: Mapping[str, str]) -> bool:
    """buildah's BUILDAH_LAYERS counts; without it layers are kept."""
    if given is not None:
        return given
    return env.get("BUILDAH_LAYERS", "true").lower() in ("1", "true", "")


def _format(word: str) -> Literal["oci", "docker"]:
    if word in ("", "oci", "ociv1"):
        return "oci"
    if word in ("docker", "v2s2"):
        return "docker"
    raise InvalidInput(f"format {word!r}: expected oci or docker")


def _allow_insecure(entitlements: tuple[str, ...]) -> bool:
    for word in entitlements:
        if word not in ("security.insecure", "network.host"):
            raise InvalidInput(f"--allow {word}: expected security.insecure or network.host")
    return "security.insecure" in entitlements
