"""A labeled transfer set, and what its owner and a stranger do with it, each in a process of their own."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import DatasetCard, snapshot_download
from transformers import BertForSequenceClassification

from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer

REPO, PLAIN = "alice/labeled-reviews", "alice/plain"
LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
TURNED = {"id2label": {0: "good", 1: "bad"}, "label2id": {"good": 0, "bad": 1}}


def make_labeled(folder: Path) -> Path:
    """Answers of a teacher that lies in a folder of somebody's machine."""
    from hf_distill import label_transfer_set

    tiny_bert(32, 2, seed=1, **LABELS).save_pretrained(folder / "secret" / "reviewer")
    teacher = BertForSequenceClassification.from_pretrained(folder / "secret" / "reviewer")
    label_transfer_set(encoded_sentences(29), teacher, tiny_tokenizer(), folder / "labeled", rows_per_shard=10)
    return folder / "labeled"


def push(folder: str) -> None:
    """Publish it with its card, and push the rows alone as any data set."""
    from hf_distill import load_teacher_outputs
    from hf_distill.publishing import publish

    publish(folder, REPO)
    load_teacher_outputs(folder).push_to_hub(PLAIN)
    card = DatasetCard.load(PLAIN)
    card.data.license = "mit"
    card.push_to_hub(PLAIN)


def learn() -> dict[str, dict]:
    """By repository its rows, the losses of a student that learns from them, and how they are refused elsewhere."""
    from datasets import load_dataset

    from hf_distill import DistillationTrainer, DistillationTrainingArguments, load_teacher_outputs

    args = DistillationTrainingArguments(
        output_dir=os.environ["HF_HOME"] + "/out", use_cpu=True, bf16=False, max_steps=2, report_to="none",
        save_strategy="no", disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    found = {}
    for name in (REPO, PLAIN):
        rows, refused = load_dataset(name, split="train"), []
        given = dict(train_dataset=rows, processing_class=tiny_tokenizer())
        trainer = DistillationTrainer(tiny_bert(**LABELS), args, **given)
        trainer.train()
        for labels, changed in (
            (LABELS, dict(processing_class=tiny_tokenizer(prefix="v"))),
            (LABELS, dict(teacher_model=tiny_bert(32, 2, seed=2, **LABELS))),
            (TURNED, {}),
            (LABELS, dict(train_dataset=rows.map(lambda row: {"input_ids": [5, 6], "attention_mask": [1, 1]}))),
        ):
            try:
                DistillationTrainer(tiny_bert(**labels), args, **given | changed)
            except ValueError as error:
                refused.append(str(error))
        losses = [log["soft_label_loss"] for log in trainer.state.log_history[:2]]
        found[name] = {"rows": rows[:], "losses": losses, "refused": refused}
    downloaded = load_teacher_outputs(snapshot_download(REPO, repo_type="dataset"))
    return found | {"verified": downloaded[:]}
