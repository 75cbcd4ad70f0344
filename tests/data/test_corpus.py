"""Texts are packed without loss inside a batch, and kept apart from evaluation sets whatever their spelling."""

import datasets
import pytest
from datasets import Dataset

from hf_distill.data.class_names import ClassIds
from hf_distill.data.corpus import column_of_texts, normalized, packed, without_texts_of
from tests.tiny_models import tiny_tokenizer

TEXTS = ["w5 w6 w7", "", "w8 w9", "   ", "w20 w21 w22 w23"]


@pytest.mark.parametrize("streamed", [False, True])
def test_all_tokens_in_a_row_are_cut_into_equal_parts(streamed):
    texts = Dataset.from_dict({"id": range(5), "text": TEXTS})
    rows = list(packed(texts.to_iterable_dataset() if streamed else texts, tiny_tokenizer(), 4))
    assert [row["input_ids"] for row in rows] == [[5, 6, 7, 8], [9, 20, 21, 22]]
    assert set(rows[0]) == {"input_ids"}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"id": ["T-0"], "text": ["a film"]}, "text"),
        ({"ticket_id": [1], "message": ["a film"]}, "message"),
        ({"label": ["noun"], "labels": ["noun"], "message": ["a film"]}, "message"),
        ({"text": [1], "message": ["a film"]}, "message"),
    ],
)
def test_texts_are_read_from_text_else_from_the_first_strings(columns, expected, streamed):
    rows = Dataset.from_dict(columns)
    listed = rows.to_list()
    assert column_of_texts(datasets.IterableDataset.from_generator(lambda: listed) if streamed else rows) == expected


def test_class_names_are_no_texts_and_what_is_no_column_of_strings_is_refused():
    rows = Dataset.from_dict({"queue": ["noun", "verb"], "number": [1, 2], "message": ["a", "b"]})
    assert column_of_texts(rows) == "queue" and column_of_texts(rows, "message") == "message"
    assert column_of_texts(rows, ids=ClassIds.of(["noun", "verb"])) == "message"
    for wrong in ("number", "mesage"):
        with pytest.raises(ValueError, match=rf"text_column_name is '{wrong}', the columns are \['queue', 'number'"):
            column_of_texts(rows, wrong)
    with pytest.raises(ValueError, match=r"the first of strings, got the columns \['number'\]"):
        column_of_texts(rows.select_columns(["number"]))


def test_evaluation_texts_are_dropped_and_counted():
    texts = Dataset.from_dict({"text": ["A fine film.", "dull", "a  FINE film. ", "Dull?"]})
    kept, dropped = without_texts_of(texts, iter(["a fine film.", "unseen"]))
    assert (kept["text"][:], dropped) == (["dull", "Dull?"], 2)
    assert without_texts_of(texts, []) == (texts, 0)


def spellings():
    """Words in any case, around and between which is any white space, and letters whose lower case Python has its own rules for."""
    words = [
        "A fine film",
        "a",
        "",
        " ",
        "ΟΔΟΣ ΣΑΣ",
        "οδοσ σας",
        "İ i̇ I ı",
        "\u212a k",
        "STRASSE straße",
        "Å \u212b",
        "中文 文",
    ]
    spaces = [chr(code) for code in range(0x3001) if chr(code).isspace()] + ["  ", " \t ", "\x1f", "\x01", "\u200b"]
    changed = [change(word) for word in words for change in (str, str.upper, str.lower, str.title)]
    return (
        changed
        + [text.replace(" ", space) for text in changed for space in spaces]
        + [edge + text + edge for text in changed[:12] for edge in spaces]
    )


ORDERS = {
    "stored": lambda rows: rows,
    "shuffled": lambda rows: rows.shuffle(seed=1),
    "repeated": lambda rows: rows.select([*range(300), 5, 5]),
    "few": lambda rows: rows.select([900, 3, 500]),
    "concatenated": lambda rows: datasets.concatenate_datasets([rows, rows.select(range(9))]),
    "formatted": lambda rows: rows.with_format("torch"),
    "transformed": lambda rows: rows.with_transform(lambda batch: {"text": [text + " x" for text in batch["text"]]}),
    "slices that were cast": lambda rows: datasets.concatenate_datasets(
        [rows.select(range(700, 900)), rows.select(range(500))]
    ).cast_column("text", datasets.Value("large_string")),
    "large strings": lambda rows: rows.cast_column("text", datasets.Value("large_string")),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_what_is_dropped_is_what_is_equal_once_normalized(order):
    texts = spellings()
    evaluation = [*texts[::7], *(text + " X" for text in texts[::11])]
    rows = order(Dataset.from_dict({"text": texts, "row": range(len(texts))}))
    known = {normalized(text) for text in evaluation}
    given = [str(text) for text in rows["text"][:]]
    expected = [number for number, text in enumerate(given) if normalized(text) not in known]
    kept, dropped = without_texts_of(rows, evaluation)
    assert dropped == len(rows) - len(expected) > 0
    assert kept.with_format(None)["row"][:] == rows.with_format(None).select(expected)["row"][:]
    assert list(map(str, kept["text"][:])) == [given[number] for number in expected]


def test_rows_are_not_read_one_by_one(monkeypatch):
    def row_by_row(dataset):
        raise AssertionError("rows were read one by one")

    rows = Dataset.from_dict({"text": [f"Text {row}" for row in range(100)]}).shuffle(seed=1)
    monkeypatch.setattr(Dataset, "__iter__", row_by_row)
    assert without_texts_of(rows, ["text 7", "text  8"])[1] == 2
