"""SOURCE_DATE_EPOCH: from the caller, from the file, and as the time of a context or stage."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.features.kit import BASE, Built, Kit
from tests.build.git_rig import EPOCH, Repository, smart_http
from tests.build.web_rig import Answer, Web, web_server

F = f"FROM {BASE}\n"
TELL = "ARG SOURCE_DATE_EPOCH\nRUN echo [$SOURCE_DATE_EPOCH] >/o\n"
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
MODIFIED_SECONDS = 784111777
NEWEST = 1_600_000_000


@pytest.fixture(scope="module", name="web")
def _web() -> Iterator[Web]:
    with web_server() as web:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for name, time in (("a", NEWEST), ("b", NEWEST - 5)):
                entry = tarfile.TarInfo(name)
                entry.mtime, entry.size = time, 4
                tar.addfile(entry, io.BytesIO(b"text"))
        web.routes["/a.tar.gz"] = Answer(body=archive.getvalue())
        web.routes["/file"] = Answer(body=b"text", headers={"Last-Modified": MODIFIED})
        yield web


@pytest.fixture(scope="module", name="repository")
def _repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("git")
    Repository(directory / "r.git").commit({"a": "text", "sub/b": "more"})
    with smart_http(directory) as url:
        yield f"{url}/r.git"


def created(built: Built) -> str:
    """The day of the image."""
    return str(built.document["created"])


def test_from_the_caller(kit: Kit) -> None:
    built = kit(F + TELL, build_args={"SOURCE_DATE_EPOCH": "86400"})
    assert built["o"] == "[86400]"
    assert created(built).startswith("1970-01-02T00:00:00")
    assert built.document["history"][-1]["created"].startswith("1970-01-02T00:00:00")
    assert kit(F + TELL, build_args={"SOURCE_DATE_EPOCH": ""})["o"] == "[]"


def test_from_the_file(kit: Kit) -> None:
    text = f"ARG SOURCE_DATE_EPOCH=172800\n{F}{TELL}"
    built = kit(text)
    assert built["o"] == "[172800]"
    assert created(built).startswith("1970-01-03")
    given = kit(text, build_args={"SOURCE_DATE_EPOCH": "86400"})
    assert given["o"] == "[86400]"
    assert created(given).startswith("1970-01-02")
    none = kit(text, build_args={"SOURCE_DATE_EPOCH": ""})
    assert none["o"] == "[]"
    assert not created(none).startswith("1970")


def test_a_default_in_a_stage_is_a_variable_only(kit: Kit) -> None:
    built = kit(f"{F}ARG SOURCE_DATE_EPOCH=86400\nRUN echo $SOURCE_DATE_EPOCH >/o")
    assert built["o"] == "86400"
    assert not created(built).startswith("1970")


def test_nonsense_is_refused(kit: Kit) -> None:
    assert "SOURCE_DATE_EPOCH=soon" in kit.fails(f"ARG SOURCE_DATE_EPOCH=soon\n{F}")
    assert "SOURCE_DATE_EPOCH=soon" in kit.fails(F, build_args={"SOURCE_DATE_EPOCH": "soon"})


def test_of_the_context(kit: Kit, web: Web, repository: str) -> None:
    asked = {"SOURCE_DATE_EPOCH": "context"}
    assert kit(F + TELL, build_args=asked)["o"] == "[]", "a directory has no time"
    built = kit(F + TELL, context=f"{web.url}/a.tar.gz", build_args=asked)
    assert built["o"] == f"[{NEWEST}]"
    assert created(built).startswith("2020-09-13")
    text = f"ARG SOURCE_DATE_EPOCH=context\n{F}{TELL}"
    assert kit(text, context=repository)["o"] == f"[{EPOCH}]"
    assert kit(text)["o"] == "[]"


def test_of_a_named_context(kit: Kit, web: Web, repository: str) -> None:
    text = f"ARG SOURCE_DATE_EPOCH=src\n{F}{TELL}"
    for value, expected in (
        (repository, str(EPOCH)),
        (f"{web.url}/a.tar.gz", str(NEWEST)),
        (f"{web.url}/file", str(MODIFIED_SECONDS)),
        (str(kit.context()), ""),
        (f"docker-image://{BASE}", ""),
    ):
        assert kit(text, contexts={"src": value})["o"] == f"[{expected}]", value


@pytest.mark.parametrize(
    ("source", "expected"),
    [("{web}/a.tar.gz", NEWEST), ("{web}/file", MODIFIED_SECONDS), ("{git}", EPOCH),
     ("{git}#main:sub", EPOCH)],
)  # fmt: skip
def test_of_a_stage(kit: Kit, web: Web, repository: str, source: str, expected: int) -> None:
    url = source.format(web=web.url, git=repository)
    where, _, rest = url.rpartition("/")
    text = (f"ARG SOURCE_DATE_EPOCH=Src\nFROM scratch AS src\nARG AT={where}\n"
            f"ADD $AT/{rest} /\n{F}{TELL}")  # fmt: skip
    assert kit(text)["o"] == f"[{expected}]"


@pytest.mark.parametrize(
    "body",
    ["FROM scratch AS src", "FROM scratch AS src\nCOPY a /", "FROM scratch AS src\nADD a /",
     f"FROM {BASE} AS src\nADD http://127.0.0.1:1/a /",
     "FROM scratch AS src\nADD http://127.0.0.1:1/a /\nENV A=1",
     "FROM scratch AS src\nADD http://127.0.0.1:1/a http://127.0.0.1:1/b /"],
)  # fmt: skip
def test_of_a_stage_that_has_no_time(kit: Kit, body: str) -> None:
    said = kit.fails(f"ARG SOURCE_DATE_EPOCH=src\n{body}\n{F}", {"a": ""})
    assert "SOURCE_DATE_EPOCH=src" in said


def test_times_of_files_where_it_is_asked_for(kit: Kit, tmp_path: Path) -> None:
    from imgtools.build.options import Stamps

    stamps = Stamps(source_date_epoch=1_000_000, rewrite=True)
    built = kit(f"{F}RUN echo >/o\nCOPY a /a\nWORKDIR /w/x", {"a": ""}, stamps=stamps)
    assert {built.tree[name].mtime for name in ("o", "a", "w", "w/x")} == {1_000_000}
