"""Whole stores from documents and back: the same store, or none at all."""

from __future__ import annotations

import io
import json
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import jobstore
from jobstore.language import instants
from jobstore.language.errors import (
    Conflict,
    InvalidRecord,
    InvalidSchedule,
    JobStoreError,
    StoreFull,
    StoreNotFound,
    StoreUnreadable,
)
from jobstore.recording.recorder import Recorder
from jobstore.testing import document
from jobstore.transfer import backup as upkeep
from jobstore.transfer import load as loading
from jobstore.transfer.dump import END_LINE, dump, dump_lines, load, load_file
from jobstore.transfer.export import export
from tests.folders import MEMORY

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

JOB = {"name": "a", "job_type": "kline", "job_category": "sync", "created_at": "2026-01-01T00:00:00Z"}
RUN = {"job_name": "a", "status": "SUCCESS", "started_at": "2026-01-15T08:00:00Z"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db"


def jobs_of(path: Path) -> list[dict[str, Any]]:
    return list(dump(path)["jobs"])


def executions_of(path: Path) -> list[dict[str, Any]]:
    return list(dump(path)["executions"])


def remains(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


# --- what a document means


def test_an_empty_document_is_an_empty_store(path):
    load(path, {})
    assert dump(path) == {"timezone": "UTC", "next_number": 1, "next_execution_id": 1, "jobs": [], "executions": []}
    assert upkeep.check(path) == []


def test_jobs_are_numbered_in_order_past_the_numbers_that_others_bring(path):
    load(path, {"jobs": [{**JOB, "name": "x"}, {**JOB, "name": "y", "number": 1}, {**JOB, "name": "z"}]})
    assert {job["name"]: job["number"] for job in jobs_of(path)} == {"x": 2, "y": 1, "z": 3}


def test_executions_without_an_id_follow_the_highest_so_far(path):
    load(path, {"jobs": [JOB], "executions": [RUN, {**RUN, "id": "10"}, RUN, {**RUN, "id": 4}, RUN]})
    assert sorted(int(run["id"]) for run in executions_of(path)) == [1, 4, 10, 11, 12]


def test_an_execution_names_its_job_by_number_or_name_or_both(path):
    load(
        path,
        {
            "jobs": [{**JOB, "number": 7}],
            "executions": [
                {**RUN, "job_id": "7", "job_name": "old name"},
                {**RUN, "job_id": 7, "job_name": None},
                RUN,
                {**RUN, "job_id": "9", "job_name": "a"},
                {**RUN, "job_name": "gone"},
                {**RUN, "job_name": "gone"},
            ],
        },
    )
    assert [(run["job_id"], run["job_name"]) for run in executions_of(path)] == [
        ("7", "old name"), ("7", "a"), ("7", "a"), ("9", "a"), ("10", "gone"), ("10", "gone"),
    ]  # fmt: skip


def test_a_number_that_history_alone_knows_is_not_given_again(path):
    load(path, {"executions": [{**RUN, "job_id": "41"}, {**RUN, "job_name": "gone"}]})
    with Recorder(path) as recorder:
        recorder.save_job("new", job_type="t", job_category="c")
        assert recorder.enqueue("new") == "3"
    assert jobs_of(path)[0]["number"] == 43


def test_what_a_dump_says_of_the_next_numbers_is_kept(path):
    load(path, {"next_number": 100, "next_execution_id": 200, "timezone": "Asia/Shanghai", "jobs": [JOB]})
    with Recorder(path, timezone="Asia/Shanghai") as recorder:
        recorder.save_job("new", job_type="t", job_category="c")
        assert recorder.enqueue("new") == "200"
    assert [job["number"] for job in jobs_of(path)] == [1, 100]


def test_history_is_kept_as_it_is(path):
    odd = {**RUN, "id": "5", "job_id": "1", "created_at": "2030-01-01T00:00:00Z", "completed_at": "0001-01-01T00:00:00Z",
           "duration_ms": -1, "result": {"b": [None, 1.5, "界"], "a": 2}, "error": "x\0y", "trace_id": "t",
           "worker_id": "w", "parameters_snapshot": [1], "status": "RUNNING"}  # fmt: skip
    load(path, {"jobs": [JOB], "executions": [odd]})
    assert executions_of(path) == [odd]


def test_any_iterable_streams(path):
    def runs() -> Iterator[dict[str, Any]]:
        for number in range(10_000):
            yield {**RUN, "id": number + 1}

    told: list[int] = []
    load(path, {"jobs": iter([JOB]), "executions": runs()}, progress=told.append)
    assert sum(told) == 10_001
    assert len(told) > 2
    with jobstore.open(path) as store:
        assert store.list_job_executions()["pagination"]["total"] == 10_000
    assert upkeep.check(path) == []


@pytest.mark.parametrize("ids", [range(1, 301), range(300, 0, -1), [*range(101, 301), *range(1, 101)]])
def test_ids_come_in_any_order(path, ids):
    load(path, {"jobs": [JOB], "executions": [{**RUN, "id": number, "duration_ms": number} for number in ids]})
    assert [(run["id"], run["duration_ms"]) for run in executions_of(path)] == [(str(n), n) for n in range(1, 301)]
    assert upkeep.check(path) == []


@pytest.mark.parametrize("given", [[*range(1, 201), 150], [*range(1, 5001), 5000], [*range(1, 5001), 5001, 3], [7, 7]])
def test_an_id_that_comes_again_is_refused_at_its_place(path, given):
    with pytest.raises(InvalidRecord, match=rf"^executions\[{len(given) - 1}\]: the id {given[-1]} is already in use"):
        load(path, {"jobs": [JOB], "executions": [{**RUN, "id": number} for number in given]})
    assert remains(path) == set()


def test_one_odd_document_among_many_does_not_change_the_others(path):
    odd = type("Own", (dict,), {})({**RUN, "worker_id": "w0", "parameters_snapshot": {"n": 1}})
    runs = [{**RUN, "worker_id": f"w{number % 3}", "parameters_snapshot": {"n": number % 2}} for number in range(200)]
    load(path, {"jobs": [JOB], "executions": [*runs, odd, *runs]})
    load(path.with_name("plain.db"), {"jobs": [JOB], "executions": [*runs, dict(odd), *runs]})
    assert dump(path) == dump(path.with_name("plain.db"))
    assert upkeep.check(path) == []


def test_parameters_are_shared_up_to_a_bound(path, monkeypatch):
    monkeypatch.setattr("jobstore.transfer.load.SHARED_PARAMETERS", 3)
    runs = [{**RUN, "parameters_snapshot": {"n": number % 6}} for number in range(60)]
    runs.append({**RUN, "parameters_snapshot": {"long": "x" * 5000}})
    load(path, {"jobs": [JOB], "executions": runs})
    assert [run["parameters_snapshot"] for run in executions_of(path)] == [run["parameters_snapshot"] for run in runs]
    assert upkeep.check(path) == []


# --- all or nothing


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        ({"jobs": [JOB, {**JOB, "name": 5}]}, InvalidRecord, r"^jobs\[1\]: name must be"),
        ({"jobs": [JOB, JOB]}, InvalidRecord, r"^jobs\[1\]: two jobs have the name a"),
        ({"jobs": [{**JOB, "number": 3}, {**JOB, "name": "b", "number": 3}]}, InvalidRecord, "number 3 already belongs to the job a"),
        ({"jobs": [{**JOB, "schedule": "never"}]}, InvalidSchedule, r"^jobs\[0\]: schedule"),
        ({"jobs": [JOB], "executions": [RUN] * 3 + [{**RUN, "id": 2}]}, InvalidRecord,
         r"^executions\[3\]: the id 2 is already in use"),
        ({"executions": [RUN, {**RUN, "status": "DONE"}]}, InvalidRecord, r"^executions\[1\]: status must be"),
        ({"executions": [{"status": "SUCCESS", "started_at": RUN["started_at"]}]}, InvalidRecord, "needs job_name or job_id"),
        ({"executions": [{**RUN, "job_name": None, "job_id": "9"}]}, InvalidRecord, "needs its job_name"),
        ({"executions": [{**RUN, "job_name": "a/b"}]}, InvalidRecord, "job_name must be"),
        ({"executions": [{**RUN, "job_name": ["a"]}]}, InvalidRecord, "job_name must be"),
        ({"timezone": "Mars/Olympus"}, InvalidRecord, "timezone must be"),
        ({"next_number": 0}, InvalidRecord, "next_number must be"),
        ({"job": [JOB]}, InvalidRecord, "did you mean 'jobs'"),
        ({"jobs": "abc"}, InvalidRecord, "jobs must be a list"),
        ({"jobs": JOB}, InvalidRecord, "jobs must be a list"),
        ({"executions": None}, InvalidRecord, "executions must be a list"),
        ([], InvalidRecord, "must be a JSON object"),
    ],
)  # fmt: skip
def test_a_document_that_breaks_a_rule_leaves_nothing_behind(path, document, error, words):
    with pytest.raises(error, match=words):
        load(path, document)
    assert remains(path) == set()


