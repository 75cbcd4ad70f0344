"""Examples are counted, and labeled ones where not all have a label."""

from __future__ import annotations

import datasets

from hf_distill.scripts.reporting import sample_counts


def test_labeled_examples_are_counted_where_it_is_not_all():
    def counts(**columns):
        return sample_counts(datasets.Dataset.from_dict(columns))

    assert counts(labels=[0, -100, 2]) == {"samples": 3, "labeled_samples": 2}
    assert counts(labels=[[0, -100], [-100, -100]]) == {"samples": 2, "labeled_samples": 1}
    assert counts(labels=[0, 1]) == counts(labels=[-100.0, 1.5]) == counts(input_ids=[1, 2]) == {"samples": 2}
    rows = datasets.Dataset.from_dict({"label": [0, None, -1]})
    rows = rows.cast_column("label", datasets.ClassLabel(names=["a", "b"])).with_transform(dict)
    assert sample_counts(rows) == {"samples": 3, "labeled_samples": 1}
    assert sample_counts(rows.with_format(None).to_iterable_dataset()) == {}
