"""The files of Azure Pipelines as Azure DevOps reads them before a run: parameters are checked, templates are put in,
expressions are evaluated; what is not of the subset that this repository uses is refused"""
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

FOLDER = ".azure-pipelines"
TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<word>[A-Za-z_]\w*)|(?P<number>-?\d+(?:\.\d+)?)|"
                   r"(?P<mark>[()\[\],.]))")
COMPILE = re.compile(r"\$\{\{(.*?)\}\}", re.S)


class Mistake(Exception):
    "What Azure DevOps would refuse"


def same(left: Any, right: Any) -> bool:
    "Whether two values are equal: the type of the left one counts, the case of letters does not"
    if isinstance(left, bool) and isinstance(right, str): left = str(left)
    if isinstance(left, str) and isinstance(right, bool): right = str(right)
    if left is None or right is None: return (left or "") == (right or "")
    return str(left).lower() == str(right).lower()


def first(values: tuple) -> Any: return next((value for value in values if value not in (None, "")), "")


FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {  # By name: at least so many arguments, and what it does
    "and": (2, lambda *values: all(map(truth, values))), "or": (2, lambda *values: any(map(truth, values))),
    "not": (1, lambda value: not truth(value)), "eq": (2, same), "ne": (2, lambda left, right: not same(left, right)),
    "in": (2, lambda value, *others: any(same(value, other) for other in others)),
    "coalesce": (2, lambda *values: first(values)), "trim": (1, lambda text: str(text or "").strip())}
STATUS = ("succeeded", "failed", "succeededOrFailed", "always", "canceled")


def truth(value: Any) -> bool: return value is not None and value is not False and value != "" and value != 0


@dataclass
class Expression:
    "One expression, which is evaluated with the values of `known` and the status functions of `status`"
    text: str
    known: Mapping[str, Any]
    status: Mapping[str, Callable[..., bool]]

    def evaluate(self) -> Any:
        self.tokens, end = [], 0
        while end < len(self.text.rstrip()):
            if not (match := TOKEN.match(self.text, end)): raise Mistake(f"unexpected symbol in {self.text.strip()!r}")
            self.tokens.append((match.lastgroup, match[match.lastgroup or 0]))
            end = match.end()
        value = self.value()
        if self.tokens: raise Mistake(f"unexpected {self.tokens[0][1]!r} in {self.text.strip()!r}")
        return value

    def take(self, *marks: str) -> str:
        kind, text = self.tokens.pop(0) if self.tokens else ("", "the end")
        if marks and text not in marks:
            raise Mistake(f"{text!r} instead of {' or '.join(marks)} in {self.text.strip()!r}")
        return text

    def value(self) -> Any:
        if not self.tokens: raise Mistake(f"{self.text.strip()!r} ends too early")
        kind, text = self.tokens.pop(0)
        if kind == "text": return text[1:-1].replace("''", "'")
        if kind == "number": return float(text) if "." in text else int(text)
        if kind != "word": raise Mistake(f"unexpected {text!r} in {self.text.strip()!r}")
        if text in ("true", "false"): return text == "true"
        if self.tokens[:1] == [("mark", "(")]: return self.call(text)
        return self.look_up(text)

    def call(self, name: str) -> Any:
        self.take("(")
        given: list[Any] = []
        while self.tokens and self.tokens[0][1] != ")":
            if given: self.take(",")
            given.append(self.value())
        self.take(")")
        if name in STATUS:
            if name not in self.status: raise Mistake(f"{name}() says nothing here")
            return self.status[name](*given)
        if name not in FUNCTIONS: raise Mistake(f"unknown function {name}")
        least, function = FUNCTIONS[name]
        if len(given) < least: raise Mistake(f"{name} wants {least} values")
        return function(*given)

    def look_up(self, name: str) -> Any:
        if name not in self.known: raise Mistake(f"unknown value {name!r} in {self.text.strip()!r}")
        value = self.known[name]
        while self.tokens and self.tokens[0][1] in (".", "["):
            key = self.take() == "." and self.take() or self.take()[1:-1]
            if self.tokens[:1] == [("mark", "]")]: self.take("]")
            has = isinstance(value, Mapping) and (key in value or hasattr(value, "__missing__"))
            value = value[key] if has else None
            if value is None and name == "parameters": raise Mistake(f"unknown parameter {key!r}")
        return value


def evaluate(text: str, known: Mapping[str, Any], status: Mapping[str, Callable[..., bool]] | None = None) -> Any:
    "The value of an expression"
    return Expression(text, known, status or {}).evaluate()


def as_text(value: Any) -> str: return "" if value is None else str(value)


def fill(value: Any, known: Mapping[str, Any]) -> Any:
    "A value in which each `${{ }}` is replaced; one that stands alone may be a list or a mapping"
    if isinstance(value, list): return [fill(one, known) for one in value]
    if isinstance(value, dict):
        if strange := [key for key in value if "${{" in key]: raise Mistake(f"{strange[0]} is beyond the subset")
        return {key: fill(one, known) for key, one in value.items()}
    if not isinstance(value, str): return value
    if (whole := COMPILE.fullmatch(value.strip())) and "${{" not in whole[1]: return evaluate(whole[1], known)
    filled = COMPILE.sub(lambda match: as_text(evaluate(match[1], known)), value)
    if "${{" in filled: raise Mistake(f"{value!r} is not closed")
    return filled