def test_an_error_of_the_iterable_is_its_own_and_leaves_nothing_behind(path):
    def runs() -> Iterator[dict[str, Any]]:
        yield RUN
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        load(path, {"jobs": [JOB], "executions": runs()})
    assert remains(path) == set()


def test_a_disk_that_fills_up_on_the_way_is_a_typed_error_and_leaves_nothing_behind(path, monkeypatch):
    begun = loading._make_bare_tables

    def small(connection: sqlite3.Connection) -> None:
        begun(connection)
        connection.execute("PRAGMA cache_size = 10")
        connection.execute("PRAGMA max_page_count = 150")

    monkeypatch.setattr(loading, "_make_bare_tables", small)
    with pytest.raises(StoreFull, match="full"):
        load(path, {"jobs": [JOB], "executions": ({**RUN, "error": "x" * 1000} for _ in range(5_000))})
    assert remains(path) <= {"jobs.db.lock"}


def test_nothing_is_at_the_path_until_the_store_is_whole(path):
    seen = []

    def runs() -> Iterator[dict[str, Any]]:
        seen.append(path.exists())
        yield RUN

    load(path, {"jobs": [JOB], "executions": runs()})
    assert seen == [False]
    assert {name.removesuffix("-shm").removesuffix("-wal") for name in remains(path)} == {"jobs.db", "jobs.db.lock"}


