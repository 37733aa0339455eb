"""ADD: archives that are unpacked, what is fetched from servers, repositories."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import re
import tarfile
from collections.abc import Iterator

import pytest

from imgtools.build.options import SecretSource
from tests.build.features.kit import Kit
from tests.build.git_rig import Repository, dumb_http, smart_http
from tests.build.web_rig import Answer, Asked, Web, web_server

MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"


def tar_of(*names: str, **more: int) -> bytes:
    """A tar of files that hold their own names; a name's end `/` is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            entry = tarfile.TarInfo(name.rstrip("/") or "/")
            entry.uid, entry.gid = more.get("uid", 0), more.get("gid", 0)
            entry.mtime = 1_000_000_000
            if name.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, more.get("mode", 0o755)
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(name), more.get("mode", 0o644)
                tar.addfile(entry, io.BytesIO(name.encode()))
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    """Compressed."""
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


TAR = tar_of("d/", "d/x", "y")
FORMS = {
    "plain": TAR, "gzip": gzip.compress(TAR), "bzip2": bz2.compress(TAR),
    "xz": lzma.compress(TAR), "zstd": zstd(TAR),
}  # fmt: skip


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_archives_of_the_context_are_unpacked(kit: Kit, content: bytes) -> None:
    built = kit("ADD any.name /h\nADD any.name /i/\nWORKDIR /w\nADD any.name .\n"
                "COPY any.name /whole", {"any.name": content})  # fmt: skip
    for top in ("h", "i", "w"):
        assert (built[f"{top}/d/x"], built[f"{top}/y"]) == ("d/x", "y")
    assert built.tree["whole"].raw == content


NOT_UNPACKED = {
    "a compressed file that is no tar": gzip.compress(b"text" * 300),
    "text called tar.gz": b"text",
    "nothing called tar.gz": b"",
    "a zip": b"PK\x03\x04" + bytes(600),
}


@pytest.mark.parametrize("content", NOT_UNPACKED.values(), ids=NOT_UNPACKED)
def test_what_is_no_archive_is_copied(kit: Kit, content: bytes) -> None:
    assert kit("ADD a.tar.gz /h", {"a.tar.gz": content}).tree["h"].raw == content
    assert kit("ADD a.tar.gz /h/", {"a.tar.gz": content}).tree["h/a.tar.gz"].raw == content


def test_a_cut_archive_is_refused(kit: Kit) -> None:
    cut = gzip.compress(tar_of(*(f"name-{n}" for n in range(200))))[:-200]
    assert "a.tar.gz" in kit.fails("ADD a.tar.gz /h/", {"a.tar.gz": cut})


def test_add_is_copy_for_all_else(kit: Kit) -> None:
    files = {"f": "text", "d/x": "x", "g*": "exe", "a b": "blank", "l": "->f"}
    tree = kit('ADD f g /h/\nADD d /i\nADD --chown=joe --chmod=600 f /j\nADD ["a b", "/k"]\n'
               "ADD --link f /m\nADD --exclude=x d /n/\nADD l /o\n"
               "ADD ../f /p", files).tree  # fmt: skip
    assert [tree[p].text for p in ("h/f", "h/g", "i/x", "k", "m", "o", "p")] == [
        "text", "exe", "x", "blank", "text", "text", "text"
    ]  # fmt: skip
    assert (tree["h/g"].octal, tree["j"].octal, tree["j"].owner) == ("755", "600", (1000, 1000))
    assert "n/x" not in tree


def test_owners_and_modes_of_archives(kit: Kit) -> None:
    tar = tar_of("d/", "d/x", uid=12, gid=34, mode=0o2750)
    tree = kit("ADD a.tar /h/\nADD --chown=joe:audio a.tar /i/\nADD --chmod=640 a.tar /j/",
               {"a.tar": tar}).tree  # fmt: skip
    assert {(tree[f"h/{p}"].octal, tree[f"h/{p}"].owner) for p in ("d", "d/x")} == {
        ("2750", (12, 34))
    }
    assert {tree[f"i/{p}"].owner for p in ("d", "d/x")} == {(1000, 29)}
    assert tree["h/d/x"].mtime == 1_000_000_000
    assert tree["h"].octal == "755"


