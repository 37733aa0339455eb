"""Provenance: what a build was made of and how, as SLSA has it (slsa.dev/provenance v1, v0.2).

Pure. The shape is BuildKit's (docs/attestations/slsa-definitions.md), so that what reads its
provenance reads ours; v1 is the default as there. `min` says nothing of arguments' values;
`max` has them, but never of an argument whose name says that it is a secret.
"""

from __future__ import annotations

import csv
import datetime
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, cast
from urllib.parse import urlsplit, urlunsplit

from imgtools.build.outputs.attest import Predicate, image_purl
from imgtools.build.protocols import BaseImage
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest
from imgtools.spec.platform import Platform
from imgtools.spec.reference import Reference

V1 = "https://slsa.dev/provenance/v1"
V02 = "https://slsa.dev/provenance/v0.2"
BUILD_TYPE = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
BUILD_TYPE_02 = "https://mobyproject.org/buildkit@v1"
FRONTEND = "dockerfile.v0"
BUILDER = "urn:imgtools:build"
HIDDEN = "<hidden>"
_SECRET = re.compile(
    "(?:^|_)(?:api_?key|auth|credentials?|key|p(?:ass)?w(?:or)?d|passphrase|secret|token)(?:_|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenanceOptions:
    """--provenance. `filename` is for exports of trees, `inline_only` leaves it out there."""

    mode: Literal["min", "max"] = "min"
    version: Literal["v1", "v0.2"] = "v1"
    builder_id: str = ""
    reproducible: bool = False
    filename: str = "provenance.json"
    inline_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Something that was fetched: a URI and its digest, such as ("sha1", hex) of a commit."""

    uri: str
    algorithm: str
    hex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFacts:
    """What is known of a build. Times are in seconds since the epoch; `context` is "" for a
    local directory; `network` is whether a step could reach the network; `source` is the
    Containerfile, for mode max; `steps` are the texts of what was done."""

    platform: Platform
    path: str = "Containerfile"
    context: str = ""
    context_digest: Dependency | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    secrets: tuple[str, ...] = ()
    ssh: tuple[str, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    steps: tuple[str, ...] = ()
    source: str = ""
    network: bool = True
    started: float = 0.0
    finished: float = 0.0
    invocation: str = ""
    tool_version: str = ""


def parse_provenance(value: str) -> ProvenanceOptions | None:
    """--provenance: "" or true, false (None), or `mode=max,version=v0.2,...`; mode is min
    unless it is named. Raises InvalidInput."""
    if value.lower() in ("false", "0"):
        return None
    if value.lower() in ("", "true", "1"):
        return ProvenanceOptions()
    found: dict[str, Any] = {}
    for text in next(csv.reader([value])):
        key, equals, rest = text.strip().partition("=")
        where = f"--provenance {value!r}: "
        if not equals and key not in ("reproducible", "inline-only"):
            if key in ("min", "max"):
                raise InvalidInput(f"{where}{key!r} is not KEY=VALUE", hint=f"mode={key}")
            raise InvalidInput(f"{where}{key!r} is not KEY=VALUE")
        allowed = _VALUES.get(key)
        if key not in _VALUES:
            raise InvalidInput(f"{where}there is no option {key!r}")
        if key == "disabled":
            if rest.lower() in ("true", "1"):
                return None
            continue
        if allowed is not None and rest.lower() not in allowed:
            raise InvalidInput(f"{where}{key} is one of {', '.join(a for a in allowed if a)}")
        found[key.replace("-", "_")] = (
            rest.lower() != "false" if allowed == _FLAG else (rest.lower() if allowed else rest)
        )
    if not found.get("filename", "x") or "/" in found.get("filename", ""):
        raise InvalidInput(f"--provenance {value!r}: filename is the name of a file")
    return ProvenanceOptions(**found)


_FLAG = ("true", "false", "")
_VALUES: Mapping[str, tuple[str, ...] | None] = {
    "mode": ("min", "max"),
    "version": ("v1", "v0.2"),
    "builder-id": None,
    "filename": None,
    "reproducible": _FLAG,
    "inline-only": _FLAG,
    "disabled": _FLAG,
}


def provenance(options: ProvenanceOptions, facts: BuildFacts) -> Predicate:
    """The predicate that says how an image was built."""
    if options.version == "v1":
        return Predicate(type=V1, body=_v1(options, facts))
    return Predicate(type=V02, body=_v02(options, facts))


def base_dependency(base: BaseImage) -> Dependency:
    """A base image by its package URL and the digest under which it was found."""
    digest = base.manifest.digest
    if base.pinned:
        digest = Reference.parse(base.pinned).digest or digest
    name = base.name.removeprefix("docker://")
    uri = image_purl(name, base.platform) if base.pinned else base.name
    return Dependency(uri=uri or base.name, algorithm=digest.algorithm, hex=digest.hex)


def _v1(options: ProvenanceOptions, facts: BuildFacts) -> dict[str, Any]:
    internal: dict[str, Any] = {"builderPlatform": str(facts.platform)}
    metadata: dict[str, Any] = {
        "invocationId": _invocation(facts),
        "startedOn": _time(facts.started),
        "finishedOn": _time(facts.finished),
        "buildkit_reproducible": options.reproducible,
        "buildkit_hermetic": not facts.network,
        "buildkit_completeness": {
            "request": options.mode == "max",
            "resolvedDependencies": _complete(facts),
        },
    }
    if options.mode == "max":
        internal["buildConfig"] = {"steps": list(facts.steps)}
        metadata["buildkit_metadata"] = _source(facts)
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "configSource": _config_source(facts, "path"),
                "request": _request(options, facts),
            },
            "internalParameters": internal,
            "resolvedDependencies": _dependencies(facts),
        },
        "runDetails": {
            "builder": {
                "id": options.builder_id or BUILDER,
                "version": {"imgtools": facts.tool_version},
            },
            "metadata": metadata,
        },
    }


def _v02(options: ProvenanceOptions, facts: BuildFacts) -> dict[str, Any]:
    body: dict[str, Any] = {
        "builder": {"id": options.builder_id or BUILDER},
        "buildType": BUILD_TYPE_02,
        "invocation": {
            "configSource": _config_source(facts, "entryPoint"),
            "parameters": _request(options, facts),
            "environment": {"platform": str(facts.platform)},
        },
        "materials": _dependencies(facts),
        "metadata": {
            "buildInvocationID": _invocation(facts),
            "buildStartedOn": _time(facts.started),
            "buildFinishedOn": _time(facts.finished),
            "completeness": {
                "parameters": options.mode == "max",
                "environment": True,
                "materials": _complete(facts),
            },
            "reproducible": options.reproducible,
            "https://mobyproject.org/buildkit@v1#hermetic": not facts.network,
        },
    }
    if options.mode == "max":
        body["buildConfig"] = {"steps": list(facts.steps)}
        body["metadata"]["https://mobyproject.org/buildkit@v1#metadata"] = _source(facts)
    return body


def _config_source(facts: BuildFacts, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if facts.context:
        found["uri"] = without_credentials(facts.context)
    if facts.context_digest is not None:
        found["digest"] = {facts.context_digest.algorithm: facts.context_digest.hex}
    found[path] = facts.path
    return found


def _request(options: ProvenanceOptions, facts: BuildFacts) -> dict[str, Any]:
    args: dict[str, str] = {}
    if facts.target:
        args["target"] = facts.target
    if options.mode == "max":
        args |= {f"build-arg:{k}": _shown(k, v) for k, v in facts.args.items()}
        args |= {f"label:{name}": text for name, text in facts.labels.items()}
    found: dict[str, Any] = {"frontend": FRONTEND, "args": dict(sorted(args.items()))}
    if options.mode == "max":
        found["secrets"] = [{"id": name, "optional": True} for name in sorted(set(facts.secrets))]
        found["ssh"] = [{"id": name, "optional": True} for name in sorted(set(facts.ssh))]
    if not facts.context:
        found["locals"] = [{"name": "context"}, {"name": "dockerfile"}]
    return found


def _shown(name: str, text: str) -> str:
    return HIDDEN if _SECRET.search(name) else without_credentials(text)


def without_credentials(text: str) -> str:
    """A URL without user and password; anything else as it is."""
    if "://" not in text or "@" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return HIDDEN
    if "@" not in parts.netloc:
        return text
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _source(facts: BuildFacts) -> dict[str, Any]:
    return {"source": {"infos": [{"filename": facts.path, "data": facts.source}]}}


def _dependencies(facts: BuildFacts) -> list[dict[str, Any]]:
    """Each once, in order of their URIs."""
    found = {(without_credentials(d.uri), d.algorithm, d.hex) for d in facts.dependencies}
    if facts.context and facts.context_digest is not None:
        digest = facts.context_digest
        found.add((without_credentials(facts.context), digest.algorithm, digest.hex))
    return [{"uri": uri, "digest": {algorithm: text}} for uri, algorithm, text in sorted(found)]


def _complete(facts: BuildFacts) -> bool:
    """Whether all that went in is named: not what a step got from the network, nor the files
    of a local directory."""
    return bool(facts.context) and not facts.network


def _invocation(facts: BuildFacts) -> str:
    if facts.invocation:
        return facts.invocation
    # What has no number of its own gets one that is the same when it is done again.
    content = f"{facts.platform} {facts.path} {facts.started} {_dependencies(facts)}"
    return str(uuid.UUID(bytes=bytes.fromhex(Digest.of(content.encode()).hex[:32])))


def _time(seconds: float) -> str:
    when = datetime.datetime.fromtimestamp(int(seconds), tz=datetime.UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def steps_of(history: Sequence[str]) -> tuple[str, ...]:
    """The texts of a config's history as steps; values of arguments whose names say that they
    are secrets (`|1 TOKEN=x /bin/sh ...`) are hidden."""
    return tuple(_ARGUMENT.sub(_hide, text) for text in history)


_ARGUMENT = re.compile(r"(?<!\S)([A-Za-z_][A-Za-z0-9_]*)=('[^']*'|\"[^\"]*\"|\S*)")


def _hide(found: re.Match[str]) -> str:
    name = cast("str", found[1])
    return f"{name}={HIDDEN}" if _SECRET.search(name) else found[0]
