"""``cron import``: crontabs as people write them, read as Debian's cron reads them."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobstore.cli import cron
from jobstore.cli.cron import _why_not
from jobstore.integrations.crontab import is_system_crontab, name_of, rewritten
from tests import warm

PROGRAM = ["/usr/bin/jobstore"]
STORE = "/var/lib/jobs.db"


def checker() -> list[str]:
    """Debian's own check of a crontab; nothing where it is not here."""
    if not shutil.which("crontab"):
        return []
    said = subprocess.run(["crontab", "-h"], capture_output=True, text=True, check=False)
    return ["crontab", "-n"] if "dry run" in said.stdout + said.stderr else []


CHECK = checker()
PARTS = """
* 5 05 5-7 7-5 5-7/2 5/2 */0 */99 5, ,5 5,7 *-5 5-* 5#3 L ? W H H/2 R ~ 0~5 a jan JAN-mar jan-3 january mon mon-5 mon/2
fri#2 5L 15W 0-7 7-7 24 32 13 8 60 00 +5 5. 0x5 @5
"""


def made(text: str, *, has_users: bool = False):
    return rewritten(text, program=PROGRAM, store=STORE, is_user={"root"}.__contains__ if has_users else None)


def as_cron_reads(field: str) -> tuple[str, str]:
    """What Debian's cron gives to the shell, and to its standard input: the loop of its ``do_command.c``."""
    command, is_escaped = "", False
    for at, letter in enumerate(field):
        if is_escaped:
            command = f"{command[:-1]}%" if letter == "%" else command + letter
            is_escaped = False
        elif letter == "%":
            return command, field[at + 1 :].replace("%", "\n")
        else:
            command += letter
            is_escaped = letter == "\\"
    return command, ""


def the_run(line: str, fields: int = 5) -> tuple[list[str], str]:
    """The words that cron's shell makes of a rewritten line, and its standard input."""
    command, given_in = as_cron_reads(line.split(None, fields)[fields])
    return shlex.split(command), given_in


def test_comments_variables_and_blank_lines_stay_byte_for_byte():
    kept = "# m h\n\nMAILTO=\"ops@x.org\"\nPATH = /usr/bin\n'A B'= 5\n   # 5 * * * * old\n\t\n"
    assert made(f"{kept}@daily /srv/a.sh").text.startswith(kept)
    assert made(kept) == (kept.removesuffix("\n"), [], [], [])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "*/5 * * * *\t/srv/sync.sh -q",
            ["sync", "--schedule", "*/5 * * * *", "--", "/bin/sh", "-c", "/srv/sync.sh -q"],
        ),
        ("  30 2 * jan,JUL 1-5  a.sh", ["a", "--schedule", "30 2 * jan,JUL 1-5", "--", "/bin/sh", "-c", "a.sh"]),
        ("0\t0\t1-7\t*\tsun b", ["b", "--schedule", "0 0 1-7 * sun", "--", "/bin/sh", "-c", "b"]),
        ("0 0 */2 * 7 b", ["b", "--schedule", "0 0 */2 * 7", "--", "/bin/sh", "-c", "b"]),
        ('0 9 * * * it\'s "x"', ['it\'s "x"', "--schedule", "0 9 * * *", "--", "/bin/sh", "-c", 'it\'s "x"']),
        ("0 9 * * * date +\\%F", ["date", "--schedule", "0 9 * * *", "--", "/bin/sh", "-c", "date +%F"]),
        ("0 9 * * * grep '\\\\\\%' f", ["grep", "--schedule", "0 9 * * *", "--", "/bin/sh", "-c", "grep '\\\\%' f"]),
    ],
)
def test_a_line_gets_a_name_its_schedule_and_the_same_command(line, words):
    (rest, _) = the_run(made(line).text)
    assert rest[:3] == [*PROGRAM, "exec", STORE]
    assert rest[4:] == words[1:]
    assert made(line).text.startswith(line[: len(line) - len(line.split(None, 5)[5])])


def test_what_stands_behind_a_percent_sign_is_still_standard_input():
    text = made("0 9 * * * mail -s 100\\%hi me%Dear me,%  yours%").text
    words, given_in = the_run(text)
    assert words[-1] == "mail -s 100%hi me"
    assert given_in == "Dear me,\n  yours\n"


