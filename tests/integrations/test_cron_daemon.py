"""A crontab of fifteen lines, four of them failing in odd ways, run by Debian's cron for three minutes.

Beside it another user reads the store all the time, and a server answers. cron runs in a mount namespace of its own,
where it finds this crontab alone and where mail goes to a folder: nothing of the machine's cron or mail is touched.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

import jobstore

MINUTES = 3
CRON = "/usr/sbin/cron"
ODD = {
    "exit": ("echo oh >&2; exit 7", "FAILURE", 7),
    "crash": ("kill -SEGV $$", "FAILURE", 139),
    "slow": ("sleep 50", "TIMEOUT", 124),
    "closed": ("echo lost; exit 3", "FAILURE", 3),
}
"""The four, with the status and the exit code that are wanted."""
GOOD = {
    "quiet": "true", "says": "echo hello", "dated": "date +\\%s >/dev/null", "given": "read a && read b && test $a$b = xy",
    "many": "seq 1 20000 >/dev/null", "folder": "cd / && test $(pwd) = /", "home": 'test -n "$HOME"', "late": "sleep 3",
    "full": "echo x", "behind": "sleep 1 >/dev/null 2>&1 &", "both": "echo 1; echo 2 >&2",
}  # fmt: skip
AROUND = {"closed": ">&-", "full": ">/dev/full", "given": "%x%y"}
OPTIONS = {"slow": "--timeout 2"}
PRINTED = {"exit": "oh\n", "says": "hello\n", "both": "1\n2\n"}

READER = """
import os, sys, tempfile, time, jobstore
with tempfile.TemporaryDirectory() as folder:  # imports all that is needed, while the modules can be read
    jobstore.Recorder(f"{folder}/a.db").close()
    with jobstore.open(f"{folder}/a.db") as store:
        store.list_jobs(search="x"), store.list_job_executions(), store.job_stats()
os.setgid(65534), os.setuid(65534)
print("reading", flush=True)
while True:
    try:
        with jobstore.open(sys.argv[1]) as store:
            store.list_jobs(), store.list_job_executions(), store.job_stats()
    except jobstore.StoreNotFound:
        pass
    time.sleep(0.02)
