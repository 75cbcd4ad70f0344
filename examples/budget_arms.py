"""The arms of compare_under_budget.py: how each of them uses the compute budget to train a student.

    Arm                     no_kd and recipes: one `DistillationTrainer`, without a teacher or with one
    Untrained               untrained: the student as it is created, which is only fine-tuned; costs nothing
    PreTrainedDistillation  pd: masked language modeling without a teacher, then soft labels (Turc et al. 2019)
    ProKD                   pro_kd: `ProgressiveTrainer` on the teacher's checkpoints, then labels (Rezagholizadeh et al. 2021)
    HomoDistil              homodistil: `PruningDistillTrainer` prunes a copy of the teacher (Liang et al. 2023)

All arms that train use `Arm.trainer` and `Arm.spend`: the same collators and batches, losses normalized in one place,
learning rates that follow the budget, `Snapshots` after equal parts of it, and resuming after an interruption. The data,
the cells, the evaluation and the verdict are in compare_under_budget.py.
"""

from __future__ import annotations

import copy
import json
import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from pretrained_distillation import LABELS_ONLY, load_classifier
from run_mlm import choose_teacher
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PretrainedConfig,
    PreTrainedModel,
    TrainerCallback,
)
from transformers.trainer_utils import set_seed

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    ProgressiveTrainingArguments,
    PruningDistillTrainingArguments,
    create_student,
)
from hf_distill.compute.budget import RunCost
from hf_distill.data.length_bucket_sampler import example_lengths
from hf_distill.distributed.weights import unsharded_loading
from hf_distill.files import atomic_write
from hf_distill.pruning.compaction import feed_forward_size
from hf_distill.pruning.shrinking import ShrinkingStudent
from hf_distill.recipes import RECIPES
from hf_distill.scripts.run import ScriptTrainingArguments, make_trainer, run_on_main_process
from hf_distill.tasks import Task, task_of
from hf_distill.teachers.checkpoints import find_checkpoints
from hf_distill.trainers.checkpoints import last_complete_checkpoint
from hf_distill.trainers.progressive_trainer import Stage

if TYPE_CHECKING:
    from compare_under_budget import Comparison

MASKED_LM, CLASSIFICATION = "masked_lm", "classification"
NO_KD, UNTRAINED, PD, PRO_KD, HOMODISTIL = "no_kd", "untrained", "pd", "pro_kd", "homodistil"
RECIPE_OF = {
    MASKED_LM: {"tinybert": "tinybert_general"},
    CLASSIFICATION: {"tinybert": "tinybert_task"},
}
LIMITS = ("max_flops", "max_seconds", "max_tokens")
AUTO_CLASS = {MASKED_LM: AutoModelForMaskedLM, CLASSIFICATION: AutoModelForSequenceClassification}
HEAD = {MASKED_LM: "ForMaskedLM", CLASSIFICATION: "ForSequenceClassification"}
TARGETS = ("target_hidden_size", "target_intermediate_size", "target_num_attention_heads", "target_parameters")


def own_fields(arguments: type) -> tuple[str, ...]:
    """Names of the fields that a class of training arguments adds to `DistillationTrainingArguments`."""
    common = {each.name for each in fields(DistillationTrainingArguments)}
    return tuple(each.name for each in fields(arguments) if each.name not in common)


def training_arguments(given: dict[str, Any], changes: dict[str, Any]) -> ScriptTrainingArguments:
    """The given arguments with changes; teacher checkpoints and target sizes are set only by the changes."""
    return ScriptTrainingArguments(**(given | {"teacher_checkpoints": None} | changes))


class Snapshots(TrainerCallback):
    """Saves the student and its cost after equal parts of the whole budget, of which the trainer's may be a share."""

    def __init__(self, trainer: DistillationTrainer, folder: Path, points: int, share: float = 1.0):
        self.trainer, self.folder, self.points = trainer, folder, share * points
        self.taken = run_on_main_process(self._found)

    def _found(self) -> int:
        """The number of the last point that an interrupted run has saved; 0 if none."""
        left = self.folder.glob("point-*/spent.json")
        return max((int(path.parent.name.removeprefix("point-")) for path in left), default=0)

    def on_step_end(self, args, state, control, **kwargs):
        position, total = self.trainer.budget_position()
        due = int(self.points * position) // total
        if due > self.taken:
            self.trainer.sync_cost()
            self.trainer.save_model(str(self.folder / f"point-{due}"))
            content = self.trainer.cost() | {"steps": state.global_step}
            run_on_main_process(
                lambda: atomic_write(self.folder / f"point-{due}" / "spent.json", json.dumps(content) + "\n")
            )
            self.taken = due


