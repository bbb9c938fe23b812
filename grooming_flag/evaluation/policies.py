"""What a policy would have flagged: labelled threads looked at after every message, as a watcher does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grooming_flag.evaluation.answers import Replay
from grooming_flag.evaluation.early import replay
from grooming_flag.evaluation.figures import Figure, share
from grooming_flag.evaluation.pool import Pool
from grooming_flag.model import Model
from grooming_flag.policy import FlagState, Policy, Rule, point_of
from grooming_flag.records import Thread

SECTION = "policy"


@dataclass(frozen=True, slots=True)
class Course:
    """How the flag of one thread went, by one rule or shadow.

    Attributes
    ----------
    thread_id : str
    rule : str
    is_shadow : bool
    raised : tuple of int
        After how many messages the flag went up, each time.
    at_end : bool
        Whether a single look at the whole thread flags it.
    """

    thread_id: str
    rule: str
    is_shadow: bool
    raised: tuple[int, ...]
    at_end: bool


def courses(
    threads: Sequence[Thread],
    contexts: Mapping[str, Mapping[str, str]],
    policy: Policy,
    model: Model,
    shadow_models: Mapping[str, Model],
) -> list[list[Course]]:
    """Return for each thread how its flag went by its rule, and what each shadow that is for it says.

    Parameters
    ----------
    threads : sequence of Thread
        Cooldown counts by their `sent_at`, where there is none by the one before; without any it lasts to the end.
    contexts : mapping of str to mapping
        By thread id, what `records.CONTEXT` names and is known.
    policy : Policy
    model : Model
    shadow_models : mapping of str to Model
        By the name that the policy gives them.

    Raises
    ------
    PolicyError
        If an operating point of the policy is not there.
    """
    looks = [(policy.rules, model, False)]
    looks += [((s.rule,), shadow_models[s.model] if s.model else model, True) for s in policy.shadows]
    thresholds = {rule.name: point_of(rule, of.operating_points).threshold for rules, of, _ in looks for rule in rules}
    replays = {id(of): replay(of, threads) for of in {id(of): of for _, of, _ in looks}.values()}
    found: list[list[Course]] = [[] for _ in threads]
    for rules, of, is_shadow in looks:
        for thread, seen, into in zip(threads, replays[id(of)], found, strict=True):
            rule = next((rule for rule in rules if rule.holds(contexts.get(thread.thread_id, {}))), None)
            if rule is not None:
                into.append(_course(thread, seen, rule, thresholds[rule.name], is_shadow))
    return found


def _course(thread: Thread, seen: Replay, rule: Rule, threshold: float, is_shadow: bool) -> Course:
    flag, raised, now = FlagState(), [], 0.0
    for n, (message, value) in enumerate(zip(thread.messages, seen.values.tolist(), strict=True), 1):
        before, probability = flag, None if value == -np.inf else value
        now = now if message.sent_at is None else message.sent_at
        flag = rule.look(flag, probability, threshold, n, now)
        if flag.is_up and not before.is_up:
            raised.append(n)
    last = seen.values[-1] if len(seen.values) else -np.inf
    return Course(thread.thread_id, rule.name, is_shadow, tuple(raised), bool(last >= threshold))


def policy_figures(pool: Pool, found: Sequence[Sequence[Course]]) -> list[Figure]:
    """Return what each rule and shadow does: each figure over the threads that it was for, by whether they are risky.

    `flagged at any message` is what a watcher does, and what moderators get; `flagged at the end` is one look at the
    whole thread. Their difference is the price of looking early. `flags of a thread` counts every time that one goes
    up, per thread.
    """
    figures = []
    names = dict.fromkeys((course.rule, course.is_shadow) for of_thread in found for course in of_thread)
    for name, is_shadow in names:
        at = f"{name} (shadow)" if is_shadow else name
        of_rule = [next((course for course in of if course.rule == name), None) for of in found]
        for kind, is_kind in (("ordinary", ~pool.risky), ("risky", pool.risky)):
            chosen = np.array([course is not None for course in of_rule], dtype=bool) & is_kind
            own = [course for course, is_own in zip(of_rule, chosen, strict=True) if course is not None and is_own]
            clusters = pool.clusters[chosen] if kind == "risky" else None
            ever = [bool(course.raised) for course in own]
            figures += [
                share(SECTION, "flagged at any message", kind, at, ever, clusters),
                share(SECTION, "flagged at the end", kind, at, [course.at_end for course in own], clusters),
            ]
            if own:
                n_flags = sum(len(course.raised) for course in own)
                figures.append(
                    Figure(SECTION, "flags of a thread", kind, at, "thread", n_flags / len(own), None, None, len(own))
                )
            firsts = [course.raised[0] for course in own if course.raised]
            if firsts:
                median = float(np.median(firsts))
                figures.append(
                    Figure(SECTION, "messages at the first flag", kind, at, "thread", median, None, None, len(firsts))
                )
    return figures