def test_a_path_that_is_taken_is_refused_and_left_alone(path):
    for content in (b"", b"something"):
        path.write_bytes(content)
        with pytest.raises(Conflict, match="already exists"):
            load(path, {"jobs": [JOB]})
        assert path.read_bytes() == content
    path.unlink()
    path.symlink_to("nowhere")
    load(path, {"jobs": [JOB]})
    assert path.with_name("nowhere").exists()


def test_of_two_loads_into_one_path_one_is_refused(path):
    barrier = threading.Barrier(2)
    outcomes: list[object] = []

    def runs() -> Iterator[dict[str, Any]]:
        barrier.wait(120)
        yield RUN

    def build() -> None:
        try:
            load(path, {"jobs": [JOB], "executions": runs()})
            outcomes.append("built")
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["built", "refused"]
    assert len(executions_of(path)) == 1


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreUnreadable, match="does not exist; create it first"):
        load(tmp_path / "no" / "jobs.db", {})
    with pytest.raises(StoreNotFound):
        dump(tmp_path / "jobs.db")


# --- lines and files


def lines_of(*lines: Any) -> io.BytesIO:
    return io.BytesIO(b"\n".join(json.dumps(line).encode() for line in lines))


def test_lines_build_the_same_store_as_the_document(path, tmp_path):
    load(path, {"jobs": [JOB, {**JOB, "name": "b"}], "executions": [RUN] * 20, "timezone": "Europe/Berlin"})
    whole, lines = tmp_path / "whole.json", tmp_path / "lines.jsonl"
    whole.write_text(json.dumps(dump(path), indent=2), encoding="utf-8")
    lines.write_text("\n\n".join(json.dumps(line) for line in (*dump_lines(path), END_LINE)), encoding="utf-8")
    for source in (whole, lines):
        copy = tmp_path / f"{source.stem}.db"
        load_file(copy, source)
        assert dump(copy) == dump(path)
    one_line = tmp_path / "one.json"
    one_line.write_text(json.dumps(dump(path)), encoding="utf-8")
    load_file(tmp_path / "one.db", str(one_line))
    assert dump(tmp_path / "one.db") == dump(path)


def test_documents_as_they_were_exported_load_as_lines(path, tmp_path):
    runs = [{**RUN, "id": str(number), "job_id": "7", "job_name": "gone"} for number in (1, 5)]
    load(path, {"jobs": [{**JOB, "name": "a"}], "executions": runs})
    out = io.StringIO()
    with jobstore.open(path) as store:
        export(store, out)
        jobs = store.list_jobs()["data"]
    lines = "".join(f"{json.dumps(job)}\n" for job in jobs) + out.getvalue()
    load_file(tmp_path / "copy.db", io.BytesIO(lines.encode()))
    assert dump(tmp_path / "copy.db")["executions"] == dump(path)["executions"]
    with jobstore.open(tmp_path / "copy.db") as copy:
        assert [job["name"] for job in copy.list_jobs()["data"]] == ["a"]
    load_file(tmp_path / "runs.db", io.BytesIO(out.getvalue().encode()))
    assert dump(tmp_path / "runs.db")["executions"] == dump(path)["executions"]


