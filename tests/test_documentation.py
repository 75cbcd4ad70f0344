"""Every code block of README.md, docs/ and skills/ does what its page says, with tiny models and a few steps; links lead somewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path

import datasets
import pytest
import transformers

from hf_distill import (
    DistillationTrainingArguments,
    ProgressiveTrainingArguments,
    PruningDistillTrainingArguments,
)
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import RunRecord
from tests.code_blocks import EXAMPLES, REPOSITORY, STEPS, YOUR_SCRIPT, Block, blocks_of, run_block
from tests.distributed.two_lines import changed_script
from tests.figures import figures_in
from tests.hub.conftest import hub  # noqa: F401  a fixture
from tests.publishing.test_run_record import TRAINING, record
from tests.teachers.test_prompted import model_of
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer
from tests.tiny_tokenizers import tiny_tokenizer as byte_tokenizer

PAGES = sorted(
    [
        *(REPOSITORY / name for name in ("README.md", "examples/README.md")),
        *(REPOSITORY / "docs").rglob("*.md"),
        *(REPOSITORY / "skills").rglob("*.md"),
    ]
)
LABELS = ["negative", "positive"]
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {"negative": 0, "positive": 1}}
# Wide enough for the widths that the pages shrink to; folders as the pages name them.
TEACHER = {"hidden_size": 256, "layers": 4}
STUDENTS = {"student": 2, "tiny": 1, "mini": 2}
TAGS = (["B-PER", "O", "B-LOC"], ["O", "B-PER", "O"])
WORDS = [{"tokens": ["w5", "w9", "w7"], "ner_tags": tags} for tags in TAGS * 12]
ANSWERS = ({"text": ["w12"], "answer_start": [4]}, {"text": [], "answer_start": []})
QUESTIONS = [
    {"id": str(number), "question": "w5", "context": "w9 w12 w13", "answers": answers}
    for number, answers in enumerate(ANSWERS * 12)
]


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def save(folder: Path, model, *, is_run: bool = False) -> None:
    """A model with its tokenizer, as a run leaves it or as any."""
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.mask_token = "w3"  # one of the special words, for pre-training
    tokenizer.save_pretrained(folder)
    if is_run:
        run = record(training=TRAINING, metrics={"eval_accuracy": 0.5})
        run.student = run.student | {"name": folder.name, "architecture": type(model).__name__}
        run.save(folder)
        write_model_card(folder)


def reviews(rows: int = 24) -> datasets.Dataset:
    """Texts of the tiny tokenizer's words with labels that have names."""
    texts = [" ".join(f"w{4 + (row + place) % 90}" for place in range(3 + row % 9)) for row in range(rows)]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=LABELS)})
    return datasets.Dataset.from_dict({"text": texts, "label": [row % 2 for row in range(rows)]}, features=features)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What every page finds: the examples, a teacher with its checkpoints, students, and reviews."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "examples").symlink_to(EXAMPLES)
    (folder / YOUR_SCRIPT).write_text(changed_script("outputs/teacher").partition("    engine =")[0] + "\n\nmain()\n")
    for step in (2, 4):
        save(folder / "outputs" / "teacher" / f"checkpoint-{step}", tiny_bert(**TEACHER, seed=step, **NAMES))
    save(folder / "outputs" / "teacher", tiny_bert(**TEACHER, seed=4, **NAMES))
    save(folder / "outputs" / "bert", tiny_bert(32, 2).base_model)
    model_of("llama").save_pretrained(folder / "outputs" / "lm")
    byte_tokenizer("BPE of bytes").save_pretrained(folder / "outputs" / "lm")
    save(folder / "outputs" / "reranker", tiny_bert(**TEACHER, seed=5, num_labels=1))
    candidates = [
        {"query": f"w{row}", "positive": f"w{row} w9", "negatives": [f"w{row + 1} w8", "w7"]} for row in range(4, 20)
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in candidates))
    for seed, (name, layers) in enumerate(STUDENTS.items()):
        save(folder / "outputs" / name, tiny_bert(64, layers, seed, **NAMES), is_run=True)
    rows = [(review["text"], LABELS[review["label"]]) for review in reviews()]
    for name, column, labels in [("reviews", "text", LABELS), ("sentences", "sentence", ["0", "1"])]:
        lines = [f"{text},{labels[LABELS.index(label)]}" for text, label in rows]
        (folder / f"{name}.csv").write_text("\n".join([f"{column},label", *lines]) + "\n")
    for name, split in product(("tickets", "reviews"), ("train", "test")):
        (folder / name).mkdir(exist_ok=True)
        shutil.copy(folder / "reviews.csv", folder / name / f"{split}.csv")
    pairs = [f"w{row} w9,w{row} w8 w{row + 1}" for row in range(4, 40)]
    (folder / "pairs.csv").write_text("\n".join(["question,answer", *pairs]) + "\n")
    for service in ("openai", "vllm"):
        shutil.copy(REPOSITORY / "tests" / "responses" / f"{service}.jsonl", folder)
    more_words = [{"tokens": [f"w{row}", "w9", f"w{row + 1}"]} for row in range(4, 20)]
    more_questions = [{"question": f"w{row}", "context": f"w9 w{row} w13"} for row in range(20, 30)]
    rows = {"words": WORDS, "more_words": more_words, "questions": QUESTIONS, "more_questions": more_questions}
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, split in product(("words", "questions"), ("train", "validation")):
        (folder / name).mkdir(exist_ok=True)
        shutil.copy(folder / f"{name}.jsonl", folder / name / f"{split}.jsonl")
    (folder / "corpus").mkdir()
    for part in range(2):
        (folder / "corpus" / f"{part}.txt").write_text(
            "\n".join(f"w{part + 4} w{row % 80 + 9} w7 w8 w9 w10" for row in range(200))
        )
    (folder / "texts.txt").write_text("\n".join(f"w{row + 4} w9 w{row + 30}" for row in range(20)) + "\n")
    return folder


