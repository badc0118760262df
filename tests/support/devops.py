"Azure DevOps' REST API, as far as jobs use it: what it does not know, or is not allowed to be asked, it refuses"
import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from tests.support.loopback.tokens import ISSUERS, encoded

TOKEN = "the-token-of-this-job"
PROJECT, REPOSITORY, CONNECTION = "p-1", "r-1", "c-production"
SUBJECT = "/eid1/c/pub/t/tenant/a/devops/sc/org/c-production"
BELOW = rf"/{PROJECT}/_apis"
THREADS = rf"{BELOW}/git/repositories/{REPOSITORY}/pullRequests/(\d+)/threads"


class Refused(Exception):
    "An answer that is not 200"
    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


class Call(NamedTuple):
    "What an operation gets"
    state: "State"
    ids: tuple[int, ...]    # Of the path
    query: dict[str, str]
    body: Any


class State:
    "What the organisation has"
    def __init__(self):
        self.pipelines: dict[str, int] = {"training": 12}
        self.parameters = {"inputs", "release", "breach"}   # Of the training pipeline
        self.threads: list[dict] = []
        self.runs: list[dict] = []
        self.asked: list[float] = []    # When somebody asked for an id token
        self.refused: list[str] = []
        self.lifetime = 300             # Seconds of an id token
        self.broken = 0                 # Which request for an id token fails
        self.rights = {"comment", "queue"}  # Of the Build Service


def may(call: Call, right: str):
    if right not in call.state.rights: raise Refused(403, f"TF401027: You need the right to {right}.")


def keys(body: Any, needed: set[str], allowed: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    "Refuse a body with unknown or missing fields"
    if not isinstance(body, dict) or not needed <= body.keys() <= needed | allowed:
        raise Refused(400, f"VS403357: the request body {sorted(body or {})} is invalid")


def id_token(call: Call) -> dict:
    state = call.state
    state.asked.append(time.time())
    if len(state.asked) == state.broken: raise Refused(503, "The service is unavailable.")
    if call.query.get("serviceConnectionId") != CONNECTION: raise Refused(404, "Service connection not found.")
    claims = {"iss": ISSUERS[1], "sub": SUBJECT, "aud": "api://AzureADTokenExchange", "jti": str(len(state.asked)),
              "exp": int(time.time()) + state.lifetime}
    return {"oidcToken": f"{encoded({'typ': 'JWT'})}.{encoded(claims)}.{encoded({})}"}


def list_threads(call: Call) -> dict: return {"value": call.state.threads, "count": len(call.state.threads)}


def make_thread(call: Call) -> dict:
    may(call, "comment")
    keys(call.body, {"comments", "status"}, {"properties"})
    if call.body["status"] not in ("active", "closed", "fixed"): raise Refused(400, "TF400898: unknown status")
    for comment in call.body["comments"]: keys(comment, {"content", "commentType", "parentCommentId"})
    comments = [{"id": at, "author": {"id": "build"}, **one} for at, one in enumerate(call.body["comments"], 1)]
    call.state.threads.append({"properties": {}, **call.body, "id": len(call.state.threads) + 1, "isDeleted": False,
                               "comments": comments})
    return call.state.threads[-1]


def change_comment(call: Call) -> dict:
    keys(call.body, {"content"})
    _, thread, comment = call.ids
    found = [one for known in call.state.threads if known["id"] == thread for one in known["comments"]
             if one["id"] == comment]
    if not found: raise Refused(404, "TF401180: the comment was not found")
    if found[0]["author"]["id"] != "build": raise Refused(403, "TF401027: only its author may change a comment")
    return found[0].update(call.body) or found[0]


def find_definitions(call: Call) -> dict:
    found = [{"id": id, "name": name} for name, id in call.state.pipelines.items()
             if call.query.get("name", name) == name]
    return {"count": len(found), "value": found}


def start_run(call: Call) -> dict:
    may(call, "queue")
    keys(call.body, {"resources", "templateParameters"})
    if call.ids[0] not in call.state.pipelines.values(): raise Refused(404, "The pipeline was not found.")
    keys(call.body["resources"], {"repositories"})
    if strange := call.body["templateParameters"].keys() - call.state.parameters:
        raise Refused(400, f"Unexpected parameter '{min(strange)}'")
    call.state.runs.append(call.body)
    web = f"https://dev.azure.com/team/{PROJECT}/_build/results?buildId={len(call.state.runs)}"
    return {"id": len(call.state.runs), "state": "inProgress", "_links": {"web": {"href": web}}}


class Operation(NamedTuple):
    do: Callable[[Call], dict]
    query: frozenset[str] = frozenset()     # Besides api-version


OPERATIONS = {
    ("POST", "/oidctoken"): Operation(id_token, frozenset({"serviceConnectionId"})),
    ("GET", THREADS): Operation(list_threads),
    ("POST", THREADS): Operation(make_thread),
    ("PATCH", rf"{THREADS}/(\d+)/comments/(\d+)"): Operation(change_comment),
    ("GET", f"{BELOW}/build/definitions"): Operation(find_definitions, frozenset({"name"})),
    ("POST", rf"{BELOW}/pipelines/(\d+)/runs"): Operation(start_run)}


class Api(BaseHTTPRequestHandler):
    state: State

    def answer(self):
        asked = urlsplit(self.path)
        try: code, value = 200, self.operate(asked.path, dict(parse_qsl(asked.query)))
        except Refused as refused:
            self.state.refused.append(f"{self.command} {self.path}: {refused}")
            code, value = refused.code, {"message": str(refused), "typeKey": "Refused"}
        text = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def operate(self, path: str, query: dict[str, str]) -> dict:
        text = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            raise Refused(401, "TF400813: The user is not authorized to access this resource.")
        if query.pop("api-version", None) != "7.1": raise Refused(400, "VssVersionNotSpecifiedException")
        if text and self.headers["Content-Type"] != "application/json": raise Refused(415, "Unsupported media type")
        for (verb, pattern), operation in OPERATIONS.items():
            if verb != self.command or not (match := re.fullmatch(pattern, path)): continue
            if strange := query.keys() - operation.query: raise Refused(400, f"unknown parameter {min(strange)}")
            ids = tuple(map(int, match.groups()))
            return operation.do(Call(self.state, ids, query, json.loads(text or b"null")))
        raise Refused(404, f"The controller for path '{path}' was not found.")

    do_GET = do_POST = do_PATCH = answer

    def log_message(self, *_): pass


@contextmanager
def organisation():
    "An organisation on this machine: what it has, and what a job has in its environment"
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Organisation", (Api,), {"state": State()}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    job = {"TF_BUILD": "True", "SYSTEM_COLLECTIONURI": home, "SYSTEM_TEAMPROJECTID": PROJECT,
           "BUILD_REPOSITORY_ID": REPOSITORY, "BUILD_REPOSITORY_PROVIDER": "TfsGit",
           "BUILD_SOURCEBRANCH": "refs/heads/main", "SYSTEM_OIDCREQUESTURI": f"{home}oidctoken"}
    try: yield server.RequestHandlerClass.state, job
    finally:
        server.shutdown()
        server.server_close()


def signed_in(tenant: str, client: str) -> dict[str, str]:
    "What a step that names the service connection has besides"
    return {"SYSTEM_ACCESSTOKEN": TOKEN, "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": CONNECTION,
            "AZURESUBSCRIPTION_TENANT_ID": tenant, "AZURESUBSCRIPTION_CLIENT_ID": client}
