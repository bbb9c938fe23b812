"""Batch: the threads that today's reviewers should look at first, however many they have time for.

python examples/todays_queue.py [CAPACITY]
"""

from __future__ import annotations

import heapq
import sys
from pathlib import Path

import grooming_flag as gf

THREADS = Path(__file__).with_name("threads.jsonl")


def queue(capacity: int) -> list[gf.Assessment]:
    """Return the most probable threads, in constant memory however long the log."""
    assessed = gf.load_model().assess_many(gf.read_threads(THREADS), n_jobs=2)
    return heapq.nlargest(
        capacity, (a for a in assessed if a.probability is not None), key=lambda a: a.probability or 0
    )


if __name__ == "__main__":
    chosen = queue(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    for place, a in enumerate(chosen, 1):
        print(f"{place:3} {a.thread_id:24} probability {a.probability:.4f}  suspect {a.suspect}")
    print(
        f"about {sum(a.probability or 0 for a in chosen):.1f} of these {len(chosen)} are risky, if the prior is right"
    )
