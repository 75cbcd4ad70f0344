"""Which columns hold texts, and which labels."""

from datasets import Dataset

from hf_distill.data.sequences import text_columns


def test_columns_called_label_or_labels_hold_no_texts():
    rows = Dataset.from_dict({"labels": ["noun"], "message": ["a film"], "label": ["noun"], "reply": ["a plot"]})
    assert text_columns(rows.features) == ["message", "reply"]
    assert text_columns(rows.select_columns(["labels", "message"]).features) == ["message"]