@pytest.mark.parametrize("number", [str(2**64), "-" + str(2**63 + 1), "1" * 400, "[[" + str(2**70) + "]]"])
@pytest.mark.parametrize("shape", ['{"job": %s}', '{"jobs": [%s]}'])
def test_an_integer_that_no_file_can_hold_is_refused_and_not_rounded(path, shape, number):
    job = json.dumps({**JOB, "parameters": "NUMBER"}).replace('"NUMBER"', number)
    with pytest.raises(InvalidRecord, match=r"parameters must be JSON: Integer exceeds 64-bit range"):
        load_file(path, io.BytesIO((shape % job).encode()))


def test_a_large_integer_that_fits_is_kept(path):
    load_file(path, io.BytesIO(json.dumps({"job": {**JOB, "parameters": [2**64 - 1, -(2**63)]}}).encode()))
    assert dump(path)["jobs"][0]["parameters"] == [2**64 - 1, -(2**63)]


def test_a_line_of_something_else_is_told_what_lines_may_be(path):
    with pytest.raises(InvalidRecord, match=r"^line 1 must be .*or the document of a job or an execution"):
        load_file(path, io.BytesIO(b'{"level": "info"}\n{"level": "info"}\n'))
    with pytest.raises(InvalidRecord, match=r"^line 2 is not valid JSON: NaN is not a JSON value"):
        load_file(path, io.BytesIO(b'{"store": {}}\n{"job": [NaN, 12345678901234567890123]}\n'))


def test_lines_may_mix_as_long_as_a_job_comes_before_what_names_it(path):
    load_file(
        path,
        lines_of({"job": JOB}, {"execution": RUN}, {"job": {**JOB, "name": "b"}}, {"execution": {**RUN, "job_name": "b"}},
                 {"store": {"timezone": "Asia/Tokyo"}}),
    )  # fmt: skip
    assert [(run["job_id"], run["job_name"]) for run in executions_of(path)] == [("1", "a"), ("2", "b")]
    assert dump(path)["timezone"] == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (lines_of({"job": JOB}, {"execution": {**RUN, "status": 1}}), "^line 2: status must be"),
        (lines_of({"job": JOB}, {"run": RUN}), "^line 2 must be"),
        (lines_of({"job": JOB}, [RUN]), "^line 2 must be"),
        (lines_of({"job": JOB}, {"store": {"timezone": "x"}}), "^line 2: timezone must be"),
        (lines_of({"store": {}}, {"store": {}}), "^line 2: there is a second"),
        (io.BytesIO(b'{"store": {}}\n{"job": '), "^line 2 is not valid JSON"),
        (io.BytesIO(b'{"jobs": ['), "^the document is not valid JSON"),
        (io.BytesIO(b"\xff\xfe"), "^the document is not valid JSON"),
        (io.BytesIO(b""), "^the document is not valid JSON"),
        (io.BytesIO(b"[1]"), "must be a JSON object"),
        (io.BytesIO(b'{"executions": [{"id": NaN}]}'), "^the document is not valid JSON"),
    ],
)
def test_a_source_that_is_no_dump_says_where(path, source, words):
    source.seek(0)
    with pytest.raises(InvalidRecord, match=words):
        load_file(path, source)
    assert remains(path) == set()


def test_a_source_that_cannot_be_read_is_named(path, tmp_path):
    for source in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InvalidRecord, match="cannot be read"):
            load_file(path, source)


def test_a_dump_is_one_snapshot_while_others_record(path):
    load(path, {"jobs": [JOB], "executions": [RUN] * 10})
    lines = dump_lines(path)
    first = next(lines)
    with Recorder(path) as recorder:
        recorder.enqueue("a")
        recorder.save_job("new", job_type="t", job_category="c")
    rest = list(lines)
    assert first["store"]["next_execution_id"] == 11
    assert len(rest) == 11


