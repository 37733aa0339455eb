"""What every destination and the source that reads it back have to do, as one list of cases.

A case is given an `Endpoint` and raises AssertionError. Where a destination's capabilities
exclude what a case writes, the case holds that it is refused with a typed error instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from imgtools.blob.reader import BlobReader
from imgtools.errors import (
    BlobNotFound,
    Cancelled,
    Denied,
    DigestMismatch,
    ImageNotFound,
    NotFound,
    SizeMismatch,
    Unsupported,
)
from imgtools.spec import manifest as mf
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Advanced, Event, Task, WorkerPool
from imgtools.testing import contract_blobs, images
from imgtools.testing.contract_kit import (
    Endpoint,
    Failing,
    check_same,
    content_of,
    expected,
    opener,
    put,
    round_trip,
    sized,
    suitable,
    write,
    write_suitable,
)

Case = Callable[[Endpoint], None]


def single(endpoint: Endpoint) -> None:
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities)
    round_trip(endpoint, sample)


def no_layers(endpoint: Endpoint) -> None:
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities, layers=0)
    round_trip(endpoint, sample)


def oci_image(endpoint: Endpoint) -> None:
    round_trip(endpoint, images.random_image("oci"))


def docker_image(endpoint: Endpoint) -> None:
    round_trip(endpoint, images.random_image("docker", docker=True, compression="none"))


def index_of_four(endpoint: Endpoint) -> None:
    round_trip(endpoint, images.random_index("index"))


def manifest_list(endpoint: Endpoint) -> None:
    round_trip(endpoint, images.random_index("list", docker=True))


def nested_index(endpoint: Endpoint) -> None:
    inner = images.random_index("inner", platforms=images.PLATFORMS[:2])
    round_trip(endpoint, images.index_of([inner, images.random_image("beside")]))


def artifact(endpoint: Endpoint) -> None:
    round_trip(endpoint, images.random_artifact("artifact"))


def annotated(endpoint: Endpoint) -> None:
    round_trip(endpoint, images.random_image("notes", annotations={"org.example.ö": "<&>"}))


def missing_image(endpoint: Endpoint) -> None:
    with expected(ImageNotFound), endpoint.source() as source:
        source.resolve()
    with expected(ImageNotFound), endpoint.source() as source:
        source.top()


def missing_parts(endpoint: Endpoint) -> None:
    sample = write_suitable(endpoint)
    absent = Descriptor(media_type=mt.OCI_LAYER, digest=Digest.of(b"absent"), size=6)
    with endpoint.source() as source:
        with expected(BlobNotFound), source.open_blob(absent) as reader:
            reader.read()
        with expected(NotFound):
            source.manifest(Descriptor(media_type=mt.OCI_MANIFEST, digest=absent.digest, size=6))
        assert list(source.referrers(sample.top.digest)) == []


def wrong_bytes(endpoint: Endpoint) -> None:
    """A blob that is not what its digest says is refused, and does not count as there."""
    with endpoint.destination() as destination:
        right = b"what the digest says"
        descriptor = Descriptor(media_type=mt.OCI_LAYER, digest=Digest.of(right), size=len(right))
        wrong = b"something else, as is"[: len(right)]
        with expected(DigestMismatch):
            destination.put_blob(descriptor, opener(wrong, descriptor.digest), task=Task())
        assert not destination.has_blob(descriptor)
        with expected(SizeMismatch):
            destination.put_blob(descriptor, sized(right[:-1], descriptor), task=Task())
        with expected(SizeMismatch):
            destination.put_blob(descriptor, sized(right + b"!", descriptor), task=Task())
        assert not destination.has_blob(descriptor)
        # The failed attempts leave no trace in what is committed.
        sample = suitable(destination.capabilities, "after failure")
        put(destination, sample)
        destination.commit()
    check_same(endpoint.source(), sample)


def failing_source(endpoint: Endpoint) -> None:
    """What a blob's reader raises comes out as it is; a second attempt succeeds."""
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities, "failing", size=600_000)
        descriptor, content = max(sample.blobs.items(), key=lambda item: item[0].size)

        def fail() -> BlobReader:
            return BlobReader(Failing(content[:-10]), descriptor.digest, descriptor.size)

        with expected(Denied):
            destination.put_blob(descriptor, fail, task=Task())
        assert not destination.has_blob(descriptor)
        put(destination, sample)
        destination.commit()
    check_same(endpoint.source(), sample)


def closed_without_commit(endpoint: Endpoint) -> None:
    """Nothing that a reader takes for an image is left (in a registry, as long as its tag
    was not put)."""
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities, "abandoned")
        if destination.capabilities.remote:
            for descriptor, content in sample.blobs.items():
                destination.put_blob(descriptor, opener(content), task=Task())
        else:
            put(destination, sample)
    destination.close()
    missing_image(endpoint)


def abandoned_change(endpoint: Endpoint) -> None:
    """Closing without commit leaves what was there before."""
    try:
        before = write_suitable(endpoint)
        with endpoint.destination() as destination:
            other = suitable(destination.capabilities, "other", size=2000)
            for descriptor, content in other.blobs.items():
                destination.put_blob(descriptor, opener(content), task=Task())
            if not destination.capabilities.remote:
                destination.put_manifest(other.top, top=True)
    except Unsupported:
        pass  # a transport may refuse to touch what exists
    check_same(endpoint.source(), before)


