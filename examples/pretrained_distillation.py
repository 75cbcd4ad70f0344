r"""Pre-trained Distillation (Turc et al. 2019): pre-train a small student, distill it on a transfer set, fine-tune it.

    python examples/pretrained_distillation.py --arm PD-F --student mini --teacher_model_name_or_path outputs/teacher \
        --corpus corpus.txt --transfer_set unlabeled.csv --train_file train.csv --validation_file validation.csv \
        --output_dir outputs/mini

The arms of the paper, and the stages they have:

    PD    pre-training, distillation                    D   distillation (from random weights)
    PD-F  pre-training, distillation, fine-tuning       B   fine-tuning (from random weights)
    PF    pre-training, fine-tuning                     TF  fine-tuning (from the teacher's bottom layers)

Every stage has a folder in output_dir. An interrupted run is resumed by the same command, also in the middle of a stage.
--initialization pretrained uses the published miniature, or another checkpoint, and skips pre-training. Accepts all
`DistillationTrainingArguments`; steps and learning rate are set per stage.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedModel,
)
from transformers.hf_argparser import HfArg
from transformers.trainer_utils import set_seed

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    FrozenTeacher,
    create_student,
    label_transfer_set,
)
from hf_distill.data.corpus import Texts, column_of_texts, packed, without_texts_of
from hf_distill.data.files import load_files, require_texts
from hf_distill.data.sequences import encode_label, label_ids, label_values
from hf_distill.distributed.weights import unsharded_loading
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.pretrained.reports import from_pretrained
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import RunRecord
from hf_distill.resources.built_in import ALL_DOMAINS, TEXTS, UNLABELED_TEXTS
from hf_distill.resources.sentiment import DOMAINS
from hf_distill.scripts.arguments import ScriptParser
from hf_distill.scripts.datasets import label_column_for, load_named_splits, load_unlabeled_rows, with_columns
from hf_distill.scripts.run import first_rows, parsed_values, run_on_main_process
from hf_distill.scripts.user_errors import run_main
from hf_distill.scripts.verbosity import set_verbosity
from hf_distill.text.privacy import public_name
from hf_distill.trainers.checkpoints import last_complete_checkpoint

logger = logging.getLogger("transformers.pretrained_distillation")

PRETRAINING, DISTILLATION, FINE_TUNING = "pretraining", "distillation", "fine_tuning"
FINISHED = "finished.json"  # marks the folder of a finished stage
ARMS = {
    "PD": (PRETRAINING, DISTILLATION),
    "PD-F": (PRETRAINING, DISTILLATION, FINE_TUNING),
    "PF": (PRETRAINING, FINE_TUNING),
    "D": (DISTILLATION,),
    "B": (FINE_TUNING,),
    "TF": (FINE_TUNING,),
}
LABELS_ONLY = {"soft_label_weight": 0.0, "hard_label_weight": 1.0}
SOFT_LABELS_ONLY = {"soft_label_weight": 1.0, "hard_label_weight": 0.0, "temperature": 1.0}


@dataclass
class PipelineArguments:
    """The student, its teacher, the stages, and the data of each."""

    teacher_model_name_or_path: str = HfArg(
        help="A classifier trained on the task, whose architecture and labels the student gets."
    )
    arm: str = HfArg(default="PD-F", help=f"Stages to run: {', '.join(ARMS)}.")
    student: str = HfArg(
        default="mini", help="Size: tiny, mini, small, medium, base, or layers/hidden size such as 3/384."
    )
    initialization: str | None = HfArg(
        default=None,
        help="Initialization of the student: random, embeddings, truncated, width or pretrained (skips pre-training). "
        "None: truncated for TF, else random.",
    )
    pretrained_model_name_or_path: str | None = HfArg(
        default=None, help="Weights for --initialization pretrained. None: the published miniature."
    )
    corpus: str | None = HfArg(
        default=None,
        help=f"Text for pre-training: a file, a folder of files, a dataset, or built-in {', '.join(UNLABELED_TEXTS)}; the "
        "column text, else the first of strings, is read.",
    )
    transfer_set: str | None = HfArg(default=None, help="Text for distillation, in the same form; labels are ignored.")
    train_file: str | None = HfArg(
        default=None,
        help="Data for fine-tuning: .csv or .json with the columns text, else the first of strings, and label, else the one "
        "whose values are the teacher's classes.",
    )
    validation_file: str | None = HfArg(
        default=None, help="Data for evaluation after distillation and after fine-tuning."
    )
    test_file: str | None = HfArg(default=None, help="Data for evaluation at the end.")
    dataset_name: str | None = HfArg(
        default=None,
        help=f"Labeled splits in place of files: a dataset, or built-in {', '.join(TEXTS)}, whose own training texts are "
        f"corpus and transfer set unless given (of the sentiment sets, those of all: {ALL_DOMAINS}).",
    )
    teacher_answers: str | None = HfArg(
        default=None,
        help="Folder of precomputed teacher outputs, for this run and others. None: run the teacher while the student "
        "trains.",
    )
    max_train_samples: int | None = HfArg(
        default=None, help="Fine-tune on this many labeled rows, the first ones; transfer sets keep all. None: all."
    )
    max_transfer_samples: int | None = HfArg(
        default=None, help="Distill on this many texts, chosen at random. None: all."
    )
    max_seq_length: int = HfArg(
        default=128, help="Maximum tokens of a text, and tokens of the sequences cut for pre-training."
    )
    streaming: bool = HfArg(default=False, help="Stream the corpus during training.")
    pretraining_steps: int = HfArg(default=10_000, help="Optimizer steps of masked language modeling.")
    distillation_steps: int = HfArg(default=10_000, help="Optimizer steps on soft labels.")
    fine_tuning_steps: int = HfArg(default=2_000, help="Optimizer steps on labels.")
    pretraining_learning_rate: float = HfArg(default=5e-4, help="Peak learning rate of pre-training.")
    distillation_learning_rate: float = HfArg(default=3e-4, help="Peak learning rate of distillation.")
    fine_tuning_learning_rate: float = HfArg(default=1e-4, help="Peak learning rate of fine-tuning.")

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise ValueError(f"arm must be one of {list(ARMS)}, got {self.arm!r}")
        if self.initialization is None:
            self.initialization = "truncated" if self.arm == "TF" else "random"
        if self.dataset_name in TEXTS:
            own = ALL_DOMAINS if self.dataset_name in DOMAINS else self.dataset_name
            self.corpus, self.transfer_set = self.corpus or own, self.transfer_set or own
        labeled = self.dataset_name or self.train_file
        needs = {PRETRAINING: self.corpus, DISTILLATION: self.transfer_set, FINE_TUNING: labeled}
        arguments = {PRETRAINING: "corpus", DISTILLATION: "transfer_set", FINE_TUNING: "dataset_name or train_file"}
        for stage in self.stages:
            if not needs[stage]:
                raise ValueError(f"arm {self.arm} has a stage {stage}, which needs {arguments[stage]}, got none")

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of the arm, without pre-training if the student comes pre-trained."""
        skipped = PRETRAINING if self.initialization == "pretrained" else None
        return tuple(stage for stage in ARMS[self.arm] if stage != skipped)


