"""`run --mount` in working containers: caches that builds have too, secrets and agents that no
image keeps, and what is refused."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.build.working_rig import BASE, Scripts

SECRET = "--secret id=s,src=secret"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    """A store with the image and a container `c`, and a secret."""
    made = Scripts(tmp_path_factory.mktemp("mounting"))
    made.fill()
    (made.work / "secret").write_text("hidden")
    made.lines(f"t from --name c {BASE}; t config --workingdir /work c")
    return made


def test_a_cache_is_kept_and_shared_with_builds(shop: Scripts) -> None:
    (shop.work / "Containerfile").write_text(
        f"FROM {BASE}\nRUN --mount=type=cache,id=both,target=/c cat /c/f; echo built >/c/g\n"
    )
    lines = shop.lines("""
        t run --mount type=cache,id=both,target=/c c sh -c 'echo first > /c/f'
        t run --mount type=cache,id=both,target=/elsewhere,ro c cat /elsewhere/f
        t build --network none -t fromcache . | grep -x first
        t run --mount type=cache,id=both,target=deep c cat /work/deep/g
        t run --mount type=cache,target=/c,mode=700,uid=7 c stat -c '%a %u' /c
        t run c sh -c 'ls -d /c /elsewhere /work/deep 2>/dev/null || echo gone'
    """)
    assert lines == ["first", "first", "built", "700 7", "gone"]


def test_secrets_are_shown_and_leave_nothing(shop: Scripts) -> None:
    lines = shop.lines(f"""
        t run {SECRET} --mount type=secret,id=s c sh -c 'cat /run/secrets/s; echo'
        t run {SECRET} --mount type=secret,id=s,target=/s,mode=0440,gid=9 c stat -c '%a %g' /s
        t run {SECRET} --mount type=secret,id=s,env=TOKEN c sh -c 'echo $TOKEN; ls /run/secrets||:'
        TOKEN=there t run --secret id=TOKEN --mount type=secret,id=TOKEN,target=/s c cat /s; echo
        t run --mount type=secret,id=other,target=/s c sh -c 'test -e /s || echo none'
        t commit -q c kept >/dev/null
    """)
    assert lines == ["hidden", "440 9", "hidden", "there", "none"]
    assert not [path for path in shop.layer("kept") if "secret" in path or path == "s"]
    assert "hidden" not in str(shop.config("kept").document)


def test_an_agent_has_a_socket_in_the_container(shop: Scripts) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(shop.work / "agent"))
        agent.listen()
        lines = shop.lines("""
            t run --ssh default=agent --mount type=ssh c sh -c 'echo $SSH_AUTH_SOCK
                test -S $SSH_AUTH_SOCK && echo socket'
            t run --ssh a=agent --mount type=ssh,id=a,target=/a,mode=666 c stat -c '%a' /a
            t run --mount type=ssh c sh -c 'echo ${SSH_AUTH_SOCK-none}'
        """)
    assert lines == ["/run/buildkit/ssh_agent.0", "socket", "666", "none"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("type=secret,id=x,required=true", "secret 'x' is required and was not given"),
        ("type=ssh,required", "ssh agent 'default' is required"),
        ("type=cache,from=image,target=/c", "from is not supported for working containers"),
        ("type=cache", "cannot be at /"),
        ("type=cache,target=/c,sharing=some", "sharing"),
        ("type=cache,target=/c,nope=1", "nope"),
        ("type=npipe,target=/c", "expected bind, tmpfs, cache, secret or ssh"),
        ("type=tmpfs,target=/c,nope=1", "nope"),
        ("type=bind,target=/c", "expected source="),
    ],
)
def test_what_is_refused(shop: Scripts, words: str, said: str) -> None:
    root = "t config --workingdir / c; " if words == "type=cache" else ""
    done = shop(f"{root}t run --mount {words} c true")
    assert done.returncode == 125
    assert said in done.stderr


def test_in_a_chroot_they_are_lent(tmp_path: Path) -> None:
    flat = Scripts(tmp_path, "flat")
    flat.fill()
    (flat.work / "secret").write_text("hidden")
    lines = flat.lines(f"""
        run() {{ t run --isolation chroot "$@"; }}
        t from --name c {BASE} >/dev/null
        run --mount type=cache,id=lent,target=/c c sh -c 'echo lent > /c/f'
        run --mount type=cache,id=lent,target=/c c cat /c/f
        run c sh -c 'test -e /c || echo gone'
    """)
    assert lines == ["lent", "gone"]
    done = flat(f"t run --isolation chroot {SECRET} --mount type=secret,id=s c true")
    assert done.returncode == 125
    assert "secret" in done.stderr
