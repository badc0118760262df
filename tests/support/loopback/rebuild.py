"From REST bodies and uploaded blobs, and from nothing else, back to files that the local workspace runs"
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .arm import Refused, head

MODES = {"ReadOnlyMount": "ro_mount", "ReadWriteMount": "rw_mount", "Download": "download", "Upload": "upload",
         "Direct": "direct", "EvalMount": "eval_mount", "EvalDownload": "eval_download"}
TYPED: dict[str, Callable[[Any], Any]] = {
    "integer": int, "number": float, "boolean": lambda text: str(text).lower() == "true"}
DATASTORE = re.compile(r"azureml://(?:subscriptions/.*?/)?datastores/(?P<store>[\w-]+)/paths/(?P<path>.*)")
ASSET = re.compile(r"(?:azureml:)?(?P<id>/subscriptions/.+/(?P<kind>codes|data|models|environments|components)/"
                   r"(?P<name>[^/]+)/(?P<word>versions|labels)/(?P<version>[^/]+))$", re.I)
REGISTERED = re.compile(r"azureml:(?P<name>[\w.\-]+)(?::(?P<version>[\w.\-]+)|@(?P<label>\w+))$")
SHARED = re.compile(r"azureml://registries/(?P<registry>[^/]+)/(?P<kind>\w+)/(?P<name>[^/]+)/"
                    r"(?P<word>versions|labels)/(?P<version>[^/]+)$")
BINDING = re.compile(r"\$\{\{\s*parent\.(inputs\.(?P<input>\w+)|jobs\.(?P<job>\w+)\.outputs\.(?P<port>\w+)|"
                     r"outputs\.(?P<output>\w+))\s*\}\}")


def bad(what: str) -> Refused: return Refused(400, "UserError", what)


