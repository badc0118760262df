"Every request and every answer of Azure Resource Manager against the published specification"
import json
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from .proxy import Answer, Request
from .swagger import Schemas, read

ALLOWED = (  # Known defects of the SDK: operation, place, what is wrong there, why it is no finding
    (r"CodeVersions_\w+", r"/properties/properties/hash_version", "is not of type 'string'",
     "azure-ai-ml sends hash_version as an integer; Azure converts it"),
    (r"Datastores_ListSecrets", r"", "has a body that",
     "the body (expirableSecret) came with 2024-10-01-preview, which is not among the published files"),
    (r"Registries_\w+", r"/properties", "'managedResourceGroupTags'",
     "azure-ai-ml sends a property of a later api-version than the one that it names"),
    (r"Workspaces_Update", r"/properties", "'systemDatastoresAuthMode'",
     "azure-ai-ml sends a property of a later api-version, which is not among the published files"),
    (r".*", r".*", "differs in case only", "ARM accepts enum values in any case, and the SDK relies on it"),
)


@dataclass
class Operation:
    "One operation of one specification"
    name: str
    method: str
    pattern: re.Pattern
    said: dict
    path: Path
    parameters: list = field(default_factory=list)


@dataclass
class Finding:
    "Something that the specification does not allow"
    where: str  # `request` or `answer 200`
    place: str  # JSON pointer
    what: str

    def __str__(self): return f"{self.where} {self.place or '/'}: {self.what}"


@dataclass
class Checked:
    "What the specification says about a call"
    operation: str = ""
    against: str = ""  # The api-version of the specification; empty where there is none
    findings: list = field(default_factory=list)
    deviations: list = field(default_factory=list)  # Findings that are known defects of the SDK


class Contract:
    "The specifications of a checkout"
    def __init__(self, root: Path):
        self.root, self.schemas = root / "specification", Schemas()
        base = self.root / "machinelearningservices/resource-manager/Microsoft.MachineLearningServices"
        self.versions = {folder.name: sorted(folder.glob("*.json"))
                         for folder in sorted(base.glob("*/*")) if folder.is_dir()}
        self.monitor = {
            path.parent.name: path
            for path in (self.root / "monitor/resource-manager/Microsoft.Insights").glob("**/metrics_API.json")
        }
        self.groups = sorted((self.root / "resources/resource-manager/Microsoft.Resources").glob("*/*/resources.json"))

    @staticmethod
    def here() -> "Contract | None":
        "The checkout that AZURE_REST_API_SPECS names"
        named = os.environ.get("AZURE_REST_API_SPECS")
        return Contract(Path(named)) if named and (Path(named) / "specification").is_dir() else None

    @lru_cache  # noqa: B019  (one contract for the session)
    def operations(self, version: str) -> list[Operation]:
        "All operations of an api-version"
        return [one for path in self.versions.get(version, ()) for one in operations_of(path)]

    @lru_cache  # noqa: B019  (one contract for the session)
    def resources(self) -> list[Operation]:
        "Those of resource groups; one that takes any id says nothing about what is there"
        return [one for path in self.groups for one in operations_of(path) if one.pattern.pattern.count("/") > 1]

    @lru_cache  # noqa: B019  (one contract for the session)
    def metrics(self, version: str) -> list[Operation]:
        return operations_of(self.monitor[version]) if version in self.monitor else []

    def nearest(self, version: str) -> str:
        "The api-version itself, or the newest older one that the checkout has"
        older = [one for one in self.versions if one[:10] <= version[:10]
                 and one.endswith("preview") == version.endswith("preview")]
        return version if version in self.versions else max(older, default="")

    def find(self, request: Request) -> tuple[Operation | None, str]:
        "The operation that a request is, and the api-version of the specification that has it"
        if "/providers/" not in request.path:
            return self.match(self.resources(), request), self.groups[-1].parent.name if self.groups else ""
        if "/providers/microsoft.insights/" in request.path.lower():
            return self.match(self.metrics(request.version), request), request.version
        version = self.nearest(request.version)
        return self.match(self.operations(version), request), version

    def pages(self, request: Request) -> bool:
        "Whether the published operation gives its list in pages; one that is not published does"
        found, _ = self.find(request)
        return not found or bool((found.said.get("x-ms-pageable") or {}).get("nextLinkName"))

    @staticmethod
    def match(operations: list, request: Request) -> Operation | None:
        return next((one for one in operations if one.method == request.method.lower()
                     and one.pattern.fullmatch(request.path)), None)

    def check(self, request: Request, answer: Answer | None = None) -> Checked:
        "A call against its operation"
        found, version = self.find(request)
        if not found: return Checked()
        said = [*self.parameters(found, request), *self.body(found, request)] + (self.answer(found, answer) if answer
                                                                                 else [])
        allowed = [one for one in said if any(re.fullmatch(name, found.name) and re.fullmatch(place, one.place)
                                              and text in one.what for name, place, text, _ in ALLOWED)]
        return Checked(found.name, version, [one for one in said if one not in allowed], allowed)

    def parameters(self, found: Operation, request: Request) -> list[Finding]:
        "Path and query"
        findings, match = [], found.pattern.fullmatch(request.path)
        assert match, f"{request.path} does not belong to {found.name}"
        groups = match.groupdict()
        known = {one["name"]: one for one in found.parameters if one["in"] == "query"}
        for one in found.parameters:
            value = (groups.get(re.sub(r"\W", "_", one["name"])) if one["in"] == "path"
                     else request.query.get(one["name"]) if one["in"] == "query" else None)
            if value is None:
                if one.get("required") and one["in"] == "query":
                    findings.append(Finding("request", f"?{one['name']}", "is required"))
                continue
            if one.get("pattern") and not re.search(one["pattern"], value):
                findings.append(Finding("request", f"?{one['name']}", f"{value!r} does not match {one['pattern']}"))
            if one.get("enum") and value not in one["enum"]:
                findings.append(Finding("request", f"?{one['name']}",
                                        f"{value!r} " + ("differs in case only"
                                                         if value.lower() in map(str.lower, one["enum"])
                                                         else f"is not one of {one['enum']}")))
        return findings + [Finding("request", f"?{name}", "is unknown") for name in request.query
                           if name not in known and name != "$skiptoken"]  # Of a nextLink, which is Azure's own

    def body(self, found: Operation, request: Request) -> list[Finding]:
        said = next((one for one in found.parameters if one["in"] == "body"), None)
        if said is None:
            return (
                [Finding("request", "", "has a body that the operation does not take")]
                if request.body.strip() not in (b"", b"{}")
                else []
            )
        if not request.body: return [Finding("request", "", "has no body")] if said.get("required") else []
        return self.violations("request", found.path, said["schema"], request.json)

    def answer(self, found: Operation, answer: Answer) -> list[Finding]:
        responses = found.said["responses"]
        said = responses.get(str(answer.status)) or (responses.get("default") if answer.status >= 400 else None)
        where = f"answer {answer.status}"
        if not said: return [Finding(where, "", f"is not among {sorted(responses)}")]
        if "schema" not in said: return [] if not answer.data else [Finding(where, "", "has a body")]
        return self.violations(where, found.path, said["schema"], json.loads(answer.data) if answer.data else None)

    def violations(self, where: str, path: Path, schema: dict, value) -> list[Finding]:
        "What a schema says against a value"
        errors = [leaf for error in self.schemas.validator(path, schema).iter_errors(value) for leaf in leaves(error)]
        return [Finding(where, "/" + "/".join(map(str, error.absolute_path)), words(error)) for error in errors]


