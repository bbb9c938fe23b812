"""Evaluate: recall and false alarms of the bundled model on your own labelled threads, with intervals.

python examples/judge_labelled.py [LABELLED.jsonl]
"""

from __future__ import annotations

import sys
from pathlib import Path

import grooming_flag as gf
from grooming_flag.evaluation.figures import figures, format_rate, judge

THREADS = Path(__file__).with_name("threads.jsonl")

if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else THREADS
    model = gf.load_model()
    judged = judge(model, {path.stem: list(gf.read_threads(path))})
    for figure in figures(judged, model.operating_points):
        print(f"{figure.measure:26} {figure.slice:24} {figure.point:10} {format_rate(figure.rate)}")
