"""What names of images in a store mean, and where the store is."""

from __future__ import annotations

import pytest

from engine.storage.location import (
    StorageConf,
    StoreFlags,
    User,
    conf_files,
    locate,
    parse_conf,
)
from engine.storage.names import Match, StorageName, StoreSpec, find, normalised, parse_storage_name
from engine.storage.options import StoreLocation
from engine.storage.transport import located
from imgtools.errors import ImageNotFound, InvalidInput, InvalidReference, Unsupported

ID, OTHER = "ab" * 32, "ac" * 32
DIGEST = f"sha256:{'1' * 64}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", StorageName(text="busybox")),
        ("quay.io/a/b:1", StorageName(text="quay.io/a/b:1")),
        (f"a@{DIGEST}", StorageName(text=f"a@{DIGEST}")),
        (f"a:1@{ID}", StorageName(text="a:1", image_id=ID)),
        (f"@{ID}", StorageName(image_id=ID)),
        ("@abc123", StorageName(text="abc123")),
        (ID, StorageName(text=ID)),
        ("[/r]a", StorageName(text="a", spec=StoreSpec(graph_root="/r"))),
        ("[vfs@/r]a", StorageName(text="a", spec=StoreSpec(driver="vfs", graph_root="/r"))),
        (
            "[overlay@/r+/run:x=1,y]a:t",
            StorageName(
                text="a:t",
                spec=StoreSpec(
                    driver="overlay", graph_root="/r", run_root="/run", options=("x=1", "y")
                ),
            ),
        ),
    ],
)
def test_reference_is_parsed_as_in_containers_image(text: str, expected: StorageName) -> None:
    assert parse_storage_name(text) == expected


@pytest.mark.parametrize(
    "text", ["", "[]a", "[x", "[vfs@r]a", "[/r]", "UPPER", "a@zz", f"a b@{ID}", "@", "a:b:c"]
)
def test_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_storage_name(text)


NAMES = {
    "docker.io/library/busybox:latest": "b1" * 32,
    "docker.io/library/both:latest": "d1" * 32,
    "localhost/both:latest": "d2" * 32,
    "quay.io/team/app:2": "a1" * 32,
    "quay.io/team/twin:latest": "e1" * 32,
    "ghcr.io/team/twin:latest": "e2" * 32,
    f"quay.io/pinned@{DIGEST}": "f1" * 32,
}
IDS = [*NAMES.values(), "abc0" * 16, "abc1" * 16]
DIGESTS = {
    f"docker.io/library/busybox@{DIGEST}": ["b1" * 32],
    f"quay.io/pinned@{DIGEST}": ["f1" * 32],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", Match(image_id="b1" * 32, name="docker.io/library/busybox:latest")),
        (
            "docker.io/busybox:latest",
            Match(image_id="b1" * 32, name="docker.io/library/busybox:latest"),
        ),
        ("both", Match(image_id="d2" * 32, name="localhost/both:latest")),
        ("docker.io/both", Match(image_id="d1" * 32, name="docker.io/library/both:latest")),
        ("team/app:2", Match(image_id="a1" * 32, name="quay.io/team/app:2")),
        ("app:2", Match(image_id="a1" * 32, name="quay.io/team/app:2")),
        ("ghcr.io/team/twin", Match(image_id="e2" * 32, name="ghcr.io/team/twin:latest")),
        ("b1b1b1", Match(image_id="b1" * 32)),
        ("b1" * 32, Match(image_id="b1" * 32)),
        (f"sha256:{'b1' * 32}", Match(image_id="b1" * 32)),
        ("abc0", Match(image_id="abc0" * 16)),
        (f"busybox@{DIGEST}", Match(image_id="b1" * 32)),
        (f"busybox:1@{DIGEST}", Match(image_id="b1" * 32)),
        (
            f"quay.io/pinned@{DIGEST}",
            Match(image_id="f1" * 32, name=f"quay.io/pinned@{DIGEST}"),
        ),
    ],
)
def test_what_people_type_is_found(text: str, expected: Match) -> None:
    assert find(text, NAMES, IDS, DIGESTS) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nothing", ImageNotFound),
        ("app", ImageNotFound),  # of another tag
        ("quay.io/busybox", ImageNotFound),
        ("pp:2", ImageNotFound),  # not a whole component
        ("b1", ImageNotFound),  # too short for an id
        (f"both@{DIGEST}", ImageNotFound),
        ("team/twin", InvalidReference),
        ("abc", InvalidReference),
        ("Not A Name", ImageNotFound),
    ],
)
def test_what_is_not_there_or_not_clear_is_refused(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        find(text, NAMES, IDS, DIGESTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "localhost/a:latest"),
        ("a/b:1", "localhost/a/b:1"),
        ("localhost/a", "localhost/a:latest"),
        ("docker.io/a", "docker.io/library/a:latest"),
        ("h:5000/a", "h:5000/a:latest"),
    ],
)
def test_new_names_are_normalised(text: str, expected: str) -> None:
    assert normalised(text) == expected


def test_a_digest_is_no_new_name() -> None:
    with pytest.raises(InvalidReference):
        normalised(f"a@{DIGEST}")


ROOT = User(uid=0, name="root", home="/root")
ANN = User(uid=1000, name="ann", home="/home/ann", env={"XDG_RUNTIME_DIR": "/run/user/1000"})
CONF = StorageConf(driver="overlay", graph_root="/data/$UID", run_root="/run/data")


