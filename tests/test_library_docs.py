"""The examples of docs/library.md and of the README run as they stand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import imgtools

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def examples() -> list[object]:
    found = []
    for page in ("docs/library.md", "README.md"):
        text = (ROOT / page).read_text()
        for match in BLOCK.finditer(text):
            line = text[: match.start()].count("\n") + 2
            found.append(pytest.param(match[1], id=f"{page}:{line}"))
    return found


@pytest.mark.parametrize("code", examples())
def test_example(
    code: str, images_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(images_dir, tmp_path / "layout")
    index = (tmp_path / "layout" / "index.json").read_text()
    index = index.replace('"oci"', '"app"').replace('"index"', '"multi"')
    (tmp_path / "layout" / "index.json").write_text(index)
    shutil.copytree(tmp_path / "layout", tmp_path / "mirror")
    (tmp_path / "mirror" / "index.json").write_text(index.replace('"app"', '"app-1"'))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {})


def test_every_public_name_exists() -> None:
    assert set(imgtools.__all__) - {"__version__"} == set(imgtools._PUBLIC)
    for name in imgtools.__all__:
        assert getattr(imgtools, name) is not None
    with pytest.raises(AttributeError):
        imgtools.nosuch  # noqa: B018
