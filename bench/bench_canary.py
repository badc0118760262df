"""How often a release is right: the whole policy of `rollout.yml`, simulated with the functions that the release uses

    python bench/bench_canary.py              10,000 releases of each kind, some minutes
    python bench/bench_canary.py --runs 500   a quick look
"""
import argparse
from dataclasses import replace
from functools import cache

import numpy as np
from harness import PYTHON, Result, versions

from mlops_nb.releases.canary import log_e, log_e_threshold, requests_needed, upper_bound
from mlops_nb.releases.rollout import Rollout, load_rollout

POLL = 10           # Requests of the canary between two looks of the controller, in the middle
LONGEST = 20_000    # Requests of the canary after which a release is given up: still on hold


def bad_rates(rates: tuple, incident: tuple | None, at: np.ndarray) -> tuple:
    "The rates of both versions now; in an incident both are ten times as high"
    inside = (at >= incident[0]) & (at < incident[1]) if incident else np.zeros(len(at), bool)
    return tuple(np.minimum(np.where(inside, 10 * rate, rate), 1.0) for rate in rates)


@cache
def needed(rollout: Rollout, most: int = 3000) -> np.ndarray:
    """Requests that have to be seen before promotion, by the number of bad events among them; none suffices beyond
    the table"""
    table, bad = [], 0
    while len(table) < most and (not table or table[-1] < LONGEST):
        table.append(requests_needed(rollout.max_bad_rate, bad, rollout.confidence))
        bad += 1
    return np.array([*table, 10**9])


class Runs:
    "Many releases at once, one element of each array for each"
    def __init__(self, n: int):
        self.outcome = np.zeros(n, int)                                     # 0 under way, 1 promoted, 2 rolled back
        self.seen, self.bad, self.caught_at = np.zeros(n, int), np.zeros(n, int), np.zeros(n, int)
        self.stage = np.zeros(n, int)
        self.restart(np.arange(n))

    def restart(self, which):
        "A new stage begins"
        for name in ("in_stage", "stage_bad", "other_bad"):
            if not hasattr(self, name): setattr(self, name, np.zeros(len(self.outcome), int))
            getattr(self, name)[which] = 0


def simulate(
    rollout: Rollout, champion: float, canary: float, runs: int, seed: int, incident: tuple | None = None
) -> Runs:
    "Releases with these rates of bad events; the shadow phase is left out, because it can only help"
    rng, table = np.random.default_rng(seed), needed(rollout)
    limit = log_e_threshold(rollout.alpha, rollout.comparisons)
    stages = [stage for stage in rollout.stages if 0 < stage.traffic < 100]
    share, enough = np.array([s.traffic / 100 for s in stages]), np.array([s.min_requests for s in stages])
    state = Runs(runs)
    while len(go := np.flatnonzero((state.outcome == 0) & (state.seen < LONGEST))):
        p = share[state.stage[go]]
        batch = np.round(POLL / p).astype(int)
        mine = rng.binomial(batch, p)
        rates = bad_rates((canary, champion), incident, state.seen[go])
        k, others = rng.binomial(mine, rates[0]), rng.binomial(batch - mine, rates[1])
        state.in_stage[go] += mine; state.seen[go] += mine
        state.stage_bad[go] += k; state.bad[go] += k; state.other_bad[go] += others
        for i, s in enumerate(share):
            here = go[state.stage[go] == i]
            e = log_e(state.stage_bad[here], state.stage_bad[here] + state.other_bad[here], s)
            breach = here[e >= limit]
            state.outcome[breach], state.caught_at[breach] = 2, state.seen[breach]
            passed = here[(e < limit) & (state.in_stage[here] >= enough[i])]
            if i < len(share) - 1: state.stage[passed] += 1; state.restart(passed)
            else: state.outcome[passed[state.seen[passed] >= table[np.minimum(state.bad[passed], len(table) - 1)]]] = 1
    return state


def row(name: str, rollout: Rollout, state: Runs) -> dict:
    "The figures of one kind of release"
    caught, promoted = state.outcome == 2, state.outcome == 1
    shown = {
        (bad, seen): upper_bound(bad, seen, rollout.confidence) < rollout.max_bad_rate
        for bad, seen in {*zip(state.bad[promoted], state.seen[promoted])}
    }
    early = sum(not shown[pair] for pair in zip(state.bad[promoted], state.seen[promoted]))
    early += sum(state.seen[promoted] < sum(stage.min_requests for stage in rollout.stages if stage.traffic))
    return {
        "releases": name,
        "runs": len(state.outcome),
        "rolled back": round(caught.mean(), 5),
        "promoted": round(promoted.mean(), 5),
        "on hold": round((state.outcome == 0).mean(), 5),
        "promoted without evidence": int(early),
        "median canary requests until caught": float(np.median(state.caught_at[caught])) if caught.any() else None,
        "median canary requests until promoted": float(np.median(state.seen[promoted])) if promoted.any() else None,
    }


def kinds(shipped: Rollout) -> list:
    """Name, rollout, rate of the champion, rate of the canary, incident: the figures that the release has to meet,
    and what they cost"""
    busy = replace(shipped, max_bad_rate=0.04)    # An endpoint that lives with 2 % bad events demands less than 4 %
    return [("as good, 0.1 % bad", shipped, 0.001, 0.001, None),
            ("as good, 2 % bad", busy, 0.02, 0.02, None),
            ("as good, 2 % bad, incident shared by both (20 % bad)", busy, 0.02, 0.02, (100, 400)),
            ("better, 2 % against 1 %", busy, 0.02, 0.01, None),
            ("twice as bad, 2 % base", busy, 0.02, 0.04, None),
            ("three times as bad, 2 % base", busy, 0.02, 0.06, None),
            ("three times as bad, incident shared by both", busy, 0.02, 0.06, (100, 400)),
            ("each tenth answer bad, 0.1 % base", shipped, 0.001, 0.1, None)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="releases of each kind")
    parser.add_argument("--rollout", default="pipelines/deployment/rollout.yml", help="the file to try")
    given = parser.parse_args()
    units = (
        "rolled back",
        "promoted",
        "on hold",
        "promoted without evidence",
        "median canary requests until caught",
        "median canary requests until promoted",
    )
    result = Result(
        "canary",
        f"How often a release is right: {given.runs:,} simulated releases of each kind",
        units={unit: unit for unit in units},
        versions=versions(PYTHON, "mlops-nb", "numpy"),
    )
    found = [
        row(name, rollout, simulate(rollout, *rates, given.runs, i, incident))
        for i, (name, rollout, *rates, incident) in enumerate(kinds(load_rollout(given.rollout)))
    ]
    for one in found: result.add({one["releases"]: [{unit: one[unit] for unit in units if one[unit] is not None}]})
    good, threefold = (
        [one for one in found if one["releases"].startswith("as good")],
        next(one for one in found if one["releases"].startswith("three times as bad, 2 %")),
    )
    result.target("false rollbacks, the worst kind of release", max(one["rolled back"] for one in good), 0.01)
    result.target("threefold bad rate at 2 % base, not caught", 1 - threefold["rolled back"], 0.01)
    result.target("canary requests until it is caught, median", threefold["median canary requests until caught"], 300)
    result.target("promoted without evidence", sum(one["promoted without evidence"] for one in found), 0)
    result.write()
