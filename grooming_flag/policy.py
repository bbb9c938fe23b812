"""Operating points, named thresholds with what was measured there, and policies. Scoring knows nothing of them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from grooming_flag.calibration import log_odds, recalibrated, restate
from grooming_flag.errors import PolicyError


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold with a name.

    Parameters
    ----------
    name : str or None
        None for a bare threshold.
    threshold : float
        Cut on the probability, 0..1: at or above it a thread is flagged.
    measured : mapping
        What was measured at this threshold, and on what.
    """

    name: str | None
    threshold: float
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.threshold, bool) or not 0.0 <= self.threshold <= 1.0:
            raise PolicyError(f"the threshold is {self.threshold!r}; use a probability from 0 to 1")

    def restated(self, prior: float, new_prior: float) -> OperatingPoint:
        """Return the point that flags the same threads when probabilities are restated for another prior."""
        return replace(self, threshold=restate(self.threshold, prior, new_prior))

    def recalibrated(self, slope: float, offset: float) -> OperatingPoint:
        """Return the point that flags the same threads after `Calibration.recalibrated`."""
        return replace(self, threshold=recalibrated(self.threshold, slope, offset))


def resolve(at: str | float, points: Mapping[str, OperatingPoint]) -> OperatingPoint:
    """Return the operating point of that name, or the bare threshold.

    Raises
    ------
    PolicyError
        If there is no such name, or the number is no probability.
    """
    if not isinstance(at, str):
        return OperatingPoint(None, at)
    if at not in points:
        known = ", ".join(sorted(points)) or "none"
        raise PolicyError(
            f"there is no operating point {at!r}; the model has {known}; or pass a threshold, at=0.05 say"
        )
    return points[at]


DEFAULT = "default"
"""Name of the rule for all threads that no other rule is for."""


class FlagState(NamedTuple):
    """Whether a thread that goes on is flagged, and when it last came to be, in seconds; never is minus infinity."""

    is_up: bool = False
    raised_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Rule:
    """When a thread is flagged while it goes on, for threads of some kinds.

    A thread that is looked at after every message has many chances to be flagged by mistake. Therefore a flag waits
    for `min_messages`, comes down only when the probability has clearly fallen (`hysteresis`), and does not go up again
    before `cooldown` is over. How many threads are flagged all the same is what ``grooming-flag policy check`` counts.

    Parameters
    ----------
    name : str
    at : str or float
        Name of an operating point of the model, or a threshold on the probability, 0..1.
    when : mapping of str to tuple of str
        What a thread must be for this rule: for some of `records.CONTEXT` the values that it may have.
    min_messages : int
        With fewer messages a thread is not flagged.
    hysteresis : float
        A flag comes down when the log-odds are this much below those of the threshold, 0 or more.
    cooldown : float
        Seconds from one flag of a thread to the next, 0 or more.
    """

    name: str
    at: str | float
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    min_messages: int = 0
    hysteresis: float = 0.0
    cooldown: float = 0.0

    def holds(self, context: Mapping[str, str]) -> bool:
        """Return whether a thread is of the kinds that the rule is for."""
        return all(context.get(name) in values for name, values in self.when.items())

    def look(
        self, flag: FlagState, probability: float | None, threshold: float, n_messages: int, now: float
    ) -> FlagState:
        """Return the flag of a thread after another look.

        Parameters
        ----------
        flag : FlagState
            After the look before.
        probability : float or None
            Of the messages so far, 0..1; None where the model abstains.
        threshold : float
            Where the flag goes up, 0..1.
        n_messages : int
        now : float
            Seconds, on the clock of `flag`.
        """
        if probability is None:
            return flag
        if flag.is_up:
            falls = log_odds(probability) < log_odds(threshold) - self.hysteresis
            return FlagState(False, flag.raised_at) if falls else flag
        is_due = n_messages >= self.min_messages and now - flag.raised_at >= self.cooldown
        return FlagState(True, now) if probability >= threshold and is_due else flag


