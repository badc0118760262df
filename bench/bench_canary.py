"""How often a release is right: nominal against actual error rates, simulated with the functions that the release uses

    python bench/bench_canary.py              1,000 releases of each kind
    python bench/bench_canary.py --runs 100   a quick look
"""
import argparse
import itertools
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from harness import PYTHON, Result, versions

from mlops_nb.azure.metrics import COUNTS, Point, events_from_counts
from mlops_nb.releases.canary import log_e_path, log_e_threshold, upper_bound
from mlops_nb.releases.judgement import count_requests, find_breach, judge_promotion, judge_share
from mlops_nb.releases.record import Release, new_stage
from mlops_nb.releases.rollout import Phase, Rollout, load_rollout

LONGEST = 20_000    # Requests of the canary after which a release is given up: still on hold
START = datetime(2026, 1, 1, tzinfo=UTC)
VERSIONS = ("old", "new")
GOOD, BAD = {"status": 200, "milliseconds": 9.0}, {"errors": {"status": 500, "milliseconds": 9.0},
                                                   "slow answers": {"status": 200, "milliseconds": 9e9}}


@dataclass(frozen=True)
class World:
    "How an endpoint behaves, in ticks of ten seconds"
    old: dict               # Shares of the champion's answers that are bad, by kind
    new: dict               # The canary's
    requests: int = 20      # Of both versions in a tick
    routed: float = 1.0     # The real share of the canary, as a multiple of the declared one
    fails_from: int = 0     # Percent of the traffic; with less, the canary is as good as the champion
    shared: range = range(0)    # Ticks of an incident that makes both ten times as bad
    burst: int = 0          # Errors in a row at an incident, which is on the canary's side as often as its share
    every: int = 6          # Ticks between two of these


@dataclass
class Simulation:
    "A release at an endpoint of which everything is known"
    plan: Rollout
    world: World
    draw: np.random.Generator

    def __post_init__(self):
        self.release = Release("r", "endpoint", "model", "2", "new", "1", "old", asdict(self.plan), {},
                               p99_latency_ms=self.plan.p99_latency_ms or 250.0)
        self.number, self.tick = itertools.count(), 0

    def enter(self, phase: Phase) -> dict:
        record = {**new_stage(phase), "begin": "0"}
        self.release.stages.append(record)
        return record

    def event(self, deployment: str, second: float, **change) -> dict:
        when = (START + timedelta(seconds=10 * self.tick + second)).isoformat()
        return {**GOOD, "served": when, "deployment": deployment, "mirror": False, "valid": True,
                "cursor": str(next(self.number)), **change}

    def serve(self, record: dict, share: float):
        "A tick: good answers are counted, bad ones are events"
        world, count = self.world, self.draw.binomial(self.world.requests, share * self.world.routed)
        counts = {"old": world.requests - count, "new": count}
        factor, bad = 10 if self.tick in world.shared else 1, []
        new = world.new if share * 100 >= world.fails_from else world.old
        for name, rates in zip(VERSIONS, (world.old, new)):
            for kind, rate in rates.items():
                bad += [self.event(name, second, **BAD[kind])
                        for second in self.draw.uniform(0, 10, self.draw.binomial(counts[name], min(rate * factor, 1)))]
        if world.burst and self.tick % world.every == 0:
            side = VERSIONS[int(self.draw.random() < share * world.routed)]
            bad += [self.event(side, second, **BAD["errors"]) for second in self.draw.uniform(0, 2, world.burst)]
        good = {name: max(counts[name] - sum(event["deployment"] == name for event in bad), 0) for name in VERSIONS}
        record["requests"] += good["new"]
        record["champion_requests"] += good["old"]
        record["split_requests"] += sum(good.values())
        record["split_canary"] += good["new"]
        count_requests(record, sorted(bad, key=lambda event: event["served"]), self.release)
        self.tick += 1

    def seen(self) -> int: return sum(record["requests"] for record in self.release.stages)

    def run(self) -> str:
        "The whole release without its shadow: back, hold, promoted, or waiting"
        stages = [stage for stage in self.plan.stages if stage.traffic]
        for phase, after in itertools.pairwise(stages):
            record = self.enter(phase)
            while True:
                self.serve(record, phase.traffic / 100)
                decision = judge_share(self.release, record, phase, last=after.traffic == 100)
                if decision.act in ("back", "hold"): return decision.act
                if decision.act == "go": break
                if self.seen() > LONGEST: return "waiting"
        return "promoted"

    def run_stage(self, ticks: int) -> str:
        "One stage, whose games go on whatever else is found: back, hold or good"
        phase, held = self.plan.stages[0], False
        record = self.enter(phase)
        for _ in range(ticks):
            self.serve(record, phase.traffic / 100)
            if find_breach(self.release, record): return "back"
            held |= judge_share(self.release, record, phase, last=False).act == "hold"
        return "hold" if held else "good"


