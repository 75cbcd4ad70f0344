"""Code in a student's card that runs as it is copied, and the examples of the widget on its Hub page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

HERE = "path/to/this/folder"  # `publish` replaces it by the repository's id
_TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "ForImageClassification": "image-classification",
}
_TEXTS = ("A text like those it was trained on.", "Another text, which says something else.")
_PAIRS = ("The first of two texts.", "The second of them."), ("A man is having lunch.", "Somebody eats.")
_NAMES = ("Ada Lovelace was born in London.", "Alan Turing worked in Manchester.")
_QUESTIONS = (
    ("Who taught the student?", "The student was taught by its teacher."),
    ("Where is the library?", "The library is next to the station, the school behind it."),
)
_MASKED = ("This is a {}.", "The capital of France is {}.")
_PROMPTS = ("Once upon a time", "The weather today is")
# A tagger labels every word by its first piece; without it the pipeline labels pieces, most of which learned nothing.
_WHOLE_WORDS = {"token-classification": ', aggregation_strategy="first"'}

_LOADED = """\
name = "{here}"
student = {auto}.from_pretrained(name)
"""
_ADAPTED = """\
name = "{here}"
base = PeftConfig.from_pretrained(name).base_model_name_or_path
student = PeftModel.from_pretrained({auto}.from_pretrained(base{options}), name).merge_and_unload()
"""
_ANSWER = """\
tokenizer = AutoTokenizer.from_pretrained(name)

question, text = "{question}", "{context}"
cut = dict(truncation="only_second", max_length=384)  # longer texts are read in parts
inputs = tokenizer(question, text, **cut, return_offsets_mapping=True, return_tensors="pt")
places = inputs.pop("offset_mapping")[0]
with torch.no_grad():
    outputs = student(**inputs)
starts, ends = outputs.start_logits[0], outputs.end_logits[0]
context = [index for index, part in enumerate(inputs.sequence_ids(0)) if part == 1]
spans = [(first, last) for first in context for last in context if first <= last < first + 30]
first, last = max(spans, key=lambda span: starts[span[0]] + ends[span[1]])
has_answer = starts[first] + ends[last] > starts[0] + ends[0]
print(text[places[first][0] : places[last][1]] if has_answer else "no answer in the text")
"""
_PIXELS = """\

images = torch.rand(1, {channels}, {size}, {size})  # yours, with values as in training
with torch.no_grad():
    print(student(pixel_values=images).logits.softmax(-1))
"""
_TO_FINE_TUNE = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

name = "{here}"
tokenizer = AutoTokenizer.from_pretrained(name)
student = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)  # its head is new: train it on your labels
print(student(**tokenizer("{text}", return_tensors="pt")).logits)
"""
_SIMILARITIES = """\
from sentence_transformers import SentenceTransformer

student = SentenceTransformer("{here}")
embeddings = student.encode({texts})
print(student.similarity(embeddings, embeddings))
"""
_SEARCH = """\
from sentence_transformers import SentenceTransformer

student = SentenceTransformer("{here}")
queries = student.encode_query({queries})
documents = student.encode_document({documents})
print(student.similarity(queries, documents))
"""


def pipeline_of(student: Mapping[str, Any]) -> str | None:
    """The Hub's pipeline tag of a student, such as "text-classification"; None if it is not known."""
    if is_sentence_encoder(student):
        return "sentence-similarity"
    if is_headless(student):
        return "feature-extraction"
    return next((task for ending, task in _TASKS.items() if student["architecture"].endswith(ending)), None)


def library_of(student: Mapping[str, Any]) -> str:
    """The library that loads a student, as the Hub names it."""
    if is_adapter(student):
        return "peft"
    return "sentence-transformers" if is_sentence_encoder(student) else "transformers"


def packages_of(student: Mapping[str, Any]) -> str:
    """The packages that the code of `usage` needs, separated by spaces."""
    if is_sentence_encoder(student):
        return library_of(student)
    is_of_images = pipeline_of(student) == "image-classification"
    return " ".join(["transformers", "torch", *["peft"] * is_adapter(student), *["pillow"] * is_of_images])


def is_adapter(student: Mapping[str, Any]) -> bool:
    """Whether a student was saved as a PEFT adapter, which needs its base model."""
    return student.get("adapter") is not None


def is_headless(student: Mapping[str, Any]) -> bool:
    """Whether nothing has trained a student's head, so that it is an encoder to fine-tune."""
    return student.get("has_trained_head") is False


def is_sentence_encoder(student: Mapping[str, Any]) -> bool:
    """Whether a student gives one embedding per text."""
    return student.get("pooling") is not None