@dataclass(frozen=True, slots=True)
class Shadow:
    """A rule that is looked at like the others and never flags, to try a threshold or a model.

    Parameters
    ----------
    rule : Rule
        Its name is the name of the shadow.
    model : str or None
        Folder of another model.
    """

    rule: Rule
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Which rule is for which threads.

    Parameters
    ----------
    rules : tuple of Rule
        The first that holds for a thread counts; the last is for all threads.
    shadows : tuple of Shadow

    Examples
    --------
    >>> from grooming_flag.policy import Policy, read_policy
    >>> policy = read_policy('''
    ... format = 1
    ... [default]
    ... at = "balanced"
    ... min_messages = 10
    ... [[rule]]
    ... name = "direct messages to children"
    ... when = { surface = ["dm"], age_band = ["under 13", "13-15"] }
    ... at = "sensitive"
    ... ''')
    >>> rule = policy.rule_for({"surface": "dm", "age_band": "13-15"})
    >>> rule.at, rule.min_messages
    ('sensitive', 10)
    """

    rules: tuple[Rule, ...]
    shadows: tuple[Shadow, ...] = ()

    def rule_for(self, context: Mapping[str, str]) -> Rule:
        """Return the rule for a thread of these kinds."""
        return next(rule for rule in self.rules if rule.holds(context))


def point_of(rule: Rule, points: Mapping[str, OperatingPoint]) -> OperatingPoint:
    """Return the operating point at which a rule flags.

    Raises
    ------
    PolicyError
        If there is none of that name. The message names the rule.
    """
    try:
        return resolve(rule.at, points)
    except PolicyError as error:
        raise PolicyError(f"rule {rule.name}: {error}") from error


class _Settings(msgspec.Struct, forbid_unknown_fields=True):
    """What a rule may say; what it leaves out is as in the default."""

    at: str | None = None
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    min_messages: Annotated[int, msgspec.Meta(ge=0)] | None = None
    hysteresis: Annotated[float, msgspec.Meta(ge=0)] | None = None
    cooldown_hours: Annotated[float, msgspec.Meta(ge=0)] | None = None


class _Rule(_Settings, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(pattern=r"\S")]
    when: dict[Literal["surface", "locale", "age_band"], str | Annotated[list[str], msgspec.Meta(min_length=1)]] = {}


class _Shadow(_Rule, kw_only=True, forbid_unknown_fields=True):
    model: Annotated[str, msgspec.Meta(min_length=1)] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal[1]
    default: _Settings
    rule: list[_Rule] = []
    shadow: list[_Shadow] = []


def read_policy(text: str, name: str = "the policy") -> Policy:
    """Return the policy that a TOML file holds.

    Parameters
    ----------
    text : str
        What is in the file; docs/operations.md has its format.
    name : str
        Of the file, for errors.

    Raises
    ------
    PolicyError
        If it is not TOML, or a key is missing, unknown or out of range. The message names the key.
    """
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except msgspec.ValidationError as error:
        raise PolicyError(f"{name}: {error}; see docs/operations.md") from error
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{name}: not TOML: {error}") from error
    for rule in file.rule:
        if not rule.when:
            raise PolicyError(f"{name}: rule {rule.name!r} is for all threads, as is the default; say when")
    names = [entry.name for entry in (*file.rule, *file.shadow)]
    for entry in names:
        if names.count(entry) > 1 or entry == DEFAULT:
            raise PolicyError(f"{name}: the name {entry!r} is taken; give each rule and shadow a name of its own")
    rules = [_rule(entry, file.default, name) for entry in file.rule]
    default = _rule(_Rule(name=DEFAULT), file.default, name)
    shadows = [Shadow(_rule(entry, file.default, name), entry.model) for entry in file.shadow]
    return Policy((*rules, default), tuple(shadows))


def _rule(entry: _Rule, default: _Settings, name: str) -> Rule:
    settings = entry if entry.at is not None or entry.threshold is not None else default
    at = settings.threshold if settings.at is None else settings.at
    if at is None or (settings.at is not None and settings.threshold is not None):
        raise PolicyError(f"{name}: {entry.name}: give either at or threshold")

    def said(key: str) -> Any:
        values = (getattr(entry, key), getattr(default, key), 0)
        return next(value for value in values if value is not None)

    when = {str(key): (values,) if isinstance(values, str) else tuple(values) for key, values in entry.when.items()}
    return Rule(entry.name, at, when, said("min_messages"), said("hysteresis"), 3600.0 * said("cooldown_hours"))
