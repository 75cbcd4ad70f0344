"""The predictions of a trained model on a labeled data set, and their metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    default_data_collator,
)

from hf_distill.data.class_names import ClassIds, label_names, positions
from hf_distill.data.images import encode_images, image_labels
from hf_distill.data.length_bucket_sampler import example_lengths
from hf_distill.data.limits import ReadingLimits, require_padding_token, require_readable
from hf_distill.data.questions import NO_INPUTS, WindowEncoder
from hf_distill.data.sequences import SequenceEncoder, encode_label, encode_single_texts, label_ids, text_columns
from hf_distill.data.words import WordEncoder, word_columns, word_label_ids
from hf_distill.evaluation.calibration import expected_calibration_error
from hf_distill.evaluation.class_scores import class_scores
from hf_distill.evaluation.formats import Runner
from hf_distill.evaluation.metric_text import SIMILARITY
from hf_distill.evaluation.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS, compute_metrics
from hf_distill.evaluation.question_answering import answers_from_logits, exact_match_and_f1, normalized
from hf_distill.evaluation.single_texts import scores_of_texts
from hf_distill.evaluation.text_pairs import scores_of_pairs
from hf_distill.evaluation.token_classification import entity_counts, entity_metric, type_scores
from hf_distill.objectives.reduction import IGNORE_INDEX, valid_positions
from hf_distill.tasks import MULTI_LABEL, Task, logits_of, problem_type_of, task_of

TASKS = (
    Task.SEQUENCE_CLASSIFICATION,
    Task.TOKEN_CLASSIFICATION,
    Task.QUESTION_ANSWERING,
    Task.IMAGE_CLASSIFICATION,
    Task.SENTENCE_EMBEDDING,
)


@dataclass(frozen=True)
class Predictions:
    """A model's predictions on a data set and their metrics.

    Attributes:
        metrics: The metrics over all labeled examples, by name.
        main_metric: The key of `metrics` that models are compared by; higher is better.
        num_examples: The number of rows that have a label; others are not scored.
        score: A function from indices of examples, with repetitions, (examples,), to the main metric on them.
        predictions: The predicted class, number or text of each item (example, or word), (items,); the cosine similarity of
            each pair for sentence encoders, the embeddings of single texts, (items, width).
        is_correct: Whether each prediction is correct, bool (items,); None for regression and sentence encoders.
        logits: The logits in the order of `Predictor.names`, (items, classes), or (items, 1) for regression; None for
            question answering; for sentence encoders the embeddings of all first texts, then of all second ones,
            (2 · items, width), or of single texts, (items, width).
        labels: The correct class of each item in the order of `Predictor.names`, (items,); None without classes.
        has_interval: Whether there are enough examples for a bootstrap interval of the main metric.
        by_class: The F1 of each class, or type of entity, see `class_scores`; empty without classes.
    """

    metrics: dict[str, float]
    main_metric: str
    num_examples: int
    score: Callable[[np.ndarray], float]
    predictions: np.ndarray
    is_correct: np.ndarray | None = None
    logits: np.ndarray | None = None
    labels: np.ndarray | None = None
    has_interval: bool = True
    by_class: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Predictor:
    """Runs one model on labeled data sets.

    Attributes:
        model: The model whose head and configuration define the task and the class names.
        processing_class: The model's tokenizer or image processor.
        run: The function that computes the model's outputs, in any number format.
        names: The class names in the order of the predictions; the model may have them in another order and case.
        batch_size: The number of examples per forward pass; examples of similar length are batched together.
        max_length: The maximum number of tokens; longer inputs are truncated.
        device: The device that `run` takes its inputs on.
        reference: The teacher's predictions of the same rows, with which embeddings of single texts are compared. None: the
            model is the teacher.
    """

    model: PreTrainedModel
    processing_class: Any
    run: Runner
    names: Sequence[str]
    batch_size: int = 32
    max_length: int = 128
    device: torch.device | str = "cpu"
    reference: Predictions | None = None

    def predict(self, rows: Dataset) -> Predictions:
        """Predict labeled rows and compute the metrics.

        Args:
            rows: The raw rows: texts and `label`, words and their labels, questions with contexts and answers, images, or
                pairs of texts, whose `label` is their similarity; without a label they belong together. Single texts of
                sentence encoders need no label.

        Returns:
            The predictions and their metrics.

        Raises:
            ValueError: The head's task is not in `TASKS`, the rows lack columns, or none has a label.
        """
        kinds = dict(
            zip(TASKS, (self._sequences, self._words, self._questions, self._images, self._embeddings), strict=True)
        )
        task = task_of(self.model)
        if task is None or task not in kinds:
            allowed = [each.value for each in TASKS]
            raise ValueError(f"models must be for one of {allowed}, got a {type(self.model).__name__}")
        if task.has_problem_type and problem_type_of(self.model.config) == MULTI_LABEL:
            raise ValueError(
                f"a {type(self.model).__name__} with problem type {MULTI_LABEL!r} gives each row several labels; compared are "
                "models that predict one class, or one number. Use Trainer.evaluate with compute_metrics."
            )
        return kinds[task](rows)

    def _sequences(self, rows: Dataset) -> Predictions:
        texts = text_columns(rows.features)
        if not texts or "label" not in rows.column_names:
            raise ValueError(f"the data need the column label and one or two of texts, got {rows.column_names}")
        ids = label_ids(self.model.config)
        inputs = SequenceEncoder(self.processing_class, ids, self.max_length)(rows, texts)
        logits = np.stack(self._logits(inputs, DataCollatorWithPadding(self.processing_class)))
        labels = inputs["labels"][:]
        return _of_numbers(logits, labels) if not ids else self._of_classes(logits, labels)

    def _embeddings(self, rows: Dataset) -> Predictions:
        inputs = encode_single_texts(rows, self.model.config, self.processing_class, self.max_length)
        logits = np.stack(self._logits(inputs, DataCollatorWithPadding(self.processing_class)))
        if len(logits) == len(rows):
            scores = scores_of_texts(logits, None if self.reference is None else self.reference.logits)
            return Predictions(
                scores.metrics, SIMILARITY, scores.num_texts, scores.score, logits, logits=logits,
                has_interval=scores.has_interval,
            )  # fmt: skip
        labels = (
            np.array([encode_label(each, ClassIds()) for each in rows["label"]]) if "label" in rows.features else None
        )
        found = scores_of_pairs(logits[: len(rows)], logits[len(rows) :], labels)
        return Predictions(found.metrics, found.main_metric, len(rows), found.score, found.cosines, logits=logits)

    def _images(self, rows: Dataset) -> Predictions:
        inputs = encode_images(rows, self.processing_class, self.model.config)
        logits = np.stack(self._logits(inputs, default_data_collator))
        return self._of_classes(logits, np.array(image_labels(rows, self.model.config)(rows["label"][:])))

    def _words(self, rows: Dataset) -> Predictions:
        text, label = word_columns(rows.features)
        inputs = WordEncoder(self.processing_class, word_label_ids(self.model.config), self.max_length)(
            rows, text, label
        )
        rows_of_logits = self._logits(inputs, DataCollatorForTokenClassification(self.processing_class))
        labels = [np.array(row) for row in inputs["labels"][:]]
        own = label_names(self.model.config)
        batches = [row[None] for row in rows_of_logits], [row[None] for row in labels]
        # The class is typed to hold single arrays; transformers also fills it with lists of batches.
        metrics = entity_metric(own, per_type=False)(EvalPrediction(*batches))  # type: ignore[arg-type]
        counted = [row != IGNORE_INDEX for row in labels]
        predicted = [row[each].argmax(-1) for row, each in zip(rows_of_logits, counted, strict=True)]
        gold = [row[each] for row, each in zip(labels, counted, strict=True)]
        pairs = [pair for pair in zip(predicted, gold, strict=True) if len(pair[1])]
        _require_labeled(len(pairs), len(rows))
        tags = [([own[i] for i in one], [own[i] for i in other]) for one, other in pairs]
        counts = np.array([entity_counts(*pair) for pair in tags])

        def score(examples: np.ndarray) -> float:
            correct, predicted, labeled = counts[examples].sum(axis=0)
            return 2 * correct / max(predicted + labeled, 1)

        logits = np.concatenate([row[each] for row, each in zip(rows_of_logits, counted, strict=True)])
        found = self._of_classes(logits, np.concatenate(gold))
        metrics["expected_calibration_error"] = found.metrics["expected_calibration_error"]
        main = "f1" if "f1" in metrics else "accuracy"
        by_class = type_scores(*zip(*tags, strict=True)) if main == "f1" else found.by_class
        return replace(
            found, metrics=metrics, main_metric=main, num_examples=len(counts), score=score, by_class=by_class
        )

    def _questions(self, rows: Dataset) -> Predictions:
        missing = {"question", "context", "answers"} - set(rows.column_names)
        if missing:
            raise ValueError(f"the data need the columns question, context and answers, got {rows.column_names}")
        windows = WindowEncoder.fitting(self.processing_class)(rows, for_training=False)
        both = self._logits(windows.remove_columns(NO_INPUTS), DataCollatorWithPadding(self.processing_class))
        longest = max(row.shape[-1] for row in both)
        start, end = np.stack([np.pad(row, ((0, 0), (0, longest - row.shape[-1]))) for row in both], axis=1)
        gold = [answers["text"] for answers in rows["answers"][:]]
        version_2, arrays = not all(gold), windows.with_format("numpy")
        texts, _ = answers_from_logits(
            start, end, arrays["offsets"], arrays["example"], rows["context"][:], arrays["null_position"],
            version_2=version_2,
        )  # fmt: skip
        single = [exact_match_and_f1([text], [answers], version_2) for text, answers in zip(texts, gold, strict=True)]
        f1 = np.array([each["f1"] for each in single])
        return Predictions(
            exact_match_and_f1(texts, gold, version_2),
            "f1",
            len(rows),
            lambda examples: float(f1[examples].mean()),
            np.array([normalized(text) for text in texts], dtype=object),
            np.array([each["exact_match"] > 0 for each in single]),
        )

    def _of_classes(self, logits: np.ndarray, labels: Sequence[int] | np.ndarray) -> Predictions:
        """The predictions of a classifier, with classes in the order of `names`; labels are the model's class ids."""
        own = label_names(self.model.config)
        order = positions(self.names, own)
        if order is None:
            raise ValueError(f"all models must have the classes {list(self.names)}, got one with {own}")
        ids, logits = np.array(labels), logits[:, order]
        counted = ids != IGNORE_INDEX
        _require_labeled(counted.sum(), len(ids))
        found = predictions_of_logits(logits[counted], classes := np.argsort(order)[ids[counted]])
        return replace(found, by_class=class_scores(classes, found.predictions, self.names))

    def _logits(self, inputs: Dataset, collate: Callable[[list[dict]], Mapping[str, Tensor]]) -> list[np.ndarray]:
        """The logits of each row without padding: (classes,), (tokens, classes), or (2, tokens) for starts and ends."""
        require_readable(inputs, "the data", [ReadingLimits.of(self.model, "model")])
        if self.batch_size > 1:
            require_padding_token(self.model, "model", task_of(self.model))
        lengths = example_lengths(inputs)
        order = np.arange(len(inputs)) if lengths is None else np.argsort(lengths, kind="stable")[::-1]
        found: list[np.ndarray] = [np.empty(0)] * len(inputs)
        for begin in range(0, len(order), self.batch_size):
            chosen = order[begin : begin + self.batch_size]
            batch = collate(inputs.__getitems__(chosen.tolist()))
            batch = {name: value.to(self.device) for name, value in batch.items()}
            given = {name: value for name, value in batch.items() if name != "labels"}
            logits = logits_of(self.run(given), valid_positions(given)).float().cpu().numpy()
            for row, index in zip(logits, chosen, strict=True):
                length = lengths[index] if lengths is not None else None
                is_span = row.ndim == 2 and task_of(self.model) is Task.QUESTION_ANSWERING
                found[index] = row[:, :length] if is_span else row[:length] if row.ndim == 2 else row
        return found


