"""The moderator's page: which threads to look at, and a page to do it in. It records verdicts and acts on nobody."""

from __future__ import annotations

from grooming_flag.review.page import render_page
from grooming_flag.review.queue import Case, Queue, Review, build_queue

__all__ = ["Case", "Queue", "Review", "build_queue", "render_page"]
