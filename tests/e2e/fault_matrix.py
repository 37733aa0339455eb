"""Every fault at every stage of a copy, on either side: what comes of it, and what it costs.

Run as `python -m tests.e2e.fault_matrix` it prints the table. A fault that comes once should be
survived; one that always comes must end in a clean error, a bounded number of requests, and
nothing at the destination that could be taken for an image.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from imgtools.copy import copy_image
from imgtools.errors import Error, SeveralErrors
from imgtools.spec.reference import Reference
from imgtools.task import Task
from imgtools.testing.contract_kit import check_same, put
from imgtools.testing.images import Sample, random_image
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.base import Destination, Source
from imgtools.transport.oci_layout import LayoutSource
from imgtools.transport.oci_layout_writer import LayoutDestination
from imgtools.transport.options import Credentials, RegistryOptions, Timeouts
from imgtools.transport.registry.access.challenge_cache import ChallengeCache
from imgtools.transport.registry.pull.source import RegistrySource
from imgtools.transport.registry.push.destination import RegistryDestination
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.retry import RetryPolicy
from tests.rig import make_certificates
from tests.rig.cutting import Door, Harm

SIZE = 400_000
TENTHS = tuple(f"body {number * 10} %" for number in range(10))
STAGES = ("connect", "tls", "headers", *TENTHS, "commit")
FAULTS = ("reset", "stall", "401", "429", "500", "503", "truncation", "wrong digest")
SIDES = ("source", "destination")
HOW_OFTEN = ("once", "always")
WIRE: dict[str, Harm] = {
    "reset": "reset",
    "stall": "stall",
    "truncation": "close",
    "wrong digest": "flip",
}
QUICK = RetryPolicy(first=0.005, longest=0.02)
PATIENCE = 0.25
NAME = "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One cell of the table."""

    side: str
    stage: str
    fault: str
    often: str

    def __str__(self) -> str:
        return f"{self.side}: {self.fault} at {self.stage}, {self.often}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a case: `error` is the kind of the error, "" when the copy is complete.

    `moved` are bytes of bodies of blobs, as the registry counts them: what it sent into a
    connection that is reset may not have come. `left` says that something was left at the
    destination that is not the whole image.
    """

    error: str
    message: str
    requests: int
    moved: int
    left: bool

    def __str__(self) -> str:
        counts = f"{self.requests} requests"
        if self.error:
            return f"{self.error}, {counts}"
        return f"completed, {counts}, {self.moved - blob_bytes():+d} bytes"


def cases() -> Iterator[Case]:
    """Every fault where it can be."""
    for side in SIDES:
        for stage in STAGES:
            for fault in FAULTS:
                if stage in ("connect", "tls") and fault not in ("reset", "stall", "truncation"):
                    continue
                for often in HOW_OFTEN:
                    yield Case(side=side, stage=stage, fault=fault, often=often)


@cache
def image() -> Sample:
    """The image that is copied: one layer that does not compress."""
    return random_image("faults", layers=1, size=SIZE)


def blob_bytes() -> int:
    """Bytes that have to be moved."""
    return sum(descriptor.size for descriptor in image().blobs)


def run(case: Case, directory: Path, certificates: Path) -> Outcome:
    """Make the registry of a case and copy from or to it."""
    tls: dict[str, Any] = {}
    if case.stage == "tls":
        tls = {
            "tls_cert": str(certificates / "server.crt"),
            "tls_key": str(certificates / "server.key"),
        }
    with ExitStack() as stack:
        registry = stack.enter_context(ScriptedRegistry(auth="bearer", **tls))
        if case.side == "source":
            _fill(registry, image())
        host = registry.host
        door = _door(case, host)
        if door is not None:
            stack.enter_context(door)
            host = door.host
        else:
            _script(case, registry)
        options = RegistryOptions(
            tls_verify=bool(tls),
            ca_file=str(certificates / "ca.crt") if tls else None,
            credentials=Credentials(username="user", password="secret"),
            timeouts=Timeouts(connect=PATIENCE, first_byte=PATIENCE, idle=PATIENCE),
        )
        session = Session(host, options, ChallengeCache(None), QUICK)
        stack.callback(session.close)
        return _copy(case, session, registry, directory)


def _copy(case: Case, session: Session, registry: ScriptedRegistry, directory: Path) -> Outcome:
    reference = Reference.parse(f"{session.host}/{NAME}:v1")
    layout = directory / "layout"
    error, message = "", ""
    if case.side == "destination":
        with LayoutDestination.open(f"{layout}:v1") as filled:
            put(filled, image())
            filled.commit()
    try:
        with _ends(case, session, reference, layout) as (source, destination):
            copy_image(source, destination, task=Task())
    except Error as e:
        kinds = e.errors if isinstance(e, SeveralErrors) else (e,)
        error, message = "/".join(sorted({type(each).__name__ for each in kinds})), e.message
    sample = image()
    if case.side == "source":
        left = layout.exists()
        if not error:
            check_same(LayoutSource.open(f"{layout}:v1"), sample)
            left = any(layout.rglob(".imgtools-*"))
        moved = sum(e.sent for e in registry.requests if e.method == "GET" and "/blobs/" in e.path)
    else:
        stored = registry.repository(NAME)
        # An answer that was lost may have been to the last request: then all of it is there.
        left = "v1" in stored.tags
        if left or not error:
            assert stored.manifests[stored.tags["v1"]].content == sample.top.content
            left = any(stored.blobs.get(d.digest) != blob for d, blob in sample.blobs.items())
        moved = sum(e.received for e in registry.requests if "/uploads/" in e.path)
    return Outcome(
        error=error,
        message=message,
        requests=len(registry.requests),
        moved=moved,
        left=left,
    )


@contextmanager
def _ends(
    case: Case, session: Session, reference: Reference, layout: Path
) -> Iterator[tuple[Source, Destination]]:
    if case.side == "source":
        with LayoutDestination.open(f"{layout}:v1") as target:
            yield RegistrySource(session, reference), target
    else:
        with (
            LayoutSource.open(f"{layout}:v1") as source,
            RegistryDestination(session, reference) as target,
        ):
            yield source, target


def _fill(registry: ScriptedRegistry, sample: Sample) -> None:
    for content in sample.blobs.values():
        registry.push_blob(NAME, content)
    registry.push_manifest(NAME, sample.top.content, sample.top.media_type, tags=("v1",))


# How a case is brought about


def _place(case: Case) -> int:
    """The byte of the layer at which it happens."""
    return TENTHS.index(case.stage) * SIZE // 10 + 7


def _door(case: Case, host: str) -> Door | None:
    """What is done on the wire, below any request; None where the registry does it."""
    always = case.often == "always"
    if case.stage == "connect":
        return Door(host, WIRE[case.fault], at=None, always=always)
    if case.stage == "tls":
        return Door(host, WIRE[case.fault], at=100, always=always)
    if case.side == "destination" and case.stage in TENTHS and case.fault in WIRE:
        # What comes before the layer: three requests with their heads, and the config.
        before = 0 if always else 3000
        return Door(host, WIRE[case.fault], at=before + _place(case), always=always)
    return None


def _script(case: Case, registry: ScriptedRegistry) -> None:
    nth = 1 if case.often == "once" else None
    layer = next(d for d in image().blobs if d.size > SIZE // 2).digest
    if case.stage == "commit":
        method = "GET" if case.side == "source" else "PUT"
        registry.fail(method=method, path="/manifests/", nth=nth, **_commit_fault(case, registry))
        return
    if case.side == "source":
        where: dict[str, Any] = {"method": "GET", "path": f"/blobs/{layer}"}
    elif case.stage == "headers":
        where = {"method": "POST", "path": "/uploads/"}
    else:
        where = {"method": "PUT", "path": f"/uploads/.*{layer.hex}"}
    if case.stage == "headers":
        registry.fail(**where, nth=nth, **_head_fault(case, registry))
    elif not case.fault.isdigit():
        registry.fail(**where, nth=nth, **_body_fault(case))
    elif case.side == "destination":
        registry.fail(**where, nth=nth, **_status(case, registry), early=_place(case))
    else:
        # The body is cut there, and the request for the rest gets the status.
        registry.fail(**where, nth=1, cut_after=_place(case))
        later = 2 if case.often == "once" else range(2, 1000)
        registry.fail(**where, nth=later, **_status(case, registry))


def _status(case: Case, registry: ScriptedRegistry) -> dict[str, Any]:
    fault: dict[str, Any] = {"status": int(case.fault)}
    if case.fault == "401":
        challenge = f'Bearer realm="{registry.url}/token",service="test",error="invalid_token"'
        fault["headers"] = {"WWW-Authenticate": challenge}
    return fault


def _head_fault(case: Case, registry: ScriptedRegistry) -> dict[str, Any]:
    faults: dict[str, Callable[[], dict[str, Any]]] = {
        "reset": lambda: {"cut_headers": True, "reset": True},
        "stall": lambda: {"stall": 30.0},
        "truncation": lambda: {"cut_headers": True},
        "wrong digest": lambda: {"set_headers": {"Docker-Content-Digest": f"sha256:{'0' * 64}"}},
    }
    return faults.get(case.fault, lambda: _status(case, registry))()


def _commit_fault(case: Case, registry: ScriptedRegistry) -> dict[str, Any]:
    if case.fault == "truncation" and case.side == "source":
        return {"truncate": 100}
    if case.fault == "wrong digest" and case.side == "source":
        return {"flip": 100}
    return _head_fault(case, registry)


def _body_fault(case: Case) -> dict[str, Any]:
    place = _place(case)
    return {
        "reset": {"cut_after": place, "reset": True},
        "stall": {"stall_after": place},
        "truncation": {"truncate": place},
        "wrong digest": {"flip": place},
    }[case.fault]


# The whole table


def run_all(chosen: list[Case], workers: int = 32) -> dict[Case, Outcome]:
    """The outcomes of the chosen cases; most of their time is waiting, so many at a time."""
    image()
    with tempfile.TemporaryDirectory() as root:
        certificates = make_certificates(Path(root) / "certificates")

        def one(numbered: tuple[int, Case]) -> Outcome:
            number, case = numbered
            directory = Path(root) / str(number)
            directory.mkdir()
            return run(case, directory, certificates)

        with ThreadPoolExecutor(workers) as pool:
            return dict(zip(chosen, pool.map(one, enumerate(chosen)), strict=True))


def table(outcomes: dict[Case, Outcome]) -> str:
    """One line per stage and fault: what came of it once and always."""
    lines = []
    for side in SIDES:
        if not any(case.side == side for case in outcomes):
            continue
        lines += ["", f"{side:12} {'':13} {'once':38} always"]
        for stage in STAGES:
            for fault in FAULTS:
                found = [
                    outcomes.get(Case(side=side, stage=stage, fault=fault, often=often))
                    for often in HOW_OFTEN
                ]
                if any(found):
                    once, always = (str(each or "-") for each in found)
                    lines.append(f"{stage:12} {fault:13} {once:38} {always}")
    return "\n".join(lines)


if __name__ == "__main__":
    wanted = [case for case in cases() if all(word in str(case) for word in sys.argv[1:])]
    print(table(run_all(wanted)))
