"What is news: windows of dependent weeks, and the share of them that alarm, from the files to the verdict"
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from mlops_nb.monitors import history

from tests.monitors.test_monitor import START, Site

WEEK = timedelta(days=7)


def weeks(first: int, last: int, seed: int = 0, rows: int = 300) -> pd.DataFrame:
    "Rows of some weeks; each week has its own mean, as weather does, and number 0 begins at START"
    rng = np.random.default_rng(seed)
    means = dict(zip(range(-40, 40), np.random.default_rng(1).normal(0, 1, 80)))
    parts = []
    for week in range(first, last):
        x = rng.normal(means[week], 0.5, rows)
        day = pd.Timestamp(START + week * WEEK) + pd.to_timedelta(np.arange(rows) * 7 * 86400 // rows, "s")
        parts.append(pd.DataFrame({"x": x, "z": rng.normal(size=rows), "who": rng.choice(["UA", "AA", "DL"], rows),
                                   "day": day.tz_localize(None)}))
    table = pd.concat(parts, ignore_index=True)
    table["probability"] = 1 / (1 + np.exp(-table.x))
    return table.assign(late=(rng.random(len(table)) < table.probability).astype(int))


@pytest.fixture
def site(tmp_path):
    "A project whose reference has the time of its rows"
    site = Site(tmp_path)
    weeks(-16, 0, 5).to_parquet(tmp_path/"reference/data.parquet")
    return site


def alarms(result: dict) -> set:
    kinds = ("drift", "predictions", "quality", "attribution")
    return {(kind, row["feature"], row["metric"]) for kind in kinds for row in result["signals"][kind]["rows"]
            if row["breach"]}


def serve(site: Site, table: pd.DataFrame): site.serve(table.drop(columns="day"))


def test_a_week_like_the_weeks_before_is_no_news(site):
    serve(site, weeks(0, 1, 6))
    result = site.run()
    rows = {(row["feature"], row["metric"]): row for row in result["signals"]["drift"]["rows"]}
    psi = rows["x", "population_stability_index"]
    assert psi["value"] > 0.2 and psi["azure_breach"] and not psi["breach"], "far from the reference, as weeks are"
    assert psi["null_threshold"] > psi["value"] and psi["before"] is not None
    assert alarms(result) == set()
    assert result["signals"]["drift"]["digest"] == "past the threshold against the reference, and no news: x"


def test_the_same_week_alarms_where_rows_are_taken_as_independent(site):
    weeks(-16, 0, 5).assign(day=0).to_parquet(site.root/"reference/data.parquet")
    serve(site, weeks(0, 1, 6))
    assert ("drift", "x", "population_stability_index") in alarms(site.run())


@pytest.mark.parametrize("change, expected", [
    (lambda t: t.assign(x=0.25), ("drift", "x", "most_frequent_value_rate")),
    (lambda t: t.assign(x=np.where(np.arange(len(t)) % 2, t.x, 0.25)), ("drift", "x", "most_frequent_value_rate")),
    (lambda t: t.assign(z=t.z + 1.5), ("drift", "z", "population_stability_index")),
    (lambda t: t.assign(who="UA"), ("drift", "who", "population_stability_index")),
    (lambda t: t.assign(z=np.where(np.arange(len(t)) % 5 == 0, None, t.z)), ("quality", "z", "null_value_rate")),
    (lambda t: t.assign(z=np.where(np.arange(len(t)) % 5 == 0, 99.0, t.z)), ("quality", "z", "out_of_bounds_rate")),
    (lambda t: t.assign(who=np.where(np.arange(len(t)) % 5 == 0, "9E", t.who)),
     ("quality", "who", "out_of_bounds_rate")),
])
def test_a_fault_is_news(site, change, expected):
    serve(site, change(weeks(0, 1, 6)))
    assert expected in alarms(site.run())


@pytest.mark.parametrize("days, news", [(364, False), (392, True)])
def test_a_season_that_the_year_before_had_too_is_no_news(site, days, news):
    "The week 52 weeks earlier was like this one, and not the week 56 weeks earlier"
    def high(table): return table.assign(z=table.z + 1.5)
    early = high(weeks(0, 1, 7))
    early = early.assign(day=early.day - pd.Timedelta(days=days))
    pd.concat([early, weeks(-16, 0, 5)]).to_parquet(site.root/"reference/data.parquet")
    serve(site, high(weeks(0, 1, 6)))
    result = site.run()
    assert (("drift", "z", "population_stability_index") in alarms(result)) == news
    assert ("a season cannot be told from drift: z" in result["signals"]["drift"]["digest"]) == news


def test_a_change_that_was_there_before_is_no_news_twice(site):
    site.serve(weeks(-12, 1, 8).drop(columns="day").assign(z=lambda t: t.z + 1.5), days=7 * 13)
    result = site.run(at=START + 13 * WEEK)
    assert not {row for row in alarms(result) if row[1] == "z"}
    assert "z" in result["signals"]["drift"]["digest"]


def test_azures_rule_knows_no_weeks(site):
    (site.root/"settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n[monitoring]\nalarm = azure\n")
    serve(site, weeks(0, 1, 6))
    result = site.run()
    rows = [row for row in result["signals"]["drift"]["rows"] if row["feature"] == "x"]
    assert [row["breach"] for row in rows] == [row["azure_breach"] for row in rows] and any(r["breach"] for r in rows)


@pytest.mark.parametrize("blocks, window", [(12, 4), (12, 1), (6, 1), (4, 4)])
@pytest.mark.parametrize("alike", [0.0, 0.4])
def test_the_chance_of_standing_out_is_kept(blocks, window, alike):
    "Shares of weeks that hang together: at 5 %, at most 7.5 % of 1,500 windows (standard error 0.6 %)"
    rng, n = np.random.default_rng(blocks + window), 1500
    found = 0
    for _ in range(n):
        steps = rng.normal(size=(blocks + window + 20, 4))
        for i in range(1, len(steps)): steps[i] += alike * steps[i - 1]
        p = np.exp(0.3 * steps[20:])
        counts = np.array([rng.multinomial(2000, shares / shares.sum()) for shares in p])
        points = history.embed(counts)
        found += history.stands_out(points[:blocks], points[blocks:], 0.05) > 1
    assert found / n < 0.075


@pytest.mark.parametrize("names", [("b", "n", "v"), ("t", "row", "line"), ("y", "p", "key"), ("c0", "x0", "value"),
                                   ("label", "predicted", "known"), ("loss", "request", "file"), ("k", "w", "level"),
                                   ("count", "select", "Order"), ("it's", 'a "b"', "%s {x}")])
def test_features_may_have_any_name(site, tmp_path, names):
    "The numbers are those of the same features under other names, whatever the queries call their own columns"
    called = dict(zip(("x", "z", "who"), names))
    serve(site, weeks(0, 1, 6))
    (other := tmp_path/"other").mkdir()
    same = Site(other)
    for table, file in ((weeks(-16, 0, 5), "reference"), (pd.read_parquet(other/"baseline/data.parquet"), "baseline")):
        table.rename(columns=called).to_parquet(other/file/"data.parquet")
    serve(same, weeks(0, 1, 6).rename(columns=called))

    def told(result: dict, called: dict) -> dict:
        return {(kind, called.get(row["feature"], row["feature"]), row["metric"], row["breach"]): row["value"]
                for kind, signal in result["signals"].items() for row in signal["rows"]}
    assert told(same.run(), {}) == pytest.approx(told(site.run(), called), nan_ok=True)