"""


def needs() -> str:
    """What keeps this test from running here; nothing if all is there."""
    if not Path(CRON).exists():
        return "Debian's cron is not installed"
    if os.geteuid() != 0:
        return "only root may run cron"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "no mount namespace can be made here"
    return ""


REASON = needs()


class Trial:
    """A folder with a store, a crontab, marks that the commands leave, and mail."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store" / "jobs.db"
        for name in ("store", "marks", "mail", "cron.d", "spool"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        self.store.parent.chmod(0o2775)
        self._program("jobstore", f'exec {shlex.quote(sys.executable)} -m jobstore "$@"')
        self._program("sendmail", f"exec cat >$(mktemp {folder}/mail/XXXXXX)")
        (folder / "empty").touch()
        lines = [self._line(name, command) for name, command in [*GOOD.items(), *((n, o[0]) for n, o in ODD.items())]]
        assert len(lines) == 15
        (folder / "cron.d" / "trial").write_text("MAILTO=trial\nPATH=/usr/bin:/bin\n" + "".join(lines))

    def _program(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(0o755)

    def _line(self, name: str, command: str) -> str:
        marked = f"echo >>{self.folder}/marks/{name}; {command}"
        words = f"{self.folder}/jobstore exec {self.store} {name} --schedule '* * * * *' {OPTIONS.get(name, '')}"
        return f"* * * * * root {words} -- sh -c {shlex.quote(marked)} {AROUND.get(name, '')}\n"

    def cron(self) -> subprocess.Popen[bytes]:
        mail = os.path.realpath("/usr/sbin/sendmail") if Path("/usr/sbin/sendmail").exists() else ""
        binds = {
            f"{self.folder}/cron.d": "/etc/cron.d", f"{self.folder}/spool": "/var/spool/cron", f"{self.folder}/empty": "/etc/crontab",
            **({f"{self.folder}/sendmail": mail} if mail else {}),
        }  # fmt: skip
        mounts = " && ".join(
            f"mount --bind {source} {target}" for source, target in binds.items() if Path(target).exists()
        )
        script = f"{mounts} && mount -t tmpfs none /run && exec {CRON} -f"
        return subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", script])

    def marks(self) -> dict[str, int]:
        """How often each command ran, by its own word."""
        return {each.name: len(each.read_text()) for each in (self.folder / "marks").iterdir()}

    def mails(self) -> list[str]:
        """What was mailed: the name of the job and the text behind the head."""
        return [
            f"{re.search('exec [^ ]+ ([a-z]+)', text)[1]}: {text.partition(chr(10) * 2)[2]}"  # type: ignore[index]
            for text in (each.read_text() for each in (self.folder / "mail").iterdir())
        ]


def ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(REASON), reason=REASON or "-")
def test_a_cron_daemon_runs_fifteen_lines_beside_a_reader_and_a_server():
    folder = Path(tempfile.mkdtemp(prefix="jobstore-cron-", dir="/tmp"))
    trial = Trial(folder)
    try:
        with ExitStack() as stack:
            reader = subprocess.Popen([sys.executable, "-c", READER, str(trial.store)], stdout=subprocess.PIPE)
            stack.callback(ended, reader)
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reading\n"
            cron = trial.cron()
            stack.callback(ended, cron)
            wait_until(trial.store.exists, 150)
            log = folder / "server.log"
            with log.open("wb") as said:
                line = [sys.executable, "-m", "jobstore", "serve", str(trial.store), "--open", "--port", "0"]
                server = subprocess.Popen(line, stdout=said, stderr=said)
            stack.callback(ended, server)
            wait_until(lambda: b"http://" in log.read_bytes(), 60)
            address = re.findall(r"http://[0-9.]+:[0-9]+", log.read_text())[0]
            asked = f"{address}/api/v1/jobs/executions?limit=5"
            wait_until(lambda: answers(asked) and trial.marks().get("quiet", 0) >= MINUTES, 60 * (MINUTES + 2))
            ended(cron)
            wait_until(lambda: all_recorded(trial), 120)
            assert reader.poll() is None
            assert server.poll() is None
            assert answers(asked)
        check(trial)
    finally:
        shutil.rmtree(folder)


def wait_until(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def answers(address: str) -> bool:
    with urllib.request.urlopen(address, timeout=30) as reply:
        return bool(json.load(reply)["pagination"]["total"] >= 0)


def recorded(trial: Trial) -> list[tuple[str, str, int]]:
    with jobstore.open(trial.store) as store:
        found = store.list_job_executions(limit=1000)["data"]
    return [(each["job_name"], each["status"], (each["result"] or {}).get("exit_code", -1)) for each in found]


def all_recorded(trial: Trial) -> bool:
    found = recorded(trial)
    return len(found) == sum(trial.marks().values()) and all(status != "RUNNING" for _, status, _ in found)


def check(trial: Trial) -> None:
    marks, found = trial.marks(), recorded(trial)
    assert set(marks) == set(GOOD) | set(ODD)
    wanted = dict.fromkeys(GOOD, ("SUCCESS", 0)) | {name: (odd[1], odd[2]) for name, odd in ODD.items()}
    assert sorted(found) == sorted((name, *wanted[name]) for name, runs in marks.items() for _ in range(runs))
    assert sorted(trial.mails()) == sorted(
        f"{name}: {text}" for name, text in PRINTED.items() for _ in range(marks[name])
    )
    assert jobstore.check(trial.store) == []
    sys.stderr.write(f"{len(found)} runs of {len(marks)} lines, {len(trial.mails())} mails\n")
    owner = {(each.name, each.stat().st_uid) for each in trial.store.parent.iterdir()}
    assert {uid for _, uid in owner} == {0}, owner
