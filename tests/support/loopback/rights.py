"""Rights at Azure Resource Manager: each request is an action, and whoever asks needs a role that has it there.

Sources: learn.microsoft.com/azure/role-based-access-control, role-definitions (how actions are matched), built-in-roles
(Contributor, Role Based Access Control Administrator)."""
import re
from collections import Counter

from .arm import Call, Refused, read
from .proxy import Request

ROLES = {   # actions, notActions
    "Contributor": (["*"], ["Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write",
                            "Microsoft.Authorization/elevateAccess/Action", "Microsoft.Blueprint/*/write"]),
    "Reader": (["*/read"], []),
    "Role Based Access Control Administrator": (["Microsoft.Authorization/roleAssignments/*", "*/read"], []),
}
VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


def action_of(call: Call) -> str:
    "What a request is called in the definition of a role"
    method = call.request.method
    if not call.provider:
        group = "/resourceGroups" if "/resourcegroups/" in call.scope.lower() else ""
        return f"Microsoft.Resources/subscriptions{group}/{VERBS.get(method, 'action')}"
    types = call.segments[::2]
    if method == "POST" and not call.single: return f"{call.provider}/{'/'.join(types)}/action"
    return f"{call.provider}/{'/'.join(types)}/{VERBS.get(method, 'action')}"


def has(patterns: list[str], action: str) -> bool:
    return any(re.fullmatch(re.escape(one).replace(r"\*", ".*"), action, re.I) for one in patterns)


class Rights:
    "What the one who is logged in may do, and where"
    def __init__(self, given: list[tuple[str, str]]):   # Role and scope
        self.given, self.checked, self.refusals = given, Counter[str](), Counter[str]()

    def check(self, request: Request):
        "Refuse what no role gives there; the state of an operation is everybody's who has its address"
        call = read(request)
        if call.kind.startswith("locations/mfeoperation"): return
        action = action_of(call)
        self.checked[action] += 1
        for role, scope in self.given:
            actions, without = ROLES[role]
            there = call.id.lower() == scope.lower() or call.id.lower().startswith(scope.lower() + "/")
            if there and has(actions, action) and not has(without, action): return
        self.refusals[action] += 1
        raise Refused(403, "AuthorizationFailed", "The client does not have authorization to perform action "
                      f"'{action}' over scope '{call.id}' or the scope is invalid.")
