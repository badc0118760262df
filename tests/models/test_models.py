"models.seal and models.saving: what is refused, what comes back, and that equal models have equal bytes"
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import Birch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression, Ridge, TweedieRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, SplineTransformer, StandardScaler, TargetEncoder
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from mlops_nb.errors import UserError
from mlops_nb.models import saving, seal

rng = np.random.default_rng(0)
N = 120
FRAME = pd.DataFrame({"hour": rng.uniform(0, 24, N), "distance": rng.uniform(80, 2500, N),
                      "carrier": rng.choice(["AA", "B6", "UA"], N)})
LATE = ((FRAME.hour > 14) ^ (rng.random(N) < 0.2)).astype(int)
NUMBERS = FRAME[["hour", "distance"]]


class Shift(TransformerMixin, BaseEstimator):
    "An estimator of a project's own"

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.asarray(X, float) + 1


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    "A sealed model and its digest"
    folder = tmp_path_factory.mktemp("original") / "model"
    return folder, saving.save(LogisticRegression().fit(NUMBERS, LATE), folder, X_example=NUMBERS,
                               metadata={"job": "j1"})


@pytest.fixture
def saved(original, tmp_path):
    "A copy of it that a test may spoil"
    return shutil.copytree(original[0], tmp_path / "model"), original[1]


FILES = ("MLmodel", "conda.yaml", "input_example.json", "model.skops", "python_env.yaml", "requirements.txt",
         "serving_input_example.json")


# The seal


def test_the_folder_holds_these_files(saved):
    assert sorted(p.name for p in saved[0].iterdir()) == sorted((*FILES, "SHA256SUMS"))


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_in_any_file_is_refused(saved, name):
    folder, sha = saved
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    for call in (saving.verify, saving.load, lambda f: saving.load(f, sha), lambda f: seal.add_file(f, "card.md", "x")):
        with pytest.raises(UserError, match=f"{name} was changed"):
            call(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(saved, name):
    (saved[0] / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        saving.load(*saved)


@pytest.mark.parametrize("name", ["extra.py", "code/deep/extra.py", ".hidden", "naïve café.py"])
def test_an_added_file_is_refused(saved, name):
    (saved[0] / name).parent.mkdir(parents=True, exist_ok=True)
    (saved[0] / name).touch()
    with pytest.raises(UserError, match=f"{name} was added"):
        saving.load(*saved)


@pytest.mark.parametrize("name", ["two\nlines", "a\u2028b", "back\\slash", os.fsdecode(b"caf\xe9")])
def test_a_name_that_no_manifest_can_hold_is_refused(saved, name):
    (saved[0] / name).touch()
    with pytest.raises(UserError, match="a name that a manifest cannot hold"): saving.load(*saved)


def test_what_was_verified_is_what_is_loaded(saved, monkeypatch):
    "The file is changed right after the check, and back after the reading"
    folder, sha = saved
    real = saving.verified_hashes

    def then_forge(*words):
        found = real(*words)
        (folder / "model.skops").write_bytes(b"forged")
        return found
    monkeypatch.setattr(saving, "verified_hashes", then_forge)
    with pytest.raises(UserError, match="model.skops was changed after it was verified"): saving.load(folder, sha)


def test_code_behind_a_link_is_sealed(saved, tmp_path):
    folder, shared = saved[0], tmp_path / "shared"
    shared.mkdir()
    (shared / "model.py").write_text("good")
    (folder / "code").symlink_to(shared)
    sha = saving.seal(folder)
    (shared / "model.py").write_text("evil")
    with pytest.raises(UserError, match="code/model.py was changed"): saving.verify(folder, sha)


@pytest.mark.parametrize("kind", ["pipe", "link to nowhere", "link to an empty folder", "link up"])
def test_what_cannot_be_sealed_is_refused(saved, tmp_path, kind):
    odd = saved[0] / "odd"
    (tmp_path / "empty").mkdir()
    targets = {"link to nowhere": tmp_path / "nowhere", "link to an empty folder": tmp_path / "empty",
               "link up": saved[0]}
    if kind == "pipe": os.mkfifo(odd)
    else: odd.symlink_to(targets[kind])
    for refuses in (saving.verify, saving.seal):
        with pytest.raises(UserError, match="so it cannot be sealed"): refuses(saved[0])


def test_a_renamed_file_is_refused(saved):
    (saved[0] / "requirements.txt").rename(saved[0] / "other.txt")
    with pytest.raises(UserError, match="other.txt was added, requirements.txt is missing"):
        saving.verify(saved[0])


def test_a_folder_that_was_sealed_anew_needs_the_recorded_digest(saved):
    folder, sha = saved
    (folder / "requirements.txt").write_text("something-else")
    other = seal.seal(folder)
    assert saving.verify(folder) == other != sha
    with pytest.raises(UserError, match=f"(?s)has the digest {other}.*accepted: {sha}"):
        saving.load(folder, sha)


@pytest.mark.parametrize("text", [None, "", "garbage\n", "\x00\xff"])
def test_a_lost_or_spoiled_manifest_is_refused(saved, text):
    path = saved[0] / "SHA256SUMS"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match="has no SHA256SUMS|was added"):
        saving.load(saved[0])


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no SHA256SUMS"):
        saving.load(tmp_path / "nowhere")


def test_coreutils_agree(saved):
    tool = shutil.which("sha256sum")
    if not tool:
        pytest.skip("this machine has no sha256sum")
    assert subprocess.run([tool, "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=saved[0]).returncode == 0


def test_a_card_is_added_without_touching_the_rest(saved):
    folder, sha = saved
    before = seal.read_manifest(folder)
    new = seal.add_file(folder, "README.md", "# Card\n")
    assert new != sha and saving.verify(folder, new) == new
    assert before.items() <= seal.read_manifest(folder).items()
    for name in ("README.md", "model.skops", "SHA256SUMS"):
        with pytest.raises(UserError, match="exists"):
            seal.add_file(folder, name, "# Other")


@given(st.dictionaries(st.text("abc.-", min_size=1).filter(lambda n: n.strip(".")), st.binary(), max_size=5))
@settings(max_examples=30)
def test_the_digest_depends_on_names_and_contents_only(tmp_path_factory, files):
    digests = set()
    for order in (list(files), list(files)[::-1]):
        folder = tmp_path_factory.mktemp("folder")
        for name in order:
            (folder / name).write_bytes(files[name])
        digests |= {seal.seal(folder), seal.digest(folder)}
    assert len(digests) == 1


# What comes back


def kind(model) -> str:
    "The name of a test"
    return type(model).__name__


CLASSIFIERS = [
    LogisticRegression(), GaussianNB(), SVC(probability=False), KNeighborsClassifier(), MLPClassifier(max_iter=20),
    DecisionTreeClassifier(), RandomForestClassifier(5), ExtraTreesClassifier(5),
               GradientBoostingClassifier(n_estimators=5),
    AdaBoostClassifier(n_estimators=5), HistGradientBoostingClassifier(max_iter=5),
               CalibratedClassifierCV(GaussianNB()),
    CalibratedClassifierCV(GaussianNB(), method="isotonic"), GaussianProcessClassifier(),
    make_pipeline(StandardScaler(), LogisticRegression()), make_pipeline(SelectKBest(k=1), GaussianNB()),
    make_pipeline(SplineTransformer(), LogisticRegression()), GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}),
    VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())], voting="soft"),
    StackingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier())]),
]


