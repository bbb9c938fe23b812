"""How a model is trained: its heads on training threads, its probabilities on development threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from grooming_flag.errors import DataError
from grooming_flag.evaluation.answers import answers_of
from grooming_flag.evaluation.audits import RETRAINED, audit_figures
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.robustness import Progress
from grooming_flag.evaluation.slices import FPR
from grooming_flag.model import Model
from grooming_flag.records import Thread
from grooming_flag.training.calibrate import Unseen, calibrate
from grooming_flag.training.classifier import GroomingClassifier


def train(classifier: GroomingClassifier, threads: Sequence[Thread], dev: Pool, name: str) -> Model:
    """Return a model that is fitted on the threads and calibrated on the development threads; it has no points yet."""
    model = classifier.fit(threads, np.array([thread.label for thread in threads])).to_model(name)
    return calibrate(model, [Unseen(model, dev.threads, dev.risky)], classifier.random_state)


def without_each_source(
    classifier: GroomingClassifier, sources: Mapping[str, Sequence[Thread]], dev: Pool, step: Progress
) -> tuple[list[Figure], list[str]]:
    """Train again without each source of risky threads, one after the other; return what is found and what to note.

    What falls where a source is left out is what the model owes to that source alone: the nearest to a platform unlike
    all of them that the data allow. With fewer than two such sources there is nothing to return.

    Parameters
    ----------
    classifier : GroomingClassifier
    sources : mapping of str to sequence of Thread
        Training threads by the name of their file.
    dev : Pool
        Development threads.
    step : callable
        Gets the name of a step, how much of it is done, and of how much.
    """
    risky = [name for name, threads in sources.items() if any(thread.label for thread in threads)]
    figures: list[Figure] = []
    notes: list[str] = []
    for done, left_out in enumerate(risky if len(risky) > 1 else []):
        name = RETRAINED + left_out
        step(name, done, len(risky))
        threads = [thread for source in sources if source != left_out for thread in sources[source]]
        try:
            answers = answers_of(train(classifier, threads, dev, name), dev.threads)
        except DataError as error:
            notes.append(f"Not {name}: {error}.")
            continue
        found = audit_figures(dev, answers, classifier.random_state, by_source=True)
        figures += [figure for figure in found if figure.measure != FPR]
    return figures, notes
