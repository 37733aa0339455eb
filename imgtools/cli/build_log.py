"""Where what a build reports goes: lines on standard output and error, files, JSON, or the view
on a terminal. One of the logs below is made for each build.

As with buildah, standard output has the steps, what commands write there, and at the end the
ids; standard error has the rest.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from imgtools.blob.placing import HERE, Placing
from imgtools.build.events import BuildEvent, StepFailed
from imgtools.cli.build_events import event_json
from imgtools.cli.build_lines import Line, Lines, short_id
from imgtools.cli.build_request import LogOptions
from imgtools.cli.output import notes, write_bytes
from imgtools.frozen import dataclass
from imgtools.task import Event, Note

if TYPE_CHECKING:
    from imgtools.cli.build_live import Live


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """An image that is where it was to go: its id and manifest's digest, as `sha256:...`, its
    names, `platform` where several were built, and whether it is an index of the others."""

    image_id: str
    digest: str
    names: tuple[str, ...] = ()
    platform: str = ""
    index: bool = False


class BuildLog(Protocol):
    """A listener for a build's events and those of transfers; to be closed."""

    def report(self, event: BuildEvent) -> None:
        """An event of the build, from any thread."""
        ...

    def progress(self, event: Event) -> None:
        """An event of a transfer, from any thread."""
        ...

    def ready(self, images: Sequence[Ready], *, ids: bool) -> None:
        """The build is done; `ids` says that ids are printed."""
        ...

    def close(self) -> None:
        """No more will come; safe to call twice."""
        ...

    @property
    def shown(self) -> bool:
        """Whether people have seen what a failed step's command wrote last."""
        ...


class Sink:
    """Files for lines: standard output and error, or a log file, or one for each platform.

    With `quiet` a command's output and the names of steps are left out."""

    def __init__(
        self, options: LogOptions, *, stdout_taken: bool = False, placing: Placing = HERE
    ) -> None:
        self._options = options
        self._quiet = options.quiet
        self._stdout_taken = stdout_taken
        self._placing = placing
        self._files: dict[str, BinaryIO] = {}
        self._undo = ExitStack()
        if options.file:
            self._open(options.file)

    def __call__(self, lines: Sequence[Line]) -> None:
        """Write the lines; raises StorageError, and BrokenPipeError for a closed pipe."""
        touched = False
        for line in lines:
            if self._quiet and not line.notice:
                continue
            touched = True
            self._write(line)
        if touched:
            self._flush()

    def final(self, text: str) -> None:
        """A line that is written even with `quiet`."""
        self._write(Line(stream=1, data=text.encode() + b"\n"))
        self._flush()

    def close(self) -> None:
        """Close the files."""
        self._undo.close()

    def _write(self, line: Line) -> None:
        if self._options.file:
            self._file(line.platform).write(line.data)
        elif line.stream == 1 and not self._stdout_taken:
            write_bytes(line.data)
        else:
            sys.stderr.buffer.write(line.data)

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()
        if not self._options.file:
            sys.stdout.flush()
            sys.stderr.flush()

    def _file(self, platform: str) -> BinaryIO:
        if not self._options.split or not platform:
            return self._open(self._options.file)
        return self._open(f"{self._options.file}_{platform.replace('/', '_')}")

    def _open(self, path: str) -> BinaryIO:
        found = self._files.get(path)
        if found is None:
            found = self._undo.enter_context(self._placing.opened(path))
            self._files[path] = found
        return found


class PlainLog:
    """Lines, one step's at a time."""

    def __init__(self, sink: Sink, options: LogOptions, platforms: Sequence[str] = ()) -> None:
        self._sink, self._options = sink, options
        self._lines = Lines(platforms)
        self._lock = threading.Lock()

    @property
    def shown(self) -> bool:
        """See BuildLog: lines are on their way to people unless they are left out or filed."""
        return not self._options.quiet and not self._options.file

    def report(self, event: BuildEvent) -> None:
        """See BuildLog."""
        with self._lock:
            self._sink(self._lines.take(event))
            if isinstance(event, StepFailed):
                self._sink(self._lines.rest())

    def progress(self, event: Event) -> None:
        """Show notes."""
        if isinstance(event, Note) and (event.level == "warning" or not self._options.quiet):
            with self._lock:
                notes(event)

    def ready(self, images: Sequence[Ready], *, ids: bool) -> None:
        """See BuildLog."""
        with self._lock:
            self._sink(self._lines.rest())
            self._sink([_line(text) for image in images for text in ready_lines(image)])
            if ids:
                self._sink.final(_ids(images))

    def close(self) -> None:
        """See BuildLog."""
        with self._lock:
            self._sink(self._lines.rest())
        self._sink.close()


