"""What a kernel with many ids would let a container's user do: pure decisions."""

from __future__ import annotations

import struct

import pytest

from engine.emulation.attributes import Attribute, Decision, decide
from engine.emulation.caller import ROOT, Caller
from engine.emulation.calls import Kind, Variant, become, packed_groups, variants
from engine.emulation.filters import CREDENTIALS, user_filter
from engine.emulation.notes import UNCHANGED
from engine.runtime.seccomp.filter import FLAG_NEW_LISTENER
from engine.storage.options import Owner

JOE = Caller(uid=1000, gid=100, groups=frozenset((10,)), capabilities=frozenset())
GIVER = Caller(uid=1000, gid=100, capabilities=frozenset(("CAP_CHOWN",)))
OWN, OTHER, SHARED = Owner(uid=1000, gid=100), Owner(uid=0, gid=0), Owner(uid=1000, gid=7)


@pytest.mark.parametrize(
    ("owner", "uid", "gid", "allowed"),
    [
        (OWN, 1000, 100, True),
        (OWN, UNCHANGED, 100, True),
        (OWN, UNCHANGED, 10, True),
        (OWN, 1000, UNCHANGED, True),
        (OWN, 0, UNCHANGED, False),
        (OWN, 1001, 100, False),
        (OWN, 1000, 0, False),
        (SHARED, 1000, 7, True),
        (SHARED, UNCHANGED, 8, False),
        (OTHER, UNCHANGED, UNCHANGED, True),
        (OTHER, 1000, UNCHANGED, False),
        (OTHER, 0, UNCHANGED, False),
        (OTHER, UNCHANGED, 100, False),
        (Owner(uid=5, gid=100), 5, 100, False),
    ],
)
def test_chown(owner: Owner, uid: int, gid: int, *, allowed: bool) -> None:
    """As chown_ok and chgrp_ok of the kernel; root and who has CAP_CHOWN may all."""
    assert JOE.may_chown(owner, uid, gid) == allowed
    assert ROOT.may_chown(owner, uid, gid)
    assert GIVER.may_chown(owner, uid, gid)


def test_attributes() -> None:
    """Capabilities of files are root's; ACLs the owner's."""
    acl = "system.posix_acl_access"
    assert [JOE.may_set(one, acl) for one in (OWN, SHARED, OTHER)] == [True, True, False]
    for name in ("security.capability", "security.x", "trusted.x"):
        assert not JOE.may_set(OWN, name)
        assert ROOT.may_set(OTHER, name)


@pytest.mark.parametrize(("id_", "root", "user"), [(0, "KERNEL", "NOTE"), (1000, "NOTE", "NOTE")])
def test_acls_that_name_an_id(id_: int, root: str, user: str) -> None:
    """What the kernel would store of a user's own id is 0, which layers must not say."""
    value = struct.pack("<IHHI", 2, 0x02, 6, id_)
    attribute = Attribute(name="system.posix_acl_access", value=value)
    assert decide(attribute) is Decision[root]
    assert decide(attribute, root=False) is Decision[user]
    nobody = Attribute(name=attribute.name, value=struct.pack("<IHHI", 2, 0x01, 6, 0xFFFFFFFF))
    assert decide(nobody, root=False) is Decision.KERNEL


@pytest.mark.parametrize(
    ("name", "narrow", "args", "wanted", "allowed"),
    [
        ("setuid", False, (1000, 7, 7), ("uid", (1000,)), True),
        ("setuid", False, (0,), ("uid", (0,)), False),
        ("setgid", False, (100,), ("gid", (100,)), True),
        ("setgid", False, (10,), ("gid", (10,)), False),
        ("setreuid", False, ((1 << 64) - 1, 1000, 5), ("uid", (UNCHANGED, 1000)), True),
        ("setresgid", False, (100, 100, 0), ("gid", (100, 100, 0)), False),
        ("setresuid", True, (0xFFFF, 1000, 1000), ("uid", (UNCHANGED, 1000, 1000)), True),
        ("setregid", True, (0x10064, 100), ("gid", (100, 100)), True),
    ],
)
def test_taking_ids(
    name: str,
    args: tuple[int, ...],
    wanted: tuple[str, tuple[int, ...]],
    *,
    narrow: bool,
    allowed: bool,
) -> None:
    """Users take their own; a group that they are in is none that they could take."""
    found = become(Variant(kind=Kind.BECOME, name=name, narrow=narrow), args)
    assert found == wanted
    assert JOE.may_become(*found) == allowed


@pytest.mark.parametrize(
    ("size", "narrow", "wanted"),
    [
        (0, False, b""),
        (2, False, struct.pack("=II", 7, 70000)),
        (9, True, struct.pack("=HH", 7, 65534)),
        (1, False, None),
        (-1, False, None),
    ],
)
def test_groups_are_told(size: int, wanted: bytes | None, *, narrow: bool) -> None:
    """In order, if there is room for all."""
    variant = Variant(kind=Kind.GROUPS, name="getgroups", narrow=narrow)
    if wanted is None:
        with pytest.raises(OSError, match="Invalid argument"):
            packed_groups(variant, (70000, 7), size)
    else:
        assert packed_groups(variant, (70000, 7), size) == wanted


def test_users_are_asked_about_what_the_kernel_would_not_know() -> None:
    assert user_filter("x86_64").flags == FLAG_NEW_LISTENER
    known = {one.name for one in variants("x86_64").values() if one.kind is Kind.BECOME}
    assert known == {name.removesuffix("32") for name in CREDENTIALS}
    assert known == {f"set{how}{kind}" for how in ("", "re", "res") for kind in ("uid", "gid")}
