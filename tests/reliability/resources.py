"""A recorder, a server and an MCP server under load, beside a reader that never pauses: what they use stays flat.

    python -m tests.reliability.resources FOLDER --seconds 60

The recorder's clock steps back and forth. Memory, descriptors and the log's size are looked at all the time; what the
last third of the time needed is compared with what the first third after the warming up did. Prints the figures as
JSON; any exception is a finding.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jobstore

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD = """
import random, sys, time
from datetime import UTC, datetime, timedelta
import jobstore
step, chance = [0.0], random.Random(1)
clock = lambda: datetime.now(UTC) + timedelta(seconds=step[0])
with jobstore.Recorder(sys.argv[1], clock=clock, timeout_seconds=60) as recorder:
    for name in "abcde":
        recorder.save_job(name, job_type="t", job_category="c", interval_seconds=60)
    print("ready", flush=True)
    number = 0
    while True:
        number += 1
        if number % 50 == 0:
            step[0] = chance.choice([0.0, 3600.0, -3600.0, 86400.0, -86400.0])
        with recorder.run("abcde"[number % 5], trace_id=f"t{number}"):
            pass
        if number % 100 == 0:
            recorder.prune(keep_last=100)
        time.sleep(0.002)
"""
HELLO = {
    "jsonrpc": "2.0", "id": 0, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "soak", "version": "1"}},
}  # fmt: skip
MOST_GROWTH_KIB = 24 * 1024
"""Of what a process keeps in memory; caches go on filling for a while."""
MOST_NEW_DESCRIPTORS = 8
"""A connection or two may be open at the moment of a look."""
MOST_LOG_BYTES = 40 * 1024 * 1024
"""The log's bound is 16 MiB; a reader at the wrong moment puts that off."""


class Watched:
    """A process, and what it was seen to use."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self.seen: list[tuple[int, int]] = []

    def look(self) -> None:
        """Notes its memory in KiB and its descriptors."""
        lines = (self._folder / "status").read_text(encoding="ascii", errors="replace").splitlines()
        (memory,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        self.seen.append((memory, len(list((self._folder / "fd").iterdir()))))

    def grown(self) -> tuple[int, int]:
        """By how much the most of the last third exceeds that of the first third after the warming up."""
        warm = self.seen[len(self.seen) // 4 :]
        first, last = warm[: max(1, len(warm) // 3)], warm[-max(1, len(warm) // 3) :]
        return tuple(max(each[n] for each in last) - max(each[n] for each in first) for n in (0, 1))  # type: ignore[return-value]


class Load(threading.Thread):
    """Asks again and again, and keeps how long each answer took."""

    def __init__(self, ask: Callable[[int], object], stop: threading.Event, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._ask, self._stop_event, self._pause = ask, stop, pause
        self.seconds: list[float] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stop_event.is_set():
                begun = time.perf_counter()
                self._ask(len(self.seconds))
                self.seconds.append(time.perf_counter() - begun)
                self._stop_event.wait(self._pause)
        except BaseException as error:  # raised again by the main thread
            self.error = error

    def told(self) -> tuple[float, float]:
        """The median of the first third after the warming up and of the last, in milliseconds."""
        warm = self.seconds[len(self.seconds) // 4 :]
        third = max(1, len(warm) // 3)
        return tuple(round(1000 * statistics.median(part), 2) for part in (warm[:third], warm[-third:]))  # type: ignore[return-value]


def started(stack: ExitStack, *words: str, **more: Any) -> subprocess.Popen[str]:
    """A process that ends with the stack."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, **more)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of its output."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it has ended"
    return line


def mcp_asker(process: subprocess.Popen[str]) -> Callable[[int], object]:
    """Calls a tool of the server over its pipes."""
    assert process.stdin is not None

    def send(message: object) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()

    send(HELLO)
    line_of(process)
    send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def ask(number: int) -> None:
        call = {"name": "datahub_list_job_executions", "arguments": {"limit": 20, "offset": number % 40}}
        send({"jsonrpc": "2.0", "id": number + 1, "method": "tools/call", "params": call})
        answer = json.loads(line_of(process))
        assert not answer["result"].get("isError"), answer

    return ask


def http_asker(address: str) -> Callable[[int], object]:
    """Asks a page of the server, each time over another connection."""
    source = random.Random(1)

    def ask(_number: int) -> None:
        orders = source.choice(["started_at", "duration_ms", "id"])
        url = f"{address}/api/v1/jobs/executions?limit=20&order_by={orders}&offset={source.randrange(40)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200
            answer.read()

    return ask


def main(arguments: list[str]) -> None:
    """Runs everything for the time that is given, and prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.resources")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args(arguments)
    path = given.folder / "jobs.db"
    with ExitStack() as stack:
        recorder = started(stack, "-c", RECORD, str(path))
        assert line_of(recorder) == "ready\n"
        server = started(stack, "-m", "jobstore", "serve", str(path), "--open", "--port", "0", stderr=subprocess.STDOUT)
        address = next(word for word in line_of(server).split() if word.startswith("http://"))
        threading.Thread(target=server.communicate, daemon=True).start()  # so that its log is read
        mcp = started(stack, "-m", "jobstore", "mcp", str(path), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        watched = {"recorder": Watched(recorder.pid), "serve": Watched(server.pid), "mcp": Watched(mcp.pid)}
        stop = threading.Event()
        store = stack.enter_context(jobstore.open(path))
        loads = {
            "serve": Load(http_asker(address), stop, 0.005),
            "mcp": Load(mcp_asker(mcp), stop, 0.005),
            "reader": Load(lambda number: store.list_job_executions(limit=20, offset=number % 40), stop),
        }
        log_bytes, until = 0, time.monotonic() + given.seconds
        for load in loads.values():
            load.start()
        while time.monotonic() < until and not any(load.error for load in loads.values()):
            time.sleep(0.1)
            for each in watched.values():
                each.look()
            log = Path(f"{path}-wal")
            log_bytes = max(log_bytes, log.stat().st_size if log.exists() else 0)
        stop.set()
        for load in loads.values():
            load.join(60)
            if load.error is not None:
                raise load.error
    figures: dict[str, float] = {"longest log bytes": log_bytes}
    for name, process in watched.items():
        memory, descriptors = process.grown()
        figures[f"{name}: longest growth of memory KiB"] = memory
        figures[f"{name}: longest growth of descriptors"] = descriptors
        assert memory <= MOST_GROWTH_KIB, (name, "memory", process.seen[:: max(1, len(process.seen) // 20)])
        assert descriptors <= MOST_NEW_DESCRIPTORS, (name, process.seen[:: max(1, len(process.seen) // 20)])
    assert log_bytes <= MOST_LOG_BYTES, log_bytes
    for name, load in loads.items():
        first, last = load.told()
        figures |= {
            f"{name}: answers": len(load.seconds),
            f"{name}: median wait at first ms": first,
            f"{name}: median wait at last ms": last,
        }
    assert jobstore.check(path) == []
    print(json.dumps(figures))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
