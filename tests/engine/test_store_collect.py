"""What goes from a store, as tables: nothing that is needed, and everything that is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.storage.collect import (
    Contents,
    ImageInUse,
    LayerFacts,
    Removal,
    needed_layers,
    plan_prune,
    plan_rmi,
)
from engine.storage.containers import Owner, Use
from engine.storage.images import StoredImage, StoredLayer, StoredName
from imgtools.errors import Conflict
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest


def d(name: str) -> Digest:
    return Digest.of(name.encode())


def image(name: str, *layers: str) -> StoredImage:
    def document(kind: str) -> Descriptor:
        return Descriptor(media_type=kind, digest=d(f"{name} {kind}"), size=1)

    return StoredImage(
        id=name,
        manifest=document("manifest"),
        config=document("config"),
        layers=tuple(
            StoredLayer(blob=document(layer), diff_id=d(layer), size=1, chain_id=d(layer))
            for layer in layers
        ),
    )


def use(use_id: str, image_id: str, layer: str) -> Use:
    owner = Owner(pid=1, start=1, boot="b")
    return Use(id=use_id, kind="container", owner=owner, image_id=image_id, layer=d(layer))


A, B, C = image("a", "1", "2"), image("b", "1", "3"), image("c", "1", "2", "4")
PARENTS = {"1": None, "2": "1", "3": "1", "4": "2", "stray": "3"}
STORE = Contents(
    images={i.id: i for i in (A, B, C)},
    names={n: StoredName(name=n, image_id=i) for n, i in (("x:1", "a"), ("x:2", "a"), ("y", "b"))},
    layers={
        d(name): LayerFacts(parent=d(parent) if parent else None, stack=(d(name),), size=10)
        for name, parent in PARENTS.items()
    },
    blobs=frozenset((*A.blobs(), *B.blobs(), *C.blobs(), d("stray document"))),
    known={d("blob 3"): d("3"), d("blob stray"): d("stray"), d("blob gone"): d("gone")},
)


def used(contents: Contents, *uses: Use, alive: bool = True) -> Contents:
    return replace(
        contents,
        uses=dict.fromkeys(uses, alive),
        snapshots={each.id: (each.layer,) for each in uses if each.layer},
    )


@pytest.mark.parametrize(
    ("image_id", "name", "force", "expected"),
    [
        ("a", "x:1", False, Removal(names=("x:1",))),
        ("a", "x:1", True, Removal(names=("x:1",))),
        # Both of its layers are another image's too.
        ("a", "", True, Removal(names=("x:1", "x:2"), images=("a",),
                                blobs=tuple(sorted(A.blobs())))),
        ("c", "", False, Removal(images=("c",), layers=(d("4"),), size=10,
                                 blobs=tuple(sorted(C.blobs())))),
    ],
)  # fmt: skip
def test_rmi(image_id: str, name: str, force: bool, expected: Removal) -> None:
    assert plan_rmi(STORE, image_id, name, names=force, force=force) == expected


def test_rmi_leaves_what_a_pull_may_be_at() -> None:
    """The layer `stray` stands on one of b's: that stays, and so does what nobody refers to."""
    removal = plan_rmi(STORE, "b", "y")
    assert removal.images == ("b",)
    assert d("stray") not in removal.layers
    assert d("stray document") not in removal.blobs
    assert removal.known == (d("blob 3"),)


def test_rmi_of_an_id_with_several_names_needs_force() -> None:
    with pytest.raises(Conflict, match=r"\[x:1 x:2\]"):
        plan_rmi(STORE, "a", "")


def test_rmi_of_an_image_in_use() -> None:
    contents = used(STORE, use("k", "c", "4"))
    with pytest.raises(ImageInUse, match="image used by k: image is in use by a container"):
        plan_rmi(contents, "c", "")
    forced = plan_rmi(contents, "c", "", force=True)
    assert forced.images == ("c",)
    assert forced.layers == ()
    assert plan_rmi(used(STORE, use("k", "a", "2")), "a", "x:1") == Removal(names=("x:1",))
    assert plan_rmi(used(STORE, use("k", "c", "4"), alive=False), "c", "").images == ("c",)


def test_prune_of_nothing_removes_what_nothing_refers_to() -> None:
    assert plan_prune(STORE, []) == Removal(
        layers=(d("stray"),),
        blobs=(d("stray document"),),
        known=tuple(sorted((d("blob stray"), d("blob gone")))),
        size=10,
    )


def test_prune_of_images() -> None:
    removal = plan_prune(STORE, ["b", "c"])
    assert removal.images == ("b", "c")
    assert removal.names == ("y",)
    assert removal.layers.index(d("stray")) < removal.layers.index(d("3"))
    assert set(removal.layers) == {d("stray"), d("3"), d("4")}


def test_prune_spares_who_lives_and_not_who_died() -> None:
    living = used(STORE, use("k", "c", "4"), use("n", "", "stray"))
    removal = plan_prune(living, list(STORE.images))
    assert removal.images == ("a", "b")
    assert removal.snapshots == removal.uses == ()
    assert removal.layers == ()
    dead = plan_prune(used(STORE, use("k", "c", "4"), alive=False), ["c"])
    assert dead.snapshots == ("k",)
    assert [each.id for each in dead.uses] == ["k"]
    assert d("4") in dead.layers


def test_prune_removes_snapshots_of_nobody_and_names_of_nothing() -> None:
    contents = replace(
        STORE,
        snapshots={"nobody": (d("stray"),)},
        names={"z": StoredName(name="z", image_id="gone")},
    )
    removal = plan_prune(contents, [])
    assert removal.snapshots == ("nobody",)
    assert removal.names == ("z",)
    assert removal.layers == (d("stray"),)


letters = st.sampled_from(sorted(PARENTS))


@given(
    chosen=st.sets(st.sampled_from(["a", "b", "c"])),
    users=st.lists(st.tuples(st.sampled_from(["a", "b", "c", ""]), letters, st.booleans())),
)
def test_nothing_that_is_needed_goes(chosen: set[str], users: list[tuple[str, str, bool]]) -> None:
    contents = replace(
        STORE,
        uses={use(str(n), i, layer): alive for n, (i, layer, alive) in enumerate(users)},
        snapshots={str(n): (d(layer),) for n, (_, layer, _) in enumerate(users)},
    )
    removal = plan_prune(contents, chosen)
    after = replace(
        contents,
        images={k: v for k, v in contents.images.items() if k not in removal.images},
        layers={k: v for k, v in contents.layers.items() if k not in removal.layers},
        snapshots={k: v for k, v in contents.snapshots.items() if k not in removal.snapshots},
    )
    kept = set(after.layers)
    for each in after.images.values():
        assert {layer.chain_id for layer in each.layers} <= kept
        assert set(each.blobs()) <= contents.blobs - set(removal.blobs)
    for each, alive in contents.uses.items():
        assert not alive or each.layer in kept
    assert all(facts.parent is None or facts.parent in kept for facts in after.layers.values())
    assert kept == needed_layers(after)
    for position, layer in enumerate(removal.layers):
        below = contents.layers[layer].parent
        assert below not in removal.layers[:position]
