"""Whether an ONNX file gives the answers of its model: 65 exports of random models, compared on real rows.

    python benchmarks/exports.py

Models of every family and task, of random shapes and weights, in all four formats and in what int8 is made of. Texts are movie reviews, which share one
WordPiece tokenizer, images are handwritten digits. Logits are compared with torch's at every position that is not padding.
Models that `results/exports.json` has are not repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from trainer_overhead import RESULTS
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from hf_distill.fingerprints import package_versions
from hf_distill.graphs.export import export_onnx, traced_inputs
from hf_distill.graphs.formats import GraphFormat, convert
from hf_distill.graphs.runner import GraphRunner
from hf_distill.hardware import hardware_name
from hf_distill.resources.digits import load_digits_dataset
from hf_distill.resources.sentiment import load_sentiment

MODELS = (
    ("bert", "SequenceClassification"), ("bert", "QuestionAnswering"), ("roberta", "TokenClassification"),
    ("xlm-roberta", "MaskedLM"), ("electra", "QuestionAnswering"), ("distilbert", "SequenceClassification"),
    ("modernbert", "SequenceClassification"), ("modernbert", "MaskedLM"), ("nomic_bert", "TokenClassification"),
    ("albert", "SequenceClassification"), ("mpnet", "QuestionAnswering"), ("deberta-v2", "TokenClassification"),
    ("vit", "ImageClassification"),
)  # fmt: skip
ROWS, CALIBRATION_ROWS, BATCH = 60, 60, 6
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
NAMES_OF_DISTILBERT = dict(
    hidden_size="dim", num_hidden_layers="n_layers", num_attention_heads="n_heads", intermediate_size="hidden_dim"
)
FUSED = "fused"  # the single-precision file that int8 is made of, see `fuse_attention`
LARGEST = {
    GraphFormat.ONNX: 1e-4,
    FUSED: 1e-4,
    GraphFormat.FP16: 0.05,
}  # of the standard deviation of the logits; int8 rounds more


def tokenizer_of(texts: list[str]) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk_token"]))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = list(SPECIAL.values())
    made.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=1000, special_tokens=special, show_progress=False)
    )
    ends = [(SPECIAL[name], special.index(SPECIAL[name])) for name in ("cls_token", "sep_token")]
    made.post_processor = processors.BertProcessing(ends[1], ends[0])
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **SPECIAL)


def random_model(family: str, head: str, seed: int) -> PreTrainedModel:
    chance = random.Random(seed)
    heads, head_size = chance.randint(1, 4), chance.choice([4, 8, 16])
    sizes = dict(
        hidden_size=heads * head_size, num_attention_heads=heads, num_hidden_layers=chance.randint(1, 3),
        intermediate_size=chance.randint(8, 64),
    )  # fmt: skip
    names = NAMES_OF_DISTILBERT if family == "distilbert" else {}
    config = {names.get(name, name): size for name, size in sizes.items()} | dict(
        initializer_range=0.3, num_labels=2 if head == "QuestionAnswering" else 3
    )
    if family == "vit":
        config |= dict(image_size=8, patch_size=2, num_channels=1)
    else:
        config |= dict(vocab_size=1000, pad_token_id=0, max_position_embeddings=80)
    if family == "modernbert":
        config |= dict(local_attention=8, bos_token_id=2, cls_token_id=2, eos_token_id=3, sep_token_id=3)
    if family == "deberta-v2":
        config |= dict(relative_attention=True, pos_att_type=["p2c", "c2p"], pooler_hidden_size=heads * head_size)
    torch.manual_seed(seed)
    auto_class = getattr(transformers, f"AutoModelFor{head}")
    return auto_class.from_config(AutoConfig.for_model(family, **config)).eval()


def batches(
    family: str, head: str, split: str, rows: int, tokenizer: PreTrainedTokenizerFast
) -> list[dict[str, Tensor]]:
    if family == "vit":
        pixels = load_digits_dataset()[split].with_format("torch")[:rows]["pixel_values"]
        return [{"pixel_values": part} for part in pixels.split(BATCH)]
    texts = load_sentiment()[split][:rows]["text"]
    pairs = [text.split()[:3] for text in texts[1:] + texts[:1]] if head == "QuestionAnswering" else None
    found = []
    for start in range(0, rows, BATCH):
        part = texts[start : start + BATCH]
        both = part if pairs is None else [" ".join(words) for words in pairs[start : start + BATCH]]
        given = (both,) if pairs is None else (both, part)
        found.append(dict(tokenizer(*given, padding=True, truncation=True, return_tensors="pt")))
    return found


def logits(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """The logits at every position that is not padding, (items, classes); of answers, (texts, positions of start and end)."""
    if "start_logits" in outputs:
        padding = ~batch["attention_mask"].bool()
        both = [outputs[name].masked_fill(padding, -1e4) for name in ("start_logits", "end_logits")]
        return torch.nn.functional.pad(torch.cat(both), (0, 64 - padding.shape[1]), value=-1e4)
    found = outputs["logits"]
    return found[batch["attention_mask"].bool()] if found.dim() == 3 else found


def compared(family: str, head: str, seed: int, tokenizer: PreTrainedTokenizerFast, folder: Path) -> dict[str, Any]:
    model = random_model(family, head, seed)
    rows, others = (
        [traced_inputs(model, each, tokenizer) for each in batches(family, head, split, number, tokenizer)]
        for split, number in (("test", ROWS), ("train", CALIBRATION_ROWS))
    )
    sources = {is_fused: folder / f"source-{is_fused}.onnx" for is_fused in (False, True)}
    for is_fused, path in sources.items():
        export_onnx(model, {name: value[:2] for name, value in others[0].items()}, path, fused=is_fused)
    with torch.inference_mode():
        expected = torch.cat([logits(model(**each), each) for each in rows])
    scale, formats = float(expected[expected > -1e4].std()), {}
    for number_format in (*GraphFormat, FUSED):
        target = sources[True]
        if number_format != FUSED:
            target = folder / number_format.file_name
            convert(sources[number_format.is_quantized], target, number_format, calibration=others)
        run = GraphRunner(target)
        found = torch.cat([logits(run(each), each) for each in rows])
        share = float((found - expected).abs().max()) / scale
        name = str(getattr(number_format, "value", number_format))
        formats[name] = {
            "largest_difference": share,
            "agreement": float((found.argmax(-1) == expected.argmax(-1)).float().mean()),
        }
        if share > LARGEST.get(number_format, float("inf")):
            raise ValueError(f"{family} {head} in {name}: logits differ by {share:.2g} standard deviations")
    shape = f"{model.config.num_hidden_layers}/{model.config.hidden_size}"
    return {"family": family, "head": head, "shape": shape, "predictions": len(expected), "formats": formats}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    transformers.logging.set_verbosity_error()
    tokenizer = tokenizer_of(load_sentiment()["train"]["text"][:])
    path = RESULTS / "exports.json"
    found = json.loads(path.read_text())["models"] if path.exists() else []
    for draw, (family, head) in list(enumerate(MODELS))[len(found) :]:
        with tempfile.TemporaryDirectory() as folder:
            found.append(compared(family, head, draw, tokenizer, Path(folder)))
        print(json.dumps(found[-1]), flush=True)
        content = {"hardware": hardware_name("cpu"), "versions": package_versions(), "rows": ROWS, "models": found}
        path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
