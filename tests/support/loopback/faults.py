"What goes wrong in a cloud, on demand"
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from .proxy import Answer, Request


@dataclass
class Fault:
    "Answers that are not given, or are given wrongly"
    pattern: re.Pattern  # Of `METHOD host/path`
    status: int = 0  # Answer this status; 0 leaves the answer alone
    times: int = 1  # How often; after that all is well
    retry_after: int = 1  # Seconds, in the answer; 0: it does not say
    dated: bool = False  # Whether the answer says so as a date
    text: str = ""  # Message of the answer
    cut: int = 0  # Hang up after this many bytes of the request's body
    hits: int = 0


class Faults:
    "The faults of one test"
    def __init__(self): self.active, self.held, self.unhealthy, self.guard = [], [], [], threading.Lock()

    def unhealthy_like(self, id: str) -> str | None:
        "Why a deployment cannot become ready, where a test says so"
        return next(("the container did not become ready: liveness probe failed"
                     for pattern in self.unhealthy if re.search(pattern, id)), None)

    def holds(self, job: str) -> bool: return any(re.search(pattern, job) for pattern in self.held)

    def add(self, pattern: str, **how) -> Fault:
        "From now on, requests whose `METHOD host/path` match go wrong; the fault counts its hits"
        fault = Fault(re.compile(pattern, re.I), **how)
        self.active.append(fault)
        return fault

    def hit(self, words: str, which) -> Fault | None:
        with self.guard:
            for fault in self.active:
                if fault.hits < fault.times and which(fault) and fault.pattern.search(words):
                    fault.hits += 1
                    return fault
        return None

    def cut(self, method: str, host: str, target: str) -> int:
        "After how many bytes to hang up on this request; 0 is never"
        found = self.hit(f"{method} {host}{target}", lambda fault: fault.cut)
        return found.cut if found else 0

    def answer(self, request: Request) -> Answer | None:
        "The wrong answer to a request, if it is to get one"
        found = self.hit(f"{request.method} {request.host}{request.target}", lambda fault: fault.status)
        if not found: return None
        code = {429: "TooManyRequests", 503: "ServiceUnavailable", 401: "ExpiredAuthenticationToken",
                403: "AuthorizationFailed", 409: "Conflict"}.get(found.status, "InternalServerError")
        moment = datetime.now(UTC) + timedelta(seconds=found.retry_after)
        after = format_datetime(moment, usegmt=True) if found.dated else str(found.retry_after)
        return Answer(found.status, {"error": {"code": code, "message": found.text or f"{code}: injected by the test"}},
                      {"Retry-After": after} if found.retry_after else {})
