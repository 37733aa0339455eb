"""COPY: what is copied where, as what, and whose it is."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.build.features.kit import BASE, Kit

F = f"FROM {BASE}\n"
FILES: dict[str, Any] = {
    "f": "text", "g": "more", "run.sh*": "#!/bin/sh\n", "a b": "blank",
    "d/x": "x", "d/e/y": "y", "d/e/z.txt": "z", "empty": None,
    "l": "->f", "dl": "->d", "d/in": "->x", "broken": "->nowhere", "out": "->../../../etc/passwd",
    "arr[0].txt": "bracket", "foo.go": "go", "bar.go": "go too",
    "hom.txt": "1", "home.md": "2", "homer": "3",
}  # fmt: skip
# Instructions, and what of the tree comes of them: text of a file, None for nothing there,
# "/" for a directory, "->" and a target for a link.
COPIED: dict[str, tuple[str, dict[str, str | None]]] = {
    "file to a name": ("COPY f /h", {"h": "text"}),
    "file to a directory": ("COPY f /h/", {"h/f": "text"}),
    "file to a directory that is there": ("COPY f /tmp", {"tmp/f": "text"}),
    "file into directories that are not there": ("COPY f /p/q/h", {"p/q/h": "text"}),
    "to .": ("WORKDIR /w\nCOPY f .", {"w/f": "text"}),
    "to ./": ("WORKDIR /w\nCOPY f ./", {"w/f": "text"}),
    "to a relative name": ("WORKDIR /w\nCOPY f h", {"w/h": "text"}),
    "to a relative directory": ("WORKDIR /w\nCOPY f h/", {"w/h/f": "text"}),
    "to what is above": ("WORKDIR /w/v\nCOPY f ../h", {"w/h": "text"}),
    "to above everything": ("COPY f ../../h", {"h": "text"}),
    "to an empty name": ('ENV E=""\nWORKDIR /w\nCOPY f $E', {"w/f": "text"}),
    "without a working directory": ("FROM scratch\nCOPY f h", {"h": "text"}),
    "directory's content": ("COPY d /h", {"h/x": "x", "h/e/y": "y", "h/d": None}),
    "directory's content, with slashes": ("COPY d/ /h/", {"h/x": "x", "h/d": None}),
    "directory's content by a dot": ("COPY d/. /h", {"h/x": "x"}),
    "directory into one that is there": ("COPY d /tmp", {"tmp/x": "x", "tmp/e/y": "y"}),
    "empty directory": ("COPY empty /h", {"h": "/"}),
    "everything": ("COPY . /h", {"h/f": "text", "h/d/e/y": "y", "h/l": "->f"}),
    "everything by a slash": ("COPY / /h", {"h/f": "text"}),
    "two files": ("COPY f g /h/", {"h/f": "text", "h/g": "more"}),
    "two files without a slash": ("COPY f g /h", {"h": "more"}),
    "file and directory": ("COPY f d /h/", {"h/f": "text", "h/x": "x"}),
    "two directories": ("COPY d d/e /h/", {"h/x": "x", "h/y": "y", "h/e/y": "y"}),
    "JSON form": ('COPY ["f", "g", "/h/"]', {"h/f": "text", "h/g": "more"}),
    "JSON form with blanks": ('COPY ["a b", "/h/c d"]', {"h/c d": "blank"}),
    "JSON form expands": ('ARG A=f\nCOPY ["$A", "/h"]', {"h": "text"}),
    "above the context": ("COPY ../../f /h", {"h": "text"}),
    "from the root of the context": ("COPY /d/x /h", {"h": "x"}),
    "through ..": ("COPY d/../f /h", {"h": "text"}),
    "star": ("COPY *.go /h/", {"h/foo.go": "go", "h/bar.go": "go too", "h/f": None}),
    "star that means one file": ("COPY fo*.go /h", {"h": "go"}),
    "star over directories": ("COPY d/* /h/", {"h/x": "x", "h/y": "y", "h/in": "x"}),
    "star in the middle": ("COPY d/*/y /h/", {"h/y": "y"}),
    "question mark": ("COPY ?oo.go /h/", {"h/foo.go": "go"}),
    "class": ("COPY [fg] /h/", {"h/f": "text", "h/g": "more"}),
    "class of others": ("COPY [^a-eg-z] /h/", {"h/f": "text", "h/g": None}),
    "escaped bracket": ("COPY arr[[]0].txt /h/", {"h/arr[0].txt": "bracket"}),
    "star that matches nothing": ("COPY nothing* /h/", {"h": None}),
    "star that matches nothing and a file": ("COPY f nothing* /h/", {"h/f": "text"}),
    "link is followed": ("COPY l /h", {"h": "text"}),
    "link by a star is followed": ("COPY l* /h/", {"h/l": "text"}),
    "link to a directory is followed": ("COPY dl /h", {"h/x": "x"}),
    "through a link": ("COPY dl/x /h", {"h": "x"}),
    "link below stays": ("COPY d /h", {"h/in": "->x"}),
    "broken link below stays": ("COPY . /h", {"h/broken": "->nowhere"}),
    "over a file": ("COPY f /h\nCOPY g /h", {"h": "more"}),
    "over files of a directory": ("COPY d /h\nCOPY d/e/y /h/x\nCOPY d/e /h", {"h/x": "y"}),
    "twice": ("COPY d /h\nCOPY d /h", {"h/x": "x"}),
    "over a link": ("RUN ln -s /tmp/a /h\nCOPY f /h", {"tmp/a": "text", "h": "->/tmp/a"}),
    "into a linked directory": (
        "RUN mkdir /r; ln -s /r /s\nCOPY f /s/h\nCOPY g /s/", {"r/h": "text", "r/g": "more",
                                                              "s": "->/r"}
    ),
    "into a directory linked relatively": (
        "RUN mkdir -p /r/t; ln -s ../r/t /tmp/s\nCOPY d /tmp/s", {"r/t/x": "x"}
    ),
    "below a linked directory": (
        "RUN mkdir /r; ln -s /r /s\nCOPY f /s/deep/er/h", {"r/deep/er/h": "text"}
    ),
    "through a link that climbs": (
        "RUN ln -s /../../../../etc /s\nCOPY f /s/h", {"etc/h": "text"}
    ),
    "into a directory linked to nothing": (
        "RUN ln -s ../tmp/made /s\nCOPY f /s/", {"tmp/made/f": "text"}
    ),
    "through a link to nothing": ("RUN ln -s /r /s\nCOPY f /s/h", {"r/h": "text"}),
    "--link to a linked directory replaces it": (
        "RUN mkdir /r; ln -s /r /s\nCOPY --link f /s/h", {"s/h": "text", "r/h": None}
    ),
    "--link": ("COPY --link f /h\nCOPY --link=true g /i\nCOPY --link=false f /j",
               {"h": "text", "i": "more", "j": "text"}),
    "--link to .": ("WORKDIR /w\nCOPY --link f .", {"w/f": "text"}),
    "--link to an empty name": ('ENV E=""\nWORKDIR /w\nCOPY --link f $E', {"w/f": "text"}),
    "--link of a directory": ("COPY --link d /h/", {"h/x": "x", "h/e/y": "y"}),
    "--from keeps links": (
        f"FROM {BASE} AS one\nRUN mkdir /r; ln -s a /r/b\nFROM scratch\nCOPY --from=0 /r /h",
        {"h/b": "->a"},
    ),
    "--from follows the named link": (
        f"FROM {BASE} AS one\nRUN echo -n a >/a; ln -s /a /b; ln -s ../../a /c\n"
        "FROM scratch\nCOPY --from=0 /b /h\nCOPY --from=0 c /i", {"h": "a", "i": "a"}
    ),
    "--from through links": (
        f"FROM {BASE} AS build\nRUN mkdir -p /out/sub; ln -s /out/sub /s; ln -s out/sub /t; "
        "echo -n data >/s/foo\nFROM scratch\nCOPY --from=build /s/foo .\n"
        "COPY --from=build /t/foo bar", {"foo": "data", "bar": "data"}
    ),
    "--from everything": (
        "FROM scratch AS one\nCOPY d /d\nFROM scratch\nCOPY --from=one / /h/", {"h/d/x": "x"}
    ),
    "--from globs": ("FROM scratch AS one\nCOPY d /d\nFROM scratch\nCOPY --from=one /d/e/* /h/",
                     {"h/y": "y", "h/z.txt": "z"}),
    "--from is not what the ignore file is for": (
        "FROM scratch AS one\nCOPY f /secret\nFROM scratch\nCOPY --from=one /secret /h",
        {"h": "text"},
    ),
    "--exclude": ("COPY --exclude=*.txt hom* /h/", {"h/home.md": "2", "h/hom.txt": None}),
    "--exclude twice": (
        "COPY --exclude=*.txt --exclude=*.md hom* /h/", {"h/homer": "3", "h/home.md": None}
    ),
    "--exclude below": ("COPY --exclude=e/*.txt d /h", {"h/e/y": "y", "h/e/z.txt": None}),
    "--exclude anywhere": ("COPY --exclude=**/*.txt . /h", {"h/hom.txt": None,
                                                           "h/d/e/z.txt": None, "h/f": "text"}),
    "--exclude a directory": ("COPY --exclude=e d /h", {"h/x": "x", "h/e": None}),
    "--exclude by a variable": ("ARG P=*.txt\nCOPY --exclude=$P hom* /h/", {"h/hom.txt": None}),
    "--exclude with --from": (
        "FROM scratch AS one\nCOPY d /d\nFROM scratch\nCOPY --from=one --exclude=e /d /h",
        {"h/x": "x", "h/e": None},
    ),
    "--parents": ("COPY --parents d/x d/e/y /h/", {"h/d/x": "x", "h/d/e/y": "y"}),
    "--parents of a directory": ("COPY --parents d/e /h/", {"h/d/e/y": "y", "h/d/x": None}),
    "--parents from ./": ("COPY --parents ./d/x /h/", {"h/d/x": "x"}),
    "--parents without a slash": ("COPY --parents d/x /h", {"h/d/x": "x"}),
    "--parents to .": ("WORKDIR /w\nCOPY --parents d/e/* .", {"w/d/e/y": "y", "w/d/x": None}),
    "--parents to the root": ("COPY --parents d/e/y /", {"d/e/y": "y"}),
    "--parents of nothing that matches": (
        "COPY --parents d/./no* /h/\nCOPY --parents no*/e /i/", {"h": "/", "i": "/"}
    ),
    "--parents with a pattern in front of the pivot that matches nothing": (
        "COPY f /h/\nCOPY --parents no*/./e /h/", {"h/f": "text"}
    ),
    "--parents with a pivot": ("COPY --parents d/./e/y /h/", {"h/e/y": "y", "h/d": None}),
    "--parents with a pivot and a star": (
        "COPY --parents ./d/./*/*.txt /h/", {"h/e/z.txt": "z", "h/e/y": None}
    ),
    "--parents with **": ("COPY --parents ./d/**/*.txt /h/", {"h/d/e/z.txt": "z",
                                                             "h/d/x": None}),
    "--parents with ** of no directory": ("COPY --parents d/**/x /h/", {"h/d/x": "x"}),
    "--parents --exclude": ("COPY --parents --exclude=**/*.txt d/e /h/",
                            {"h/d/e/y": "y", "h/d/e/z.txt": None}),
    "--parents=false": ("COPY --parents=false d/x /h/", {"h/x": "x"}),
    "variable in names": ("ARG A=f B=/h\nCOPY $A ${B}i", {"hi": "text"}),
    "dollar in a name": ("COPY \\$x /h", {"h": "dollar"}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), COPIED.values(), ids=COPIED)
def test_copy(kit: Kit, text: str, expected: dict[str, str | None]) -> None:
    tree = kit(text, {**FILES, "$x": "dollar", "secret": "no", ".dockerignore": "secret\n"}).tree
    for path, content in expected.items():
        node = tree.get(path)
        if node is None or content is None:
            assert node is content, path
        elif content == "/":
            assert node.kind == "dir"
        else:
            assert (f"->{node.text}" if node.kind == "link" else node.text) == content, path


REFUSED = {
    "what is not there": ("COPY nothing /h", "nothing"),
    "what is not there in a stage": ("COPY --from=0 /nothing /h", "nothing|0"),
    "a directory over a file": ("COPY f /h\nCOPY d /h", "/?h"),
    "a file over a directory": ("COPY d /h/f\nCOPY f /h/", "h/f|directory"),
    "into a file": ("COPY f /h\nCOPY f /h/i", "h"),
    "through a loop": ("RUN ln -s /a /b; ln -s /b /a\nCOPY f /a/h", "a|loop|link"),
    "a broken link": ("COPY broken /h", "broken|nowhere"),
    "an owner that the image has not": ("COPY --chown=nobody-here f /h", "nobody-here"),
    "a group that the image has not": ("COPY --chown=0:no-group f /h", "no-group"),
    "a name as owner with nothing to look it up in": (
        "FROM scratch\nCOPY --chown=joe f /h",
        "joe|passwd",
    ),
    "--parents of what is not there": ("COPY --parents d/nothing /h/", "d/nothing"),
    "--parents of what is not behind the pivot": ("COPY --parents d/./nothing /h/", "nothing"),
    "--chmod of no octal number": ("COPY --chmod=64a f /h", "64a"),
    "--chmod too large": ("COPY --chmod=10000 f /h", "10000"),
    "--chmod of nonsense": ("COPY --chmod=u~x f /h", "u~x"),
    "--link of nonsense": ("COPY --link=perhaps f /h", "perhaps|link"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_copy_that_is_refused(kit: Kit, text: str, said: str) -> None:
    assert re.search(said, kit.fails(text, FILES))


def test_a_link_out_of_the_context_stays_inside(kit: Kit) -> None:
    assert "not" in kit.fails("COPY out /h", FILES)
    built = kit("COPY out /h", {**FILES, "etc/passwd": "inside"})
    assert built["h"] == "inside"


# Flags, and mode and owner of what a copy makes: the file /p/q/h and the directory /p/q.
MODES = {
    "no flag": ("", "644", "755", (0, 0), (0, 0)),
    "--chown=7": ("--chown=7", "644", "755", (7, 7), (7, 7)),
    "--chown=7:8": ("--chown=7:8", "644", "755", (7, 8), (7, 8)),
    "--chown=joe": ("--chown=joe", "644", "755", (1000, 1000), (1000, 1000)),
    "--chown=joe:audio": ("--chown=joe:audio", "644", "755", (1000, 29), (1000, 29)),
    "--chown=55:wheel": ("--chown=55:wheel", "644", "755", (55, 10), (55, 10)),
    "--chown=joe:0": ("--chown=joe:0", "644", "755", (1000, 0), (1000, 0)),
    "--chmod=600": ("--chmod=600", "600", "600", (0, 0), (0, 0)),
    "--chmod=0777": ("--chmod=0777", "777", "777", (0, 0), (0, 0)),
    "--chmod=0": ("--chmod=0", "0", "0", (0, 0), (0, 0)),
    "--chmod=4755": ("--chmod=4755", "4755", "755", (0, 0), (0, 0)),
    "--chmod=1777": ("--chmod=1777", "1777", "777", (0, 0), (0, 0)),
    "--chmod=+x": ("--chmod=+x", "755", "755", (0, 0), (0, 0)),
    "--chmod=u+s,g=u": ("--chmod=u+s,g=u", "4664", "755", (0, 0), (0, 0)),
    "--chmod=u=rwX,go=": ("--chmod=u=rwX,go=", "600", "755", (0, 0), (0, 0)),
    "--chmod=a-w": ("--chmod=a-w", "444", "755", (0, 0), (0, 0)),
    "both": ("--chown=7 --chmod=640", "640", "640", (7, 7), (7, 7)),
    "both with --link": ("--link --chown=7:8 --chmod=640", "640", "640", (7, 8), (7, 8)),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "mode", "parent", "owner", "parents"), MODES.values(), ids=MODES)
def test_modes_and_owners(
    kit: Kit, flags: str, mode: str, parent: str, owner: tuple[int, int], parents: tuple[int, int]
) -> None:
    tree = kit(f"COPY {flags} f /p/q/h", FILES).tree
    assert (tree["p/q/h"].octal, tree["p/q/h"].owner) == (mode, owner)
    assert {(tree[p].octal, tree[p].owner) for p in ("p", "p/q")} == {(parent, parents)}


def test_symbolic_modes_of_directories(kit: Kit) -> None:
    tree = kit("COPY --chmod=u=rwX,go= d /h/\nCOPY --chmod=u=rwX,go=rX . /i\n"
               "COPY --chmod=g=u run.sh /j", FILES).tree  # fmt: skip
    assert [tree[p].octal for p in ("h/x", "h/e", "h/e/y")] == ["600", "700", "600"]
    assert [tree[p].octal for p in ("i/f", "i/run.sh", "i/d/e")] == ["644", "755", "755"]
    assert tree["j"].octal == "775"


def test_octal_modes_of_directories(kit: Kit) -> None:
    tree = kit("COPY --chmod=640 d /h/", FILES).tree
    assert [tree[p].octal for p in ("h", "h/x", "h/e", "h/e/y")] == ["640"] * 4


def test_modes_and_owners_of_the_context(kit: Kit) -> None:
    context = kit.context(FILES)
    for name, mode in (("f", 0o4750), ("g", 0o000), ("d", 0o500), ("d/e", 0o2775)):
        os.chown(context / name, 123, 456)
        os.chmod(context / name, mode)
    tree = kit("USER joe\nCOPY f g /h/\nCOPY d /i", context=context).tree
    assert [tree[p].octal for p in ("h/f", "h/g", "i/e")] == ["4750", "0", "2775"]
    assert {tree[p].owner for p in ("h", "h/f", "h/g", "i", "i/x", "i/e")} == {(0, 0)}


def test_a_directory_that_is_there_keeps_mode_and_owner(kit: Kit) -> None:
    tree = kit("RUN mkdir -m 2750 /h; chown 5:6 /h\nCOPY d /h\nCOPY --chown=9 --chmod=700 f /h/\n"
               "COPY --chown=9 d/e /tmp/", FILES).tree  # fmt: skip
    assert (tree["h"].octal, tree["h"].owner) == ("2750", (5, 6))
    assert (tree["tmp"].octal, tree["tmp/y"].owner) == ("1777", (9, 9))


def test_owners_in_copies_between_stages(kit: Kit) -> None:
    """Only the directory that a copy makes for the content of another is root's."""
    source = (f"FROM {BASE} AS source\nRUN touch /file; chown 100:200 /file; mkdir -p /dir/sub; "
              "touch /dir/sub/n; chown 100:200 /dir; chown 101:201 /dir/sub; "
              "chown 102:202 /dir/sub/n\n"
              f"FROM {BASE}\nRUN mkdir -p /old/os; touch /old/of; chown 500:600 /old; "
              "chown 501:601 /old/os /old/of\n")  # fmt: skip
    for flag, file, made, sub, nested in (
        ("", (100, 200), (0, 0), (101, 201), (102, 202)),
        ("--chown=300:400", (300, 400), (300, 400), (300, 400), (300, 400)),
    ):
        copies = "".join(
            f"COPY --from=source {flag} {words}\n"
            for words in ("/file .", "/dir /new", "/dir/. /old")
        )
        tree = kit(source + copies).tree
        assert tree["file"].owner == file
        assert tree["new"].owner == made
        assert {tree["new/sub"].owner, tree["old/sub"].owner} == {sub}
        assert {tree["new/sub/n"].owner, tree["old/sub/n"].owner} == {nested}
        assert tree["old"].owner == (500, 600)
        assert {tree["old/os"].owner, tree["old/of"].owner} == {(501, 601)}


