"""Mount options: every one of the runtime-spec's table does what it says, nothing else passes
for one, and no value can add an option."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.errors import InvalidConfig
from engine.runtime.kernel import mounting as m
from engine.runtime.rootfs.model import MountOptions
from engine.runtime.rootfs.options import known_options, parse_options

# runtime-spec config.md, "Linux mount options": MUST, then SHOULD.
MUST = """
    async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime
    nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid
    nosymfollow private rbind relatime remount ro rprivate rshared rslave runbindable rw shared
    silent slave strictatime suid symfollow sync tmpcopyup unbindable
"""
SHOULD = """
    idmap rdev rdiratime rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime
    rnostrictatime rnosuid rnosymfollow rrelatime ratime rro rrw rstrictatime rsuid rsymfollow
"""
ATIME = m.MOUNT_ATTR__ATIME


@pytest.mark.parametrize("option", (MUST + SHOULD).split())
def test_an_option_of_the_specification_never_reaches_a_driver(option: str) -> None:
    assert parse_options((option,)).data == ()
    assert option in known_options()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {}),
        ("defaults", {}),
        ("ro", {"attr_set": m.MOUNT_ATTR_RDONLY}),
        ("rw", {"attr_clear": m.MOUNT_ATTR_RDONLY}),
        ("ro rw", {"attr_clear": m.MOUNT_ATTR_RDONLY}),
        ("rw ro", {"attr_set": m.MOUNT_ATTR_RDONLY}),
        (
            "nosuid nodev noexec nodiratime nosymfollow",
            {
                "attr_set": m.MOUNT_ATTR_NOSUID
                | m.MOUNT_ATTR_NODEV
                | m.MOUNT_ATTR_NOEXEC
                | m.MOUNT_ATTR_NODIRATIME
                | m.MOUNT_ATTR_NOSYMFOLLOW
            },
        ),
        (
            "suid dev exec diratime symfollow",
            {
                "attr_clear": m.MOUNT_ATTR_NOSUID
                | m.MOUNT_ATTR_NODEV
                | m.MOUNT_ATTR_NOEXEC
                | m.MOUNT_ATTR_NODIRATIME
                | m.MOUNT_ATTR_NOSYMFOLLOW
            },
        ),
        ("noatime", {"attr_set": m.MOUNT_ATTR_NOATIME, "attr_clear": ATIME}),
        ("strictatime", {"attr_set": m.MOUNT_ATTR_STRICTATIME, "attr_clear": ATIME}),
        ("relatime", {"attr_clear": ATIME}),
        ("noatime atime", {"attr_clear": ATIME}),
        ("strictatime nostrictatime", {"attr_clear": ATIME}),
        ("relatime norelatime", {}),
        ("rro", {"recursive_set": m.MOUNT_ATTR_RDONLY}),
        ("rrw rsuid", {"recursive_clear": m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID}),
        ("rnoatime", {"recursive_set": m.MOUNT_ATTR_NOATIME, "recursive_clear": ATIME}),
        ("rrelatime", {"recursive_clear": ATIME}),
        ("bind", {"bind": True}),
        ("rbind", {"bind": True, "recursive": True}),
        ("remount", {"remount": True}),
        ("idmap", {"idmap": True}),
        ("ridmap", {"idmap": True, "idmap_recursive": True}),
        ("tmpcopyup", {"copy_up": True}),
        ("private", {"propagation": ((m.MS_PRIVATE, False),)}),
        ("rslave shared", {"propagation": ((m.MS_SLAVE, True), (m.MS_SHARED, False))}),
        ("runbindable", {"propagation": ((m.MS_UNBINDABLE, True),)}),
        ("sync dirsync", {"flags": (b"sync", b"dirsync")}),
        ("sync async", {"flags": (b"async",)}),
        ("lazytime nolazytime mand", {"flags": (b"nolazytime", b"mand")}),
        ("iversion noiversion silent loud", {}),
        ("copy-symlink", {"copy_symlink": True}),
        ("src-nofollow dest-nofollow", {"source_nofollow": True, "destination_nofollow": True}),
        ("size=64k mode=755", {"data": ((b"size", b"64k"), (b"mode", b"755"))}),
        ("newinstance", {"data": ((b"newinstance", None),)}),
    ],
)
def test_options_are_sorted_by_what_they_do(options: str, expected: dict[str, object]) -> None:
    assert parse_options(tuple(options.split())) == MountOptions(**expected)  # type: ignore[arg-type]


def test_f5_a_value_cannot_add_an_option() -> None:
    parsed = parse_options(("size=1,suid,rshared", "context=a=b"))
    assert parsed == MountOptions(data=((b"size", b"1,suid,rshared"), (b"context", b"a=b")))


@pytest.mark.parametrize("option", ["", "=x", "a\0b", "size=1\0", "idmap=uids=0-0-1", "x" * 70000])
def test_what_is_no_option_is_refused(option: str) -> None:
    with pytest.raises(InvalidConfig):
        parse_options((option,))


def test_too_many_options_are_refused() -> None:
    with pytest.raises(InvalidConfig):
        parse_options(("ro",) * 1025)


@given(st.lists(st.sampled_from(known_options()), max_size=8))
def test_no_attribute_is_set_and_cleared_at_once(options: list[str]) -> None:
    parsed = parse_options(tuple(options))
    assert not parsed.attr_set & parsed.attr_clear & ~ATIME
    assert not parsed.recursive_set & parsed.recursive_clear & ~ATIME


@given(st.text(max_size=30))
def test_any_text_is_an_option_or_refused(option: str) -> None:
    try:
        parsed = parse_options((option,))
    except InvalidConfig:
        return
    if parsed.data:
        key, value = parsed.data[0]
        joined = key if value is None else key + b"=" + value
        assert joined == option.encode("utf-8", "surrogateescape")
