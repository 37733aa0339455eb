"""Go's text/template for --format: what skopeo, buildah and podman users write works here.

`render` is the bare template; `render_report` adds what skopeo and podman do around it.
Import this only when a template was given.
"""

from __future__ import annotations

from imgtools.cli.gotemplate.execute import execute
from imgtools.cli.gotemplate.functions import NAMES
from imgtools.cli.gotemplate.parser import parse
from imgtools.cli.gotemplate.report import align, is_json, normalize
from imgtools.cli.gotemplate.values import Struct, TemplateError, Time

__all__ = ["Struct", "TemplateError", "Time", "is_json", "render", "render_report"]


def render(template: str, data: object, *, name: str = "inspect") -> str:
    """`template` executed over `data`: dict, list, str, int, float, bool, None, Struct, Time.

    Raises TemplateError with the message Go gives, in which `name` names the template, and
    LimitExceeded when the output or the work grows out of bounds.
    """
    return execute(parse(name, template, NAMES), data)


def render_report(template: str, data: object, *, name: str = "inspect") -> str:
    """`render` as `skopeo inspect --format` does it: escapes, "table", columns, final newline."""
    return align(render(normalize(template), data, name=name))
