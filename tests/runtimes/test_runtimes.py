"Environments: every form that Azure takes is read, differences are told, and an isolated one is built once and whole"
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from mlops_nb.errors import UserError
from mlops_nb.jobs.environments import choose_interpreter
from mlops_nb.runtimes.build import build_environment, environment_hash
from mlops_nb.runtimes.differences import Difference, compare, report_differences
from mlops_nb.runtimes.required import Required, from_conda, pip_name, read_environment

HERE = ".".join(map(str, sys.version_info[:2]))


def wheel(folder: Path, name="tiny", version="1.0", requires=()):
    "A package that needs no index"
    info = f"{name}-{version}.dist-info"
    lines = "".join(f"Requires-Dist: {need}\n" for need in requires)
    with zipfile.ZipFile(folder/f"{name}-{version}-py3-none-any.whl", "w") as z:
        z.writestr(f"{name}.py", f"version = '{version}'\n")
        z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}")
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", "")
    return ("--no-index", f"--find-links {folder}")


@pytest.mark.parametrize(
    "line, expected",
    [
        ("numpy", "numpy"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy=1.26.4=py311h64a7726_0", "numpy==1.26.4"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("numpy >=1.2,<2", "numpy>=1.2,<2"),
        ("numpy 1.2.*", "numpy==1.2.*"),
        ("numpy=1.2.*", "numpy==1.2.*"),
        ("conda-forge::numpy~=1.2", "numpy~=1.2"),
        ("numpy!=1.3", "numpy!=1.3"),
        ("scikit-learn", "scikit-learn"),
        ("PyTorch=2", "torch==2.*"),
        ("libgcc-ng", None),
        ("cudatoolkit=11.8", None),
        ("openmpi", None),
        ("r-base", None),
        ("conda-forge/linux-64::numpy", "numpy"),
        ("requests", "requests"),
        ("gitpython", "gitpython"),
        ("rich", "rich"),
    ],
)
def test_conda_packages_in_pips_words(line, expected):
    assert pip_name(line) == expected


def test_every_form_of_environment(tmp_path):
    (tmp_path/"sub").mkdir()
    (tmp_path/"sub"/"more.txt").write_text("scipy>1\n-r deep.txt\n")
    (tmp_path/"sub"/"deep.txt").write_text("joblib  # last\n")
    (tmp_path / "conda.yml").write_text(
        "dependencies:\n- python>=3.10,<3.12\n- pip\n- pandas=2\n- pip:\n  - -r sub/more.txt\n  - "
        "--find-links=https://x.org\n  - ./local\n"
    )
    (tmp_path/"environment.yml").write_text("name: e\nimage: ubuntu\nconda_file: conda.yml\n")
    (tmp_path/"context").mkdir()
    (tmp_path/"context"/"requirements.txt").write_text("numpy\n")
    conda = Required("conda", str(tmp_path/"conda.yml"), ("pandas==2.*", "scipy>1", "joblib", str(tmp_path/"local")),
                     "3.10", "ubuntu", ("--find-links=https://x.org",))
    assert read_environment({"image": "ubuntu", "conda_file": "conda.yml"}, tmp_path) == conda
    assert read_environment("file:environment.yml", tmp_path) == conda
    assert read_environment("azureml:e:1", tmp_path, {"azureml:e:1": tmp_path/"environment.yml"}.get) == conda
    assert read_environment("azureml:other:1", tmp_path, {}.get) == Required("registered", "azureml:other:1")
    curated = read_environment("azureml://registries/azureml/environments/sklearn-1.5/labels/latest", tmp_path, {}.get)
    assert (curated.kind, curated.requirements) == ("curated", ("scikit-learn==1.5.*",))
    assert read_environment("azureml:AzureML-minimal@latest", tmp_path, {}.get).kind == "registered"
    assert read_environment({"image": "ubuntu"}, tmp_path) == Required("image", "ubuntu", image="ubuntu")
    assert read_environment({"build": {"path": "context"}}, tmp_path).requirements == ("numpy",)
    assert read_environment({"build": {"path": "sub"}}, tmp_path).kind == "image"
    assert read_environment(None, tmp_path).kind == "none"
    (tmp_path/"conda.yml").write_text("dependencies:\n- pip:\n  - -r nowhere.txt\n")
    with pytest.raises(UserError, match="nowhere.txt does not exist"):
        read_environment("file:environment.yml", tmp_path)


def test_differences(monkeypatch):
    version = metadata.version("pytest")
    asks = Required("conda", "c.yml",
                    ("pytest", "pytest>=1", f"pytest=={version}", "pytest<1", "none-such>=2",
                     "pip; sys_platform == 'nowhere'", "./path", "-e /x"), "2.7",
                    foreign=("cudnn",))
    assert compare(asks) == [Difference("python", "2.7", HERE), Difference("pytest", "<1", version),
                             Difference("none-such", ">=2", "not installed"),
                             Difference("cudnn", "", "not a Python package")]
    assert str(Difference("scikit-learn", "1.2.*", "1.9.1")) == "scikit-learn: asks 1.2.*, here 1.9.1"
    assert compare(Required("conda", "c.yml", ("pytest",), HERE)) == []
    monkeypatch.setattr("importlib.metadata.requires",
                        lambda name: ["none-such>1; extra == 'dev'", "pytest; extra == 'dev'", "other; extra == 'doc'"])
    assert [d.name for d in compare(Required("conda", "c.yml", ("pytest[dev]",)))] == ["pytest[dev] -> none-such"]


def test_differences_are_told_once():
    heard, asks = [], Required("conda", "once.yml", ("none-such",))
    say = heard.append
    report_differences(asks, say)
    report_differences(asks, say)
    assert len(heard) == 1 and "none-such: asks any version, here not installed" in heard[0]


def test_the_hash_knows_what_matters():
    base = Required("conda", "a.yml", ("a", "b"), "3.11")
    assert environment_hash(base) == environment_hash(Required("conda", "b.yml", ("b", "a"), "3.11"))
    others = [Required("conda", "a.yml", ("a",), "3.11"), Required("conda", "a.yml", ("a", "b"), "3.12"),
              Required("conda", "a.yml", ("a", "b"), "3.11", options=("--pre",))]
    assert len({environment_hash(r) for r in [base, *others]}) == 4


BUILD = """import sys
from pathlib import Path
from mlops_nb.runtimes.build import Required, build_environment
options = ("--no-index", "--find-links " + sys.argv[1])
asked = Required("requirements", "test", ("tiny==1.0",), options=options)
print(build_environment(asked, Path(sys.argv[2]), lambda t: print("BUILDING", flush=True)))
"""


def test_two_at_once_build_once_and_a_killed_build_is_thrown_away(tmp_path):
    wheel(tmp_path)
    command = [sys.executable, "-c", BUILD, str(tmp_path), str(tmp_path/"cache")]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert killed.stdout.readline() == "BUILDING\n"
    killed.kill()
    killed.wait()
    assert not list((tmp_path/"cache").glob("*.python"))
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [p.communicate(timeout=300)[0].split() for p in both]
    assert sorted(len(s) for s in said) == [1, 2] and said[0][-1] == said[1][-1]
    assert subprocess.run([said[0][-1], "-c", "import tiny; print(tiny.version)"], capture_output=True,
                          text=True).stdout == "1.0\n"


def test_pips_last_words_are_the_error(tmp_path):
    asks = Required("requirements", "conda.yml", ("tiny==9",), options=wheel(tmp_path))
    with pytest.raises(UserError, match="(?s)cannot build the environment of conda.yml.*tiny==9") as e:
        build_environment(asks, tmp_path/"cache", lambda text: None)
    assert "correct conda.yml" in str(e.value) and not list((tmp_path/"cache").glob("*.python"))


def test_what_pip_cannot_install_is_refused_first(tmp_path):
    asks = from_conda({"dependencies": ["cudnn", "r-base", "numpy"]}, tmp_path, "conda.yml")
    with pytest.raises(UserError, match="conda.yml asks for cudnn, r-base, which pip cannot install"):
        build_environment(asks, tmp_path)


def test_a_python_that_is_not_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("mlops_nb.runtimes.build.find_uv", lambda: None)
    with pytest.raises(UserError, match="asks for Python 3.5, which is not on this machine"):
        build_environment(Required("conda", "c", (), "3.5"), tmp_path, lambda text: None)


def test_the_python_of_a_step(tmp_path):
    class Component: environment, base = {"image": "ubuntu"}, tmp_path
    python, found = choose_interpreter(None, Component, True, print)
    assert python == Path(sys.executable) and len(found) == 64


def test_a_python_beside_the_path_is_found_and_what_uv_cannot_fetch_is_said(tmp_path, monkeypatch):
    "pyenv keeps its Pythons off the PATH; a shim that cannot run is passed over"
    from mlops_nb.runtimes import build
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path/"shims"))
    kept = tmp_path/"versions/3.5.9/bin/python3.5"
    for path, text in ((tmp_path/"shims/python3.5", "exit 127"), (kept, "exit 0")):
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    assert build.find_python("3.5") == str(kept) and build.find_python("3.4") is None
    uv = tmp_path/"uv"
    uv.write_text("#!/bin/sh\necho no network >&2\nexit 2\n")
    uv.chmod(0o755)
    monkeypatch.setattr(build, "find_uv", lambda: str(uv))
    with pytest.raises(UserError, match="(?s)asks for Python 3.4, which is not on this .*, and uv cannot.*no network"):
        build_environment(Required("conda", "c.yml", (), "3.4"), tmp_path/"cache", lambda text: None)
    assert not list((tmp_path/"cache").glob("*.python"))


def test_an_old_pin_brings_the_numpy_that_it_was_compiled_for():
    from mlops_nb.runtimes.build import conda_pins
    assert conda_pins(("scikit-learn==1.2.2", "numpy")) == ["numpy<2"]
    for line in ("scikit-learn", "scikit-learn>=1.2", "scikit-learn==1.5.*", "-e ./x", "numpy==1.2"):
        assert conda_pins((line,)) == [], line
