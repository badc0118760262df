"What time it is in this Azure: that of this machine, unless a test lets hours pass in minutes"
from datetime import UTC, datetime, timedelta


def now() -> datetime: return datetime.now(UTC)


class Clock:
    "Measures and collected data carry its time; tokens and operations keep that of this machine"
    def __init__(self): self.began, self.first, self.speed = now(), now(), 1

    def hurry(self, speed: int, ago: timedelta = timedelta(days=1)):
        "From now on a minute passes in `60 / speed` seconds, beginning in the past, so that nothing lies in the future"
        self.began, self.first, self.speed = now(), now() - ago, speed

    def at(self, moment: datetime) -> datetime: return self.first + (moment - self.began) * self.speed
    def now(self) -> datetime: return self.at(now())

    @property
    def code(self) -> str:
        "Python that gives a client the same clock, as `now() -> datetime`"
        said = (f"datetime.fromisoformat('{self.first.isoformat()}') + (datetime.now(timezone.utc) - "
                f"datetime.fromisoformat('{self.began.isoformat()}')) * {self.speed}")
        return f"from datetime import datetime, timezone\nnow = lambda: {said}\n"
