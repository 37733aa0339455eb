"""ONBUILD, and the triggers that the config of an image holds."""

from __future__ import annotations

import pytest

from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.model import Copy, OnBuild
from imgtools.build.language.parser import parse_trigger
from tests.build.language_kit import only, refused


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        ("ONBUILD RUN x", "ONBUILD ONBUILD: triggers cannot be chained"),
        ("onbuild", "ONBUILD ONBUILD: triggers cannot be chained"),
        ("ONBUILD " * 5000 + "RUN x", "ONBUILD ONBUILD: triggers cannot be chained"),
        ("FROM a", "FROM cannot be a trigger of ONBUILD"),
        ("maintainer a", "MAINTAINER cannot be a trigger of ONBUILD"),
        ("RUNN x", "unknown instruction: RUNN"),
        ("COPY a", "COPY needs at least two arguments, sources and a destination"),
        ("ENV a", "ENV a has no value"),
        ("COPY --boo a b", "COPY has no flag --boo"),
    ],
)
def test_e39_onbuild_refuses_chains_and_what_begins_a_stage(inner: str, reason: str) -> None:
    assert refused(f"ONBUILD {inner}").reason == reason


def test_e39_onbuild_has_its_trigger_and_the_instruction() -> None:
    instruction = only("ONBUILD \\\n  copy --from=base \\\n    a b")
    assert isinstance(instruction, OnBuild)
    assert instruction.trigger == "copy --from=base     a b"
    assert isinstance(instruction.inner, Copy)
    assert (instruction.inner.from_, instruction.inner.text) == ("base", "COPY --from=base     a b")
    assert instruction.inner.location == instruction.location


def test_e39_trigger_of_an_image_is_parsed() -> None:
    document = only("ONBUILD COPY <<-E /x\n\ty\n\tE")
    assert isinstance(document, OnBuild)
    again = parse_trigger(document.trigger, "example.com/base:1")
    assert isinstance(again, Copy)
    assert isinstance(document.inner, Copy)
    assert again.heredocs == document.inner.heredocs
    assert again.location.file == "ONBUILD of example.com/base:1"


@pytest.mark.parametrize(
    "text",
    [
        "RUNN x",
        "FROM a",
        "ONBUILD RUN x",
        "MAINTAINER x",
        "",
        "RUN a\nRUN b",
        "RUN <<E\nx",
        "\ud800",
    ],
)
def test_e39_trigger_of_an_image_that_is_wrong_names_the_image(text: str) -> None:
    with pytest.raises(ContainerfileError, match=r"^ONBUILD of example\.com/base:1:1: "):
        parse_trigger(text, "example.com/base:1")
