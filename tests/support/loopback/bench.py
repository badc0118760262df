"The loopback Azure as one object: start it, point processes at it with `env`, look into it, hurt it"
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import (  # noqa: F401  (some only register themselves)
    arm,
    assets,
    batch,
    dataplane,
    endpoints,
    governance,
    jobs,
    logic,
    measures,
    registries,
    workspaces,
)
from .arm import PRINCIPAL, SUBSCRIPTION, TENANT, State
from .clock import Clock
from .collector import Agent
from .contract import Contract
from .faults import Faults
from .identities import Identities
from .monitors import Watch
from .proxy import Answer, Authority, Proxy, Request
from .queues import Queues
from .rights import Rights
from .storage import Storage
from .tokens import Tokens
from .tracking import Tracking

GROUP = "loopback"
WORKFLOWS = ("Contributor", "Role Based Access Control Administrator")  # Roles of whoever is logged in, in the group


@dataclass
class Record:
    "One request and what became of it"
    request: Request
    status: int
    operation: str = ""  # As the specification calls it
    version: str = ""  # The api-version
    against: str = ""  # The api-version of the specification that it was checked against
    findings: list = field(default_factory=list)
    deviations: list = field(default_factory=list)  # Known defects of the SDK

    @property
    def checked(self) -> str:
        return ("yes" if self.against and self.against == self.version else f"against {self.against}" if self.against
                else "no")


def login(bench, request: Request) -> Answer: return bench.tokens.answer(request)


def blob(bench, request: Request) -> Answer:
    "Storage; a client that lists what was collected sees all of it"
    if bench.identities and (refused := bench.identities.blob(request)): return refused
    if "modelDataCollector" in request.target and request.method == "GET": measures.collect(bench)
    return bench.storage.answer(request)


