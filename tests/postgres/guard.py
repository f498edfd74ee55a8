"""Owns one PostgreSQL server: ``python guard.py FOLDER USER COMMAND...`` starts and stops it as stdin says.

Run apart from the tests, so that the server ends, and its folder goes, however the tests end: that is when stdin ends.
An immediate stop rather than SIGKILL, which would leave shared memory behind.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

STOPS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}


def main(folder: str, user: str, *command: str) -> None:
    """Obeys ``start``, which does nothing while the server runs, and the words of `STOPS`; answers each when it is done."""
    server: subprocess.Popen[bytes] | None = None
    as_user = {"user": int(user), "group": int(user), "extra_groups": []} if int(user) else {}
    try:
        while word := sys.stdin.readline().strip():
            if word == "start" and (server is None or server.poll() is not None):
                server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **as_user)  # type: ignore[call-overload]
            elif word != "start" and server is not None:
                server.send_signal(STOPS[word])
                server.wait()
            sys.stdout.write("done\n")
            sys.stdout.flush()
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGQUIT)
            server.send_signal(signal.SIGCONT)  # a test may have stopped it, and been killed
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)  # those who send them mean the tests; these end, and stdin with them
    main(*sys.argv[1:])
