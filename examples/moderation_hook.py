"""In a platform's moderation code: look at a conversation, and put it in the review queue if it is flagged.

python examples/moderation_hook.py
"""

from __future__ import annotations

from pathlib import Path

import grooming_flag as gf

THREADS = Path(__file__).with_name("threads.jsonl")
MODEL = gf.load_model().with_prior(1e-4)  # once per process; the share of risky threads on this platform


def review_request(thread: gf.Thread) -> dict[str, object] | None:
    """Return what a moderator needs to find the place, or None. No text: the review tool has it."""
    flag = MODEL.assess(thread).flag
    if flag is None:
        return None
    evidence = MODEL.explain(thread, top=5)
    return {
        "thread_id": flag.thread_id,
        "probability": round(flag.probability, 4),
        "suspect": flag.suspect,
        "messages": sorted({str(item.message_id) for item in evidence}),
    }


if __name__ == "__main__":
    for thread in gf.read_threads(THREADS):
        request = review_request(thread)
        if request is not None:
            print(request)
