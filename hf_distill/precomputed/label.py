"""Precompute a teacher's outputs for every row of a transfer set, as columns beside the rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from torch import nn
from tqdm.auto import tqdm
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    default_data_collator,
)

from hf_distill.data.class_names import label_names
from hf_distill.data.limits import ReadingLimits, WithinLimits, require_padding_token, require_readable
from hf_distill.distributed.weights import num_elements
from hf_distill.fingerprints import json_sha256, table_sha256
from hf_distill.precomputed.folder import OutputFolder, exclusive_writing, recorded_dtype
from hf_distill.precomputed.forward import BatchedForward
from hf_distill.precomputed.labeling_options import LabelingOptions
from hf_distill.precomputed.masking import FixedMasks
from hf_distill.precomputed.prompted_forward import PromptedForward
from hf_distill.precomputed.provenance import Provenance
from hf_distill.precomputed.row_blocks import RowBlock, RowBlocks
from hf_distill.tasks import Task, class_of
from hf_distill.teachers.alignment import processing_sha256
from hf_distill.teachers.column_names import TEACHER_LOGITS, TEACHER_PROVENANCE, checkpoint_column, precomputed_columns
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.teachers.prompted import PromptedTeacher
from hf_distill.text.privacy import public_name

_TASKS = [task for task in Task if task is not Task.CAUSAL_LM]


def label_transfer_set(
    dataset: datasets.Dataset | datasets.IterableDataset,
    teacher_model: nn.Module | FrozenTeacher,
    data_collator: Callable[[list[dict]], dict] | PreTrainedTokenizerBase,
    output_dir: str | os.PathLike | None = None,
    cache_folder: str | os.PathLike | None = None,
    processing_class: Any = None,
    disable_tqdm: bool = False,
    **options: Any,
) -> datasets.Dataset:
    """Add a teacher's outputs to a transfer set, which `DistillationTrainer` reads instead of running the teacher.

    The column `teacher_logits` has the logits of each row: (classes,), the embedding (hidden,), per token (tokens, classes), or for question answering
    (2, tokens). For a masked-language model a row's masks are fixed, and the column holds log-probabilities, (masked, k + 1),
    of the tokens in `teacher_classes` and of all others together, at the positions in `teacher_positions`. The column
    `teacher_provenance` says which teacher the outputs are from. Under torchrun or accelerate every process computes its
    share, and all of them get the complete data set.

    Args:
        dataset: Tokenized texts (`input_ids`), or images; texts for a `PromptedTeacher`. A stream is read block by block.
        teacher_model: The teacher; a `FrozenTeacher` to choose precision, device, or the student's order of labels.
        data_collator: The tokenizer, which pads rows to a batch. For masked-language models `DataCollatorForLanguageModeling`,
            which sets the masks; for images `default_data_collator`; or any other that makes batches of model inputs.
        output_dir: Folder for Arrow shards, a manifest, a dataset card, and `cost.json`, the FLOPs and seconds that the
            outputs took. Shards that are there already are verified and kept, so that an interrupted call resumes; only
            missing and damaged ones are computed. None: everything stays in memory.
        cache_folder: In place of `output_dir`, a folder that gets a subfolder per combination of rows, teacher and options.
        processing_class: The tokenizer or image processor that made the inputs. None: the collator's, if it has one.
        disable_tqdm: Show no progress bar.
        **options: Fields of `LabelingOptions`.

    Returns:
        The rows, in their order, with more columns; those in a folder stay on disk.

    Raises:
        ValueError: The folder holds outputs of another teacher or for other rows, the teacher's task is none of the above,
            there are no rows or rows with outputs, a row is empty or longer than the teacher can read, or an output is not
            finite.
        FolderInUseError: Another process writes into the folder, and did not finish in time.
    """
    labeling = _Labeling(teacher_model, data_collator, processing_class, LabelingOptions(**options))
    blocks = RowBlocks(dataset, labeling.options.rows_per_shard, labeling.options.mask_epochs)
    labeling.require_readable(dataset, blocks.first)
    labeling.teacher.keep_dtype(None if output_dir is None else recorded_dtype(Path(output_dir)))
    with closing(labeling.forward):
        provenance = labeling.prepare(blocks)
        if output_dir is None and cache_folder is not None:
            output_dir = Path(cache_folder, _folder_name(provenance, blocks))
        if output_dir is None:
            with tqdm(total=blocks.rows, unit=" rows", desc="Labeling", disable=disable_tqdm) as bar:
                tables = [labeling.label_block(block, provenance, bar.update) for block in blocks]
            labeled = datasets.Dataset(pa.concat_tables(tables))
        else:
            with exclusive_writing(Path(output_dir)):
                output_folder = OutputFolder(Path(output_dir), provenance)
                labeled = output_folder.fill(blocks, labeling.label_block, labeling.flops, disable_tqdm)
    for name in ("dataset_name", "builder_name", "description", "license", "citation"):  # for the run record
        setattr(labeled.info, name, getattr(dataset.info, name))
    return labeled


def label_with_trajectory(
    dataset: datasets.Dataset,
    teachers: Iterable[FrozenTeacher],
    data_collator: Callable[[list[dict]], dict] | PreTrainedTokenizerBase,
    output_dir: str | os.PathLike | None = None,
    **options: Any,
) -> datasets.Dataset:
    """Add a column of outputs per checkpoint of a teacher, `teacher_logits_0` and so on, which `ProgressiveTrainer` reads.

    Args:
        dataset: Tokenized rows, on disk or in memory.
        teachers: The teacher's checkpoints in the order of training. An iterator that makes them one by one keeps one of
            them in memory at a time.
        data_collator: The tokenizer or collator, as for `label_transfer_set`.
        output_dir: Folder for a subfolder per checkpoint, `teacher-0` and so on. None: everything stays in memory.
        **options: Further arguments of `label_transfer_set`.

    Returns:
        The rows with two more columns per checkpoint, its outputs and their provenance.

    Raises:
        ValueError: `label_transfer_set` refuses the rows or a checkpoint, or a checkpoint has outputs other than logits.
    """
    parts = [dataset]
    for index, teacher in enumerate(teachers):
        folder = None if output_dir is None else Path(output_dir, f"teacher-{index}")
        labeled = label_transfer_set(dataset, teacher, data_collator, folder, **options)
        columns = {name: checkpoint_column(index, name) for name in (TEACHER_LOGITS, TEACHER_PROVENANCE)}
        if more := set(precomputed_columns(labeled.column_names)) - columns.keys():
            raise ValueError(
                f"checkpoints of a teacher are precomputed as logits alone, got the columns {sorted(more)} too"
            )
        parts.append(labeled.select_columns(list(columns)).rename_columns(columns))
    return datasets.concatenate_datasets(parts, axis=1)


class _Labeling:
    """One call of `label_transfer_set`.

    Args:
        teacher_model: The teacher.
        data_collator: The tokenizer or collator that makes batches of model inputs.
        processing_class: The tokenizer or image processor that made the inputs. None: the collator's.
        options: The options.

    Attributes:
        options: The options.
        teacher: The teacher.
        task: The task of the teacher's head.
        masks: The fixed masks of a masked-language model; None for other tasks.
        forward: Runs the teacher in batches.
    """

    def __init__(self, teacher_model: Any, data_collator: Any, processing_class: Any, options: LabelingOptions):
        if not isinstance(teacher_model, nn.Module | FrozenTeacher):
            raise ValueError(f"teacher_model must be a model or a FrozenTeacher, got a {type(teacher_model).__name__}")
        self.options = options
        self.teacher = teacher_model if isinstance(teacher_model, FrozenTeacher) else FrozenTeacher(teacher_model)
        self.task = _supported_task(self.teacher)
        if self.task is not Task.MASKED_LM and options.mask_epochs != 1:
            raise ValueError(
                f"mask_epochs is for masked-language models, the teacher's task is {self.task.value}; got "
                f"{options.mask_epochs}"
            )
        self._processing_class = processing_class or _processing_class_of(data_collator)
        self.masks, collate, vocabulary_size = None, _as_collator(data_collator), None
        run = BatchedForward
        if isinstance(self.teacher, PromptedTeacher):
            run, collate = PromptedForward, self.teacher.encoder
        if self.task is Task.MASKED_LM:
            if isinstance(data_collator, PreTrainedTokenizerBase):
                data_collator = DataCollatorForLanguageModeling(data_collator)
            if not isinstance(data_collator, DataCollatorForLanguageModeling):
                raise ValueError(
                    "a masked-language model needs DataCollatorForLanguageModeling or a tokenizer as data_collator, "
                    f"got a {type(data_collator).__name__}"
                )
            self.masks = FixedMasks(data_collator, options.seed)
            collate = DataCollatorWithPadding(data_collator.tokenizer)
            vocabulary_size = max(data_collator.tokenizer.get_vocab().values()) + 1
        limits = ReadingLimits.of(self.teacher.model, "teacher")
        limits.require_tokenizer(self._processing_class)
        if options.rows_per_batch(self.teacher.device) > 1:
            require_padding_token(self.teacher.model, "teacher", self.task)
        self.forward = run(
            self.teacher, self.task, WithinLimits(collate, [limits]), options, self.masks, vocabulary_size
        )

    def require_readable(self, dataset: Any, first: datasets.Dataset) -> None:
        """Refuse rows that have teacher outputs already, and rows of a data set on disk that the teacher cannot read."""
        if there := precomputed_columns(first.column_names):
            raise ValueError(
                f"the rows have teacher outputs already, {there}; remove these columns to label the rows with another teacher"
            )
        if first.format["type"] != "custom" and not self.forward.reads_any(first.column_names):
            raise ValueError(
                f"the transfer set has the columns {first.column_names}, none of which the teacher reads, so tokenize its "
                "texts, or process its images, first"
            )
        limits = ReadingLimits.of(self.teacher.model, "teacher", self.teacher.input_prefix)
        require_readable(dataset, "the transfer set", [limits])

    def prepare(self, blocks: RowBlocks) -> Provenance:
        """Resolve the teacher's precision on the first rows, and return the provenance of the outputs."""
        self.forward.prepare(blocks.first)
        options, of_masked_tokens = self.options, ("top_k", "sampled", "temperature", "mask_epochs", "seed")
        texts = [name for name, feature in blocks.first.features.items() if feature == datasets.Value("string")]
        return Provenance(
            teacher=self._teacher_description(),
            task=self.task.value,
            labels=self._labels(),
            processing_class=self._processing_description(),
            text_columns=texts if options.text_columns is None else list(options.text_columns),
            max_length=options.max_length or blocks.longest(),
            dtype=options.dtype,
            top_classes={name: getattr(options, name) for name in of_masked_tokens} if self.masks else None,
            hidden_states=list(options.hidden_states),
            cls_states=list(options.cls_states),
            rows_per_shard=options.rows_per_shard,
            problem_type=self._problem_type(),
        )

    def flops(self) -> float:
        """FLOPs of the teacher's forward passes so far."""
        return self.forward.flops

    def label_block(self, block: RowBlock, provenance: Provenance, progress: Callable[[int], Any]) -> pa.Table:
        """The rows of a block, masked for a masked-language model, with the columns of the teacher's outputs."""
        rows = block.rows if self.masks is None else self.masks.mask(block.rows, block.epoch, block.first_row)
        table = rows.with_format("arrow")[:]
        columns, fingerprints = self.forward.columns(rows, block.epoch, block.first_row, progress)
        columns[TEACHER_PROVENANCE] = provenance.column(table, fingerprints)
        provenance_feature = {TEACHER_PROVENANCE: provenance.feature(fingerprints)}
        schema = datasets.Features({**rows.features, **self.forward.features(), **provenance_feature}).arrow_schema
        return pa.Table.from_arrays([*table.columns, *columns.values()], names=schema.names).cast(schema)

    def _teacher_description(self) -> dict[str, Any]:
        config = getattr(self.teacher.model, "config", None)
        return {
            "name": public_name(getattr(config, "_name_or_path", "") or class_of(self.teacher.model).__name__),
            "revision": getattr(config, "_commit_hash", None),
            "architecture": class_of(self.teacher.model).__name__,
            "weights_sha256": self.teacher.weights_sha256,
            "parameters": sum(num_elements(each) for each in self.teacher.model.parameters()),
            "dtype": str(self.teacher.dtype).removeprefix("torch."),
            **{name: getattr(config, name, None) for name in ("model_type", "hidden_size", "num_hidden_layers")},
            **self.teacher.settings,
        }

    def _problem_type(self) -> str | None:
        return getattr(self.teacher.config, "problem_type", None) if self.task.has_problem_type else None

    def _labels(self) -> list[str] | None:
        if not self.task.has_labels:
            return None
        config: Any = self.teacher.config
        names, order = label_names(config), self.teacher.label_permutation
        return names if order is None else [names[index] for index in order.tolist()]

    def _processing_description(self) -> dict[str, str] | None:
        sha256 = None if self.teacher.input_prefix else processing_sha256(self._processing_class)
        if sha256 is None:
            return None
        name = getattr(self._processing_class, "name_or_path", "") or type(self._processing_class).__name__
        return {"name": public_name(name), "sha256": sha256}


def _supported_task(teacher: FrozenTeacher) -> Task:
    task = teacher.task
    if task is None or task not in _TASKS:
        raise ValueError(
            f"teacher outputs are precomputed for the tasks {[each.value for each in _TASKS]}, the teacher is a "
            f"{class_of(teacher.model).__name__}"
        )
    return task


def _as_collator(data_collator: Any) -> Callable[[list[dict]], dict]:
    if isinstance(data_collator, PreTrainedTokenizerBase):
        return DataCollatorWithPadding(data_collator)
    return (
        data_collator
        if callable(data_collator) and not hasattr(data_collator, "to_json_string")
        else default_data_collator
    )


def _processing_class_of(data_collator: Any) -> Any:
    if processing_sha256(data_collator) is not None:
        return data_collator
    return getattr(data_collator, "tokenizer", None) or getattr(data_collator, "processing_class", None)


def _folder_name(provenance: Provenance, blocks: RowBlocks) -> str:
    rows = [table_sha256(block.table) for block in blocks]
    return f"{provenance.teacher['weights_sha256'][:16]}-{json_sha256([provenance.identity(), rows])[:16]}"
