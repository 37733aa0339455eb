"""Copying images: survey (reads), plan (pure, printable), execute (writes).

    result = copy_by_name("docker://busybox", "oci:out:busybox")

For more control open a Source and a Destination and call `copy_image`, or `prepare` and
`execute` with a look at the plan in between.
"""

from __future__ import annotations

from imgtools.copy.actions import CopyPlan
from imgtools.copy.api import copy_by_name, copy_image, failures_named, prepare
from imgtools.copy.execute import CopiedManifest, CopyResult, execute
from imgtools.copy.options import CopyOptions, Selection
from imgtools.copy.plan import plan_copy
from imgtools.copy.render import render, to_json
from imgtools.copy.survey import Survey, survey

__all__ = [
    "CopiedManifest",
    "CopyOptions",
    "CopyPlan",
    "CopyResult",
    "Selection",
    "Survey",
    "copy_by_name",
    "copy_image",
    "execute",
    "failures_named",
    "plan_copy",
    "prepare",
    "render",
    "survey",
    "to_json",
]
