"""Files of labelled threads to a model folder: fit, calibrate, choose operating points, measure, write the card."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from grooming_flag._version import __version__
from grooming_flag.artifact import check_replaceable, save_model
from grooming_flag.calibration import Calibration
from grooming_flag.errors import DataError
from grooming_flag.evaluation.answers import answers_of
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.points import choose_operating_points
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.slices import slice_figures, suspect_figures
from grooming_flag.evaluation.splits import labels_of
from grooming_flag.fingerprints import Fingerprints
from grooming_flag.io.threads import read_codes, read_sources
from grooming_flag.model import Model
from grooming_flag.records import Thread
from grooming_flag.tactics import Tactics
from grooming_flag.training.calibrate import Unseen, calibrate
from grooming_flag.training.card import model_card
from grooming_flag.training.classifier import GroomingClassifier
from grooming_flag.training.tactics import fit_tactics

DEFAULT_PRIOR = 1e-3
DEV_SHARE = 5  # without development files one person of so many is held out


@dataclass(frozen=True, slots=True)
class Source:
    """A file of labelled threads."""

    name: str
    sha256: str
    threads: list[Thread]

    def summary(self) -> dict[str, Any]:
        """Return counts and sum, for the lineage."""
        risky = [thread for thread in self.threads if thread.label == 1]
        return {
            "sha256": self.sha256,
            "threads": len(self.threads),
            "positive": len(risky),
            "persons": len({thread.person for thread in risky if thread.person}),
        }


def train_files(
    labelled: Sequence[Path],
    folder: Path,
    dev: Sequence[Path] = (),
    *,
    terms: Path | None = None,
    seed: int = 0,
    prior: float = DEFAULT_PRIOR,
) -> tuple[Model, list[Figure]]:
    """Train a model, write its folder, and return it with what was measured on the development threads.

    Parameters
    ----------
    labelled, dev : sequence of path
        Threads, JSON lines. Without `dev` one person (or thread) of five is held out for it.
    folder : path
        Its name is the model's.
    terms : path, optional
        TOML with a table a file (its name up to the first dot): `what` it is and its `terms`; and a table `model` with
        what is known of its `positives` and `limits`. For the card. A table `tactics` names the tactic that each code
        of a message stands for; each one gets a head.
    seed : int
        The same files and seed give the same bytes.
    prior : float
        Share of risky threads that probabilities assume.

    Raises
    ------
    DataError
        If a file cannot be read, a thread has no label, or one class is missing.
    """
    check_replaceable(folder)
    Calibration(prior=prior)  # which refuses what is none, before the work
    described = _read_terms(terms) if terms else {}
    sources, dev_sources = _read(labelled), _read(dev)
    if not dev_sources:
        sources, dev_sources = _hold_out(sources)
    _check_labels(sources, dev_sources)
    _check_disjoint(sources, dev_sources)
    threads = [thread for source in sources for thread in source.threads]
    classifier = GroomingClassifier(folds=0, prior=prior, random_state=seed)
    classifier.fit(threads, np.array([thread.label for thread in threads]))
    dev_threads = [thread for source in dev_sources for thread in source.threads]
    model = classifier.to_model(folder.name)
    model = calibrate(model, [Unseen(model, dev_threads, labels_of(dev_threads, "development") == 1)], seed)
    pool = Pool.of({source.name: source.threads for source in dev_sources})
    answers = answers_of(model, pool.threads)
    points = choose_operating_points(pool, answers, "development threads")
    names = described.get("tactics", {})
    tactics, of_tactics = Tactics.none(), list[Figure]()
    if names:
        codes = dict(pair for path in [*labelled, *dev] for pair in read_codes(path))
        everything = [*threads, *dev_threads]
        tactics, of_tactics = fit_tactics(everything, codes, names, model.extractor, classifier.floor, seed)
    lineage = {
        "library": __version__,
        "seed": seed,
        "training": {source.name: source.summary() for source in sources},
        "development": {source.name: source.summary() for source in dev_sources},
        "weighted_buckets": int(np.any(model.weights != 0, axis=1).sum()),
        "privacy_floor": classifier.floor,
        "tactics": names,
    }
    model = model.replace(
        operating_points=points, lineage=lineage, tactics=tactics, fingerprints=Fingerprints.of(threads)
    )
    answers = replace(answers, points={name: point.threshold for name, point in points.items()})
    measured = [*slice_figures(pool, answers), *suspect_figures(pool, answers), *of_tactics]
    save_model(model, folder, model_card(model, measured, described))
    return model, measured


def _read(paths: Sequence[Path]) -> list[Source]:
    sources = []
    for path, (name, threads) in zip(paths, read_sources(paths).items(), strict=True):
        labels_of(threads, str(path))
        sources.append(Source(name, hashlib.sha256(path.read_bytes()).hexdigest(), threads))
    return sources


def _read_terms(path: Path) -> dict[str, Any]:
    try:
        terms = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: cannot be read as TOML: {error}") from error
    for name, table in terms.items():
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise DataError(f"{path}: {name} is no table of texts; write [{name}] with what = and terms =")
    return terms


def _hold_out(sources: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """Split each source by a hash of the person, so that the split does not depend on the order or on other files."""

    def held_out(thread: Thread) -> bool:
        who = (thread.person or thread.thread_id).encode("utf-8", "surrogatepass")
        return hashlib.sha256(who).digest()[0] % DEV_SHARE == 0

    kept = [Source(s.name, s.sha256, [t for t in s.threads if not held_out(t)]) for s in sources]
    dev = [Source(s.name, s.sha256, [t for t in s.threads if held_out(t)]) for s in sources]
    return kept, [source for source in dev if source.threads]


def _check_disjoint(sources: Sequence[Source], dev_sources: Sequence[Source]) -> None:
    trained_on = {t.thread_id for s in sources for t in s.threads}
    seen = {t.person for s in sources for t in s.threads if t.person}
    for source in dev_sources:
        if any(thread.person in seen for thread in source.threads if thread.person):
            raise DataError(f"{source.name}: has persons that training threads have too; split by person")
        if any(thread.thread_id in trained_on for thread in source.threads):
            raise DataError(f"{source.name}: has thread ids that training threads have too; measure on other threads")


def _check_labels(sources: Sequence[Source], dev_sources: Sequence[Source]) -> None:
    labels: Mapping[str, set[int | None]] = {
        "training": {t.label for s in sources for t in s.threads},
        "development": {t.label for s in dev_sources for t in s.threads},
    }
    for name, found in labels.items():
        if found != {0, 1}:
            raise DataError(f"the {name} threads have labels {sorted(map(str, found))}; both 0 and 1 are needed")