def test_what_a_copy_between_stages_keeps(kit: Kit) -> None:
    built = kit(
        f"FROM {BASE} AS one\nRUN mkdir /r; cd /r; echo a >a; ln a b; chmod 6711 a; "
        "chown 3:4 a; chmod 6711 a; mkfifo -m 600 p; touch -d @1000000000 t; mknod n c 1 3\n"
        "FROM scratch\nCOPY --from=one /r /h"
    )
    tree = built.tree
    assert (tree["h/a"].octal, tree["h/a"].owner) == ("6711", (3, 4))
    assert tree["h/b"] is tree["h/a"], "a hard link"
    assert (tree["h/p"].kind, tree["h/n"].kind, tree["h/n"].device) == ("fifo", "char", (1, 3))
    assert tree["h/t"].mtime == 1_000_000_000


def test_special_files_of_the_context(kit: Kit) -> None:
    context = kit.context({"f": "text"})
    os.mkfifo(context / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(context / "sock"))
        tree = kit("COPY . /h/\nCOPY fifo /i", context=context).tree
    assert (tree["h/fifo"].kind, tree["h/fifo"].octal, tree["i"].kind) == ("fifo", "640", "fifo")
    assert "h/sock" not in tree


def test_names_that_are_no_text(kit: Kit) -> None:
    context = kit.context({"ä ö/ü": "umlaut", "d/new\nline": "1", f"d/{'n' * 255}": "long"})
    (Path(os.fsdecode(os.fsencode(context) + b"/d/\xff"))).write_text("bytes")
    tree = kit("COPY ä* /h/\nCOPY d /i", context=context).tree
    assert tree["h/ü"].text == "umlaut"
    assert {"i/new\nline", f"i/{'n' * 255}", "i/\udcff"} <= set(tree)


