"""The ICWSM-2014 sentiment sets of Hutto and Gilbert: four domains of short texts, each rated by 20 people.

Sentences of movie reviews (Rotten Tomatoes), of Amazon product reviews and of New York Times editorials, and tweets;
ratings from -4 to 4. MIT license. Source: Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for
Sentiment Analysis of Social Media Text", ICWSM; shipped in the source archive of vaderSentiment 0.5.
"""

from __future__ import annotations

import html
import io
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets

from hf_distill.data.corpus import normalized
from hf_distill.resources.pypi import fetch
from hf_distill.resources.splits import SPLITS, split_of

LABELS = ("negative", "positive")
DOMAINS = {
    "movie_reviews": "movieReviewSnippets",
    "amazon_reviews": "amazonReviewSnippets",
    "nyt_editorials": "nytEditorialSnippets",
    "tweets": "tweets",
}

_REQUIREMENT = "vaderSentiment==0.5"
_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
_NEUTRAL = 0.5
_ORDER = 0  # the seed with which rows are shuffled
_DESCRIPTION = (
    "ICWSM-2014 sentiment sets of Hutto and Gilbert, {domain}: short English texts, each rated by 20 people paid for it; "
    "labels are the sign of the mean rating where it is beyond ±0.5, so that no neutral text is among them. No text is in two "
    "splits. The raters' and the sources' views of what is good or bad are in the labels, irony is often misread, and names of "
    "people, places and products may carry sentiment."
)
_CITATION = (
    "Hutto and Gilbert 2014, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text, ICWSM"
)
_FEATURES = datasets.Features(
    {
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=list(LABELS)),
        "rating": datasets.Value("float32"),
    }
)


def load_sentiment(domain: str = "movie_reviews") -> datasets.DatasetDict:
    """One domain with its labels: the sign of the mean rating, for texts rated beyond ±0.5.

    The split of a text is determined by a hash of the normalized text (lower case, single spaces), so that no text or
    duplicate of it is in two splits: 80 % train, 10 % validation, 10 % test. Of duplicates the first is kept. The file
    of movie reviews is nearly sorted by label, so the rows of every split are shuffled, with a fixed seed.

    Args:
        domain: A key of `DOMAINS`.

    Returns:
        Splits train, validation and test with columns text, label (0 negative, 1 positive) and rating.

    Raises:
        ValueError: There is no such domain.
        RuntimeError: The download fails, or is not the pinned file.
    """
    rows: dict[str, list[dict]] = {split: [] for split in SPLITS}
    for text, rating in _texts(domain):
        if abs(rating) > _NEUTRAL:
            rows[split_of(text)].append({"text": text, "label": int(rating > 0), "rating": rating})
    info = _info(domain, _FEATURES)
    splits = {split: datasets.Dataset.from_list(found, info=info, split=split) for split, found in rows.items()}
    return datasets.DatasetDict(splits).shuffle(seed=_ORDER)


def load_transfer_set(domains: Sequence[str] = tuple(DOMAINS)) -> datasets.Dataset:
    """Texts without labels, neutral ones included, for a teacher to label.

    Texts that belong to the validation or test split of any domain of `load_sentiment` are left out.

    Args:
        domains: Keys of `DOMAINS`.

    Returns:
        A data set with the column text; every text once, in the order of the files, which for movie reviews is nearly
        that of the ratings: shuffle it before taking a part.

    Raises:
        ValueError: There is no such domain.
        RuntimeError: The download fails, or is not the pinned file.
    """
    texts = {normalized(text): text for domain in domains for text, _ in _texts(domain) if split_of(text) == "train"}
    info = _info(", ".join(domains), datasets.Features({"text": datasets.Value("string")}))
    return datasets.Dataset.from_dict({"text": list(texts.values())}, info=info)


def load_editorials() -> list[list[str]]:
    """The New York Times editorials as whole texts.

    Returns:
        The sentences of each editorial, in their order.

    Raises:
        RuntimeError: The download fails, or is not the pinned file.
    """
    editorials: dict[str, list[str]] = {}
    for identity, _, text in _lines("nyt_editorials"):
        editorials.setdefault(identity.partition("_")[0], []).append(text)
    return list(editorials.values())


def _info(name: str, features: datasets.Features) -> datasets.DatasetInfo:
    about = {"description": _DESCRIPTION.format(domain=name.replace("_", " ")), "citation": _CITATION}
    return datasets.DatasetInfo(**about, license="mit", features=features, dataset_name=name)


def _texts(domain: str) -> Iterator[tuple[str, float]]:
    """Text and mean rating, every text once, in the file's order."""
    seen = set()
    for _, rating, text in _lines(domain):
        if text and normalized(text) not in seen:
            seen.add(normalized(text))
            yield text, float(rating)


def _lines(domain: str) -> Iterator[tuple[str, str, str]]:
    """Id, mean rating and text, in the file's order."""
    if domain not in DOMAINS:
        raise ValueError(f"domain must be one of {sorted(DOMAINS)}, got {domain!r}")
    path = fetch(_REQUIREMENT, _SHA256, _unpack) / f"{DOMAINS[domain]}_GroundTruth.txt"
    for line in path.read_text(encoding="utf-8").strip().split("\n"):
        identity, rating, text = line.split("\t", 2)
        yield identity, rating, html.unescape(text).strip()


def _unpack(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        name = next(name for name in source.namelist() if name.endswith("hutto_ICWSM_2014.tar.gz"))
        inner = io.BytesIO(source.read(name))
    with tarfile.open(fileobj=inner) as sets:
        for member in sets:
            if member.name.endswith("_GroundTruth.txt"):
                content = sets.extractfile(member)
                assert content is not None
                (folder / Path(member.name).name).write_bytes(content.read())