def operations_of(path: Path) -> list[Operation]:
    "The operations of one file"
    document, found = read(path), []
    for template, methods in document["paths"].items():
        for method, said in methods.items():
            if method == "parameters": continue
            parameters = [resolved(path, one) for one in [*methods.get("parameters", ()), *said.get("parameters", ())]]
            # Such a parameter is a path of its own
            whole = {one["name"] for one in parameters if one.get("x-ms-skip-url-encoding")}
            def part(match: re.Match, whole: set = whole) -> str:
                name = re.sub(r"\W", "_", match[1])
                return f"(?P<{name}>{'.+' if match[1] in whole else '[^/]+'})"
            pattern = re.sub(r"\\\{([\w-]+)\\\}", part, re.escape(template.split("?")[0]).replace(r"\-", "-"))
            found.append(Operation(said["operationId"], method, re.compile(pattern, re.I), said, path, parameters))
    # The most specific one first
    return sorted(found, key=lambda one: (one.pattern.pattern.count(">.+)"), one.pattern.pattern.count("[^/]")))


def resolved(path: Path, parameter: dict) -> dict:
    if "$ref" not in parameter: return parameter
    file, _, name = parameter["$ref"].partition("#/parameters/")
    return read((path.parent / file).resolve() if file else path)["parameters"][name]


def leaves(error):
    "The errors below an `anyOf` that allows null: those of its other side"
    if error.validator != "anyOf": return [error]
    inner = [one for one in error.context if one.validator != "type" or one.schema != {"type": "null"}]
    return [leaf for one in inner for leaf in leaves(one)] or [error]


def words(error) -> str:
    "What is wrong, briefly"
    if error.validator in ("enum", "const") and isinstance(error.instance, str):
        known = error.validator_value if error.validator == "enum" else [error.validator_value]
        if error.instance.lower() in [str(one).lower() for one in known]:
            return f"{error.instance!r} differs in case only"
    return error.message[:300]