def roundtrip(model, folder: Path, X: pd.DataFrame, method: str):
    "Save, load and serve: all three predict the same"
    sha = saving.save(model, folder, X_example=X)
    import mlflow.pyfunc
    expected = getattr(model, method)(X)
    np.testing.assert_array_equal(getattr(saving.load(folder, sha), method)(X), expected)
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(str(folder)).predict(X), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", CLASSIFIERS, ids=kind)
def test_common_classifiers_need_no_further_trust(model, tmp_path):
    model.fit(NUMBERS, LATE)
    roundtrip(model, tmp_path / "model", NUMBERS, "predict_proba" if hasattr(model, "predict_proba") else "predict")


@pytest.mark.parametrize("model", [Ridge(), TweedieRegressor(), HistGradientBoostingRegressor(max_iter=5)], ids=kind)
def test_regressors_are_served_by_predict(model, tmp_path):
    roundtrip(model.fit(NUMBERS, LATE), tmp_path / "model", NUMBERS, "predict")


@pytest.mark.parametrize(
    "encoder", [OneHotEncoder(handle_unknown="ignore"), TargetEncoder(), OrdinalEncoder()], ids=kind
)
def test_columns_of_strings_are_encoded_in_the_pipeline(encoder, tmp_path):
    columns = make_column_transformer((encoder, make_column_selector(dtype_include=object)), remainder="passthrough")
    model = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=5)).fit(FRAME, LATE)
    roundtrip(model, tmp_path / "model", FRAME, "predict_proba")


def test_what_mlflow_could_not_serve_is_refused_and_nothing_is_written(tmp_path):
    frame = FRAME.astype({"carrier": "category"})
    model = HistGradientBoostingClassifier(max_iter=5).fit(frame, LATE)
    with pytest.raises(UserError, match="(?s)cannot serve.*fix: make categories in a step of the pipeline"):
        saving.save(model, tmp_path / "model", X_example=frame)
    assert not (tmp_path / "model").exists()


