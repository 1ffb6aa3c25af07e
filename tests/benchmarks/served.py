"""What a request costs, ours beside what a user would pick instead, on one server on loopback.

    python tests/benchmarks/served.py                                  # ours and the bare SDK
    python tests/benchmarks/served.py --peer curator=PYTHON --peer distilabel=PYTHON
    python tests/benchmarks/served.py --requests 100000 --only ours    # is memory flat?

Every subject is a process of its own that asks the same questions: 50 ms of latency, 64 at once.
CPU a request is counted at the margin, between a tenth of the requests and all of them, so that
starting up counts for nothing. Peers run in environments of their own, by the Python given.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).parent
LATENCY, AT_ONCE = 0.05, 64
OURS, BARE = "ours", "bare-sdk"


@dataclass(frozen=True, slots=True)
class Spent:
    seconds: float
    cpu: float  # seconds, of all its processes
    peak: int  # bytes, of all its processes at once


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=5000)
    options.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    options.add_argument("--only", default="")
    given = options.parse_args()
    peers = dict(peer.split("=", 1) for peer in given.peer)
    subjects = {OURS: sys.executable, BARE: sys.executable} | peers
    few = given.requests // 10
    print("| subject | requests/s | of the bare SDK's | CPU ms a request | peak MB |")
    print("|---|---|---|---|---|")
    bare = 0.0
    for name in sorted(subjects, key=lambda name: (name != BARE, name != OURS)):
        if given.only and name != given.only:
            continue
        short, long = (run(name, subjects[name], count) for count in (few, given.requests))
        rate = (given.requests - few) / (long.seconds - short.seconds)
        cpu = 1000 * (long.cpu - short.cpu) / (given.requests - few)
        bare = rate if name == BARE else bare
        ratio = f"{rate / bare:.2f}" if bare else ""
        print(
            f"| {name} | {rate:,.0f} | {ratio} | {cpu:.2f} | {long.peak / 1e6:,.0f} |", flush=True
        )
    print(f"| latency alone | {AT_ONCE / LATENCY:,.0f} | | | |")


def run(name: str, python: str, count: int) -> Spent:
    """The subject's script on a fresh server and in a fresh folder; SystemExit when it fails."""
    server = subprocess.Popen(
        [sys.executable, HERE / "served_server.py", str(LATENCY)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout
    url = server.stdout.readline().strip()
    script = HERE / "served_subjects" / f"with_{name.replace('-', '_')}.py"
    try:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
            began = time.perf_counter()
            child = subprocess.Popen(
                [python, script, url, str(count), str(AT_ONCE), folder], stdout=said, stderr=said
            )
            cpu, peak = watch(psutil.Process(child.pid))
            seconds = time.perf_counter() - began
            if child.wait():
                said.seek(0)
                raise SystemExit(f"{name} failed:\n{said.read()[-3000:]}")
            return Spent(seconds, cpu, peak)
    finally:
        server.kill()


def watch(process: psutil.Process) -> tuple[float, int]:
    """(CPU seconds, peak bytes) of a process and its children, until it ends."""
    cpu: dict[int, float] = {}
    peak = 0
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        now = 0
        try:
            for each in (process, *process.children(recursive=True)):
                times = each.cpu_times()
                cpu[each.pid] = times.user + times.system
                now += each.memory_info().rss
        except psutil.NoSuchProcess:
            pass
        peak = max(peak, now)
        time.sleep(0.02)
    return sum(cpu.values()), peak


if __name__ == "__main__":
    main()
