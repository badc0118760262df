"""Public Azure ML YAML: what our validator and azure-ai-ml's own loader say of each file.

    .venv/bin/python bench/bench_yaml_agreement.py CHECKOUT...

Each folder is the checkout of one repository, such as Azure/azureml-examples. A file is judged alone, in its folder.
Files without the word azureml, workflows, and files that describe nothing we validate, do not count.
"""
import logging
import os
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import Result

from mlops_nb.errors import UserError
from mlops_nb.schemas.components import kind_of
from mlops_nb.schemas.documents import load
from mlops_nb.schemas.validation import validate
from mlops_nb.schemas.values import Problem

from tests.schemas.test_validation import azure

REASONS = {
    "does not exist": "a local path that is not in the repository",
    "is '<": "a placeholder",
    "is '{{": "a template, to be filled in",
    "names nothing": "a binding to an input or output that is not there",
    "neither image nor build": "an environment without image and build",
    "experiment_name is '": "an experiment name with blanks",
    "name is '": "a name that Azure refuses later",
    "among the values of its `enum`": "a value that the component's enum does not have",
    "stands twice": "a key twice",
}
VERDICTS = {(False, False): "accept", (True, True): "refuse", (True, False): "ours", (False, True): "theirs"}


def reason(what: str) -> str | None:
    "Why ours is stricter; None where no reason has a name"
    return next((says for words, says in REASONS.items() if words in what), None)


def describe(problem: Problem) -> str:
    "What a problem says; of a value for an input with an enum, that too, for the message names the values alone"
    is_chosen = ".inputs." in problem.what and problem.accepted.startswith("one of ")
    return problem.what + (", which is not among the values of its `enum`" if is_chosen else "")


def compare(path: Path) -> tuple[str, str]:
    "Return who refuses a file, and what the one says that refuses it alone"
    try: kind = kind_of(load(path))
    except UserError: return "unread", ""
    if kind in (None, "other", "azure"): return "unknown", ""
    os.chdir(path.parent)
    ours, theirs = [describe(p) for p in validate(path) if p.kind == "error"], azure(path)
    verdict = VERDICTS[bool(ours), bool(theirs)]
    return verdict, {"ours": (ours or [""])[0], "theirs": str(theirs)}.get(verdict, "")


def judge(folder: Path) -> tuple[Counter, Counter]:
    "Count the verdicts of a checkout, and the reasons of what ours alone refuses"
    verdicts, reasons = Counter[str](), Counter[str]()
    for path in sorted(folder.rglob("*.y*ml")):
        if ".github" in path.parts or not path.is_file(): continue
        if "azureml" not in path.read_text(encoding="utf-8", errors="replace"): continue
        verdict, what = compare(path)
        verdicts[verdict] += 1
        if not what: continue
        named = reason(what) if verdict == "ours" else None
        if named: reasons[named] += 1
        print(f"{verdict}: {path.relative_to(folder.parent)}: {named or what[:300]}", file=sys.stderr, flush=True)
    return verdicts, reasons


def main(folders: list[str]):
    if not folders: return print("skipped: name folders with checkouts, such as Azure/azureml-examples")
    logging.disable(logging.CRITICAL)
    units = {"files": "files", "accept": "both accept", "refuse": "both refuse", "ours": "ours alone refuses",
             "theirs": "the SDK alone refuses"}
    result = Result("yaml_agreement", "Public YAML: our validator and azure-ai-ml's loader", units=units)
    result.versions = {name: version(name) for name in ("mlops-nb", "azure-ai-ml")}
    total, reasons = Counter[str](), Counter[str]()
    for folder in sorted({Path(name).resolve() for name in folders}):
        verdicts, named = judge(folder)
        counted = {name: verdicts[name] for name in VERDICTS.values()}
        if not any(counted.values()): continue
        counted["files"] = sum(counted.values())
        result.add({folder.name.replace("+", "/"): [counted]})
        total.update(counted)
        reasons += named
    result.add({f"all {len(result.rows)} repositories": [dict(total)]})
    result.target("files that the SDK alone refuses", total["theirs"], 0)
    result.target("files that ours alone refuses for no named reason", total["ours"] - reasons.total(), 0)
    result.notes = [f"Ours alone: {count} for {why}" for why, count in reasons.most_common()]
    result.write()


if __name__ == "__main__": main(sys.argv[1:])