def test_the_root_of_an_archive_changes_no_directory(kit: Kit) -> None:
    files = {"a.tar": tar_of("./", "./x", mode=0o700)}
    tree = kit("ADD a.tar /tmp\nADD a.tar /home/joe/", files).tree
    assert (tree["tmp"].octal, tree["tmp/x"].text) == ("1777", "./x")
    assert (tree["home/joe"].octal, tree["home/joe"].owner) == ("750", (1000, 1000))


def test_archives_over_what_is_there(kit: Kit) -> None:
    tree = kit("RUN mkdir -m 711 -p /h/d; echo old >/h/y; echo old >/h/z; ln -s /tmp /h/l\n"
               "ADD a.tar /h", {"a.tar": tar_of("y", "d/x", "l/in")}).tree  # fmt: skip
    assert (tree["h/y"].text, tree["h/z"].text, tree["h/d"].octal) == ("y", "old\n", "711")
    assert tree["h/tmp/in"].text == "l/in", "what archives go through begins at the destination"


def test_archives_through_an_absolute_link(kit: Kit) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("var/run")
        link.type, link.linkname = tarfile.SYMTYPE, "/run"
        tar.addfile(link)
    files = {"root.tar": out.getvalue(), "more.tar": tar_of("var/run/act/", "var/run/act/HEAD")}
    tree = kit("FROM scratch\nADD root.tar /\nADD more.tar /", files).tree
    assert (tree["run/act/HEAD"].text, tree["var/run"].text) == ("var/run/act/HEAD", "/run")


def test_implied_directories_of_archives(kit: Kit) -> None:
    tree = kit("ADD a.tar /h", {"a.tar": tar_of("p/q/x")}).tree
    assert (tree["h/p"].kind, tree["h/p/q"].octal, tree["h/p/q/x"].text) == ("dir", "755", "p/q/x")


@pytest.mark.parametrize("name", ["../out", "/../../out", "d/../../out"])
def test_archives_that_climb(kit: Kit, name: str) -> None:
    assert repr(name) in kit.fails("ADD a.tar /h/i", {"a.tar": tar_of(name)})


def test_links_and_nodes_of_archives(kit: Kit) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, target in (
            ("f", tarfile.REGTYPE, ""), ("hard", tarfile.LNKTYPE, "f"),
            ("soft", tarfile.SYMTYPE, "/nowhere"), ("pipe", tarfile.FIFOTYPE, ""),
            ("node", tarfile.CHRTYPE, ""),
        ):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.devmajor, entry.devminor = kind, target, 1, 3
            tar.addfile(entry, io.BytesIO())
    tree = kit("ADD a.tar /h/", {"a.tar": out.getvalue()}).tree
    assert tree["h/hard"] is tree["h/f"]
    assert (tree["h/soft"].text, tree["h/pipe"].kind) == ("/nowhere", "fifo")
    assert (tree["h/node"].kind, tree["h/node"].device) == ("char", (1, 3))


def test_globs_of_archives(kit: Kit) -> None:
    files = {"a.tar": tar_of("x"), "b.tar.gz": gzip.compress(tar_of("y")), "c.txt": "z"}
    tree = kit("ADD *.tar *.gz *.txt /h/", files).tree
    assert [tree[f"h/{p}"].text for p in ("x", "y", "c.txt")] == ["x", "y", "z"]


def test_unpack(kit: Kit, web: Web) -> None:
    built = kit("ADD --unpack=false a.tar /h/\nADD --unpack=true a.tar /i/\n"
                "ADD --unpack a.tar /j/\n"
                f"ADD --unpack=true {web.url}/a.tar.gz /k/\nADD --unpack {web.url}/f /l/\n"
                f"ADD --unpack=false {web.url}/a.tar.gz /m/", {"a.tar": TAR})  # fmt: skip
    assert built.tree["h/a.tar"].raw == TAR
    assert built["i/y"] == built["j/y"] == built["k/y"] == "y"
    assert built["l/f"] == "fetched"
    assert built.tree["m/a.tar.gz"].raw == FORMS["gzip"]


