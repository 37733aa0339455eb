"""The methods of the image proxy protocol, from a request to a reply.

Requests are served one after the other, as their replies have to be; what fills pipes runs
beside them. A blob goes to its pipe as it is read, so nothing is as large as a blob.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from imgtools.blob.pump import pump
from imgtools.errors import (
    Error,
    ImageNotFound,
    InvalidInput,
    LimitExceeded,
    SizeMismatch,
)
from imgtools.imageproxy.images import OpenBlob, OpenImage, Services
from imgtools.imageproxy.message import (
    PROTOCOL_VERSION,
    Reply,
    Request,
    number,
    pipe_error,
    take,
    text,
)
from imgtools.imageproxy.pipes import Alarm, PipeWriter, Transfer, open_pipe
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest
from imgtools.task import Task
from imgtools.transport.closing import Closing

_MOST_IMAGES = 1000
_MOST_PIPES = 200
_NOT_FOUND = 0
"""What OpenImageOptional says of an image that is not there."""
PATIENCE = 900.0
_GRACE = 5.0
"""Seconds that running transfers get to notice the end."""


class Handler(Closing):
    """The state of one client's session; for one thread."""

    def __init__(self, services: Services, *, task: Task, patience: float = PATIENCE) -> None:
        """`task` is this session's own: cancelling it ends what is under way. `patience` is how
        many seconds FinishPipe waits for a client that reads nothing."""
        self._services = services
        self._task = task
        self._patience = patience
        self._alarm = Alarm(task.cancel)
        self._initialized = False
        self._serial = 0
        self._images: dict[int, OpenImage] = {}
        self._pipe_serial = 0
        self._pipes: dict[int, tuple[Transfer, PipeWriter]] = {}
        self._raw: list[Transfer] = []

    def handle(self, request: Request) -> Reply:
        """The reply to any request but Shutdown; raises Error for one that fails."""
        if request.method == "Initialize":
            return self._initialize(request.args)
        method = _METHODS.get(request.method)
        if method is None:
            raise InvalidInput(f"unknown method: {request.method[:100]}")
        if not self._initialized:
            raise InvalidInput("client error: must invoke Initialize")
        return method(self, request.args)

    def close(self) -> None:
        """End all transfers, by cancelling the task, and close all images; safe to call twice."""
        self._task.cancel.cancel("the proxy ends")
        pipes, self._pipes = self._pipes, {}
        raw, self._raw = self._raw, []
        ended = [transfer.join(_GRACE) for transfer in (*raw, *(t for t, _ in pipes.values()))]
        for _, writer in pipes.values():
            writer.close()
        images, self._images = self._images, {}
        for image in images.values():
            image.close()
        if all(ended):
            self._alarm.close()

    def _initialize(self, args: Sequence[Any]) -> Reply:
        take(args)
        if self._initialized:
            raise InvalidInput("already initialized")
        self._initialized = True
        return Reply(value=PROTOCOL_VERSION)

    def _open_image(self, args: Sequence[Any]) -> Reply:
        (name,) = take(args, "image name")
        if len(self._images) >= _MOST_IMAGES:
            raise LimitExceeded("number of open images", _MOST_IMAGES, unit="images")
        source = self._services.open_source(text(name, "image name"))
        try:
            image = OpenImage(source, self._services)
        except BaseException:
            source.close()
            raise
        self._serial += 1
        self._images[self._serial] = image
        return Reply(value=self._serial)

    def _open_image_optional(self, args: Sequence[Any]) -> Reply:
        try:
            return self._open_image(args)
        except ImageNotFound:
            return Reply(value=_NOT_FOUND)

    def _close_image(self, args: Sequence[Any]) -> Reply:
        (given,) = take(args, "imgid")
        image = self._image(given)
        del self._images[number(given, "imgid")]
        image.close()
        return Reply()

    def _get_manifest(self, args: Sequence[Any]) -> Reply:
        (given,) = take(args, "imgid")
        digest, content = self._image(given).manifest()
        return self._content(content, str(digest))

    def _get_full_config(self, args: Sequence[Any]) -> Reply:
        (given,) = take(args, "imgid")
        return self._content(self._image(given).full_config())

    def _get_config(self, args: Sequence[Any]) -> Reply:
        (given,) = take(args, "imgid")
        return self._content(self._image(given).settings())

    def _get_layer_info(self, args: Sequence[Any]) -> Reply:
        (given,) = take(args, "imgid")
        return Reply(value=self._image(given).layers())

    def _get_layer_info_piped(self, args: Sequence[Any]) -> Reply:
        (given,) = take(args, "imgid")
        return self._content(strict_json.dumps(self._image(given).layers()))

    def _get_blob(self, args: Sequence[Any]) -> Reply:
        given, name, expected = take(args, "imgid", "digest", "size")
        image = self._image(given)
        digest, size = Digest.parse(text(name, "digest")), number(expected, "size")
        self._check_pipes()
        blob = image.open_blob(digest, size)
        announced = blob.size

        def fill(writer: PipeWriter) -> None:
            with blob:
                done = pump(blob.reader, writer.write, task=self._task)
            if done != size:
                raise SizeMismatch(f"blob {digest}", expected=size, actual=done)

        return self._piped(fill, announced, blob)

    def _get_raw_blob(self, args: Sequence[Any]) -> Reply:
        given, name = take(args, "imgid", "digest")
        image = self._image(given)
        digest = Digest.parse(text(name, "digest"))
        self._check_pipes()
        blob = image.open_blob(digest)
        announced = blob.size
        fds: list[int] = []
        writers: list[PipeWriter] = []
        try:
            for _ in range(2):
                reading, writer = open_pipe(self._alarm)
                fds.append(reading)
                writers.append(writer)
        except BaseException:
            blob.close()
            _close_all(fds, writers)
            raise
        data, errors = writers

        def fill() -> None:
            with blob:
                pump(blob.reader, data.write, task=self._task)

        def finished(error: Error | None) -> None:
            if error is not None:
                errors.write_now(pipe_error(error))
            errors.close()
            data.close()

        self._raw.append(Transfer(fill, finished))
        return Reply(value=announced, fds=tuple(fds))

    def _finish_pipe(self, args: Sequence[Any]) -> Reply:
        (given,) = take(args, "pipeid")
        pipeid = number(given, "pipeid")
        found = self._pipes.pop(pipeid, None)
        if found is None:
            raise InvalidInput(f"finishpipe: no active pipe {pipeid}")
        transfer, writer = found
        # Nothing else is answered meanwhile, which the order of replies demands.
        transfer.join_while_read(writer, self._patience)
        writer.close()
        if transfer.error is not None:
            raise transfer.error
        return Reply()

    def _image(self, given: Any) -> OpenImage:
        imgid = number(given, "imgid")
        if imgid == _NOT_FOUND:
            raise InvalidInput("invalid imageid value of zero")
        image = self._images.get(imgid)
        if image is None:
            raise InvalidInput(f"no image {imgid}")
        return image

    def _content(self, content: bytes, value: Any = None) -> Reply:
        self._check_pipes()
        return self._piped(lambda writer: writer.write(content), value)

    def _piped(
        self, fill: Callable[[PipeWriter], None], value: Any, blob: OpenBlob | None = None
    ) -> Reply:
        """A reply with a pipe that `fill` fills. The client sees its end after FinishPipe
        only, which tells it about errors; `blob` is closed when there can be no pipe."""
        try:
            reading, writer = open_pipe(self._alarm)
        except BaseException:
            if blob is not None:
                blob.close()
            raise
        self._pipe_serial += 1
        self._pipes[self._pipe_serial] = (Transfer(lambda: fill(writer)), writer)
        return Reply(value=value, fds=(reading,), pipeid=self._pipe_serial)

    def _check_pipes(self) -> None:
        """Raise LimitExceeded when the client leaves too many pipes open."""
        self._raw = [transfer for transfer in self._raw if not transfer.join(0)]
        if len(self._pipes) + len(self._raw) >= _MOST_PIPES:
            raise LimitExceeded("number of open pipes", _MOST_PIPES, unit="pipes")


def _close_all(fds: Sequence[int], writers: Sequence[PipeWriter]) -> None:
    for fd in fds:
        os.close(fd)
    for writer in writers:
        writer.close()


_METHODS: Mapping[str, Callable[[Handler, Sequence[Any]], Reply]] = MappingProxyType(
    {
        "OpenImage": Handler._open_image,
        "OpenImageOptional": Handler._open_image_optional,
        "CloseImage": Handler._close_image,
        "GetManifest": Handler._get_manifest,
        "GetFullConfig": Handler._get_full_config,
        "GetConfig": Handler._get_config,
        "GetBlob": Handler._get_blob,
        "GetRawBlob": Handler._get_raw_blob,
        "GetLayerInfo": Handler._get_layer_info,
        "GetLayerInfoPiped": Handler._get_layer_info_piped,
        "FinishPipe": Handler._finish_pipe,
    }
)
