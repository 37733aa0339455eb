"""Files that are copied into working containers: sources, owners, links, archives, URLs."""

from __future__ import annotations

import http.server
import os
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.working_rig import BASE, Scripts


@pytest.fixture(scope="module", params=["real", "single"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    """A store, once with real owners and once with a single id, where owners are noted."""
    made = Scripts(tmp_path_factory.mktemp("copying"), single=request.param == "single")
    work = made.work
    (work / "tree" / "sub").mkdir(parents=True)
    (work / "tree" / "sub" / "deep").write_text("deep\n")
    (work / "tree" / "kept").write_text("kept\n")
    (work / "tree" / "left.log").write_text("left\n")
    (work / "tree" / ".containerignore").write_text("*.log\n")
    (work / "odd[name]").write_text("odd\n")
    os.chmod(work / "tree" / "kept", 0o640)
    with tarfile.open(work / "packed.tar.gz", "w:gz") as tar:
        tar.add(work / "tree" / "kept", "packed/kept")
    return made


def files(shop: Scripts, script: str) -> dict[str, tuple[int, int, int]]:
    """The layer of an image of a container from scratch after a script about $c."""
    shop.lines(f'c=$(t from scratch)\n{script}\nt commit -q --rm "$c" copied')
    return {path: found for path, found in shop.layer("copied").items() if path != "./"}


def test_files_are_roots_and_keep_their_modes(shop: Scripts) -> None:
    found = files(shop, "t copy -q $c tree/kept tree/sub/deep /to/")
    assert found["to/kept"] == (0o640, 0, 0)
    assert set(found) == {"to/", "to/kept", "to/deep"}


def test_owners_and_modes_that_were_asked_for(shop: Scripts) -> None:
    found = files(shop, "t copy -q --chown 5:6 --chmod 4711 $c tree /to")
    assert {each[1:] for path, each in found.items() if path.startswith("to/")} == {(5, 6)}
    assert found["to/kept"][0] == 0o4711


def test_a_later_copy_takes_the_place_of_owners(shop: Scripts) -> None:
    found = files(shop, "t copy -q --chown 5:6 $c tree/kept /f; t copy -q $c tree/sub/deep /f")
    assert found["f"][1:] == (0, 0)


def test_e44_a_relative_destination_is_below_workdir(shop: Scripts) -> None:
    found = files(shop, "t config --workingdir /w $c; t copy -q $c tree/kept a/; t copy -q $c tree")
    assert {"w/a/kept", "w/kept", "w/sub/deep"} <= set(found)


def test_e45_links_at_the_destination_are_followed_inside(shop: Scripts) -> None:
    found = files(shop, """
        mkdir -p links; ln -sfn /real links/abs; ln -sfn ../../../../real links/rel
        t copy -q $c links /; t copy -q $c tree/kept /abs/; t copy -q $c tree/sub/deep /rel/
    """)  # fmt: skip
    assert {"real/kept", "real/deep"} <= set(found)
    assert not os.path.lexists("/real")


def test_e46_link_does_not_follow_links(shop: Scripts) -> None:
    found = files(shop, """
        mkdir -p dangling; ln -sfn /elsewhere dangling/x; t copy -q $c dangling /
        t copy -q --link $c tree/kept /x/
    """)  # fmt: skip
    assert "x/kept" in found
    assert "elsewhere/" not in found


def test_e47_wildcards(shop: Scripts) -> None:
    found = files(shop, "t copy -q $c 'tree/k*t' 'odd[[]name]' /to/")
    assert {"to/kept", "to/odd[name]"} <= set(found)
    found = files(shop, "t copy -q --allow-wildcard=false $c 'odd[name]' /to/")
    assert "to/odd[name]" in found
    done = shop("c=$(t from scratch); t copy -q $c 'none*' / || echo status $?; t rm $c >/dev/null")
    assert done.stdout == "status 125\n"


def test_ignore_files_count_below_a_context(shop: Scripts) -> None:
    assert "left.log" not in files(shop, "t copy -q --contextdir tree $c . /")
    assert "left.log" in files(shop, "t copy -q $c tree /")
    assert "kept" not in files(shop, "t copy -q --exclude 'k*' $c tree /")
    done = shop(
        "c=$(t from scratch); t copy --ignorefile tree/.containerignore $c tree / || t rm $c"
    )
    assert "--contextdir" in done.stderr


def test_parents_are_kept_on_demand(shop: Scripts) -> None:
    found = files(shop, "t copy -q --parents --contextdir . $c tree/./sub/deep /to/")
    assert "to/sub/deep" in found


def test_add_unpacks_and_copy_does_not(shop: Scripts) -> None:
    assert "to/packed/kept" in files(shop, "t add -q $c packed.tar.gz /to/")
    assert "to/packed.tar.gz" in files(shop, "t copy -q $c packed.tar.gz /to/")


def test_from_a_container_keeps_owners(shop: Scripts) -> None:
    found = files(shop, """
        d=$(t from --name other scratch); t copy -q --chown 8:9 $d tree /to
        t copy -q --from other $c /to /from; t rm $d >/dev/null
    """)  # fmt: skip
    assert found["from/kept"] == (0o640, 8, 9)


def test_from_an_image(shop: Scripts) -> None:
    found = files(shop, """
        d=$(t from scratch); t copy -q --chown 8:9 $d tree /to; t commit -q --rm $d whole >/dev/null
        t copy -q --from whole $c /to/kept /k; t copy -q --from whole --chown 1:2 $c /to/kept /l
    """)  # fmt: skip
    assert (found["k"][1:], found["l"][1:]) == ((8, 9), (1, 2))


def test_a_digest_is_printed_and_says_what_was_copied(shop: Scripts) -> None:
    lines = shop.lines("""
        c=$(t from scratch); t copy --timestamp 1 $c tree /a; t copy --timestamp 1 $c tree /b
        t copy --timestamp 1 $c tree/kept /b; t rm $c >/dev/null
    """)
    assert all(len(line) == 64 for line in lines[:3])
    assert lines[0] != lines[2]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("copy", "src must be specified"),
        ("copy nowhere /", "nowhere"),
        ("copy --chown nobody-there tree /", "nobody-there"),
        ("copy --chmod nonsense tree /", "nonsense"),
        ("copy --no-follow-symlinks tree /", "--no-follow-symlinks"),
        ("copy --checksum sha256:00 tree /", "--checksum"),
        ("add http://127.0.0.1:1/x /", "127.0.0.1"),
    ],
)
def test_mistakes_leave_the_container_as_it_was(shop: Scripts, command: str, said: str) -> None:
    verb, _, rest = command.partition(" ")
    options = " ".join(word for word in rest.split() if word.startswith("--"))
    done = shop(f"""
        c=$(t from scratch)
        t {verb} {_arranged(rest)} || echo "status $?"
        t commit -q --rm $c untouched >/dev/null
    """)
    assert done.stdout.splitlines() == ["status 125"], (done.stderr, options)
    assert said in done.stderr
    assert shop.manifest("untouched").layers == ()


