"Requests that are wrong in one place, to see whether the checker sees it"
import copy

# What the specification leaves open: a pipeline's nodes and settings, a component, a search space
FREE = ("jobs", "settings", "componentSpec", "searchSpace")
REQUIRED = {  # As Azure documents it, operation by operation
    "ModelVersions": ("properties",), "EnvironmentVersions": ("properties",), "CodeVersions": ("properties",),
            "ComponentVersions": ("properties",),
    "DataVersions": ("properties", "properties/dataUri", "properties/dataType"), "Compute": ("properties/computeType",),
            "OnlineEndpoints": ("location", "properties", "properties/authMode"),
    "Jobs": ("properties", "properties/jobType", "properties/command", "properties/environmentId",
             "properties/inputs/table/uri", "properties/inputs/table/jobInputType"),
    "Schedules": ("properties", "properties/trigger", "properties/trigger/triggerType", "properties/trigger/expression",
                  "properties/action", "properties/action/actionType", "properties/action/jobDefinition",
                  "properties/action/jobDefinition/jobType"),
}


def places(value, at: tuple = ()):
    "Each key below a value, the parts that are free left out"
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*at, key)
            if key not in FREE: yield from places(inner, (*at, key))
    if isinstance(value, list):
        for number, inner in enumerate(value): yield from places(inner, (*at, number))


def inside(body, at: tuple):
    for key in at: body = body[key]
    return body


def wrong(value):
    "A value of another type"
    return ["wrong"] if isinstance(value, (dict, str)) else {"wrong": 1}


def named_freely(at: tuple) -> bool:
    "Whether the keys around a place are the user's own: names of inputs, tags, variables"
    return len(at) > 1 and at[-2] in ("tags", "properties", "inputs", "outputs", "environmentVariables", "traffic",
                                      "mirrorTraffic", "collections", "flavors", "services", "parameters", "signals",
                                      "data") and at[:-1] != ("properties",)


def mutated(body: dict):
    "(what was done, body): a wrong type, a renamed field"
    for at in places(body):
        holder, key = at[:-1], at[-1]
        for kind in ("wrong type", "renamed"):
            if kind == "renamed" and (named_freely(at) or isinstance(key, int)): continue
            made = copy.deepcopy(body)
            owner = inside(made, holder)
            if kind == "renamed": owner[f"{key}X"] = owner.pop(key)
            else: owner[key] = wrong(owner[key])
            yield kind, at, made


def dropped(body: dict, operation: str):
    "(what was done, body): without one of the fields that its operation requires"
    for path in REQUIRED.get(operation.partition("_")[0], ()):
        at, made = tuple(path.split("/")), copy.deepcopy(body)
        try: del inside(made, at[:-1])[at[-1]]
        except KeyError: continue
        yield "dropped", at, made
