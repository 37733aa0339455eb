"""What registries warn of, as people see it: one line each, on stderr, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtools.spec.digest import Digest
from imgtools.testing.images import Sample, random_image
from tests.registry_fake import Answer, FakeRegistry, Request, say
from tests.rig import RunCli

WARNING = '299 - "this registry closes\tin May"'


def serving(sample: Sample) -> FakeRegistry:
    """A registry that has `sample` under any tag, lists one, and warns with every answer."""

    def script(request: Request) -> Answer:
        _, _, rest = request.path.partition("/v2/a/b/")
        kind, _, name = rest.partition("/")
        if kind == "tags":
            answer = say(200, {"name": "a/b", "tags": ["x"]})
        elif kind == "manifests":
            headers = [("Content-Type", sample.top.media_type)]
            answer = Answer(headers=headers, body=sample.top.content)
        elif kind == "blobs":
            answer = say(200, sample.content(Digest.parse(name)))
        else:
            answer = say(404)
        return Answer(
            status=answer.status,
            headers=[*answer.headers, ("Warning", WARNING)],
            body=answer.body,
        )

    return FakeRegistry(script)


COMMANDS = {
    "inspect": ("inspect", "--tls-verify=false", "{name}:x"),
    "list-tags": ("list-tags", "--tls-verify=false", "{name}"),
    "copy": ("copy", "--src-tls-verify=false", "{name}:x", "dir:{out}"),
    "copy -q": ("copy", "-q", "--src-tls-verify=false", "{name}:x", "dir:{out}"),
    "sync": ("sync", "--src-tls-verify=false", "--src", "docker", "--dest", "dir", "{bare}",
             "{out}"),
    "sync -q": ("sync", "-q", "--src-tls-verify=false", "--src", "docker", "--dest", "dir",
                "{bare}", "{out}"),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("debug", [False, True])
def test_warnings_of_registries(run_cli: RunCli, tmp_path: Path, command: str, debug: bool) -> None:
    """With -q as well, which is for what is no warning; the debug log does not repeat them."""
    with serving(random_image()) as registry:
        bare = f"{registry.host}/a/b"
        words = [
            word.format(name=f"docker://{bare}", bare=bare, out=tmp_path / "out")
            for word in COMMANDS[command]
        ]
        done = run_cli(*words, *(["--debug"] if debug else []), check=True)
        text = f"{registry.host} warns: this registry closes in May"
        lines = [line for line in done.stderr.splitlines() if "closes" in line]
        assert lines == [f"imgtools: warning: {text}"]
        assert "closes" not in done.stdout