def load_labeled(args: PipelineArguments) -> dict[str, Dataset]:
    """The splits train, validation and test, as far as they exist, with the columns text and label.

    Raises:
        ValueError: A split has no column of texts or none of labels, or a row has no text.
    """
    if args.dataset_name:
        raw = load_named_splits(args.dataset_name, TEXTS)
    else:
        files = {"train": args.train_file, "validation": args.validation_file, "test": args.test_file}
        raw = load_files({split: path for split, path in files.items() if path})
    label = label_column_for(args.teacher_model_name_or_path, raw, None, flag="") or "label"
    return {split: text_and_label(split, rows, label) for split, rows in raw.items()}


def text_and_label(split: str, rows: Dataset, label: str) -> Dataset:
    """The rows with the columns text and label."""
    if label not in rows.column_names:
        raise ValueError(
            f"{split} needs the column label, or one whose values are the teacher's classes, got {rows.column_names}"
        )
    column = column_of_texts(rows.remove_columns([label]))
    if column != "text":
        logger.warning(f"{split}: texts are read from the column {column}")
    return with_columns(rows, [column], label).rename_columns({column: "text"})


def load_classifier(folder: str | Path, **config: Any) -> PreTrainedModel:
    """A classifier from a folder; not sharded, also under ZeRO-3."""
    with unsharded_loading():
        return from_pretrained(AutoModelForSequenceClassification, str(folder), trust_remote_code=False, **config)[0]


