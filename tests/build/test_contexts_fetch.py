"""What URLs have: files for ADD, contexts, and knowing that nothing changed."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imgtools.build import trees
from imgtools.build.contexts.context import open_context
from imgtools.build.contexts.fetch import fetch_url, url_state
from imgtools.build.contexts.options import ContextOptions, FetchOptions
from imgtools.build.contexts.urls import file_name, modified_time
from imgtools.errors import (
    Cancelled,
    ConnectionFailed,
    Denied,
    DigestMismatch,
    Error,
    InvalidDigest,
    InvalidInput,
    LimitExceeded,
    NotFound,
    RegistryError,
)
from imgtools.task import Task
from imgtools.transport.options import RegistryOptions, Timeouts
from tests.build.test_contexts import content, make_tar
from tests.build.web_rig import Answer, Asked, Web, web_server

TIME = "Fri, 05 Mar 2021 04:05:06 GMT"
SECONDS = 1614917106
QUICK = FetchOptions(registry=RegistryOptions(timeouts=Timeouts(connect=5, first_byte=5, idle=5)))


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server."""
    with web_server() as web:
        yield web


def fetch(
    web: Web, path: str, tmp_path: Path, checksum: str = "", options: FetchOptions = QUICK
) -> tuple[str, bytes, int | None]:
    """Name, content and time of what is at a path of the server."""
    url = path if "://" in path else web.url + path
    found = fetch_url(url, str(tmp_path), checksum, options=options, task=Task())
    return found.name, Path(found.path).read_bytes(), found.mtime


def test_e59_file_has_its_url_s_name_and_the_server_s_time(web: Web, tmp_path: Path) -> None:
    """Content-Disposition says nothing, the query neither."""
    headers = {
        "Last-Modified": TIME,
        "Content-Disposition": 'attachment; filename="evil.sh"',
    }
    web.routes["/d/na%20me.tar.gz"] = Answer(body=b"\x1f\x8bnot unpacked", headers=headers)
    found = fetch(web, "/d/na%20me.tar.gz?x=/other", tmp_path)
    assert found == ("na me.tar.gz", b"\x1f\x8bnot unpacked", SECONDS)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a", "a"),
        ("http://h/a/b?c=d/e#f", "b"),
        ("http://h/%C3%A4", "ä"),
        ("http://h/%ff", "\udcff"),
        ("http://h/a%2Fb", "b"),
        ("http://h/dir/", "dir"),
        ("http://h/", "__unnamed__"),
        ("http://h", "__unnamed__"),
        ("http://h?name=x", "__unnamed__"),
        ("http://h/%2e", "__unnamed__"),
        ("http://h/%2e%2e", None),
        ("http://h/a%00b", None),
    ],
)
def test_e59_names_of_urls(url: str, name: str | None) -> None:
    """The last part of the path; BuildKit has a name for a file whose path has none."""
    if name is not None:
        assert file_name(url) == name
        return
    with pytest.raises(InvalidInput, match="what is no name of a file"):
        file_name(url)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(TIME, SECONDS), ("", None), ("yesterday", None), ("Thu, 99 Foo 2021", None)],
)
def test_e59_times_that_are_none(header: str, seconds: int | None) -> None:
    """A time that cannot be read is no time."""
    assert modified_time(header) == seconds


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_e59_redirects_are_followed(web: Web, tmp_path: Path, status: int) -> None:
    """The file keeps the name of the URL that was asked for."""
    web.routes["/from"] = Answer(status, headers={"Location": "/to/there?sig=1"})
    web.routes["/to/there"] = Answer(body=b"x")
    assert fetch(web, "/from", tmp_path)[:2] == ("from", b"x")


