"""Score files: one row a thread, JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from grooming_flag.records import Assessment, Evidence

COLUMNS = (
    "thread_id",
    "score",
    "probability",
    "flagged",
    "operating_point",
    "suspect",
    "suspect_probability",
    "abstained",
    "n_messages",
    "n_authors",
    "model",
)


def score_row(assessment: Assessment) -> dict[str, Any]:
    """Return the row of an assessment, by column."""
    return {column: getattr(assessment, column) for column in COLUMNS}


def evidence_rows(evidence: Iterable[Evidence], top: int | None = None) -> list[dict[str, Any]]:
    """Return what each message contributes, strongest first, at most `top` of them; no text."""
    messages: dict[tuple[Any, str], dict[str, Any]] = {}
    for item in evidence:
        key = (item.message_id, item.author)
        row = messages.setdefault(
            key,
            {
                "message_id": item.message_id,
                "author": item.author,
                "contribution": 0.0,
                "tactics": list(item.tactics),
            },
        )
        row["contribution"] += item.contribution
    return sorted(messages.values(), key=lambda row: -row["contribution"])[:top]


def encode_row(row: Mapping[str, Any]) -> bytes:
    """Return a row as a line of JSON; lone surrogates of ids are replaced."""
    try:
        return msgspec.json.encode(row) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(_encodable(row)) + b"\n"


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {key: _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value
