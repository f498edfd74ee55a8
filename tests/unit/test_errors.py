"""What a message may carry to a terminal or a log."""

from __future__ import annotations

import sys
import unicodedata

import pytest

import jobstore
from jobstore.language import errors

KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.JobStoreError)
]  # fmt: skip
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
UNSEEN = (
    "".join(char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) in HIDDEN)
    + "\u3164\u2800"
)
"""Every character that acts or hides: controls, direction marks, zero width, lone surrogates."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_message_carries_what_acts_on_a_terminal_or_hides(kind: type[errors.JobStoreError]) -> None:
    message = str(kind(f"x{UNSEEN}y"))
    assert not set(message) & set(UNSEEN)
    assert message.startswith("x\\x00")
    assert message.endswith("y")


def test_what_can_be_seen_stays_as_it_is() -> None:
    words = "Job not found: 日線同步 émile 🚀 Ω ‐ “a”"
    assert str(errors.NotFound(words)) == words


@pytest.mark.parametrize("name", ["\x1b]0;x\x07", "a\nb", "a\x9bb", "\u202egnp.exe", "a\u200bb"])
def test_a_path_or_a_name_in_an_error_is_written_out(tmp_path, name: str) -> None:
    with pytest.raises(jobstore.StoreNotFound) as no_store:
        jobstore.open(tmp_path / name)
    jobstore.load(tmp_path / "jobs.db", {})
    with jobstore.open(tmp_path / "jobs.db") as store, pytest.raises(jobstore.JobStoreError) as no_job:
        store.get_job(name)
    for caught in (no_store, no_job):
        assert not set(str(caught.value)) & set(UNSEEN)
        assert ascii(name)[1:-1] in str(caught.value)