class Loader(yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader):  # type: ignore[misc]
    "All scalars are text, as in Azure Pipelines; a key that stands twice is a mistake"
    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]: raise Mistake(f"{twice[0]!r} is already defined")
        return super().construct_mapping(node, deep)


def load(file: Path) -> dict:
    "A file as it is written"
    if not file.is_file(): raise Mistake(f"{file.name} is not there")
    try: return yaml.load(file.read_text(), Loader) or {}
    except yaml.YAMLError as error: raise Mistake(f"{file.name}: {error}") from None


def check_parameters(declared: list[dict], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    "The values of parameters: those that are given, else their defaults"
    names = {one["name"]: one for one in declared}
    if strange := given.keys() - names.keys(): raise Mistake(f"{where}: unexpected parameter {min(strange)!r}")
    values = {}
    for name, one in names.items():
        if name not in given and "default" not in one: raise Mistake(f"{where}: a value for {name!r} is missing")
        value = given.get(name, one.get("default"))
        if one.get("values") and value not in one["values"]: raise Mistake(f"{where}: {name} is not {value!r}")
        kind = one.get("type", "string")
        if kind == "boolean":
            if str(value).lower() not in ("true", "false"): raise Mistake(f"{where}: {name} is a boolean")
            value = str(value).lower() == "true"
        elif kind == "string" and not isinstance(value, str | int | float):
            raise Mistake(f"{where}: {name} is a string")
        values[name] = value
    return values


LISTS = ("stages", "jobs", "steps")     # What may be a template, and whose items may be templates


def read_template(root: Path, item: dict, beside: PurePosixPath, kind: str, known: Mapping[str, Any]) -> list:
    "The items of a template"
    if "@" in item["template"]: raise Mistake(f"{item['template']} is of another repository")
    if strange := item.keys() - {"template", "parameters"}: raise Mistake(f"a template has no {min(strange)}")
    path = beside / item["template"]
    content = load(root / path)
    if kind not in content: raise Mistake(f"{path} has no {kind}")
    given = check_parameters(content.get("parameters", []), fill(item.get("parameters", {}), known), path.name)
    return expand_items(root, content[kind], path.parent, kind, {"parameters": given})


def expand_items(root: Path, items: list, beside: PurePosixPath, kind: str, known: Mapping[str, Any]) -> list:
    "Items of a list, each template replaced by what it holds"
    expanded = []
    for item in items:
        if "template" in item: expanded += read_template(root, item, beside, kind, known)
        else: expanded.append(expand_lists(root, item, beside, known))
    return expanded


def expand_lists(root: Path, document: dict, beside: PurePosixPath, known: Mapping[str, Any]) -> dict:
    "A mapping, with the lists that are anywhere in it expanded"
    made: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict) and any("${{" in name for name in value):
            raise Mistake(f"{key} is beyond the subset")
        if key in LISTS and isinstance(value, list): made[key] = expand_items(root, value, beside, key, known)
        elif isinstance(value, dict): made[key] = expand_lists(root, value, beside, known)
        else: made[key] = fill(value, known)
    return made


def expand(root: Path, name: str, parameters: Mapping[str, Any] | None = None) -> dict:
    "A pipeline as it runs: without templates, without `${{ }}`, without parameters"
    document = load(root / FOLDER / f"{name}.yml")
    known = {"parameters": check_parameters(document.pop("parameters", []), parameters or {}, name)}
    return expand_lists(root, document, PurePosixPath(FOLDER), known)


def stages(document: dict) -> dict[str, dict]:
    "The stages of an expanded pipeline by name; the jobs of one without stages are in one without a name"
    listed = document.get("stages") or [{"stage": "", "jobs": document.get("jobs", [])}]
    return {stage["stage"]: stage for stage in listed}


def depends(item: Mapping[str, Any], before: list[str]) -> list[str]:
    "What a stage or job waits for: `before` where it says nothing"
    if "dependsOn" not in item: return before
    given = item["dependsOn"]
    return [given] if isinstance(given, str) and given else list(given or [])


def job_name(job: Mapping[str, Any]) -> str: return job.get("job") or job["deployment"]


def steps(job: Mapping[str, Any]) -> list[dict]:
    "The steps of a job, those that Azure DevOps adds by itself included"
    if "deployment" in job:
        own = job["strategy"]["runOnce"]["deploy"]["steps"]
        return own if any("download" in step for step in own) else [{"download": "all"}, *own]
    return job["steps"] if any("checkout" in step for step in job["steps"]) else [{"checkout": "self"}, *job["steps"]]


def script(step: Mapping[str, Any]) -> str:
    "What a step lets a shell do; empty where it does something else"
    return step.get("bash") or step.get("script") or step.get("inputs", {}).get("inlineScript", "")


def names(root: Path) -> list[str]: return [path.stem for path in sorted((root / FOLDER).glob("*.yml"))]
