"""What a million requests leave: memory and descriptors of the host, and bytes on disk before and after `mlops-nb gc`.

    .venv/bin/python bench/bench_growth.py --requests 1000000
    .venv/bin/python bench/bench_growth.py --seconds 600        as many as that time allows

The deployment answers at once, so that the host is what is measured. Targets are slopes over the second half of the
run: what grows with requests is found by a tenth of a million as well.
"""
import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import PYTHON, Result, versions

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
BODY = b'[{"p": 0.25, "carrier": "UA", "hour": 17.5}]'
PARTS = ("collected", "endpoints", "telemetry")


def look(pid: int) -> dict[str, float]:
    "Memory (MB) and descriptors of a process"
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {"memory": pages * os.sysconf("SC_PAGE_SIZE") / 1e6, "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}


def slope(samples: list[dict], key: str) -> float:
    "Growth a million requests, over the second half of the samples"
    half = samples[len(samples) // 2:]
    return float(np.polyfit([one["requests"] for one in half], [one[key] for one in half], 1)[0] * 1e6)


def main():
    from load import measure

    from mlops_nb.project import Project
    from mlops_nb.serving.endpoints import Endpoints
    from mlops_nb.workspace import retention
    from mlops_nb.workspace.workspace import Workspace

    from tests.support.serving import make_workspace
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="End after so long, whatever was asked")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="growth-"))
    root = make_workspace(home / "project")
    endpoints, project = Endpoints(root), Project(root)
    Workspace(root).db.close()
    endpoints.deploy(root / "endpoint.yml", root / "deployment.yml")
    folder, samples, requests, failures = endpoints.folder("echo"), list[dict](), 0, 0
    port, key = folder.state["port"], endpoints.keys("echo")["primary"]
    def disk() -> int: return sum(size for part, size in retention.disk_use(project).items() if part in PARTS)
    empty, end = disk(), time.monotonic() + asked.seconds
    try:
        while requests < asked.requests and time.monotonic() < end:
            found = measure(port, "/score", BODY, key, seconds=5, connections=8)
            requests, failures = requests + found["requests"], failures + found["failures"]
            samples.append({"requests": requests, "per_second": found["per_second"], **look(folder.host.pid)})
            print(samples[-1], file=sys.stderr, flush=True)
    finally: endpoints.stop("echo")
    before = (disk() - empty) / requests
    later = retention.Retention(project, time.time() + 3 * retention.DAY)   # two days are kept as they are
    for change in later.plan(): retention.apply(change)
    after = (disk() - empty) / requests
    shutil.rmtree(home)
    result = Result("growth", f"{requests:,} requests to one endpoint",
                    units={"per_second": "requests a second", "memory": "memory of the host, MB",
                           "descriptors": "descriptors", "disk": "bytes on disk a request"},
                    versions=versions(PYTHON, "mlops-nb", "aiohttp", "uvloop"))
    at = {"first tenth": len(samples) // 10, "half": len(samples) // 2, "end": -1}
    result.add({name: [samples[number]] for name, number in at.items()})
    result.rows["end"]["disk"] = {"median": before, "min": before, "max": before}
    result.rows["after gc"] = {"disk": {"median": after, "min": after, "max": after}}
    result.target("growth of memory, MB a million requests", max(slope(samples, "memory"), 0), 20)
    result.target("growth of descriptors a million requests", max(slope(samples, "descriptors"), 0), 5)
    result.target("bytes on disk a request after gc", after, 700)
    result.target("requests that were not answered with 200", failures, 0)
    result.write()


if __name__ == "__main__": main()
