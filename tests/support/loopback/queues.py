"""Event Grid and the queues of the storage account: events are delivered late, more than once and out of order, to what
a subscription names, with the rights of its topic"""
import json
import random
import re
import time
import uuid
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from .arm import Refused
from .proxy import Answer, Request
from .tokens import claimed

SENDER, WRITER = "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a", "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
PATH = re.compile(r"/(?P<queue>[a-z0-9-]+)/messages(?:/(?P<id>[^/]+))?")


@dataclass
class Waiting:
    "A message"
    text: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    receipt: str = ""       # Of who took it last
    visible: float = 0.0    # From when on
    count: int = 0          # How often it was taken


class Queues:
    "The queue service of the storage account, and what Event Grid puts into it"
    def __init__(self): self.messages, self.told, self.undelivered = dict[str, list[Waiting]](), 0, []

    def answer(self, bench, request: Request) -> Answer:
        "Take messages, and delete one that was taken"
        match = PATH.fullmatch(request.path)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token or not request.headers.get("x-ms-version"): return refuse(401, "NoAuthenticationInformation")
        try: bench.tokens.check(token)
        except Refused: return refuse(401, "InvalidAuthenticationInfo")
        if claimed(token)["aud"].rstrip("/") != "https://storage.azure.com":
            return refuse(401, "InvalidAuthenticationInfo")
        if not match or not self.exists(bench, match["queue"]): return refuse(404, "QueueNotFound")
        waiting = self.messages.setdefault(match["queue"], [])
        if request.method == "GET" and not match["id"]:
            return self.take(waiting, int(request.query.get("numofmessages", 1)), request.query["visibilitytimeout"])
        if request.method == "DELETE" and match["id"]:
            found = next((one for one in waiting if one.id == match["id"]), None)
            if not found: return refuse(404, "MessageNotFound")
            if found.receipt != request.query.get("popreceipt"): return refuse(400, "PopReceiptMismatch")
            waiting.remove(found)
            return Answer(204)
        return refuse(400, "UnsupportedHttpVerb")

    def exists(self, bench, name: str) -> bool:
        "Whether somebody has made a queue of this name"
        return any(id.endswith(f"/queueservices/default/queues/{name}") for id in bench.state.resources)

    def take(self, waiting: list[Waiting], most: int, hidden: str) -> Answer:
        "The next messages, which nobody else sees for a while"
        now, rows = time.time(), []
        for one in [one for one in waiting if one.visible <= now][:most]:
            one.receipt, one.visible, one.count = f"{uuid.uuid4().hex}+/=", now + int(hidden), one.count + 1
            rows.append(f"<QueueMessage><MessageId>{one.id}</MessageId><PopReceipt>{escape(one.receipt)}</PopReceipt>"
                        f"<DequeueCount>{one.count}</DequeueCount><MessageText>{escape(one.text)}</MessageText>"
                        "</QueueMessage>")
        text = f'<?xml version="1.0" encoding="utf-8"?><QueueMessagesList>{"".join(rows)}</QueueMessagesList>'
        return Answer(200, text.encode(), {"Content-Type": "application/xml"})

    def deliver(self, bench, times: int = 2, seed: int = 0):
        "Deliver what has happened since: each event so often, in any order; what may not be written is kept aside"
        fresh, self.told = bench.events[self.told:], len(bench.events)
        told = [(subscription, event) for subscription in self.subscriptions(bench) for event in fresh * times
                if passes(bench.state.need(topic_of(subscription)), subscription, event)]
        random.Random(seed).shuffle(told)
        for subscription, event in told: self.put(bench, subscription, event)

    def put(self, bench, subscription: dict, event: dict):
        "Write an event to the queue of its subscription, if the topic's identity may"
        said, topic = subscription["properties"], bench.state.need(topic_of(subscription))
        if "destination" in said:
            from .logic import post
            status, _ = post(bench, bench.logic.hooks[subscription["id"].lower()], event)
            if status >= 400: self.undelivered.append(event)
            return
        to = said["deliveryWithResourceIdentity"]["destination"]["properties"]
        principal = topic["identity"]["principalId"]
        if may(bench, principal, SENDER, to["resourceId"]) and self.exists(bench, to["queueName"]):
            text = b64encode(json.dumps(event).encode()).decode()
            self.messages.setdefault(to["queueName"], []).append(Waiting(text))
        elif may(bench, principal, WRITER, to["resourceId"]): self.undelivered.append(event)

    @staticmethod
    def subscriptions(bench) -> list[dict]:
        kind = "microsoft.eventgrid/systemtopics/eventsubscriptions"
        return [one for one in bench.state.resources.values() if one.get("type", "").lower() == kind]


def topic_of(subscription: dict) -> str: return subscription["id"].rsplit("/", 2)[0]


def may(bench, principal: str, role: str, scope: str) -> bool:
    "Whether an identity has a role there"
    given = [one["properties"] for one in bench.state.resources.values()
             if one.get("type") == "Microsoft.Authorization/roleAssignments"]
    return any(one["principalId"] == principal and one["roleDefinitionId"].endswith(role)
               and scope.lower().startswith(one["scope"].lower()) for one in given)


def passes(topic: dict, subscription: dict, event: dict) -> bool:
    "Whether a subscription lets an event of its topic through"
    said = subscription["properties"]["filter"]
    if topic["properties"]["source"].lower() != event["topic"].lower(): return False
    if event["eventType"] not in said["includedEventTypes"]: return False
    def value(key: str) -> str:
        found: Any = event
        for name in key.split("."):
            found = next((one for known, one in (found or {}).items() if known.lower() == name.lower()), None)
        return str(found or "").lower()
    filters = said.get("advancedFilters", [])
    return all(one["operatorType"] == "StringContains"
               and any(word.lower() in value(one["key"]) for word in one["values"]) for one in filters)


def refuse(status: int, code: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code></Error>".encode(), {"x-ms-error-code": code})
