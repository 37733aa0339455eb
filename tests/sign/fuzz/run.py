"""Runs so many changes, of all kinds in turn, and counts what became of them."""

from __future__ import annotations

import collections
import faulthandler
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random

from imgtools.errors import Error
from tests.sign.fuzz import certified, configured, messages, signed
from tests.sign.fuzz.kit import Target

HANG = 60
"""Seconds that one judgement may take before the run ends with the stacks of all threads."""

_RARE = {"gpg": 400, "keyless": 250}
"""What runs a program or takes long: one change in so many."""


def run(number: int, seed: int) -> dict[str, object]:
    """Change so many; what became of them. Fails by AssertionError, or any other exception that
    is no Error of ours, with the number of the change in its notes."""
    outcomes: collections.Counter[str] = collections.Counter()
    longest = ("", 0.0)
    begun = time.monotonic()
    with _targets() as targets:
        often = [name for name in targets if name not in _RARE]
        for count in range(number):
            name = often[count % len(often)]
            for rare, every in _RARE.items():
                name = rare if count % every == every // 2 else name
            faulthandler.dump_traceback_later(HANG, exit=True)
            at = time.monotonic()
            try:
                outcome = "admitted" if targets[name].one(Random(f"{seed}/{count}")) else "refused"
            except Error as e:
                outcome = type(e).__name__
            except Exception as e:
                e.add_note(f"change {count} of seed {seed}: {name}")
                raise
            finally:
                faulthandler.cancel_dump_traceback_later()
            longest = max(longest, (name, time.monotonic() - at), key=lambda item: item[1])
            outcomes[f"{name}: {outcome}"] += 1
    return {
        "changes": number,
        "outcomes": dict(sorted(outcomes.items())),
        "seconds": round(time.monotonic() - begun, 1),
        "longest": f"{longest[0]} {longest[1]:.3f} s",
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


@contextmanager
def _targets() -> Iterator[dict[str, Target]]:
    with ExitStack() as stack:
        yield {
            **signed.targets(),
            **certified.targets(),
            **configured.targets(stack),
            **messages.targets(stack),
        }
