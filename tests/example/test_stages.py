"The six stages: what is refused, what may be known when, and which model is registered"
import importlib.util
import json
import shutil
from dataclasses import asdict
from time import monotonic_ns

import numpy as np
import pandas as pd
import pytest
import sklearn.base
from hypothesis import given
from hypothesis import strategies as st

from mlops_nb.errors import UserError
from mlops_nb.models import champion as challenge
from mlops_nb.models import figures as drawing
from mlops_nb.models import registry, saving, tracking
from mlops_nb.models.gate import judge
from mlops_nb.models.settings import GateSettings
from mlops_nb.settings import load_settings
from mlops_nb.training import evaluate, explore, ingest, prepare, register, train

from tests.support import ROOT

SETTINGS = dict(
    learning_rate=0.1, max_iter=60, max_leaf_nodes=7, min_samples_leaf=50, l2_regularization=10.0, C=0.1, seed=0
)


@pytest.fixture(scope="module")
def year():
    "Every eighth flight of 2013, labelled"
    table = ingest.read_package().iloc[::8].reset_index(drop=True)
    return table.assign(late=ingest.label(table))


@pytest.fixture(scope="module")
def prepared(year, tmp_path_factory):
    "Trained on April to June, judged on July"
    folder = tmp_path_factory.mktemp("prepared")
    parts = prepare.split(prepare.features(year), "2013-04-01", "2013-07-01", "2013-08-01", 21)
    windows = dict(train_start="2013-04-01", train_end="2013-07-01", test_end="2013-08-01")
    prepare.write_parts(parts, folder, windows | {"data": ingest.fingerprint(year)})
    return folder


def fitted(prepared, seed=0, steps=60, estimator="hist_gradient_boosting"):
    "A model of the training and validation rows"
    roles = train.read_roles(prepared)
    early, later = train.read_part(prepared, "train"), train.read_part(prepared, "validation")
    return train.fit(
        train.ESTIMATORS[estimator](roles, **SETTINGS | dict(max_iter=steps, seed=seed)), early, later, roles
    )


def evaluated(pipeline, prepared, folder):
    "Save and evaluate a model as the stages do"
    roles, test = train.read_roles(prepared), train.read_part(prepared, "test")
    digest = saving.save(pipeline, folder / "model", X_example=train.inputs(test, roles))
    rows = evaluate.judged_rows(pipeline, test, roles)
    answer = rows[["probability"]]
    metrics = evaluate.measure(answer, test.late, rows.gate_loss, rows.gate_day, n_boot=50).value.to_dict()
    facts = {"model_sha256": digest, "metrics": metrics}
    evaluate.write_evaluation(folder / "evaluation", rows, evaluate.measure_slices(rows, roles["slices"]), facts)
    return digest


# Ingest

def test_weather_is_joined_once_to_each_flight_and_is_never_from_the_future(year):
    assert len(ingest.read_package()) == 336776
    assert not (year.observed > year.scheduled).any()
    assert (year.scheduled - year.observed).max() < pd.Timedelta("4h") and year.observed.isna().mean() < 0.01


def test_the_hour_that_the_clock_shows_twice_does_not_copy_flights():
    hours = pd.to_datetime(["2013-11-03 05:00Z", "2013-11-03 06:00Z", "2013-11-03 06:00Z"])
    weather = pd.DataFrame({"origin": "JFK", "time_hour": hours})
    weather = weather.assign(**{c: [1., 2, 3] for c in ingest.WEATHER})
    flights = pd.DataFrame({"origin": ["JFK", "LGA"], "scheduled": pd.to_datetime(["2013-11-03 07:10Z"] * 2)})
    joined = ingest.join_weather(flights, weather)
    assert joined.temp.tolist()[:1] == [3.0] and np.isnan(joined.temp[1]) and len(joined) == 2


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet", "folder", "file url"])
def test_any_csv_or_parquet_gives_the_same_table(year, tmp_path, name):
    part = year[ingest.COLUMNS].head(300)
    folder = tmp_path / "folder"
    folder.mkdir()
    for target in (tmp_path / "t.csv", tmp_path / "t.csv.gz"): part.to_csv(target, index=False)
    part.to_parquet(tmp_path / "t.parquet")
    part.head(100).to_csv(folder / "a.csv", index=False)
    part.tail(200).to_parquet(folder / "b.parquet")
    source = (tmp_path / "t.parquet").as_uri() if name == "file url" else str(tmp_path / name)
    found = ingest.validate(ingest.read_table(source), name)
    assert ingest.fingerprint(found) == ingest.fingerprint(ingest.validate(part, "memory"))