@settings(deadline=None)
@given(st.text(st.sampled_from("a %\\'\"$*;#=-"), min_size=1, max_size=30))
def test_whatever_a_command_is_the_shell_and_standard_input_get_the_same(field):
    line = f"0 9 * * * x{field}"
    result = made(line)
    assert not result.left
    words, given_in = the_run(result.text)
    assert (words[-1], given_in) == as_cron_reads(line.split(None, 5)[5])


@pytest.mark.parametrize("alias", ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"])
def test_an_alias_is_a_schedule(alias):
    assert f"exec {STORE} a --schedule {alias} -- /bin/sh -c a" in made(f"{alias} a").text


def test_reboot_is_recorded_without_a_schedule():
    assert made("@reboot /srv/up.sh").text == f"@reboot {PROGRAM[0]} exec {STORE} up -- /bin/sh -c /srv/up.sh"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("every day /srv/a", "cron does not understand this line"),
        ("* * * * *", "cron does not understand this line"),
        ("@Daily /srv/a", "cron does not understand this line"),
        ("0 0 * * * * /srv/a", "cron does not understand this line"),
        ("A=", "cron does not understand this line"),
        ("A='b' c", "cron does not understand this line"),
        ("* * * * * a\0b", "cron does not understand this line"),
        ("a=b\n\r", "cron does not understand this line"),
        ("'SHELL'=/usr/bin/fish\n* * * * * a", "has quoting rules of its own"),
        (f"* * * * * echo {'x' * 950}", "over 998 bytes"),
        ("5#3 * * * * a", "5#3"),
        ("5/10 * * * * a", "5/10"),
        ("* * L * * a", "'l'"),
        ("* * 15W * * a", "15w"),
        ("* * ? * * a", "?"),
        ("* * * jan/2 * a", "jan/2"),
        ("* * * * fri#2 a", "fri#2"),
        ("* * * * 0/2 a", "0/2"),
        ("* * * * fri-mon a", "runs backwards"),
        ("* 22-6 * * * a", "runs backwards"),
        ("61 * * * * a", "minute"),
        ("* * * * * a\r", "CR LF"),
        ("* * * * * /usr/bin/jobstore exec /a.db b -- true", "already recorded"),
        ("SHELL=/usr/bin/fish\n* * * * * a", "has quoting rules of its own"),
    ],
)
def test_what_is_not_understood_stays_and_is_told(line, reason):
    result = made(line)
    assert (result.text, result.jobs) == (line, [])
    assert reason in result.left[0][1]
    assert result.left[0][0] == line.count("\n") + 1


def test_a_store_whose_path_has_a_line_break_breaks_no_line():
    result = rewritten("@daily a", program=PROGRAM, store="/srv/a\nb.db")
    assert (result.text, result.jobs) == ("@daily a", [])
    assert "line break" in result.left[0][1]


@pytest.mark.timeout(60)
def test_a_line_of_any_length_is_read_at_once():
    line = f"* * * * * {'x' * 200_000}"  # took minutes, and four times as many for twice the length
    assert made(line).text == line


def test_below_a_zone_of_the_crontab_no_schedule_is_given_and_it_is_told():
    text = 'a=1\nCRON_TZ="Asia/Tokyo"\n@reboot up\n0 9 * * * a\n*/0 * * * * b\nCRON_TZ=""\n0 9 * * * c'
    result = made(text)
    assert (result.jobs, result.unscheduled) == (["up", "a", "c"], ["a"])
    assert [number for number, _ in result.left] == [5]
    assert [line.count("--schedule") for line in result.text.split("\n")] == [0, 0, 0, 0, 0, 0, 1]


def test_the_shell_of_the_crontab_runs_the_command():
    assert "-- /bin/bash -c" in made("SHELL=/bin/bash\n* * * * * a").text


def test_a_field_that_cron_reads_as_this_store_does_is_a_schedule():
    for when in ("5-7,*/100 0-23/3 1-31/2 jan-MAR,12 sat-7", "0-59/61 05 */32 * mon-fri/2", "*,5 * * * 0-7"):
        assert f"--schedule '{when}' --" in made(f"{when} a").text