class Rebuild:
    "Rebuilds one job of one workspace below a folder"
    def __init__(self, bench, workspace: str, project: Path, folder: Path):
        self.bench, self.workspace, self.project, self.folder = bench, workspace, project, folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, spec: dict) -> Path:
        "A YAML file; JSON is YAML"
        path = self.folder / name
        path.write_text(json.dumps(spec, indent=1), encoding="utf-8")
        return path

    def asset(self, reference: str, kinds: tuple) -> dict:
        "The resource that an id, a name with a version, or a registry's address means"
        if match := SHARED.match(reference):
            group = head(r".*?/resourceGroups/[^/]+", self.workspace, re.I)[0]
            registry = f"{group}/providers/Microsoft.MachineLearningServices/registries/{match['registry']}"
            base = f"{registry}/{match['kind']}/{match['name']}"
            return self.version(base, match["version"], match["word"] == "labels")
        if match := ASSET.match(reference):
            return self.version(match["id"].rsplit("/", 2)[0], match["version"], match["word"].lower() == "labels")
        if match := REGISTERED.match(reference):
            for kind in kinds:
                try:
                    return self.version(f"{self.workspace}/{kind}/{match['name']}", match["version"] or match["label"],
                                        bool(match["label"]))
                except Refused: continue
        raise bad(f"{reference} is not registered in the workspace, or its path is not supported")

    def version(self, container: str, version: str, label: bool) -> dict:
        if not label: return self.bench.state.need(f"{container}/versions/{version}")
        found = self.bench.state.below(f"{container}/versions")
        if not found: raise bad(f"{container} has no versions")
        return found[-1]

    def fetched(self, uri: str) -> Path:
        "A copy of uploaded blobs on this machine, made once"
        place = self.project / "blobs" / hashlib.sha256(uri.encode()).hexdigest()[:16]
        target = place / (uri.rstrip("/").rpartition("/")[2] or "root")
        if not target.exists():
            try: self.bench.storage.fetch(uri, target)
            except (FileNotFoundError, AttributeError): raise bad(f"nothing has been uploaded to {uri}") from None
        return target

    def address(self, uri: str) -> str:
        "The https address of a datastore path"
        match = DATASTORE.match(uri)
        if not match: return uri
        store = self.bench.state.get(f"{self.workspace}/datastores/{match['store']}")
        if not store: raise bad(f"there is no datastore {match['store']}")
        return self.bench.storage.url(store["properties"]["containerName"], match["path"])

    def data(self, uri: str) -> str:
        "What a step reads, as the local workspace names it"
        if uri.startswith(("azureml:", "/subscriptions/")) and not DATASTORE.match(uri):
            found = self.asset(uri, ("data", "models"))["properties"]
            uri = found.get("dataUri") or found["modelUri"]
        address = self.address(uri)
        return str(self.fetched(address)) if ".blob.core.windows.net/" in address else address

    def code(self, reference: str | None) -> str | None:
        if not reference: return None
        return str(self.fetched(self.address(self.asset(reference, ("codes",))["properties"]["codeUri"])))

    def environment(self, reference: str | None) -> str | None:
        "The file of an environment, with its build context or conda file"
        if not reference: return None
        # Curated ones are images that Microsoft builds
        if (match := SHARED.match(reference)) and match["registry"] == "azureml":
            name = match["name"]
            document = {"name": name, "image": f"mcr.microsoft.com/azureml/curated/{name}"}
            return f"file:{self.write(f'environment-{name}.yml', document)}"
        found = self.asset(reference, ("environments",))
        said, name = found["properties"], hashlib.sha256(found["id"].encode()).hexdigest()[:12]
        spec: dict[str, Any] = {"name": name}
        if said.get("build"):
            spec["build"] = {"path": str(self.fetched(said["build"]["contextUri"].rstrip("/"))),
                             "dockerfile_path": said["build"].get("dockerfilePath", "Dockerfile")}
        if said.get("image"): spec["image"] = said["image"]
        if said.get("condaFile"):
            import yaml
            spec["conda_file"] = yaml.safe_load(said["condaFile"])
        return f"file:{self.write(f'environment-{name}.yml', spec)}"

    def component(self, reference: str) -> tuple[Path, dict]:
        "The file of a component, and what it says"
        found = self.asset(reference, ("components",))
        spec = {key: value for key, value in found["properties"]["componentSpec"].items() if not key.startswith("_")}
        name = hashlib.sha256(found["id"].encode()).hexdigest()[:12]
        spec["name"] = re.sub(r"\W", "_", spec.get("name", "component")).lower()
        for port in (spec.get("inputs") or {}).values():
            kind = TYPED.get(port.get("type"))
            if kind:
                port.update({key: kind(port[key]) for key in ("default", "min", "max") if port.get(key) is not None})
            if "enum" in port and kind: port["enum"] = [kind(one) for one in port["enum"]]
            if "optional" in port: port["optional"] = str(port["optional"]).lower() == "true"
        for part in (spec, spec.get("task") or {}):
            if part.get("code"): part["code"] = self.code(part["code"])
            if part.get("environment"): part["environment"] = self.environment(part["environment"])
        if "jobs" in spec: spec["jobs"] = {key: self.node(key, node, spec)[0] for key, node in spec["jobs"].items()}
        return self.write(f"component-{name}.yml", spec), spec

    def value(self, given, port: dict | None = None):
        "An input of a node or a job"
        if not isinstance(given, dict): return given
        kind = given.get("jobInputType") or given.get("job_input_type")
        if kind == "literal" or "value" in given: return self.literal(given["value"], port)
        spec = {"type": kind, "path": self.data(given["uri"])}
        return spec | ({"mode": MODES[given["mode"]]} if given.get("mode") else {})

    def literal(self, text, port: dict | None):
        "A literal in the type that its port declares; literals travel as text"
        if not port or not isinstance(text, str) or "${{" in text: return text
        kind = TYPED.get(port.get("type", ""))
        try: return kind(text) if kind else text
        except ValueError: raise bad(f"{text!r} is no {port['type']}") from None

    def output(self, given):
        "An output of a node or a job"
        if not isinstance(given, dict) or "value" in given: return given["value"] if isinstance(given, dict) else given
        spec = {"type": given.get("jobOutputType") or given.get("job_output_type") or "uri_folder"}
        if given.get("mode"): spec["mode"] = MODES[given["mode"]]
        name = given.get("assetName") or given.get("name")
        version = given.get("assetVersion") or given.get("version")
        return spec | ({"name": name} if name else {}) | ({"version": version} if version else {})

    def node(self, name: str, node: dict, around: dict) -> tuple[dict, dict]:
        "One step of a pipeline, and the component that it uses"
        kind = node.get("type", "command")
        trial = node.get("trial") if isinstance(node.get("trial"),
                                                str) else (node.get("trial") or {}).get("componentId")
        reference = node.get("componentId") or trial
        if not reference: raise bad(f"the step {name} names no component")
        file, component = self.component(reference)
        ports = component.get("inputs") or {}
        for port in node.get("inputs") or {}:
            if port not in ports: raise bad(f"the component of step {name} has no input {port}")
        spec = {"type": kind, "trial" if kind == "sweep" else "component": f"file:{file}"}
        spec["inputs"] = {port: self.value(given, ports.get(port))
                          for port, given in (node.get("inputs") or {}).items()}
        if node.get("outputs"): spec["outputs"] = {port: self.output(given) for port, given in node["outputs"].items()}
        for key in ("environment_variables", "limits", "search_space", "sampling_algorithm", "objective",
                    "early_termination", "mini_batch_size", "retry_settings",
                    "max_concurrency_per_instance", "error_threshold", "mini_batch_error_threshold", "logging_level",
                    "input_data", "append_row_to"):
            if node.get(key) is not None: spec[key] = node[key]
        for given in spec["inputs"].values(): self.bound(name, given, around)
        return spec, component

    def bound(self, name: str, given, around: dict):
        "Refuse a binding to what is not there, as Azure does when a pipeline is submitted"
        text = given if isinstance(given, str) else given.get("path", "") if isinstance(given, dict) else ""
        for match in BINDING.finditer(str(text)):
            if match["input"] and match["input"] not in (around.get("inputs") or {}):
                raise bad(f"step {name}: the pipeline has no input {match['input']}")
            if match["job"] and match["job"] not in around["jobs"]:
                raise bad(f"step {name}: the pipeline has no step {match['job']}")

    def pipeline(self, said: dict) -> dict:
        "A pipeline job"
        nodes = {name: self.node(name, node, said) for name, node in said["jobs"].items()}
        ports: dict[str, dict | None] = {}  # What the pipeline's inputs are bound to, which says their types
        for spec, component in nodes.values():
            for port, given in spec["inputs"].items():
                match = BINDING.fullmatch(given) if isinstance(given, str) else None
                if match and match["input"]: ports.setdefault(match["input"], (component.get("inputs") or {}).get(port))
                if match and match["job"] and match["port"] not in (nodes[match["job"]][1].get("outputs") or {}):
                    raise bad(f"the step {match['job']} has no output {match['port']}")
        settings = {key: value for key, value in (said.get("settings") or {}).items()
                    if key in ("continue_on_step_failure", "force_rerun", "default_datastore")}
        return {"type": "pipeline", "jobs": {name: spec for name, (spec, _) in nodes.items()}, "settings": settings,
                "inputs": {name: self.value(given, ports.get(name))
                           for name, given in (said.get("inputs") or {}).items()}}

    def command(self, said: dict) -> dict:
        "A command job"
        spec = {"type": "command", "command": said["command"],
                "environment": self.environment(said.get("environmentId")),
                "inputs": {name: self.value(given) for name, given in (said.get("inputs") or {}).items()}}
        if said.get("codeId"): spec["code"] = self.code(said["codeId"])
        if said.get("environmentVariables"): spec["environment_variables"] = said["environmentVariables"]
        return spec | self.limits(said)

    def sweep(self, said: dict) -> dict:
        "A sweep job"
        trial = said["trial"]
        spec = {"type": "sweep", "trial": self.command({**trial, "inputs": {}}),
                "inputs": {name: self.value(given) for name, given in (said.get("inputs") or {}).items()},
                "search_space": {name: searched(given) for name, given in said["searchSpace"].items()},
                "sampling_algorithm": said["samplingAlgorithm"]["samplingAlgorithmType"].lower(),
                "objective": {"goal": said["objective"]["goal"].lower(),
                              "primary_metric": said["objective"]["primaryMetric"]}}
        if policy := said.get("earlyTermination"):
            kind = {"Bandit": "bandit", "MedianStopping": "median_stopping",
                    "TruncationSelection": "truncation_selection"}[policy["policyType"]]
            spec["early_termination"] = {"type": kind} | {snake(key): value
                                                          for key, value in policy.items() if key != "policyType"}
        return spec | self.limits(said)

    def limits(self, said: dict) -> dict:
        "Time limits travel as ISO durations"
        found = {snake(key): seconds(value) if isinstance(value, str) and value.startswith("PT") else value
                 for key, value in (said.get("limits") or {}).items() if key != "jobLimitsType" and value is not None}
        return {"limits": found} if found else {}

    def job(self, said: dict) -> Path:
        "The file of a submitted job"
        make = {"pipeline": self.pipeline, "command": self.command, "sweep": self.sweep}.get(said["jobType"].lower())
        if not make: raise bad(f"the stand-in does not run jobs of type {said['jobType']}")
        spec = make(said) | {"display_name": said.get("displayName") or "job",
                             "experiment_name": said.get("experimentName") or "Default"}
        if said.get("outputs"):
            spec["outputs"] = {name: self.output(given) for name, given in said["outputs"].items() if name != "default"
                               or len(said["outputs"]) > 1}
        return self.write("job.yml", {key: value for key, value in spec.items() if value not in (None, {})})


def snake(name: str) -> str: return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def seconds(text: str) -> float:
    "Of PT1H30M, PT90S"
    return sum(float(number) * {"H": 3600, "M": 60, "S": 1}[unit]
               for number, unit in re.findall(r"([\d.]+)([HMS])", text))


def searched(given) -> dict:
    "One dimension of a search space: `[\"choice\", [[1, 2]]]`"
    kind, arguments = given
    names = {"choice": ("values",), "randint": ("upper",), "uniform": ("min_value", "max_value"),
             "loguniform": ("min_value", "max_value"),
             "quniform": ("min_value", "max_value", "q"), "qloguniform": ("min_value", "max_value", "q"),
             "normal": ("mu", "sigma"), "lognormal": ("mu", "sigma")}
    return {"type": kind} | dict(zip(names[kind], arguments))