def predictions_of_logits(logits: np.ndarray, classes: np.ndarray) -> Predictions:
    """The predictions of a classifier, from its logits.

    Args:
        logits: The logits, (items, classes), of at least one item.
        classes: The correct classes, (items,).

    Returns:
        The predictions, with accuracy as their main metric.
    """
    found = predictions_of_classes(logits.argmax(axis=-1), classes)
    probabilities = torch.from_numpy(logits).double().softmax(dim=-1).numpy()
    error = {"expected_calibration_error": expected_calibration_error(probabilities, classes)}
    return replace(found, metrics=found.metrics | error, logits=logits)


def predictions_of_classes(predictions: np.ndarray, classes: np.ndarray) -> Predictions:
    """Like `predictions_of_logits`, from the predicted classes alone, (items,)."""
    is_correct = predictions == classes
    return Predictions(
        compute_metrics(CLASSIFICATION_METRICS, classes, predictions),
        "accuracy",
        len(classes),
        lambda examples: float(is_correct[examples].mean()),
        predictions,
        is_correct,
        labels=classes,
    )


def _require_labeled(count: int, num_rows: int) -> None:
    if count == 0:
        raise ValueError(f"none of the {num_rows} rows has a label: there is nothing to compare models by")


def _of_numbers(logits: np.ndarray, labels: Sequence[float]) -> Predictions:
    """The predictions of a regression head."""
    predictions, values = logits[:, 0], np.array(labels)
    main = REGRESSION_METRICS[0]
    return Predictions(
        compute_metrics(REGRESSION_METRICS, values, predictions),
        main,
        len(values),
        lambda examples: compute_metrics((main,), values[examples], predictions[examples])[main],
        predictions,
        logits=logits,
    )
