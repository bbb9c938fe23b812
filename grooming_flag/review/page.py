"""The queue as one page that loads nothing, with its own style and script and no other."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from grooming_flag.evaluation.report.html import page_template
from grooming_flag.evaluation.report.reading import one_in
from grooming_flag.io.verdicts import REASONS
from grooming_flag.model import Model
from grooming_flag.review.content import content_of
from grooming_flag.review.queue import Queue

SCRIPTS = ("text.js", "thread.js", "page.js")
NOT_IN_SCRIPTS = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&"})
"""What could end the element that data stand in, as JSON may write it too."""


def render_page(queue: Queue, model: Model) -> str:
    """Return the page of a queue. It holds the text of the threads: keep it as confidential as the chats.

    Parameters
    ----------
    queue : Queue
    model : Model
        The one that the queue was built with.

    Raises
    ------
    MissingExtraError
        If Jinja2 is not installed.
    """
    template = page_template("page.html.j2", __package__)
    style, script = _file("page.css"), "".join(map(_file, SCRIPTS))
    point = model.operating_points.get(queue.operating_point or "")
    prior = one_in(model.calibration.prior)
    data = {
        "model": model.name,
        "blind": queue.is_blind,
        "prior": prior,
        "threshold": point.threshold if point else None,
        "reasons": REASONS,
        "cases": [
            {"n_more": case.n_more, "reviews": [content_of(review, model) for review in case.reviews]}
            for case in queue.cases
        ],
    }
    reviews = queue.reviews
    return template.render(
        queue=queue,
        n_reviews=len(reviews),
        n_sampled=sum(review.selection == "sample" for review in reviews),
        model=model.name,
        prior=prior,
        point=f"{point.name} (probability {point.threshold:.2g} or more)" if point else "a threshold of your own",
        data=_json(data),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """Return what a content security policy calls an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _json(data: Any) -> str:
    """Return JSON in ASCII that may stand between script tags, whatever texts are in it."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).translate(NOT_IN_SCRIPTS)