class Arm:
    """Labels alone, or a recipe, in one stage; the other arms override parts of it.

    Attributes:
        depends_on: Names of the arguments that only this arm's cells depend on.
        points: Number of students that a training saves, after equal parts of the budget.
        learning_rates: The learning rates to choose from.
    """

    depends_on: tuple[str, ...] = ()

    def __init__(self, name: str, comparison: Comparison):
        self.name, self.comparison = name, comparison
        self.args, self.given = comparison.args, comparison.given
        self.points, self.learning_rates = self.args.points, self.args.learning_rates

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that only this arm's cells depend on."""
        known = vars(self.args) | self.given
        return {name: known[name] for name in self.depends_on}

    def check(self) -> None:
        """Refuse settings that the arm does not support, before training.

        Raises:
            ValueError: Names the setting and the allowed values.
        """
        if self.name != NO_KD and self.args.stage == CLASSIFICATION:
            found = AutoConfig.from_pretrained(self.args.teacher_model_name_or_path, trust_remote_code=False).id2label
            if [found.get(index) for index in range(len(self.comparison.names))] != self.comparison.names:
                raise ValueError(f"the teacher's classes must be {self.comparison.names}, got {found}")

    def data(self, regime: str) -> list[Dataset]:
        """The training data, one data set for each stage."""
        return [self.comparison.data[regime]]

    def tokens(self, regime: str) -> int:
        """Number of tokens in one epoch of the training data."""
        return sum(int(example_lengths(rows).sum()) for rows in self.data(regime))

    def train(self, regime: str, changes: dict[str, Any]) -> list[str]:
        """Train a student until the budget is used up.

        Args:
            regime: Name of the regime, which decides on the data.
            changes: Training arguments of the cell: learning_rate, seed and output_dir.

        Returns:
            Remarks on deviations from the method.
        """
        teacher = self.load_teacher()
        set_seed(changes["seed"])
        student = self.student(teacher)
        method, remarks = self.method(student.config, teacher)
        training = training_arguments(self.given, changes | method)
        trainer = self.trainer(student, training, self.asked(teacher, training), *self.data(regime))
        self.spend(trainer, Path(changes["output_dir"]))
        return remarks

    def load_teacher(self) -> PreTrainedModel:
        """The teacher, which is the same in all arms."""
        with unsharded_loading():
            return AUTO_CLASS[self.args.stage].from_pretrained(
                self.args.teacher_model_name_or_path, trust_remote_code=False
            )

    def student(self, teacher: PreTrainedModel) -> PreTrainedModel:
        """The student before its first step."""
        return create_student(self.args.student, teacher, "random")

    def method(self, student: PretrainedConfig, teacher: PreTrainedModel) -> tuple[dict[str, Any], list[str]]:
        """Training arguments of the arm that fit both models, and remarks on deviations from its paper."""
        if self.name == NO_KD:
            return {"recipe": None} | LABELS_ONLY, []
        return self.comparable(student.num_attention_heads, student.hidden_size, teacher.config)

    def comparable(self, heads: int, width: int, teacher: PretrainedConfig) -> tuple[dict[str, Any], list[str]]:
        """The arm's recipe for a student with this number of heads and this width, with remarks."""
        recipe = RECIPE_OF[self.args.stage].get(self.name, self.name)
        changes: dict[str, Any] = {"recipe": recipe}
        needs, remarks = RECIPES[recipe].arguments, []
        if needs.get("attention_weight") and heads != teacher.num_attention_heads:
            changes["attention_weight"] = 0.0
            remarks.append(
                f"{self.name} without its attention term: {heads} heads cannot be compared with "
                f"{teacher.num_attention_heads}"
            )
        common = math.gcd(width, teacher.hidden_size)
        if needs.get("relation_weight") and common % teacher.num_attention_heads:
            fitting = [each for each in range(1, teacher.num_attention_heads + 1) if common % each == 0]
            changes["relation_heads"] = max(fitting)
            remarks.append(f"{self.name} with {max(fitting)} relation heads, which divide both widths")
        return changes, remarks

    def asked(self, teacher: PreTrainedModel, training: ScriptTrainingArguments) -> PreTrainedModel | str | None:
        """The live teacher of the training, if the arm has one."""
        if self.name == NO_KD:
            return None
        if (
            self.args.stage == MASKED_LM
        ):  # by its name, for its trained head to be asked for where its predictions count
            return choose_teacher(self.args.teacher_model_name_or_path, training, self.comparison.tokenizer)
        return teacher

    def trainer(
        self,
        student: PreTrainedModel,
        training: ScriptTrainingArguments,
        teacher: PreTrainedModel | str | None,
        rows: Dataset,
    ) -> DistillationTrainer:
        """The trainer that the arguments select."""
        tokenizer = self.comparison.tokenizer
        masks = task_of(student) is Task.MASKED_LM
        collator = DataCollatorForLanguageModeling(tokenizer) if masks else DataCollatorWithPadding(tokenizer)
        return make_trainer(
            student, training, teacher, data_collator=collator, train_dataset=rows, processing_class=tokenizer
        )

    def spend(self, trainer: DistillationTrainer, folder: Path, share: float = 1.0) -> None:
        """Train, resuming an interrupted run.

        Args:
            trainer: The trainer, whose arguments contain the budget.
            folder: The folder for snapshots.
            share: The share of the whole budget that the trainer has.
        """
        trainer.add_callback(Snapshots(trainer, folder, self.points, share))
        trainer.train(resume_from_checkpoint=run_on_main_process(lambda: self.left_at(Path(trainer.args.output_dir))))

    def left_at(self, folder: Path) -> str | bool | None:
        """The checkpoint from which an interrupted run is resumed, if any."""
        return last_complete_checkpoint(folder)


