"""Files of YAML as they are on the disk, bounded; what they say is read by spec.yaml_tree."""

from __future__ import annotations

from imgtools.errors import InvalidInput, LimitExceeded, NotFound

_LONGEST = 4 * 1024 * 1024


def read_file(path: str) -> bytes:
    """The content of a file; raises NotFound, StorageError, LimitExceeded."""
    from imgtools.blob.files import storage_error

    try:
        with open(path, "rb") as file:
            content = file.read(_LONGEST + 1)
    except FileNotFoundError as e:
        raise NotFound(f"{path}: no such file") from e
    except ValueError as e:
        raise InvalidInput(f"{path!r} is not the name of a file") from e
    except OSError as e:
        raise storage_error(e, path) from e
    if len(content) > _LONGEST:
        raise LimitExceeded(path, _LONGEST)
    return content
