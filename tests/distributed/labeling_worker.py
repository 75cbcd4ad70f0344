"""Labels a transfer set with the other processes, and trains on the result."""

from pathlib import Path

import torch
import torch.distributed as dist

from hf_distill import DistillationTrainer, DistillationTrainingArguments, label_transfer_set
from hf_distill.distributed.sharding import shard
from tests.distributed.workers import main_of_worker
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer

OPTIONS = dict(disable_tqdm=True, batch_size=8, rows_per_shard=16)


def label(folder: Path, in_parts: bool = False):
    teacher = tiny_bert(32, 2, seed=1)
    if in_parts:  # as FSDP2 leaves a model that it trained
        shard(teacher, torch.device("cpu"))
    return label_transfer_set(encoded_sentences(61), teacher, tiny_tokenizer(), output_dir=folder, **OPTIONS)


def train(folder: Path, rows, batch_size: int) -> torch.Tensor:
    args = DistillationTrainingArguments(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, save_strategy="no",
        per_device_train_batch_size=batch_size, max_steps=10, optim="sgd", learning_rate=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    trainer = DistillationTrainer(tiny_bert(), args, train_dataset=rows, processing_class=tiny_tokenizer())
    trainer.train()
    return parameters_of(trainer.model)


def work(folder: Path) -> None:
    weights = train(folder / "output", label(folder / "labeled"), batch_size=4)
    label(folder / "labeled_in_parts", in_parts=True)
    if dist.get_rank() == 0:
        torch.save(weights, folder / "weights.pt")


if __name__ == "__main__":
    main_of_worker(work)
