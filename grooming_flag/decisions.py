"""The messages of a thread to changes of its flag, by a policy and its shadows. What is kept of it holds no text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec

from grooming_flag.errors import DataError
from grooming_flag.io.scores import encodable, score_row
from grooming_flag.live import ThreadState
from grooming_flag.model import Model
from grooming_flag.policy import DEFAULT, FlagState, Policy, Rule, point_of
from grooming_flag.records import CONTEXT, Assessment, Message

BALANCED = Policy((Rule(DEFAULT, "balanced"),))


@dataclass(frozen=True, slots=True)
class Change:
    """A flag that went up, which asks a person to look, or came down; of a shadow, one that would have.

    Attributes
    ----------
    assessment : Assessment
        Of all messages so far.
    is_up : bool
    rule : str
        Name of the rule of the policy.
    is_shadow : bool
        Then nobody is to be asked for anything.
    """

    assessment: Assessment
    is_up: bool
    rule: str
    is_shadow: bool = False

    def row(self) -> dict[str, Any]:
        """Return the columns of a score file, and which flag changed; `flagged` says whether it asks for a review."""
        changed = {"flagged": self.is_up and not self.is_shadow, "rule": self.rule, "shadow": self.is_shadow}
        return {**score_row(self.assessment), **changed, "is_up": self.is_up}


class _Look(NamedTuple):
    """One thing that is decided about a thread: its flag, or what a shadow says."""

    name: str
    model: Model
    rules: tuple[Rule, ...]
    is_shadow: bool


class _Kept(msgspec.Struct, array_like=True):
    """What is kept of a thread: its state for each model, by digest, and its flags, by look."""

    context: dict[str, str] = {}
    states: dict[bytes, bytes] = {}
    flags: dict[str, FlagState] = {}


@dataclass(slots=True)
class Watched:
    """A thread in memory: what is known of it, its states by the id of their model, its flags by look."""

    context: dict[str, str]
    states: dict[int, ThreadState]
    flags: dict[str, FlagState]

    def frozen(self) -> bytes:
        """Return what `Decider.thaw` makes it of again."""
        states = {state.model.scoring_digest: state.to_bytes() for state in self.states.values()}
        return msgspec.msgpack.encode(_Kept(self.context, states, self.flags))


_decoder = msgspec.msgpack.Decoder(_Kept)


class Decider:
    """Decides which flags of threads go up and come down; it keeps nothing of any thread.

    Parameters
    ----------
    model : Model
    policy : Policy
    shadow_models : mapping of str to Model, optional
        The models that shadows of the policy name.

    Attributes
    ----------
    n_damaged : int
        States that could not be read; their threads were begun anew.

    Raises
    ------
    PolicyError
        If the policy names an operating point that its model has not.
    """

    def __init__(self, model: Model, policy: Policy, shadow_models: Mapping[str, Model] | None = None) -> None:
        models = shadow_models or {}
        shadows = [
            _Look(f"shadow {shadow.rule.name}", models[shadow.model] if shadow.model else model, (shadow.rule,), True)
            for shadow in policy.shadows
        ]
        self.n_damaged = 0
        self._looks = [_Look("", model, policy.rules, False), *shadows]
        self._models = list({id(look.model): look.model for look in self._looks}.values())
        self._points = {
            rule.name: point_of(rule, look.model.operating_points) for look in self._looks for rule in look.rules
        }

    def add(
        self, thread: Watched, message: Message, now: float, context: Mapping[str, str] | None = None
    ) -> list[Change]:
        """Add a message to a thread; return the flags that changed.

        Parameters
        ----------
        thread : Watched
        message : Message
        now : float
            Seconds since 1970.
        context : mapping of str to str, optional
            Of `records.CONTEXT` what is known; it stays known for later messages.
        """
        thread.context |= {name: encodable(context[name]) for name in CONTEXT if context and name in context}
        changes = []
        answers = {key: state.add(message) for key, state in thread.states.items()}
        for look in self._looks:
            before = thread.flags.get(look.name, FlagState())
            rule = next((rule for rule in look.rules if rule.holds(thread.context)), None)
            if rule is None:
                continue
            answer, point = answers[id(look.model)], self._points[rule.name]
            after = rule.look(before, answer.probability, point.threshold, answer.n_messages, now)
            thread.flags[look.name] = after
            if after.is_up != before.is_up:
                answer = replace(
                    answer,
                    flagged=answer.probability is not None and answer.probability >= point.threshold,
                    threshold=point.threshold,
                    operating_point=point.name,
                )
                changes.append(Change(answer, after.is_up, rule.name, look.is_shadow))
        return changes

    def thaw(self, thread_id: str, state: bytes | None) -> Watched:
        """Return a thread from what `Watched.frozen` made of it; what cannot be read is begun anew."""
        kept = _Kept()
        if state is not None:
            try:
                kept = _decoder.decode(state)
            except msgspec.MsgspecError:
                self.n_damaged += 1
        states = {}
        for model in self._models:
            found = kept.states.get(model.scoring_digest)
            try:
                states[id(model)] = model.resume(found, at=1.0) if found else model.watch(thread_id, at=1.0)
            except DataError:
                self.n_damaged += 1
                states[id(model)] = model.watch(thread_id, at=1.0)
        names = {look.name for look in self._looks}
        flags = {name: flag for name, flag in kept.flags.items() if name in names}
        return Watched(kept.context, states, flags)