def error(share: float, runs: int) -> float:
    "The Monte Carlo error of a share: one standard error, with one more of each kind so that it is never 0"
    share = (share * runs + 1) / (runs + 2)
    return round(float(np.sqrt(share * (1 - share) / runs)), 5)


def releases(name: str, plan: Rollout, world: World, runs: int, seed: int) -> dict:
    "The figures of one kind of release"
    ends, caught, promoted, early = [], [], [], 0
    for run in range(runs):
        simulation = Simulation(plan, world, np.random.default_rng((seed, run)))
        ends.append(simulation.run())
        if ends[-1] == "back": caught.append(simulation.seen())
        if ends[-1] != "promoted": continue
        promoted.append(simulation.seen())
        bad = sum(record["bad"] for record in simulation.release.stages)
        early += upper_bound(bad, simulation.seen(), plan.confidence) >= plan.max_bad_rate
    found = {act: round(ends.count(act) / runs, 5) for act in ("back", "hold", "promoted", "waiting")}
    return {"name": name, **found, "error": error(found["back"], runs), "early": early,
            "caught": float(np.median(caught)) if caught else None,
            "promoted at": float(np.median(promoted)) if promoted else None}


def stage_of(plan: Rollout, traffic: int) -> Rollout:
    "The games of one stage, with the thresholds of the whole plan"
    alpha = plan.alpha * 2 / plan.games
    return replace(plan, alpha=alpha, stages=(Phase(f"{traffic} %", traffic, min_requests=10**9), Phase("100 %", 100)))


def stages(name: str, plan: Rollout, traffic: int, world: World, ticks: int, runs: int, seed: int) -> dict:
    "The figures of one stage: nominal and actual"
    one = stage_of(plan, traffic)
    ends = [Simulation(one, world, np.random.default_rng((seed, run))).run_stage(ticks) for run in range(runs)]
    back = ends.count("back") / runs
    return {"name": name, "nominal": one.alpha, "back": round(back, 5), "error": error(back, runs),
            "hold": round(ends.count("hold") / runs, 5)}


def counted_each(plan: Rollout, traffic: int, size: int, runs: int, seed: int) -> float:
    "What 100 incidents of so many errors would do if each error counted"
    draw, limit = np.random.default_rng(seed), log_e_threshold(plan.alpha, plan.games)
    back = [log_e_path(np.repeat(draw.random(100) < traffic / 100, size), traffic / 100).max() >= limit
            for _ in range(runs)]
    return round(float(np.mean(back)), 5)


