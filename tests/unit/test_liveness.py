"""Which process is surely gone, and which is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobstore.storage.processes import _process, is_alive, is_gone, this_process

ME = this_process()
LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells when a process started")


def test_this_process_is_not_gone():
    assert (ME.pid, is_gone(ME), is_alive(ME)) == (os.getpid(), False, True)


def test_nothing_is_sure_of_another_host():
    assert not is_gone(ME._replace(host="elsewhere", pid=2**22 + 1))


def test_all_of_an_earlier_boot_are_gone():
    assert is_gone(ME._replace(boot_id="another"))


@pytest.mark.parametrize("namespace", [0, ME.pid_namespace + 1])
def test_nothing_is_sure_of_another_namespace(namespace):
    unknown = ME._replace(pid_namespace=namespace, pid=2**22 + 1)
    assert (is_gone(unknown), is_alive(unknown)) == (False, False)
    assert is_gone(unknown._replace(boot_id="another"))


def test_a_number_that_no_process_has_is_gone():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait(120)
    assert is_gone(ME._replace(pid=ended.pid))


@LINUX
def test_a_number_that_another_process_has_now_is_gone():
    assert is_gone(ME._replace(process_started=ME.process_started + 1))
    assert not is_gone(ME._replace(process_started=0))


@LINUX
def test_a_process_that_ended_and_was_not_waited_for_is_gone():
    with subprocess.Popen([sys.executable, "-c", ""], stdout=-1) as ended:
        assert ended.stdout is not None
        ended.stdout.read()
        state = _process(ended.pid)
        assert state is not None
        owner = ME._replace(pid=ended.pid, process_started=state[1])
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(owner)


@LINUX
def test_a_process_of_another_user_is_there():
    state = _process(1)
    assert state is not None
    assert not is_gone(ME._replace(pid=1, process_started=state[1]))


def test_a_child_is_another_process():
    program = "import os; from jobstore.storage.processes import this_process as p; a = p(); c = os.fork()\n"
    program += "if c == 0: os._exit(p().pid == a.pid)\nassert os.waitpid(c, 0)[1] == 0"
    subprocess.run([sys.executable, "-c", program], check=True)
