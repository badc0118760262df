"*.api.azureml.ms: discovery, run history, MLflow, artifacts"
from .proxy import REGION, Answer, Request


def answer(bench, request: Request) -> Answer:
    "What the data plane says to a request"
    if request.path.startswith("/discovery"):
        base = f"https://{REGION}.api.azureml.ms"
        return Answer(200, {name: base for name in ("api", "history", "experimentation", "modelmanagement", "catalog", "hyperdrive", "studio", "pipelines", "notebooks", "gateway", "inferencing")})
    return Answer(404, {"error": {"code": "NoSuchRoute", "message": f"the stand-in does not know {request.method} {request.path}"}})