class Untrained(Arm):
    """The student as it is created, which is only fine-tuned: the baseline of all other arms."""

    def __init__(self, name: str, comparison: Comparison):
        super().__init__(name, comparison)
        self.points, self.learning_rates = 1, self.args.learning_rates[:1]

    def check(self) -> None:
        """Refuse a comparison without fine-tuning, or without another arm."""
        if self.args.stage != MASKED_LM or not self.args.fine_tuning_steps or set(self.args.arms) == {UNTRAINED}:
            raise ValueError(
                f"the arm {UNTRAINED} is fine-tuned without the stage: stage must be {MASKED_LM!r}, fine_tuning_steps above 0 "
                f"and arms hold another one, got {self.args.stage!r}, {self.args.fine_tuning_steps}, {self.args.arms}"
            )

    def train(self, regime: str, changes: dict[str, Any]) -> list[str]:
        """Save the student, with a cost of 0."""
        set_seed(changes["seed"])
        student, folder = self.student(self.load_teacher()), Path(changes["output_dir"]) / "point-1"
        account = RunCost().as_dict() | {"steps": 0}
        run_on_main_process(
            lambda: (student.save_pretrained(folder), atomic_write(folder / "spent.json", json.dumps(account) + "\n"))
        )
        return []


class PreTrainedDistillation(Arm):
    """Masked language modeling for a share of the budget, soft labels of the corpus for the rest."""

    depends_on = ("pretraining_share",)

    def check(self) -> None:
        """Refuse a stage whose teacher is not a classifier of the task."""
        if self.args.stage != CLASSIFICATION:
            raise ValueError(
                f"the arm {PD} learns from a teacher of the task: stage must be {CLASSIFICATION!r}, got {self.args.stage!r}"
            )
        super().check()

    def data(self, regime: str) -> list[Dataset]:
        """Sequences of equal length for the first stage, single texts for the second."""
        return list(self.comparison.unlabeled[regime])

    def train(self, regime: str, changes: dict[str, Any]) -> list[str]:
        """Run both stages; the second starts from the model and cost saved by the first."""
        folder, (sequences, texts) = Path(changes["output_dir"]), self.data(regime)
        first, teacher = folder / "pretraining", self.load_teacher()
        finished = first / "finished.json"
        if not run_on_main_process(finished.exists):
            set_seed(changes["seed"])
            student = create_student(self.args.student, teacher, "random", task=MASKED_LM)
            share = self.args.pretraining_share
            limits = {name: share * self.given[name] for name in LIMITS if self.given[name] is not None}
            own = {"recipe": None, "output_dir": str(first)} | LABELS_ONLY | limits
            trainer = self.trainer(student, training_arguments(self.given, changes | own), None, sequences)
            self.spend(trainer, folder, share)
            trainer.save_model()
            spent = trainer.cost()
            run_on_main_process(lambda: atomic_write(finished, json.dumps(spent) + "\n"))
        set_seed(changes["seed"])  # the new head's weights
        student = load_classifier(first, **self.comparison.labels)
        own = {"recipe": "pre_trained_distillation", "output_dir": str(folder / "distillation")}
        trainer = self.trainer(student, training_arguments(self.given, changes | own), teacher, texts)
        trainer.continue_from(run_on_main_process(lambda: json.loads(finished.read_text())))
        self.spend(trainer, folder)
        return [f"{PD} reads the unlabeled texts of the corpus, the other arms the labeled ones"]