def _arranged(words: str) -> str:
    """Options, then the container, then the rest."""
    parts = words.split()
    count = 0
    while count < len(parts) and parts[count].startswith("--"):
        count += 1 if parts[count] == "--no-follow-symlinks" else 2
    return " ".join([*parts[:count], "$c", *parts[count:]])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of one file."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/file" else 404)
            body = b"fetched\n"
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_e59_add_fetches(shop: Scripts, server: str) -> None:
    found = files(shop, f"""
        t add -q $c {server}/file /to/; t add -q --chmod 711 $c {server}/file /as
        t add -q $c {server}/gone / && exit 1
    """)  # fmt: skip
    assert found["to/file"] == (0o600, 0, 0)
    assert found["as"][0] == 0o711


def test_e50_sockets_are_left_out_with_a_word(shop: Scripts) -> None:
    (shop.work / "held").mkdir()
    (shop.work / "held/file").write_text("content")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(shop.work / "held/socket"))
    done = shop("c=$(t from scratch); t copy -q $c held /held; t commit -q --rm $c copied")
    assert done.stderr.count("1 socket is left out") == 1
    assert "held/file" in shop.layer("copied")
    assert "held/socket" not in shop.layer("copied")


def test_copying_needs_no_image_of_skopeos(shop: Scripts) -> None:
    done = shop("t copy nothing-known x /")
    assert done.returncode == 1
    assert BASE not in done.stderr
    assert "unexpected extra argument" in done.stderr.lower()
