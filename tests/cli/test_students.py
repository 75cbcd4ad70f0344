"""`hf-distill students` prints the miniatures."""

import json

from typer.testing import CliRunner

from hf_distill.cli import main, students
from hf_distill.students.miniatures import MINIATURES


def test_table_names_every_size():
    result = CliRunner().invoke(main.app, ["students"], terminal_width=200, env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for miniature in MINIATURES.values():
        line = next(line for line in result.output.splitlines() if miniature.hub_id in line)
        assert f"{miniature.parameters:,}" in line and f"{miniature.tpu_speed_up:.2f}" in line


def test_json_counts_operations():
    rows = {row["shape"]: row for row in json.loads(CliRunner().invoke(main.app, ["students", "--json"]).output)}
    assert rows.keys() == MINIATURES.keys() and rows["4/512"]["name"] == "small"
    # 12 layers of 768: 85 million weights used once per token, and 2 x 128 positions attended to in both products.
    assert rows["12/768"]["flops_per_token"] == 2 * 12 * (12 * 768 * 768 + 2 * 128 * 768)
    assert "latency_ms" not in rows["2/128"]


def test_measured_latency_is_added(monkeypatch):
    monkeypatch.setattr(students, "_measured_latency", lambda length: dict.fromkeys(MINIATURES, length / 8))
    arguments = ["students", "--measure", "--length", "16"]
    rows = json.loads(CliRunner().invoke(main.app, [*arguments, "--json"]).output)
    assert {row["latency_ms"] for row in rows} == {2.0}
    assert "latency ms" in CliRunner().invoke(main.app, arguments, env={"COLUMNS": "200"}).output


def test_a_length_no_bert_has_is_a_usage_error():
    result = CliRunner().invoke(main.app, ["students", "--length", "600"])
    assert result.exit_code == 2 and "512" in result.output