@dataclass
class Pipeline:
    """Runs the stages of an arm in order, and resumes where an earlier run stopped."""

    args: PipelineArguments
    given: dict[str, Any]  # fields of DistillationTrainingArguments, of which stages change some
    stages_folder: Path | None = None  # None: output_dir. Pipelines of one student and seed may share it.
    records: list[dict[str, Any]] = field(default_factory=list)
    unlabeled: dict[str, Texts] = field(default_factory=dict)  # the texts of the stages that are not finished

    def __post_init__(self) -> None:
        teacher = self.args.teacher_model_name_or_path
        self.folder = Path(self.given["output_dir"])
        self.teacher = load_classifier(teacher)
        self.tokenizer = AutoTokenizer.from_pretrained(teacher, trust_remote_code=False)
        raw = load_labeled(self.args)
        if "train" in raw:
            raw["train"] = first_rows(raw["train"], self.args.max_train_samples)
        self.evaluation_texts = [
            text for split in ("validation", "test") if split in raw for text in raw[split]["text"]
        ]
        with PartialState().local_main_process_first():
            self.splits = {split: self._encoded(texts, labeled=True) for split, texts in raw.items()}
        for split in ("validation", "test"):
            if split in self.splits:
                self.splits[split] = self._answered(self.splits[split])

    def run(self) -> dict[str, float]:
        """Run all stages; returns the metrics of the finished student."""
        self._load_unlabeled()
        student = self._untrained()
        for stage in self.args.stages:
            train = {PRETRAINING: self._pretrain, DISTILLATION: self._distil, FINE_TUNING: self._fine_tune}[stage]
            student = train(self._folder_of(stage), student)
        return self._finish(student)

    def _load_unlabeled(self) -> None:
        """Load the texts of stages that are not finished, so that what is wrong with them is refused before the first stage."""
        sources = {PRETRAINING: self.args.corpus, DISTILLATION: self.args.transfer_set}
        for stage in self.args.stages:
            if stage not in sources or run_on_main_process((self._folder_of(stage) / FINISHED).exists):
                continue
            with PartialState().local_main_process_first():
                rows = load_unlabeled_rows(sources[stage], self.args.streaming and stage == PRETRAINING)
                column = column_of_texts(rows, ids=label_ids(self.teacher.config))
                logger.warning(f"{stage}: texts are read from the column {column} of {sources[stage]}")
                if stage == DISTILLATION:
                    require_texts(rows, [column])
            self.unlabeled[stage] = rows.select_columns([column]).rename_columns({column: "text"})

    def _folder_of(self, stage: str) -> Path:
        """The folder of a stage, named after it and the stages before it, on which its initial weights depend."""
        stages = self.args.stages
        return (self.stages_folder or self.folder) / "+".join(stages[: stages.index(stage) + 1])

    def _untrained(self) -> PreTrainedModel:
        set_seed(self.given["seed"])
        task = "masked_lm" if PRETRAINING in self.args.stages else None
        return create_student(
            self.args.student,
            self.teacher,
            self.args.initialization,
            task=task,
            pretrained_model_name_or_path=self.args.pretrained_model_name_or_path,
        )

    def _pretrain(self, folder: Path, student: PreTrainedModel) -> PreTrainedModel:
        def sequences() -> Texts:
            with PartialState().local_main_process_first():
                return packed(self.unlabeled[PRETRAINING], self.tokenizer, self.args.max_seq_length)

        collator = DataCollatorForLanguageModeling(self.tokenizer)
        unevaluated = {"eval_strategy": "no", "load_best_model_at_end": False}
        changes = LABELS_ONLY | self._length_of(PRETRAINING) | unevaluated
        self._train(folder, student, sequences, changes, data_collator=collator)
        labels = {"id2label": self.teacher.config.id2label, "label2id": self.teacher.config.label2id}
        set_seed(self.given["seed"])  # the new head's weights
        return load_classifier(folder, **labels)

    def _distil(self, folder: Path, student: PreTrainedModel) -> PreTrainedModel:
        dropped = 0

        def unlabeled() -> Dataset:
            nonlocal dropped
            with PartialState().local_main_process_first():
                texts, dropped = without_texts_of(self.unlabeled[DISTILLATION], self.evaluation_texts)
                texts = self._encoded(texts, labeled=False)
            texts = self._answered(texts)
            if self.args.max_transfer_samples is not None:
                texts = first_rows(texts.shuffle(self.given["seed"]), self.args.max_transfer_samples)
            logger.warning(f"{dropped} texts of the transfer set are evaluated on and were dropped; {len(texts)} stay")
            return texts

        changes = SOFT_LABELS_ONLY | self._length_of(DISTILLATION)
        self._train(
            folder, student, unlabeled, changes, self.teacher, notes=lambda: {"evaluation_texts_dropped": dropped}
        )
        return load_classifier(folder)

    def _fine_tune(self, folder: Path, student: PreTrainedModel) -> PreTrainedModel:
        self._train(folder, student, lambda: self.splits["train"], LABELS_ONLY | self._length_of(FINE_TUNING))
        return load_classifier(folder)

    def _length_of(self, stage: str) -> dict[str, Any]:
        return {
            "max_steps": getattr(self.args, f"{stage}_steps"),
            "learning_rate": getattr(self.args, f"{stage}_learning_rate"),
        }

    def _train(
        self,
        folder: Path,
        student: PreTrainedModel,
        data: Callable[[], Texts],
        changes: dict[str, Any],
        teacher: PreTrainedModel | None = None,
        notes: Callable[[], dict[str, Any]] = dict,
        **more: Any,
    ) -> None:
        """Train a stage unless its folder is finished, resuming from its last checkpoint if there is one."""
        finished = folder / FINISHED
        if not run_on_main_process(finished.exists):
            trainer = self._trainer(student, changes | {"output_dir": str(folder)}, teacher, data(), **more)
            trainer.train(resume_from_checkpoint=run_on_main_process(lambda: last_complete_checkpoint(folder)))
            if trainer.eval_dataset is not None:
                trainer.evaluate()
            trainer.save_model()
            run_on_main_process(lambda: self._close(folder, notes(), finished))
        record = run_on_main_process(lambda: RunRecord.load(folder))
        parts = ("objective", "arguments", "data", "training", "metrics")
        self.records.append({"name": folder.name.rpartition("+")[2]} | {part: getattr(record, part) for part in parts})

    @staticmethod
    def _close(folder: Path, notes: dict[str, Any], finished: Path) -> None:
        """Mark a trained stage as finished for later runs."""
        record = RunRecord.load(folder)
        record.data |= notes
        record.save(folder)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        finished.touch()

    def _trainer(
        self,
        student: PreTrainedModel,
        changes: dict[str, Any],
        teacher: PreTrainedModel | None,
        data: Texts | None,
        data_collator: Callable | None = None,
    ) -> DistillationTrainer:
        """The trainer of a stage; a collator is given for pre-training, which is not evaluated."""
        is_classifier = data_collator is None
        return DistillationTrainer(
            student,
            DistillationTrainingArguments(**(self.given | changes)),
            data_collator or DataCollatorWithPadding(self.tokenizer),
            train_dataset=data,
            eval_dataset=self.splits.get("validation") if is_classifier else None,
            processing_class=self.tokenizer,
            compute_metrics=glue_metric(None) if is_classifier else None,
            teacher_model=teacher,
        )

    def _finish(self, student: PreTrainedModel) -> dict[str, float]:
        """Save the student with one record and one card over all stages; returns its metrics."""
        record = run_on_main_process(lambda: self._whole_record(student))
        if "test" in self.splits:
            judge = self._trainer(student, SOFT_LABELS_ONLY, self.teacher, None)
            record.metrics |= judge.predict(self.splits["test"]).metrics
        run_on_main_process(lambda: (record.save(self.folder), write_model_card(self.folder)))
        return record.metrics

    def _whole_record(self, student: PreTrainedModel) -> RunRecord:
        """Save the student; returns its record over all stages."""
        student.save_pretrained(self.folder)
        self.tokenizer.save_pretrained(self.folder)
        record = RunRecord.load(self._folder_of(self.args.stages[-1]))
        name = self.folder.resolve().name
        record.student |= {"name": name, "saved_as": name, "initialization": self.args.initialization}
        record.stages = self.records
        record.data |= self._data_names()
        if DISTILLATION in self.args.stages:
            record.teacher = RunRecord.load(self._folder_of(DISTILLATION)).teacher
        return record

    def _data_names(self) -> dict[str, str]:
        """The names of the data that the last stage reads and, where they are others, that the student is evaluated on."""
        args = self.args
        labeled = args.dataset_name or args.train_file
        read = public_name(labeled if args.stages[-1] == FINE_TUNING else args.transfer_set)
        judged = args.dataset_name or args.test_file or args.validation_file
        names = {"name": read, "eval_name": judged and public_name(judged)}
        return {key: name for key, name in names.items() if name and (key, name) != ("eval_name", read)}

    def _answered(self, texts: Dataset) -> Dataset:
        """The texts with precomputed teacher outputs, if a folder for them is given."""
        if self.args.teacher_answers is None:
            return texts
        teacher, collator = FrozenTeacher(self.teacher), DataCollatorWithPadding(self.tokenizer)
        return label_transfer_set(texts, teacher, collator, cache_folder=self.args.teacher_answers)

    def _encoded(self, texts: Dataset, labeled: bool) -> Dataset:
        """Model inputs; classes are the teacher's, matched by name if the data have names."""
        ids, value_of = label_ids(self.teacher.config), label_values(texts.features.get("label"))
        tokenizer, length = self.tokenizer, self.args.max_seq_length  # all that map has to hash

        def encode(rows: dict[str, list]) -> dict[str, list]:
            inputs = dict(tokenizer(rows["text"], truncation=True, max_length=length))
            if labeled:
                inputs["labels"] = [encode_label(value_of(label), ids) for label in rows["label"]]
            return inputs

        return texts.map(encode, batched=True, remove_columns=texts.column_names, desc="Tokenizing")


def main() -> None:
    parser = ScriptParser((PipelineArguments, DistillationTrainingArguments), description=__doc__)
    args, training = parser.parse_args_into_dataclasses()
    set_verbosity(training)
    metrics = Pipeline(args, parsed_values(parser, DistillationTrainingArguments)).run()
    if training.should_log:
        for name, value in metrics.items():
            print(f"{name}: {value:.4g}")
        print(f"Student: {training.output_dir} (weights, run.json, and README.md, its card)")


if __name__ == "__main__":
    run_main(main, trains_several=True)
