"""Faults of the kind that people make, in every package: `test_faults` puts each into a copy and sees it caught."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """What is wrong, where, and the test that sees it."""

    name: str
    file: str
    good: str
    bad: str
    test: str


SNAPSHOTS = "tests/reliability/test_snapshots.py"
QUERIES = "tests/property/test_queries.py"
MODEL = "tests/property/test_model.py"
NASTY = "tests/contract/test_nasty_values.py::test_a_nasty_value_gives_its_stated_code_through_every_door"
PATHS = "tests/property/test_access_paths.py"
SEGMENTS = "tests/contract/test_bitmap_index.py"
PRUNE = "tests/contract/test_prune.py"
TOGETHER = "tests/reliability/test_together.py"
UNTOUCHED = "tests/integrations/test_execute_untouched.py"
FOREIGN = "tests/reliability/test_foreign_writers.py"

POWER = "tests/reliability/test_power_cut.py::test_what_was_acknowledged_survives_a_power_cut_at_any_moment"

FAULTS = (
    Fault(
        "a query without a transaction",
        "store.py",
        '            connection.execute("BEGIN")\n            self._memory',
        "            self._memory",
        SNAPSHOTS,
    ),
    Fault(
        "a total that is counted in another transaction than its page",
        "engine/executions.py",
        "    data = [execution_document(row)",
        '    connection.execute("COMMIT"), connection.execute("BEGIN")\n    data = [execution_document(row)',
        SNAPSHOTS,
    ),
    Fault(
        "a transaction that reads before it asks to write",
        "storage/writer.py",
        '        connection.execute("BEGIN IMMEDIATE")\n\n',
        '        connection.execute("BEGIN")\n\n',
        f"{FOREIGN}::test_nobody_comes_between_what_a_recorder_reads_and_what_it_writes",
    ),
    Fault(
        "commits that do not wait for the disk",
        "storage/writer.py",
        '    connection.execute("PRAGMA synchronous = FULL")\n    connection.execute("PRAGMA foreign_keys',
        '    connection.execute("PRAGMA synchronous = OFF")\n    connection.execute("PRAGMA foreign_keys',
        "tests/reliability/test_io_errors.py::test_whatever_a_recorder_acknowledges_has_been_brought_to_the_disk",
    ),
    Fault(
        "a log that is not in its file when the file gets its name",
        "storage/writer.py",
        '        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()\n        connection.close()',
        "        connection.close()",
        "tests/reliability/test_io_errors.py::"
        "test_each_call_that_fails_is_a_typed_error_or_nothing_and_the_store_is_well_again",
    ),
    Fault(
        "INSERT OR REPLACE, which fires no delete triggers",
        "storage/schema.py",
        "    SELECT RAISE(ABORT, 'this execution is there already; update it');",
        "    SELECT 1;",
        f"{FOREIGN}::test_a_statement_that_would_go_past_the_counters_is_refused",
    ),
    Fault(
        "counters that a prune leaves as they were",
        "storage/schema.py",
        "CREATE TRIGGER execution_counted_out AFTER DELETE ON execution BEGIN",
        "CREATE TRIGGER execution_counted_out AFTER DELETE ON execution WHEN OLD.id % 2 BEGIN",
        MODEL,
    ),
    Fault(
        "a segment that outlives its rows",
        "storage/schema.py",
        '    {_unsegmented(out or into or "")}\n',
        "",
        SEGMENTS,
    ),
    Fault(
        "bitmaps that a change leaves as they were",
        "engine/bitmaps.py",
        "            plane.discard(execution_id)\n",
        "            pass\n",
        f"{PATHS}::test_what_a_reader_remembers_stays_exact_while_others_write",
    ),
    Fault(
        "a page by bitmaps that loses a row where it lies on both sides of a bit",
        "engine/bitmaps.py",
        "        if last <= zeros:",
        "        if last <= zeros + 1:",
        f"{PATHS}::test_every_path_agrees_with_a_plain_scan",
    ),
    Fault(
        "a term whose signs mean something",
        "engine/names.py",
        "if needle in folded}",
        "if __import__('fnmatch').fnmatchcase(folded, f'*{needle}*')}",
        f"{QUERIES}::test_every_answer_is_what_the_rules_say",
    ),
    Fault(
        "a term that is not folded as the text is",
        "language/search.py",
        'return unicodedata.normalize("NFKC", text).casefold()',
        "return text.casefold()",
        f"{QUERIES}::test_every_answer_is_what_the_rules_say",
    ),
    Fault(
        "tokens that are compared with ==",
        "http/tokens.py",
        "if hmac.compare_digest(digests[place], asked):",
        "if digests[place] == asked:",
        "tests/unit/test_tokens.py::test_every_known_digest_is_compared_in_constant_time_whatever_was_asked",
    ),
    Fault(
        "a token that is asked for after the path was found",
        "http/app.py",
        "            self._gate.check(request.env)\n\n",
        "            pass\n\n    def process_resource(self, request, _response, _resource, _params):\n"
        "        if not is_open(request.env):\n            self._gate.check(request.env)\n\n",
        "tests/contract/http/test_authorization.py",
    ),
    Fault(
        "a schema that is made step by step",
        "storage/writer.py",
        '        connection.execute("BEGIN IMMEDIATE")\n        apply_schema(connection)\n        write_settings',
        '        connection.execute("BEGIN IMMEDIATE")\n        apply_schema(connection)\n'
        '        connection.execute("COMMIT")\n        move_into_place(making, file)\n'
        '        connection.execute("BEGIN")\n        write_settings',
        "tests/reliability/test_recorder_crashes.py::"
        "test_a_file_that_is_made_loaded_or_upgraded_is_old_or_new_after_a_kill",
    ),
    Fault(
        "a connection that a child inherits",
        "store.py",
        "            self._is_held_for_fork = True\n            self._disconnect()\n",
        "            self._is_held_for_fork = True\n",
        "tests/reliability/test_readers.py",
    ),
    Fault(
        "a child that opens a file beside the connection of a thread of its parent",
        "storage/forking.py",
        "        _crossed.update(_open.values())\n",
        "",
        "tests/unit/test_forking.py::test_a_child_is_refused_a_file_that_a_thread_was_reading",
    ),
    Fault(
        "an archive that a child keeps locked",
        "recording/archive.py",
        "    fcntl.flock(descriptor, fcntl.LOCK_UN)\n",
        "",
        "tests/unit/test_forking.py::test_a_child_does_not_keep_the_archive_that_its_parent_wrote_to",
    ),
    Fault(
        "a new store whose name is not brought to the disk",
        "storage/writer.py",
        "    made.rename(file)\n    sync_folder(file.parent)\n",
        "    made.rename(file)\n",
        "tests/reliability/test_brought_to_the_disk.py",
    ),
    Fault(
        "a backup that is not brought to the disk",
        "transfer/backup.py",
        "            sync_path(making)\n",
        "",
        "tests/reliability/test_brought_to_the_disk.py",
    ),
    Fault(
        "a checkpoint outside of the lock",
        "storage/transactions.py",
        "                writer.lock.enter(id(self), frame_above(1), self._timeout_seconds)\n",
        "                if self._outcome is not None:\n"
        "                    writer.lock.enter(id(self), frame_above(1), self._timeout_seconds)\n",
        "tests/reliability/test_brought_to_the_disk.py",
    ),
    Fault(
        "an iterator that keeps its connection",
        "transfer/export.py",
        "        documents, seen = store.read(partial(_batch, query, seen, last_id))\n",
        "        from jobstore.store import JobStore as kept\n        global held\n        held = kept(store.path)\n"
        "        held.connection.execute('BEGIN')\n        held.connection.execute('SELECT * FROM execution').fetchone()\n"
        "        documents, seen = store.read(partial(_batch, query, seen, last_id))\n",
        "tests/reliability/test_exports.py",
    ),
    Fault(
        "int() that reads the words from outside",
        "language/rules.py",
        "    return int(digits) if readable else text",
        "    try:\n        return int(text)\n    except ValueError:\n        return text",
        NASTY,
    ),
    Fault(
        "a bound that is clamped",
        "language/rules.py",
        "    if isinstance(value, int) and not isinstance(value, bool) and (low or 0) <= value",
        "    if isinstance(value, int) and value > 1000 == high:\n        return 1000\n"
        "    if isinstance(value, int) and not isinstance(value, bool) and (low or 0) <= value",
        NASTY,
    ),
    Fault(
        "nulls that come first when the order is turned",
        "engine/orders.py",
        'f"{key.value} IS NULL, {key.value}',
        'f"{key.value} IS NULL {wanted.direction}, {key.value}',
        f"{QUERIES}::test_every_answer_is_what_the_rules_say",
    ),
    Fault(
        "a next run that is now",
        "language/schedule.py",
        "    n = max(1, (now_us - anchor_us) // interval_us + 1)",
        "    n = max(1, -(-(now_us - anchor_us) // interval_us))",
        "tests/unit/test_schedule.py",
    ),
    Fault(
        "a window that leaves its end out",
        "engine/window.py",
        "count_before(connection, part, before_us + 1)",
        "count_before(connection, part, before_us)",
        f"{QUERIES}::test_every_answer_is_what_the_rules_say",
    ),
    Fault(
        "a failed search that finds timeouts as well",
        "language/search.py",
        '("timed out", "timed_out", "timedout",',
        '("failed", "timed out", "timed_out", "timedout",',
        "tests/seed/test_examples.py",
    ),
    Fault(
        "a reader that may write",
        "storage/connection.py",
        "SQLITE_LIMIT_ATTACHED, 0)",
        "SQLITE_LIMIT_ATTACHED, 1)",
        "tests/reliability/test_read_only.py",
    ),
    Fault(
        "one bad row that fails a list",
        "storage/documents.py",
        "    except (orjson.JSONDecodeError, RecursionError):\n        return _marked(text)",
        "    except RecursionError:\n        return _marked(text)",
        "tests/reliability/test_poison.py",
    ),
    Fault(
        "a driver's error that escapes",
        "storage/connection.py",
        '        return store_error(error, path) if hasattr(error, "sqlite_errorcode") else None',
        "        return None",
        "tests/reliability/test_damage.py",
    ),
    Fault(
        "an archive that is not on the disk when its executions are deleted",
        "recording/archive.py",
        "                os.fsync(self._descriptor)\n            except OSError",
        "            except OSError",
        f"{PRUNE}::test_the_archive_is_on_the_disk_before_anything_is_deleted",
    ),
    Fault(
        "a mark that stays where it was",
        "recording/archive.py",
        'prune again")\n        self._mark(connection)\n',
        'prune again")\n',
        f"{PRUNE}::test_the_mark_moves_with_each_batch_and_nothing_is_archived_twice",
    ),
    Fault(
        "a recovery that believes every mark",
        "recording/archive.py",
        "    if mark.id != found:\n",
        "    if False:\n",
        f"{PRUNE}::test_a_mark_whose_archive_belongs_to_another_prune_deletes_nothing",
    ),
    Fault(
        "a recovery that keeps the zeros of a power cut",
        "recording/archive.py",
        "    if hole >= 0:\n",
        "    if False:\n",
        f"{PRUNE}::test_zeros_that_a_power_cut_left_in_the_archive_are_replaced_by_what_the_store_still_has",
    ),
    Fault(
        "a recovery that does not compare the line with the row",
        "recording/archive.py",
        "row is not None and execution_document(row) == document else",
        "row is not None else",
        f"{PRUNE}::test_a_run_that_changed_since_it_was_archived_stays",
    ),
    Fault(
        "a recovery that deletes what the rules do not name",
        "recording/archive.py",
        "dict.fromkeys(same) if is_named(connection, number)]",
        "dict.fromkeys(same)]",
        f"{PRUNE}::test_what_a_crash_left_is_deleted_as_far_as_the_rules_of_today_name_it",
    ),
    Fault(
        "a recovery that deletes open executions",
        "recording/prune.py",
        "        until_us = self._rules.until_us.get(status)\n",
        "        until_us = self._rules.until_us.get(status, MAX_US)\n",
        f"{PRUNE}::test_a_run_that_changed_since_it_was_archived_stays",
    ),
    Fault(
        "a recovery from lines that are in memory alone",
        "recording/archive.py",
        "        os.fsync(descriptor)  # the killed process may not have synced these lines\n",
        "",
        f"{PRUNE}::test_what_is_recovered_is_on_the_disk_before_it_is_deleted",
    ),
    Fault(
        "a wrong clock that empties the history",
        "recording/retention.py",
        "        if gap is not None and until_us is not None and gap[0] < until_us:",
        "        if False:",
        f"{PRUNE}::test_a_wrong_clock_stops_automatic_pruning_and_says_so",
    ),
    Fault(
        "a process of another namespace that is taken for gone",
        "storage/processes.py",
        "owner.pid_namespace == here.pid_namespace and not",
        "not",
        f"{PRUNE}::test_only_what_is_surely_gone_is_closed",
    ),
    Fault(
        "a call that fails and takes those beside it with it",
        "recording/together.py",
        '            connection.execute("ROLLBACK TO call")\n',
        "            raise\n",
        f"{TOGETHER}::test_those_who_wait_share_a_transaction_and_each_has_its_own_error",
    ),
    Fault(
        "a call that returns before it is committed",
        "recording/together.py",
        "        self.error = None\n        if is_alone:",
        "        self.error, self.is_over_alone = None, True\n        self.wake()\n        if is_alone:",
        f"{TOGETHER}::test_nobody_returns_before_the_commit",
    ),
    Fault(
        "an interrupted call that is written all the same",
        "recording/together.py",
        "            call.is_withdrawn = True  # before anything that could be interrupted again\n"
        "            self._step_down()\n            self._withdraw(call)\n",
        "",
        f"{TOGETHER}::test_one_that_is_interrupted_while_it_waits_writes_nothing",
    ),
    Fault(
        "a commit that is forgotten where an interrupt follows it",
        "storage/transactions.py",
        "                self._note_commit()\n",
        "                pass\n",
        f"{TOGETHER}::test_an_interrupt_at_any_moment_loses_nothing_and_stops_nobody",
    ),
    Fault(
        "an exec that closes the descriptors it was given",
        "integrations/processgroup.py",
        "close_fds=False",
        "close_fds=True",
        f"{UNTOUCHED}::test_every_other_descriptor_reaches_the_command",
    ),
    Fault(
        "an exec that ends its command where a disk is full",
        "integrations/output.py",
        "            except OSError as error:\n                self._lost = error\n                return",
        "            except OSError as error:\n                raise BrokenPipeError from error",
        f"{UNTOUCHED}::test_output_that_cannot_be_written_is_lost_and_nothing_else",
    ),
    Fault(
        "a store that becomes the standard output of an exec",
        "cli/__init__.py",
        "    open_standard_descriptors()\n    try:",
        "    try:",
        f"{UNTOUCHED}::test_no_file_of_ours_becomes_a_standard_stream",
    ),
    Fault(
        "a crontab whose percent signs end its commands, by an exec",
        "integrations/crontab.py",
        'else "\\\\%", words)',
        'else "%", words)',
        "tests/integrations/test_crontab.py",
    ),
    # the interfaces
    Fault(
        "a page that shows text as markup",
        "web/page.py",
        "autoescape=True",
        "autoescape=False",
        "tests/web/test_answers.py",
    ),
    Fault(
        "a cookie that scripts may read",
        "http/session.py",
        "HttpOnly; SameSite=Strict",
        "SameSite=Strict",
        "tests/web/test_login.py",
    ),
    Fault(
        "a server that answers to any name",
        "http/app.py",
        "        self._hosts.check(request.env)\n",
        "",
        "tests/contract/http/test_authorization.py",
    ),
    Fault(
        "marks that turn text, on a terminal",
        "language/characters.py",
        '{"Cc", "Cf", ',
        '{"Cc", ',
        "tests/contract/cli/test_reading.py::test_marks_that_turn_or_hide_text_are_written_out",
    ),
    Fault(
        "a cell that a spreadsheet runs",
        "language/csvtext.py",
        "cell.startswith(_FORMULA)",
        "cell.startswith(_FORMULA[1:])",
        "jobstore/language/csvtext.py",
    ),
    Fault(
        "a number that JavaScript cannot hold in a tool's schema",
        "language/rules.py",
        "2**53 - 1",
        "2**63 - 1",
        "tests/contract/test_tools.py",
    ),
    Fault(
        "secrets that a mirror records",
        "integrations/secrets.py",
        "def _is_secret(name: str, value: object) -> bool:\n",
        "def _is_secret(name: str, value: object) -> bool:\n    return False\n",
        "tests/integrations/test_secrets.py",
    ),
    # states, memory
    Fault(
        "a job that is late at once",
        "language/states.py",
        "LATE_GRACE_US: Final = 300",
        "LATE_GRACE_US: Final = 1",
        "tests/reliability/test_states.py::test_a_job_is_late_300_seconds_after_its_time_and_not_before",
    ),
    Fault(
        "a reader that fell behind the change log and goes on counting",
        "engine/memory.py",
        "        behind = changes[0][0] != (self._seq or 0) + 1",
        "        behind = False",
        "tests/reliability/test_readers.py::test_a_reader_that_fell_behind_the_change_log_counts_anew",
    ),
    # the disk
    Fault(
        "a new store whose folder is not brought to the disk",
        "storage/writer.py",
        "    made.rename(file)\n    sync_folder(file.parent)\n",
        "    made.rename(file)\n",
        f"{POWER}[creation]",
    ),
    Fault(
        "a backup that is not brought to the disk",
        "transfer/backup.py",
        "            sync_path(making)\n            _give_name",
        "            _give_name",
        f"{POWER}[backing up]",
    ),
    Fault(
        "a backup whose folder is not brought to the disk",
        "transfer/backup.py",
        "        making.rename(copy)\n    sync_folder(copy.parent)\n",
        "        making.rename(copy)\n",
        f"{POWER}[backing up]",
    ),
    Fault(
        "a restored store beside the log of the old one",
        "transfer/backup.py",
        "    for suffix in BY_SQLITE:\n        beside(file, suffix).unlink(missing_ok=True)\n    sync_folder(file.parent)\n",
        "",
        f"{POWER}[restoring]",
    ),
    Fault(
        "an upgrade that marks the file before its tables are there",
        "storage/writer.py",
        '            apply_schema(connection)\n            connection.execute("COMMIT")\n        except',
        '            for each in ("PRAGMA user_version = 2", "COMMIT", "BEGIN IMMEDIATE"):\n'
        "                connection.execute(each)\n"
        '            apply_schema(connection)\n            connection.execute("COMMIT")\n        except',
        f"{POWER}[upgrading]",
    ),
    # forks, restores, other users, peers
    Fault(
        "numbers that are given again after a restore",
        "transfer/backup.py",
        "                _keep_numbers(file, making)\n",
        "",
        "tests/reliability/test_replaced.py::test_a_run_that_began_before_a_restore_does_not_end_another_one",
    ),
    Fault(
        "an end for whichever run has the number by now",
        "recording/transitions.py",
        "WHERE id = ? AND created_us = coalesce(?, created_us)",
        "WHERE id = ? AND coalesce(?, created_us) IS NOT NULL",
        "tests/reliability/test_replaced.py::"
        "test_a_block_that_an_older_copy_lacks_does_not_end_the_run_that_has_its_number",
    ),
    Fault(
        "a forked child that ends its parent's run",
        "recording/run.py",
        "        return self._process == this_process() or is_gone(self._process)",
        "        return True",
        "tests/contract/test_recorder.py::test_a_child_that_was_forked_inside_a_run_ends_it_only_if_its_parent_is_gone",
    ),
    Fault(
        "a worker process that ends before its run's end is recorded",
        "integrations/huey.py",
        "        huey.on_shutdown(HOOK)(self.flush)  # a worker",
        "        # a worker",
        "tests/integrations/test_huey.py::"
        "test_an_interrupted_worker_process_ends_no_sooner_than_its_run_is_recorded",
    ),
    Fault(
        "a file that another user planted in a world-writable folder",
        "cli/screen.py",
        "        _refuse_planted(each)\n",
        "        pass\n",
        "tests/contract/cli/test_keeping.py",
    ),
    Fault(
        "a request with two lengths",
        "http/serve.py",
        'if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):',
        "if False:",
        "tests/contract/http/test_serve.py",
    ),
    Fault(
        "bitmaps that lack the highest slot of a segment",
        "storage/segments.py",
        're.finditer(b"1", digits)',
        're.finditer(b"1", digits[:-1])',
        SEGMENTS,
    ),
)  # fmt: skip
