"""Credentials of URLs and repositories go to their own origin, and are told to nobody."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from imgtools.build.contexts.fetch import fetch_git
from imgtools.build.contexts.git_run import GitFailed
from imgtools.build.contexts.options import FetchOptions
from imgtools.build.events import StepStarted
from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.model import Location
from imgtools.build.masking import without_credentials
from imgtools.cli.build_failure import failure_lines
from imgtools.errors import Error
from imgtools.task import Task
from tests.build.build_rig import BuildRig
from tests.build.git_rig import Repository, smart_http
from tests.build.web_rig import serving

BASIC = "Basic " + base64.b64encode(b"user:hunter2").decode()


@pytest.mark.parametrize("given", ["url", "secret"])
def test_no_credentials_follow_a_redirect_of_a_repository(tmp_path: Path, given: str) -> None:
    repository = Repository(tmp_path / "served" / "app.git")
    repository.commit({"f": "1"})
    seen: list[Mapping[str, str]] = []
    asked: list[str | None] = []
    with smart_http(tmp_path / "served", seen) as elsewhere:

        class Moved(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.headers.get("Authorization"))
                self.send_response(302)
                self.send_header("Location", elsewhere + self.path)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        with serving(Moved) as port:
            user = "user:hunter2@" if given == "url" else ""
            url = f"http://{user}127.0.0.1:{port}/app.git"
            secrets = {"GIT_AUTH_HEADER": BASIC.encode()} if given == "secret" else {}
            options = FetchOptions(secret=secrets.get)
            with (
                pytest.raises(GitFailed, match="302") as failed,
                fetch_git(url, str(tmp_path), options=options, task=Task()),
            ):
                raise AssertionError("it was fetched")
            assert "has moved" in (failed.value.hint or "")
            assert asked == [BASIC]
            assert not [headers for headers in seen if "Authorization" in headers]
            plain = url.replace(user, "")
            with fetch_git(plain, str(tmp_path), options=FetchOptions(), task=Task()):
                pass  # Without credentials nothing speaks against it.


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ADD https://user:hunter2@h/x.git /d", "ADD https://***@h/x.git /d"),
        ("ADD HTTP://hunter2@h /d", "ADD HTTP://***@h /d"),
        ("ADD https://a:p@ss@h/@x http://b:c@d/ /d", "ADD https://***@h/@x http://***@d/ /d"),
        ("ADD git@github.com:a/b ssh://git@h/x /d", "ADD git@github.com:a/b ssh://git@h/x /d"),
        ("RUN curl https://h/x?a@b", "RUN curl https://h/x?a@b"),
    ],
)
def test_urls_in_what_is_told_have_no_user(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_steps_are_told_without_credentials(tmp_path: Path) -> None:
    rig = BuildRig(tmp_path)
    text = "FROM scratch\nADD http://user:hunter2@127.0.0.1:1/x /\n"
    with pytest.raises(Error) as failed:
        rig.build(text)
    started = [event.text for event in rig.events if isinstance(event, StepStarted)]
    assert started[-1] == "ADD http://***@127.0.0.1:1/x /"
    assert "hunter2" not in "".join(
        [repr(rig.events), *failure_lines(failed.value, output_shown=False)]
    )


def test_a_line_that_is_shown_with_an_error_has_none_either() -> None:
    line = "ADD --what http://user:hunter2@h/x /\n"
    error = ContainerfileError("no", Location(file="f", first=2, last=2), excerpt=line, column=5)
    told = failure_lines(error, output_shown=False)
    assert told[1:] == ["    2 | ADD --what http://***@h/x /"]