def usage(student: Mapping[str, Any], data: Mapping[str, Any]) -> str | None:
    """Write Python code that loads a student from `HERE`, runs it on an example and prints the output.

    Args:
        student: The description of the student in the run record. Of its strings only class names get into the code,
            quoted.
        data: The description of the data in the run record, which tells whether the student reads pairs of texts.

    Returns:
        The code; None if the model's pipeline tag is not known.
    """
    task = pipeline_of(student)
    if task is None:
        return None
    if is_sentence_encoder(student):
        if set(student.get("prompts") or ()) - {student.get("default_prompt")}:  # queries and documents differ
            return _SEARCH.format(here=HERE, queries=json.dumps(_TEXTS[:1]), documents=json.dumps(_TEXTS))
        return _SIMILARITIES.format(here=HERE, texts=json.dumps(_TEXTS))
    if is_headless(student):
        return _TO_FINE_TUNE.format(here=HERE, text=_TEXTS[0])
    if task == "question-answering":
        answer = _ANSWER.format(question=_QUESTIONS[0][0], context=_QUESTIONS[0][1])
        return _imports(["import torch"], student, "AutoTokenizer") + _loaded(student) + answer
    channels = student.get("num_channels", 3)
    if task == "image-classification" and channels != 3:  # pipelines convert every image to three channels
        pixels = _PIXELS.format(channels=int(channels), size=_image_size(student))
        return _imports(["import torch"], student) + _loaded(student) + pixels
    return _pipeline(task, student) + _question(task, student, data)


def widget(student: Mapping[str, Any], data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Two examples for the widget of the Hub page; empty if they would need a file or an unknown mask token."""
    task, mask = pipeline_of(student), student.get("mask_token")
    texts: Sequence[str] = ()
    if task == "text-classification":
        texts = [" ".join(pair) for pair in _PAIRS] if data.get("text_pairs") else _TEXTS
    elif task == "question-answering":
        return [{"text": question, "context": context} for question, context in _QUESTIONS]
    elif task == "fill-mask":
        texts = [text.format(mask) for text in _MASKED] if mask else []
    elif task == "sentence-similarity":
        return [{"source_sentence": _TEXTS[0], "sentences": list(_TEXTS[1:])}]
    elif task == "token-classification":
        texts = _NAMES
    elif task == "text-generation":
        texts = _PROMPTS
    return [{"text": text} for text in texts]


def _pipeline(task: str, student: Mapping[str, Any]) -> str:
    image = ["from PIL import Image"] if task == "image-classification" else []
    if not is_adapter(student):
        imports = "\n".join([*image, "from transformers import pipeline"])
        return f'{imports}\n\nstudent = pipeline("{task}", "{HERE}"{_WHOLE_WORDS.get(task, "")})\n'
    processor, argument = ("AutoImageProcessor", "image_processor") if image else ("AutoTokenizer", "tokenizer")
    made = f'student = pipeline("{task}", model=student, {argument}={processor}.from_pretrained(name){_WHOLE_WORDS.get(task, "")})\n'
    return _imports(image, student, processor, "pipeline") + _loaded(student) + made


def _imports(before: Sequence[str], student: Mapping[str, Any], *names: str) -> str:
    peft = ["from peft import PeftConfig, PeftModel"] if is_adapter(student) else []
    classes = ", ".join(sorted([_auto(student), *names]))
    return "\n".join([*before, *peft, f"from transformers import {classes}"]) + "\n\n"


def _loaded(student: Mapping[str, Any]) -> str:
    names = dict(enumerate(student.get("labels") or ()))
    options = f", id2label={names!r}" if names and "Classification" in student["architecture"] else ""
    return (_ADAPTED if is_adapter(student) else _LOADED).format(here=HERE, auto=_auto(student), options=options)


def _auto(student: Mapping[str, Any]) -> str:
    ending = next(ending for ending in _TASKS if student["architecture"].endswith(ending))
    return f"AutoModel{ending}"


def _image_size(student: Mapping[str, Any]) -> int:
    """Height and width of the images that a student reads."""
    return int(student.get("image_size") or 224)


def _question(task: str, student: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """The line of code that calls a pipeline, with options for regression and multi-label classification."""
    if task == "fill-mask":
        return 'print(student(f"This is a {student.tokenizer.mask_token}."))'
    if task == "image-classification":
        size = _image_size(student)
        return f'print(student(Image.new("RGB", ({size}, {size}), "white")))  # or Image.open("path/to/an/image.png")'
    if task in ("token-classification", "text-generation"):
        return f'print(student("{_NAMES[0] if task == "token-classification" else _PROMPTS[0]}"))'
    text = f'"{_TEXTS[0]}"'
    if data.get("text_pairs"):
        text = '{{"text": "{}", "text_pair": "{}"}}'.format(*_PAIRS[0])
    return f"print(student({text}{_options(student)}))"


def _options(student: Mapping[str, Any]) -> str:
    kind = student.get("problem_type")
    if kind == "regression" or (kind is None and len(student.get("labels") or ()) == 1):
        return ', function_to_apply="none"'
    return ', top_k=None, function_to_apply="sigmoid"' if kind == "multi_label_classification" else ""
