"""A masked-language model with a small vocabulary, and the text it learns: python benchmarks/prose_teacher.py

The text is `load_large_prose` and the definitions of WordNet's training split, without the texts of the other splits and
without those of the movie reviews' validation and test split: 22 million tokens. The model is all-MiniLM-L6-v2, whose
release has no head for masked words: all its weights are trained, with a head tied to the embeddings. Only tokens that
occur 20 times or more in a tenth of the text, and single characters, stay in the vocabulary: 9,702 of 30,522, which stand
for 95 % of the text.

quality_task_agnostic.py and quality_budget.py use both. Training continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import transformers
from datasets import Dataset, concatenate_datasets, load_from_disk
from transformers import AutoModelForMaskedLM, AutoTokenizer, DataCollatorForLanguageModeling
from transformers.trainer_utils import set_seed

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from hf_distill.data.corpus import packed, without_texts_of
from hf_distill.data.files import load_texts
from hf_distill.files import atomic_write
from hf_distill.pruning.vocabulary import trim_vocabulary
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.prose import load_large_prose
from hf_distill.resources.sentiment import load_sentiment
from hf_distill.resources.wordnet import load_wordnet
from hf_distill.trainers.checkpoints import last_complete_checkpoint

FOLDER = Path("outputs/prose_teacher")
STEPS = 2000
MIN_COUNT, COUNTED_SHARE = 20, 0.1
LENGTH = 64
HELD_OUT = 500
EVALUATED = ("validation", "test")
ARGUMENTS = {
    "per_device_train_batch_size": 32, "learning_rate": 3e-4, "warmup_steps": 0.06, "weight_decay": 0.01,
    "save_steps": 250, "save_total_limit": 1, "logging_steps": 50, "report_to": "none", "disable_tqdm": True,
    "dataloader_pin_memory": False, "seed": 0,
}  # fmt: skip


def written_texts(folder: Path) -> Path:
    """The text as a file of shuffled rows."""
    path = folder / "texts.json"
    if not path.exists():
        definitions, reviews = load_wordnet(), load_sentiment()
        evaluated = [text for task in (definitions, reviews) for split in EVALUATED for text in task[split]["text"]]
        parts = [load_large_prose(), definitions["train"]]
        texts = concatenate_datasets([part.select_columns("text") for part in parts])
        folder.mkdir(parents=True, exist_ok=True)
        rows = without_texts_of(texts, evaluated)[0].shuffle(seed=0)
        atomic_write(path, "".join(json.dumps({"text": text}) + "\n" for text in rows["text"]))
    return path


def sequences(folder: Path) -> dict[str, Dataset]:
    """The text in sequences of equal length for the teacher's tokenizer, by split train and test."""
    cut = folder / "sequences"
    if not (cut / "dataset_dict.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(folder / "untrained")
        whole = packed(load_texts(str(written_texts(folder))), tokenizer, LENGTH)
        whole.train_test_split(test_size=HELD_OUT, seed=0).save_to_disk(cut)
    return dict(load_from_disk(cut))


def trained_teacher(folder: Path = FOLDER, steps: int = STEPS) -> Path:
    """The folder of the trained model; what it costs, and scores on held-out text, is in `teacher.json` there."""
    trained = folder / f"{steps}_steps"
    if not (trained / "teacher.json").exists():
        trainer = _trainer(_untrained(folder), trained, steps, sequences(folder))
        before = masked_word_loss(trainer)
        trainer.train(resume_from_checkpoint=last_complete_checkpoint(trained))
        trainer.save_model()
        measured = {"loss_before": before, "loss": masked_word_loss(trainer), "spent": trainer.cost()}
        measured |= {"vocabulary": trainer.model.config.vocab_size, "parameters": trainer.model.num_parameters()}
        atomic_write(trained / "teacher.json", json.dumps(measured) + "\n")
    return trained


def masked_word_loss(trainer: DistillationTrainer) -> float:
    """Cross-entropy of the masked words of the evaluation data, with the same masks every time."""
    set_seed(0)
    return trainer.evaluate()["eval_loss"]


def _untrained(folder: Path) -> Path:
    """The model with its smaller vocabulary."""
    untrained = folder / "untrained"
    if not (untrained / "config.json").exists():
        texts = load_texts(str(written_texts(folder)))["text"]
        model, tokenizer = (
            AutoModelForMaskedLM.from_pretrained(minilm_path()),
            AutoTokenizer.from_pretrained(minilm_path()),
        )
        model, tokenizer = trim_vocabulary(model, tokenizer, texts[: round(COUNTED_SHARE * len(texts))], MIN_COUNT)
        tokenizer.save_pretrained(untrained)
        model.save_pretrained(untrained)
    return untrained


def _trainer(model: Path, folder: Path, steps: int, data: dict[str, Dataset]) -> DistillationTrainer:
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model)
    return DistillationTrainer(
        AutoModelForMaskedLM.from_pretrained(model),
        DistillationTrainingArguments(str(folder), recipe=None, max_steps=steps, **ARGUMENTS),
        DataCollatorForLanguageModeling(tokenizer),
        train_dataset=data["train"], eval_dataset=data["test"], processing_class=tokenizer,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where text and model are kept")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of 32 sequences of 64 tokens")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    print((trained_teacher(options.folder, options.steps) / "teacher.json").read_text())


if __name__ == "__main__":
    main()
