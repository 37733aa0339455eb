"""Working containers from the command line, as shell scripts use them: made, run in, changed,
looked into, committed, removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.runtime.spec.version import NEWEST
from tests.build.working_rig import BASE, Scripts


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    """A store with the image; tests take names of their own."""
    made = Scripts(tmp_path_factory.mktemp("working"))
    made.fill()
    return made


def test_a_script_builds_an_image(shop: Scripts) -> None:
    (shop.work / "src").mkdir()
    (shop.work / "src" / "one").write_text("1\n")
    lines = shop.lines(f"""
        c=$(t from {BASE}); echo "$c"
        t run "$c" -- sh -c 'echo made > /made; id -u'
        t config --cmd 'cat /made' --env A=b --workingdir /w --label k=v "$c"
        t copy --quiet --chown 1000:7 "$c" src rel/
        m=$(t mount "$c"); cat "$m/made"; echo seen > "$m/seen"
        t run "$c" sh -c 'cat /seen; echo later > /later'
        cat "$m/later"
        t umount "$c" >id; t mount
        t commit --quiet "$c" built
        t rm "$c" >gone; cmp id gone
    """)
    assert lines[:6] == ["small-working-container", "0", "made", "seen", "later", lines[5]]
    assert len(lines) == 6
    config = shop.config("built")
    assert config.document["config"]["Cmd"] == ["cat", "/made"]
    assert config.document["config"]["WorkingDir"] == "/w"
    assert config.env == ("A=b",)
    assert config.labels["k"] == "v"
    layer = shop.layer("built")
    assert layer["w/rel/one"][1:] == (1000, 7)
    assert {"made", "seen", "later"} <= set(layer)
    assert not {"proc/", "sys/", "dev/", "etc/resolv.conf"} & set(layer)
    assert len(config.diff_ids) == 2
    assert [step.empty_layer for step in config.history[-1:]] == [False]
    assert config.history[-1].comment == f"FROM {BASE}"


def test_the_image_says_what_it_stands_on(shop: Scripts) -> None:
    shop.lines(f"c=$(t from --name base-note {BASE}); t commit --rm -q $c noted")
    notes = shop.manifest("noted").annotations
    assert notes["org.opencontainers.image.base.name"] == BASE
    assert notes["org.opencontainers.image.base.digest"].startswith("sha256:")


def test_names_are_made_of_the_image_and_counted(shop: Scripts) -> None:
    lines = shop.lines(f"t from {BASE}; t from {BASE}; t from scratch; t rm -a >/dev/null")
    assert lines == ["small-working-container", "small-working-container-1", "working-container"]
    assert shop.names() == []


def test_rename_refuses_taken_names(shop: Scripts) -> None:
    done = shop("""
        t from --name first scratch; t from --name second scratch
        t rename first third
        t rename second third || echo "status $?"
        t rename third third || echo "status $?"
        t ps --format '{{.ContainerName}}'
        t rm third second >/dev/null
    """)
    assert done.stdout.split("\n") == [
        "first", "second", "status 125", "status 125", "second", "third", ""
    ] or done.stdout.split("\n") == [
        "first", "second", "status 125", "status 125", "third", "second", ""
    ]  # fmt: skip
    assert "already in use" in done.stderr


@pytest.mark.parametrize(
    "command",
    ["rm nope", "umount nope", "mount nope", "rename nope x", "commit nope x",
     "config --cmd x nope", "copy --chown 0:0 nope a b", "add nope a"],
)  # fmt: skip
def test_an_unknown_container_is_status_125(shop: Scripts, command: str) -> None:
    done = shop(f"t {command}")
    assert done.returncode == (1 if command.startswith("copy") else 125)
    assert done.stdout == ""


def test_run_gives_the_exit_code_and_stdin(shop: Scripts) -> None:
    done = shop(
        f"""
        c=$(t from --name coder {BASE})
        t run $c sh -c 'exit 7' </dev/null || echo "status $?"
        t run $c nowhere </dev/null || echo "status $?"
        t run $c /etc </dev/null || echo "status $?"
        t run $c || echo "status $?"
        t run --valid-exit-codes 0,7 $c sh -c 'exit 7' </dev/null
        t run $c cat
        t rm $c >/dev/null
        """,
        stdin="from outside\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "status 7", "status 127", "status 126", "status 125", "from outside"
    ]  # fmt: skip


def test_run_takes_the_options_of_one_command(shop: Scripts) -> None:
    (shop.work / "shown").mkdir()
    (shop.work / "shown" / "file").write_text("of the host\n")
    lines = shop.lines(f"""
        c=$(t from --name opted {BASE}); t config --user joe --env A=1 $c
        t run $c -- sh -c 'id -u; echo $A'
        t run --user 5:6 --env A=2 --workingdir /tmp $c -- sh -c 'id -u; id -g; echo $A; pwd'
        t run -v "$PWD/shown:/shown:ro" $c cat /shown/file
        t run --mount type=bind,source=shown,target=/also,ro $c cat /also/file
        t run --mount type=tmpfs,target=/mem $c grep -c ' /mem tmpfs' /proc/mounts
        t run --network none $c sh -c 'ls /sys/class/net'
        t run $c ls /
        t rm $c >/dev/null
    """)
    assert lines[:9] == ["1000", "1", "5", "6", "2", "/tmp", "of the host", "of the host", "1"]
    assert lines[9] == "lo"
    assert not {"shown", "also", "mem"} & set(lines[10:])


def test_settings_of_from_are_kept_for_run(shop: Scripts) -> None:
    lines = shop.lines(f"""
        c=$(t from --name kept --cap-drop ALL --add-host there:192.0.2.9 --network none {BASE})
        t run $c sh -c 'grep CapEff /proc/self/status; cat /etc/hosts'
        t inspect --format '{{{{.Capabilities}}}}' $c
        t rm $c >/dev/null
    """)
    assert lines[0].split() == ["CapEff:", "0000000000000000"]
    assert any(line.split() == ["192.0.2.9", "there"] for line in lines)
    assert lines[-1] == "[]"


def test_isolation_that_is_none_is_refused(shop: Scripts) -> None:
    done = shop("t from --isolation nonsense scratch")
    assert (done.returncode, done.stdout) == (125, "")
    assert shop.names() == []


def test_two_commands_take_turns(shop: Scripts) -> None:
    lines = shop.lines(f"""
        c=$(t from --name turns {BASE})
        for n in 1 2 3; do
            t run $c sh -c "echo begin >>/log; sleep 0.2; echo end >>/log" &
        done; wait
        t run $c cat /log
        t rm $c >/dev/null
    """)
    assert lines == ["begin", "end"] * 3


def test_containers_are_listed_as_buildah_does(shop: Scripts) -> None:
    found = shop.json(f"""
        t from --name listed {BASE} >/dev/null; t from --name empty scratch >/dev/null
        t containers --json
    """)
    assert [set(each) for each in found] == [
        {"id", "builder", "imageid", "imagename", "containername"}
    ] * 2
    assert [each["imagename"] for each in found] == [BASE, "scratch"]
    lines = shop.lines("""
        t containers --noheading --notruncate
        t containers -q --filter name=list; t ls -n --filter ancestor=small
        t rm -a >/dev/null; t ps; t ps --json
    """)
    assert lines[0].split() == [found[0]["id"], "*", found[0]["imageid"], BASE, "listed"]
    assert lines[2] == found[0]["id"]
    assert lines[3].split() == [found[0]["id"][:12], "*", found[0]["imageid"][:12], BASE, "listed"]
    assert lines[4:] == [
        "CONTAINER ID  BUILDER  IMAGE ID     IMAGE NAME                       CONTAINER NAME",
        "null",
    ]


def test_inspect_has_buildahs_shape(shop: Scripts) -> None:
    found = shop.json(f"""
        c=$(t from --name looked {BASE}); t config --env A=b --healthcheck 'CMD true' $c
        t inspect $c
    """)
    assert list(found)[:9] == ["Type", "FromImage", "FromImageID", "FromImageDigest", "Config",
                               "Manifest", "Container", "ContainerID", "MountPoint"]  # fmt: skip
    assert found["Container"] == "looked"
    assert found["OCIv1"]["config"]["Env"] == ["A=b"]
    assert "Healthcheck" not in found["OCIv1"]["config"]
    assert found["Docker"]["config"]["Healthcheck"]["Test"] == ["CMD", "true"]
    assert json.loads(found["Config"])["architecture"]
    lines = shop.lines("""
        t inspect -f '{{.OCIv1.Config.Env}} {{.Docker.Config.Healthcheck.Test}} {{.FromImage}}' \
            looked
        t inspect --type image -f '{{.FromImage}}|{{.ContainerID}}' small
        t inspect -f '{{.FromImageID}}' small
        t rm looked >/dev/null
    """)
    assert lines[0] == f"[A=b] [CMD true] {BASE}"
    assert lines[1] == f"{BASE}|"
    assert lines[2] == found["FromImageID"]


def test_cidfile_and_pull_never(shop: Scripts) -> None:
    lines = shop.lines(f"""
        t from --name filed --cidfile cid {BASE}; cat cid; echo
        t inspect -f '{{{{.ContainerID}}}}' filed; t rm filed >/dev/null
    """)
    assert lines[1] == lines[2]
    done = shop("t from --pull never nothing-of-the-sort")
    assert done.returncode == 125
    assert "not known" in done.stderr


def test_unshare_mounts_containers(shop: Scripts) -> None:
    lines = shop.lines(f"""
        c=$(t from --name apart {BASE})
        t unshare --mount place=$c sh -c 'cat $place/etc/passwd; echo x > $place/written'
        t run $c cat /written; t mount; t rm $c >/dev/null
    """)
    assert lines[0].startswith("root:x:0:0")
    assert lines[-1] == "x"


@pytest.mark.parametrize(
    "option",
    ["--cgroup-parent=/x", "--decryption-key=k", "--userns-uid-map=0:0:1", "--network=ns:/x",
     "--pid=host"],
)  # fmt: skip
def test_from_refuses_what_it_cannot_do(shop: Scripts, option: str) -> None:
    done = shop(f"t from {option} scratch")
    assert (done.returncode, shop.names()) == (125, [])
    assert "not supported" in done.stderr or "cannot be joined" in done.stderr


def test_onbuild_of_the_image_is_carried_out(shop: Scripts) -> None:
    lines = shop.lines(f"""
        c=$(t from --name parent {BASE})
        t config --onbuild 'ENV X=1 Y=two' --onbuild 'WORKDIR /on' $c
        t commit --rm -q --format docker $c parent >/dev/null; d=$(t from --name child parent)
        t inspect -f '{{{{.OCIv1.Config.Env}}}} {{{{.OCIv1.Config.WorkingDir}}}}' $d
        t inspect -f '{{{{.Docker.Config.OnBuild}}}}' $d; t rm $d >/dev/null
    """)
    assert lines == ["[X=1 Y=two] /on", "[]"]


@pytest.mark.parametrize("driver", ["flat"])
def test_other_drivers_show_the_same(tmp_path: Path, driver: str) -> None:
    flat = Scripts(tmp_path, driver)
    flat.fill()
    (flat.work / "f").write_text("f\n")
    lines = flat.lines(f"""
        c=$(t from {BASE}); t copy -q --chown 3:4 $c f /f; m=$(t mount $c); cat $m/f
        t run $c sh -c 'cat /f; echo n > /n'; cat $m/n; t commit --rm -q $c done >/dev/null
    """)
    assert lines == ["f", "f", "n"]
    assert flat.layer("done")["f"][1:] == (3, 4)
    assert set(flat.layer("done")) <= {"f", "n", "./"}


def test_rmi_takes_working_containers_along_by_force_alone(shop: Scripts) -> None:
    shop.lines(f"""
        c=$(t from {BASE}); t config --env A=forced $c; t commit -q --rm $c forced
        t tag forced forced:two; t from --name forced-one forced; t from --name forced-two forced
        t mount forced-one
    """)
    assert shop.lines("t rmi -f forced:two") == ["Untagged: localhost/forced:two"]
    refused = shop("t rmi forced")
    assert refused.returncode == 2
    assert "image used by" in refused.stderr
    assert all(name in refused.stderr for name in ("forced-one", "forced-two", "--force"))
    assert {"forced-one", "forced-two"} <= set(shop.names())
    gone = shop.lines("t rmi -f forced")
    assert gone[0] == "Untagged: localhost/forced:latest"
    assert gone[1].startswith("Deleted: ")
    assert not {"forced-one", "forced-two"} & set(shop.names())
    assert shop("t rmi -f forced").returncode == 1


def test_the_version_of_the_runtime_spec_is_the_runtimes(shop: Scripts) -> None:
    assert shop.json("t version --json")["runtimeSpec"] == NEWEST
