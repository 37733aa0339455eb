"""What running containers takes, as one object, and how a run fails."""

from __future__ import annotations

from collections.abc import Callable

from engine.ids.model import IdSession
from engine.network.model import NetworkFacts
from engine.network.shared import SharedNetworks
from engine.probe.model import Choice
from engine.runtime.errors import CommandNotExecutable, CommandNotFound, Failure
from engine.runtime.zygote.client import Zygote
from engine.storage.store import Store
from imgtools.errors import Error
from imgtools.frozen import dataclass

NOT_FOUND, NOT_EXECUTABLE, OUR_FAULT = 127, 126, 125


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What running containers takes: the store, how containers are isolated here, whose ids
    there are, the launcher, and where things of containers that run are kept.

    `cache` holds compiled seccomp profiles, None for none. `networks` are for containers that
    follow each other; without, each has one of its own. `later` takes jobs that nobody has to
    wait for, or says that it does not.
    """

    store: Store
    choice: Choice
    session: IdSession
    zygote: Zygote
    network: NetworkFacts
    runroot: str
    cache: str | None
    warn: Callable[[str], object]
    networks: SharedNetworks | None = None
    later: Callable[[Callable[[], object]], bool] | None = None


class RunFailed(Error):
    """The container could not be run; `code` is the exit code of podman for that: 127 for a
    command that is not there, 126 for one that cannot be executed, 125 for all else."""

    def __init__(self, failure: Failure, *, hint: str = "") -> None:
        super().__init__(failure.message, hint=failure.hint or hint or None)
        self.code = OUR_FAULT
        if isinstance(failure, CommandNotFound):
            self.code = NOT_FOUND
        elif isinstance(failure, CommandNotExecutable):
            self.code = NOT_EXECUTABLE
