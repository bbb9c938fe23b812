"""Measure recall under an attacker who holds the weights (see `grooming_flag.evaluation.evasion`).

    python scripts/measure_evasion.py LABELLED... [--model DIR] [--at POINT] [--jobs N]

A row is one attack on the risky threads that the model flags: what is left of recall, with 95 % intervals over persons,
when the attacker may edit such a share of the characters that suspects wrote (or, for messages added, add such a share
of messages), and the median share that evading takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from grooming_flag import Model, Thread, load_model
from grooming_flag.evaluation.evasion import EDITS, Evasion, evade, n_characters
from grooming_flag.evaluation.figures import format_figure, share
from grooming_flag.evaluation.pool import Pool
from grooming_flag.io.threads import read_sources

BUDGETS = (0.0, 0.01, 0.02, 0.05, 0.1)
ATTACKS: Mapping[str, Mapping[str, Any]] = {
    "all edits": {},
    **{kind: {"kinds": [kind]} for kind in EDITS},
    "messages split": {"splits": True, "edits": 0.0},
    "messages split, all edits": {"splits": True},
    "messages added": {"padding": BUDGETS[-1], "edits": 0.0},
    "messages split, 2 % added, all edits": {"splits": True, "padding": 0.02},
}


def cost(thread: Thread, left: Evasion, attack: Mapping[str, Any]) -> float:
    """Return which share of characters, or of messages if these alone are added, an evasion took; else infinity."""
    used = left.n_edits / n_characters(thread) if "edits" not in attack else left.n_added / len(thread.messages)
    return used if left.evaded else np.inf


def rows(pool: Pool, model: Model, at: str, n_jobs: int) -> Iterator[list[str]]:
    """Yield the table of risky threads."""
    flagged = np.array([one.flagged for one in model.assess_many(pool.threads, at)])
    threads = pool.only(flagged).threads
    yield ["attack", *(f"{budget:.0%}" for budget in BUDGETS), "median"]
    for name, attack in ATTACKS.items():
        found = Parallel(n_jobs=n_jobs)(delayed(evade)(model, thread, at, **attack) for thread in threads)
        costs = np.full(len(flagged), -np.inf)
        costs[flagged] = [cost(thread, left, attack) for thread, left in zip(threads, found, strict=True)]
        median = np.median(costs[flagged])
        recalls = [share("evasion", "recall", name, at, costs > budget, pool.clusters) for budget in BUDGETS]
        yield [name, *map(format_figure, recalls), f"{median:.2%}" if np.isfinite(median) else "none"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", nargs="+")
    parser.add_argument("--model")
    parser.add_argument("--at", default="balanced")
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    everything = Pool.of(read_sources(asked.labelled))
    for row in rows(everything.only(everything.risky), load_model(asked.model), asked.at, asked.jobs):
        print("|", " | ".join(row), "|", flush=True)
