"""Exports that are published are those of the student's weights, as they were compared with it."""

from __future__ import annotations

import json

import pytest

from hf_distill.fingerprints import file_sha256
from hf_distill.publishing.hub import plan_publication
from hf_distill.publishing.model_card import write_model_card
from tests.publishing.test_run_record import record
from tests.tiny_models import tiny_bert


@pytest.fixture
def folders(tmp_path):
    """A student, and what an export of it leaves."""
    student, exports = tmp_path / "student", tmp_path / "exports"
    tiny_bert().save_pretrained(student)
    record().save(student)
    write_model_card(student)
    exports.mkdir()
    (exports / "model_quantized.onnx").write_bytes(b"\x08\x07 a graph")
    write_report(exports, student)
    return student, exports


def write_report(exports, student, **changes):
    rows = [
        {"format": "fp32", "file": None},
        {
            "format": "onnx-int8",
            "file": "model_quantized.onnx",
            "sha256": file_sha256(exports / "model_quantized.onnx"),
        },
    ]
    report = {"rows": rows, "student_files": {"model.safetensors": file_sha256(student / "model.safetensors")}}
    (exports / "export.json").write_text(json.dumps(report | changes))


def test_they_lie_beside_the_weights_where_the_hub_looks_for_them(folders):
    student, exports = folders
    alone = {file.name for file in plan_publication(student, "alice/student").files}
    both = {file.name: file for file in plan_publication(student, "alice/student", exports=exports).files}
    assert both.keys() - alone == {"onnx/model_quantized.onnx"} and "model.safetensors" in alone
    assert both["onnx/model_quantized.onnx"].read() == b"\x08\x07 a graph"


def test_an_export_of_other_weights_is_refused(folders):
    student, exports = folders
    tiny_bert(seed=1).save_pretrained(student)
    with pytest.raises(ValueError, match=r"of other weights than those that are published, model\.safetensors"):
        plan_publication(student, "alice/student", exports=exports)


def test_a_file_that_was_changed_or_is_missing_is_refused(folders):
    student, exports = folders
    (exports / "model_quantized.onnx").write_bytes(b"\x08\x07 another graph")
    with pytest.raises(ValueError, match=r"model_quantized\.onnx .* is not what was compared"):
        plan_publication(student, "alice/student", exports=exports)
    (exports / "model_quantized.onnx").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks model_quantized\.onnx"):
        plan_publication(student, "alice/student", exports=exports)
    (exports / "export.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no export\.json"):
        plan_publication(student, "alice/student", exports=exports)


@pytest.mark.parametrize("name", ["../student/model.safetensors", "export.json"])
def test_a_report_names_onnx_files_of_its_own_folder(name, folders):
    student, exports = folders
    write_report(exports, student, rows=[{"format": "onnx", "file": name}])
    with pytest.raises(ValueError, match=r"must name|named without folders"):
        plan_publication(student, "alice/student", exports=exports)
