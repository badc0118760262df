"What Azure Monitor and the data collector know of endpoints, from what the local hosts have written down"
import re
from collections import defaultdict
from datetime import datetime

from .arm import ML, Call, on
from .endpoints import local
from .proxy import REGION, Answer
from .rebuild import bad


DIMENSIONS = {"deployment": lambda event: event["deployment"], "statuscode": lambda event: str(event["status"]), "statuscodeclass": lambda event: f"{str(event['status'])[0]}xx"}


@on("GET", "metrics")
def metrics(bench, call: Call) -> Answer:
    "Azure Monitor: the requests of an endpoint, or of one of its deployments, minute by minute"
    bench.state.need(call.scope)
    endpoint = re.match(r".*?/onlineEndpoints/([^/]+)(?:/deployments/([^/]+))?", call.scope, re.I)
    if not endpoint: raise bad(f"the stand-in measures online endpoints, not {call.scope}")
    served, span = local(bench, call.scope, endpoint[1]), call.query.get("timespan", "").split("/")
    events = [one for one in (served.events(endpoint[1]) if served else ()) if endpoint[2] in (None, one["deployment"]) and within(one["served"], span)]
    by = [name for name in re.findall(r"(\w+) eq '", call.query.get("$filter", "")) if name.lower() in DIMENSIONS]
    return Answer(200, {"cost": 0, "timespan": "/".join(span), "interval": call.query.get("interval", "PT1M"), "namespace": call.query.get("metricnamespace", f"{ML}/workspaces/onlineEndpoints"),
                        "resourceregion": REGION, "value": [metric(call.scope, name, events, by) for name in call.query["metricnames"].split(",")]})


def within(served: str, span: list) -> bool:
    "Whether a request lies in a time span, which may be open"
    if len(span) != 2: return True
    start, end = (datetime.fromisoformat(one.replace("Z", "+00:00")) for one in span)
    return start <= datetime.fromisoformat(served) < end


def metric(scope: str, name: str, events: list, by: list) -> dict:
    "One metric as a time series for each combination of the dimensions that are asked for"
    series = defaultdict(lambda: defaultdict(list))
    for one in events: series[tuple(DIMENSIONS[dimension.lower()](one) for dimension in by)][one["served"][:16]].append(one["milliseconds"])
    label = lambda text: {"value": text, "localizedValue": text}
    return {"id": f"{scope}/providers/Microsoft.Insights/metrics/{name}", "type": "Microsoft.Insights/metrics", "name": label(name), "unit": "MilliSeconds" if "latency" in name.lower() else "Count", "errorCode": "Success",
            "timeseries": [{"metadatavalues": [{"name": label(dimension.lower()), "value": value} for dimension, value in zip(by, values)], "data": [point(name, minute, took) for minute, took in sorted(minutes.items())]}
                           for values, minutes in sorted(series.items())]}


def point(name: str, minute: str, took: list) -> dict:
    "One minute of a metric: how many requests there were, or how long they took, as RequestLatency or RequestLatency_P99"
    value = float(len(took))
    if "latency" in name.lower():
        rank = float(re.search(r"_P(\d+)", name)[1]) / 100 if "_P" in name else None
        value = sum(took) / len(took) if rank is None else sorted(took)[min(len(took) - 1, int(rank * len(took)))]
    return {"timeStamp": f"{minute}:00Z", "total": value, "count": float(len(took)), "average": value, "maximum": max(took) if "latency" in name.lower() else value, "minimum": min(took) if "latency" in name.lower() else value}


def collect(bench):
    "What deployments have collected is in the workspace's storage, where Azure's collector writes it"
    for workspace in bench.state.all("workspaces"):
        root = bench.folder / "workspaces" / workspace["properties"]["workspaceId"] / ".mlops/collected"
        container = bench.state.need(f"{workspace['id']}/datastores/workspaceblobstore")["properties"]["containerName"]
        for file in root.rglob("*.jsonl"):
            bench.storage.service.get_blob_client(container, f"modelDataCollector/{file.relative_to(root).as_posix()}").upload_blob(file.read_bytes(), overwrite=True)
