"""The arms of compare_under_budget.py: how each of them spends the budget on a student.

    Arm                     no_kd and recipes: one `DistillationTrainer`, without a teacher or with one
    Untrained               untrained: the student as it is created, which is only fine-tuned; spends nothing
    PreTrainedDistillation  pd: masked words without a teacher, then a teacher's soft labels (Turc et al. 2019)
    ProKD                   pro_kd: `ProgressiveTrainer` on the teacher's checkpoints, then labels (Rezagholizadeh et al. 2021)
    HomoDistil              homodistil: `PruningDistillTrainer` narrows a copy of the teacher (Liang et al. 2023)

All that train do so by `Arm.trainer` and `Arm.spend`: the same collators and batches, losses normalized in one place, learning rates
that follow what is spent, `Snapshots` after equal parts of the whole budget, and a stopped run that goes on. What is
compared on which data, the cells, the judging and the verdict are in compare_under_budget.py.
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
    """Fields that one kind of training arguments has beside those that all trainers have."""
    common = {each.name for each in fields(DistillationTrainingArguments)}
    return tuple(each.name for each in fields(arguments) if each.name not in common)


def training_arguments(given: dict[str, Any], changes: dict[str, Any]) -> ScriptTrainingArguments:
    """Those given, changed; they name checkpoints to follow, or sizes to shrink to, where the changes do."""
    return ScriptTrainingArguments(**(given | {"teacher_checkpoints": None} | changes))


class Snapshots(TrainerCallback):
    """Saves the student and what was spent after equal parts of the whole budget, of which the trainer's may be a share."""

    def __init__(self, trainer: DistillationTrainer, folder: Path, points: int, share: float = 1.0):
        self.trainer, self.folder, self.points = trainer, folder, share * points
        self.taken = run_on_main_process(self._found)

    def _found(self) -> int:
        """The last point that a stopped run has left."""
        left = self.folder.glob("point-*/spent.json")
        return max((int(path.parent.name.removeprefix("point-")) for path in left), default=0)

    def on_step_end(self, args, state, control, **kwargs):
        position, total = self.trainer.budget_position()
        due = int(self.points * position) // total
        if due > self.taken:
            self.trainer.settle()
            self.trainer.save_model(str(self.folder / f"point-{due}"))
            content = self.trainer.spent() | {"steps": state.global_step}
            run_on_main_process(
                lambda: atomic_write(self.folder / f"point-{due}" / "spent.json", json.dumps(content) + "\n")
            )
            self.taken = due


class Arm:
    """Labels alone, or a recipe, in one stage; the other arms change parts of it.

    Attributes:
        depends_on: Arguments that make cells of this arm, and of no other.
        points: How many students a training leaves, after equal parts of the budget.
        learning_rates: To choose from.
    """

    depends_on: tuple[str, ...] = ()

    def __init__(self, name: str, comparison: Comparison):
        self.name, self.comparison = name, comparison
        self.args, self.given = comparison.args, comparison.given
        self.points, self.learning_rates = self.args.points, self.args.learning_rates

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this arm's cells, beside what makes all cells."""
        known = vars(self.args) | self.given
        return {name: known[name] for name in self.depends_on}

    def check(self) -> None:
        """Refuse, before anything is trained, what the arm cannot do.

        Raises:
            ValueError: Says what is in the way.
        """
        if self.name != NO_KD and self.args.stage == CLASSIFICATION:
            found = AutoConfig.from_pretrained(self.args.teacher_model_name_or_path, trust_remote_code=False).id2label
            if [found.get(index) for index in range(len(self.comparison.names))] != self.comparison.names:
                raise ValueError(f"the teacher's classes must be {self.comparison.names}, got {found}")

    def data(self, regime: str) -> list[Dataset]:
        """What the budget is spent on, one for each stage."""
        return [self.comparison.data[regime]]

    def tokens(self, regime: str) -> int:
        """Of one reading of its data."""
        return sum(length for rows in self.data(regime) for length in example_lengths(rows))

    def train(self, regime: str, changes: dict[str, Any]) -> list[str]:
        """Spend the budget on a student; returns remarks on the method.

        Args:
            regime: Names the data.
            changes: Training arguments of the cell: learning_rate, seed and output_dir.
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
        """The one all arms have."""
        with unsharded_loading():
            return AUTO_CLASS[self.args.stage].from_pretrained(
                self.args.teacher_model_name_or_path, trust_remote_code=False
            )

    def student(self, teacher: PreTrainedModel) -> PreTrainedModel:
        """Before its first step."""
        return create_student(self.args.student, teacher, "random")

    def method(self, student: PretrainedConfig, teacher: PreTrainedModel) -> tuple[dict[str, Any], list[str]]:
        """What the arm sets, as far as the two models can be compared, and in what it therefore differs from its paper."""
        if self.name == NO_KD:
            return {"recipe": None} | LABELS_ONLY, []
        return self.comparable(student.num_attention_heads, student.hidden_size, teacher.config)

    def comparable(self, heads: int, width: int, teacher: PretrainedConfig) -> tuple[dict[str, Any], list[str]]:
        """The arm's recipe for a student with so many heads and of such a width."""
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
        """Who answers while the student trains."""
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
        """The one that the arguments ask for."""
        tokenizer = self.comparison.tokenizer
        masks = task_of(student) is Task.MASKED_LM
        collator = DataCollatorForLanguageModeling(tokenizer) if masks else DataCollatorWithPadding(tokenizer)
        return make_trainer(
            student, training, teacher, data_collator=collator, train_dataset=rows, processing_class=tokenizer
        )

    def spend(self, trainer: DistillationTrainer, folder: Path, share: float = 1.0) -> None:
        """Train, from where the run was left if it was.

        Args:
            trainer: Its arguments hold the budget.
            folder: Gets the points.
            share: Of the whole budget, what the trainer's is.
        """
        trainer.add_callback(Snapshots(trainer, folder, self.points, share))
        trainer.train(resume_from_checkpoint=run_on_main_process(lambda: self.left_at(Path(trainer.args.output_dir))))

    def left_at(self, folder: Path) -> str | bool | None:
        """What a stopped run goes on from."""
        return last_complete_checkpoint(folder)


