"""A stock script in the manner of transformers' run_glue.py; two_lines.py changes two of its lines."""

import sys
from dataclasses import dataclass

from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
)


@dataclass
class ModelArguments:
    model_name_or_path: str
    train_file: str


def main():
    parser = HfArgumentParser((ModelArguments, TrainingArguments))
    model_args, args = parser.parse_args_into_dataclasses()
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    model = AutoModelForSequenceClassification.from_pretrained(model_args.model_name_or_path)
    data = load_dataset("csv", data_files=model_args.train_file)["train"]
    data = data.map(lambda rows: tokenizer(rows["sentence"], truncation=True), batched=True)
    trainer = Trainer(model, args, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    trainer.save_model()
    engine = trainer.model_wrapped
    print(
        "trained by",
        type(trainer).__name__,
        "in",
        type(engine).__name__,
        engine.zero_optimization_stage(),
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
