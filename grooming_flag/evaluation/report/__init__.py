"""An evaluation as a reader meets it: a page by itself, and a summary in plain text."""

from __future__ import annotations

from grooming_flag.evaluation.report.html import render_html
from grooming_flag.evaluation.report.summary import render_summary

__all__ = ["render_html", "render_summary"]