def test_times(kit: Kit) -> None:
    context = kit.context({"f": "text", "d/x": "x"})
    os.utime(context / "f", (1_234_567_890, 1_234_567_890))
    assert kit("COPY f /of-its-own", context=context).tree["of-its-own"].mtime == 1_234_567_890


def test_extended_attributes_between_stages(kit: Kit) -> None:
    context = kit.context({"f": "text"})
    os.setxattr(context / "f", "user.mine", b"value")
    os.setxattr(context / "f", "security.capability",
                bytes.fromhex("0100000200040000000000000000000000000000"))  # fmt: skip
    built = kit("FROM scratch AS one\nCOPY f /f\nFROM scratch\nCOPY --from=one /f /g\n"
                "COPY --from=one --chown=5 /f /h", context=context)  # fmt: skip
    for name in ("g", "h"):
        assert "SCHILY.xattr.security.capability" in built.tree[name].xattrs


def test_link_puts_a_layer_beside_what_is_there(kit: Kit) -> None:
    built = kit("RUN mkdir -m 711 -p /h/i; chmod 711 /h\nCOPY --link f /h/i/j", FILES)
    assert built.last == ["h", "h/i", "h/i/j"]


def test_a_file_in_place_of_a_directory_by_link(kit: Kit) -> None:
    assert kit("COPY d /h\nCOPY --link f /h", FILES).tree["h"].text == "text"


