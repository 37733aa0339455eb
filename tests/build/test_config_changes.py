"""`commit --change` and triggers without a build: the language of Containerfiles and what its
instructions about the config do, as in a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.build.language.errors import ContainerfileError
from imgtools.build.planning.changes import with_changes, without_triggers
from imgtools.errors import Unsupported
from tests.build.planned import HOST, settings_of
from tests.build.working_rig import BASE, Scripts

BASE_CONFIG = {
    "architecture": "arm64",
    "os": "linux",
    "config": {
        "Env": ["PATH=/bin", "A=one"], "Cmd": ["old"], "WorkingDir": "/work",
        "Labels": {"kept": "1"}, "Shell": ["/bin/ash", "-ec"],
    },
}  # fmt: skip
LINES = (
    "CMD run it",
    'CMD ["run", "it"]',
    "CMD ['not', 'json']",
    "ENTRYPOINT exec me",
    'ENTRYPOINT ["me"]',
    'ENV B="two words" C=$A-${A:+set} D=\\$A',
    "ENV legacy a  b",
    'LABEL one=1 \\\n  two="$A"',
    "EXPOSE 80 81/udp 90-92",
    "VOLUME /v /w",
    'VOLUME ["/v x"]',
    "USER ${NOBODY:-joe}:audio",
    "WORKDIR deeper/../deep",
    "STOPSIGNAL SIGQUIT",
    "HEALTHCHECK --interval=1m --retries=2 CMD curl -f x",
    "HEALTHCHECK NONE",
    'SHELL ["/bin/bash", "-c"]',
    "ONBUILD RUN make",
    "ARG given=a\nENV taken=$given",
    "# only a comment",
)


def changed(*lines: str, base: Any = None) -> dict[str, Any]:
    return with_changes(base or BASE_CONFIG, lines, HOST)


@given(st.lists(st.sampled_from(LINES), max_size=6))
def test_changes_are_what_a_build_makes(lines: list[str]) -> None:
    built = settings_of("\n".join(("FROM base", *lines, "")), base=BASE_CONFIG)
    assert changed(*lines)["config"] == built


def test_the_rest_of_the_document_stays() -> None:
    found = changed("MAINTAINER Somebody", "ARG TARGETARCH", "LABEL a=$TARGETARCH")
    assert found["author"] == "Somebody"
    assert found["architecture"] == "arm64"
    assert found["config"]["Labels"] == {"a": "arm64", "kept": "1"}
    assert BASE_CONFIG["config"]["Labels"] == {"kept": "1"}, "nothing is changed in place"  # type: ignore[index]


def test_no_path_is_made_up() -> None:
    assert changed("ENV A=1", base={"config": {}})["config"] == {"Env": ["A=1"]}


@pytest.mark.parametrize("line", ["RUN x", "COPY a b", "ADD a b", "FROM x", "COPY <<E /x\nhere\nE"])
def test_what_needs_more_than_a_config_is_refused(line: str) -> None:
    with pytest.raises(Unsupported, match=f"{line.split()[0]} cannot be carried out here"):
        changed(line)


@pytest.mark.parametrize(
    ("line", "said"),
    [("ENV", "ENV"), ("CMDD x", "CMDD"), ("EXPOSE many", "many"), ("STOPSIGNAL NO", "NO"),
     ("HEALTHCHECK --interval=x CMD y", "interval"), ("LABEL a=${b:?gone}", "gone")],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(line: str, said: str) -> None:
    with pytest.raises(ContainerfileError, match=said) as caught:
        changed("CMD fine", line)
    assert caught.value.location.first == 2
    assert caught.value.location.file == "--change"


def test_triggers_are_carried_out_and_gone() -> None:
    triggers = ["ENV A=$A-two", "ENTRYPOINT run"]
    base = {"config": {**BASE_CONFIG["config"], "OnBuild": triggers}}  # type: ignore[dict-item]
    found = without_triggers(base, "parent", HOST, {})[0]["config"]
    assert found["Env"] == ["PATH=/bin", "A=one-two"]
    assert found["Entrypoint"] == ["/bin/ash", "-ec", "run"]
    assert "Cmd" not in found, "as in a build, ENTRYPOINT takes what was inherited away"
    assert "OnBuild" not in found
    with pytest.raises(ContainerfileError, match="cannot be a trigger"):
        without_triggers({"config": {"OnBuild": ["FROM x"]}}, "parent", HOST, {})


def test_commit_speaks_the_language(tmp_path: Path) -> None:
    shop = Scripts(tmp_path)
    shop.fill()
    shop.lines(f"""
        c=$(t from {BASE})
        t commit -q -c 'ENV A=1 B="x y"' -c 'LABEL l=$B' -c 'WORKDIR /a' -c 'WORKDIR b' \
            -c 'HEALTHCHECK --timeout=3s CMD true' -c 'CMD a b' --rm $c said
    """)
    config = shop.config("said").document["config"]
    assert config["Env"] == ["A=1", "B=x y"]
    assert config["Labels"]["l"] == "x y"
    assert config["WorkingDir"] == "/a/b"
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Timeout": 3 * 10**9}
    assert config["Cmd"] == ["/bin/sh", "-c", "a b"]
