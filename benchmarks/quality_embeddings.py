"""Embedding students of multilingual-e5-small on WordNet: python benchmarks/quality_embeddings.py

The teacher (12 layers, 117.5 million parameters, most of them embeddings of 250,002 tokens) embeds definitions and examples
of use. Students have 4 of its layers, evenly spaced, and the 19,000 most frequent tokens of these texts; they learn from the
recorded embeddings. On pairs of an example and its definition of the test split, whose definitions no student has seen, it measures
the correlation with the teacher's similarities, the agreement of the 10 nearest definitions, and the teacher's and
students' scores of finding the definition of an example. A seed that is done is not run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import datasets
import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedModel

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    FrozenTeacher,
    SentenceEncoder,
    create_student,
)
from hf_distill.evaluation.embeddings import (
    embeddings_of,
    pair_scores,
    retrieval_agreement,
    similarity_spearman,
    target_ranks,
)
from hf_distill.files import atomic_write
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name
from hf_distill.pruning import trim_vocabulary
from hf_distill.resources.e5 import e5_path
from hf_distill.resources.wordnet import gloss_pairs, load_wordnet

RESULTS = Path(__file__).with_name("results") / "embeddings_wordnet.json"
PREFIX = "query: "  # e5 reads texts that begin with it
LAYERS, K, RESAMPLES = 4, 10, 1000
MOST_TOKENS = 19_000  # so that the student is 8 times smaller
Pair = tuple[np.ndarray, np.ndarray]


def transfer_texts(definitions: datasets.Dataset, number: int | None) -> list[str]:
    """Half definitions, half examples of use, or all there are, with e5's prefix."""
    examples = [example for of_one in definitions["examples"] for example in of_one]
    half = None if number is None else number // 2
    return [PREFIX + text for text in [*definitions["text"][:half], *examples[:half]]]