@pytest.fixture
def page_folder(given, hub, tmp_path, monkeypatch):  # noqa: F811
    """The working directory of a page: a copy of all that, a Hub of its own, and trainings of a few steps."""
    folder = shutil.copytree(given, tmp_path / "page", symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    splits = {name: reviews() for name in ("train", "validation", "test")}
    monkeypatch.setattr("hf_distill.resources.built_in.load_sentiment", lambda name: splits)
    monkeypatch.setattr("hf_distill.evaluation.comparison._ENOUGH_MILLISECONDS", 50.0)
    for arguments in (
        DistillationTrainingArguments,
        ProgressiveTrainingArguments,
        PruningDistillTrainingArguments,
    ):
        monkeypatch.setattr(arguments, "__init__", few_steps(arguments.__init__))
    verbosity = transformers.logging.get_verbosity()
    yield folder
    transformers.logging.set_verbosity(verbosity)


def few_steps(initialize):
    """Arguments as given, but for how long a training takes and where."""
    quick = dict(max_steps=STEPS, use_cpu=True, bf16=False, report_to="none", disable_tqdm=True)

    def with_few_steps(self, *args, **kwargs):
        initialize(self, *args, **(kwargs | quick))

    return with_few_steps


@pytest.fixture
def namespace():
    """What the pages' Python blocks take for granted; each page goes on with what its own blocks define."""
    return {
        "teacher": tiny_bert(**TEACHER, seed=1, **NAMES),
        "student": tiny_bert(64, 2, **NAMES),
        "texts": encoded_sentences(29),
        "tokenizer": tiny_tokenizer(),
    }


@pytest.mark.parametrize("hub", ["lfs"], indirect=True)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(page, page_folder, namespace):
    found = blocks_of(page.name, read(page))
    assert found, f"{page.name} shows nothing that runs"
    for block in found:
        try:
            run_block(block, namespace)
        except BaseException as error:
            error.add_note(f"in the {block.language} block of {block.page}, line {block.line}")
            raise


@pytest.mark.parametrize("hub", ["lfs"], indirect=True)
@pytest.mark.parametrize(
    ("language", "code", "error", "message"),
    [
        ("", "hf-distill students\n", AssertionError, "no rule runs a block of ''"),
        ("json", "{}\n", AssertionError, "no rule runs a block of 'json'"),
        ("python", "\n1 / 0\n", ZeroDivisionError, "division"),
        ("python", "from hf_distill import Nothing\n", ImportError, "Nothing"),
        ("bash", "curl example.org\n", AssertionError, "no rule runs this.*curl"),
        ("bash", "hf-distill students | head\n", AssertionError, "no rule runs this.*head"),
        ("bash", "# nothing\nname=value\n", AssertionError, "runs nothing"),
        ("bash", "hf-distill nothing\n", AssertionError, "No such command"),
        ("bash", "hf-distill evaluate outputs/absent --dataset movie_reviews\n", AssertionError, "outputs/absent"),
        ("bash", "pip install '.[nothing]'\n", AssertionError, "no extras.*nothing"),
        ("bash", "pip install other\n", AssertionError, "no rule installs other"),
        ("bash", "make nothing\n", subprocess.CalledProcessError, "nothing"),
        ("bash", "python examples/nothing.py\n", FileNotFoundError, "nothing.py"),
        ("bash", "python benchmarks/nothing.py\n", AssertionError, "no rule runs benchmarks/nothing.py"),
        ("bash", "python examples/run_glue.py --model_name_or_path x --task_name sst2 --do_eval --no_such_flag 1\n", ValueError, "no_such_flag"),
        ("bash", "accelerate config\n", AssertionError, "no rule runs accelerate config"),
        ("bash", "accelerate launch --config_file absent.yaml examples/run_glue.py\n", OSError, "absent.yaml"),
        ("bibtex", "@software{hf_distill,\n  title = {A}\n}\n", AssertionError, "title"),
    ],
)  # fmt: skip
def test_a_block_that_does_not_run_is_noticed(language, code, error, message, page_folder):
    with pytest.raises(error, match=message):
        run_block(Block("page.md", 1, language, code), {})


def test_a_block_without_an_end_is_noticed():
    with pytest.raises(AssertionError, match="the block of line 2 has no end"):
        blocks_of("page.md", "text\n```python\n1 / 0\n")
    assert [block.code for block in blocks_of("page.md", "- item\n\n  ~~~python\n  x\n  ~~~\n")] == ["  x\n"]


def anchor_of(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "benchmarks" / "README.md"], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if target.startswith("https://"):
            continue
        place, _, anchor = target.partition("#")
        found = (page.parent / place).resolve() if place else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in {anchor_of(each) for each in re.findall(r"^#+ (.*)$", read(found), re.MULTILINE)}, target


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs").glob("*_trainer.md")), ids=lambda page: page.stem)
def test_what_a_page_says_was_measured_is_in_the_measurements(page):
    section = re.search(r"^## Results\n(.*?)(?=^## )", read(page), re.MULTILINE | re.DOTALL)[1]
    measured = figures_in("".join(read(REPOSITORY / name) for name in ("README.md", "benchmarks/README.md")))
    assert figures_in(section) and figures_in(section) - measured == set()


def test_a_run_record_has_the_fields_that_the_page_lists():
    page = read(REPOSITORY / "docs" / "evaluation.md")
    section = page.partition("## The run record")[2]
    named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (.*?) \|", section, re.MULTILINE))))
    assert named == set(RunRecord.__dataclass_fields__)
