"`mlops-nb export` writes what pipelines repeat of settings.ini; everything else in them stays as it was"
from pathlib import Path

import pytest

from mlops_nb.models.settings import GateSettings
from mlops_nb.notebooks.stated import list_statements, restate, restate_all
from mlops_nb.schemas.documents import parse
from mlops_nb.settings import ProjectSettings, load_settings

PROJECT = ProjectSettings("flights", "flight-delay")
PIPELINE = """# Ours
experiment_name: birds   # as we say
inputs:
  data: {type: uri_file, path: data.csv}
  name: eagle
  min_improvement: 0.5   # strict
  max_skill: {type: number, default: 0.7}
  confidence: 95
jobs:
  register:
    type: command
    inputs:
      max_skill: ${{parent.inputs.max_skill}}
      min_slice_rows:
        value: 7
"""


def stale(text: str): return [*list_statements(parse(text, "pipeline.yml"), GateSettings(), PROJECT)]


def test_only_the_values_change():
    fresh = restate(PIPELINE, stale(PIPELINE))
    changed = [(old, new) for old, new in zip(PIPELINE.splitlines(), fresh.splitlines(), strict=True) if old != new]
    limits = GateSettings()
    assert changed == [
        ("experiment_name: birds   # as we say", "experiment_name: flights   # as we say"),
        ("  name: eagle", "  name: flight-delay"),
        ("  min_improvement: 0.5   # strict", f"  min_improvement: {limits.min_improvement}   # strict"),
        ("  max_skill: {type: number, default: 0.7}", f"  max_skill: {{type: number, default: {limits.max_skill}}}"),
        ("  confidence: 95", f"  confidence: {limits.confidence}"),
        ("        value: 7", f"        value: {limits.min_slice_rows}"),
    ]
    assert not stale(fresh)


@pytest.mark.parametrize("name", ["no", "1", "a: b", "null"])
def test_a_name_that_yaml_would_read_as_something_else_is_quoted(name):
    text = "experiment_name: x\njobs: {}\n"
    doc = parse(text, "pipeline.yml")
    fresh = restate(text, list_statements(doc, GateSettings(), ProjectSettings(name, "model")))
    assert parse(fresh, "pipeline.yml")["experiment_name"] == name


def test_line_ends_stay_and_what_is_no_pipeline_is_left(tmp_path: Path):
    (tmp_path/"settings.ini").write_text("[project]\nexperiment = flights\nmodel = flight-delay\n")
    folder = tmp_path/"pipelines"/"training"
    folder.mkdir(parents=True)
    (folder/"broken.yml").write_text("inputs: [\n")
    (folder/"other.yml").write_text("inputs: {seed: 3}\njobs: {}\n")
    (folder/"pipeline.yml").write_bytes(b"inputs: {max_skill: 0.5}\r\njobs: {}\r\n")
    texts = restate_all(tmp_path, load_settings(tmp_path))
    assert texts == {Path("pipelines/training/pipeline.yml"): "inputs: {max_skill: 0.99}\r\njobs: {}\r\n"}


@pytest.mark.parametrize("text", [
    "x-low: &low 0.5\ninputs: {max_skill: *low}\njobs: {}\n",
    "inputs: {max_skill: &low 0.5}\noutputs: {other: *low}\njobs: {}\n",
    "inputs: {max_skill: !!float 0.5}\njobs: {}\n",
])
def test_a_value_that_other_places_share_is_left_to_a_person(text):
    assert stale(text.replace("!!float ", "")) and restate(text, stale(text)) == text
