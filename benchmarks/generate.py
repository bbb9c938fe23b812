"""Chat-like threads without meaning, the same for the same seed: input for the benchmarks, never for training.

Word frequencies follow Zipf's law over some 300 common English chat words and 30,000 invented ones; message and
thread lengths are log-normal. The figures below were set so that a message has about 7 words and 38 bytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

COMMON = """
i you the to a and it is that of in me my u so for on have just be not was are we do what like but with no this your
im lol yeah at all know up how good its get if oh out ok can one go they dont now really think he or there about got
when see as time well she then too day here some want haha going had from an them would did will hi were thats na him
why by more back love who her been right has yes make also still very much only home his work off where today over
gonna hey need people because way because could something said say then us tell down am thing game cool later our nice
today night than school last sure things always take never ever come feel other thanks before two should wait first
play guess after again into even thought maybe people any long little sorry great better tomorrow pretty didnt doing
cant may these whats their made next look those week talk sleep went morning must friend friends first every music
watch song year best phone movie wanna old new bed left big done saw remember though around keep few place house car
pic mean anything nothing late another bit dinner lunch eat food started hours live class hope yet hard fun being
weekend brother sister mom dad dog cat weather rain snow cold hot team test math homework bus train walk tired bored
busy ready show episode read book chapter story write update server level quest map player online laptop screen video
channel coffee pizza cake tea soup guitar band concert ticket trip beach garden bike match goal coach practice win
lost score funny weird crazy awesome wow yep nope okay bye hello please welcome cheers congrats happy birthday party
"""
N_INVENTED = 30_000
ONSETS = "b bl br d dr f fl gr m pl pr r st t tr v w"
VOWELS = "a e i o u ai ee oa ou"
CODAS = ("", "", "n", "r", "l", "m")

WORDS_PER_MESSAGE = (1.64, 0.75)  # of the logarithm: mean, standard deviation
MESSAGES_PER_THREAD = (3.69, 1.0)
LONGEST_THREAD = 2_000
SHARE_OF_GROUPS = 0.12

ACCENTS = str.maketrans("aeioun", "áéîöüñ")
EMOJI = ("😂", "🙂", "❤️", "👍", "🎉", "😅", "🌧️", "👨‍👩‍👧")
ENDINGS = (".", "?", "!", "...", "!!", " :)", "?!")


def vocabulary(rng: random.Random) -> list[str]:
    """Return the words, most frequent first: the common ones, then invented ones of growing length."""
    onsets, vowels = ONSETS.split(), VOWELS.split()
    common = dict.fromkeys(COMMON.split())
    invented: dict[str, None] = {}
    while len(invented) < N_INVENTED:
        syllables = rng.choice((2, 2, 3))
        word = "".join(rng.choice(onsets) + rng.choice(vowels) + rng.choice(CODAS) for _ in range(syllables))
        if word not in common:
            invented[word] = None
    return [*common, *sorted(invented, key=len)]


def threads(n_messages: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield threads in the JSONL format, `n_messages` in all; a larger number begins with the same threads."""
    rng = random.Random(seed)
    words = vocabulary(rng)
    weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(words))))
    left = n_messages
    for number in itertools.count():
        if left <= 0:
            return
        length = min(max(1, round(rng.lognormvariate(*MESSAGES_PER_THREAD))), LONGEST_THREAD)
        messages = list(_thread(rng, words, weights, length))
        yield {"thread_id": f"t{number}", "messages": messages[:left]}
        left -= length


def _thread(rng: random.Random, words: list[str], weights: list[float], length: int) -> Iterator[dict[str, Any]]:
    n_authors = rng.randint(3, 8) if rng.random() < SHARE_OF_GROUPS else 2
    author = 0
    sent_at = 1_700_000_000 + rng.randrange(10_000_000)
    for number in range(length):
        if rng.random() < 0.7:
            author = (author + rng.randrange(1, n_authors)) % n_authors
        sent_at += 1 + round(rng.expovariate(1 / 40)) + (rng.randrange(3_600, 90_000) if rng.random() < 0.02 else 0)
        n_words = max(1, round(rng.lognormvariate(*WORDS_PER_MESSAGE)))
        text = _dress(rng, rng.choices(words, cum_weights=weights, k=n_words))
        yield {"author": f"a{author}", "sent_at": sent_at, "text": text, "message_id": f"m{number}"}


def _dress(rng: random.Random, words: list[str]) -> str:
    """Join words the way people type: capitals, punctuation, digits, URLs, long vowels, accents, emoji."""

    def sometimes(probability: float, change: Callable[[str], str]) -> None:
        if rng.random() < probability:
            place = rng.randrange(len(words))
            words[place] = change(words[place])

    sometimes(0.03, lambda word: word + word[-1] * rng.randint(2, 6))
    sometimes(0.02, lambda word: word.translate(ACCENTS))
    sometimes(0.06, lambda word: word + ",")
    sometimes(0.04, lambda word: str(rng.randrange(1_000)))
    sometimes(0.01, lambda word: f"https://{word}.example/{rng.randrange(100_000)}")
    text = " ".join(words)
    if rng.random() < 0.25:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.01:
        text = text.upper()
    if rng.random() < 0.4:
        text += rng.choice(ENDINGS)
    if rng.random() < 0.03:
        text += " " + rng.choice(EMOJI)
    return text


def write(path: Path, n_messages: int, seed: int) -> None:
    """Write threads to a JSONL file, one a line."""
    with path.open("w", encoding="utf-8") as file:
        for thread in threads(n_messages, seed):
            file.write(json.dumps(thread, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write chat-like threads without meaning, one a line.")
    parser.add_argument("n_messages", type=int, metavar="N_MESSAGES")
    parser.add_argument("out", type=Path, metavar="OUT.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.out, arguments.n_messages, arguments.seed)


if __name__ == "__main__":
    main()