def test_e59_redirects_without_end(web: Web, tmp_path: Path) -> None:
    """And redirects to where no file is."""
    web.routes["/loop"] = Answer(302, headers={"Location": "/loop"})
    web.routes["/file"] = Answer(302, headers={"Location": "file:///etc/passwd"})
    for path in ("/loop", "/file"):
        with pytest.raises(ConnectionFailed):
            fetch(web, path, tmp_path)


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, NotFound), (410, NotFound), (401, Denied), (403, Denied), (418, RegistryError)],
)
def test_e59_statuses_that_bring_no_file(
    web: Web, tmp_path: Path, status: int, error: type[Error]
) -> None:
    """The error has the URL, without what may be a secret, and the server's words."""
    web.routes["/x"] = Answer(status, b"go away")
    with pytest.raises(error) as caught:
        fetch(web, "/x?token=hidden", tmp_path)
    assert f"{web.url}/x" in caught.value.message
    assert f"{status} go away" in caught.value.message
    assert "hidden" not in caught.value.message
    assert list(tmp_path.glob("*/*")) == []


def test_server_that_is_not_there(tmp_path: Path) -> None:
    """Is a failure that names it."""
    with web_server() as web:
        url = web.url
    with pytest.raises(ConnectionFailed, match="cannot connect to"):
        fetch_url(url + "/x", str(tmp_path), options=QUICK, task=Task())


def test_e59_checksum(web: Web, tmp_path: Path) -> None:
    """Of the bytes as they were sent."""
    web.routes["/x"] = Answer(body=b"content")
    good = hashlib.sha256(b"content").hexdigest()
    assert fetch(web, "/x", tmp_path, f"sha256:{good}")[1] == b"content"
    longer = hashlib.sha512(b"content").hexdigest()
    assert fetch(web, "/x", tmp_path, f"sha512:{longer}")[1] == b"content"
    kept = len(list(tmp_path.glob("*/*")))
    with pytest.raises(DigestMismatch, match=f"expected sha256:{'0' * 64}, got sha256:{good}"):
        fetch(web, "/x", tmp_path, "sha256:" + "0" * 64)
    asked = len(web.asked)
    for wrong in ("md5:" + "0" * 32, "sha256:xyz", good):
        with pytest.raises(InvalidDigest):
            fetch(web, "/x", tmp_path, wrong)
    assert len(web.asked) == asked
    assert len(list(tmp_path.glob("*/*"))) == kept


def test_file_that_is_too_large(web: Web, tmp_path: Path) -> None:
    """Announced, and not announced."""
    web.routes["/x"] = Answer(body=bytes(1001))
    with pytest.raises(LimitExceeded):
        fetch(web, "/x", tmp_path, options=replace(QUICK, limit=1000))
    assert fetch(web, "/x", tmp_path, options=replace(QUICK, limit=1001))[1] == bytes(1001)


def test_encoded_content_is_kept_as_it_is(web: Web, tmp_path: Path) -> None:
    """Servers that call a .gz file encoded do not get it decoded."""
    data = gzip.compress(b"x")
    web.routes["/x.gz"] = Answer(body=data, headers={"Content-Encoding": "gzip"})
    assert fetch(web, "/x.gz", tmp_path)[1] == data
    assert web.asked[0].headers["Accept-Encoding"] == "identity"


