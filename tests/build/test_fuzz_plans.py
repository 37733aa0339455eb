"""Instructions, options and ignore files of any words: planned, or refused by an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.build.cache.locations import cache_locations
from imgtools.build.contexts.classify import classify
from imgtools.build.contexts.git_source import parse_git
from imgtools.build.contexts.urls import file_name
from imgtools.build.copying.modes import mode_change
from imgtools.build.ignore.files import parse_ignore
from imgtools.build.ignore.matcher import Matcher
from imgtools.build.language.mounts import mount_words, parse_mount
from imgtools.build.outputs.attest_options import parse_attestations
from imgtools.build.outputs.export_options import parse_export
from imgtools.build.planning.inherited import checked_settings
from imgtools.build.source_policy import parse_policy
from imgtools.cli import build_values as values
from imgtools.errors import Error
from imgtools.spec.platform import Platform
from tests.build.planned import planned

WORDS = [
    "a", "/b", "d/*", "[a", "\\", "²", "\0", "9" * 5000, "-1", "0", "99999999999999999999", "$A",
    "${A:-x}", "${z:?no}", "${A//*/b}", "\udcff", "\u2028", "..", "/", "", '""', "''", "a:b", ":",
    "http://[x", "http://h:x/", "https://u:p@h/y", "git@h:x", "git://", "http://h/x.git?ref=²",
    "sha256:zz", "0777", "u=rwX", "+", "linux/amd64", "²/x", "true", "s0", "scratch", "1s", "9e9h",
    "SIGTERM", "80/tcp", "5-1", "none", "locked", "1g", "EOF", '["a"]', "[]", "=", ",",
]  # fmt: skip
LINES = [
    "COPY {} {}", "COPY --from={} {} {}", "COPY --chown={} --chmod={} a {}", "ADD {} {}",
    "COPY --exclude={} --parents {} {}", "ADD --checksum={} {} /x", "RUN --network={} {}",
    "RUN --mount=type=cache,target={},id={},uid={} x", "RUN --mount={}={},{}={} x",
    "RUN --mount=type=bind,from={},source={},target=/m x", "RUN <<{}\n{}\nEOF", "USER {}",
    "RUN --mount=type=secret,id={},env={},mode={} x", "COPY <<EOF {}\n{}\nEOF", "WORKDIR {}",
    "VOLUME {} {}", "ENV {}={} {}={}", "ARG {}={}", "ARG {}", "LABEL {}={}", "EXPOSE {} {}",
    "STOPSIGNAL {}", "HEALTHCHECK --interval={} --retries={} CMD {}", 'SHELL ["{}"]', "CMD {}",
    "ENTRYPOINT {}", "ONBUILD COPY --from={} {} /x", "FROM {} AS {}", "FROM --platform={} s0",
]  # fmt: skip
WORD = st.lists(st.sampled_from(WORDS), min_size=1, max_size=2).map("".join)
LINE = st.builds(
    lambda line, words: line.format(*words),
    st.sampled_from(LINES),
    st.lists(WORD, min_size=4, max_size=4),
)
JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, 1, 1.5, True, "", "x", "9" * 50, [], ["a"], [1], [None], {}, {"a": None}, {"²/tcp": {}}]
)
KEY = st.sampled_from(
    ["Env", "Cmd", "Entrypoint", "Shell", "User", "WorkingDir", "Volumes", "ExposedPorts",
     "OnBuild", "Healthcheck", "Labels", "StopSignal"]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(LINE, min_size=1, max_size=4), st.dictionaries(KEY, JUNK, max_size=2))
def test_any_file_on_any_base_is_planned_or_refused(lines: list[str], base: dict[str, Any]) -> None:
    text = "ARG A=1\nFROM base AS s0\nFROM s0\n" + "\n".join(lines) + "\n"
    try:
        plans = planned(
            text.encode("utf-8", "replace").decode(),
            {"A": "\udcff"},
            base={"config": checked_settings({"config": base}, "base")},
        )
    except Error:
        return
    assert len(plans) >= 2


OPTIONS: list[Callable[[str], object]] = [
    lambda text: values.words([text]),
    lambda text: values.secrets([text], {"a": "b"}),
    lambda text: values.build_args([], [text], {"a": "b"}),
    lambda text: values.pairs([text], "--label"),
    lambda text: values.seconds(text, "--timestamp"),
    lambda text: values.contexts([text]),
    lambda text: cache_locations([text]),
    lambda text: parse_mount(mount_words(text, lambda word: word)),
    lambda text: parse_attestations([text]),
    lambda text: parse_policy(text, "policy"),
    parse_export,
    parse_git,
    classify,
    mode_change,
    Platform.parse,
    lambda text: file_name(f"http://{text}"),
    lambda text: Matcher(parse_ignore(text.encode(errors="replace"), name="i")).ignored("a/b"),
]
PIECE = st.sampled_from(
    ["type=", "id=", "src=", "target=", "dst=", "from=", "uid=", "mode=", "dest=", "ref=", "env=",
     "tmpfs", "cache", "bind", "secret", "local", "tar", "registry", ",", "\n", "!", "#", "**",
     '{"rules":[', "]}", "null", "oci-layout:", "docker-image://", *WORDS]
)  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
@settings(max_examples=60)
@given(st.lists(PIECE, max_size=7).map("".join))
def test_any_value_of_an_option_is_read_or_refused(
    option: Callable[[str], object], text: str
) -> None:
    try:
        option(text)
    except Error:
        return
