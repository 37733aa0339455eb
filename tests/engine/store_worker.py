"""A process that pulls, removes and prunes images in a loop until it is killed.

Run as `python -m tests.engine.store_worker ROOT DRIVER SECONDS SEED HOST/NAME...`; prints a line
for each image that it has pulled, once the pull is done.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from engine.storage.collect import ImageInUse
from engine.storage.store import Store
from imgtools.errors import ImageNotFound
from imgtools.task import Task
from tests.engine.store_rig import location, pull


def main(root: str, driver: str, duration: str, seed: str, *names: str) -> None:
    """Work until the time is over."""
    choose = random.Random(seed)
    until = time.monotonic() + float(duration)
    with Store.open(location(Path(root), driver)) as store:
        while time.monotonic() < until:
            name = choose.choice(names)
            match choose.randrange(5):
                case 0 | 1 | 2:
                    image = pull(store, name, "always")
                    sys.stdout.write(f"{name} {image.id}\n")
                    sys.stdout.flush()
                case 3:
                    try:
                        store.remove(name, task=Task())
                    except (ImageNotFound, ImageInUse):
                        continue
                case _:
                    store.prune(task=Task())


if __name__ == "__main__":
    main(*sys.argv[1:])
