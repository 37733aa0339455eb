"""Policy asked about an image without copying it: the same manifests as a copy would ask about."""

from __future__ import annotations

import os

from imgtools.copy.options import Selection
from imgtools.copy.survey import Admit, to_admit
from imgtools.copy.walk import Tree, choose
from imgtools.spec.platform import Platform, from_machine
from imgtools.task import Task
from imgtools.transport.base import Source


def judge_image(
    source: Source, selection: Selection, platform: Platform | None, admit: Admit, *, task: Task
) -> None:
    """Ask `admit` about what a copy of `source` with `selection` would bring along; `platform`
    is the one that a selection without any means (None: this machine's). Raises what reading
    raises, and Rejected."""
    top = source.top()
    raw = top
    if selection.mode == "system" and top.is_index:
        wanted = selection.platform or platform or _host()
        raw = source.manifest(choose(source, top, wanted))
    tree = Tree(source, task)
    tree.add(raw, selection)
    for found in to_admit(raw, selection, tree.nodes):
        admit(found)


def _host() -> Platform:
    host = os.uname()
    return from_machine(host.sysname.lower(), host.machine)