class ProKD(Arm):
    """Distillation along the teacher's checkpoints, then labels for `final_stage_budget` of the budget."""

    depends_on = own_fields(ProgressiveTrainingArguments)

    def check(self) -> None:
        """Refuse checkpoints of another task or teacher, and a final stage that does not end with the budget."""
        super().check()
        folders = self.given["teacher_checkpoints"]
        if not folders:
            raise ValueError(f"the arm {PRO_KD} follows the teacher's training: pass --teacher_checkpoints, got none")
        if self.given["final_stage_steps"] > 0:
            raise ValueError(
                f"the final stage of {PRO_KD} ends with the budget, of which it has final_stage_budget: final_stage_steps "
                f"must be -1, got {self.given['final_stage_steps']}"
            )
        source = folders[0] if len(folders) == 1 else folders
        last = find_checkpoints(source, self.given["skip_unreadable_checkpoints"])[-1]
        if last.is_adapter:
            return
        found = AutoConfig.from_pretrained(last.folder, trust_remote_code=False)
        expected = AutoConfig.from_pretrained(self.args.teacher_model_name_or_path, trust_remote_code=False)
        architecture = (found.architectures or [""])[0]
        if not architecture.endswith(HEAD[self.args.stage]):
            raise ValueError(
                f"in stage {self.args.stage} the checkpoints must be of a model ...{HEAD[self.args.stage]}, got "
                f"{architecture!r} in {last.folder}"
            )
        for name in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size", "id2label"):
            if getattr(found, name) != getattr(expected, name):
                raise ValueError(
                    f"the checkpoints must be of the teacher that the other arms have: {name} is {getattr(found, name)} in "
                    f"{last.folder}, {getattr(expected, name)} in {self.args.teacher_model_name_or_path}"
                )

    def method(self, student: PretrainedConfig, teacher: PreTrainedModel) -> tuple[dict[str, Any], list[str]]:
        """The teacher checkpoints; the trainer itself has the stages."""
        return {"recipe": None, "teacher_checkpoints": self.given["teacher_checkpoints"]}, []

    def asked(self, teacher: PreTrainedModel, training: ScriptTrainingArguments) -> None:
        """No live teacher beside the checkpoints."""

    def left_at(self, folder: Path) -> bool | None:
        """Whether there is a checkpoint; the trainer itself finds the stage."""
        return any(last_complete_checkpoint(folder / stage.value) for stage in Stage) or None


class HomoDistil(Arm):
    """A copy of the teacher is pruned to the width of the other arms' student."""

    depends_on = tuple(name for name in own_fields(PruningDistillTrainingArguments) if name not in TARGETS)

    def check(self) -> None:
        """Refuse a size to which the teacher cannot be pruned."""
        super().check()
        teacher = self.load_teacher()
        try:
            method, _ = self.method(teacher.config, teacher)
            ShrinkingStudent(teacher, training_arguments(self.given, method).shrinking_plan())
        except ValueError as error:
            raise ValueError(
                f"{HOMODISTIL} shrinks a copy of the teacher to the size of --student {self.args.student}: {error}"
            ) from error

    def student(self, teacher: PreTrainedModel) -> PreTrainedModel:
        """A copy of the teacher."""
        return copy.deepcopy(teacher).train()

    def method(self, student: PretrainedConfig, teacher: PreTrainedModel) -> tuple[dict[str, Any], list[str]]:
        """Target sizes: those of the other arms' student, as far as they can be reached; with remarks."""
        wanted, present = create_student(self.args.student, teacher, "random").config, teacher.config
        width, widest = wanted.hidden_size, present.hidden_size // present.num_attention_heads
        possible = [n for n in range(1, present.num_attention_heads + 1) if width % n == 0 and width // n <= widest]
        heads = min(possible, key=lambda n: abs(n - wanted.num_attention_heads), default=wanted.num_attention_heads)
        neurons = min(feed_forward_size(wanted), feed_forward_size(present))
        changes, remarks = self.comparable(heads, width, present)
        for name, reached, asked_for in (
            ("layers", present.num_hidden_layers, wanted.num_hidden_layers),
            ("heads", heads, wanted.num_attention_heads),
            ("neurons per layer", neurons, feed_forward_size(wanted)),
        ):
            if reached != asked_for:
                remarks.append(f"{HOMODISTIL} ends with {reached} {name}, not {asked_for}: it narrows its teacher")
        return changes | dict(zip(TARGETS, (width, neurons, heads), strict=False)), remarks


KINDS: dict[str, type[Arm]] = {UNTRAINED: Untrained, PD: PreTrainedDistillation, PRO_KD: ProKD, HOMODISTIL: HomoDistil}


def arm_of(name: str, comparison: Comparison) -> Arm:
    """The arm with this name."""
    return KINDS.get(name, Arm)(name, comparison)
