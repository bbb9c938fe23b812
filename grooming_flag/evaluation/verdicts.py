"""What verdicts say of a model: how many flags are confirmed, and how much is missed among what was not flagged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from grooming_flag.calibration import recalibrated
from grooming_flag.errors import DataError
from grooming_flag.evaluation.figures import Figure, as_number
from grooming_flag.evaluation.metrics import weighted_rate
from grooming_flag.io.verdicts import REASONS, Verdict

SELECTIONS = ("flagged", "sample")


def check_model(verdicts: Sequence[Verdict], model: str) -> None:
    """Raise a DataError if there are verdicts on answers of another model; those that name none are taken as they are.

    Parameters
    ----------
    verdicts : sequence of Verdict
    model : str
        Its name.
    """
    others = sorted({one.model for one in verdicts if one.model is not None} - {model})
    if others:
        n = sum(one.model in others for one in verdicts)
        raise DataError(
            f"{n} of {len(verdicts)} verdicts are on what {', '.join(others)} said, and the model is {model}; "
            "its probabilities are others: give verdicts of one model, with that model"
        )


def tally(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    """Return how many verdicts there are by selection and kind."""
    counts: Counter[tuple[str, str]] = Counter((one.selection, one.verdict) for one in verdicts)
    return {selection: {kind: counts[selection, kind] for kind in REASONS} for selection in SELECTIONS}


def confirm_rate(verdicts: Sequence[Verdict], level: float = 0.95) -> Figure:
    """Return the share of the flagged threads that were confirmed, of those confirmed or dismissed."""
    hits, weights = _decided(verdicts, "flagged")
    value, low, high = weighted_rate(hits, weights, level)
    return Figure(
        "verdicts", "confirm rate", "flagged", "", "thread", as_number(value), low, high, len(hits), sum(hits)
    )


def mean_probability(verdicts: Sequence[Verdict], slope: float = 1.0, offset: float = 0.0) -> Figure:
    """Return the mean probability of the threads of `confirm_rate`, after a recalibration if one is given."""
    said = [
        (recalibrated(one.probability, slope, offset), 1.0 / one.selection_probability)
        for one in verdicts
        if one.selection == "flagged" and one.verdict != "unsure" and one.probability is not None
    ]
    value = sum(p * weight for p, weight in said) / sum(weight for _, weight in said) if said else None
    return Figure("verdicts", "mean probability", "flagged", "", "thread", value, None, None, len(said))


def recall(verdicts: Sequence[Verdict]) -> Figure | None:
    """Return the share of the risky threads that are flagged; None without verdicts on flagged ones and on others.

    With weights ``1 / selection_probability`` there are `F` flagged threads, of which the share `f` is risky, and `U`
    others, of which `u` is: recall is ``f F / (f F + u U)``. Its interval takes the bounds of both shares, each of
    97.5 %, so that both at once contain the true values in at least 95 % of all cases (Bonferroni; on bounds of both
    strata: Webber 2013, "Approximate recall confidence intervals", ACM TOIS 31). Where none of the n sampled threads
    was confirmed, the upper bound of `u` is exactly ``1 - 0.0125^(1/n)``, about 4.4 / n (Clopper and Pearson 1934; with
    5 % on one side alone it is the rule of three, Hanley and Lippman-Hand 1983), and the lower bound of recall follows
    from it.

    Threads with the verdict "unsure" count in neither.
    """
    hits, weights = _decided(verdicts, "sample")
    found, all_found = _decided(verdicts, "flagged")
    if not hits or not found:
        return None
    flagged, others = sum(all_found), sum(weights)
    risky, least, most = weighted_rate(found, all_found, 0.975)
    missed, fewest_missed, most_missed = weighted_rate(hits, weights, 0.975)

    def of(share_found: float, share_missed: float) -> float | None:
        all_risky = share_found * flagged + share_missed * others
        return share_found * flagged / all_risky if all_risky > 0.0 else None

    ends = of(least, most_missed), of(most, fewest_missed)  # defined: an upper bound is above 0
    return Figure("verdicts", "recall", "all", "", "thread", of(risky, missed), *ends, len(hits) + len(found))


def _decided(verdicts: Sequence[Verdict], selection: str) -> tuple[list[bool], list[float]]:
    """Return of the threads of a selection that were confirmed or dismissed which were confirmed, and their weights."""
    chosen = [one for one in verdicts if one.selection == selection and one.verdict != "unsure"]
    return [one.verdict == "confirmed" for one in chosen], [1.0 / one.selection_probability for one in chosen]
