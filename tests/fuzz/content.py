"""What the registry has: an index, an image, and something that refers to it."""

from __future__ import annotations

from imgtools.testing import images
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import push

INDEX = images.random_index("fuzz", layers=2, size=500)
IMAGE = images.random_image("fuzz one", layers=2, size=500)
REFERRER = images.random_artifact("fuzz", subject=IMAGE.top.descriptor())


def fill(registry: ScriptedRegistry) -> None:
    """Put the content in, without requests."""
    push(registry, "app", INDEX, "index")
    push(registry, "app", IMAGE, "1")
    push(registry, "app", REFERRER, "referrer")
