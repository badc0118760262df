"What `make bench` says at its end, and what it keeps of earlier versions"
import importlib.util
import json
import os
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


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of processes is read from /proc")
def test_the_memory_of_a_tree_is_that_of_all_its_processes(harness):
    held = "import sys; held = b'x' * 60_000_000; print('ready', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {held!r}])"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "MARK_OF_A_TREE": "one"}) as process:
        assert process.stdout.readline() == "ready\n"
        assert 60 < harness.tree_memory(b"MARK_OF_A_TREE=one") < 200
        assert harness.tree_memory(b"MARK_OF_A_TREE=other") == 0
        process.stdin.close()
