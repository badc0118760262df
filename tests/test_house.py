"The walls of the house that no linter checks: where code lives, who owns what is shared, and that classes are whole"
import ast
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "mlops_nb"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "templates" not in path.parts and path.name != "_modidx.py")
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
MODULES = {name: tree for name, tree in TREES.items() if not name.endswith("__init__.py")}
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))


def package_of(name: str) -> str:
    "The package of a module's file, empty for those of the root"
    return name.rpartition("/")[0]


def test_a_module_lies_where_its_notebook_does():
    "`nbs/api/models/09_gate.ipynb` is `mlops_nb/models/gate.py`; the adopter's folders have no `api/`"
    for path in NOTEBOOKS:
        found = re.search(r"#\|\s*default_exp (\S+)",
                          path.read_text(encoding="utf-8").replace("\\n", " ").replace('"', " "))
        if not found: continue
        folder = path.parent.relative_to(ROOT / "nbs").as_posix().removeprefix("api").strip("/")
        assert package_of(found[1].replace(".", "/")) == folder, path
        assert re.fullmatch(r"(\d\d_)?[a-z_]+", path.stem), f"{path}: a number has no letters"


def test_the_top_of_the_notebooks_shows_three_kinds_of_thing():
    folders = {path.name for path in (ROOT / "nbs").iterdir() if path.is_dir() and not path.name.startswith((".", "_"))}
    assert folders - {"outputs"} == {"training", "deployment", "monitoring", "environment", "api", "docs"}


def test_no_package_is_a_drawer():
    "At most 14 modules, and at most 12 % of all lines"
    lines = Counter({name: len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in MODULES})
    by_package, modules = Counter(), Counter(package_of(name) for name in MODULES)
    for name, count in lines.items(): by_package[package_of(name)] += count
    assert {package: count for package, count in modules.items() if count > 14} == {}
    assert {package: count for package, count in by_package.items() if count > .12 * lines.total()} == {}


def test_a_package_has_no_facade():
    "Module borders are the cache keys of steps: whoever imports one module must not get another"
    facades = [name for name in TREES if name.endswith("/__init__.py")
               and (PACKAGE / name).read_text(encoding="utf-8").strip()]
    assert facades == []


def private_imports(name: str, tree: ast.Module):
    "The private names that a module takes from another package"
    here = ["mlops_nb", *name.removesuffix(".py").split("/")]
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom): continue
        source = [*here[:-node.level],
                  *(node.module or "").split(".")] if node.level else (node.module or "").split(".")
        if source[0] != "mlops_nb" or source[1:-1] == here[1:-1] and source[1:]: continue
        yield from (f"{name}:{node.lineno}: {alias.name}" for alias in node.names if re.match(r"_(?!_)", alias.name))


def test_no_private_name_crosses_a_package():
    assert [found for name, tree in MODULES.items() for found in private_imports(name, tree)] == []


def attached(name: str, tree: ast.Module):
    "What a module puts on a class after its body"
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if (
                isinstance(target, ast.Attribute)
                and isinstance(target.value, ast.Name)
                and target.value.id[:1].isupper()
            ):
                yield f"{name}:{node.lineno}: {ast.unparse(target)}"
        for call in ast.walk(node) if isinstance(node, ast.For | ast.Expr) else []:
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("setattr", "__set_name__"):
                yield f"{name}:{node.lineno}: {ast.unparse(call)}"


def test_nothing_is_attached_to_a_class_after_its_body():
    assert [found for name, tree in MODULES.items() for found in attached(name, tree)] == []


def annotations(tree: ast.Module):
    "Every annotation of a module"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg,
                         node.args.kwarg]
            yield from (found for found in (node.returns,
                                            *(argument and argument.annotation for argument in arguments)) if found)
        elif isinstance(node, ast.AnnAssign): yield node.annotation


def test_annotations_are_real():
    "Only a class that is not there yet, or is imported for types alone, may stand in quotes"
    quoted = {f"{name}: {node.value}" for name, tree in MODULES.items() for node in annotations(tree)
              if isinstance(node, ast.Constant) and isinstance(node.value, str)
              and not re.fullmatch(r"([A-Z]\w+\[)?[A-Z]\w+\]?( \| None)?", node.value)}
    assert quoted == set()


OWNERS = {  # what there is one way to do, how its other ways look, and the modules that may
    "locks": (r"\bimport fcntl|\bflock\(|BEGIN EXCLUSIVE|\bFileLock\(", {"files.py"}),
    "suggestions": (r"\bget_close_matches\(", {"errors.py"}),
    # a database goes with its logs
    "whole writes": (r"\bos\.replace\(", {"files.py", "workspace/mlflow_store.py", "workspace/repair.py"}),
    "times": (r"datetime\.(now|utcnow|fromisoformat|strptime)\(", {"times.py", "models/signature.py"}),
    "paths of the local workspace": (r"/ ?f?[\"']\.mlops\b", {"project.py"}),
    "MLflow's tables": (
        r"(FROM|INTO|UPDATE|JOIN) "
        r"(runs|experiments|params|metrics|latest_metrics|registered_models|model_versions|model_version_tags)\b",
        {"workspace/mlflow_store.py", "workspace/workspace.py"},
    ),
    "private names of azure-ai-ml": (
        r"azure\.ai\.ml\._|\._runs_operations|\._load_functions|\._artifacts",
        {"azure/sdk.py"},
    ),
    "the command line as a process": (r"import main; main\(\)", {"jobs/launcher.py"}),
    "the project's root": (
        r"\"settings\.ini\"\)\.(exists|is_file)\(\)|\"pyproject\.toml\"\)\.(exists|is_file)\(\)",
        {"project.py"},
    ),
}


@pytest.mark.parametrize("what", OWNERS)
def test_each_shared_thing_has_one_owner(what):
    pattern, owners = OWNERS[what]
    found = {}
    for name in MODULES:
        lines = (PACKAGE / name).read_text(encoding="utf-8").splitlines()
        hits = [number for number, line in enumerate(lines, 1) if re.search(pattern, line)]
        if hits and name not in owners: found[name] = hits
    assert found == {}, f"{what}: only {', '.join(sorted(owners))} may"


EXPORTED, HIDDEN = re.compile(r"#\|\s*export"), re.compile(r"#\|\s*(hide|default_exp|eval: false)")


def only_imports(source: str) -> bool:
    "Does a cell do nothing but import?"
    return all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(source).body)


def examples(path: Path) -> tuple[int, int]:
    "How many cells a notebook exports, and how many show something"
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
             if cell["cell_type"] == "code"]
    exported = sum(bool(EXPORTED.match(source)) and not only_imports(source) for source in cells)
    shown = sum(bool(source.strip()) and not EXPORTED.match(source) and not HIDDEN.match(source) for source in cells)
    return exported, shown


def test_the_machinery_shows_itself():
    "Over all of `nbs/api` at least one visible example for each exported cell, and at least three in each notebook"
    found = {path: examples(path) for path in NOTEBOOKS if (ROOT / "nbs/api") in path.parents}
    assert {path.relative_to(ROOT).as_posix(): shown for path, (_, shown) in found.items() if shown < 3} == {}
    exported, shown = (sum(numbers) for numbers in zip(*found.values(), strict=True))
    assert shown >= exported, f"{shown} examples for {exported} exported cells"
