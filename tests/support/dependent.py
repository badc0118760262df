"Days that depend on each other, and how often a bound is wrong about them"
import numpy as np

from mlops_nb.models.intervals import clustered_mean


def dependent_days(correlation: float, days: int, runs: int, seed: int = 0, size: int = 300):
    "Sums of runs x days differences whose true mean is 0; a day correlates so with the day before; and the days' rows"
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((runs, days))
    for t in range(1, days): noise[:, t] = correlation * noise[:, t - 1] + np.sqrt(1 - correlation**2) * noise[:, t]
    return noise * size, np.full(days, size)


def false_alarms(correlation: float, days: int, runs: int, seed: int = 0, **options) -> tuple[float, float]:
    "Share of runs whose upper bound is below the true mean, and its Monte Carlo error"
    sums, counts = dependent_days(correlation, days, runs, seed)
    rate = np.mean([clustered_mean(one, counts, 300, seed=seed + n, **options).high < 0 for n, one in enumerate(sums)])
    return float(rate), float(np.sqrt(rate * (1 - rate) / runs))