class Untrained(Arm):
    """The student as it is created: what fine-tuning alone makes of it says what the stage is worth."""

    def __init__(self, name: str, comparison: Comparison):
        super().__init__(name, comparison)
        self.points, self.learning_rates = 1, self.args.learning_rates[:1]

    def check(self) -> None:
        """Refuse a comparison in which no fine-tuning follows, or with nothing to compare."""
        if self.args.stage != MASKED_LM or not self.args.fine_tuning_steps or set(self.args.arms) == {UNTRAINED}:
            raise ValueError(
                f"the arm {UNTRAINED} is fine-tuned without the stage: stage must be {MASKED_LM!r}, fine_tuning_steps above 0 "
                f"and arms hold another one, got {self.args.stage!r}, {self.args.fine_tuning_steps}, {self.args.arms}"
            )

    def train(self, regime: str, changes: dict[str, Any]) -> list[str]:
        """Leave the student and an empty account."""
        set_seed(changes["seed"])
        student, folder = self.student(self.load_teacher()), Path(changes["output_dir"]) / "point-1"
        account = RunCost().as_dict() | {"steps": 0}
        run_on_main_process(
            lambda: (student.save_pretrained(folder), atomic_write(folder / "spent.json", json.dumps(account) + "\n"))
        )
        return []


class PreTrainedDistillation(Arm):
    """A share of the budget for masked words of the corpus, the rest for soft labels of its texts; one account of both."""

    depends_on = ("pretraining_share",)

    def check(self) -> None:
        """Refuse a stage whose teacher has no soft labels of the task."""
        if self.args.stage != CLASSIFICATION:
            raise ValueError(
                f"the arm {PD} learns from a teacher of the task: stage must be {CLASSIFICATION!r}, got {self.args.stage!r}"
            )
        super().check()

    def data(self, regime: str) -> list[Dataset]:
        """Sequences, and texts one by one."""
        return list(self.comparison.unlabeled[regime])

    def train(self, regime: str, changes: dict[str, Any]) -> list[str]:
        """Both stages; the second begins from what the first has left in its folder."""
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
            spent = trainer.spent()
            run_on_main_process(lambda: atomic_write(finished, json.dumps(spent) + "\n"))
        set_seed(changes["seed"])  # the new head's weights
        student = load_classifier(first, **self.comparison.labels)
        own = {"recipe": "pre_trained_distillation", "output_dir": str(folder / "distillation")}
        trainer = self.trainer(student, training_arguments(self.given, changes | own), teacher, texts)
        trainer.continue_from(run_on_main_process(lambda: json.loads(finished.read_text())))
        self.spend(trainer, folder)
        return [f"{PD} reads the unlabeled texts of the corpus, the other arms the labeled ones"]


class ProKD(Arm):
    """The teacher's checkpoints one after the other, then labels for `final_stage_budget` of the budget."""

    depends_on = own_fields(ProgressiveTrainingArguments)

    def check(self) -> None:
        """Refuse checkpoints of another task or another teacher, and a final stage that would not spend the budget."""
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
        """The trainer's own stages."""
        return {"recipe": None, "teacher_checkpoints": self.given["teacher_checkpoints"]}, []

    def asked(self, teacher: PreTrainedModel, training: ScriptTrainingArguments) -> None:
        """The checkpoints are."""

    def left_at(self, folder: Path) -> bool | None:
        """The trainer itself finds the stage."""
        return any(last_complete_checkpoint(folder / stage.value) for stage in Stage) or None


class HomoDistil(Arm):
    """A copy of the teacher becomes as narrow as the other arms' student is."""

    depends_on = tuple(name for name in own_fields(PruningDistillTrainingArguments) if name not in TARGETS)

    def check(self) -> None:
        """Refuse a size that the teacher cannot shrink to."""
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
        """As its teacher."""
        return copy.deepcopy(teacher).train()

    def method(self, student: PretrainedConfig, teacher: PreTrainedModel) -> tuple[dict[str, Any], list[str]]:
        """The sizes it shrinks to: those of the other arms' student, as far as they can be reached."""
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
    """The arm with a name."""
    return KINDS.get(name, Arm)(name, comparison)
