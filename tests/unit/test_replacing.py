"""Replacing a file: what an error of it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobstore.replacing import replacing

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["n" * 250, "file/below"])
def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / name
    with pytest.raises(OSError, match=r"too long|Not a directory") as raised, replacing(path):
        pass
    assert raised.value.filename == str(path)
