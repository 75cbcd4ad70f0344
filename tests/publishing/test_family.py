"""The table of a family, and its place in a card."""

import pytest

from hf_distill.publishing.family import family_table, publish_family, with_family
from hf_distill.publishing.run_record import RunRecord
from tests.hub.students import CARD, make_student


def record(parameters, layers, metrics=None, evaluation=None):
    student = {"parameters": parameters, "num_hidden_layers": layers, "hidden_size": 128, "name": "whatever"}
    return RunRecord("T", student, None, [], {}, {}, {}, metrics=metrics or {}, evaluation=evaluation)


TIMES = {"format": "fp32", "batch_size": 1, "sequence_length": 32}
MEASURED = {
    "metric": "f1",
    "data": {"split": "validation"},
    "this": 1,
    "rows": [
        {"metrics": {"f1": 0.9}, "latency": [TIMES | {"median_ms": 9.0}]},
        {"metrics": {"f1": 0.5}, "latency": [TIMES | {"median_ms": 1.25}]},
    ],
}


@pytest.fixture
def records():
    return {
        "alice/mini": record(11_171_074, 4, {"test_accuracy": 0.8289, "eval_accuracy": 0.8, "test_runtime": 3.0}),
        "alice/tiny": record(4_386_178, 2, {"test_f1": 0.4}, MEASURED),
    }


def test_the_smallest_comes_first_with_what_was_measured(records):
    assert family_table(records).splitlines() == [
        "| student | layers | hidden size | parameters | f1 (validation) | latency (ms) | accuracy (test) |",
        "| --- | --: | --: | --: | --: | --: | --: |",
        "| [tiny](https://huggingface.co/alice/tiny) | 2 | 128 | 4,386,178 | 0.5 | 1.25 |  |",
        "| [mini](https://huggingface.co/alice/mini) | 4 | 128 | 11,171,074 |  |  | 0.8289 |",
    ]


def test_names_in_records_end_no_cell(records):
    records["alice/tiny"].evaluation = MEASURED | {"data": {"split": "a|<img src=x>"}}
    head, rule, *rows = family_table(records).splitlines()
    assert r"a\|&lt;img src=x&gt;" in head
    assert {line.count("|") - line.count(r"\|") for line in (head, rule, *rows)} == {8}


def test_nothing_measured_no_column(records):
    for each in records.values():
        each.metrics, each.evaluation = {}, None
    assert family_table(records).splitlines()[0] == "| student | layers | hidden size | parameters |"


def test_a_card_shows_its_own_row_and_links_to_the_others(records):
    table = family_table(records, "alice/tiny", "http://hub")
    assert "| **tiny** (this model) | 2" in table and "[mini](http://hub/alice/mini)" in table


def test_the_section_stands_before_the_limitations_and_is_replaced():
    card = CARD.format(name="tiny", layers=2)
    once = with_family(card, "Reviewers", "| old |")
    assert once.index("A student of 2 layers.") < once.index("## The family: Reviewers") < once.index("## Limitations")
    assert once.startswith("---\nlibrary_name") and once.endswith("It is tiny.\n")
    twice = with_family(once, "Reviewers", "| new |")
    assert "| old |" not in twice and with_family(twice, "Reviewers", "| old |") == once


def test_a_card_without_limitations_ends_with_the_family():
    card = with_family("# A card", "Reviewers", "| a |")
    assert card.startswith("# A card\n\n<!-- family -->\n## The family: Reviewers\n\n| a |\n")


def test_a_family_has_members_of_different_names(tmp_path):
    one, other = make_student(tmp_path / "a" / "tiny"), make_student(tmp_path / "b" / "tiny")
    for folders in ([], [one], [one, other], [one, one]):
        with pytest.raises(ValueError, match="at least two students, in folders of different names, got"):
            publish_family(folders, "Reviewers", "alice", dry_run=True)
    mini = make_student(tmp_path / "mini")
    with pytest.raises(ValueError, match="must have a title, got ' '"):
        publish_family([one, mini], " ", "alice", dry_run=True)


def test_the_package_offers_both_ways_to_publish():
    import hf_distill.publishing

    assert hf_distill.publishing.publish_family is publish_family
    assert hf_distill.publishing.publish.__module__ == "hf_distill.publishing.hub"
    with pytest.raises(AttributeError, match="has no attribute 'publsh'"):
        _ = hf_distill.publishing.publsh
