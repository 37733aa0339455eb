"""Users looked up in root file systems that somebody else wrote: F9 and C7."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.runtime.errors import Failure, InvalidConfig, KernelRefused
from engine.runtime.process.users import (
    MAX_FILE,
    MAX_ID,
    MAX_LINE,
    ResolvedUser,
    home_of,
    parse_id,
    resolve_user,
)

PASSWD = """\
# comment
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:/bin/false
web:x:33:34:Web, Server:/var/www:/bin/false
web:x:99:99:::/second
7777:x:55:55::/home/digits:/bin/sh
other:x:33:35::/other:/bin/sh
short:x:44:45
bad:x:abc:1::/:
minus:x:-5:1::/:
huge:x:4294967295:1::/:
+nis:x:60:60::/:
:x:61:61::/:
crlf:x:62:63::/crlf:/bin/sh\r
nul:x:64:\x0065::/:
"""
GROUP = """\
root:x:0:root
staff:x:50:web,other, root
dup:x:50:web
www:x:34:
extra:x:51:web
mail:x:8:webb,we
twice:x:70:
twice:x:71:
bad:x:nope:web
huge:x:4294967295:web
crlf:x:72:\r
"""


class Root:
    """A root file system with these two files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "etc").mkdir()
        (path / "etc/passwd").write_bytes(PASSWD.encode())
        (path / "etc/group").write_bytes(GROUP.encode())
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY)

    def user(self, text: str) -> tuple[int, int, tuple[int, ...], str]:
        found = resolve_user(self.fd, text)
        return found.uid, found.gid, found.additional_gids, found.home

    def exchange(self, name: str) -> Path:
        """The path of /etc/NAME, which is gone."""
        path = self.path / "etc" / name
        path.unlink()
        return path


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    made = Root(tmp_path)
    yield made
    os.close(made.fd)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, (0,), "/root")),
        ("root", (0, 0, (0,), "/root")),
        ("0", (0, 0, (0,), "/root")),
        ("web", (33, 34, (34, 50, 51), "/var/www")),
        ("33", (33, 34, (34, 50, 51), "/var/www")),
        ("web:mail", (33, 8, (8,), "/var/www")),
        ("web:8", (33, 8, (8,), "/var/www")),
        ("web:12345", (33, 12345, (12345,), "/var/www")),
        ("1234", (1234, 0, (0,), "/")),
        ("1234:twice", (1234, 70, (70,), "/")),
        ("1234:1235", (1234, 1235, (1235,), "/")),
        ("7777", (7777, 0, (0,), "/")),
        ("short", (44, 45, (45,), "/")),
        ("crlf:crlf", (62, 72, (72,), "/crlf")),
        ("4294967294", (MAX_ID, 0, (0,), "/")),
        ("007", (7, 0, (0,), "/")),
        ("web:", (33, 34, (34, 50, 51), "/var/www")),
        ("1000:", (1000, 0, (0,), "/")),
        (":8", (0, 8, (8,), "/root")),
        (":", (0, 0, (0,), "/root")),
    ],
)
def test_users(root: Root, text: str, expected: tuple[int, int, tuple[int, ...], str]) -> None:
    assert root.user(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("nobody", "bad", "minus", "huge", "+nis", "nul", "-1", "0x0", "+0", " 0", "0 ", "1_0"),
        *("\u0661", "WEB", "web:nogroup", "web:bad", "web:0x1", "web:-1", "root\0", "\ud800"),
        "web:\ud800",
    ],
)
def test_c7_names_that_are_not_there(root: Root, text: str) -> None:
    with pytest.raises(InvalidConfig):
        resolve_user(root.fd, text)


@pytest.mark.parametrize(
    "text",
    [
        *("4294967295", "4294967296", "99999999999", "0:4294967295", "1:2:3", "0" * 11),
    ],
)
def test_c7_malformed_ids(root: Root, text: str) -> None:
    with pytest.raises(InvalidConfig):
        resolve_user(root.fd, text)