def test_cut_download_goes_on_where_it_was(web: Web, tmp_path: Path) -> None:
    """If the server says that it is the same file."""
    data = bytes(range(256)) * 4000

    def cut(asked: Asked) -> Answer:
        if "Range" not in asked.headers:
            return Answer(body=data, headers={"ETag": '"1"'}, cut=500_000)
        assert asked.headers["If-Range"] == '"1"'
        start = int(asked.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return Answer(206, data[start:], {"Content-Range": span, "ETag": '"1"'})

    web.routes["/x"] = cut
    assert fetch(web, "/x", tmp_path)[1] == data
    assert [asked.headers.get("Range", "")[:6] for asked in web.asked] == ["", "bytes="]


@pytest.mark.parametrize("validator", [{}, {"ETag": 'W/"1"'}, {"ETag": '"1"'}])
def test_cut_download_begins_again(web: Web, tmp_path: Path, validator: dict[str, str]) -> None:
    """If the server does not, or it is another file by now."""
    first, second = b"a" * 400_000, b"b" * 300_000

    def cut(asked: Asked) -> Answer:
        if len(web.asked) == 1:
            return Answer(body=first, headers=validator, cut=200_000)
        return Answer(body=second)

    web.routes["/x"] = cut
    assert fetch(web, "/x", tmp_path)[1] == second


def test_answer_that_is_not_what_was_asked_for(web: Web, tmp_path: Path) -> None:
    """A rest from another place is refused."""

    def wrong(asked: Asked) -> Answer:
        if "Range" not in asked.headers:
            return Answer(body=bytes(100_000), headers={"ETag": '"1"'}, cut=50_000)
        return Answer(206, b"x", {"Content-Range": "bytes 7-7/100000"})

    web.routes["/x"] = wrong
    with pytest.raises(ConnectionFailed, match="asked for bytes from 50000 on"):
        fetch(web, "/x", tmp_path)


def test_cancelling_ends_a_download(web: Web, tmp_path: Path) -> None:
    """Also while the server says nothing."""
    task = Task()
    hold = threading.Event()

    def slow(asked: Asked) -> Answer:
        task.cancel.cancel()
        hold.wait(10)
        return Answer(body=b"late")

    web.routes["/x"] = slow
    with pytest.raises(Cancelled):
        fetch_url(web.url + "/x", str(tmp_path), options=QUICK, task=task)
    hold.set()
    assert list(tmp_path.glob("*/*")) == []


@contextlib.contextmanager
def _redirected(web: Web) -> Iterator[Web]:
    with web_server() as other:
        web.routes["/x"] = Answer(302, headers={"Location": other.url + "/y"})
        other.routes["/y"] = Answer(body=b"x")
        yield other


@pytest.mark.parametrize(
    ("name", "secret", "expected"),
    [
        ("HTTP_AUTH_TOKEN_", b"t0ken\n", "Bearer t0ken"),
        ("HTTP_AUTH_HEADER_", b"Basic eDp5", "Basic eDp5"),
    ],
)
@pytest.mark.parametrize("with_port", [True, False])
def test_credentials_go_to_their_host_only(
    web: Web, tmp_path: Path, name: str, secret: bytes, expected: str, with_port: bool
) -> None:
    """As secrets of the host's name, BuildKit's; not to where a redirect leads."""
    host = f"127.0.0.1:{web.port}" if with_port else "127.0.0.1"
    options = replace(QUICK, secret={name + host: secret}.get)
    with _redirected(web) as other:
        assert fetch(web, "/x", tmp_path, options=options)[1] == b"x"
        assert web.asked[0].headers["Authorization"] == expected
        assert "Authorization" not in other.asked[0].headers


def test_credentials_of_a_url(web: Web, tmp_path: Path) -> None:
    """Are sent, to that host only, and said nowhere."""
    url = f"http://us%3Aer:pa%20ss@127.0.0.1:{web.port}/x"
    with _redirected(web) as other:
        fetch_url(url, str(tmp_path), options=QUICK, task=Task())
        expected = "Basic " + base64.b64encode(b"us:er:pa ss").decode()
        assert web.asked[0].headers["Authorization"] == expected
        assert "Authorization" not in other.asked[0].headers
    web.routes.clear()
    with pytest.raises(NotFound) as caught:
        fetch_url(url, str(tmp_path), options=QUICK, task=Task())
    assert "pa" not in caught.value.message.replace("path", "")


@pytest.mark.parametrize("secret", [b"a\r\nX: y", b"\xff", b"a\0"])
def test_secret_that_is_no_header(web: Web, tmp_path: Path, secret: bytes) -> None:
    """Is refused before anything is sent, and not shown."""
    options = replace(QUICK, secret={"HTTP_AUTH_TOKEN_127.0.0.1": secret}.get)
    with pytest.raises(InvalidInput, match=r"secret HTTP_AUTH_TOKEN_127\.0\.0\.1 is no value"):
        fetch(web, "/x", tmp_path, options=options)
    assert web.asked == []


def test_unchanged_file_is_not_fetched_again(web: Web, tmp_path: Path) -> None:
    """The server says so, by its own word for the content or by the time."""
    for validator, condition in (
        ({"ETag": '"v1"'}, "If-None-Match"),
        ({"Last-Modified": TIME}, "If-Modified-Since"),
    ):
        options = replace(QUICK, memory=str(tmp_path / f"memory-{condition}"))
        value = next(iter(validator.values()))

        def route(
            asked: Asked, value: str = value, condition: str = condition, all_of: object = validator
        ) -> Answer:
            headers = dict(all_of)  # type: ignore[call-overload]
            if asked.headers.get(condition) == value:
                return Answer(304, headers=headers)
            return Answer(body=b"content", headers=headers)

        web.routes["/x"] = route
        url = web.url + "/x"
        first, file = url_state(url, str(tmp_path), options=options, task=Task())
        assert file is not None
        assert Path(file.path).read_bytes() == b"content"
        again, nothing = url_state(url, str(tmp_path), options=options, task=Task())
        assert (again, nothing) == (first, None)
        web.routes["/x"] = Answer(body=b"changed", headers={"ETag": '"v2"'})
        third, file = url_state(url, str(tmp_path), options=options, task=Task())
        assert third != first
        assert file is not None
        assert file.name == "x"


def test_memory_that_is_damaged_or_not_there(web: Web, tmp_path: Path) -> None:
    """Everything is fetched."""
    web.routes["/x"] = Answer(body=b"content", headers={"ETag": '"1"'})
    memory = tmp_path / "memory"
    options = replace(QUICK, memory=str(memory))
    for damage in (b"", b"{}", b"[1]", b'{"digest": 1}', b"\xff", None):
        url_state(web.url + "/x", str(tmp_path), options=options, task=Task())
        (kept,) = memory.iterdir()
        assert kept.stat().st_mode & 0o777 == 0o600
        if damage is not None:
            kept.write_bytes(damage)
        else:
            text = kept.read_bytes()
            kept.write_bytes(text.replace(b'\\"1\\"', b"a\\r\\nEvil: x"))
        web.asked.clear()
        _, file = url_state(web.url + "/x", str(tmp_path), options=options, task=Task())
        assert file is not None
        assert "If-None-Match" not in web.asked[0].headers
    memory_file = tmp_path / "file"
    memory_file.write_text("")
    nowhere = replace(QUICK, memory=str(memory_file / "below"))
    assert url_state(web.url + "/x", str(tmp_path), options=nowhere, task=Task())[1] is not None


def test_e62_context_from_a_url(web: Web, tmp_path: Path) -> None:
    """An archive, by its content and not by its name, or a Containerfile."""
    (tmp_path / "scratch").mkdir()
    options = ContextOptions(scratch=str(tmp_path / "scratch"), fetch=QUICK)
    data = gzip.compress(make_tar(("Dockerfile", b"FROM scratch"), ("f", b"x")))
    web.routes["/download"] = Answer(body=data, headers={"Last-Modified": TIME})
    web.routes["/x.tar.gz"] = Answer(body=b"FROM scratch\n")
    with open_context(web.url + "/download?t=hidden", options, task=Task()) as context:
        assert content(context) == {b"Dockerfile": b"FROM scratch", b"f": b"x"}
        assert (context.remote, context.epoch) == (True, SECONDS)
        assert "hidden" not in context.name
        assert context.tree.recorded_owners
    with open_context(web.url + "/x.tar.gz", options, task=Task()) as context:
        assert content(context) == {b"Dockerfile": b"FROM scratch\n"}
        assert context.containerfile == "Dockerfile"
        assert trees.stat_of(context.tree, b"Dockerfile") is not None
    with (
        pytest.raises(NotFound, match="/none: 404"),
        open_context(web.url + "/none", options, task=Task()),
    ):
        pass
    assert os.listdir(tmp_path / "scratch") == []
