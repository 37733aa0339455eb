"""A build's store and executor joined from what a command line knows of the host.

Nothing is started before it is needed: the launcher, and the look at this host's network, wait
for the first RUN.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from engine.builds.bases import BaseOptions
from engine.builds.executor import BuildExecutor
from engine.builds.store import BuildStore
from engine.ids.model import IdSession
from engine.probe.model import Report
from engine.storage.store import Store
from imgtools.frozen import dataclass
from imgtools.transport.table import Transports

if TYPE_CHECKING:
    from engine.containers.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildHost:
    """What a build works with, open as long as the block that made it."""

    store: BuildStore
    executor: BuildExecutor


@contextmanager
def build_engine(
    store: Store,
    transports: Transports,
    *,
    report: Report,
    session: IdSession,
    options: BaseOptions,
    path: tuple[str, ...],
    seccomp_cache: str | None,
    warn: Callable[[str], object],
) -> Iterator[BuildHost]:
    """Store and executor of one build, for the block.

    `store` is opened in the user namespace of `session`, before which `report` was made
    (`probe_host`). `path` is where helper programs are looked for, `seccomp_cache` where
    compiled profiles are kept. Raises nothing of its own.
    """
    from engine.containers.suitable import suited_choice, tell_of_choice

    choice = suited_choice(report, session, store)
    with ExitStack() as undo:

        def start() -> Engine:
            from engine.runtime.zygote.client import Zygote

            # It gets ready while the rest is loaded here.
            zygote = undo.enter_context(Zygote.start(sys.executable))
            from engine.containers.directory import network_directory
            from engine.containers.engine import Engine
            from engine.network.shared import SharedNetworks
            from engine.network.survey import survey_network

            tell_of_choice(choice, warn)
            runroot = store.location.runroot
            networks = SharedNetworks(lambda name: network_directory(runroot, name))
            return Engine(
                store=store,
                choice=choice,
                session=session,
                zygote=zygote,
                network=survey_network(path, join_problem=report.probe("join-namespaces").why),
                runroot=runroot,
                cache=seccomp_cache,
                warn=warn,
                networks=undo.enter_context(networks),
                later=store.layers.disk.workspace.take_later,
            )

        undo.enter_context(store.layers.disk.workspace.unhurried())
        snapshots = undo.enter_context(BuildStore(store, transports, options))
        yield BuildHost(store=snapshots, executor=BuildExecutor(choice, start))
