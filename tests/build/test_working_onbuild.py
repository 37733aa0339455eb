"""Working containers of images with ONBUILD: what it asks for is done when they are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.build.working_rig import BASE, Scripts


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    """A store with the image, and the image `parent` with triggers."""
    made = Scripts(tmp_path_factory.mktemp("onbuild"))
    _fill(made)
    return made


def _fill(shop: Scripts) -> None:
    shop.fill()
    (shop.work / "context").mkdir()
    (shop.work / "context" / "file").write_text("content\n")
    shop.lines(f"""
        c=$(t from {BASE})
        t config --onbuild 'ARG WHO=nobody' --onbuild 'ENV WHO=$WHO-else' \\
            --onbuild 'COPY --chown=3:4 --chmod=640 context/f* /copied/' \\
            --onbuild 'WORKDIR /here' \\
            --onbuild 'RUN echo "$WHO $PWD"; cat /copied/file >read; echo told' \\
            --onbuild 'LABEL last=$WHO' $c
        t commit --rm -q $c parent
    """)


def test_files_are_copied_and_commands_run_as_in_a_build(shop: Scripts) -> None:
    """Of the current directory; the layer is the one of a build without other steps."""
    done = shop("""
        c=$(t from --name child parent); echo "[$c]"; t config --label made=1 $c
        t commit -q --rm --timestamp 7 $c committed >id
        printf 'FROM parent\\n' >Containerfile
        t build -q --squash --timestamp 7 -t built . >id
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[child]\n"
    assert "nobody-else /here\ntold\n" in done.stderr
    assert "STEP 1/2: COPY --chown=3:4" in done.stderr
    layer = shop.layer("committed")
    assert layer["copied/file"] == (0o640, 3, 4)
    assert layer == shop.layer("built")
    config = shop.config("committed").document["config"]
    assert (config["Labels"]["last"], config["Labels"]["made"]) == ("nobody-else", "1")
    assert (config["WorkingDir"], config["Env"][-1]) == ("/here", "WHO=nobody-else")
    assert "OnBuild" not in config


def test_quietly(shop: Scripts) -> None:
    done = shop("t rm $(t from --quiet parent) >gone")
    assert done.returncode == 0, done.stderr
    assert "STEP" not in done.stderr
    assert "told" in done.stderr


def test_an_image_that_is_pulled_for_it(shop: Scripts) -> None:
    lines = shop.lines("""
        t push -q parent oci:layout:parent; c=$(t from oci:layout:parent)
        t run $c cat /here/read; t rm $c >gone
    """)
    assert lines == ["content"]


def test_an_image_that_has_got_triggers_elsewhere(shop: Scripts) -> None:
    """What was looked at before it was pulled is not what the container is made of."""
    lines = shop.lines(f"""
        t push -q {BASE} oci:moved:x; t rm $(t from oci:moved:x) >id; rm -r moved
        t push -q parent oci:moved:x; c=$(t from --pull always oci:moved:x)
        t run $c cat /here/read; t rm $c >id
    """)
    assert lines == ["content"]


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        ("COPY absent /b", "absent"),
        ("RUN echo >/x; exit 3", "the command ended with exit code 3"),
        ("RUN --mount=target=/t true", "RUN --mount cannot be carried out here"),
        ("COPY --from=other a /b", "COPY --from cannot be carried out here"),
        ("RUN [1", "ended with exit code"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(shop: Scripts, trigger: str, said: str) -> None:
    done = shop(f"""
        c=$(t from {BASE}); t config --onbuild '{trigger}' $c; t commit --rm -q $c bad >id
        t from --name left bad
    """)
    assert done.returncode == 125
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert shop.names() == []


def test_in_a_chroot(tmp_path: Path) -> None:
    flat = Scripts(tmp_path, "flat")
    _fill(flat)
    lines = flat.lines("""
        c=$(t from --isolation chroot parent); m=$(t mount $c); cat $m/here/read; t rm $c >gone
    """)
    assert lines == ["content"]