@pytest.mark.skipif(not CHECK, reason="this machine's crontab has no -n")
def test_no_line_that_debians_cron_refuses_is_rewritten_and_none_that_it_would_refuse_is_made(tmp_path):
    def refused(lines: list[str]) -> str:
        (tmp_path / "tab").write_text("".join(f"{line}\n" for line in lines))
        done = subprocess.run([*CHECK, tmp_path / "tab"], check=False, capture_output=True, text=True)
        return done.stdout + done.stderr if done.returncode else ""

    lines = [" ".join(["*"] * n + [part] + ["*"] * (4 - n)) + " a" for n in range(5) for part in PARTS.split()]
    lines += [
        "A=",
        "A='b' c",
        "A=b c",
        "\r",
        "A=b\r",
        "0 0 * * * * a",
        "@Daily a",
        "@daily a",
        "@reboot\ta",
        "* * * * a",
    ]
    lines += [f"* * * * * {'x' * length}" for length in (850, 950, 998, 999)]
    results = {line: made(line) for line in lines}
    assert refused([line for line, result in results.items() if not result.left]) == ""
    assert refused([result.text for result in results.values() if result.jobs]) == ""
    assert refused(["* * * * * a", "L * * * * a"]) != ""


def test_the_last_line_needs_no_end_and_the_second_time_nothing_changes():
    once = made("A=b\n0 4 * * * /srv/last").text
    assert made(f"{once}\n").text == once
    assert made(once).jobs == []


def test_a_system_crontab_keeps_its_users():
    text = "17 *\t* * *\troot    cd / && run-parts --report /etc/cron.hourly\n"
    assert is_system_crontab(text, {"root"}.__contains__)
    assert not is_system_crontab("* * * * * rooted x\n", {"root"}.__contains__)
    line = made(text, has_users=True).text
    assert line.startswith("17 *\t* * *\troot    /usr/bin/jobstore exec")
    words, _ = the_run(line, 6)
    assert words[3:6] == ["cron.hourly", "--schedule", "17 * * * *"]
    stranger = made("@daily nobody-here a\n@daily root a", has_users=True)
    assert (stranger.left, stranger.jobs) == ([(1, "this machine has no user 'nobody-here'")], ["a"])


def test_names_are_different_and_good():
    text = "0 1 * * * /srv/a.sh\n0 2 * * * /srv/a.sh -x\n0 3 * * * /srv/a-2.sh\n0 4 * * * 42"
    assert made(text).jobs == ["a", "a-2", "a-2-2", "command"]
    assert name_of("python3 /srv/app/manage.py clearsessions") == "manage-clearsessions"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("tar -cf b.tar --exclude=node.js /etc/hostname", "tar"),
        ("rsync -a --exclude=*.js /a /b", "rsync"),
        ("uwsgi --config=prod.py", "uwsgi"),
        ("find / -name --foo.sh", "find"),
        ("tar -X--exclude.py -cf b.tar /etc", "tar"),
        ("JOB=x.sh /srv/run.sh", "run"),
        ("JOB=x.sh backup", "backup"),
        ("/srv/-h", "h"),
        ("/srv/--.sh", "command"),
        ("-h", "command"),
    ],
)
def test_no_name_is_that_of_an_option_or_of_a_variable(command, name):
    result = made(f"0 2 * * * {command}")
    assert (result.jobs, result.left) == ([name], [])
    (words, _) = the_run(result.text)
    assert words[3] == name


def test_a_new_job_gets_no_name_that_the_crontab_already_records():
    recorded = made("@daily /srv/sync.sh").text
    older = "@daily jobstore exec --timeout 5m /a.db etl --schedule @daily -- etl.sh"
    result = made(f"@hourly /opt/sync.sh\n{recorded}\n{older}\n@hourly etl")
    assert result.jobs == ["sync-2", "etl-2"]


# --- the command ---------------------------------------------------------------------------------


USER = pwd.getpwuid(os.getuid()).pw_name


