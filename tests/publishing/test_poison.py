"""Nothing in a record is live in its card, whatever is written in it."""

from __future__ import annotations

import copy

import pytest

from hf_distill.evaluation.plots import report_plot
from hf_distill.publishing.family import family_table, with_family
from hf_distill.publishing.run_record import RunRecord
from tests.publishing.poison import HEADINGS, WHOLE, card_of, hostile_strings, live_parts, poisoned_records


def test_the_whole_record_makes_a_card_with_every_section(tmp_path):
    card = card_of(WHOLE, tmp_path)
    assert live_parts(card) == []
    assert [heading for heading in HEADINGS if f"# {heading}\n" not in card] == []


def test_nothing_of_200_poisoned_records_is_live(tmp_path):
    cards = [card_of(content, tmp_path) for content in poisoned_records(200)]
    shown = [card for card in cards if card is not None]
    assert len(shown) > 140
    assert [live for card in shown for live in live_parts(card)] == []


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x>", "a <b>b</b>", "[a](javascript:b)", "![x](http://evil/x.png)", "https://evil.test", "a@evil.test",
        "\x1b[31m", "# Owned", "| a | b |\n|---|---|\n| 1 | 2 | 3 |", "www.evil.test", "<https://evil.test>",
    ],
)  # fmt: skip
def test_what_is_live_would_be_found(text):
    assert live_parts(f"---\nlicense: mit\n---\n\n# A title\n\n{text}\n")


def test_no_name_in_a_family_s_table_is_live():
    records = {}
    for index, evil in enumerate(hostile_strings(60)):
        content = copy.deepcopy(WHOLE)
        content["evaluation"]["metric"] = evil
        for row in content["evaluation"]["rows"]:
            row["metrics"] = {evil: 0.5}
        content["evaluation"]["data"]["split"] = evil
        records[f"alice/s{index}"] = RunRecord(**content)
        table = family_table(records, "alice/s0")
        card = with_family("---\nlicense: mit\n---\n\n# A title\n", "Family", table)
        found = live_parts(card.replace("<!-- family -->\n", "").replace("<!-- end of the family -->\n", ""))
        assert found == ["the heading 'The family: Family'"]
        records = dict(list(records.items())[-1:])


@pytest.mark.parametrize(
    "rows", [{"name": "n" * 30_000}, {"name": "a $x^{ formula"}, {"parameters": 0}, {"metrics": {"m": float("nan")}}]
)
def test_a_plot_of_odd_rows_is_drawn(rows, tmp_path):
    row = {"name": "x", "role": "other", "parameters": 10**6, "metrics": {"m": 0.5}}
    evaluation = {"task": "t", "metric": "m", "data": {"name": "$d" * 500, "split": "s", "examples": 1}}
    assert report_plot(evaluation | {"rows": [row, row | rows]}, tmp_path / "plot.png").stat().st_size > 5_000
