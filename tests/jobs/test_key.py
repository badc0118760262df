"The key of a step: it changes with everything that could change the result, and with nothing else"
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_nb.jobs.graph import Component, Destination, Step
from mlops_nb.jobs.preparation import Value, step_key
from mlops_nb.workspace.workspace import Workspace

SPEC = {"command": "python a.py ${{inputs.rate}}", "code": "./src", "environment": {"image": "python"}}


@pytest.fixture
def base(tmp_path):
    (tmp_path/"src").mkdir()
    (tmp_path/"src"/"a.py").write_text("print(1)")
    step = Step("train", Component("command", SPEC, tmp_path), {}, {"model": Destination()}, {"A": "1"})
    values = {"rate": Value("0.1", "0.1"), "data": Value("/data", "f" * 64, tmp_path)}
    return Workspace(tmp_path), step, values


def changed(step, **spec): return replace(step, component=replace(step.component, spec={**step.component.spec, **spec}))


@pytest.mark.parametrize("change", [
    lambda step, values: (changed(step, command="python a.py"), values, "env"),
    lambda step, values: (step, {**values, "rate": Value("0.2", "0.2")}, "env"),
    lambda step, values: (step, {**values, "data": Value("/data", "0" * 64)}, "env"),
    lambda step, values: (step, {name: value for name, value in values.items() if name != "rate"}, "env"),
    lambda step, values: (replace(step, variables={"A": "2"}), values, "env"),
    lambda step, values: (replace(step, outputs={"model": Destination("uri_file")}), values, "env"),
    lambda step, values: (replace(step, sweep={"search_space": {}}), values, "env"),
    lambda step, values: (step, values, "another environment"),
])
def test_it_changes_with_what_the_result_depends_on(base, change):
    workspace, step, values = base
    assert step_key(workspace, *change(step, values)) != step_key(workspace, step, values, "env")


@pytest.mark.parametrize("change", [
    lambda step, values: (changed(step, display_name="Other", description="x", version="9", tags={"a": "b"}), values),
    lambda step, values: (replace(step, name="renamed", timeout=9.0), values),
    lambda step, values: (replace(step, outputs={"model": Destination(path="azureml://datastores/a/paths/b",
                                                                      name="kept")}), values),
    lambda step, values: (step, {**values, "data": Value("/elsewhere", "f" * 64)}),
    lambda step, values: (step, dict(reversed(values.items()))),
])
def test_it_does_not_change_with_names_and_places(base, change):
    workspace, step, values = base
    assert step_key(workspace, *change(step, values), "env") == step_key(workspace, step, values, "env")


def test_it_changes_with_the_code_and_not_with_what_is_ignored(base):
    workspace, step, values = base
    root = step.component.base/"src"
    (root/".amlignore").write_text("*.log\n")
    before = step_key(workspace, step, values, "env")
    (root/"run.log").write_text("x")
    assert step_key(workspace, step, values, "env") == before
    (root/"b.py").write_text("x")
    assert step_key(workspace, step, values, "env") != before


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=4),
       st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=4))
def test_two_sets_of_literals_share_a_key_only_if_they_are_equal(first, second):
    import tempfile
    from pathlib import Path
    root = Path(tempfile.mkdtemp())
    workspace, step = Workspace(root), Step("s", Component("command", {"command": "true"}, root), {}, {})
    keys = [step_key(workspace, step, {name: Value(text, text) for name, text in values.items()}, "env")
            for values in (first, second)]
    workspace.db.close()
    assert (keys[0] == keys[1]) == (first == second)
