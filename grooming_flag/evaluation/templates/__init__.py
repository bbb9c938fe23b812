"""Invented threads from seeded templates: ordinary talk that is easily taken for the pattern, and some that shows it.

There are two disjoint sets, one for training and one for judging. Scores on templates test a mechanism; they are
never detection quality.
"""

from __future__ import annotations

from grooming_flag.evaluation.templates.families import KINDS, Family, families, load_family
from grooming_flag.evaluation.templates.threads import generate

__all__ = ["Family", "KINDS", "families", "generate", "load_family"]
