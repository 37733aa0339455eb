"""An image and the tags of its repository, read at the same time.

Imports little, so that the first requests are on their way before the rest of the program is
loaded. A list of tags that cannot be had is a warning: many registries refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from imgtools.errors import Cancelled, Error
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform
from imgtools.task import Task, WorkerPool
from imgtools.transport.base import Source

if TYPE_CHECKING:
    from imgtools.image.model import Image

TagLister = Callable[[], Sequence[str]]
"""Reads all tags of the repository; called in a thread of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """An image, and the tags of its repository (empty where there are none to know)."""

    image: Image
    tags: tuple[str, ...] = ()


def survey(
    source: Source, platform: Platform, *, task: Task, list_tags: TagLister | None = None
) -> Survey:
    """Read the image for `platform`, and its tags if `list_tags` is given, at the same time.

    Raises what `read_image` raises.
    """

    def tags() -> tuple[str, ...] | Error:
        if list_tags is None:
            return ()
        try:
            return tuple(list_tags())
        except Cancelled:
            raise
        except Error as e:
            return e

    with WorkerPool(task) as pool:
        top = pool.submit(source.top)
        listing = pool.submit(tags)
        from imgtools.inspect.survey import read_image

        image = read_image(source, platform, top=top.get())
        found = listing.get()
    if isinstance(found, Error):
        # Not before the image was read: what keeps us from both is said once, as an error.
        task.warn(f"the tags of the repository cannot be listed: {found.message}")
        found = ()
    return Survey(image=image, tags=found)
