"""Questions about real text without an annotator: names and numbers of newspaper editorials, asked for by their sentence.

The text is that of 498 editorials of the New York Times (the ICWSM-2014 sets). Three sentences in a row are a context. In
each sentence the first name or number that occurs nowhere else in the context is an answer; its question is the sentence
itself, "what" in the answer's place, cut to eight words on either side. Which split a question is in is decided by its
editorial. The recipe is that of cloze translation without the translation (Lewis et al. 2019, arXiv 1906.04980).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hf_distill.resources.sentiment import load_editorials

SENTENCES = 3  # of a context
WORDS = 8  # of a question on either side of the gap
_NAME = r"(?:(?:Mr|Mrs|Ms|Dr|Gov|Sen)\. )?[A-Z][\w'-]*[a-z](?: (?:of |the )?[A-Z][\w'-]*[a-z])*"
_NUMBER = r"\$?\d[\d,]*(?:\.\d+)?(?: (?:million|billion|percent|years|days|months))?"
_ANSWER = re.compile(rf"(?<=[a-z,] )(?:{_NAME}|{_NUMBER})(?=[ ,.;:'?])")


def cloze_questions() -> dict[str, list[dict]]:
    """Rows as SQuAD 1.1 has them (id, context, question, answers) of the splits train, validation and test."""
    splits: dict[str, list[dict]] = {"train": [], "validation": [], "test": []}
    for number, sentences in enumerate(load_editorials()):
        split = {0: "test", 1: "validation"}.get(number % 5, "train")
        splits[split] += _of_editorial(number, sentences)
    return splits


def _of_editorial(number: int, sentences: list[str]) -> Iterator[dict]:
    for first in range(0, len(sentences) - SENTENCES + 1, SENTENCES):
        group = sentences[first : first + SENTENCES]
        context = " ".join(group)
        for position, sentence in enumerate(group):
            found = [match for match in _ANSWER.finditer(sentence) if context.count(match[0]) == 1]
            if found:
                yield {
                    "id": f"{number}-{first + position}",
                    "title": f"editorial {number}",
                    "context": context,
                    "question": _with_gap(sentence, found[0]),
                    "answers": {"text": [found[0][0]], "answer_start": [context.index(found[0][0])]},
                }


def _with_gap(sentence: str, answer: re.Match) -> str:
    before, after = sentence[: answer.start()].split(), sentence[answer.end() :].rstrip(" .!?").split()
    glued = "" if sentence[answer.end() : answer.end() + 1] == " " else after.pop(0) if after else ""
    return " ".join([*before[-WORDS:], f"what{glued}", *after[:WORDS]]) + "?"
