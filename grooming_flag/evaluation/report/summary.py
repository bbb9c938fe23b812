"""The summary of an evaluation in plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from grooming_flag.evaluation.report.findings import (
    REQUEST,
    Expectation,
    expectations,
    findings,
    main_point,
    what_was_judged,
)
from grooming_flag.evaluation.report.reading import Reading, estimate

WIDTH = 100
TOPIC = 22
"""Columns of the text, and those of them that a topic takes."""


def render_summary(metrics: Mapping[str, Any]) -> str:
    """Return what to expect of a system as plain text, at most 100 columns wide.

    Parameters
    ----------
    metrics : mapping
        What `grooming_flag.evaluation.protocol.evaluate` returns.
    """
    reading = Reading(metrics)
    lines = [*_wrapped(f"Evaluation of {reading.system}"), ""]
    expected = expectations(reading)
    if expected:
        lines += _wrapped(f"What can I expect per 10,000 threads, at {main_point(reading)}?")
        lines += [*_table(expected), ""]
    lines += [*_wrapped(REQUEST), "", *_wrapped(what_was_judged(reading)), ""]
    for _, topic, text in findings(reading):
        lines += _wrapped(text, topic)
    for note in reading.metrics.get("notes", ()):
        lines += _wrapped(note, "Note")
    return "\n".join(lines).strip() + "\n"


def _table(expected: Sequence[Expectation]) -> list[str]:
    rows = [("risky threads", "alerts", "risky of 100 reviews", "risky threads missed")]
    for one in expected:
        lost = f"{estimate(one.missed)} of {one.risky}"
        rows.append((one.base_rate, estimate(one.alerts), estimate(one.found), lost))
    return ["  " + "".join(f"{cell:<22} " for cell in row).rstrip() for row in rows]


def _wrapped(text: str, topic: str = "") -> list[str]:
    first = f"{topic:<{TOPIC}}" if topic else ""
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