PARENTS = {
    "/test/a/b/./c/d /out/": ("c/d/e c/d/foo", "a e"),
    "/test/a/b/c/d/. /out/": ("test/a/b/c/d/e test/a/b/c/d/foo", ""),
    "./test/a/b/c/d /out/": ("test/a/b/c/d/e test/a/b/c/d/foo", ""),
    "/test/a/./b/./c /out/": ("b/c/d/e b/c/d/foo", ""),
    "/test/a/./*/c /out/": ("b/c/d/e b2/c/d/e/bar", ""),
    "/test/a/b*/./c/**/e /out/": ("c/d/e/bay c/d/e/bar", ""),
    "/test/a/b/c*/./d/**/baz /test/a/b*/./c/**/bar /out/": (
        "d/e/baz d/e2/baz c/d/e/bar", "d/e/bay"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "there", "gone"), [(k, *v) for k, v in PARENTS.items()])
def test_parents_between_stages(kit: Kit, words: str, there: str, gone: str) -> None:
    made = ("mkdir -p a/b/c/d/e a/b2/c/d/e a/b/c2/d/e a/b/c2/d/e2; touch a/b/c/d/foo a/b/c/d/e/bay "
            "a/b2/c/d/e/bar a/b/c2/d/e/baz a/b/c2/d/e2/baz")  # fmt: skip
    tree = kit(f"FROM {BASE} AS base\nWORKDIR /test\nRUN {made}\nFROM scratch\n"
               f"COPY --from=base --parents {words}").tree  # fmt: skip
    assert {f"out/{p}" for p in there.split()} <= set(tree)
    assert not {f"out/{p}" for p in gone.split()} & set(tree)


