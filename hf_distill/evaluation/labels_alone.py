"""What labels alone give: a cheap classifier of texts, cross-validated on the labeled rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_distill.evaluation.predictions import Predictions, predictions_of_classes
from hf_distill.extras import require_extra

FOLDS = 5
_MOST_N_GRAM = 2


def cross_validated_predictions(
    texts: Sequence[str],
    classes: np.ndarray,
    folds: int = FOLDS,
    further_texts: Sequence[str] = (),
    further_classes: Sequence[int] | np.ndarray = (),
) -> Predictions:
    """Predict every text by a logistic regression on tf-idf of words and pairs of words, trained on the other folds.

    Args:
        texts: The texts.
        classes: The class of each, (texts,), with two different classes at least.
        folds: The number of parts, each predicted from the others; fewer if there are fewer texts.
        further_texts: Texts that every part is predicted from too, such as the training split.
        further_classes: The class of each of them.

    Returns:
        The predictions and their metrics.

    Raises:
        ValueError: There are fewer than four texts, or only one class.
    """
    if len(texts) < 4 or len(set(classes.tolist())) < 2:
        raise ValueError(
            f"cross-validation needs at least 4 texts of 2 classes, got {len(texts)} of {len(set(classes.tolist()))}"
        )
    require_extra("sklearn", "eval", "a classifier on labels alone")
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, StratifiedKFold

    smallest = np.unique(classes, return_counts=True)[1].min()
    count = min(folds, len(texts))
    split = (StratifiedKFold if smallest >= count else KFold)(count, shuffle=True, random_state=0)
    array, predicted = np.array(texts, dtype=object), np.empty_like(classes)
    for others, test in split.split(array, classes):
        train = [*array[others], *further_texts]
        labels = np.array([*classes[others], *further_classes])
        # With a pattern for any characters but white space every text that is not empty has words.
        words = TfidfVectorizer(ngram_range=(1, _MOST_N_GRAM), sublinear_tf=True, token_pattern=r"\S+")
        model = LogisticRegression(max_iter=1000) if len(set(labels.tolist())) > 1 else DummyClassifier()
        predicted[test] = model.fit(words.fit_transform(train), labels).predict(words.transform(array[test]))
    return predictions_of_classes(predicted, classes)
