"""Public Azure ML YAML: what our validator and azure-ai-ml's own loader say of each file below some checkouts"""
import logging
import os
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mlops_nb.errors import UserError
from mlops_nb.schemas.components import kind_of
from mlops_nb.schemas.documents import load
from mlops_nb.schemas.validation import validate

from tests.schemas.test_validation import azure

REASONS = {"does not exist": "a local path that is not there", "is '<": "a placeholder", "stands twice": "a key twice"}


def reason(what: str) -> str:
    "Why ours is stricter"
    return next((says for words, says in REASONS.items() if words in what), what)


def compare(path: Path) -> tuple[str, str]:
    "What both say of a file, and why where ours alone refuses it"
    try: kind = kind_of(load(path))
    except UserError as error: return "not read", error.what
    if kind in (None, "other", "azure"): return f"kind: {kind}", ""
    os.chdir(path.parent)
    ours, theirs = [p.what for p in validate(path) if p.kind == "error"], azure(path)
    if bool(ours) == bool(theirs): return "both refuse" if ours else "both accept", ""
    return ("ours alone refuses", reason(ours[0])) if ours else ("the SDK alone refuses", str(theirs)[:120])


def main(folders: list[str]):
    if not folders: return print("skipped: name folders with checkouts, such as Azure/azureml-examples")
    logging.disable(logging.CRITICAL)
    paths = [path.resolve() for folder in folders for path in sorted(Path(folder).rglob("*.y*ml")) if path.is_file()]
    said = [compare(path) for path in paths if "azureml" in path.read_text(encoding="utf-8", errors="replace")]
    for (verdict, why), count in sorted(Counter(said).items()): print(f"{count:5}  {verdict}{why and ': '}{why}")


if __name__ == "__main__": main(sys.argv[1:])
