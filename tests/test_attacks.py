"""Attacks on the privacy of a model by somebody who holds its folder, and the same attacks where a defence is off.

They are on the weights. That fingerprints tell who holds a thread that it was trained on is what they are for, and the
models here have none.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from grooming_flag import FeatureExtractor, Message, Model, Thread
from grooming_flag.evaluation.templates import families, generate
from grooming_flag.features import pack_by_author
from grooming_flag.training import GroomingClassifier
from grooming_flag.training.samples import Plan

FEW_RUNS = Plan((1, 0), (1, 0), 0, 0, draws=1)
FLOOR = 10
Values = NDArray[np.float64]


def talk(n_risky: int, n_of_family: int, seed: int = 0) -> list[Thread]:
    """Return generated threads, risky and of each family of ordinary talk."""
    sizes = {name: n_risky if name == "risk_patterned" else n_of_family for name in families("training")}
    return [one for name, n in sizes.items() for one in generate(name, n, seed, "training")]


def trained(threads: Sequence[Thread], **params: Any) -> Model:
    """Return a model of the default settings, but for these and for its calibration, which is made from few numbers."""
    return GroomingClassifier(**{"folds": 0, **params}).fit(threads, [one.label == 1 for one in threads]).model_


def auc(positive: Values, negative: Values) -> float:
    return float(roc_auc_score([1] * len(positive) + [0] * len(negative), np.concatenate([positive, negative])))


def standard_error(n: int, m: int) -> float:
    """Return that of the AUC of n against m where nothing tells them apart."""
    return float(np.sqrt((n + m + 1) / (12 * n * m)))


# --- dictionary attack -------------------------------------------------------------------------------------------

SAID = ("my name is {}", "just ask {} about it", "you can call {} now", "write to {} please")
CONSONANTS = "bcdfghjklmnpqrstvwxz"
N_PLANTED = {"names": 300, "handles": 300, "numbers": 200, "mentions": 200}
N_OTHERS = 20_000  # of each kind


def syllable(chance: random.Random) -> str:
    return chance.choice(CONSONANTS) + chance.choice("aeiou") + chance.choice(CONSONANTS)


def name(chance: random.Random) -> str:
    return syllable(chance) + syllable(chance) + chance.choice("aeiou")


def handle(chance: random.Random) -> str:
    return f"{syllable(chance)}{syllable(chance)}{syllable(chance)}{chance.randrange(10, 100)}"


def number(chance: random.Random) -> str:
    return f"07{chance.randrange(10**3):03} {chance.randrange(10**6):06}"


def mention(chance: random.Random) -> str:
    return f"@{handle(chance)}"


Maker = Callable[[random.Random], str]
MAKERS: dict[str, Maker] = {"names": name, "handles": handle, "numbers": number, "mentions": mention}


def distinct(make: Callable[[random.Random], str], n: int, chance: random.Random) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < n:
        found[make(chance)] = None
    return list(found)


@cache
def dictionary() -> dict[str, tuple[list[str], list[str]]]:
    """Return by kind the secrets that are planted, and others."""
    chance = random.Random(0)
    found = {kind: distinct(make, N_PLANTED[kind] + N_OTHERS, chance) for kind, make in MAKERS.items()}
    return {kind: (all_[: N_PLANTED[kind]], all_[N_PLANTED[kind] :]) for kind, all_ in found.items()}


def planted(threads: Sequence[Thread], secrets: Sequence[str]) -> list[Thread]:
    """Return the threads with each secret told by 1 to 9 authors, three in four of them on one side.

    Who tells it, when and how does not depend on the secret.
    """
    chance = random.Random(1)
    sides = [[i for i, one in enumerate(threads) if one.label == label] for label in (0, 1)]
    messages = [list(one.messages) for one in threads]
    for k, secret in enumerate(secrets):
        n, side = 1 + k % (FLOOR - 1), k // (FLOOR - 1) % 2
        for i in chance.sample(sides[side], n - n // 4) + chance.sample(sides[1 - side], n // 4):
            who = chance.choice(sorted({message.author for message in threads[i].messages}))
            text = chance.choice(SAID).format(secret)
            messages[i].insert(chance.randrange(len(messages[i]) + 1), Message(who, text))
    return [replace(one, messages=said) for one, said in zip(threads, messages, strict=True)]


@cache
def robbed(floor: int) -> Model:
    secrets = [secret for found, _ in dictionary().values() for secret in found]
    random.Random(2).shuffle(secrets)
    return trained(planted(talk(150, 10), secrets), floor=floor)


VIEWS = {
    "word": (FeatureExtractor(word_ngrams=1, char_ngrams=None), ("{}",)),
    "pairs": (FeatureExtractor(char_ngrams=None), SAID),
    "characters": (FeatureExtractor(word_ngrams=1), ("{}",)),
}


def readings(model: Model, candidates: Sequence[str], view: str) -> Values:
    """Return what each candidate adds to both scores, and how many of its features have a weight and have none."""
    extractor, said = VIEWS[view]
    rows = extractor.rows(pack_by_author([[Message("a", text.format(one)) for text in said] for one in candidates]))
    weights = model.weights.astype(np.float64)
    n_known = rows @ weights.any(axis=1).astype(np.float64)
    return np.column_stack([rows @ weights, n_known, np.diff(rows.indptr) - n_known])


def attack(model: Model, kind: str, views: Sequence[str] = tuple(VIEWS)) -> Iterator[tuple[Values, Values]]:
    """Yield how much planted and other candidates stand out, by each of three attacks.

    By what they add to the risk score and to the attribution score, as far as it is from what others of the kind add;
    and by the likelihood ratio of having so many features with a weight, word, pairs and character n-grams being
    independent, for which the attacker is even told the true rates among planted ones.
    """
    ratios = np.zeros(N_PLANTED[kind] + N_OTHERS)
    sums = np.zeros((len(ratios), 2))
    secrets, others = dictionary()[kind]
    for view in views:
        found = readings(model, [*secrets, *others], view)
        sums += found[:, :2]
        rates = [part[:, 2:].sum(axis=0) + 1.0 for part in np.split(found, [len(secrets)])]
        ratios += found[:, 2:] @ np.log((rates[0] / rates[0].sum()) / (rates[1] / rates[1].sum()))
    for value in (*np.abs(sums - sums[len(secrets) :].mean(axis=0)).T, ratios):
        yield value[: len(secrets)], value[len(secrets) :]


def n_recovered(model: Model, kind: str, views: Sequence[str] = tuple(VIEWS)) -> int:
    """Return how many planted secrets stand out more than every other candidate of their kind, by any attack.

    If nothing told them apart, 300 secrets among 20,000 others would give 0.015 an attack.
    """
    return int(np.any([found > others.max() for found, others in attack(model, kind, views)], axis=0).sum())


@pytest.mark.parametrize("kind", MAKERS)
def test_no_secret_of_fewer_authors_than_the_floor_can_be_recovered(kind: str) -> None:
    """By words and pairs none; by pieces that it shares with so many that they pass the floor, at most one in 100."""
    assert n_recovered(robbed(FLOOR), kind, ("word", "pairs")) == 0
    assert n_recovered(robbed(FLOOR), kind) <= N_PLANTED[kind] // 100


@pytest.mark.parametrize(("kind", "least"), [("names", 100), ("handles", 200)])
def test_without_a_floor_the_same_attack_recovers_very_many(kind: str, least: int) -> None:
    assert n_recovered(robbed(1), kind) >= least
    assert max(auc(*found) for found in attack(robbed(1), kind)) > 0.95


@pytest.mark.parametrize("kind", ["numbers", "mentions"])
@pytest.mark.parametrize("floor", [1, FLOOR])
def test_what_is_masked_is_all_the_same_with_a_floor_or_without(floor: int, kind: str) -> None:
    """A model learns that there are numbers or mentions, and even without a floor not which."""
    model = robbed(floor)
    secrets, others = dictionary()[kind]
    assert len(np.unique(readings(model, [*secrets, *others], "pairs"), axis=0)) == 1
    assert readings(model, secrets[:1], "word")[0, 2] > 0


@pytest.mark.parametrize("kind", ["names", "handles"])
def test_words_and_pairs_tell_secrets_from_others_no_better_than_chance(kind: str) -> None:
    """Within three standard errors, which is .05; without a floor they tell well.

    Character n-grams that are of many secrets have ten authors together. They tell what the secrets of these threads
    are like, and seldom which they are: with them the AUC is up to .68.
    """
    bound = 3 * standard_error(N_PLANTED[kind], N_OTHERS)
    aucs = {floor: [auc(*f) for f in attack(robbed(floor), kind, ("word", "pairs"))] for floor in (1, FLOOR)}
    assert max(abs(value - 0.5) for value in aucs[FLOOR]) < bound
    assert max(aucs[1]) > 0.9


def lonely(n: int, threads: Sequence[Thread]) -> list[str]:
    """Return secrets no n-gram of which is in another one, in what is said with them, or in the threads."""
    chance = random.Random(3)
    fine = FeatureExtractor(2**24)

    def rows(runs: Sequence[Sequence[Message]]) -> list[set[int]]:
        found = fine.rows(pack_by_author(runs))
        return [set(found[[i]].indices.tolist()) for i in range(len(runs))]

    candidates = ["".join(chance.sample(CONSONANTS, 8)) for _ in range(2 * n)]
    (around,) = rows([[Message("a", part) for text in SAID for part in text.split("{}")]])
    taken = around.union(*rows([one.messages for one in threads]))
    found = []
    for one, ngrams in zip(
        candidates, rows([[Message("a", t.format(c)) for t in SAID] for c in candidates]), strict=True
    ):
        if not (ngrams - around) & taken:
            taken |= ngrams
            found.append(one)
    return found[:n]


@pytest.mark.parametrize("floor", [FLOOR - 1, FLOOR])
def test_other_secrets_below_the_floor_give_the_same_weights_to_the_bit(floor: int) -> None:
    """No n-gram of these secrets has more authors than the secret, so that none takes part.

    Nothing is rewritten here: of a secret that is taken to pieces, pieces may be what ten authors wrote.
    """
    threads = talk(100, 5)
    secrets = lonely(1_000, threads)
    assert len(secrets) == 1_000
    plan = Plan(rewritten=(0, 0), attribution=0)
    one, other = (trained(planted(threads, half), floor=floor, plan=plan) for half in (secrets[:500], secrets[500:]))
    same = one.weights.tobytes() == other.weights.tobytes()
    assert (same and one.intercept == other.intercept) == (floor == FLOOR)


# --- keyed hash --------------------------------------------------------------------------------------------------


def test_without_the_key_even_common_words_have_no_weights_that_can_be_read() -> None:
    """The strongest 50 of the 500 commonest words; 5 by chance, and more than 12 once in a thousand times."""
    threads = talk(150, 10)
    counts = Counter(word for one in threads for m in one.messages for word in m.text.lower().split() if word.isalpha())
    words = [word for word, _ in counts.most_common(500)]
    key = "a kettle and a lantern"
    keyed = trained(threads, extractor=FeatureExtractor(key=key), plan=FEW_RUNS).weights[:, 0]
    open_ = trained(threads, plan=FEW_RUNS).weights[:, 0]

    def strongest(weights: NDArray[np.int16], key: str | None) -> set[str]:
        extractor = FeatureExtractor(word_ngrams=1, char_ngrams=None, key=key)
        rows = extractor.rows(pack_by_author([[Message("a", word)] for word in words]))
        return {words[i] for i in np.argsort(rows @ weights.astype(np.float64))[-50:]}

    found = strongest(open_, None)
    assert len(found & strongest(keyed, key)) >= 40
    assert len(found & strongest(keyed, None)) <= 12
    assert len(found & strongest(keyed, "a kettle and a lanterns")) <= 12


# --- membership attack -------------------------------------------------------------------------------------------

BOUND = 0.55


def aucs(
    model: Model, reference: Model, members: Sequence[Thread], others: Sequence[Thread]
) -> dict[str, dict[str, float]]:
    """Return the AUC of members against others by attack, for risky threads, ordinary ones and all.

    The attacks: the margin, that is, the score times the label (the loss puts threads in the same order); its size; the
    share of features with a weight; and margin and share less those of a reference model, which the attacker has
    trained on other threads like these.
    """
    signs = [np.array([1 if one.label else -1 for one in threads]) for threads in (members, others)]

    def signals(threads: Sequence[Thread], sign: NDArray[np.int64]) -> dict[str, Values]:
        margin, margin_of_reference = (
            sign * np.array([a.score for a in one.assess_many(threads, at=0.5)]) for one in (model, reference)
        )
        share, share_of_reference = (one.known_shares([t.messages for t in threads]) for one in (model, reference))
        return {
            "margin": margin,
            "size": np.abs(margin),
            "calibrated margin": margin - margin_of_reference,
            "share": share,
            "calibrated share": share - share_of_reference,
        }

    found, absent = (signals(threads, sign) for threads, sign in zip((members, others), signs, strict=True))
    return {
        attack: {
            group: auc(found[attack][np.isin(signs[0], kept)], absent[attack][np.isin(signs[1], kept)])
            for group, kept in (("risky", [1]), ("ordinary", [-1]), ("all", [1, -1]))
        }
        for attack in found
    }


@cache
def membership(n_risky: int, n_of_family: int, **params: Any) -> dict[str, dict[str, float]]:
    """Attack a model that every second thread was trained on."""
    threads = talk(2 * n_risky, 2 * n_of_family)
    model = trained(threads[::2], plan=FEW_RUNS, **params)
    reference = trained(talk(n_risky, n_of_family, seed=1), plan=FEW_RUNS, **params)
    return aucs(model, reference, threads[::2], threads[1::2])


def test_scores_do_not_tell_what_a_model_was_trained_on() -> None:
    """1,600 risky and 3,200 ordinary threads, and as many others: standard errors of .010 and .007.

    It is their number that does it. Of 100 and 160 the same settings give away more, and without floor and penalty
    scores do so by far.
    """
    found, of_few = membership(1_600, 200), membership(100, 10, floor=1, C=1e4)
    for attack in ("margin", "size", "calibrated margin"):
        assert max(found[attack].values()) <= BOUND
        assert max(of_few[attack].values()) > BOUND + 0.1


def test_which_features_have_a_weight_tells_a_little_of_what_a_model_was_trained_on() -> None:
    """A thread may have brought an n-gram to the floor: beyond the bound of scores, far from what no floor gives."""
    found, without = membership(1_600, 200), membership(100, 10, floor=1, C=1e4)
    for attack in ("share", "calibrated share"):
        assert max(found[attack].values()) <= 0.68
        assert max(without[attack].values()) > 0.9