# --- load is the inverse of dump

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=8).filter(
    lambda name: (
        name == name.strip() and name not in {".", "..", "executions"} and not (name.isascii() and name.isdigit())
    )
)
moments = st.integers(instants.MIN_US, instants.MAX_US).map(instants.instant_text)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
labels = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
schedules: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"schedule": "*/5 * * * *"}),
    st.builds(dict, interval_seconds=st.integers(1, 10**6), anchor_at=st.none() | moments),
    st.builds(dict, next_run_at=st.none() | moments),
)
jobs: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        lambda timing, **job: {**job, **timing},
        schedules,
        name=names, job_type=names, job_category=names, description=st.none() | texts, parameters=json_values,
        timeout_seconds=st.none() | st.integers(1, 10**6), max_instances=st.integers(1, 10), enabled=st.booleans(),
        last_run_at=st.none() | moments, created_at=moments, updated_at=moments,
        number=st.none() | st.integers(50, 60),
    ),
    max_size=6, unique_by=(lambda job: job["name"], lambda job: job["number"] or object()),
)  # fmt: skip
executions: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict,
        id=st.none() | st.integers(1, 30), job_id=st.none() | st.integers(1, 60), job_name=names,
        status=st.sampled_from(list(jobstore.Status)).map(str), started_at=st.none() | moments, created_at=moments,
        completed_at=st.none() | moments, duration_ms=st.none() | st.integers(0, 10**9), result=json_values,
        error=st.none() | texts, trace_id=labels, worker_id=labels, parameters_snapshot=json_values,
    ),
    max_size=16, unique_by=lambda run: run["id"] or object(),
)  # fmt: skip


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(jobs, executions)
def test_the_load_of_a_dump_is_the_same_store(some_jobs, some_executions):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        check_that_a_dump_loads_again(Path(folder), some_jobs, some_executions)


def check_that_a_dump_loads_again(
    folder: Path, some_jobs: list[dict[str, Any]], some_executions: list[dict[str, Any]]
) -> None:
    document = {"jobs": some_jobs, "executions": some_executions}
    with suppress(InvalidRecord):  # of an id that another got by order before
        load(folder / "one.db", document)
    assume((folder / "one.db").exists())
    first = dump(folder / "one.db")
    load(folder / "two.db", json.loads(json.dumps(first)))
    assert dump(folder / "two.db") == first
    assert upkeep.check(folder / "two.db") == []
    kept = {int(run["id"]): run for run in first["executions"]}
    for run in some_executions:
        if run["id"] is not None:
            same = {field: value for field, value in run.items() if field not in {"id", "job_id"}}
            assert {field: kept[run["id"]][field] for field in same} == same


@settings(max_examples=30, deadline=None)
@given(st.recursive(json_values, lambda inner: st.dictionaries(st.sampled_from(["jobs", "executions", "name"]), inner)))
def test_no_document_breaks_the_loader(document):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "one.db"
        try:
            load(path, document)
        except JobStoreError:
            assert not path.exists()


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        ({"duration_ms": 12.5}, "duration_ms must be an integer"),
        ({"duration_ms": "x"}, "duration_ms must be an integer"),
        ({"job_name": None}, "job_name must be text; received None"),
    ],
)
def test_a_fixture_that_breaks_a_rule_is_refused_by_its_field(execution, words):
    with pytest.raises(InvalidRecord, match=words):
        document(["a"], [execution])


def test_fixtures_may_play_on_the_first_day_of_the_calendar(path):
    load(path, document(["a"], [{}, {}], now="0001-01-01"))
    assert len(dump(path)["executions"]) == 2


def test_documents_of_the_api_keep_their_histories_though_a_job_was_removed(path, tmp_path):
    """Job documents have no number, and the numbers in executions are the old store's."""
    with Recorder(path) as recorder:
        for name in "abc":
            recorder.save_job(name, job_type="t", job_category="c")
        for name in "abbccc":
            recorder.enqueue(name)
        recorder.remove_job("a")
    with jobstore.open(path) as store:
        document = {"jobs": store.list_jobs()["data"], "executions": store.list_job_executions()["data"]}
    jobstore.load(tmp_path / "copy.db", document)
    with jobstore.open(tmp_path / "copy.db") as store:
        for name, total in (("b", 2), ("c", 3)):
            assert [run["job_name"] for run in store.get_job_executions(name)["data"]] == [name] * total
        assert store.list_job_executions(search="a")["pagination"]["total"] == 1