def test_the_header_says_how_to_serve_it(saved):
    header = yaml.safe_load((saved[0] / "MLmodel").read_text())
    assert header["flavors"]["python_function"]["predict_fn"] == "predict_proba"
    assert header["metadata"] == {"classes": [0, 1], "job": "j1"}
    assert '"name": "hour"' in header["signature"]["inputs"]
    assert header["flavors"]["sklearn"]["skops_trusted_types"] == []
    needed = (saved[0] / "requirements.txt").read_text().splitlines()
    assert needed == saving.requirements() and f"skops=={skops.__version__}" in needed
    assert header["model_size_bytes"] == sum((saved[0] / f).stat().st_size for f in
                                             ("model.skops", "input_example.json", "serving_input_example.json"))


def test_requirements_can_be_more(saved):
    assert any(line.startswith("hypothesis==") for line in saving.requirements(["hypothesis"]))


def test_a_folder_with_files_is_refused(saved):
    with pytest.raises(UserError, match="is not empty"):
        saving.save(LogisticRegression().fit(NUMBERS, LATE), saved[0], X_example=NUMBERS)
    saving.verify(*saved)


def test_an_empty_folder_is_filled(tmp_path):
    saving.verify(tmp_path, saving.save(Ridge().fit(NUMBERS, LATE), tmp_path, X_example=NUMBERS))


# Trust


def test_a_type_of_ones_own_has_to_be_named(tmp_path):
    model = make_pipeline(Shift(), LogisticRegression()).fit(NUMBERS, LATE)
    name = f"{Shift.__module__}.Shift"
    with pytest.raises(UserError, match=f"(?s)not trusted: {name}.*trusted="):
        saving.save(model, tmp_path / "model", X_example=NUMBERS)
    assert not (tmp_path / "model").exists()
    sha = saving.save(model, tmp_path / "model", X_example=NUMBERS, trusted=[name])
    with pytest.raises(UserError, match=f"not trusted: {name}"):
        saving.load(tmp_path / "model", sha)
    np.testing.assert_array_equal(saving.load(tmp_path / "model", sha, trusted=[name]).predict(NUMBERS),
                                  model.predict(NUMBERS))


def test_the_trusted_list_is_ours_and_not_the_files(saved):
    "A stranger's model that calls os.system, with a header that declares it trusted, sealed by the stranger"
    folder, _ = saved
    evil = make_pipeline(LogisticRegression())
    evil.steps[0] = ("x", os.system)
    skops.io.dump(evil, folder / "model.skops")
    header = yaml.safe_load((folder / "MLmodel").read_text())
    header["flavors"]["sklearn"]["skops_trusted_types"] = skops.io.get_untrusted_types(file=folder / "model.skops")
    (folder / "MLmodel").write_text(yaml.safe_dump(header))
    with pytest.raises(UserError, match="not trusted: .*system"):
        saving.load(folder, seal.seal(folder))


class Bomb:
    "A pickle that leaves a trace when it is loaded"

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def planted(folder: Path, trace: Path, kind: str) -> str:
    "Replace the model by a pickle that the header calls `kind`, and seal again"
    (folder / "model.skops").write_bytes(pickle.dumps(Bomb(trace)))
    header = yaml.safe_load((folder / "MLmodel").read_text())
    header["flavors"]["sklearn"]["serialization_format"] = kind
    (folder / "MLmodel").write_text(yaml.safe_dump(header))
    return seal.seal(folder)


def test_nothing_is_read_before_it_is_verified(saved, tmp_path):
    sha = saved[1]
    planted(saved[0], tmp_path / "trace", "cloudpickle")
    with pytest.raises(UserError, match="has the digest"):
        saving.load(saved[0], sha)
    assert not (tmp_path / "trace").exists()


def test_a_pickle_is_not_loaded_on_its_own_word(saved, tmp_path):
    planted(saved[0], tmp_path / "trace", "cloudpickle")
    with pytest.raises(UserError, match="runs code when it is loaded"):
        saving.load(saved[0])
    assert not (tmp_path / "trace").exists()


def test_a_pickle_that_calls_itself_skops_is_not_unpickled(saved, tmp_path):
    sha = planted(saved[0], tmp_path / "trace", "skops")
    with pytest.raises(zipfile.BadZipFile):
        saving.load(saved[0], sha)
    assert not (tmp_path / "trace").exists()


