"*.api.azureml.ms: discovery, and what run history and MLflow answer"
import re
from dataclasses import replace

from . import arm, history, registries, tracking
from .arm import Refused
from .proxy import REGION, Answer, Request

SERVICES = ("api", "history", "experimentation", "modelmanagement", "catalog", "hyperdrive", "studio", "pipelines",
            "notebooks", "gateway", "inferencing")


FRONT = "/mferp/managementfrontend"


def answer(bench, request: Request) -> Answer:
    "What the data plane says to a request"
    if request.path.startswith("/discovery"):
        return Answer(200, {name: f"https://{REGION}.api.azureml.ms" for name in SERVICES})
    if FRONT in request.path:  # The resource manager of Azure ML, by its own address
        with bench.guard:
            return arm.answer(bench, replace(request, target="/" + request.target.partition(FRONT)[2].lstrip("/")))
    try:
        if not request.path.startswith("/loopback/"):
            bench.tokens.check(request.headers.get("authorization", "").removeprefix("Bearer "))
        said = tracking.answer(bench, request)
        if registry := re.fullmatch(r"/registrymanagement/v1.0/registries/([^/]+)/discovery", request.path):
            return registries.discovery(bench, registry[1])
        if said is None:
            with bench.guard: said = history.answer(bench, request)
        return said or Answer(
            404,
            {
                "error": {
                    "code": "NoSuchRoute",
                    "message": f"the stand-in does not know {request.method} {request.path}",
                }
            },
        )
    except Refused as refused: return refused.answer