def test_modes_of_kept_parents(kit: Kit) -> None:
    context = kit.context(FILES)
    (context / "d").chmod(0o711)
    (context / "d/e").chmod(0o750)
    tree = kit("COPY --parents d/e/y /h/\nCOPY --parents --chown=7 d/e/y /i/", context=context).tree
    assert [tree[p].octal for p in ("h", "h/d", "h/d/e")] == ["755", "711", "750"]
    assert {tree[p].owner for p in ("i", "i/d", "i/d/e", "i/d/e/y")} == {(7, 7)}


def test_only_what_is_copied_counts(kit: Kit) -> None:
    text = "COPY foo* /h/\nRUN cat /proc/sys/kernel/random/uuid >/o\nCOPY bar.go /h/"
    first = kit(text, FILES)["o"]
    assert kit(text, {**FILES, "bar.go": "changed"})["o"] == first
    assert kit(text, {**FILES, "foo.go": "changed"})["o"] != first
    assert kit(text, {**FILES, "foo2": "new"})["o"] != first
    modes = kit.context(FILES)
    (modes / "foo.go").chmod(0o600)
    assert kit(text, context=modes)["o"] != first
    times = kit.context(FILES)
    os.utime(times / "foo.go", (1, 1))
    assert kit(text, context=times)["o"] == first
