"What Azure Monitor and the data collector know of endpoints, from the requests that the local hosts have served"
import re
from collections import defaultdict
from datetime import datetime, timedelta

from .arm import ML, Call, on
from .endpoints import FRONT, local
from .proxy import REGION, Answer

DIMENSIONS = {"deployment": lambda event: event["deployment"], "statuscode": lambda event: told(event),
              "statuscodeclass": lambda event: f"{told(event)[0]}xx",
              "modelstatuscode": lambda event: "" if event["status"] in FRONT else str(event["status"])}
PUBLISHED = {"RequestsPerMinute": ("Count", {*DIMENSIONS}),
             **{name: ("MilliSeconds", {"deployment"}) for name in ("RequestLatency",
                                                                    *(f"RequestLatency_P{rank}"
                                                                      for rank in (50, 90, 95, 99)))}}
LATE = timedelta(minutes=2)  # After so long a minute is there


def told(event: dict) -> str:
    "The status that a caller was told"
    return str(event["status"] if event["status"] in (200, *FRONT) else 424)


def wrong(what: str) -> Answer: return Answer(400, {"code": "BadRequest", "message": what})


@on("GET", "metrics")
def metrics(bench, call: Call) -> Answer:
    "The published metrics of an endpoint: averages by minute and dimension, as Azure has them"
    bench.state.need(call.scope)
    endpoint = re.fullmatch(r".*?/onlineEndpoints/([^/]+)", call.scope, re.I)
    if not endpoint: return wrong(f"the stand-in measures online endpoints, not {call.scope}")
    names, by = call.query.get("metricnames", "").split(","), re.findall(r"(\w+) eq '\*'",
                                                                         call.query.get("$filter", ""))
    for name in names:
        if name not in PUBLISHED:
            return wrong(f"Failed to find metric configuration for provider: {ML}, resource Type: "
                         f"workspaces/onlineEndpoints, metric: {name}. Valid metrics: {','.join(PUBLISHED)}")
        if unknown := {one.lower() for one in by} - PUBLISHED[name][1]:
            return wrong(f"Metric: {name} does not support requested dimension combination: "
                         f"{','.join(sorted(unknown))}")
    if call.query.get("aggregation", "Average").lower() != "average":
        return wrong(f"these metrics have the aggregation Average, not {call.query['aggregation']}")
    if call.query.get("interval", "PT1M") != "PT1M": return wrong("the stand-in gives minutes: PT1M")
    start, end = (datetime.fromisoformat(one.replace("Z", "+00:00")) for one in call.query["timespan"].split("/"))
    served = local(bench, call.scope, endpoint[1])
    events = [
        {**one, "minute": minute}
        for one in (served.events(endpoint[1]) if served else ())
        if start
        <= (minute := whole(bench.clock.at(datetime.fromisoformat(one["served"]))))
        < min(end, bench.clock.now() - LATE)
    ]
    return Answer(200, {"cost": 0, "timespan": call.query["timespan"], "interval": "PT1M",
                        "namespace": f"{ML}/workspaces/onlineEndpoints", "resourceregion": REGION,
                        "value": [metric(call.scope, name, events, by, int(call.query.get("top", 10)))
                                  for name in names]})


def whole(time: datetime) -> datetime: return time.replace(second=0, microsecond=0)


def metric(scope: str, name: str, events: list, by: list, top: int) -> dict:
    "One metric as a time series for each combination of the dimensions that are asked for"
    series: defaultdict[tuple[str, ...], defaultdict[datetime, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in events:
        series[tuple(DIMENSIONS[dimension.lower()](one) for dimension in by)][one["minute"]].append(one["milliseconds"])
    label = lambda text: {"value": text, "localizedValue": text}
    return {"id": f"{scope}/providers/Microsoft.Insights/metrics/{name}", "type": "Microsoft.Insights/metrics",
            "name": label(name), "displayDescription": name, "unit": PUBLISHED[name][0], "errorCode": "Success",
            "timeseries": [{"metadatavalues": [{"name": label(dimension.lower()), "value": value}
                                               for dimension, value in zip(by, values)], "data": points(name, minutes)}
                           for values, minutes in sorted(series.items())[:top if by else 1]]}


def points(name: str, minutes: dict) -> list[dict]:
    "The minutes between the first and the last one; a minute without requests has no average"
    first, last = min(minutes), max(minutes)
    span = [first + timedelta(minutes=number) for number in range(int((last - first).total_seconds()) // 60 + 1)]
    return [{"timeStamp": f"{minute:%Y-%m-%dT%H:%M:%SZ}",
             **({"average": value(name, minutes[minute])} if minute in minutes else {})} for minute in span]


def value(name: str, took: list) -> float:
    "How many requests there were in a minute, or how long they took"
    if name == "RequestsPerMinute": return float(len(took))
    rank = re.search(r"_P(\d+)", name)
    return float(sorted(took)[min(len(took) - 1,
                                  int(int(rank[1]) / 100 * len(took)))]) if rank else sum(took) / len(took)


def collect(bench):
    "What deployments have collected is in the workspace's storage, where Azure's collector writes it"
    for agent in [*bench.agents.values()]: agent.flush()
    for workspace in bench.state.all("workspaces"):
        root = bench.folder / "workspaces" / workspace["properties"]["workspaceId"] / ".mlops/collected"
        container = bench.state.need(f"{workspace['id']}/datastores/workspaceblobstore")["properties"]["containerName"]
        for file in root.rglob("*.jsonl"):
            name = f"modelDataCollector/{file.relative_to(root).as_posix()}"
            bench.storage.service.get_blob_client(container, name).upload_blob(file.read_bytes(), overwrite=True)
