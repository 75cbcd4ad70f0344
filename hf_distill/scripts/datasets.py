"""Data sets by the names that scripts and commands take: built-in sets, files, saved folders, and ids on the Hub."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Value, load_from_disk
from transformers import PretrainedConfig

from hf_distill.data.corpus import Texts
from hf_distill.data.files import FILE_TYPES, load_files, load_named, load_texts, require_texts
from hf_distill.data.sequences import column_of_class_names, label_ids
from hf_distill.files import require_sound_table
from hf_distill.precomputed.provenance import provenances
from hf_distill.precomputed.shards import MANIFEST, load_teacher_outputs
from hf_distill.pretrained.loading import SavedModel
from hf_distill.resources.built_in import LABELED, UNLABELED_TEXTS, WORDS, load_labeled, load_unlabeled
from hf_distill.resources.squad import is_squad_file, load_squad_file
from hf_distill.tasks import Task
from hf_distill.text.suggestions import suggestion

PAIR = ("first_text", "second_text")
_SPLITS_OF_SQUAD = {"dev": "validation"}

logger = logging.getLogger(__name__)


def load_splits(name: str, config: str | None = None) -> dict[str, Dataset]:
    """Load every split of a data set.

    Args:
        name: A built-in set (one of `LABELED`), a .csv, .json, .jsonl, .txt or .parquet file (one split, named after the
            file), a folder written by `save_to_disk`, a folder with SQuAD's files (such as train-v2.0.json), a folder with
            precomputed teacher outputs (one split, train), or any name that `datasets.load_dataset` takes.
        config: The name of the data set's configuration. None: the default one.

    Returns:
        The rows by split.

    Raises:
        ValueError: The file is of another type, or a saved folder's rows point outside of their files.
        OSError: The data set does not exist.
    """
    path = Path(name)
    if name in LABELED:
        return load_labeled(name)
    if path.is_file():
        if path.suffix not in FILE_TYPES:
            raise ValueError(f"a data file must be one of {sorted(FILE_TYPES)}, got {name!r}")
        if is_squad_file(path):
            return {path.stem: load_squad_file(path)}
        return load_files({path.stem: name})
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        loaded = load_from_disk(name)
        splits = dict(loaded) if isinstance(loaded, DatasetDict) else {path.name: loaded}
        for split, rows in splits.items():
            require_sound_table(rows.data, f"{name} ({split})")
        return splits
    if (path / MANIFEST).is_file():
        return {"train": _with_label_names(load_teacher_outputs(path))}
    if of_squad := [file for file in sorted(path.glob("*.json")) if is_squad_file(file)]:
        return {
            _SPLITS_OF_SQUAD.get(part := file.stem.partition("-")[0], part): load_squad_file(file) for file in of_squad
        }
    return dict(load_named(name, config))


def load_named_splits(
    name: str, built_in: Sequence[str], config: str | None = None, **options: Any
) -> dict[str, Dataset]:
    """Load every split of a built-in set of one kind, of a data set of the Hub, or of a local folder with one.

    Args:
        name: The name, the id or the path.
        built_in: The names of the built-in sets of the kind that the caller takes.
        config: The name of the data set's configuration. None: the default one.
        **options: Arguments of `datasets.load_dataset`, for sets that are not built in.

    Returns:
        The rows by split.

    Raises:
        ValueError: The name is that of a built-in set of another kind.
        OSError: The data set does not exist.
    """
    if name in built_in:
        return load_labeled(name)
    if name in LABELED:
        raise ValueError(
            f"dataset_name must be one of the built-in {list(built_in)} here, or no built-in one, got {name!r}"
        )
    return dict(load_named(name, config, **options))


def load_unlabeled_rows(source: str, streaming: bool = False) -> Texts:
    """Load texts or words to pre-train on, to label or to augment.

    Args:
        source: A built-in set, of which no row that is evaluated on is returned; or a file, a folder of files, or a data set,
            of which the training split is returned.
        streaming: Read files and data sets as a stream; built-in sets are small enough not to be.

    Returns:
        The rows.

    Raises:
        ValueError: The folder has files of several types, or none of a supported type.
        OSError: The source does not exist.
    """
    if source in UNLABELED_TEXTS or source in WORDS:
        return load_unlabeled(source)
    return load_texts(source, streaming=streaming)


def load_evaluation_rows(source: str) -> list[Dataset]:
    """Load the rows that students are evaluated on: of a built-in set all but the training split, else all rows."""
    if source in LABELED:
        return [rows for split, rows in load_labeled(source).items() if split != "train"]
    return [load_texts(source)]


def _with_label_names(labeled: Dataset) -> Dataset:
    """Add to rows with teacher outputs, which have class indices under `labels`, the class names under `label`."""
    names = next((each.labels for each in provenances(labeled).values()), None)
    if names is None or "labels" not in labeled.column_names or "label" in labeled.column_names:
        return labeled
    if hasattr(labeled.features["labels"], "feature"):  # of tokens; the labels of words have a column of their own
        return labeled
    found = [names[index] if 0 <= index < len(names) else None for index in labeled["labels"][:]]
    return labeled.add_column("label", found, feature=Value("string"))


def choose_split(splits: dict[str, Dataset], wanted: str | None) -> tuple[str, Dataset]:
    """Choose the split to evaluate on.

    Args:
        splits: The data set's splits by name.
        wanted: The name of a split. None: test, else validation, else the only one.

    Returns:
        The split's name and its rows.

    Raises:
        ValueError: There is no such split, or none of the defaults among several splits.
    """
    default = next((name for name in ("test", "validation") if name in splits), None)
    name = wanted or default or (next(iter(splits)) if len(splits) == 1 else None)
    if name is None or name not in splits:
        raise ValueError(f"split must be one of {sorted(splits)}, got {wanted!r}")
    return name, splits[name]


def fitting_split(splits: Mapping[str, Dataset], evaluated: str, wanted: str) -> Dataset:
    """The rows of a split that something is fitted on, which must be other than those that are evaluated.

    Args:
        splits: The data set's splits by name.
        evaluated: The name of the split to evaluate on.
        wanted: The name of the split to fit on.

    Returns:
        The rows of the wanted split.

    Raises:
        ValueError: There is no such split, or it is the evaluated one.
    """
    if wanted not in splits or wanted == evaluated:
        others = sorted(set(splits) - {evaluated})
        raise ValueError(f"the split to fit on must be one of {others}, which are not evaluated, got {wanted!r}")
    return splits[wanted]


def sample(rows: Dataset, most: int | None) -> Dataset:
    """At most so many rows, drawn at random with a fixed seed; all if `most` is None."""
    return rows if most is None or most >= len(rows) else rows.shuffle(seed=0).select(range(most))


def splits_with_columns(
    splits: Mapping[str, Dataset], texts: list[str] | None, label: str | None
) -> dict[str, Dataset]:
    """Select the columns of texts and labels in every split; some splits may lack the labels.

    Args:
        splits: The data set's splits by name.
        texts: The name of the column of texts, or the names of two for pairs of texts. None: all columns are kept.
        label: The name of the column of labels. None: the column is called label.

    Returns:
        The splits by name, with their columns renamed as `with_columns` does.

    Raises:
        ValueError: There are more than two columns of texts, one of them is missing, or no split has the labels.
    """
    if texts and len(texts) > 2:
        raise ValueError(f"a row has one text or a pair of them, got the columns {texts}")
    columns = {name for rows in splits.values() for name in rows.column_names}
    if label and label not in columns:
        raise ValueError(f"the data have no column {label!r}, they have {sorted(columns)}{suggestion(label, columns)}")
    return {
        name: with_columns(rows, texts, label if label in rows.column_names else None) for name, rows in splits.items()
    }


def label_column_for(
    model: str, splits: Mapping[str, Dataset], label: str | None, flag: str = " (--label-column)"
) -> str | None:
    """The column of labels: the one that the user names, else label, else the one whose values are the model's classes.

    The last choice is logged as a warning.

    Args:
        model: A folder, or an id on the Hub.
        splits: The data set's splits by name.
        label: The name that the user gives. None: none.
        flag: The end of the warning, which names the option that the user gives the name with.

    Returns:
        The name of the column. None: it is called label, or there is none, or the model is for another task.

    Raises:
        OSError: The model does not exist.
    """
    if label is not None or any("label" in rows.column_names for rows in splits.values()):
        return label
    saved = SavedModel.find(model)
    is_classifier = saved.task is Task.SEQUENCE_CLASSIFICATION
    return recognized_label_column(splits, saved.config, f"{model}{flag}") if is_classifier else None


def recognized_label_column(splits: Mapping[str, Dataset], config: PretrainedConfig, whose: str) -> str | None:
    """The column of labels by its values, which are a model's classes; the choice is logged as a warning.

    Args:
        splits: The data set's splits by name.
        config: The configuration of the model.
        whose: The end of the warning, which names the model.

    Returns:
        The name of the column. None: no column of strings has such values, or several have.
    """
    ids = label_ids(config)
    found = {column_of_class_names(rows, ids) for rows in splits.values()} - {None} if ids else set()
    if len(found) != 1:
        return None
    name = found.pop()
    logger.warning(f"Labels are read from {name}, whose values are the classes of {whose}.")
    return name


def with_columns(rows: Dataset, texts: list[str] | None, label: str | None) -> Dataset:
    """Select the columns of texts and labels, and give them the names that the encoders expect.

    Args:
        rows: Raw rows.
        texts: The name of the column of texts, or the names of two for pairs of texts. None: all columns are kept.
        label: The name of the column of labels. None: the column is called label.

    Returns:
        The rows; a pair of texts is in the columns `PAIR`, labels are in the column label.

    Raises:
        ValueError: A column is missing, or a row has no text.
    """
    missing = {*(texts or ()), *([label] if label else ())} - set(rows.column_names)
    if missing:
        raise ValueError(f"the data have no columns {sorted(missing)}, they have {rows.column_names}")
    if texts:
        require_texts(rows, texts)  # here, where rows still have the numbers that they have in the file
        others = [name for name in (label or "label",) if name in rows.column_names]
        rows = rows.select_columns([*texts, *others])
        if len(texts) == 2:  # by these names the first of the two is not taken for the only one
            rows = rows.rename_columns(dict(zip(texts, PAIR, strict=True)))
    return rows.rename_column(label, "label") if label and label != "label" else rows
