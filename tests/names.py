"""A name that comes and goes between two looks of a reader, for both kinds of store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jobstore

LATER = "2100-01-01"


def come_and_go(store: jobstore.JobStore, recorder: jobstore.Recorder) -> None:
    """A reader that knows all names meets, in one look, one that was recorded under and deleted since; not the newest."""

    def run(name: str) -> None:
        with recorder.run(name):
            pass

    for name in ("first", "second"):
        recorder.save_job(name, job_type="any", job_category="any")
        run(name)

    def looked() -> list[int]:
        pages = [store.list_job_executions(search="first"), store.list_job_states(), store.list_jobs()]
        return [page["pagination"]["total"] for page in pages]

    assert looked() == [1, 2, 2]
    recorder.rename_job("first", "first_again")
    run("first_again")
    recorder.rename_job("first_again", "first_for_good")
    recorder.save_job("third", job_type="any", job_category="any")
    run("third")
    recorder.prune(before=LATER)
    assert looked() == [0, 3, 3]
