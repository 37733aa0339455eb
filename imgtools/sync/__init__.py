"""Keeping places alike: many images, survey -> plan -> execute, only differences copied.

    with Transports() as transports:
        found = survey(wanted, target, options, transports, task=task)
        plan = plan_sync(found, options)
        result = execute(plan, options, transports, task=task)

`execute` and what it needs are imported when something has to be copied; a run in which
everything is the same is over before.
"""

from __future__ import annotations

from imgtools.sync.options import DirectoryWanted, RepositoryWanted, SyncOptions, Target, Wanted
from imgtools.sync.plan import ImageAction, SyncPlan, plan_sync
from imgtools.sync.result import Outcome, SyncResult
from imgtools.sync.sources import SOURCES, wanted
from imgtools.sync.survey import survey

__all__ = [
    "SOURCES",
    "DirectoryWanted",
    "ImageAction",
    "Outcome",
    "RepositoryWanted",
    "SyncOptions",
    "SyncPlan",
    "SyncResult",
    "Target",
    "Wanted",
    "plan_sync",
    "survey",
    "wanted",
]
