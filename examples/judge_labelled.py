"""Evaluate: recall and false alarms of the bundled model on your own labelled threads, with intervals.

python examples/judge_labelled.py [LABELLED.jsonl ...]

For all there is to know, with a report, see `grooming-flag evaluate` and docs/evaluation.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grooming_flag as gf
from grooming_flag.evaluation.answers import answers_of
from grooming_flag.evaluation.figures import format_figure
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.slices import slice_figures, suspect_figures
from grooming_flag.io.threads import read_sources

THREADS = Path(__file__).with_name("threads.jsonl")

if __name__ == "__main__":
    pool = Pool.of(read_sources(sys.argv[1:] or [THREADS]))
    answers = answers_of(gf.load_model(), pool.threads)
    for figure in [*slice_figures(pool, answers), *suspect_figures(pool, answers)]:
        print(f"{figure.measure:26} {figure.slice:24} {figure.at:10} {format_figure(figure)}")