def test_the_bomb_is_live(saved, tmp_path):
    "Without the guards it does go off: the three tests above could fail"
    saving.load(saved[0], planted(saved[0], tmp_path / "trace", "cloudpickle"))
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("target", ["../outside.skops", "/etc/hostname", "missing.skops", None])
def test_a_header_cannot_point_outside(saved, target):
    header = yaml.safe_load((saved[0] / "MLmodel").read_text())
    header["flavors"]["sklearn"]["pickled_model"] = target
    (saved[0] / "MLmodel").write_text(yaml.safe_dump(header))
    with pytest.raises(UserError, match="names no scikit-learn model"):
        saving.load(saved[0], seal.seal(saved[0]))


def test_what_skops_cannot_store_is_pickled_only_on_request(tmp_path):
    model = Birch(n_clusters=2).fit(NUMBERS)
    with pytest.raises(UserError, match="(?s)skops cannot store Birch.*allow_pickle=True"):
        saving.save(model, tmp_path / "model", X_example=NUMBERS)
    sha = saving.save(model, tmp_path / "model", X_example=NUMBERS, allow_pickle=True)
    assert "serialization_format: cloudpickle" in (tmp_path / "model" / "MLmodel").read_text()
    np.testing.assert_array_equal(saving.load(tmp_path / "model", sha).predict(NUMBERS), model.predict(NUMBERS))


def test_allowing_pickle_still_prefers_skops(tmp_path):
    saving.save(Ridge().fit(NUMBERS, LATE), tmp_path, X_example=NUMBERS, allow_pickle=True)
    assert (tmp_path / "model.skops").exists()


# Equal models, equal bytes

FIT = """
import sys, numpy as np, pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OrdinalEncoder
from mlops_nb.models import saving
junk = [object() for _ in range(int(sys.argv[2]))]
frame = pd.DataFrame({"hour": np.arange(60.0), "carrier": ["AA", "B6", "UA"] * 20})
columns = make_column_transformer((OrdinalEncoder(), ["carrier"]), remainder="passthrough")
trees = HistGradientBoostingClassifier(max_iter=20, random_state=0)
model = make_pipeline(columns, trees).fit(frame, frame.hour % 7 > 3)
print(saving.save(model, sys.argv[1], X_example=frame))
"""


def test_two_processes_make_the_same_folder(tmp_path):
    shas = set()
    for seed in ("1", "77"):
        command = [sys.executable, "-c", FIT, str(tmp_path / seed), seed]
        shas.add(subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
                                capture_output=True).stdout)
    assert len(shas) == 1


@pytest.mark.parametrize(
    "model", [LogisticRegression(), RandomForestClassifier(3, random_state=0), StandardScaler()], ids=kind
)
def test_canonical_changes_names_and_no_array(model):
    data = skops.io.dumps(model.fit(NUMBERS, LATE))
    once = saving.canonical(data)
    assert saving.canonical(once) == saving.canonical(skops.io.dumps(model)) == once != data
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(io.BytesIO(once)) as new:
        assert len(old.namelist()) == len(new.namelist())
        assert sorted(old.read(n) for n in old.namelist()[:-1]) == sorted(new.read(n) for n in new.namelist()[1:])


def test_a_column_that_had_holes_in_training_may_be_null_though_the_first_rows_have_none(tmp_path):
    X = pd.DataFrame({"gust": [1.0] * 9 + [np.nan], "hour": np.arange(10.0)})
    saving.save(HistGradientBoostingClassifier(max_iter=2).fit(X, [0, 1] * 5), tmp_path, X_example=X)
    columns = json.loads(yaml.safe_load((tmp_path / "MLmodel").read_text())["signature"]["inputs"])
    assert {column["name"]: column["required"] for column in columns} == {"gust": False, "hour": True}
    assert len(json.loads((tmp_path / "input_example.json").read_text())["data"]) == 5


COLUMNS = [st.integers(-5, 5), st.floats(), st.booleans(), st.text(max_size=2), st.sampled_from(["a", None]),
           st.sampled_from([1, 2.5]), st.sampled_from([1, "a"]), st.sampled_from([True, None]),
           st.dates().map(pd.Timestamp), st.binary(max_size=1), st.sampled_from([[1.0], [2.0, 3.0]]),
           st.sampled_from([{"a": 1}, {"a": 2, "b": "x"}]), st.sampled_from([np.nan, "a"])]


def outcome(X):
    "The signature of a frame, or why there is none"
    from mlflow.models import infer_signature
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a hint about integers
        try: return infer_signature(X)
        except Exception as error: return type(error)


@given(st.data(), st.integers(1, 30), st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=4))
def test_a_few_rows_have_the_signature_of_all(data, rows, kinds):
    X = pd.DataFrame({f"column{number}": data.draw(st.lists(kind, min_size=rows, max_size=rows)) for number,
                      kind in enumerate(kinds)})
    assert outcome(saving.representative_rows(X)) == outcome(X)