def azure(per_minute: int, slow: float, plan: Rollout, runs: int, seed: int, ceilings: bool = True) -> float:
    "How often a canary is promoted of which Azure tells counts and quantiles; it answers so many slowly"
    promoted = 0
    for run in range(runs):
        draw, simulation = np.random.default_rng((seed, run)), Simulation(plan, World({}, {}), None)
        record, act = simulation.enter(Phase("50 %", 50)), "wait"
        for minute in range(LONGEST // per_minute):
            late = draw.random(per_minute) < slow
            took = np.where(late, draw.uniform(250, 500, per_minute), draw.uniform(0, 250, per_minute))
            at, by = START + timedelta(minutes=minute), {"deployment": "new"}
            known = [Point(f"RequestLatency_P{rank}", by, at, float(np.percentile(took, rank)))
                     for rank in (50, 90, 95, 99)]
            count = Point(COUNTS, by | {"statuscode": "200"}, at, float(per_minute))
            count_requests(record, events_from_counts([count], known, set()), simulation.release)
            if not ceilings: record["doubtful"] = 0
            if record["requests"] >= 900: act = judge_promotion(simulation.release).act
            if act == "go": break
        promoted += act == "go"
    return round(promoted / runs, 5)


def kinds(shipped: Rollout) -> list:
    "Name, rollout, world: the figures that the release has to meet, and what they cost"
    busy = replace(shipped, max_bad_rate=0.04)    # An endpoint that lives with 2 % bad events demands less than 4 %
    def world(old: float, new: float, **more): return World({"errors": old}, {"errors": new}, **more)
    slow = {"slow answers": 0.02}
    return [("as good, 0.1 % bad", shipped, world(0.001, 0.001)),
            ("as good, 2 % bad", busy, world(0.02, 0.02)),
            ("as good, 2 % bad, incident shared by both (20 % bad)", busy, world(0.02, 0.02, shared=range(100, 400))),
            ("better, 2 % against 1 %", busy, world(0.02, 0.01)),
            ("twice as bad, 2 % base", busy, world(0.02, 0.04)),
            ("three times as bad, 2 % base", busy, world(0.02, 0.06)),
            ("three times as bad from 25 % of the traffic on", busy, world(0.02, 0.06, fails_from=25)),
            ("three times as bad from 50 % of the traffic on", busy, world(0.02, 0.06, fails_from=50)),
            ("each tenth answer bad, 0.1 % base", shipped, world(0.001, 0.1)),
            ("2 % slow, and 0.5 % errors more", busy, World(slow, slow | {"errors": 0.005})),
            ("2 % slow, and 1 % errors more", busy, World(slow, slow | {"errors": 0.01})),
            ("2 % slow, and 2 % errors more", busy, World(slow, slow | {"errors": 0.02}))]


def dependent(shipped: Rollout, runs: int, sizes=(2, 4, 8, 30), shares=(5, 50)) -> list[dict]:
    "One stage where the premises of a plain count do not hold"
    found = []
    for traffic, size in itertools.product(shares, sizes):
        bursts = World({}, {}, burst=size, requests=200)
        name = f"equal versions, 100 bursts of {size} errors, {traffic} % of the traffic"
        each = counted_each(shipped, traffic, size, 10 * runs, size)
        found.append({**stages(name, shipped, traffic, bursts, 600, runs, size), "before": each})
    for traffic, real in ((5, 5), (5, 6), (5, 7.5), (50, 50), (50, 55)):
        routed = World({"errors": 0.02}, {"errors": 0.02}, requests=100, routed=real / traffic)
        name = f"equal versions, {real} % of the traffic, {traffic} % declared"
        found.append(stages(name, shipped, traffic, routed, 1000, runs, traffic))
    return found


UNITS = {"nominal": "nominal", "before": "rolled back if each error counted", "back": "rolled back",
         "error": "± (one standard error)", "hold": "held: share", "promoted": "promoted", "waiting": "not decided",
         "early": "promoted without evidence", "caught": "canary requests until caught, median",
         "promoted at": "canary requests until promoted, median",
         "floors": "promoted if floors were taken for latencies"}


def report(result: Result, rows: list[dict]):
    for row in rows:
        print(row, flush=True)
        result.add({row["name"]: [{unit: row[unit] for unit in UNITS if row.get(unit) is not None}]})


def judge_releases(whole: list[dict], runs: int, shipped: Rollout):
    "The table of whole releases"
    result = Result("canary", f"How often a release is right: {runs:,} simulated releases of each kind", units=UNITS,
                    versions=versions(PYTHON, "mlops-nb", "numpy"))
    report(result, whole)
    named = {row["name"]: row for row in whole}
    threefold = named["three times as bad, 2 % base"]
    result.target("false rollbacks, the worst kind of release",
                  max(row["back"] for row in whole if row["name"].startswith("as good")), shipped.alpha)
    result.target("threefold bad rate at 2 % base, not caught", 1 - threefold["back"], 0.01)
    result.target("1 % errors more beside 2 % slow answers, not caught",
                  1 - named["2 % slow, and 1 % errors more"]["back"], 0.4)
    result.target("canary requests until a threefold bad rate is caught, median", threefold["caught"], 400)
    result.target("promoted without evidence", sum(row["early"] for row in whole), 0)
    result.notes.append("The shadow is left out: what it shows comes on top. Bad events within "
                        f"{shipped.burst_seconds:g} seconds count once.")
    result.write()


def judge_stages(runs: int, shipped: Rollout):
    "The table of single stages where a premise does not hold, and of Azure's quantiles"
    result = Result("canary_stages", f"Stages with bursts, or with another share: {runs:,} of each kind", units=UNITS,
                    versions=versions(PYTHON, "mlops-nb", "numpy"))
    single, few = dependent(shipped, runs), max(runs // 10, 20)
    report(result, single)
    quantiles = [{"name": f"Azure, {rate} requests a minute, 1.5 % slow, at most 1 % shown ({few} releases)",
                  "nominal": 1 - shipped.confidence, "promoted": azure(rate, 0.015, shipped, few, rate),
                  "floors": azure(rate, 0.015, shipped, few, rate, ceilings=False)} for rate in (30, 60, 120)]
    wide = replace(shipped, max_bad_rate=0.03)
    quantiles += [{"name": f"Azure, {rate} requests a minute, 0.1 % slow, at most 3 % shown ({few} releases)",
                   "promoted": azure(rate, 0.001, wide, few, rate)} for rate in (30, 60, 120)]
    report(result, quantiles)
    result.target("false rollbacks, the worst stage with bursts or another share", max(row["back"] for row in single),
                  shipped.alpha)
    result.target("Azure: promoted with more slow answers than were shown",
                  max(row["promoted"] for row in quantiles if "floors" in row), 0.05)
    result.write()


def main(runs: int, shipped: Rollout, only: str | None):
    if only != "releases": judge_stages(runs, shipped)
    if only == "stages": return
    whole = [{**releases(name, plan, world, runs, seed), "nominal": shipped.alpha if "as good" in name else None}
             for seed, (name, plan, world) in enumerate(kinds(shipped))]
    judge_releases(whole, runs, shipped)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="releases of each kind")
    parser.add_argument("--rollout", default="pipelines/deployment/rollout.yml", help="the file to try")
    parser.add_argument("--only", choices=("releases", "stages"), help="one of both tables")
    given = parser.parse_args()
    main(given.runs, load_rollout(given.rollout), given.only)
