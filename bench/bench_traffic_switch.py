"""Does moving traffic drop a request? Eight callers without a pause while traffic is moved between two deployments.

    .venv/bin/python bench/traffic_switch.py --switches 100
"""
import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from harness import PYTHON, Result, versions

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main():
    from tests.support.serving import Client, Endpoints, Load, make_workspace
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--switches", type=int, default=100)
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp())
    root = make_workspace(home / "project")
    endpoints, times = Endpoints(root), []
    try:
        for name in ("blue", "green"): endpoints.deploy(root / "endpoint.yml", root / "deployment.yml", name=name)
        with Load(Client(endpoints, "echo"), threads=8) as load:
            for number in range(asked.switches):
                load.served(10)
                begin = time.perf_counter()
                endpoints.set_traffic("echo", {"green": 100} if number % 2 == 0 else {"blue": 100})
                times.append(time.perf_counter() - begin)
            endpoints.deploy(root / "endpoint.yml", root / "deployment.yml", name="blue")
            load.served(100)
    finally:
        endpoints.stop("echo")
        shutil.rmtree(home, ignore_errors=True)
    bad = len(load.errors) + sum(status != 200 for status, _, _ in load.replies)
    result = Result(
        "traffic_switch",
        f"{asked.switches} switches of traffic and one new build, under load",
        units={"ms": "ms"},
        versions=versions(PYTHON, "mlops-nb"),
    )
    result.add({"a switch": [{"ms": 1000*one} for one in times]})
    result.notes.append(f"{len(load.replies):,} requests answered meanwhile.")
    result.target("failed requests", bad, 0)
    result.write()
    sys.exit(bool(bad))


if __name__ == "__main__": main()
