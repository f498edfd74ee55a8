"""Where stores that are killed live: in memory if the system has such a folder, since kills do not test the disk."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.folders import MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of the test's own."""
    if MEMORY is None:
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="jobstore-", dir=MEMORY))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
