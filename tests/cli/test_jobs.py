"Commands that look at jobs, outside of any project"
import pytest

from tests.support.projects import command


@pytest.mark.parametrize("words", [("jobs",), ("show", "last"), ("logs", "last", "train"), ("cancel", "last")])
def test_outside_of_a_project_they_are_refused_and_leave_nothing(tmp_path, words):
    said = command(*words, cwd=tmp_path, code=2).stderr
    assert "is in no project" in said and "mlops-nb new PATH --package NAME" in said
    assert list(tmp_path.iterdir()) == []
