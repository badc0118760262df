"""Is an acknowledged record ever lost? A collector under load is killed with SIGKILL, again and again.

    .venv/bin/python bench/collection_kill.py --trials 100

A process collects what it reads from a pipe and acknowledges each record once `Collector.collect` has returned. It
is killed at a moment drawn at random; then every acknowledged id must be in the inputs and in the outputs.
"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import PYTHON, Result, versions

CHILD = """
import os, sys
from datetime import datetime, timezone
from mlops_nb.serving.collection import Collector, new_instance_name
collector = Collector(sys.argv[1], "flights", "blue", "3", new_instance_name())
os.write(1, b"ready\\n")
for line in os.fdopen(0, "rb", buffering=0):
    id = line.decode().strip()
    row = {"carrier": "UA", "hour": 17.5, "gust": None}
    collector.collect(datetime.now(timezone.utc), id, [row], [{"probability": 0.31}])
    os.write(1, line)
"""


def trial(number: int, draw: random.Random) -> dict:
    "One life of a collector: how many records it acknowledged, how fast, and how many of them are not there"
    with tempfile.TemporaryDirectory() as home:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert child.stdout.readline() == b"ready\n"
        begin, end, seen, sent = time.monotonic(), time.monotonic() + draw.uniform(0.1, 0.6), [], 0
        os.set_blocking(child.stdout.fileno(), False)
        rest = b""
        while time.monotonic() < end:
            while sent < len(seen) + 64:    # as if 64 callers waited for their answers
                child.stdin.write(f"{number}-{sent}\n".encode())
                sent += 1
            *lines, rest = (rest + (child.stdout.read() or b"")).split(b"\n")
            seen += lines
        seconds = time.monotonic() - begin
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        os.set_blocking(child.stdout.fileno(), True)
        seen += [line for line in (rest + child.stdout.read()).split(b"\n") if line]
        kept = [
            {
                json.loads(line)["xrequestid"]
                for path in Path(home).rglob(f"*/{kind}/**/*.jsonl")
                for line in path.read_bytes().split(b"\n")[:-1]
            }
            for kind in ("model_inputs", "model_outputs")
        ]
        child.stdin.close()
        child.stdout.close()
        return {
            "acknowledged": len(seen),
            "rate": len(seen) / seconds,
            "lost": len({s.decode() for s in seen} - (kept[0] & kept[1])),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    trials = [trial(number, draw) for number in range(asked.trials)]
    result = Result(
        "collection_kill",
        f"{len(trials)} collectors killed at work",
        units={"rate": "acknowledged a second", "acknowledged": "acknowledged", "lost": "lost"},
        versions=versions(PYTHON, "mlops-nb"),
    )
    result.add({"one life of a collector": trials})
    lost = sum(one["lost"] for one in trials)
    result.notes.append(f"{sum(one['acknowledged'] for one in trials):,} records acknowledged, {lost} of them lost.")
    result.target("lost", lost, 0)
    result.target(
        "1,000 a second, times the median rate", 1000 / result.rows["one life of a collector"]["rate"]["median"], 1
    )
    result.write()
    sys.exit(lost > 0)


if __name__ == "__main__": main()