def jobstore(
    *words: str, cwd: Path, path: str | None = None, given_in: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(cwd), "PATH": path or os.environ["PATH"]}
    line, text = ("-m", "jobstore", *words), (given_in or "").encode()
    done = warm.forker(warm.COMMAND).run(line, cwd=cwd, variables=environment, given=text)
    return subprocess.CompletedProcess(line, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def programs(tmp_path):
    """A `crontab` that keeps one file, as the real one does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "crontab"
    script.write_text(
        '#!/bin/sh\nlast=; for last; do :; done\ncase "$last" in\n-l) cat "$HOME/tab" ;;\n-) cat >"$HOME/tab" ;;\n'
        '*) cp "$last" "$HOME/tab" ;;\nesac\n'
    )
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_it_prints_and_changes_nothing_unless_told_and_the_undo_it_prints_works(tmp_path, programs):
    old = "MAILTO=me\n*/5 * * * * /srv/a.sh\n"
    (tmp_path / "tab").write_text(old)
    seen = jobstore("cron", "import", "--store", "jobs.db", cwd=tmp_path, path=programs)
    assert seen.returncode == 0
    assert f"exec {tmp_path}/jobs.db a --schedule" in seen.stdout
    assert (tmp_path / "tab").read_text() == old
    changed = jobstore("cron", "import", "--store", "jobs.db", "--install", cwd=tmp_path, path=programs)
    assert (tmp_path / "tab").read_text() == seen.stdout
    undo = changed.stderr.strip().rpartition("To undo: ")[2]
    assert [each.stat().st_mode & 0o777 for each in tmp_path.glob("crontab.before*")] == [0o600]
    subprocess.run(undo, shell=True, check=True, env={"HOME": str(tmp_path), "PATH": programs})
    assert (tmp_path / "tab").read_text() == old


def test_a_file_is_changed_in_its_place_and_the_undo_works(tmp_path):
    file = tmp_path / "tab"
    file.write_text("@daily root /srv/a.sh")
    file.chmod(0o640)
    words = ["cron", "import", str(file), "--store", "/j.db", "--system"]
    assert jobstore(*words, cwd=tmp_path).stdout.startswith("@daily root /")
    assert file.read_text() == "@daily root /srv/a.sh"
    changed = jobstore(*words, "--install", cwd=tmp_path)
    assert file.read_text().endswith("-- /bin/sh -c /srv/a.sh\n")
    assert file.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / ".tab.before-jobstore").stat().st_mode & 0o777 == 0o600
    subprocess.run(changed.stderr.strip().rpartition("To undo: ")[2], shell=True, check=True, cwd="/")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("@daily root /srv/a.sh", 0o640)
    assert not (tmp_path / ".tab.before-jobstore").exists()


@pytest.mark.parametrize(("kibibytes", "said"), [(1, "cannot be kept in"), (8, "tab cannot be written")])
def test_a_file_that_cannot_be_replaced_stays_whole(tmp_path, kibibytes, said):
    file = tmp_path / "tab"
    file.write_text(old := "".join(f"@daily /srv/job{number}.sh\n" for number in range(200)))
    assert 1024 < len(old) < 8 * 1024
    script = 'ulimit -f "$1"; exec "$2" -B -m jobstore cron import tab --store /j.db --install'
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(kibibytes), sys.executable],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1), done.stderr
    assert said in done.stderr
    assert "File too large" in done.stderr
    assert file.read_text() == old
    assert [each.name for each in tmp_path.iterdir()] == ["tab"]


def test_a_users_crontab_has_no_users_and_the_group_alone_shows_its_help(tmp_path, programs):
    (tmp_path / "tab").write_text("@daily root /srv/a.sh\n")
    seen = jobstore("cron", "import", "--store", "/j.db", cwd=tmp_path, path=programs)
    assert seen.stdout.endswith("-- /bin/sh -c 'root /srv/a.sh'\n")
    alone = jobstore("cron", cwd=tmp_path)
    assert (alone.returncode, alone.stdout[:6], alone.stderr) == (0, "Usage:", "")


def test_a_users_crontab_in_a_file_or_on_stdin_is_not_taken_for_a_system_crontab(tmp_path):
    text = "0 7 * * * mail -s report ops@example.com < /tmp/report\n"  # Debian has a user of this name
    text = text.replace("mail", USER)
    (tmp_path / "tab").write_text(text)
    for file, given_in in (("tab", None), ("-", text)):
        words = ["cron", "import", file, "--store", "/j.db"]
        seen = jobstore(*words, cwd=tmp_path, given_in=given_in)
        assert f"-c '{USER} -s report ops@example.com < /tmp/report'" in seen.stdout
        assert "add --system" in seen.stderr
        told = jobstore(*words, "--no-system", cwd=tmp_path, given_in=given_in)
        assert (told.stdout, len(told.stderr.splitlines())) == (seen.stdout, 1)
        assert f"* * * {USER} /" in jobstore(*words, "--system", cwd=tmp_path, given_in=given_in).stdout


def test_a_system_crontab_is_detected_in_etc_also_by_a_link_and_it_is_told(tmp_path, monkeypatch, capsys):
    etc = tmp_path / "etc"
    (etc / "cron.d").mkdir(parents=True)
    monkeypatch.setattr(cron, "_ETC", f"{etc}/")
    monkeypatch.setattr(cron, "_SYSTEM_FILES", (f"{etc}/cron.d/",))
    (tmp_path / "link").symlink_to(etc / "cron.d" / "a")
    text = f"@daily {USER} a\n"
    for file, is_system in (
        (etc / "cron.d" / "a", True),
        (tmp_path / "link", True),
        (etc / "b", True),
        (tmp_path / "c", False),
    ):
        file.write_text(text)
        assert cron._is_system(str(file), text) == is_system
        assert ("read as a system crontab" in capsys.readouterr().err) == is_system


def test_what_cannot_be_is_refused_in_one_line(tmp_path, programs):
    for words, code, said in [
        (("--store", "j", "--user", "u", "f"), 2, "exclude each other"),
        (("--store", "j"), 1, "No crontab"),
        (("f",), 2, "--store is missing"),
        (("-", "--store", "j", "--install"), 2, "--install needs a file"),
        (("no-such-file", "--store", "j"), 3, "No such file"),
    ]:
        if "f" in words:
            (tmp_path / "f").write_text("@daily x\n")
        answer = jobstore("cron", "import", *words, cwd=tmp_path, path=programs)
        assert (answer.returncode, answer.stdout) == (code, ""), answer.stderr
        assert said in answer.stderr


def test_a_crontab_that_is_not_utf_8_is_printed_byte_for_byte(tmp_path):
    file = tmp_path / "tab"
    file.write_bytes(b"# r\xe9sum\xe9\n@daily /srv/\xe9t\xe9.sh\n")
    done = subprocess.run(
        [sys.executable, "-m", "jobstore", "cron", "import", str(file), "--store", "/j.db"],
        check=True, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    assert first == b"# r\xe9sum\xe9"
    assert second.endswith(b"-- /bin/sh -c '/srv/\xe9t\xe9.sh'")


def test_a_line_whose_user_cannot_run_jobstore_stays_as_it_is():
    text = "5 * * * * root /srv/a.sh\n5 * * * * www-data /srv/b.sh"
    reasons = {"www-data": "user 'www-data' cannot run it"}
    made = rewritten(text, program=PROGRAM, store=STORE, is_user=lambda _: True, why_not=reasons.get)
    assert made.jobs == ["a"]
    assert made.left == [(2, "user 'www-data' cannot run it")]
    assert made.text.splitlines()[1] == text.splitlines()[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_program_in_a_closed_folder_runs_for_those_who_may_enter_it(monkeypatch):
    with tempfile.TemporaryDirectory() as name:  # not below pytest's own, which is closed to others
        folder, program = Path(name), Path(name) / "jobstore"
        program.write_text("#!/bin/sh\nexit 0\n")
        program.chmod(0o755)
        assert _why_not((str(program),), None) is None
        assert "cannot run" in (_why_not((str(program),), "nobody") or "")
        monkeypatch.setattr(os, "getgrouplist", lambda _name, group: [group, 4711])
        os.chown(folder, -1, 4711)
        folder.chmod(0o710)
        assert _why_not((str(program), "by a group that is not the first"), "nobody") is None
        program.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
        assert "(broken)" in (_why_not((str(program), "again"), None) or "")
