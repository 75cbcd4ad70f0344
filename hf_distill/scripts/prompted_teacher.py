"""A prompted language model and the texts that it labels, as the options of commands name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datasets import Dataset, IterableDataset
from transformers import AutoModelForCausalLM

from hf_distill.data.files import with_texts
from hf_distill.objectives.label_words import LabelScore
from hf_distill.pretrained.loading import SavedModel
from hf_distill.scripts.datasets import load_unlabeled_rows
from hf_distill.scripts.user_errors import WrongUsage
from hf_distill.teachers.prompted import PromptedTeacher
from hf_distill.teachers.prompts import CONTENT_FREE, Prompt
from hf_distill.text.suggestions import choice

_ESCAPES = {r"\n": "\n", r"\t": "\t"}  # which shells pass on as they are typed


@dataclass(frozen=True)
class PromptOptions:
    """The options of commands that prompt a language model.

    Attributes:
        templates: The templates.
        labels: The words of each label, each as "name=words".
        score: A value of `LabelScore`.
        calibrate: Whether to calibrate by texts without content.
    """

    templates: Sequence[str]
    labels: Sequence[str]
    score: str = LabelScore.SUM.value
    calibrate: bool = False

    def prompt(self) -> Prompt:
        """The prompt; escape sequences of line breaks and tabs in templates and words are read as such.

        Returns:
            The prompt.

        Raises:
            WrongUsage: A label is not of the form name=words, or named twice, or the score is unknown.
            ValueError: See `Prompt`.
        """
        words: dict[str, str] = {}
        for pair in self.labels:
            name, equals, value = pair.partition("=")
            if not name or not equals or name in words:
                raise WrongUsage(f"--label takes name=words, once per label, such as 'positive= good'; got {pair!r}")
            words[name] = _unescaped(value)
        score = choice(LabelScore, self.score, "--label-score")
        return Prompt(list(map(_unescaped, self.templates)), words, score, CONTENT_FREE if self.calibrate else ())


def load_prompted_teacher(
    name: str,
    options: PromptOptions,
    text_columns: Sequence[str],
    max_length: int | None,
    dtype: str = "auto",
    device: str | None = None,
    revision: str | None = None,
) -> PromptedTeacher:
    """Load a causal language model as a teacher.

    Args:
        name: The model, a folder or an id on the Hub.
        options: The prompt.
        text_columns: The column of texts, or two of pairs of texts.
        max_length: Tokens that longer texts are cut to. None: as many as the model can read.
        dtype: The precision to compute in, see `FrozenTeacher`.
        device: The device to compute on. None: the CPU.
        revision: The branch, tag or commit of the model.

    Returns:
        The teacher.

    Raises:
        ValueError: The prompt does not fit the model, or weights are missing.
        OSError: The model, or its tokenizer, cannot be found.
    """
    prompt, saved = options.prompt(), SavedModel.find(name, revision=revision)
    prompt.require_columns(text_columns)
    model, missing = saved.load(AutoModelForCausalLM)
    if missing:
        raise ValueError(f"the teacher {name!r} has no trained weights for {missing}")
    return PromptedTeacher(model, saved.needed_tokenizer(), prompt, text_columns, max_length, dtype, device)


def load_raw_rows(
    source: str, columns: Sequence[str], streaming: bool = False, labels: bool = True
) -> Dataset | IterableDataset:
    """Load texts without model inputs, which a prompted teacher makes itself.

    Args:
        source: A built-in set, a data set's id on the Hub, a file, or a folder of files.
        columns: The columns of texts.
        streaming: Read the texts as a stream.
        labels: Whether to keep the column label.

    Returns:
        The rows.

    Raises:
        WrongUsage: A column does not exist.
        ValueError: A row has no text.
    """
    rows = load_unlabeled_rows(source, streaming)
    names = rows.column_names or list(next(iter(rows)))
    if missing := sorted(set(columns) - set(names)):
        raise WrongUsage(f"the dataset has no columns {missing}, it has {names}")
    rows = with_texts(rows, columns)
    return rows.remove_columns("label") if "label" in names and not labels else rows


def _unescaped(text: str) -> str:
    for typed, meant in _ESCAPES.items():
        text = text.replace(typed, meant)
    return text
