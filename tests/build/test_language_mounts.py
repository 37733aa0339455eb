"""The value of RUN --mount: fields, keys by kind, sizes, switches, late expansion."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.build.language.model import Mount
from imgtools.build.language.mounts import check_mount, mount_words, parse_mount
from imgtools.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/a", Mount(kind="bind", target="/a")),
        ("type=bind,source=b,dst=/a,from=c,rw", Mount(kind="bind", target="/a", source="b",
                                                      from_="c", read_only=False)),
        ("TYPE=BIND,Src=B,DESTINATION=/A,Ro", Mount(kind="bind", target="/A", source="B",
                                                    read_only=True)),
        ("readonly=false,target=/a", Mount(kind="bind", target="/a", read_only=False)),
        ("readwrite=0,target=/a", Mount(kind="bind", target="/a", read_only=True)),
        ("rw,ro,rw,target=/a", Mount(kind="bind", target="/a", read_only=False)),
        ("target=/a,target=/b", Mount(kind="bind", target="/b")),
        ("type=cache,id=x,target=/a,sharing=LOCKED,mode=0700,uid=1,gid=2,ro",
         Mount(kind="cache", id="x", target="/a", sharing="locked", mode=0o700, uid=1, gid=2,
               read_only=True)),
        ("type=cache,target=/a,from=img,source=/b",
         Mount(kind="cache", target="/a", from_="img", source="/b")),
        ("type=tmpfs,target=/a,size=64m", Mount(kind="tmpfs", target="/a", size=64 << 20)),
        ("type=secret,id=x", Mount(kind="secret", id="x")),
        ("type=secret,source=x,target=/a", Mount(kind="secret", id="x", source="x", target="/a")),
        ("type=secret,target=/a/b/", Mount(kind="secret", id="b", target="/a/b/")),
        ("type=secret,id=x,env=Y,required,mode=440,uid=7",
         Mount(kind="secret", id="x", env="Y", required=True, mode=0o440, uid=7)),
        ("type=secret,id=x,env=", Mount(kind="secret", id="x", env="x")),
        ("required=true,type=secret,id=x", Mount(kind="secret", id="x", required=True)),
        ("type=ssh", Mount(kind="ssh")),
        ("type=ssh,id=a,target=/s,required=False",
         Mount(kind="ssh", id="a", target="/s", required=False)),
        ('type=bind,"source=a,b","target=/c""d"',
         Mount(kind="bind", source="a,b", target='/c"d')),
    ],
)  # fmt: skip
def test_mounts_are_read(text: str, mount: Mount) -> None:
    assert parse_mount(text) == mount


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("type=bnd,target=/a", "type=bnd does not exist"),
        ("type=,target=/a", "type= does not exist"),
        ("target=/a,targt=/b", "there is no targt"),
        ("target", "target has no value"),
        ("target=/a,", "there is no "),
        ("type=bind,mode=755,target=/a", "mode is not for mounts of type bind"),
        ("type=tmpfs,uid=1,target=/a", "uid is not for mounts of type tmpfs"),
        ("gid=1,target=/a", "gid is not for mounts of type bind"),
        ("type=cache,size=1,target=/a", "size is not for mounts of type cache"),
        ("type=cache,required,target=/a", "required is not for mounts of type cache"),
        ("type=bind,env=A,target=/a", "env is not for mounts of type bind"),
        ("type=tmpfs,sharing=shared,target=/a", "sharing is not for mounts of type tmpfs"),
        ("type=cache,sharing=some,target=/a", "sharing=some does not exist"),
        ("type=cache,target=/a,mode=9", "mode=9: expected octal digits"),
        ("type=cache,target=/a,mode=", "mode=: expected octal digits"),
        ("type=cache,target=/a,uid=-1", "uid=-1: expected a number"),
        ("type=cache,target=/a,uid=4294967296", "uid=4294967296: expected a number"),
        ("type=cache,target=/a,gid=" + "1" * 9999, "expected a number"),
        ("type=cache,target=/a,gid=١", "expected a number"),
        ("target=/a,ro=maybe", "readonly=maybe: expected true or false"),
        ("target=/a,rw=", "readwrite=: expected true or false"),
        ("type=secret", "needs an id"),
        ("type=secret,id=a,source=b", "id or source, not both"),
        ("type=secret,id=a,from=b", "a secret is from nowhere"),
        ('target="/a', "a quote is in the wrong place"),
        ('"target=/a', "a quote is in the wrong place"),
        ('"target=/a"b', "a quote is in the wrong place"),
    ],
)
def test_mounts_that_are_wrong_are_refused(text: str, part: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_mount(text)
    assert part in caught.value.message
    assert caught.value.message.startswith("--mount")


def test_a_misspelt_key_or_kind_gets_the_one_that_was_meant() -> None:
    for text, hint in (
        ("targt=/a", "target"),
        ("type=scret", "secret"),
        ("type=cache,sharing=lock", "locked"),
    ):
        with pytest.raises(InvalidInput) as caught:
            parse_mount(text)
        assert caught.value.hint == f"did you mean {hint}?"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("1", 1), ("10b", 10), ("2k", 2048), ("2K", 2048), ("2kb", 2048), ("2KiB", 2048),
        ("1.5m", 3 << 19), (".5g", 1 << 29), ("3 MB", 3 << 20), ("1t", 1 << 40), ("1p", 1 << 50),
    ],
)  # fmt: skip
def test_sizes_are_binary(text: str, size: int) -> None:
    assert parse_mount(f"type=tmpfs,target=/a,size={text}").size == size


@pytest.mark.parametrize(
    "text", ["", "m", "-1", "1x", "1bb", "1kk", "1mibb", "1e3", "9" * 30, "8192p", "inf"]
)
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected bytes, or a size such as 64m"):
        parse_mount(f"type=tmpfs,target=/a,size={text}")


@pytest.mark.parametrize("text", ["type=$t,target=$x", "from=a$,target=/x", "from=a", "$x", "ro"])
def test_what_variables_may_mend_waits(text: str) -> None:
    check_mount(text)


@pytest.mark.parametrize("text", ["from=$a", "target=/x,FROM=a${b}", "", 'a"b'])
def test_what_no_variable_can_mend_does_not_wait(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_mount(text)


def test_words_are_expanded_after_they_are_split() -> None:
    words = mount_words("type=bind,from=$x,ro,target=$x", lambda word: word.replace("$x", 'a,"b'))
    assert words == 'type=bind,from=$x,ro,"target=a,""b"'
    assert parse_mount(words).target == 'a,"b'


VALUES = st.text(st.sampled_from(string.ascii_letters + ',"=$ /'), min_size=1)


@given(st.dictionaries(st.sampled_from(["source", "target", "id"]), VALUES, min_size=1))
def test_any_value_survives_its_expansion(values: dict[str, str]) -> None:
    text = ",".join(f"{key}={key}" for key in values)
    mount = parse_mount(mount_words(text, values.__getitem__))
    assert {key: getattr(mount, key) for key in values} == values


@pytest.mark.parametrize("read", [parse_mount, check_mount, lambda text: mount_words(text, str)])
@given(text=st.text(max_size=60))
def test_any_text_is_a_mount_or_refused(read: Callable[[str], object], text: str) -> None:
    with contextlib.suppress(InvalidInput):
        read(text)
