"""Models, labelled threads and files that several test modules need. All text is invented and mild."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import grooming_flag
from grooming_flag import FeatureExtractor, Message, Model, OperatingPoint, Thread, load_model
from grooming_flag.calibration import Calibration
from grooming_flag.features import pack_by_author
from grooming_flag.records import ThreadColumns
from grooming_flag.segments import SegmentRule

ROOT = Path(__file__).parent.parent  # where README.md and the examples are
CANARY = "zqcanaryzq"
COMMON = [
    "tea",
    "kettle",
    "garden",
    "bicycle",
    "football",
    "lantern",
    "pebble",
    "marmalade",
    "weather",
    "tomorrow",
    "window",
    "puzzle",
]
ORDINARY = [
    "match",
    "goal",
    "coach",
    "practice",
    "homework",
    "teacher",
    "library",
    "concert",
    "ticket",
    "soup",
    "pizza",
    "holiday",
]
PATTERN = [
    "clockwork",
    "harbour",
    "tangerine",
    "umbrella",
    "compass",
    "whistle",
    "velvet",
    "orchard",
    "saddle",
    "biscuit",
    "copper",
    "thimble",
]

needs_bundled_model = pytest.mark.skipif(
    not grooming_flag.artifact.bundled_model().is_dir(), reason="no model ships with this package"
)


@cache
def bundled() -> Model:
    return load_model()


@cache
def small_model(
    n_features: int = 2**12, rule: SegmentRule | None = None, min_amount: int = 3, seed: int = 0, sparse: bool = False
) -> Model:
    """Return a model with random weights, half of them zero if sparse."""
    chance = np.random.default_rng(seed)
    weights = chance.integers(-3000, 3000, (n_features, 2), dtype=np.int16)
    if sparse:
        weights *= chance.integers(0, 2, (n_features, 2), dtype=np.int16)
    return Model(
        name="small",
        extractor=FeatureExtractor(n_features, char_ngrams=(4, 4)),
        weights=weights,
        step=2.0**-13,
        intercept=-4321,
        calibration=Calibration(0.7, -0.2, 0.4, 0.1, root=0.05, lead=0.2, no_lead=0.6),
        attribution_scale=1.5,
        segment_rule=rule or SegmentRule(),
        min_amount=min_amount,
        operating_points={
            "balanced": OperatingPoint("balanced", 0.4, {"recall": 0.5, "fpr_95": [0.1, 0.2]}),
            "sensitive": OperatingPoint("sensitive", 0.05, {"recall": 0.75}),
        },
        lineage={"library": "0", "seed": seed, "note": "random weights"},
    )


def model_of_words(words: dict[str, int], **changes: Any) -> Model:
    """Return a model in which only these words have a risk weight, and an attribution weight of the same size."""
    extractor = FeatureExtractor(2**18, word_ngrams=1, char_ngrams=None)
    weights = np.zeros((extractor.n_features, 2), dtype=np.int16)
    for word, weight in words.items():
        weights[extractor.rows(pack_by_author([[Message("a", word)]])).indices] = weight
    return small_model().replace(**{"extractor": extractor, "weights": weights, "min_amount": 1, **changes})


def thread(*texts: str, authors: Sequence[str] = ("a", "b"), thread_id: str = "t", **fields: Any) -> Thread:
    """Return a thread of these texts, the authors taking turns."""
    messages = [Message(authors[i % len(authors)], text) for i, text in enumerate(texts)]
    return Thread(thread_id, messages, **fields)


def sentence(chance: random.Random, words: Sequence[str], length: int = 7) -> str:
    return " ".join(chance.choice(words) for _ in range(length))


def labelled_threads(n: int, seed: int = 0, prefix: str = "", n_messages: int = 12) -> list[Thread]:
    """Return threads, every second one risky, each of a person of its own; what the suspect writes tells.

    How much of the pattern there is differs, and a few ordinary threads show some of it.
    """
    chance = random.Random(f"{prefix}{seed}")
    threads = []
    for i in range(n):
        risky = i % 2 == 0
        share = chance.uniform(0.3, 0.9) if risky else chance.choice([0.0, 0.0, 0.0, 0.15])
        messages = []
        for number in range(chance.randint(n_messages // 2, n_messages * 2)):
            suspect = number % 2 == 0
            special = PATTERN if suspect and chance.random() < share else ORDINARY
            messages.append(Message("left" if suspect else "right", sentence(chance, [*COMMON, *special])))
        suspects = ["left"] if risky else []
        threads.append(Thread(f"{prefix}t{i}", messages, int(risky), suspects, f"{prefix}person {i}"))
    return threads


def threads_of(batch: ThreadColumns) -> list[Thread]:
    """Return the threads with all that the columns have of them."""
    found, first = [], 0
    for thread_id, length, authors in zip(batch.thread_ids, batch.lengths, batch.authors, strict=True):
        messages = []
        for m in range(first, first + length):
            text = bytes(batch.text[batch.offsets[m] : batch.offsets[m + 1]]).decode("utf-8", "surrogatepass")
            messages.append(Message(authors[batch.codes[m]], text))
        if not batch.goes_on and not batch.is_rest:
            assert list(dict.fromkeys(message.author for message in messages)) == authors
        found.append(Thread(thread_id, messages))
        first += length
    assert len(batch.codes) == first == len(batch.offsets) - 1
    return found


def bare(found: Thread) -> Thread:
    return Thread(found.thread_id, [Message(message.author, message.text) for message in found.messages])


def row_of(found: Thread) -> dict[str, Any]:
    """Return a thread as a row of a file, without fields that have their default."""
    row: dict[str, Any] = {"thread_id": found.thread_id, "messages": []}
    for message in found.messages:
        fields: dict[str, Any] = {"author": message.author, "text": message.text}
        fields |= {
            name: getattr(message, name) for name in ("sent_at", "message_id") if getattr(message, name) is not None
        }
        row["messages"].append(fields)
    for name in ("label", "person"):
        if getattr(found, name) is not None:
            row[name] = getattr(found, name)
    if found.suspects:
        row["suspects"] = list(found.suspects)
    return row


def lines_of(threads: Iterable[Thread]) -> bytes:
    return b"".join(json.dumps(row_of(one)).encode() + b"\n" for one in threads)


def write_threads(path: Path, threads: Iterable[Thread]) -> Path:
    path.write_bytes(lines_of(threads))
    return path


def environment() -> dict[str, str]:
    """Return an environment in which a subprocess finds the package that is under test, and not the network."""
    ours = [str(Path(grooming_flag.__file__).parent.parent), str(Path(__file__).parent / "offline")]
    paths = [*ours, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}


PYTHON = sys.executable


def error_of(call: Callable[[], object], kind: type[BaseException] = grooming_flag.GroomingFlagError) -> BaseException:
    """Return the error that the call raises."""
    with pytest.raises(kind) as caught:
        call()
    return caught.value