def replaced(endpoint: Endpoint) -> None:
    """Writing again replaces the image, or is refused and leaves it."""
    before = write_suitable(endpoint)
    after = before
    try:
        with endpoint.destination() as destination:
            other = suitable(destination.capabilities, "other", size=2000)
            put(destination, other)
            destination.commit()
            after = other
    except Unsupported:
        pass
    check_same(endpoint.source(), after)


def concurrent_blobs(endpoint: Endpoint) -> None:
    """Blobs put by several threads, many of them at the same time, all arrive."""
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities, "many", layers=12, size=70_000)
        events: list[Event] = []
        task = Task(jobs=6, progress=events.append)
        with WorkerPool(task) as pool:
            for descriptor, content in sample.blobs.items():
                pool.submit(
                    lambda d=descriptor, c=content: destination.put_blob(  # type: ignore[misc]
                        d, opener(c), task=task
                    )
                )
        destination.put_manifest(sample.top, top=True)
        destination.commit()
    check_same(endpoint.source(), sample)
    done = sum(e.amount for e in events if isinstance(e, Advanced))
    assert done == sum(descriptor.size for descriptor in sample.blobs)


def same_blob_at_once(endpoint: Endpoint) -> None:
    """One blob put by six threads at the same time is there once, whole."""
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities, "same", layers=1, size=300_000)
        descriptor, content = max(sample.blobs.items(), key=lambda item: item[0].size)
        barrier = threading.Barrier(6)
        outcomes: list[str] = []

        def job() -> None:
            barrier.wait()
            outcomes.append(destination.put_blob(descriptor, opener(content), task=Task()))

        with WorkerPool(Task(jobs=6)) as pool:
            for _ in range(6):
                pool.submit(job)
        assert len(outcomes) == 6
        assert "stored" in outcomes
        put(destination, sample)
        destination.commit()
    check_same(endpoint.source(), sample)


def cancelled(endpoint: Endpoint) -> None:
    """A cancelled task stops a blob, which does not count as there."""
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities, "cancelled", size=600_000)
        descriptor, content = max(sample.blobs.items(), key=lambda item: item[0].size)
        task = Task()
        task.cancel.cancel()
        with expected(Cancelled):
            destination.put_blob(descriptor, opener(content), task=task)
        assert not destination.has_blob(descriptor)
    missing_image(endpoint)


def asked_before_and_after(endpoint: Endpoint) -> None:
    """has_blob, has_manifest and current answer for what was put and committed."""
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities, "asked")
        assert destination.current() is None
        for descriptor, content in sample.blobs.items():
            assert not destination.has_blob(descriptor)
            assert destination.put_blob(descriptor, opener(content), task=Task()) == "stored"
            assert destination.has_blob(descriptor)
            again = destination.put_blob(descriptor, opener(content), task=Task())
            assert again == "present"
        destination.put_manifest(sample.top, top=True)
        destination.commit()
    try:
        with endpoint.destination() as destination:
            found = destination.current()
            assert found is None or found.digest == sample.top.digest
    except Unsupported:
        return
    absent = Descriptor(media_type=mt.OCI_MANIFEST, digest=Digest.of(b"absent"), size=6)
    with endpoint.destination() as destination:
        assert not destination.has_manifest(absent)
        assert not destination.has_blob(absent)


def referrers(endpoint: Endpoint) -> None:
    """Referrers put beside an image stay findable where the capabilities say so."""
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities, "subject")
        report = images.random_artifact("report", subject=sample.top.descriptor())
        if not destination.capabilities.referrers:
            return
        for descriptor, content in {**sample.blobs, **report.blobs}.items():
            destination.put_blob(descriptor, opener(content), task=Task())
        destination.put_manifest(report.top, top=False)
        destination.put_manifest(sample.top, top=True)
        destination.commit()
    with endpoint.source() as source:
        (found,) = source.referrers(sample.top.digest)
        assert found.digest == report.top.digest
        assert found.artifact_type == "application/vnd.example.report"
        assert found.annotations == {"org.example.seed": "report"}
        assert source.manifest(found).content == report.top.content
        assert list(source.referrers(report.top.digest)) == []
    check_same(endpoint.source(), sample)


def read_in_parallel(endpoint: Endpoint) -> None:
    """One source is read by several threads at once."""
    with endpoint.destination() as destination:
        sample = suitable(destination.capabilities, "parallel", layers=8, size=100_000)
    write(endpoint, sample)
    with endpoint.source() as source:
        view = mf.parse(source.top())
        assert isinstance(view, mf.Manifest)

        def read(descriptor: Descriptor) -> bytes:
            with source.open_blob(descriptor) as reader:
                return reader.read()

        with WorkerPool(Task(jobs=6)) as pool:
            found = pool.map(read, view.blobs())
        assert found == [content_of(sample, d) for d in view.blobs()]


CASES: tuple[Case, ...] = (
    single,
    no_layers,
    oci_image,
    docker_image,
    index_of_four,
    manifest_list,
    nested_index,
    artifact,
    annotated,
    missing_image,
    missing_parts,
    wrong_bytes,
    failing_source,
    closed_without_commit,
    abandoned_change,
    replaced,
    concurrent_blobs,
    same_blob_at_once,
    *contract_blobs.CASES,
    cancelled,
    asked_before_and_after,
    referrers,
    read_in_parallel,
)
"""Every case; a test runs each over each transport."""


def names(cases: Iterable[Case]) -> list[str]:
    """The names of cases, for test reports."""
    return [case.__name__ for case in cases]
