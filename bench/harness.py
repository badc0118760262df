"""What every benchmark here shares: run a command and say what it cost, take turns, and write down the result.

    from harness import Result, peer, rounds, spawn

    result = Result("pipeline", "Five notebooks as a pipeline", baseline="plain Python")
    result.add(rounds({"plain Python": lambda: spawn([python, "plain.py"]), "papermill": ...}, count=5))
    result.target("CPU, times plain Python", value, limit=1.4)
    result.write()

A candidate is a function that returns numbers by name: `{"cpu": seconds, "wall": seconds, "rss": megabytes}` or any
others.
"""
import html
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from mlops_nb import __version__

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
HOME = ROOT/".bench"  # environments of the peers, and their working folders
RESULTS = BENCH/"results"
PYTHON = ROOT/".venv"/"bin"/"python"
UNITS = {"cpu": "CPU s", "wall": "wall s", "rss": "largest process MB"}


class Missing(Exception):
    "A peer that could not be installed or run here; its text is the reason"


def peer(
    name: str,  # A file of bench/peers without its suffix
) -> Path:  # The Python of an environment that has what the file asks for
    "The environment of a peer, made when it is not there or no longer what its file says"
    wanted, home = (BENCH/"peers"/f"{name}.txt").read_text(), HOME/name
    python, stamp = home/"bin"/"python", home/".installed"
    if stamp.exists() and stamp.read_text() == wanted: return python
    uv = ROOT/".venv"/"bin"/"uv"
    for words in (
        ["venv", "--clear", "--python", PYTHON, home],
        ["pip", "install", "--compile-bytecode", "--python", python, "-r", BENCH / "peers" / f"{name}.txt"],
    ):
        done = subprocess.run([uv, *words, "--quiet"], text=True, capture_output=True)
        if done.returncode:
            raise Missing(
                f"{name} could not be installed: "
                f"{done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"
            )
    stamp.write_text(wanted)
    return python


def versions(
    python: Path,  # Of an environment
    *names: str,  # Of packages
) -> dict[str, str]:  # Those that are installed there
    "What is installed in an environment"
    script = (
        "import json, sys\nfrom importlib.metadata import version, PackageNotFoundError\nfound = {}\n"
        "for name in sys.argv[1:]:\n    try: found[name] = version(name)\n    except PackageNotFoundError: "
        "pass\nprint(json.dumps(found))"
    )
    return json.loads(subprocess.run([python, "-c", script, *names], capture_output=True, check=True).stdout)


def spawn(
    argv: list,  # The command
    cwd: Path | None = None,
    env: dict | None = None,  # Added to the environment
    codes: tuple = (0,),  # Exit codes that are right
    timeout: float = 300,  # Seconds
    tree: bool = False,  # Measure the memory of all its processes together, too
) -> dict[str, float]:  # `cpu` and `wall` in seconds, `rss` and `tree` in megabytes
    "Run a command and measure it together with the processes that it started and waited for"
    # or every import compiles anew
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=cwd,
            env={**settings, "MLOPS_NB_LAUNCHER_IDLE": "0", **(env or {})},     # nothing stays for the next measurement
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        peak: list[float] = [0.0]
        usage = _wait(process, start + timeout, peak if tree else None)
        wall = time.perf_counter() - start
        if process.returncode not in codes:
            output.seek(0)
            raise Missing(
                f"{Path(str(argv[0])).name} ended with {process.returncode}: "
                f"{output.read().decode(errors='replace')[-600:].strip()}"
            )
    measured = {"cpu": usage.ru_utime + usage.ru_stime, "wall": wall, "rss": usage.ru_maxrss / 1024}
    return {**measured, "tree": peak[0]} if tree else measured


def tree_memory(pid: int) -> float:
    "Memory of a process and all below it, MB: pages that several share count once (Linux)"
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try: children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
        except OSError: continue  # it has just ended
    total, left = 0.0, [pid]
    while left:
        left += children.get(one := left.pop(), [])
        try: lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError: continue
        total += sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
    return total


def _wait(process: subprocess.Popen, deadline: float, peak: list[float] | None = None):
    "Wait for a process, and kill its session when it takes too long; what it used, and in `peak` the largest memory"
    try:
        while not (found := os.wait4(process.pid, os.WNOHANG))[0]:
            if time.perf_counter() > deadline: os.killpg(process.pid, 9)
            if peak: peak[0] = max(peak[0], tree_memory(process.pid))
            time.sleep(0.1 if peak else 0.002)
    except BaseException:   # Ctrl-C ends what was started too: it lives in a session of its own
        os.killpg(process.pid, 9)
        raise
    process.returncode = os.waitstatus_to_exitcode(found[1])
    return found[2]


