"What must hold for the whole project"
from pathlib import Path

import yaml
from mlops_nb.notebooks.lint import check_project

ROOT = Path(__file__).parents[1]


def test_everything_generated_is_fresh_and_every_stage_is_whole():
    assert [str(problem) for problem in check_project(ROOT)] == []


def test_every_component_is_a_step_of_the_pipeline():
    steps = yaml.safe_load((ROOT / "pipelines/training/pipeline.yml").read_text())["jobs"]
    assert {step["component"] for step in steps.values()} == {
        f"components/{path.name}" for path in (ROOT / "pipelines/training/components").glob("*.yml")}