@pytest.fixture(scope="module", name="web")
def _web() -> Iterator[Web]:
    with web_server() as web:
        file = Answer(body=b"fetched", headers={"Last-Modified": MODIFIED})
        web.routes |= {
            "/f": file, "/dir/g": file, "/dir/": file, "/": file, "/a%20b": file,
            "/a.tar.gz": Answer(body=FORMS["gzip"]),
            "/named": Answer(body=b"fetched",
                             headers={"Content-Disposition": "attachment; filename=other"}),
            "/moved": Answer(302, headers={"Location": "/f"}),
            "/secret": lambda asked: (
                file if asked.headers.get("Authorization") == "Bearer t0ken" else Answer(401)
            ),
        }  # fmt: skip
        yield web


FETCHED = {
    "to a name": ("{url}/f /h", "h"),
    "to a directory": ("{url}/f /h/", "h/f"),
    "to a directory that is there": ("{url}/f /tmp", "tmp/f"),
    "relative": ("{url}/f h/", "w/h/f"),
    "by the path's last part": ("{url}/dir/g?x=/y#z /h/", "h/g"),
    "by a path that ends with a slash": ("{url}/dir/ /h/", "h/dir"),
    "not by what the server says": ("{url}/named /h/", "h/named"),
    "not by where it has moved": ("{url}/moved /h/", "h/moved"),
    "by a variable": ("$URL/f /h", "h"),
    "with --link": ("--link {url}/f /h", "h"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "path"), FETCHED.values(), ids=FETCHED)
def test_fetched(kit: Kit, web: Web, words: str, path: str) -> None:
    tree = kit(f"ARG URL={web.url}\nWORKDIR /w\nADD {words.format(url=web.url)}").tree
    assert (tree[path].text, tree[path].octal, tree[path].owner) == ("fetched", "600", (0, 0))


def test_time_mode_and_owner_of_what_is_fetched(kit: Kit, web: Web) -> None:
    tree = kit(f"ADD {web.url}/f /h\nADD --chmod=755 --chown=joe {web.url}/f /i\n"
               f"ADD {web.url}/a.tar.gz /j/\n"
               f"ADD --chmod=u=rwX,go=rX {web.url}/f /k").tree  # fmt: skip
    assert tree["h"].mtime == 784111777
    assert (tree["i"].octal, tree["i"].owner) == ("755", (1000, 1000))
    assert tree["j/a.tar.gz"].raw == FORMS["gzip"]
    assert tree["k"].octal == "644"


def test_several_sources(kit: Kit, web: Web) -> None:
    tree = kit(f"ADD {web.url}/f l {web.url}/dir/g /h/", {"l": "local"}).tree
    assert [tree[f"h/{p}"].text for p in ("f", "l", "g")] == ["fetched", "local", "fetched"]


def test_checksums_of_what_is_fetched(kit: Kit, web: Web) -> None:
    right = hashlib.sha256(b"fetched").hexdigest()
    built = kit(f"ARG SUM=sha256:{right}\nADD --checksum=$SUM {web.url}/f /h")
    assert built["h"] == "fetched"
    wrong = "0" * 64
    said = kit.fails(f"ADD --checksum=sha256:{wrong} {web.url}/f /h")
    assert right in said
    assert wrong in said
    assert "checksum" in kit.fails(f"ADD --checksum=sha256:{right} f /h", {"f": "fetched"})
    assert "checksum" in kit.fails(f"ADD --checksum=sha256:{right} {web.url}/f {web.url}/f /h/")
    assert "md5" in kit.fails(f"ADD --checksum=md5:{right[:32]} {web.url}/f /h")
    assert "checksum" in kit.fails(f"COPY --checksum=sha256:{right} f /h", {"f": "fetched"})


def test_what_is_not_there(kit: Kit, web: Web) -> None:
    assert "404" in kit.fails(f"ADD {web.url}/nothing /h")
    assert re.search("URL|http", kit.fails(f"COPY {web.url}/f /h"))


def test_secrets_for_servers(kit: Kit, web: Web) -> None:
    host = web.url.removeprefix("http://")
    text = f"ADD {web.url}/secret /h"
    assert "401" in kit.fails(text)
    for name, value in ((f"HTTP_AUTH_TOKEN_{host}", b"t0ken"),
                        (f"HTTP_AUTH_HEADER_{host}", b"Bearer t0ken")):  # fmt: skip
        built = kit(text, secrets=(SecretSource(id=name, value=value),))
        assert built["h"] == "fetched"
        assert "t0ken" not in str(built.document)