@pytest.mark.parametrize(
    ("user", "conf", "flags", "own", "root", "runroot", "driver"),
    [
        (ROOT, StorageConf(), StoreFlags(), False,
         "/var/lib/containers/storage", "/run/containers/storage", ""),
        (ANN, StorageConf(), StoreFlags(), False,
         "/home/ann/.local/share/containers/storage", "/run/user/1000/containers", ""),
        (User(uid=7, home="/h"), StorageConf(), StoreFlags(), False,
         "/h/.local/share/containers/storage", "/tmp/storage-run-7/containers", ""),
        (User(uid=7, home="/h", env={"XDG_DATA_HOME": "/d"}), StorageConf(), StoreFlags(), False,
         "/d/containers/storage", "/tmp/storage-run-7/containers", ""),
        (ROOT, CONF, StoreFlags(), False, "/data/0", "/run/data", "overlay"),
        # The system's roots are not for others, its driver is.
        (ANN, CONF, StoreFlags(), False,
         "/home/ann/.local/share/containers/storage", "/run/user/1000/containers", "overlay"),
        (ANN, CONF, StoreFlags(), True, "/data/1000", "/run/data", "overlay"),
        (ANN, StorageConf(rootless_path="$HOME/s/$USER/$OTHER"), StoreFlags(), False,
         "/home/ann/s/ann/$OTHER", "/run/user/1000/containers", ""),
        (ROOT, CONF, StoreFlags(root="/x/../y/", run_root="/z", driver="vfs"), False,
         "/y", "/z", "flat"),
        (User(uid=0, env={"STORAGE_DRIVER": "vfs"}), CONF, StoreFlags(), False,
         "/data/0", "/run/data", "flat"),
        (ROOT, StorageConf(driver="btrfs"), StoreFlags(), False,
         "/var/lib/containers/storage", "/run/containers/storage", ""),
    ],
)  # fmt: skip
def test_store_is_where_containers_storage_has_it(
    user: User,
    conf: StorageConf,
    flags: StoreFlags,
    own: bool,
    root: str,
    runroot: str,
    driver: str,
) -> None:
    found = locate(user, conf, flags, conf_is_users=own)
    assert found.location == StoreLocation(root=root, runroot=runroot, driver=driver)
    assert len(found.warnings) == (conf.driver == "btrfs")


@pytest.mark.parametrize(
    ("user", "flags", "error"),
    [
        (ROOT, StoreFlags(driver="btrfs"), InvalidInput),
        (ROOT, StoreFlags(root="relative"), InvalidInput),
        (User(uid=5), StoreFlags(), InvalidInput),
        (ROOT, StoreFlags(options=("overlay.mountopt=nodev",)), Unsupported),
    ],
)
def test_store_that_cannot_be_is_refused(
    user: User, flags: StoreFlags, error: type[Exception]
) -> None:
    with pytest.raises(error):
        locate(user, StorageConf(), flags, conf_is_users=False)


@pytest.mark.parametrize(
    ("conf", "options", "expected"),
    [
        (False, (), False),
        (True, (), True),
        (False, ("overlay.ignore_chown_errors=true",), True),
        (True, ("ignore_chown_errors=false",), False),
    ],
)
def test_chown_errors_are_ignored_when_asked_for(
    conf: bool, options: tuple[str, ...], expected: bool
) -> None:
    found = locate(
        ROOT,
        StorageConf(ignore_chown_errors=conf),
        StoreFlags(options=options),
        conf_is_users=False,
    )
    assert found.location.ignore_chown_errors == expected


def test_user_behind_a_mapped_root_has_the_store() -> None:
    env = {"_CONTAINERS_ROOTLESS_UID": "1000", "HOME": "/home/ann"}
    assert User.of(0, env).uid == 1000
    assert User.of(0, {}).uid == 0
    assert User.of(5, env).uid == 5


def test_files_are_searched_in_order() -> None:
    assert conf_files(ROOT) == (
        "/etc/containers/storage.conf",
        "/usr/share/containers/storage.conf",
    )
    assert conf_files(ANN)[0] == "/home/ann/.config/containers/storage.conf"
    chosen = User(uid=1, env={"CONTAINERS_STORAGE_CONF": "/c"})
    assert conf_files(chosen) == ("/c",)


def test_storage_conf_is_read() -> None:
    text = b"""
[storage]
driver = "overlay"
graphroot = "/g"
runroot = "/r"
rootless_storage_path = "$HOME/x"
[storage.options.overlay]
ignore_chown_errors = "true"
mountopt = "nodev"
"""
    assert parse_conf(text, "f") == StorageConf(
        driver="overlay",
        graph_root="/g",
        run_root="/r",
        rootless_path="$HOME/x",
        ignore_chown_errors=True,
    )
    assert parse_conf(b"", "f") == StorageConf()


@pytest.mark.parametrize(
    "text", [b"[storage", b"storage = 1", b"[storage]\ndriver = 1", b"\xff", b"[storage]\na=[" * 2]
)
def test_malformed_storage_conf_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput, match="f"):
        parse_conf(text, "f")


def test_name_can_mean_another_store() -> None:
    default = StoreLocation(root="/d", runroot="/dr", driver="overlay")
    assert located(parse_storage_name("a"), default) == default
    assert located(parse_storage_name("[/r]a"), default) == StoreLocation(root="/r", runroot="/dr")
    assert located(parse_storage_name("[vfs@/r+/s]a"), default) == StoreLocation(
        root="/r", runroot="/s", driver="flat"
    )
    with pytest.raises(InvalidReference):
        located(parse_storage_name("[zfs@/r]a"), default)
    with pytest.raises(Unsupported):
        located(parse_storage_name("[/r:a=b]a"), default)