def rounds(
    candidates: dict[str, Callable[[], dict]],  # By name
    count: int = 5,  # How often each is measured
    warm: bool = True,  # Run each once before, unmeasured
    say=lambda text: print(text, file=sys.stderr, flush=True),
) -> dict[str, list[dict] | str]:  # By name: measurements, or why there are none
    "Measure candidates in turn, so that a busy moment of the machine meets all of them"
    found: dict = {name: [] for name in candidates}
    for number in range(-1 if warm else 0, count):
        for name, measure in candidates.items():
            if isinstance(found[name], str): continue
            try: taken = measure()
            except Missing as reason: found[name] = str(reason)
            else:
                if number >= 0: found[name].append(taken)
                say(
                    f"  {name}: "
                    + ", ".join(f"{key} {value:.3g}" for key, value in taken.items())
                    + ("" if number >= 0 else " (warming up)")
                )
    return found


def summary(values: list[float]) -> dict[str, float]:
    "The middle and the ends of some measurements"
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def machine() -> dict[str, object]:
    "What this was measured on"
    cpu = (
        next(
            (
                line.partition(":")[2].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            "",
        )
        if Path("/proc/cpuinfo").exists()
        else ""
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE")*os.sysconf("SC_PHYS_PAGES")/2**30
    return {
        "processor": cpu or platform.processor(),
        "cores": cores,
        "memory_gb": round(memory),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def measured_with(result: dict) -> str:
    "The version of mlops-nb that a result is of; empty where the result does not say"
    return result.get("version") or result["versions"].get("mlops-nb", "")


def keep_earlier(name: str, version: str, folder: Path = RESULTS):
    "Keep the result of an earlier version, which is about to be replaced, as earlier/VERSION/NAME.json"
    if not (file := folder/f"{name}.json").exists(): return
    before = measured_with(json.loads(file.read_text()))
    if before in ("", version): return
    kept = folder/"earlier"/before/file.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(file.read_text())


def by_version(folder: Path = RESULTS) -> list[dict]:
    "Every target of the newest results: benchmark, what, limit, unit, met, value, and `earlier`: values by version"
    found = []
    for file in sorted(folder.glob("*.json")):
        before = [json.loads(path.read_text()) for path in sorted(folder.glob(f"earlier/*/{file.name}"))]
        for target in json.loads(file.read_text())["targets"]:
            values = {measured_with(old): one["value"] for old in before for one in old["targets"]
                      if one["what"] == target["what"]}
            found.append({"benchmark": file.stem, **target, "earlier": values})
    return found


def report(targets: list[dict]) -> str:
    "Say of each target whether it was met, and what earlier versions had; first what was not met"
    lines = []
    for one in sorted(targets, key=lambda one: one["met"]):
        earlier = ", ".join(f"{version}: {value:.3g}{one['unit']}" for version, value in one["earlier"].items())
        lines.append(f"{'met    ' if one['met'] else 'NOT met'}  {one['benchmark']}: {one['what']}: "
                     f"{one['value']:.3g}{one['unit']}, target {one['limit']:g}{one['unit']}"
                     + f" ({earlier})" * bool(earlier))
    return "\n".join([*lines, f"{sum(one['met'] for one in targets)} of {len(targets)} targets met"])


@dataclass
class Result:
    "The result of one benchmark: rows of measurements, targets, and what was not measured"
    name: str  # Of its files in bench/results
    title: str
    baseline: str | None = None  # The row that ratios refer to
    units: dict = field(default_factory=lambda: dict(UNITS))  # Measurement -> heading
    versions: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    rows: dict = field(default_factory=dict)  # Name -> measurement -> median, min, max and ratio
    missing: dict = field(default_factory=dict)  # Name -> reason
    targets: list = field(default_factory=list)

    def add(self, measured: dict[str, list[dict] | str]):
        "Rows from `rounds`"
        for name, found in measured.items():
            if isinstance(found, str): self.missing[name] = found
            else: self.rows[name] = {key: summary([one[key] for one in found]) for key in found[0]}
        base = self.rows.get(self.baseline or "")
        for row in self.rows.values() if base else ():
            for key, one in row.items():
                if base.get(key, {}).get("median"): one["ratio"] = one["median"] / base[key]["median"]

    def target(self, what: str, value: float, limit: float, unit: str = ""):
        "A number that must not be larger than a limit"
        self.targets.append(
            {"what": what, "value": float(value), "limit": limit, "unit": unit, "met": bool(value <= limit)}
        )

    def markdown(self) -> str:
        "All of it as a page"
        keys = [key for key in self.units if any(key in row for row in self.rows.values())]
        names = (
            sorted(self.rows, key=lambda name: self.rows[name].get(keys[0], {}).get("median", float("inf")))
            if keys
            else []
        )
        around = machine()
        lines = [
            f"# {self.title}",
            "",
            f"{date.today()}, {around['processor']}, {around['cores']} cores, {around['memory_gb']} GB, "
            f"{around['system']}, "
            f"Python {around['python']}, load {around['load']}. "
            + ", ".join(f"{name} {version}" for name, version in self.versions.items()),
            "",
        ]
        if names:
            varies = {
                key for key in keys for row in self.rows.values() if key in row and row[key]["min"] != row[key]["max"]
            }
            lines += [
                "| | "
                + " | ".join(
                    self.units[key] + ": median (min to max)" * (key in varies) + " | ratio" * bool(self.baseline)
                    for key in keys
                )
                + " |"
            ]
            lines += ["| --- |" + " --- |"*(len(keys)*(2 if self.baseline else 1))]
            lines += [
                "| " + name + " | " + " | ".join(self._cells(self.rows[name].get(key)) for key in keys) + " |"
                for name in names
            ] + [""]
        lines += [
            f"- {one['what']}: {one['value']:.3g}{one['unit']}, target {one['limit']:g}{one['unit']}: "
            f"{'met' if one['met'] else 'NOT met'}"
            for one in self.targets
        ]
        lines += [f"- {note}" for note in self.notes] + [
            f"- Not measured: {name}. {' '.join(reason.split())}" for name, reason in self.missing.items()
        ]
        return "\n".join(lines) + "\n"

    def _cells(self, one: dict | None) -> str:
        if not one: return "|" if self.baseline else ""
        text = f"{one['median']:.3g}" + (f" ({one['min']:.3g} to {one['max']:.3g})" if one["min"] != one["max"] else "")
        return f"{text} | {one['ratio']:.2f}" if "ratio" in one else text + (" |" if self.baseline else "")

    def svg(self) -> str:
        "A bar for each row: the median of the first measurement"
        key = next(key for key in self.units if any(key in row for row in self.rows.values()))
        bars = sorted(((row[key]["median"], name) for name, row in self.rows.items() if key in row))
        largest, lines = max(value for value, _ in bars) or 1, []
        for number, (value, name) in enumerate(bars):
            y, width = 34 + 22*number, max(1, 300*value/largest)
            lines += [
                f'<text x="300" y="{y + 12}" text-anchor="end">{html.escape(name)}</text><rect x="308" y="{y}" '
                f'width="{width:.0f}" height="16" fill="{"#0969da" if "mlops-nb" in name else "#8c959f"}"/>'
                f'<text x="{314 + width:.0f}" y="{y + 12}">{value:.3g}</text>'
            ]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {44 + 22 * len(bars)}" font-family="system-ui, '
            f'sans-serif" font-size="12" role="img">'
            f'<title>{html.escape(self.title)}: {html.escape(self.units[key])}</title><rect width="100%" height="100%" '
            f'fill="white"/>'
            f'<text x="308" y="20" font-weight="bold">{html.escape(self.units[key])}</text>{"".join(lines)}</svg>\n'
        )

    def write(self):
        "Print the table and keep it in bench/results"
        self.missing = {
            name: reason.replace(str(ROOT), ".").replace(str(Path.home()), "~") for name, reason in self.missing.items()
        }
        RESULTS.mkdir(exist_ok=True)
        keep_earlier(self.name, __version__)
        kept = {
            "name": self.name,
            "title": self.title,
            "date": str(date.today()),
            "version": __version__,
            "machine": machine(),
            "versions": self.versions,
            "units": self.units,
            "baseline": self.baseline,
            "rows": self.rows,
            "targets": self.targets,
            "notes": self.notes,
            "missing": self.missing,
        }
        (RESULTS/f"{self.name}.json").write_text(json.dumps(kept, indent=1) + "\n")
        (RESULTS/f"{self.name}.md").write_text(self.markdown())
        if self.rows: (RESULTS/f"{self.name}.svg").write_text(self.svg())
        print(self.markdown())
