"""Files of labelled threads to a model folder: fit, calibrate, choose operating points, evaluate, write the card."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from grooming_flag._version import __version__
from grooming_flag.artifact import check_replaceable, save_model
from grooming_flag.calibration import Calibration
from grooming_flag.errors import DataError
from grooming_flag.evaluation.answers import answers_of
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.files import digest, evaluate_files
from grooming_flag.evaluation.points import choose_operating_points
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.protocol import apart
from grooming_flag.evaluation.robustness import Progress
from grooming_flag.evaluation.splits import labels_of
from grooming_flag.features import FeatureExtractor
from grooming_flag.fingerprints import Fingerprints, folded_words
from grooming_flag.io.threads import read_codes, read_sources
from grooming_flag.model import Model
from grooming_flag.records import Thread
from grooming_flag.tactics import Tactics
from grooming_flag.training.card import model_card
from grooming_flag.training.classifier import GroomingClassifier
from grooming_flag.training.recipe import train, without_each_source
from grooming_flag.training.tactics import fit_tactics

DEFAULT_PRIOR = 1e-3
DEV_SHARE = 5  # without development files one person of so many is held out


@dataclass(frozen=True, slots=True)
class Source:
    """A file of labelled threads, or a part of them."""

    name: str
    path: Path
    sha256: str
    threads: list[Thread] = field(repr=False)

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
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> tuple[Model, dict[str, Any]]:
    """Train a model, write its folder, and return it with its evaluation on the development threads.

    Parameters
    ----------
    labelled, dev : sequence of path
        Threads, JSON lines. Without `dev` one person (or text) of five is held out for it.
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
    n_jobs : int
        Processes of the evaluation; -1 for one a core. No figure depends on it.
    progress : callable, optional
        Gets the name of a step, how much of it is done, and of how much.

    Returns
    -------
    model : Model
    metrics : dict
        What `grooming_flag.evaluation.files.evaluate_files` returns; in the section `tactics` what tactic heads do on
        persons they were not trained on; in the section `audits` what the same training comes to without each of the
        files that have risky threads, if there are two or more of these.

    Raises
    ------
    DataError
        If a file cannot be read, a thread has no label, one class is missing, or development threads are of training.
    """
    step = progress or (lambda name, done, total: None)
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)  # which fails now rather than when all is done
    Calibration(prior=prior)  # which refuses what is none, before the work
    described = _read_terms(terms) if terms else {}
    sources, dev_sources = _read(labelled), _read(dev)
    if not dev_sources:
        sources, dev_sources = _hold_out(sources)
    threads = [thread for source in sources for thread in source.threads]
    real, _ = apart({source.name: source.threads for source in dev_sources})  # generated threads are judged, no more
    _check_labels(threads, [thread for of_source in real.values() for thread in of_source], held_out=not dev)
    fingerprints = Fingerprints.of(threads)
    _check_disjoint(sources, fingerprints, dev_sources)
    extractor = FeatureExtractor()
    classifier = GroomingClassifier(extractor, folds=0, prior=prior, random_state=seed)
    pool = Pool.of(real)
    step("tactics", 0, 1)
    every_source = [*((source.name, source.threads) for source in sources), *real.items()]
    table = described.get("tactics", {})
    tactics, of_tactics, coded = _tactics(table, [*labelled, *dev], every_source, extractor, classifier.floor, seed)
    step("training", 0, 1)
    model = train(classifier, threads, pool, folder.name)
    points = choose_operating_points(pool, answers_of(model, pool.threads), "development threads")
    lineage = {
        "library": __version__,
        "seed": seed,
        "training": {source.name: source.summary() for source in sources},
        "development": {source.name: source.summary() for source in dev_sources},
        "weighted_buckets": int(np.any(model.weights != 0, axis=1).sum()),
        "privacy_floor": classifier.floor,
        "tactics": coded,
    }
    model = model.replace(operating_points=points, lineage=lineage, tactics=tactics, fingerprints=fingerprints)
    metrics = evaluate_files(
        {source.name: source.threads for source in dev_sources},
        {source.name: source.path for source in dev_sources},
        model,
        seed=seed,
        n_jobs=n_jobs,
        progress=progress,
    )
    figures, notes = without_each_source(classifier, {s.name: s.threads for s in sources}, pool, step)
    metrics["figures"] += [figure._asdict() for figure in [*of_tactics, *figures]]
    metrics["notes"] += [*notes, *_doubtful_tactics(of_tactics)]
    save_model(model, folder, model_card(model, metrics, described), metrics)
    return model, metrics


def _tactics(
    table: Mapping[str, str],
    paths: Sequence[Path],
    sources: Sequence[tuple[str, Sequence[Thread]]],
    extractor: FeatureExtractor,
    floor: int,
    seed: int,
) -> tuple[Tactics, list[Figure], dict[str, Any]]:
    """Return the heads of the tactics in the table, what they do on other persons, and what they were fitted on."""
    names = {code: name.strip() for code, name in table.items()}
    if not names:
        return Tactics.none(), [], {"codes": {}, "sources": []}
    codes = dict(of_thread for path in paths for of_thread in read_codes(path))
    threads = [thread for _, of_source in sources for thread in of_source]
    heads, figures = fit_tactics(threads, codes, names, extractor, floor, seed)
    coded = sorted({name for name, of_source in sources if any(any(codes[t.thread_id]) for t in of_source)})
    return heads, figures, {"codes": names, "sources": coded}


def _read(paths: Sequence[Path]) -> list[Source]:
    sources = []
    for path, (name, threads) in zip(paths, read_sources(paths).items(), strict=True):
        labels_of(threads, str(path))
        sources.append(Source(name, path, digest(path), threads))
    return sources


def _read_terms(path: Path) -> dict[str, Any]:
    try:
        terms = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: cannot be read as TOML: {error}") from error
    for name, table in terms.items():
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            entries = 'CODE = "its tactic"' if name == "tactics" else "what = and terms ="
            raise DataError(f"{path}: {name} is no table of texts; write [{name}] with {entries}")
    if not all(tactic.strip().isprintable() and tactic.strip() for tactic in terms.get("tactics", {}).values()):
        raise DataError(f"{path}: a tactic in [tactics] is empty or has line breaks; name it in a few words")
    return terms


def _hold_out(sources: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """Split each source by a hash of the person, so that the split does not depend on the order or on other files.

    Where there is no person, of the words: what is written twice is on one side.
    """

    def held_out(thread: Thread) -> bool:
        who = (thread.person or "".join(folded_words(thread))).encode("utf-8", "surrogatepass")
        return hashlib.sha256(who).digest()[0] % DEV_SHARE == 0

    kept = [replace(s, threads=[t for t in s.threads if not held_out(t)]) for s in sources]
    dev = [replace(s, threads=[t for t in s.threads if held_out(t)]) for s in sources]
    return kept, [source for source in dev if source.threads]


def _check_disjoint(sources: Sequence[Source], trained: Fingerprints, dev_sources: Sequence[Source]) -> None:
    trained_on = {t.thread_id for s in sources for t in s.threads}
    for source in dev_sources:
        seen = [trained.seen(thread) for thread in source.threads]
        if "person" in seen:
            raise DataError(f"{source.name}: has persons that training threads have too; split by person")
        if "thread" in seen:
            n = seen.count("thread")
            raise DataError(f"{source.name}: has {n} threads with the words of training threads; leave them out")
        if any(thread.thread_id in trained_on for thread in source.threads):
            raise DataError(f"{source.name}: has thread ids that training threads have too; measure on other threads")


def _check_labels(threads: Sequence[Thread], dev_threads: Sequence[Thread], held_out: bool) -> None:
    mend = "both 0 and 1 are needed"
    if held_out:
        mend += f"; one person of {DEV_SHARE} was held out for development, so add persons or give files for it (--dev)"
    for name, of_kind in (("training", threads), ("development, generated ones aside,", dev_threads)):
        found = {thread.label for thread in of_kind}
        if found != {0, 1}:
            raise DataError(f"the threads for {name} have labels {sorted(map(str, found))}; {mend}")


def _doubtful_tactics(figures: Sequence[Figure]) -> list[str]:
    """Return notes on the tactics that may be told no better than by chance."""
    doubtful = [f.slice for f in figures if f.measure == "ROC-AUC" and (f.low is None or f.low <= 0.5)]
    return [f"The tactic {name} may be told no better than by chance; do not rely on it." for name in doubtful]
