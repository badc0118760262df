"A retrainer that trains nothing: what the handler asked it is in `asked`"
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from mlops_nb.retraining.policy import Policy


def accept(breach: str, window: dict) -> dict: return dict(accepted=True, reason="better")


@dataclass
class StandIn:
    "An `events.Retrainer` whose days and outcomes a test states"
    policy: Policy = Policy()
    outcome: Callable[[str, dict], dict] = accept           # Of a breach and its window
    days: Callable[[datetime], dict] = lambda now: {}
    asked: list[str] = field(default_factory=list)          # Breaches that were acted on
    windows: list[dict] = field(default_factory=list)       # Their windows
    knows: datetime | None = None                           # Up to when the champion knows the days

    def seen(self) -> datetime | None: return self.knows

    def window(self, now: datetime) -> dict: return self.days(now)

    def keep(self): pass

    def retrain(self, breach: str, window: dict) -> dict:
        self.asked.append(breach)
        self.windows.append(window)
        return self.outcome(breach, window)
