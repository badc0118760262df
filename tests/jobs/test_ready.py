"Which steps could start: the same as by looking at all of them, without looking at all of them"
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_nb.jobs.runner import ReadySteps


class Counted:
    "A step that counts how often it is asked what it needs"
    asked = 0
    def __init__(self, name, needs): self.name, self.found = name, needs

    @property
    def needs(self):
        Counted.asked += 1
        return self.found


@st.composite
def graphs(draw):
    "Steps in any order of the file, each of which needs some that come before it in the order of work"
    names = [f"s{number}" for number in range(draw(st.integers(1, 12)))]
    chosen = [draw(st.sets(st.sampled_from(names), max_size=4)) for _ in names]
    needs = {name: chosen[at] & {*names[:at]} for at, name in enumerate(names)}
    return {name: SimpleNamespace(name=name, needs=needs[name]) for name in draw(st.permutations(names))}


def look_at_all(steps, status):
    "The steps that could start, by their definition"
    completed = {name for name, now in status.items() if now == "Completed"}
    return [name for name, step in steps.items() if status[name] == "NotStarted" and step.needs <= completed]


@settings(deadline=None, max_examples=200)
@given(graphs(), st.data())
def test_the_next_step_and_its_rivals(steps, data):
    queue, status = ReadySteps(steps), dict.fromkeys(steps, "NotStarted")
    awaited = set().union(*(step.needs for step in steps.values()))
    while True:
        ready = look_at_all(steps, status)
        assert (queue.first.name if queue.first else None) == (ready[0] if ready else None)
        for name in steps:
            rivals = [other for other in ready if other in awaited] if name in awaited else ready
            assert sorted(queue.rivals(name, 99)) == sorted(rivals)
            assert len(queue.rivals(name, 2)) == min(2, len(rivals))
        running = [name for name, now in status.items() if now == "Running"]
        if not ready and not running: break
        name = data.draw(st.sampled_from(ready[:1] + running))
        ends = ["Completed"] if name in running else ["Running", "Completed", "Failed"]
        status[name] = data.draw(st.sampled_from(ends))
        queue.start(name)
        if status[name] == "Completed": queue.complete(name)
    assert not queue.open or any(now == "Failed" for now in status.values())


def test_each_step_is_asked_once_what_it_needs():
    "Half of the steps follow each other, half stand alone"
    needs = {f"s{number}": {f"s{number - 2}"} if number % 2 and number > 1 else set() for number in range(5000)}
    steps = {name: Counted(name, needed) for name, needed in needs.items()}
    Counted.asked = 0
    queue, order = ReadySteps(steps), []
    while step := queue.first:
        order.append(step.name)
        queue.start(step.name)
        queue.complete(step.name)
        assert len(queue.rivals(step.name, 8)) <= 8
    assert sorted(order) == sorted(steps) and Counted.asked == len(steps)