class LiveLog:
    """The live view on standard error; standard output gets the ids."""

    shown = False

    def __init__(self, live: Live, sink: Sink) -> None:
        self._live, self._sink = live, sink

    def report(self, event: BuildEvent) -> None:
        """See BuildLog."""
        self._live.report(event)

    def progress(self, event: Event) -> None:
        """See BuildLog."""
        self._live.progress(event)

    def ready(self, images: Sequence[Ready], *, ids: bool) -> None:
        """See BuildLog."""
        self._live.close()
        for image in images:
            for text in ready_lines(image):
                self._sink([Line(stream=2, data=text.encode() + b"\n")])
        if ids:
            self._sink.final(_ids(images))

    def close(self) -> None:
        """See BuildLog."""
        self._live.close()
        self._sink.close()


class JsonLog:
    """A line of JSON for each event, and one with the result; `--quiet` leaves only that."""

    shown = True

    def __init__(self, sink: Sink, options: LogOptions) -> None:
        self._sink, self._options = sink, options
        self._lock = threading.Lock()

    def report(self, event: BuildEvent) -> None:
        """See BuildLog."""
        platform = getattr(getattr(event, "step", None), "platform", "")
        self.tell(event_json(event), platform)

    def progress(self, event: Event) -> None:
        """Notes become events; of transfers nothing is told but those."""
        if isinstance(event, Note):
            self.tell({"event": "note", "level": event.level, "text": event.text, "place": None})

    def ready(self, images: Sequence[Ready], *, ids: bool) -> None:
        """See BuildLog; the ids are always in it."""
        found = [
            {
                "id": image.image_id or None,
                "digest": image.digest,
                "names": list(image.names),
                "platform": image.platform or None,
                "index": image.index,
            }
            for image in images
        ]
        with self._lock:
            self._sink.final(json.dumps({"event": "result", "images": found}))

    def tell(self, value: dict[str, Any], platform: str = "") -> None:
        """One more object."""
        data = json.dumps(value).encode() + b"\n"
        with self._lock:
            self._sink([Line(stream=1, data=data, platform=platform)])

    def close(self) -> None:
        """See BuildLog."""
        self._sink.close()


def ready_lines(image: Ready) -> list[str]:
    """What is said of a finished image, in buildah's words."""
    platform = f"[{image.platform}] " if image.platform else ""
    named = f" {image.names[0]}" if image.names else ""
    lines = [f"{platform}COMMIT{named}"]
    if image.image_id or image.digest:
        lines.append(f"--> {short_id(image.image_id or image.digest)}")
    return lines + [f"Successfully tagged {name}" for name in image.names]


def _ids(images: Sequence[Ready]) -> str:
    """The ids of images, without those of indexes of them, a line each."""
    single = [image.image_id for image in images if not image.index]
    return "\n".join(image_id.rpartition(":")[2] for image_id in single)


def _line(text: str) -> Line:
    return Line(stream=1, data=text.encode() + b"\n")


def open_log(
    options: LogOptions,
    *,
    terminal: bool,
    colour: bool,
    stdout_taken: bool = False,
    platforms: Sequence[str] = (),
    placing: Placing = HERE,
) -> AbstractContextManager[BuildLog]:
    """The log that suits the options; `terminal` says that standard output and error are one
    that can move its cursor, `colour` that it has colours; `placing` opens the files. Raises
    StorageError."""
    sink = Sink(options, stdout_taken=stdout_taken, placing=placing)
    return closing(_log(options, sink, terminal, colour, platforms))


def _log(
    options: LogOptions, sink: Sink, terminal: bool, colour: bool, platforms: Sequence[str]
) -> BuildLog:
    if options.progress == "json":
        return JsonLog(sink, options)
    if options.progress == "auto" and terminal and not options.quiet and not options.file:
        from imgtools.cli.build_live import Live

        return LiveLog(Live(sys.stderr, colour=colour), sink)
    return PlainLog(sink, options, platforms)
