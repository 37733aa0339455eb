"""A disk that refuses, at every call that may: a typed error that names the place, nothing left."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import ImageNotFound, StorageError
from imgtools.testing.contract_kit import check_same, put, suitable
from imgtools.testing.images import Sample
from tests.killed import Target

TRANSPORTS = ("dir", "dir-existing", "oci", "oci-archive", "docker-archive")


def failing_write(target: Target, sample: Sample, call: str, number: int) -> bool:
    """Write with the `number`-th use of os.`call` failing; whether there were so many."""
    real = getattr(os, call)
    used = 0

    def refuse(*arguments: Any, **named: Any) -> Any:
        nonlocal used
        used += 1
        if used == number + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, refuse)
        try:
            target.write(sample)
        except StorageError as e:
            failure = e
        else:
            return used > number
    assert str(target.directory) in failure.path
    assert failure.hint is not None
    return True


@pytest.mark.parametrize("call", ["write", "pwrite", "fsync", "mkdir", "ftruncate", "rename"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_full_disk(transport: str, call: str, tmp_path: Path) -> None:
    number = 0
    while True:
        directory = tmp_path / str(number)
        directory.mkdir()
        target = Target(transport, directory)
        with target.destination() as destination:
            sample = suitable(destination.capabilities, "full")
        if not failing_write(target, sample, call, number):
            break
        try:
            check_same(target.source(), sample)
        except ImageNotFound:
            assert target.files() == set()
        number += 1
    check_same(target.source(), sample)


def test_error_in_the_middle_keeps_the_old_image(tmp_path: Path) -> None:
    for transport in ("dir", "dir-existing", "oci", "oci-archive"):
        directory = tmp_path / transport
        directory.mkdir()
        target = Target(transport, directory)
        with target.destination() as destination:
            old = suitable(destination.capabilities, "old")
            new = suitable(destination.capabilities, "new")
            put(destination, old)
            destination.commit()
        before = target.files()
        assert failing_write(target, new, "fsync", 0)
        check_same(target.source(), old)
        assert target.files() == before
