"""What a commit of a working container makes: layers, config, history, times, places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.build.working_rig import BASE, Scripts


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    """A store with the image and a container `changed` of it that has a change."""
    made = Scripts(tmp_path_factory.mktemp("committing"))
    made.fill()
    made.lines(f"t from --name changed {BASE}; t run changed sh -c 'echo x > /x; rm /etc/group'")
    return made


def test_changes_become_one_layer_with_whiteouts(shop: Scripts) -> None:
    shop.lines("t commit -q changed plain")
    assert set(shop.layer("plain")) == {"x", "etc/", "etc/.wh.group"}
    assert len(shop.config("plain").diff_ids) == 2


def test_e94_squash_keeps_what_is_left(shop: Scripts) -> None:
    shop.lines("t commit -q --squash changed squashed; t commit -q --squash changed again")
    layer = shop.layer("squashed")
    assert {"x", "bin/busybox", "etc/passwd", "home/joe/"} <= set(layer)
    assert not any(".wh." in path for path in layer)
    assert "etc/group" not in layer
    assert layer["home/joe/"] == (0o750, 1000, 1000)
    config = shop.config("squashed")
    assert len(config.diff_ids) == 1
    assert len([step for step in config.history if not step.empty_layer]) == 1
    assert config.diff_ids == shop.config("again").diff_ids


def test_squashed_layers_are_those_of_a_build(shop: Scripts) -> None:
    """The same members in the same order: no root that no layer has, no other times."""
    shop.lines(f"""
        mkdir -p squashing; echo f >squashing/f; touch -d @1000 squashing/f
        printf '%s\\n' 'FROM {BASE}' 'COPY f /f' >squashing/Containerfile
        t build -q --squash-all --timestamp 7 -t all squashing
        t build -q --squash-all -t all-kept squashing
        c=$(t from {BASE}); t copy -q $c squashing/f /f
        t commit -q --squash --timestamp 7 $c one
        t commit -q --squash $c one-kept
        t commit -q --squash --source-date-epoch 500 --rewrite-timestamp $c one-early
        t rm $c >gone
    """)
    assert "./" not in shop.layer("one")
    assert shop.config("one-kept").diff_ids == shop.config("all-kept").diff_ids
    assert shop.layer("one").keys() == shop.layer("all").keys()
    assert len({shop.config(name).diff_ids for name in ("one", "one-kept", "one-early")}) == 3


def test_squash_of_nothing_makes_no_layer(shop: Scripts) -> None:
    shop.lines("""
        c=$(t from scratch); t config --env A=b $c; t commit -q --rm --squash $c bare
    """)
    assert shop.config("bare").diff_ids == ()


def test_e95_only_the_config_changed(shop: Scripts) -> None:
    shop.lines(f"""
        c=$(t from {BASE}); t config --env ONLY=config $c; t commit -q --rm $c meta
        d=$(t from scratch); t config --env ONLY=config $d; t commit -q --rm $d nothing
    """)
    base, meta = shop.config(BASE), shop.config("meta")
    assert meta.diff_ids == base.diff_ids
    assert meta.env == ("ONLY=config",)
    assert meta.history[-1].empty_layer
    assert shop.config("nothing").diff_ids == ()
    assert shop.manifest("nothing").layers == ()


def test_e90_history_counts_the_layers(shop: Scripts) -> None:
    shop.lines(f"""
        c=$(t from --name told {BASE}); echo f >f
        t run --add-history $c touch /y; t copy -q --add-history $c f /f
        t config --add-history --label a=b --user joe $c
        t config --created-by 'a hand' --history-comment why $c
        t commit -q --rm $c told
        t from --name quiet {BASE}; t commit -q --rm --omit-history quiet untold
    """)
    config = shop.config("told")
    assert sum(not step.empty_layer for step in config.history) == len(config.diff_ids)
    told = [(step.created_by, step.comment) for step in config.history[-5:]]
    assert told[0] == ("touch /y", "")
    assert told[1][0].startswith("/bin/sh -c #(nop) COPY file:")
    assert told[1][0].endswith(" in /f ")
    assert told[2][0] == "/bin/sh -c #(nop) USER joe"
    assert told[3][0] == "/bin/sh -c #(nop) LABEL a=b"
    assert told[4] == ("a hand", "why")
    assert "history" not in shop.config("untold").document


def test_timestamps_make_commits_repeatable(shop: Scripts) -> None:
    lines = shop.lines("""
        t commit -q --timestamp 1700000000 changed one; t commit -q --timestamp 1700000000 changed
        SOURCE_DATE_EPOCH=1600000000 t commit -q --rewrite-timestamp changed epoch
        SOURCE_DATE_EPOCH=1600000000 t commit -q --rewrite-timestamp changed
    """)
    assert lines[0] == lines[1]
    assert lines[2] == lines[3]
    assert shop.config("one").created == "2023-11-14T22:13:20Z"
    assert shop.config("epoch").created == "2020-09-13T12:26:40Z"
    assert {step.created for step in shop.config("epoch").history[-1:]} == {"2020-09-13T12:26:40Z"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--timestamp 1 --source-date-epoch 2", "together"),
        ("--rewrite-timestamp", "--source-date-epoch"),
        ("--source-date-epoch soon", "whole seconds"),
        ("--format v2s1", "expected oci or docker"),
        ("--sign-by me", "images of the store are not signed"),
        ("--encrypt-layer 0", "not supported"),
        ("--sbom syft", "not supported"),
        ("--change 'RUN x'", "cannot be carried out"),
        ("--add-file nowhere", "nowhere"),
    ],
)
def test_commit_refuses(shop: Scripts, options: str, said: str) -> None:
    done = shop(f"t commit -q {options} changed refused")
    assert done.returncode == 125
    assert said in done.stderr
    assert shop("t inspect --type image refused").returncode != 0


def test_e92_formats_have_their_own_types(shop: Scripts) -> None:
    shop.lines("""
        t config --hostname there --healthcheck 'CMD-SHELL true' changed
        t commit -q --format docker changed dockerish; t commit -q changed ociish
    """)
    docker, oci = shop.manifest("dockerish"), shop.manifest("ociish")
    assert docker.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    assert docker.layers[0].media_type == "application/vnd.docker.image.rootfs.diff.tar"
    assert oci.media_type == "application/vnd.oci.image.manifest.v1+json"
    assert shop.config("dockerish").document["config"]["Hostname"] == "there"
    assert "Hostname" not in shop.config("ociish").document["config"]
    check = shop.config("dockerish").document["config"]["Healthcheck"]
    assert check == {"Test": ["CMD-SHELL", "true"], "Interval": 30 * 10**9,
                     "Timeout": 30 * 10**9, "Retries": 3}  # fmt: skip


def test_options_of_one_commit_leave_the_container(shop: Scripts) -> None:
    (shop.work / "over.json").write_text(json.dumps({"author": "A", "config": {"User": "joe"}}))
    (shop.work / "added").write_text("added\n")
    shop.lines("""
        t config --env GONE=1 changed
        t commit -q --change 'CMD ["a", "b"]' --change 'LABEL l=m' --config over.json \
            --unsetenv GONE --annotation n=o --add-file added:/opt/added changed special
        t commit -q changed usual
    """)
    special, usual = shop.config("special").document, shop.config("usual").document
    assert special["config"]["Cmd"] == ["a", "b"]
    assert special["config"]["Labels"]["l"] == "m"
    assert (special["author"], special["config"]["User"]) == ("A", "joe")
    assert "Env" not in special["config"]
    assert shop.manifest("special").annotations["n"] == "o"
    assert shop.layer("special")["opt/added"][0] == 0o644
    assert usual["config"]["Env"] == ["GONE=1"]
    assert "Cmd" not in usual["config"]
    assert "opt/added" not in shop.layer("usual")


def test_e92_docker_base_gives_oci_layers(shop: Scripts) -> None:
    shop.lines("""
        t commit -q --format docker changed d-base; c=$(t from --name over-docker d-base)
        t run $c touch /z; t commit -q --rm $c over
    """)
    manifest = shop.manifest("over")
    assert {layer.media_type for layer in manifest.layers} == {
        "application/vnd.oci.image.layer.v1.tar"
    }
    assert len(manifest.layers) == 3


def test_commit_to_other_places(shop: Scripts, tmp_path: Path) -> None:
    lines = shop.lines(f"""
        t commit -q --timestamp 9 --iidfile iid changed dir:{tmp_path}/dir; cat iid; echo
        t commit -q --timestamp 9 changed oci:{tmp_path}/layout:tag
        t inspect --raw oci:{tmp_path}/layout:tag
    """)
    assert lines[1] == f"sha256:{lines[0]}"
    document = json.loads((tmp_path / "dir" / "manifest.json").read_text())
    assert document["config"]["digest"] == lines[1]
    assert document["layers"][1]["mediaType"].endswith(".tar")
    written = json.loads("\n".join(lines[3:]))
    assert written["config"]["digest"] == lines[1]
    assert written["layers"][1]["mediaType"].endswith("tar+gzip")


def test_a_commit_without_a_name_is_an_image_without(shop: Scripts) -> None:
    found = shop.lines("""
        i=$(t commit -q changed); t images --format "{{.Repository}} {{.ID}}"; echo $i
    """)
    assert f"<none> {found[-1][:12]}" in found


def test_an_image_that_a_container_uses_stays(shop: Scripts) -> None:
    done = shop("""
        t commit -q changed used >/dev/null; t from --name user used >/dev/null
        t rmi used || echo "status $?"; t run user cat /x; t rmi --force used >/dev/null
    """)
    assert done.stdout.splitlines() == ["status 2", "x"], done.stderr
