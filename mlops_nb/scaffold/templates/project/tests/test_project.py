"What must hold for the whole project"
from pathlib import Path

import yaml
from mlops_nb.notebooks.lint import check_project

ROOT = Path(__file__).parents[1]


def test_everything_generated_is_fresh_and_every_stage_is_whole():
    assert [str(problem) for problem in check_project(ROOT)] == []


def test_every_component_of_training_is_a_step_of_a_pipeline():
    pipelines = [yaml.safe_load(path.read_text()) for path in (ROOT / "pipelines/training").glob("*.yml")]
    steps = [step for pipeline in pipelines for step in (pipeline.get("jobs") or {}).values()]
    components = {f"components/{path.name}" for path in (ROOT / "pipelines/training/components").glob("*.yml")}
    assert components <= {step.get("component", step.get("trial")) for step in steps}
