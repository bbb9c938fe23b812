"""In a platform's moderation code: add each message as it is sent, and ask a person to look when a flag goes up.

python examples/moderation_hook.py
"""

from __future__ import annotations

import os
from pathlib import Path

import grooming_flag as gf
from grooming_flag.io.states import SqliteStore
from grooming_flag.watcher import Watcher

THREADS = Path(__file__).with_name("threads.jsonl")

# once per process; in memory if it is not said where, and then a new start knows nothing of old messages
STORE = SqliteStore(os.environ.get("GROOMING_FLAG_STATE", ":memory:"))
MODEL = gf.load_model().with_prior(1e-4)  # the share of risky threads on this platform
WATCHER = Watcher(MODEL, STORE)


def on_message(
    thread_id: str, author: str, text: str, sent_at: float | None = None, **context: str
) -> list[dict[str, object]]:
    """Add a message; return requests for review, of which there is one if it raises the flag of its thread.

    Any number of threads of execution may call it. When it returns, the message is kept, though not its text. Context
    is what a policy asks for: surface, locale, age_band.
    """
    changes = WATCHER.add(thread_id, gf.Message(author, text, sent_at), context)
    flags = [change.assessment.flag for change in changes if change.is_up and not change.is_shadow]
    return [
        {"thread_id": flag.thread_id, "probability": round(flag.probability, 4), "suspect": flag.suspect}
        for flag in flags
        if flag
    ]


def where_to_look(thread: gf.Thread) -> list[str]:
    """Return the messages with the strongest evidence, for the review tool, which has the text of the thread."""
    return sorted({str(item.message_id) for item in MODEL.explain(thread, top=5)})


if __name__ == "__main__":
    for thread in gf.read_threads(THREADS):
        for message in thread.messages:
            for request in on_message(thread.thread_id, message.author, message.text, message.sent_at):
                print(request, where_to_look(thread))
    STORE.close()