@pytest.mark.parametrize(
    "source, message",
    [
        ("missing.csv", r'does not exist in .*, where this step runs[\s\S]*inputs\.source="\$PWD/missing\.csv"'),
        ("/missing/flights.csv", "does not exist on the machine that runs this step"),
        (str(ROOT / "pipelines"), "holds no CSV or Parquet file"),
        ("azureml:flights:3", r"give the step `ingest` the input table: \{type: uri_folder, path: azureml:flights:3\}"),
        ("abfss://c@a.dfs.core.windows.net/f.parquet", r"mlops-nb\[azure\]"),
        ("http://127.0.0.1:9/f.csv", "cannot be read"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_message(source, message):
    if source.startswith("abfss") and importlib.util.find_spec("adlfs"): pytest.skip("adlfs is installed")
    with pytest.raises(UserError, match=message): ingest.read_table(source)


def test_an_address_is_shown_without_its_key():
    with pytest.raises(UserError) as error: ingest.read_table("http://127.0.0.1:9/f.csv?sig=secret")
    assert "secret" not in str(error.value)
    assert (
        ingest.public("https://a/f.csv?sig=secret") == "https://a/f.csv"
        and ingest.public("odd?name.csv") == "odd?name.csv"
    )


def test_ingest_reads_what_it_wrote(year, tmp_path):
    "The label is made again, whatever the file says"
    labelled = lambda table: table.assign(late=ingest.label(table))
    facts = ingest.write_table(labelled(ingest.validate(year.head(300), "memory")), tmp_path)
    again = labelled(ingest.validate(ingest.read_table(str(tmp_path)), "folder"))
    assert ingest.fingerprint(again) == facts


BAD = {
    "no rows": lambda t: t.head(0),
    "humid is entirely empty": lambda t: t.assign(humid=np.nan),
    "tailnum is not a column": lambda t: t.assign(tailnum="N1"),
    "dest is missing": lambda t: t.drop(columns="dest"),
    "the same flight twice": lambda t: pd.concat([t, t.head(3)]),
    "temp is not between -60 and 140": lambda t: t.assign(temp=t.temp.where(t.index != 7, 900)),
    "carrier has empty values": lambda t: t.assign(carrier=None),
    "flight is not": lambda t: t.assign(flight=t.flight.astype(object).where(t.index != 7, "seven")),
    "weather from the future": lambda t: t.assign(observed=t.scheduled + pd.Timedelta("1s")),
}


@pytest.mark.parametrize("said", BAD)
def test_a_bad_table_is_refused_in_words(year, said):
    with pytest.raises(UserError) as error: ingest.validate(BAD[said](year[ingest.COLUMNS].head(200)), "my.csv")
    message = " ".join(str(error.value).split())
    assert said in message and "my.csv" in message and "pandera" not in message and len(message) < 900


def test_the_message_names_the_row(year):
    bad = year[ingest.COLUMNS].head(50).assign(origin=lambda t: t.origin.where(t.index != 17, "Newark"))
    with pytest.raises(UserError, match=r"origin +is not 3 capital letters or digits +1 +17 +Newark"):
        ingest.validate(bad, "my.csv")


# Prepare

def test_features_do_not_move_when_the_future_changes(year):
    cut = pd.Timestamp("2013-05-15")
    future = year.date >= cut
    changed = year.assign(
        late=year.late.mask(future, 1.0), **{c: year[c].mask(year.date > cut, 0) for c in ingest.WEATHER}
    )
    one, two = prepare.features(year), prepare.features(changed)
    columns = [c for c in one if c != "late"]
    pd.testing.assert_frame_equal(one.loc[year.date <= cut, columns], two.loc[year.date <= cut, columns])
    next_day = year.date == cut + pd.Timedelta("1d")
    assert (one.late_by_origin[next_day] != two.late_by_origin[next_day]).all()


def test_history_equals_a_slow_count(year):
    day, rates = pd.Timestamp("2013-03-20"), prepare.histories(year, 28)
    before = year[(year.date < day) & (year.date >= day - pd.Timedelta("28d")) & year.late.notna()]
    for carrier in ("UA", "B6", "HA"):
        own = before[before.carrier == carrier].late
        expected = (own.sum() + prepare.PRIOR * before.late.mean()) / (len(own) + prepare.PRIOR)
        found = rates.late_by_carrier[(year.date == day) & (year.carrier == carrier)]
        assert np.allclose(found, expected)


def test_split_keeps_time_and_leaves_out_what_has_no_label(year):
    parts = prepare.split(prepare.features(year), "2013-01-01", "2013-10-01", "2014-01-01", 28)
    assert parts["train"].date.max() < parts["validation"].date.min()
    assert parts["validation"].date.max() < parts["test"].date.min()
    assert sum(map(len, parts.values())) == year.late.notna().sum()
    settled = prepare.split(prepare.features(prepare.settle(year, "late")), "end-365", "end-92", "end", 28)
    assert len(settled["test"]) == (year.date >= "2013-10-01").sum() > len(parts["test"])


@pytest.mark.parametrize("days, message", [
    (("2013-04-01", "2013-03-01", "2013-05-01", 7), "train_start < train_end"),
    (("2013-01-01", "2013-13-01", "2014-01-01", 7), "train_end is '2013-13-01'"),
    (("2014-05-01", "2014-06-01", "2014-07-01", 7), "has 0 flights"),
    (("2013-01-01", "2013-01-20", "2013-02-01", 28), "validation")])
def test_impossible_windows_are_refused(year, days, message):
    with pytest.raises(UserError, match=message): prepare.split(prepare.features(year.head(5000)), *days)


# Train and evaluate

@pytest.mark.parametrize("estimator", ["hist_gradient_boosting", "logistic_regression"])
def test_a_model_is_the_same_twice_and_survives_saving(prepared, tmp_path, estimator):
    roles, test = train.read_roles(prepared), train.read_part(prepared, "test")
    X = train.inputs(test, roles)
    one, two = (fitted(prepared, estimator=estimator) for _ in range(2))
    assert saving.save(one, tmp_path / "1", X_example=X) == saving.save(two, tmp_path / "2", X_example=X)
    strange = X.head(3).assign(dest="XXX", temp=np.nan)
    assert np.array_equal(saving.load(tmp_path / "1").predict_proba(strange), one.predict_proba(strange))
    assert train.scores(one, test, roles)["auc"] > 0.65


def test_early_stopping_looks_at_the_later_rows_only(prepared):
    model, roles = fitted(prepared, steps=500), train.read_roles(prepared)
    assert model["model"].n_iter_ < 500
    early, later = train.read_part(prepared, "train"), train.read_part(prepared, "validation")
    shorter = train.hist_gradient_boosting(roles, **SETTINGS | dict(max_iter=train.best_steps(model)))
    found = train.scores(train.fit(shorter, early, later, roles), later, roles)
    assert train.learning_curve(model)[-1][1] == pytest.approx(found["log_loss"])


def test_a_column_of_holes_is_refused_by_name(prepared):
    roles, part = train.read_roles(prepared), train.read_part(prepared, "train")
    with pytest.raises(UserError, match="visib: no value"): train.inputs(part.assign(visib=np.nan), roles)


def test_figures_are_small(year, tmp_path):
    months = explore.by_month(year)
    figures = {"a": explore.plot_label(months), "b": explore.plot_features(year), "c": explore.plot_rates(year)}
    pictures = {name: drawing.picture(fig) for name, fig in figures.items()}
    assert all(path.stat().st_size < 60_000 for path in drawing.save_figures(pictures, tmp_path))


def test_calibration_numbers_say_which_way_it_is_wrong():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 20000)
    y = (rng.random(20000) < p).astype(int)
    odds = np.log(p / (1 - p))
    bold, low = 1 / (1 + np.exp(-2 * odds)), 1 / (1 + np.exp(-(odds - 1)))
    honest, wrong = (evaluate.calibration_error(evaluate.reliability(y, said)) for said in (p, low))
    assert honest < 0.02 < wrong
    assert evaluate.calibration_line(y, bold)["calibration_slope"] == pytest.approx(0.5, abs=0.05)
    assert evaluate.calibration_line(y, low)["calibration_intercept"] == pytest.approx(1, abs=0.1)


def test_a_perfect_model_of_few_rows_has_no_calibration_error_beyond_chance():
    rng, day = np.random.default_rng(0), np.arange(200) // 10
    p = rng.random((200, 200))
    drawn = (rng.random(p.shape) < p).astype(int)
    known = [evaluate.calibration_error(evaluate.reliability(y, said, smallest=20)) for y, said in zip(drawn, p)]
    fair = [evaluate.calibration_rows(y, said, day, smallest=20).mean() for y, said in zip(drawn, p)]
    assert abs(np.mean(fair)) < .01 < .06 < np.mean(known)
    off = [evaluate.calibration_rows(y, said * .7, day, smallest=20).mean() for y, said in zip(drawn, p)]
    assert .1 < np.mean(off) < .15, "of what is .15 it finds most, and never more"


def test_every_score_of_a_slice_has_its_interval():
    rng, day = np.random.default_rng(0), np.repeat(np.arange(20), 60)
    said = rng.random(1200)
    rows = pd.DataFrame({"gate_day": day, "gate_said": said, "gate_happened": (rng.random(1200) < said).astype(int),
                         "gate_loss": rng.random(1200) + rng.random(20)[day], "probability": said,
                         "kind": np.where(day == 3, "one day", np.where(np.arange(1200) % 2, "a", "b"))})
    found = evaluate.measure_slices(rows, ["kind"], smallest=50)
    assert found.loc["kind"].index.tolist() == ["a", "b"], "one day has no interval"
    for name in ("loss", "auc"):
        assert (found[f"{name}_low"] < found[name]).all() and (found[name] < found[f"{name}_high"]).all()
    by_row = evaluate.measure_slices(rows.assign(gate_day=np.arange(1200)), ["kind"], smallest=50)
    assert (found.loss_high - found.loss_low > 1.5 * (by_row.loss_high - by_row.loss_low).iloc[0]).all()


# Register

def test_the_models_that_a_window_has_judged_are_counted(in_a_run):
    label, day = pd.Series([0, 1, 1, 1]), pd.Series(pd.date_range("2013-07-01", periods=4))
    window, later = challenge.hash_window(label, day), challenge.hash_window(label, day + pd.Timedelta("1D"))
    assert window == challenge.hash_window(label.copy(), day.copy()) != later
    assert window != challenge.hash_window(label[::-1], day) and window != challenge.hash_window(label)
    runs = [("m", window, "a", 1), ("m", window, "b", 2), ("m", window, "a", 1), ("m", window, "c", 3),
            ("m", later, "a", 1), ("other", window, "a", 1), ("m", window, "b", 2), ("m", window, "d", 4)]
    for name, rows, digest, look in runs:
        with mlflow_run(): assert challenge.count_look(name, rows, digest) == look


def test_a_verdict_whose_run_was_deleted_counts_by_its_version(prepared, tmp_path, in_a_run):
    digest, tags = evaluated(fitted(prepared), prepared, tmp_path), {"gate_window": "w", "gate_look": "4"}
    challenge.register_judged(tmp_path / "model", digest, "m", "# card", tags, None)
    assert challenge.count_look("m", "w", "another digest") == 5
    assert challenge.count_look("m", "w", digest) == 4


def mlflow_run():
    "A run of an experiment of its own"
    import mlflow
    experiment = mlflow.create_experiment(f"experiment {monotonic_ns()}")
    return mlflow.start_run(experiment_id=experiment, nested=True)


@pytest.fixture
def in_a_run(tmp_path, monkeypatch):
    "A registry of its own"
    uri = tracking_uri(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    import mlflow
    mlflow.set_tracking_uri(uri)
    with tracking.run(): yield
    mlflow.set_tracking_uri(None)


def tracking_uri(folder):
    return f"sqlite:///{folder.as_posix()}/mlflow.db"


def test_what_is_registered_is_what_was_judged(prepared, tmp_path, in_a_run):
    digest = evaluated(fitted(prepared), prepared, tmp_path)
    version = challenge.register_judged(tmp_path / "model", digest, "m", "# card", {"train_end": "2013-07-01"}, None)
    found, champion = challenge.load_champion("m")
    fetched = registry.fetch("m", version, tmp_path / "fetched")
    assert (found.version, found.tags["judged_sha256"], (fetched / "model_card.md").read_text()) == (
        version,
        digest,
        "# card",
    )
    assert (fetched / "model.skops").read_bytes() == (tmp_path / "model" / "model.skops").read_bytes()
    roles, test = train.read_roles(prepared), train.read_part(prepared, "test")
    rows, _ = register.read_evaluation(tmp_path / "evaluation", tmp_path / "model")
    again = judge(rows.gate_loss, register.champion_losses(champion, found, test, roles), rows.gate_day)
    assert not again.accepted and again.interval.mean == 0
    with pytest.raises(UserError, match="needs visib, which `prepare` no longer makes"):
        register.champion_losses(champion, found, test.drop(columns="visib"), roles)


def test_a_register_step_that_runs_again_finds_its_own_decision(prepared, tmp_path, in_a_run):
    digest = evaluated(fitted(prepared), prepared, tmp_path)
    rows, _ = register.read_evaluation(tmp_path / "evaluation", tmp_path / "model")
    verdict = judge(rows.gate_loss - .1, rows.gate_loss, rows.gate_day, slices={"origin": rows.origin})
    judged = challenge.Comparison(verdict, None, len(rows), rows.gate_day.nunique())
    assert challenge.read_decision("m", digest) is None
    version = challenge.register_judged(tmp_path / "model", digest, "m", "# card", {}, None, judged=judged)
    again, found = challenge.read_decision("m", digest)
    assert (found, again.verdict.reason, again.rows, again.days, again.champion) == (
        version,
        verdict.reason,
        judged.rows,
        judged.days,
        None,
    )
    assert again.verdict.slices.to_dict() == verdict.slices.to_dict() and again.verdict.interval == verdict.interval
    assert challenge.read_decision("m", "another digest") is None


def test_a_recipe_that_was_accepted_is_fitted_again_on_the_days_of_judgement(prepared, tmp_path, in_a_run):
    judged, roles = fitted(prepared), train.read_roles(prepared)
    digest = evaluated(judged, prepared, tmp_path)
    rows, _ = register.read_evaluation(tmp_path / "evaluation", tmp_path / "model")
    everything, test = train.read_part(prepared, "train", "validation", "test"), train.read_part(prepared, "test")
    again = register.fitted_again(judged, everything, roles, tmp_path / "again")
    kept = register.monitored(again, judged, everything, test, roles)
    version = challenge.register_judged(
        tmp_path / "model",
        digest,
        "m",
        "# card",
        register.ends_of(roles, True),
        None,
        rows=kept,
        again=tmp_path / "again",
    )
    found, champion = challenge.load_champion("m")
    assert (found.tags["fitted"], found.tags["judged_sha256"], found.tags["judged_from"], found.tags["train_end"]) == (
        "again",
        digest,
        roles["train_end"],
        roles["test_end"],
    )
    assert np.array_equal(
        champion.predict_proba(train.inputs(test, roles)),
        train.refit(judged, everything, roles).predict_proba(train.inputs(test, roles)),
    )
    fetched = registry.fetch("m", version, tmp_path / "fetched")
    assert len(pd.read_parquet(fetched / "reference.parquet")) == len(everything)
    assert np.allclose(
        pd.read_parquet(fetched / "baseline.parquet").probability, judged.predict_proba(train.inputs(test, roles))[:, 1]
    ), "what is said of flights that it has seen would flatter it"
    with pytest.raises(UserError, match="trained up to"): challenge.unseen_rows(test.date, found)


def test_a_model_that_was_exchanged_after_its_evaluation_is_refused(prepared, tmp_path, in_a_run):
    digest = evaluated(fitted(prepared), prepared, tmp_path)
    shutil.rmtree(tmp_path / "model")
    X = train.inputs(train.read_part(prepared, "test"), train.read_roles(prepared))
    saving.save(fitted(prepared, steps=5), tmp_path / "model", X_example=X)
    with pytest.raises(UserError, match="the evaluation is of model"):
        register.read_evaluation(tmp_path / "evaluation", tmp_path / "model")
    with pytest.raises(UserError, match="has the digest"):
        challenge.register_judged(tmp_path / "model", digest, "m", "# card", {}, None)
    assert registry.list_versions("m") == []


@given(st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=1, max_size=200))
def test_asking_the_slowest_again_finds_the_percentile_of_asking_all_again(seconds):
    X, asked = (
        pd.DataFrame({"row": np.arange(len(seconds))}),
        [iter([0, *row] if not number else row) for number, row in enumerate(seconds)],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timeit.timeit", lambda call, number: call())
        found = challenge.measure_latencies(lambda row: next(asked[row.row.iloc[0]]), X, rows=len(seconds))
    assert np.quantile(found, .99) == pytest.approx(np.quantile([1000 * min(row) for row in seconds], .99))


def test_the_autumn_retraining_is_refused(year):
    "Trained on July to September it predicts October to December worse than what was trained on January to March"
    table, roles, losses = prepare.features(year), prepare.column_roles(), {}
    for name, start, end in (("champion", "2013-01-01", "2013-04-01"), ("challenger", "2013-07-01", "2013-10-01")):
        parts = prepare.split(table, start, "2013-10-01", "2014-01-01", 28)
        rows = table[table.late.notna() & (table.date >= start) & (table.date < end)]
        pipeline = train.hist_gradient_boosting(roles, **SETTINGS)
        pipeline[-1].set_params(early_stopping=False)
        pipeline.fit(train.inputs(rows, roles), rows.late.astype(int))
        test = parts["test"]
        losses[name] = evaluate.losses(pipeline, train.inputs(test, roles), test.late, roles)
    verdict = judge(losses["challenger"], losses["champion"], test.date, slices={"origin": test.origin})
    assert not verdict.accepted and verdict.interval.mean > 0 and "not proven better" in verdict.reason


def test_a_verdict_about_a_former_champion_registers_nothing(prepared, tmp_path, in_a_run):
    digest = evaluated(fitted(prepared), prepared, tmp_path)
    first = challenge.register_judged(tmp_path / "model", digest, "m", "# card", {}, None)
    for judged_against in (None, 7):
        with pytest.raises(registry.ChampionChanged, match="m has version 1 in charge"):
            challenge.register_judged(tmp_path / "model", digest, "m", "# other card", {}, judged_against)
    assert [v.version for v in registry.list_versions("m")] == [first] == [registry.find_champion("m").version]


def test_a_challenger_overtaken_while_it_was_judged_meets_the_new_champion(prepared, tmp_path, in_a_run):
    "The same model twice: the first comer wins against the baseline, the second is judged against it, and refused"
    digest = evaluated(fitted(prepared), prepared, tmp_path)
    roles, test = train.read_roles(prepared), train.read_part(prepared, "test")
    rows, facts = register.read_evaluation(tmp_path / "evaluation", tmp_path / "model")
    seen, limits = [], GateSettings(max_calibration_error=1)
    losses_of = lambda pipeline, version: register.champion_losses(pipeline, version, test, roles)
    coin = evaluate.log_losses(test.late, np.full(len(test), 0.5))

    def meet():
        seen.append(
            challenge.judge_challenger(
                "m", rows.gate_loss, losses_of, coin, rows.gate_day, {}, limits=limits
            )
        )
        return seen[-1]

    def replace(judged):
        if len(seen) == 1: challenge.register_judged(tmp_path / "model", digest, "m", "# first comer", {}, None)
        return challenge.register_judged(
            tmp_path / "model", digest, "m", "# card", {}, judged.champion and judged.champion.version
        )

    judged, new = challenge.judge_and_promote(meet, replace)
    assert [s.verdict.accepted for s in seen] == [True, False] and new is None
    assert (judged.opponent("the baseline"), [v.version for v in registry.list_versions("m")]) == ("m version 1", [1])


def test_a_champion_that_changes_every_time_is_left_to_a_person():
    loss, day, tried = np.full(400, 0.5), np.repeat(np.arange(20), 20), []
    better = challenge.Comparison(judge(loss - .1, loss, day), None, 400, 20)
    def replace(judged):
        tried.append(judged)
        raise registry.ChampionChanged("m has version 9 in charge")
    with pytest.raises(registry.ChampionChanged): challenge.judge_and_promote(lambda: better, replace)
    assert len(tried) == 3 and registry.ChampionChanged.exit_code == 1


def test_equal_decisions_have_equal_bytes_though_no_two_latencies_are_equal(prepared, tmp_path):
    loss, day, roles = np.full(800, 0.5), np.repeat(np.arange(20), 40), train.read_roles(prepared)
    facts, written = {"model_sha256": "cd34", "metrics": {"auc": 0.71234}}, set()
    for time in (4.2, 4.7):
        verdict = judge(loss - .1, loss, day, latency_ms=time)
        card = register.model_card("m", verdict, facts, roles, opponent="m version 3", judged=800, days=20)
        challenge.write_decision(tmp_path, verdict, card, model="m", version=4)
        written.add((tmp_path / "verdict.json").read_text() + (tmp_path / "model_card.md").read_text())
    assert len(written) == 1 and "| latency p99 | 5 | 50 | yes |" in card


def test_a_refused_challenger_leaves_its_reasons(tmp_path):
    loss, day = np.full(400, 0.5), np.repeat(np.arange(20), 20)
    decision = challenge.write_decision(tmp_path, judge(loss, loss, day), "# card", model="m", version=None)
    assert decision == json.loads((tmp_path / "verdict.json").read_text()) and decision["accepted"] is False
    assert decision["reason"].startswith("Refused: it is not proven better") and decision["version"] is None


def test_the_card_opens_with_the_verdict(prepared):
    "A release manager reads accepted or refused, the reason, and which check failed"
    day, roles = np.repeat(np.arange(20), 40), train.read_roles(prepared)
    facts = {"model_sha256": "cd34", "metrics": {"auc": 0.71234}, "bounds": {"auc": {"low": 0.69, "high": 0.73}}}
    refused = judge(np.full(800, .6), np.full(800, .5), day, slices={"origin": np.full(800, "JFK")})
    card = register.model_card("m", refused, facts, roles, opponent="m version 3", judged=800, days=20)
    lines = card.splitlines()
    assert lines[0] == "# m: challenger refused" and lines[2] == refused.reason
    assert "| loss difference upper bound | 0.1 | 0 | **no** |" in lines
    assert "| auc | 0.712 | 0.690 | 0.730 |" in lines
    assert "| origin=JFK | 800 | 20 | +0.1000 | +0.1000 | +0.1000 | **no** |" in lines


def test_no_name_of_a_column_or_category_is_a_tag_in_the_card(prepared):
    from nbconvert.filters import markdown2html
    script, day = "<script>alert(1)</script><img src=x onerror=alert(2)>", np.repeat(np.arange(20), 40)
    bounds = dict(value=0.4, low=0.3, high=0.5)
    told = {"baseline": bounds | {"words": script}, "importance_rows": 800, "importance": {script: bounds},
            "confusion": dict(actual=["no", script], predicted=["no", script], rows=[[780, 0], [20, 0]], threshold=0.3),
            "classes": {script: dict(rows=20, share=.025, precision=None, recall=0.0)}}
    facts = {"model_sha256": "cd34", "metrics": {script: 0.7}, "explanation": told, "bounds": {}}
    verdict = judge(np.full(800, .6), np.full(800, .5), day, slices={"origin": np.full(800, script)})
    card = register.model_card(script, verdict, facts, train.read_roles(prepared) | {"purpose": script},
                               opponent=script, judged=800, days=20)
    page = markdown2html(card)
    assert "<script" not in page and "<img" not in page and page.count("&lt;script&gt;") >= 6


def test_the_card_says_what_the_model_is_better_than_looks_at_and_errs_in(prepared):
    day, roles = np.repeat(np.arange(20), 40), train.read_roles(prepared)
    bounds = dict(value=0.4, low=0.3, high=0.5)
    told = {"baseline": bounds | {"words": "Better than always guessing."}, "importance_rows": 800,
            "importance": {f"column {n}": bounds for n in range(30)},
            "classes": {"no": dict(rows=780, share=.975, precision=.99, recall=1.0),
                        "yes": dict(rows=20, share=.025, precision=None, recall=0.0)},
            "confusion": dict(actual=["no", "yes"], predicted=["no", "yes"], rows=[[1780, 0], [20, 0]], threshold=0.3),
            "rare": {"alarm_rate": 0.05, "classes": {"yes": dict(share=.025, precision=.2, recall=bounds,
                                                                 average_precision=bounds)}}}
    facts = {"model_sha256": "cd34", "metrics": {"auc": 0.7}, "explanation": told,
             "bounds": {"auc": {"low": 0.6, "high": 0.8, "dropped": 7.0}}}
    verdict = judge(np.full(800, .4), np.full(800, .5), day)
    lines = register.model_card("m", verdict, facts, roles, opponent="m version 3", judged=800, days=20).splitlines()
    assert "Better than always guessing." in lines
    opening = "on 800 rows of 20 days that neither has seen; look 1 at this window."
    assert any(opening in line for line in lines) and any("a 90 % interval" in line for line in lines)
    assert "7 resamples lack a class; the bounds of auc rest on the others." in lines
    assert "| column 9 | +0.4000 | +0.3000 | +0.5000 |" in lines and not any("column 10" in line for line in lines)
    assert "Rows by actual and predicted class, from a probability of 0.3 on." in lines
    assert {"| no | 1,780 | 0 | 99.0% | 100.0% |", "| yes | 20 | 0 |  | 0.0% |"} <= set(lines)
    assert "| yes | 2.50% | 0.400 | 0.300 | 0.500 | 0.400 | 0.300 | 0.500 | 20.0% |" in lines
    many = told["confusion"] | {"actual": [str(n) for n in range(50)]}
    classes = {str(n): dict(rows=9, share=.02, precision=.5, recall=n / 50) for n in range(50)}
    facts |= {"explanation": {**told, "confusion": many, "classes": classes}}
    card = register.model_card("m", verdict, facts, roles, opponent="m version 3", judged=800, days=20)
    assert "The 10 classes with the lowest recall." in card
    assert "| 9 | 50.0% | 18.0% |" in card and "| 10 | 50" not in card


def test_limits_of_the_gate_are_those_of_the_settings():
    assert asdict(GateSettings()) == asdict(load_settings(ROOT / "settings.ini").named("gates"))


# Pipelines

@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["pipeline.yml", "sweep.yml", "data.yml", "schedule.yml"])
def test_azure_accepts_the_pipelines(name):
    from azure.ai.ml import load_data, load_job
    from azure.ai.ml.entities._load_functions import load_schedule
    load = {"data.yml": load_data, "schedule.yml": load_schedule}.get(name, load_job)
    found = load(ROOT / "pipelines" / "training" / name)
    assert name == "data.yml" or found._validate().passed


def test_a_model_that_is_fitted_in_steps_is_that_of_the_whole_pipeline(prepared, tmp_path):
    roles, first = train.read_roles(prepared), fitted(prepared)
    rows = train.read_part(prepared, "train", "validation")
    whole = sklearn.base.clone(first).set_params(model__max_iter=train.best_steps(first), model__early_stopping=False)
    whole.fit(train.inputs(rows, roles), rows[roles["label"]])
    only = train.read_part(prepared, "train", "validation", columns=train.learnt_columns(roles))
    X_example = train.with_holes(train.inputs(rows, roles), roles)
    known = saving.save(whole, tmp_path / "whole", X_example=X_example)
    assert saving.save(train.refit(first, only, roles), tmp_path / "steps", X_example=X_example) == known
    assert saving.save(whole, tmp_path / "few", X_example=train.example_rows(rows, roles)) == known


@pytest.mark.parametrize("estimator", ["hist_gradient_boosting", "logistic_regression"])
def test_rows_that_are_predicted_once_are_judged_as_if_asked_each_time(prepared, estimator):
    roles, test = train.read_roles(prepared), train.read_part(prepared, "test")
    pipeline = fitted(prepared, estimator=estimator)
    known = evaluate.answered(pipeline, train.inputs(test, roles))
    pd.testing.assert_frame_equal(evaluate.judged_rows(known, test, roles), evaluate.judged_rows(pipeline, test, roles))
    with pytest.raises(ValueError, match="5 rows, where the answers to"): known.predict_proba(test.head(5))


def test_a_wide_table_keeps_fewer_rows_for_monitors():
    wide = pd.DataFrame(np.zeros((3000, 10))).assign(row=range(3000))
    assert challenge.sample_evenly(wide) is wide
    few = challenge.sample_evenly(pd.DataFrame(np.zeros((3000, 11_000), "int8")).assign(row=range(3000)))
    assert len(few) == 20_000_000 // 11_001 and few.row.iloc[[0, -1]].tolist() == [0, 2999]
