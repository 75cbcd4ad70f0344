"""With plain arguments and no teacher DistillationTrainer leaves what Trainer leaves: callbacks, files, states, logs."""

import copy
import json

import pytest
import torch
from torch import nn
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments
from transformers.modeling_outputs import ModelOutput

from hf_distill import DistillationTrainer
from hf_distill.publishing.run_record import RUN_RECORD_NAME
from hf_distill.trainers.budget_trainer import CostCallback
from hf_distill.trainers.callbacks import RunRecordCallback
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer
from tests.trainers.test_drop_in import masked_lm, summed_cross_entropy

BOTH = (Trainer, DistillationTrainer)
OPTIONS = dict(report_to="none", use_cpu=True, per_device_train_batch_size=4, logging_steps=1, max_steps=6)


def plain(folder, **options):
    return TrainingArguments(str(folder), **(OPTIONS | dict(disable_tqdm=True) | options))


def trainer_of(trainer_class, folder, model=None, **options):
    sentences = encoded_sentences(29)
    model = tiny_bert(dropout=0.1) if model is None else copy.deepcopy(model)
    args = plain(folder, **options)
    return trainer_class(
        model, args, train_dataset=sentences, eval_dataset=sentences, processing_class=tiny_tokenizer()
    )


def without_times(logs):
    return [
        {name: value for name, value in entry.items() if not name.endswith(("_runtime", "_per_second"))}
        for entry in logs
    ]


@pytest.mark.parametrize("disable_tqdm", [False, True])
def test_the_same_callbacks(disable_tqdm, tmp_path):
    stock, ours = (trainer_of(each, tmp_path, disable_tqdm=disable_tqdm) for each in BOTH)
    kinds = [[type(callback) for callback in each.callback_handler.callbacks] for each in (stock, ours)]
    assert kinds[0] == kinds[1]
    ours.train()
    assert [type(callback) for callback in ours.callback_handler.callbacks] == kinds[0]


@pytest.mark.parametrize("strategy", ["steps", "epoch"])
def test_the_same_files_states_and_logs_also_of_a_resumed_run(strategy, tmp_path):
    left = []
    for trainer_class in BOTH:
        folder = tmp_path / trainer_class.__name__
        options = dict(save_strategy=strategy, save_steps=2, eval_strategy=strategy, eval_steps=2)
        trainer_of(trainer_class, folder, **options).train()
        again = trainer_of(trainer_class, folder, **options, restore_callback_states_from_checkpoint=True)
        again.train(resume_from_checkpoint=str(min(folder.glob("checkpoint-*"))))
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        states = [json.loads(path.read_text()) for path in sorted(folder.rglob("trainer_state.json"))]
        logs = [[list(entry) for entry in state["log_history"]] for state in states]
        for state in states:
            state["log_history"] = without_times(state["log_history"])
            state.pop("best_model_checkpoint")
        left.append((files, states, logs, again.state.stateful_callbacks, list(again.state.log_history[-1])))
    assert left[0] == left[1] and len(left[0][1]) >= 2


def test_saved_arguments_hold_no_field_that_theirs_do_not(tmp_path):
    saved, given = [], []
    for trainer_class in BOTH:
        trainer = trainer_of(trainer_class, tmp_path / "same")
        trainer.save_model(tmp_path / trainer_class.__name__)
        path = tmp_path / trainer_class.__name__ / "training_args.bin"
        assert b"hf_distill" not in path.read_bytes()
        saved.append(vars(torch.load(path, weights_only=False)).keys())
        given.append(trainer.args.to_dict())
    assert saved[0] == saved[1] and given[0] == given[1]
    assert trainer.args == plain(tmp_path / "same") and trainer.args.max_flops is None  # ours knows its own again


def test_a_card_is_trainers(tmp_path):
    cards = []
    for trainer_class in BOTH:
        trainer = trainer_of(trainer_class, tmp_path / trainer_class.__name__ / "same", max_steps=1)
        trainer.train()
        trainer.create_model_card(model_name="same", tags="mine")
        cards.append((tmp_path / trainer_class.__name__ / "same" / "README.md").read_text())
    assert cards[0] == cards[1]


class Watched:
    """A data set that knows how often it was asked."""

    def __init__(self):
        self.rows, self.asked = encoded_sentences(8, None), 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        self.asked += 1
        return self.rows[index]