def test_what_has_not_changed_is_not_fetched_again(kit: Kit, web: Web) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.headers.get("If-None-Match") == '"1"':
            return Answer(304, headers={"ETag": '"1"'})
        return Answer(body=b"tagged", headers={"ETag": '"1"'})

    web.routes["/tagged"] = answer
    text = f"ADD {web.url}/tagged /h\nRUN cat /proc/sys/kernel/random/uuid >/o"
    assert kit(text)["o"] == kit(text)["o"]
    web.routes["/tagged"] = Answer(body=b"changed", headers={"ETag": '"2"'})
    assert kit(text)["h"] == "changed"


@pytest.fixture(scope="module", name="git")
def _git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    directory = tmp_path_factory.mktemp("git")
    repository = Repository(directory / "r.git")
    first = repository.commit({"a": "one", "run*": "exe", "sub/b": "deep"})
    repository.git("tag", "v1")
    repository.commit({"a": "two"})
    repository.git("branch", "other", "v1")
    inner = Repository(directory / "inner.git")
    inner.commit({"i": "inner"})
    with smart_http(directory) as url, dumb_http(directory) as dumb:
        yield f"{url}/r.git", first, f"{dumb}/r.git"


def test_repositories(kit: Kit, git: tuple[str, str, str]) -> None:
    url, first, dumb = git
    tree = kit(f"ADD {url} /h\nADD {url}#v1 /i/\nADD {url}#other:sub /j\nADD {url}#{first} /k\n"
               f"ADD {dumb}#v1 /l\nADD --keep-git-dir=true {url}#main /m\n"
               f"ADD --keep-git-dir=false {url} /n\nADD --chown=joe --chmod=700 {url} /o\n"
               f"WORKDIR /w\nADD {url}#:sub ./p").tree  # fmt: skip
    assert [tree[p].text for p in ("h/a", "i/a", "j/b", "k/a", "l/a", "m/a", "w/p/b")] == [
        "two", "one", "deep", "one", "one", "two", "deep"
    ]  # fmt: skip
    assert [tree[p].octal for p in ("h/a", "h/run", "h/sub", "h")] == ["644", "755", "755", "755"]
    assert {tree[p].owner for p in ("h/a", "h/sub")} == {(0, 0)}
    assert "m/.git/HEAD" in tree
    assert not {"h/.git", "n/.git", "j/a"} & set(tree)
    assert (tree["o/a"].octal, tree["o/a"].owner) == ("700", (1000, 1000))


def test_queries_of_repositories(kit: Kit, git: tuple[str, str, str]) -> None:
    url, first, _ = git
    tree = kit(f"ADD {url}?ref=v1 /h\nADD {url}?tag=v1&subdir=sub /i\nADD {url}?branch=other /j\n"
               f"ADD {url}?ref=v1&checksum={first} /k\nADD {url}?ref=v1&keep-git-dir=true /l\n"
               f"ADD --checksum={first[:12]} {url}#v1 /m\n"
               f"ADD --checksum={first} {url}#v1 /n").tree  # fmt: skip
    assert {tree[f"{p}/a"].text for p in "hjklmn"} == {"one"}
    assert tree["i/b"].text == "deep"
    assert "l/.git/HEAD" in tree


def test_repositories_that_are_refused(kit: Kit, git: tuple[str, str, str]) -> None:
    url = git[0]
    assert "nothing" in kit.fails(f"ADD {url}#nothing /h")
    assert "nothing" in kit.fails(f"ADD {url}#v1:nothing /h")
    assert "0123456789" in kit.fails(f"ADD --checksum=0123456789 {url}#v1 /h")
    assert re.search("git|repository", kit.fails(f"COPY {url} /h"))


def test_the_git_directory_of_the_context(kit: Kit, git: tuple[str, str, str]) -> None:
    url = git[0]
    text = "FROM scratch\nCOPY . /h\n"
    assert "h/.git" not in kit(text, context=url).tree
    kept = {"BUILDKIT_CONTEXT_KEEP_GIT_DIR": "1"}
    assert "h/.git/HEAD" in kit(text, context=url, build_args=kept).tree
    assert "h/.git" not in kit(f"FROM scratch\nADD {url} /h", build_args=kept).tree
    assert kit(text, context=f"{url}#v1:sub").tree["h/b"].text == "deep"