def recorded(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array from a file, which is made if it does not exist."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, make())
    return np.load(path)


def small_student(teacher: PreTrainedModel, tokenizer: Any, texts: list[str]) -> tuple[PreTrainedModel, Any]:
    """Evenly spaced layers of the teacher, with the tokens of the texts alone."""
    student = create_student(f"{LAYERS}/{teacher.config.hidden_size}", teacher, layers="uniform")
    student, tokenizer = trim_vocabulary(student, tokenizer, texts, max_tokens=MOST_TOKENS, characters="corpus")
    return student, tokenizer


def distilled(
    student: PreTrainedModel,
    tokenizer: Any,
    texts: list[str],
    targets: np.ndarray,
    folder: Path,
    options: Any,
    seed: int,
):
    rows = datasets.Dataset.from_dict(
        dict(tokenizer(texts, truncation=True, max_length=64, return_token_type_ids=False))
    )
    rows = rows.add_column("teacher_logits", list(targets))
    args = DistillationTrainingArguments(
        output_dir=str(folder), recipe="embedding", num_train_epochs=options.epochs, seed=seed, report_to=[],
        per_device_train_batch_size=options.batch_size, save_strategy="no", logging_steps=50, use_cpu=True,
        learning_rate=options.learning_rate,
    )  # fmt: skip
    trainer = DistillationTrainer(student, args, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    trainer.save_model()
    return trainer.model


def scores(student: Pair, teacher: Pair) -> dict[str, float]:
    """The student's scores on the pairs, and its agreement with the teacher."""
    return pair_scores(*student) | {
        "similarity_spearman": similarity_spearman(np.concatenate(student), np.concatenate(teacher)),
        f"retrieval_agreement_at_{K}": retrieval_agreement(student, teacher, K),
    }


def kept_intervals(student: Pair, teacher: Pair) -> dict[str, list[float]]:
    """95 % intervals, over resampled pairs, of the share of the teacher's Spearman and MRR that the student keeps."""
    generator, found = np.random.default_rng(0), {"spearman": [], "mrr": []}
    ranks = [target_ranks(*each) for each in (student, teacher)]
    for _ in range(RESAMPLES):
        chosen = generator.integers(len(ranks[0]), size=len(ranks[0]))
        own, theirs = (pair_spearman(each, chosen) for each in (student, teacher))
        found["spearman"].append(own / theirs)
        found["mrr"].append((1 / ranks[0][chosen]).mean() / (1 / ranks[1][chosen]).mean())
    return {name: [float(each) for each in np.percentile(values, [2.5, 97.5])] for name, values in found.items()}


def pair_spearman(pair: Pair, chosen: np.ndarray) -> float:
    """The correlation of `pair_scores` for chosen pairs, each with its own other document."""
    from scipy.stats import rankdata

    queries, documents = pair
    own = (queries * documents).sum(axis=1)[chosen]
    others = (queries * np.roll(documents, -1, axis=0)).sum(axis=1)[chosen]
    together = np.repeat([1.0, 0.0], len(chosen))
    return float(np.corrcoef(rankdata(np.concatenate([own, others])), together)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/embeddings"), help="recorded embeddings and students"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file of results")
    parser.add_argument("--texts", type=int, help="texts that are distilled on; by default all")
    parser.add_argument("--pairs", type=int, default=1500, help="pairs of the test split")
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=3, help="number of students, which differ in the order of texts")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    wordnet = load_wordnet()
    texts = transfer_texts(wordnet["train"], options.texts)
    pairs = gloss_pairs(wordnet["test"]).select(range(options.pairs))
    tested = [[PREFIX + text for text in pairs[column]] for column in ("example", "gloss")]
    teacher, tokenizer = (
        SentenceEncoder.from_pretrained(e5_path(), pooling="mean"),
        AutoTokenizer.from_pretrained(e5_path()),
    )
    parameters = teacher.num_parameters()
    fast = FrozenTeacher(teacher)
    fast.resolve_dtype(dict(tokenizer(texts[:64], padding=True, return_tensors="pt")))
    embed = lambda of: embeddings_of(fast.model, tokenizer, of)  # noqa: E731
    started = perf_counter()
    targets = recorded(options.folder / f"targets_{len(texts)}.npy", lambda: embed(texts))
    seconds = perf_counter() - started
    expected = tuple(
        recorded(options.folder / f"{n}_{options.pairs}.npy", lambda of=of: embed(of))
        for n, of in zip("qd", tested, strict=True)
    )
    done: dict[str, Any] = json.loads(options.results.read_text()) if options.results.exists() else {"students": []}
    student, small = small_student(teacher, tokenizer, texts)
    start = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    untrained = tuple(embeddings_of(student, small, of) for of in tested)
    done |= {
        "conditions": {
            **{name: getattr(options, name) for name in ("pairs", "epochs", "batch_size", "learning_rate")},
            "texts": len(texts), "recipe": "embedding", "layers": LAYERS, "tokens": len(small), "teacher_dtype": str(fast.dtype),
            "resamples": RESAMPLES, "hardware": hardware_name("cpu"), "versions": package_versions(),
        },
        "teacher": {"parameters": parameters, "seconds_to_record": seconds} | pair_scores(*expected),
        "untrained": {"parameters": student.num_parameters()} | scores(untrained, expected),
    }  # fmt: skip
    print(json.dumps({name: done[name] for name in ("teacher", "untrained")}, indent=2), flush=True)
    for seed in range(options.seeds):
        if any(each["seed"] == seed for each in done["students"]):
            continue
        student.load_state_dict(start)
        started = perf_counter()
        trained = distilled(student, small, texts, targets, options.folder / f"student_{seed}", options, seed)
        seconds = perf_counter() - started
        own = tuple(embeddings_of(trained, small, of) for of in tested)
        found = {"seed": seed, "train_seconds": seconds} | scores(own, expected)
        found["kept"] = {name: found[name] / done["teacher"][name] for name in ("spearman", "mrr", "accuracy_at_1")}
        found["kept_intervals"] = kept_intervals(own, expected)
        done["students"].append(found)
        print(json.dumps(found, indent=2), flush=True)
        atomic_write(options.results, json.dumps(done, indent=2) + "\n")


if __name__ == "__main__":
    main()