def test_no_example_is_looked_at_and_no_collator_asked_before_training(tmp_path):
    """A collator that draws its masks from a generator of its own draws those that it draws for Trainer."""
    tokenizer = tiny_tokenizer()
    tokenizer.mask_token = "w2"
    weights = []
    for trainer_class in BOTH:
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3, seed=5)
        data = Watched()
        torch.manual_seed(0)
        trainer = trainer_class(masked_lm(), plain(tmp_path, save_strategy="no"), collator, data)
        assert data.asked == 0
        trainer.train()
        weights.append(parameters_of(trainer.model))
    assert torch.equal(*weights)


class Autoencoder(nn.Module):
    """Needs no labels; what it answers besides its loss has rows, or has none."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(100, 4)

    def forward(self, input_ids, attention_mask=None, labels=None):
        states = self.embedding(input_ids)
        return ModelOutput(loss=states.pow(2).mean(), states=states.mean(1), temperature=states.norm())


@pytest.mark.parametrize("labels", [None, "class"])
def test_models_that_need_no_labels_and_answer_with_scalars(labels, tmp_path):
    answers = []
    for trainer_class in BOTH:
        data = encoded_sentences(8, labels)
        args = plain(tmp_path, save_strategy="no")
        trainer = trainer_class(
            Autoencoder(), args, train_dataset=data, eval_dataset=data, processing_class=tiny_tokenizer()
        )
        logs = without_times([trainer.train().metrics, trainer.evaluate()])
        answers.append((logs, [torch.as_tensor(each) for each in trainer.predict(data).predictions]))
    torch.testing.assert_close(*answers)


@pytest.mark.parametrize("num_items", [8, torch.tensor(8)])
def test_the_items_of_a_step_may_be_told_as_one_number(num_items, tmp_path):
    losses = []
    batch = tiny_tokenizer().pad(encoded_sentences(4).to_list(), return_tensors="pt")
    for trainer_class in BOTH:
        trainer = trainer_class(tiny_bert(), plain(tmp_path), compute_loss_func=summed_cross_entropy)
        losses.append(trainer.training_step(trainer.model, dict(batch), num_items))
    torch.testing.assert_close(*losses)


def mean_cross_entropy(outputs, labels, num_items_in_batch=None):
    return torch.nn.functional.cross_entropy(outputs["logits"], labels)


@pytest.mark.parametrize("function", [summed_cross_entropy, mean_cross_entropy])
def test_a_loss_function_has_the_same_gradients_whatever_it_makes_of_the_number_of_items(function, tmp_path):
    weights = []
    for trainer_class in BOTH:
        args = plain(tmp_path, save_strategy="no", gradient_accumulation_steps=3, per_device_train_batch_size=2)
        trainer = trainer_class(
            tiny_bert(), args, train_dataset=encoded_sentences(12), processing_class=tiny_tokenizer(),
            eval_dataset=encoded_sentences(7), compute_loss_func=function,
        )  # fmt: skip
        trainer.train()
        weights.append((parameters_of(trainer.model), torch.tensor(trainer.evaluate()["eval_loss"])))
    assert torch.equal(weights[0][0], weights[1][0])
    torch.testing.assert_close(weights[0][1], weights[1][1])


def test_what_is_spent_is_asked_in_vain(tmp_path):
    trainer = trainer_of(DistillationTrainer, tmp_path, save_strategy="no")
    trainer.train()
    with pytest.raises(ValueError, match=r"TrainingArguments count no cost.*DistillationTrainingArguments"):
        trainer.cost()


def test_our_own_arguments_or_a_budget_or_a_teacher_add_what_they_always_add(arguments, sentences, teacher, tmp_path):
    limited, spoken = plain(tmp_path / "limited"), plain(tmp_path / "taught")
    limited.max_tokens = 90
    for args, options in ((arguments(max_steps=2), {}), (limited, {}), (spoken, {"teacher_model": teacher})):
        trainer = DistillationTrainer(
            tiny_bert(), args, train_dataset=sentences, processing_class=tiny_tokenizer(), **options
        )
        trainer.train()
        kinds = {type(callback) for callback in trainer.callback_handler.callbacks}
        assert {RunRecordCallback, CostCallback} <= kinds and trainer.cost()["tokens"] > 0
        assert (tmp_path / args.output_dir / RUN_RECORD_NAME).exists()
        assert args is not limited or trainer.state.global_step < 6


def test_a_budget_put_into_plain_arguments_later_ends_the_training_too(tmp_path):
    trainer = trainer_of(DistillationTrainer, tmp_path, save_strategy="no")
    trainer.args.max_tokens = 90
    trainer.train()
    assert trainer.state.global_step < 6 and 90 <= trainer.cost()["tokens"] < 90 + 80
