"""Mutated answers and documents: only errors of the tree come out, or what was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgtools.errors import Error
from imgtools.inspect.contents import list_files
from imgtools.inspect.diff import diff
from imgtools.inspect.instances import read_instances
from imgtools.inspect.referrers import read_referrers
from imgtools.inspect.summary import summary
from imgtools.inspect.survey import read_image
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.task import Task
from imgtools.testing import images
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import RegistryOptions, SourceOptions, Timeouts
from imgtools.transport.registry.pull.tags import list_tags
from imgtools.transport.table import Transports
from tests.bad_input import HOST, QUICK, push
from tests.inspect_doubles import MemorySource

SAMPLE = images.random_index("fuzz", layers=1, size=300)
EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["sha256:" + "0" * 64, "../../x", "linux", "\ud800", "\x1b[31m", "{{"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["digest", "size", "mediaType", "os", "config", "layers", "x"]), inner
        )
    ),
    max_leaves=6,
)
PATHS = st.lists(st.integers(0, 9), max_size=7)


def replaced(value: Any, path: list[int], new: Any) -> Any:
    """`value` with what is at the end of `path` replaced by `new`."""
    if not path or not isinstance(value, dict | list) or not value:
        return new
    if isinstance(value, list):
        at = path[0] % len(value)
        return [*value[:at], replaced(value[at], path[1:], new), *value[at + 1 :]]
    key = sorted(value)[path[0] % len(value)]
    return {**value, key: replaced(value[key], path[1:], new)}


def mutated(content: bytes, path: list[int], new: Any) -> bytes:
    return json.dumps(replaced(json.loads(content), path, new)).encode("utf-8", "surrogatepass")


def look_at(source: Any) -> None:
    """Everything that inspect and diff do with an image."""
    task = Task(jobs=1)
    for look in (
        lambda: summary(read_image(source, HOST), name="x", tags=()),
        lambda: read_instances(source, task=task),
        lambda: read_referrers(source, task=task),
        lambda: [str(path) for path, _ in list_files(source, HOST, task=task)[1]],
        lambda: diff(source, source, (HOST, HOST), task=task),
    ):
        try:
            look()
        except Error:
            continue


IMAGE = images.random_image("fuzz", layers=1, size=300)
CONFIG = next(c for d, c in IMAGE.blobs.items() if "config" in d.media_type)


@given(PATHS, VALUES)
@EXAMPLES
def test_documents_of_other_shapes(path: list[int], new: Any) -> None:
    """A manifest, an index and a config, changed in one place, digests made to agree."""
    for sample in (IMAGE, SAMPLE):
        source = MemorySource()
        try:
            source.name = RawManifest.of(mutated(sample.top.content, path, new))
        except Error:
            continue
        source.manifests = {raw.digest: raw for raw in sample.manifests}
        source.blobs = {d.digest: content for d, content in sample.blobs.items()}
        look_at(source)
    config = mutated(CONFIG, path, new)
    manifest = json.loads(IMAGE.top.content)
    manifest["config"].update(digest=str(Digest.of(config)), size=len(config))
    source = MemorySource(name=RawManifest.of(json.dumps(manifest).encode()))
    source.blobs = {d.digest: content for d, content in IMAGE.blobs.items()}
    source.blobs[Digest.of(config)] = config
    look_at(source)


@pytest.fixture(scope="module")
def registry() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry(auth="bearer") as started:
        push(started, "app", SAMPLE)
        yield started


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Content-Type", "Docker-Content-Digest", "Link", "Location", "Retry-After",
         "WWW-Authenticate", "OCI-Filters-Applied", "Content-Range", "OCI-Subject"]
    ),
    TEXT
    | st.sampled_from(
        ['Bearer realm="http://[::1"', 'Bearer realm="http://127.0.0.1:1/"', "Basic", "//",
         'Basic realm="x"', '<?n=1>; rel="next"', "<>;rel=next", "http://127.0.0.1:1/\x7f?a=b",
         "ftp://x", "?", "bytes 5-1/*", "sha256:" + "0" * 64, "-1", "9" * 40, "Bearer realm=\"/\""]
    ),
    max_size=3,
)  # fmt: skip
BODIES = st.none() | st.binary(max_size=60) | VALUES.map(
    lambda value: json.dumps(value).encode("utf-8", "surrogatepass")
)  # fmt: skip
STATUS = st.none() | st.sampled_from(
    [200, 201, 206, 301, 302, 307, 308, 401, 403, 404, 416, 429, 500]
)
OPTIONS = RegistryOptions(tls_verify=False, timeouts=Timeouts(connect=2, first_byte=2, idle=2))


@given(
    st.sampled_from(["/manifests/", "/blobs/", "/tags/", "/referrers/", "^/token", ""]),
    STATUS,
    HEADERS,
    BODIES,
    st.sampled_from([None, {"cut_after": 3}, {"flip": 5}, {"truncate": 9}, {"cut_headers": True}]),
)
@EXAMPLES
def test_answers_of_other_shapes(
    registry: ScriptedRegistry,
    path: str,
    status: int | None,
    headers: dict[str, str],
    body: bytes | None,
    wire: dict[str, Any] | None,
) -> None:
    registry.faults.clear()
    fault: dict[str, Any] = {"path": path, **(wire or {})}
    if status is not None:
        fault.update(status=status, headers=headers, body=body or b"")
    else:
        fault.update(set_headers=headers)
        if body is not None and wire is None:
            fault.update(body_override=body)
    registry.fail(**fault)
    name = f"docker://{registry.host}/app:1"
    quick = mock.patch("imgtools.transport.registry.session.RetryPolicy", return_value=QUICK)
    with (
        quick,
        Transports() as transports,
        transports.open_source(name, SourceOptions(registry=OPTIONS)) as source,
    ):
        try:
            list_tags(transports.sessions.session(registry.host, OPTIONS), "app")
        except Error:
            pass  # as it should be
        look_at(source)