def test_f9_no_files_at_all(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        assert resolve_user(fd, "5:6") == ResolvedUser(uid=5, gid=6, additional_gids=(6,), home="/")
        assert resolve_user(fd, "") == ResolvedUser(uid=0, gid=0, additional_gids=(0,), home="/")
        assert home_of(fd, 0) == "/"
        with pytest.raises(InvalidConfig, match="unable to find user web: no matching entries"):
            resolve_user(fd, "web")
    finally:
        os.close(fd)


def test_home_of_a_uid(root: Root) -> None:
    assert [home_of(root.fd, uid) for uid in (0, 33, 44, 555)] == ["/root", "/var/www", "/", "/"]


def test_f9_a_link_stays_inside_the_root(root: Root) -> None:
    root.exchange("passwd").symlink_to("/../../../elsewhere/passwd")
    (root.path / "elsewhere").mkdir()
    (root.path / "elsewhere/passwd").write_text("inner:x:5:6::/inner:\n")
    assert root.user("inner") == (5, 6, (6,), "/inner")


def test_f9_a_link_of_procfs_is_refused(root: Root, tmp_path: Path) -> None:
    secret = tmp_path / "host-passwd"
    secret.write_text("host:x:5:6::/:\n")
    host = os.open(secret, os.O_RDONLY)
    try:
        root.exchange("passwd").symlink_to(f"/proc/self/fd/{host}")
        with pytest.raises(InvalidConfig, match="unable to find user"):
            resolve_user(root.fd, "host")
    finally:
        os.close(host)


def test_f9_a_link_to_itself(root: Root) -> None:
    root.exchange("passwd").symlink_to("passwd")
    with pytest.raises(KernelRefused, match="read /etc/passwd of the container"):
        resolve_user(root.fd, "web")


def test_f9_a_fifo_and_a_directory_do_not_hold_us_up(root: Root) -> None:
    os.mkfifo(root.exchange("passwd"))
    root.exchange("group").mkdir()
    for text in ("web", "5:web"):
        with pytest.raises(InvalidConfig, match="is not a regular file"):
            resolve_user(root.fd, text)


def test_f9_a_device_is_not_opened(root: Root) -> None:
    os.mknod(root.exchange("passwd"), 0o600 | 0o020000, os.makedev(1, 7))  # /dev/full
    with pytest.raises(InvalidConfig, match="is not a regular file"):
        resolve_user(root.fd, "web")


def test_f9_a_file_of_gigabytes_is_not_read(root: Root) -> None:
    with open(root.exchange("passwd"), "wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(InvalidConfig, match=f"larger than {MAX_FILE} bytes"):
        resolve_user(root.fd, "web")


def test_f9_a_line_of_megabytes_is_passed_over(root: Root) -> None:
    long = b"x" * MAX_LINE
    root.exchange("passwd").write_bytes(b"long:x:1:1:" + long + b":/:\nweb:x:2:3::/w:")
    assert root.user("web") == (2, 3, (3, 50, 51), "/w")
    with pytest.raises(InvalidConfig):
        resolve_user(root.fd, "long")


def test_names_and_homes_that_are_not_utf_8(root: Root) -> None:
    root.exchange("passwd").write_bytes(b"caf\xe9:x:5:6::/home/caf\xe9:/bin/sh\n")
    assert root.user("caf\udce9") == (5, 6, (6,), "/home/caf\udce9")


@pytest.mark.parametrize("text", ["0", "1", "4294967294"])
def test_ids(text: str) -> None:
    assert parse_id(text) == int(text)


@given(st.text(max_size=12))
@example("\u0660")
@example("1\n")
def test_c7_only_plain_digits_are_ids(text: str) -> None:
    try:
        number = parse_id(text)
    except InvalidConfig:
        assert set(text) <= set("0123456789")
        return
    plain = text != "" and set(text) <= set("0123456789")
    assert (number == int(text)) if plain else number is None


@given(passwd=st.binary(max_size=200), group=st.binary(max_size=200), text=st.text(max_size=8))
@example(passwd=b"a:b:1:2", group=b"", text="a")
@example(passwd=b"a:::", group=b"::::", text="a")
def test_f9_no_file_leads_to_another_error_than_ours(
    tmp_path_factory: pytest.TempPathFactory, passwd: bytes, group: bytes, text: str
) -> None:
    made = Root(tmp_path_factory.mktemp("root"))
    (made.path / "etc/passwd").write_bytes(passwd)
    (made.path / "etc/group").write_bytes(group)
    failure: Failure | None = None
    found = ResolvedUser(uid=0, gid=0, additional_gids=(0,), home="/")
    try:
        found = resolve_user(made.fd, text)
    except Failure as e:
        failure = e
    finally:
        os.close(made.fd)
    assert failure is None or "\n" not in failure.message
    assert all(0 <= i <= MAX_ID for i in (found.uid, found.gid, *found.additional_gids))
    assert found.additional_gids[0] == found.gid