class Bench:
    "One loopback Azure"
    def __init__(self, folder: Path | None = None, port: int = 0):
        self.folder = Path(folder or tempfile.mkdtemp(prefix="loopback-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.authority, self.storage, self.guard = Authority(self.folder), Storage(self.folder), threading.RLock()
        self.executions: list[jobs.Execution | Watch] = []
        self.hostings: list[tuple[Any, str, endpoints.Hosting]] = []  # With the local endpoints and the name
        self.agents: dict[str, Agent] = {}
        self.everything: list[Record] = []
        self.trackings: dict[str, Tracking] = {}
        self.starting = threading.Lock()
        self.contract = Contract.here()
        self.proxy = Proxy(self.authority, self.answer, lambda *words: self.faults.cut(*words), port)
        self.reset()

    def reset(self):
        "Forget everything but the storage account, and make the workspaces `dev` and `production`"
        self.end_executions()
        self.everything += getattr(self, "calls", [])
        self.storage.overwritten.clear()
        self.clock = Clock()
        # Whether steps track through azureml-mlflow, over HTTPS, instead of straight into the store behind it
        self.portable = False
        self.state, self.tokens, self.faults, self.calls, self.runs = State(), Tokens(), Faults(), [], {}
        self.rights: Rights | None = self.limit(*WORKFLOWS)  # Of the one who is logged in; None: everything
        self.identities: Identities | None = None  # Who may do what, where storage takes no keys
        self.paged = 0  # Lists that went on on another page
        self.queues, self.logic = Queues(), logic.Logic()
        self.events = []  # What Event Grid would deliver of the runs of monitors
        self.proxy.refused.clear()
        for name in ("dev", "production"): workspaces.make_workspace(self, GROUP, name)

    def without_keys(self, roles: set[str]) -> Identities:
        "Let storage take no account keys, and attach to each workspace an identity that has these roles"
        self.identities = Identities(self, roles)
        return self.identities

    def own(self):
        "Let the one who is logged in be the owner of the subscription"
        self.rights = None

    def limit(self, *roles: str) -> Rights:
        "Let the one who is logged in do what these roles give in the resource group, and nothing else"
        group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
        self.rights = Rights([(role, group) for role in roles])
        return self.rights

    def end_executions(self):
        "Stop jobs that still run, and the servers of their workspaces"
        for one in self.executions: one.stop()
        self.executions.clear()
        for found, name, hosting in self.hostings:
            hosting.thread.join(200)
            if any(one.name == name for one in found.list()): found.stop(name)
        self.hostings.clear()
        for one in self.agents.values(): one.close()
        self.agents.clear()
        for one in self.trackings.values(): one.close()
        self.trackings.clear()

    @property
    def own_request(self) -> Request:
        "What stands for a request where the stand-in acts by itself"
        return Request("PUT", "management.azure.com", "/", {})

    def pages(self, request: Request) -> bool:
        "Whether the list that is asked for has pages"
        if request.path.lower().endswith(("/vmsizes", "/metrics")): return False     # Neither has a nextLink
        return not self.contract or self.contract.pages(request)

    def tracking(self, workspace: str) -> Tracking:
        "The MLflow server of a workspace, started when it is first asked"
        with self.starting:
            if workspace.lower() not in self.trackings:
                self.trackings[workspace.lower()] = Tracking(jobs.project(self, self.state.need(workspace)), workspace)
            return self.trackings[workspace.lower()]

    def run_ids(self, workspace: str) -> dict[str, str]:
        "MLflow runs of jobs, by the name of the job, which is the run's id for a client"
        return {run.name: run.row["run_id"] for run in self.runs.values() if run.workspace.lower() == workspace.lower()
                and run.row.get("run_id")}

    def run_name(self, workspace: str, run_id: str) -> str:
        "The name of a run in Azure: that of the job, where it is a job's"
        return next((name for name, one in self.run_ids(workspace).items() if one == run_id), run_id)

    @property
    def env(self) -> dict[str, str]:
        "What a process needs to see this Azure and nothing else"
        proxy = {name: self.proxy.url for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")}
        trust = {name: str(self.authority.bundle) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")}
        login = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": PRINCIPAL, "AZURE_CLIENT_SECRET": "loopback",
                 "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}
        return proxy | trust | login | {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
                                        "AZURE_CORE_COLLECT_TELEMETRY": "0",
                                        "MLFLOW_DISABLE_TELEMETRY": "true", "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION}

    def workspace(self, name: str = "dev") -> dict[str, str]:
        "The keys of settings.ini that name a workspace of this Azure"
        return {"subscription_id": SUBSCRIPTION, "resource_group": GROUP, "workspace": name}

    def answer(self, request: Request) -> Answer:
        "What this Azure says to a request; every request is written down"
        # the SDK does without the schema of an MLTable
        answers = {"arm": arm.answer, "data": dataplane.answer, "login": login, "blob": blob,
                   "queue": self.queues.answer,
                   "scoring": endpoints.scored, "schemas": lambda bench, request: Answer(404)}
        said = self.faults.answer(request)
        injected = said is not None
        if said is None and request.kind in ("arm", "login"):
            with self.guard: said = answers[request.kind](self, request)
        elif said is None:
            assert request.kind is not None, f"{request.host} is no part of the loopback Azure"
            said = answers[request.kind](self, request)
        self.write_down(request, said, injected)
        return said

    def write_down(self, request: Request, said: Answer, injected: bool):
        "Keep a request, with what the specification says about it and its answer"
        record = Record(request, said.status, version=request.version)
        if request.kind == "arm" and self.contract:
            checked = self.contract.check(request, None if injected else said)
            record.operation, record.against = checked.operation, checked.against
            record.findings, record.deviations = checked.findings, checked.deviations
        record.operation = record.operation or self.plain(request)
        self.calls.append(record)

    @staticmethod
    def plain(request: Request) -> str:
        "A name for an operation that no specification has: its method and the types in its path"
        segments = arm.read(request).segments if request.kind == "arm" else request.path.strip("/").split("/")[:2]
        return f"{request.method} {request.kind} {'/'.join(segments[::2] if request.kind == 'arm' else segments[:1])}"

    @property
    def findings(self) -> list[str]:
        "All that the specification does not allow, in the calls of this test"
        return [f"{one.operation}: {finding}" for one in self.calls for finding in one.findings]

    def fail(self, pattern: str, **how):
        """Requests whose `METHOD host/path` match go wrong: `status=503, times=3`, or `cut=1000`, which hangs up after
        so many bytes of the body"""
        return self.faults.add(pattern, **how)

    def trigger(self, workspace: str, schedule: str, at: datetime | None = None):
        "What Azure does when a schedule is due; gives the run"
        found = next(one for one in self.state.all("workspaces/schedules") if one["name"] == schedule
                     and f"/workspaces/{workspace}/" in one["id"])
        call = arm.read(Request("POST", "management.azure.com", f"{found['id']}/trigger", {}))
        with self.guard:
            return self.runs[
                f"{call.workspace}/jobs/{governance.fire(self, call, found, at or datetime.now(UTC))}".lower()
            ]

    def deliver(self, times: int = 2, seed: int = 0):
        "Let Event Grid deliver what has happened, so often each, in an order that a seed says"
        with self.guard: self.queues.deliver(self, times, seed)

    def hold(self, job: str): self.faults.held.append(job)  # Jobs with such a name never start
    # Deployments with such an id never become ready
    def unhealthy(self, deployment: str): self.faults.unhealthy.append(deployment)

    def held(self, job: str) -> bool:
        "Whether a test keeps this job from starting"
        return self.faults.holds(job)

    def close(self):
        self.end_executions()
        self.proxy.shutdown()
        self.proxy.server_close()
        self.storage.close()

    def report(self) -> str:
        "The table of operations: calls, api-version, checked against the specification or not"
        counted = Counter((one.operation, one.version, one.checked)
                          for one in self.everything + self.calls if one.request.kind == "arm")
        total, checked = sum(counted.values()), sum(count for (_, _, how), count in counted.items() if how != "no")
        lines = [f"{operation} | {count} | {version or '-'} | {how}"
                 for (operation, version, how), count in sorted(counted.items())]
        return "\n".join(["operation | calls | api-version | checked", "--- | ---: | --- | ---", *lines, "",
                          f"{checked} of {total} requests to Azure Resource Manager were checked."])

    def exports(self) -> str:
        "`env` as a shell reads it"
        return "\n".join(f"export {name}='{value}'" for name, value in self.env.items())
