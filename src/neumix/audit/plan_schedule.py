"""How long jobs take together: list scheduling by critical path."""

import dataclasses
import heapq
from collections.abc import Mapping, Sequence

__all__ = ["Node", "critical_path", "makespan"]


@dataclasses.dataclass(frozen=True)
class Node:
    """A job to be scheduled.

    Arguments:
        seconds: how long it takes.
        needs: positions of the jobs that must end before it starts.
        slots: of those that may be taken at a time, e.g. CPU cores.
        gpus: likewise.
    """

    seconds: float
    needs: Sequence[int] = ()
    slots: int = 1
    gpus: int = 0


def critical_path(nodes: Sequence[Node]) -> list[float]:
    """Return the seconds from the start of each job to the end of the last one that waits for it.

    Raises:
        ValueError: jobs wait for each other in a circle.
    """
    followers = _followers(nodes)
    waiting = [len(after) for after in followers.values()]
    lengths = [0.0] * len(nodes)
    ready = [position for position, count in enumerate(waiting) if not count]
    done = 0
    while ready:
        position = ready.pop()
        done += 1
        lengths[position] = nodes[position].seconds + max((lengths[after] for after in followers[position]), default=0)
        for before in set(nodes[position].needs):
            waiting[before] -= 1
            if not waiting[before]:
                ready.append(before)
    if done < len(nodes):
        raise ValueError("jobs wait for each other in a circle, so none of them can start")
    return lengths


def makespan(nodes: Sequence[Node], slots: int, gpus: int | None = None) -> float:
    """Return the seconds until the last job has ended, with a list schedule.

    Whenever a job ends, waiting jobs start in the order of their critical paths, longest first, as far as slots and
    GPUs suffice; a job that asks for more than there are gets all of them.

    References:
        Graham, Bounds on multiprocessing timing anomalies, SIAM Journal on Applied Mathematics 17 (1969).

    Arguments:
        nodes: jobs.
        slots: that can be taken at a time.
        gpus: likewise; no limit if none.
    """
    priority, followers = critical_path(nodes), _followers(nodes)
    waiting = [len(set(node.needs)) for node in nodes]
    ready = sorted((position for position, count in enumerate(waiting) if not count), key=lambda p: -priority[p])
    running: list[tuple[float, int]] = []
    free, free_gpus, now = slots, gpus, 0.0
    while ready or running:
        for position in list(ready):
            taken, wanted = _taken(nodes[position], slots, gpus)
            if taken <= free and (free_gpus is None or wanted <= free_gpus):
                ready.remove(position)
                free -= taken
                free_gpus = None if free_gpus is None else free_gpus - wanted
                heapq.heappush(running, (now + nodes[position].seconds, position))
        now, ended = heapq.heappop(running)
        taken, wanted = _taken(nodes[ended], slots, gpus)
        free += taken
        free_gpus = None if free_gpus is None else free_gpus + wanted
        for after in followers[ended]:
            waiting[after] -= 1
            if not waiting[after]:
                ready.append(after)
        ready.sort(key=lambda p: -priority[p])
    return now


def _taken(node: Node, slots: int, gpus: int | None) -> tuple[int, int]:
    return min(node.slots, slots), node.gpus if gpus is None else min(node.gpus, gpus)


def _followers(nodes: Sequence[Node]) -> Mapping[int, list[int]]:
    followers: dict[int, list[int]] = {position: [] for position in range(len(nodes))}
    for position, node in enumerate(nodes):
        for before in dict.fromkeys(node.needs):
            followers[before].append(position)
    return followers
