"""The same work on many systems: one after the other here, or by Ray's actors side by side."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from proxy_tuning.bulk import over_actors


class Measurer:
    """What an actor does: it has all systems, with the weights that they share, and measures some."""

    def __init__(self, work: Callable, systems: list):
        self.work, self.systems = work, systems

    def __call__(self, batch: dict) -> dict:
        """Measure the systems of a batch: {"part": (1,)} -> the same with what was found, pickled."""
        from ray import cloudpickle

        found = [cloudpickle.dumps(self.work(*self.systems[i])) for i in batch["part"].tolist()]
        return {"part": batch["part"], "found": np.array(found, dtype=object)}


def each(work: Callable[[Any, Any], Any], systems: dict, workers: int = 1) -> Iterable[tuple]:
    """(name, work(name, system)) of every system, in their order.

    Args:
        work: what it needs has to be picklable where there are several workers, and what it
            returns, too.
        workers: how many systems at a time: actors of Ray on the cluster that RAY_ADDRESS names or
            else on this machine, a CPU each. 1 takes none.

    Raises:
        ValueError: no worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, not {workers}")
    if workers == 1:
        yield from ((name, work(name, system)) for name, system in systems.items())
        return
    from ray import cloudpickle

    done = over_actors(Measurer, (work, list(systems.items())), range(len(systems)), workers)
    found = {row["part"]: cloudpickle.loads(row["found"]) for row in done}
    yield from ((name, found[i]) for i, name in enumerate(systems))
