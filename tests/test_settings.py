"settings.ini: typed, and strict about what it does not know"
import re
from dataclasses import fields

import pytest

from mlops_nb.errors import UserError
from mlops_nb.settings import Settings, load_settings, section_classes

from tests.support import ROOT

BASE = "[project]\nexperiment = flights\nmodel = m\n"


def written(tmp_path, text):
    path = tmp_path / "settings.ini"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_projects_own_file_is_read_and_names_every_key():
    settings = load_settings(ROOT)
    assert isinstance(settings, Settings) and not settings.production.configured
    text = (ROOT / "settings.ini").read_text()
    for name, cls in section_classes().items():
        block = text.split(f"[{name}]")[1].split("\n[")[0]
        assert {*re.findall(r"^(\w+) =", block, re.M)} == {field.name for field in fields(cls)}


def test_types_and_defaults(tmp_path):
    settings = load_settings(written(tmp_path,
                                     BASE + "[dev]\nsubscription_id = a\nresource_group = b\nworkspace = 007\n"
                                     "[gates]\nconfidence = .9\nbootstrap = 500\n# confidence = 2\n"))
    assert [vars(settings.named("gates"))[key] for key in ("confidence", "bootstrap", "seed")] == [0.9, 500, 0]
    assert settings.dev.configured and settings.dev.workspace == "007" and not settings.staging.configured


@pytest.mark.parametrize(
    "text, line, message",
    [
        (BASE + "[gate]\n", 4, "did you mean gates?"),
        (BASE + "modle = x\n", 4, "did you mean model?"),
        (BASE + "zzz = x\n", 4, "unknown key in [project]: zzz"),
        (BASE + "[gates]\nbootstrap = many\n", 5, "a whole number at least 100"),
        (BASE + "[gates]\nbootstrap = 2.0\n", 5, "bootstrap is '2.0'"),
        (BASE + "[gates]\nbootstrap = 5\n", 5, "at least 100"),
        (BASE + "[gates]\nconfidence =\n", 5, "confidence is ''"),
        (BASE + "[gates]\n\nconfidence = 0.9  # high\n", 6, "confidence is '0.9  # high'"),
        ("[project]\nmodel = m\n", 1, "experiment is not set"),
        ("[project]\nmodel = m\nexperiment =\n", 1, "experiment is not set"),
        (BASE + "model = m\n", 4, "model is set twice"),
        (BASE + "[project]\n", 4, "is there twice"),
        ("model = m\n", 1, "before the first"),
        (BASE + "no equals sign\n", 4, "key = value"),
        (BASE + "[DEFAULT]\nseed = 1\n", 4, "unknown section DEFAULT"),
        (BASE + "MODEL = x\n", 4, "unknown key in [project]: MODEL"),
    ],
)
def test_mistakes_have_their_line(tmp_path, text, line, message):
    with pytest.raises(UserError) as e: load_settings(written(tmp_path, text))
    assert message in str(e.value) and str(e.value).startswith(f"{tmp_path}/settings.ini:{line}: ")
    assert e.value.exit_code == 2


def test_files_that_are_not_there_or_not_text(tmp_path):
    with pytest.raises(UserError, match="no such file"): load_settings(tmp_path)
    (tmp_path / "settings.ini").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"): load_settings(tmp_path)
    with pytest.raises(UserError, match=r"no section \[project\]"):
        load_settings(written(tmp_path, "[gates]\nseed = 1\n"))


def test_interpolation_is_off(tmp_path):
    assert (
        load_settings(written(tmp_path, BASE + "[monitoring]\nemails = a%b@c.example\n")).named("monitoring").emails
        == "a%b@c.example"
    )
