"What `make bench` says at its end, and what it keeps of earlier versions"
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture(scope="module")
def harness():
    spec = importlib.util.spec_from_file_location("bench_harness", BENCH / "harness.py")
    module = sys.modules["bench_harness"] = importlib.util.module_from_spec(spec)   # dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_harness"]


def write(harness, folder, name, version, value, **how):
    "A result with one target, as `Result.write` leaves it"
    harness.keep_earlier(name, version, folder)
    target = {"what": "CPU", "value": value, "limit": 1.0, "unit": " s", "met": value <= 1}
    (folder / f"{name}.json").write_text(json.dumps({"targets": [target], "versions": {}, "version": version, **how}))


def test_targets_that_are_not_met_come_first_with_values_of_earlier_versions(harness, tmp_path):
    write(harness, tmp_path, "a", "0.1.0", 0.5)
    write(harness, tmp_path, "b", "0.1.0", 3.0)
    write(harness, tmp_path, "b", "0.2.0", 2.5)
    write(harness, tmp_path, "b", "0.2.0", 2.0)     # the same version again replaces its result
    assert harness.report(harness.by_version(tmp_path)).splitlines() == [
        "NOT met  b: CPU: 2 s, target 1 s (0.1.0: 3 s)", "met      a: CPU: 0.5 s, target 1 s", "1 of 2 targets met"]
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("earlier/*/*")] == ["earlier/0.1.0/b.json"]


def test_results_that_do_not_say_their_version_are_replaced(harness, tmp_path):
    write(harness, tmp_path, "a", "", 0.5)
    write(harness, tmp_path, "a", "0.2.0", 0.7)
    assert not (tmp_path / "earlier").exists()
    write(harness, tmp_path, "c", "", 0.5, versions={"mlops-nb": "0.1.0"})
    write(harness, tmp_path, "c", "0.2.0", 0.7)
    assert (tmp_path / "earlier" / "0.1.0" / "c.json").exists()


def test_the_recorded_results_can_be_reported(harness):
    targets = harness.by_version()
    assert len(targets) > 40 and harness.report(targets).endswith(f" of {len(targets)} targets met")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux counts shared pages apart")
def test_the_memory_of_a_tree_of_processes_has_all_of_them_and_shared_pages_once(harness):
    "A process fills 64 MB, forks a child that shares them, and the child fills 64 MB of its own"
    script = ("import os, sys\nshared = bytearray(b'x') * 2**26\nup, told = os.pipe()\n"
              "if not os.fork():\n    own = bytearray(b'y') * 2**26\n    os.write(told, b'.')\n    sys.stdin.read()\n"
              "else:\n    os.read(up, 1)\n    print('ready', flush=True)\n    os.wait()\n")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as process:
        assert process.stdout.readline() == b"ready\n"
        found = harness.tree_memory(process.pid)
        process.stdin.close()
    assert 128 <= found < 128 + 60
