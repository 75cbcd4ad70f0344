"""PEFT: adapters learn, teach, or do both on one base."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForSequenceClassification, TrainerCallback

from hf_distill import AdapterTeacher, DistillationTrainer
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer

peft = pytest.importorskip("peft")

INSIDE = dict(recipe="tinybert_task", relation_weight=1.0)


def with_adapter(model, seed=0, name="default"):
    torch.manual_seed(seed)
    targets = dict(target_modules=["query", "value"], modules_to_save=["classifier"], task_type="SEQ_CLS")
    config = peft.LoraConfig(r=4, init_lora_weights=False, **targets)
    if isinstance(model, peft.PeftModel):
        model.add_adapter(name, config)
        return model
    return peft.get_peft_model(model, config, adapter_name=name)


def wide_teacher():
    return tiny_bert(hidden_size=32, layers=2, seed=1)


def make_trainer(arguments, student, teacher, dataset=None, callbacks=None, **overrides):
    return DistillationTrainer(
        student,
        arguments(**(dict(max_steps=8, save_steps=4, save_strategy="steps") | overrides)),
        train_dataset=encoded_sentences(29) if dataset is None else dataset,
        processing_class=tiny_tokenizer(),
        teacher_model=teacher,
        callbacks=callbacks,
    )


def logits(model):
    rows = encoded_sentences(11).remove_columns("labels").to_list()
    with torch.no_grad():
        return model.eval()(**tiny_tokenizer().pad(rows, return_tensors="pt")).logits


@pytest.mark.parametrize("objective", [{}, INSIDE], ids=["logits", "inside"])
def test_only_the_adapters_of_a_student_learn_and_are_saved(arguments, tmp_path, objective):
    student = with_adapter(tiny_bert())
    frozen = {name: weight.clone() for name, weight in student.named_parameters() if not weight.requires_grad}
    whole = make_trainer(arguments, student, wide_teacher(), **objective)
    whole.train()
    assert frozen and all(
        torch.equal(dict(student.named_parameters())[name], weight) for name, weight in frozen.items()
    )
    whole.save_model(str(tmp_path / "saved"))
    files = {path.name for path in (tmp_path / "saved").iterdir()}
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    reloaded = peft.PeftModel.from_pretrained(tiny_bert(), tmp_path / "saved")
    torch.testing.assert_close(logits(reloaded), logits(student))

    again = make_trainer(arguments, with_adapter(tiny_bert()), wide_teacher(), **objective)
    again.train(resume_from_checkpoint=str(tmp_path / "output" / "checkpoint-4"))
    assert torch.equal(parameters_of(again.model), parameters_of(student))


def test_a_student_is_merged_on_request(arguments, tmp_path):
    student = with_adapter(tiny_bert())
    trainer = make_trainer(arguments, student, wide_teacher(), merge_adapters=True)
    trainer.train()
    assert (tmp_path / "output" / "checkpoint-8" / "adapter_model.safetensors").exists()
    trainer.save_model()
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "output")
    torch.testing.assert_close(logits(merged), logits(student), rtol=1e-5, atol=1e-6)
    shutil.rmtree(tmp_path / "output")
    trainer.save_model(_internal_call=True)  # as before a push to the Hub
    assert (tmp_path / "output" / "model.safetensors").exists()
    assert isinstance(trainer.model, peft.PeftModel) and not (tmp_path / "output" / "adapter_config.json").exists()
    assert (tmp_path / "output" / "tokenizer.json").exists()


@pytest.mark.parametrize("objective", [{}, INSIDE], ids=["logits", "inside"])
def test_a_teacher_with_adapters_teaches_as_the_merged_one_does(arguments, objective, tmp_path):
    runs = {}
    rows = encoded_sentences(29).map(lambda row: {"token_type_ids": [1] * len(row["input_ids"])})
    for name in ("adapted", "merged"):
        teacher = with_adapter(wide_teacher())
        teacher = teacher.merge_and_unload() if name == "merged" else teacher
        runs[name] = make_trainer(arguments, tiny_bert(), teacher, rows, save_strategy="no", **objective)
        runs[name].train()
    losses = {name: [entry["loss"] for entry in run.state.log_history if "loss" in entry] for name, run in runs.items()}
    assert losses["adapted"] == pytest.approx(losses["merged"], rel=1e-5)
    teacher = json.loads((tmp_path / "output" / "run.json").read_text())["teacher"]
    assert teacher["hidden_size"] == 32


class Watch(TrainerCallback):
    """Mode, adapter and trainable adapters of the student after every step."""

    def __init__(self):
        self.seen = set()

    def on_step_end(self, args, state, control, model=None, **kwargs):
        learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
        self.seen.add(
            (model.training, model.active_adapter, all(".student." in name for name in learning), len(learning))
        )


def test_teacher_and_student_are_two_adapters_of_one_base(arguments):
    def shared():
        model = with_adapter(tiny_bert(dropout=0.3), seed=1, name="teacher")
        model = with_adapter(model, seed=2, name="student")
        model.set_adapter("student")
        return model

    student, watch = shared(), Watch()
    teachers = {name: weight.clone() for name, weight in student.named_parameters() if ".teacher." in name}
    together = make_trainer(
        arguments, student, AdapterTeacher(student, "teacher"), callbacks=[watch], save_strategy="no"
    )
    together.train()
    assert watch.seen == {(True, "student", True, 6)}  # two matrices each for queries and values, and the head
    assert teachers and all(torch.equal(dict(student.named_parameters())[name], old) for name, old in teachers.items())

    # A teacher of its own teaches the same, and the student's dropout is the same too.
    teacher = shared()
    teacher.set_adapter("teacher")
    apart = make_trainer(arguments, shared(), teacher, save_strategy="no")
    apart.train()
    ours, theirs = ([entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (together, apart))
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_an_adapter_teacher_is_another_adapter():
    model = with_adapter(tiny_bert(), name="student")
    with pytest.raises(ValueError, match=r"other than the active one, \[\]; got 'student'"):
        AdapterTeacher(model, "student")
    with pytest.raises(ValueError, match="got 'teacher'"):
        AdapterTeacher(tiny_bert(), "teacher")


def test_an_adapter_teacher_gives_no_features(arguments):
    model = with_adapter(with_adapter(tiny_bert(), name="teacher"), name="student")
    model.set_adapter("student")
    with pytest.raises(ValueError, match=r"two live transformers models; the student .* a AdapterTeacher"):
        make_trainer(arguments, model, AdapterTeacher(model, "teacher"), **INSIDE)
