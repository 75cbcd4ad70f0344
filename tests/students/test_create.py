"""Students are stock models of the right size, started from the right weights."""

import re

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from hf_distill import create_student
from hf_distill.fingerprints import weights_sha256
from hf_distill.pretrained.origin import initialization_of
from hf_distill.students import create
from tests.tiny_architectures import tiny_batch, tiny_model
from tests.tiny_models import tiny_bert


def test_truncated_student_is_the_teachers_bottom(teacher):
    before = weights_sha256(teacher)
    student = create_student("1/32", teacher, "truncated")
    assert student.config.num_hidden_layers == 1 and student.training
    weights, source = student.state_dict(), teacher.state_dict()
    assert weights.keys() < source.keys() and all(torch.equal(weights[name], source[name]) for name in weights)
    assert weights_sha256(teacher) == before and teacher.config.num_hidden_layers == 2


def test_whole_teacher_answers_the_same_when_truncated_to_its_own_depth(teacher):
    student = create_student("2/32", teacher).eval()
    batch = dict(input_ids=torch.randint(4, 100, (3, 9)), attention_mask=torch.ones(3, 9, dtype=torch.long))
    torch.testing.assert_close(student(**batch).logits, teacher.eval()(**batch).logits)


def test_embeddings_on_principal_directions_keep_the_similarities():
    teacher = tiny_bert(hidden_size=128, layers=1, seed=1)
    words = teacher.bert.embeddings.word_embeddings.weight
    with torch.no_grad():  # only 64 of the 128 directions carry anything, so 64 can carry it all
        words.copy_(torch.randn(100, 64) @ torch.randn(64, 128))
    student = create_student("1/64", teacher, "embeddings")
    projected = student.bert.embeddings.word_embeddings.weight
    assert projected.shape == (100, 64)
    torch.testing.assert_close(projected @ projected.T, words @ words.T, rtol=1e-3, atol=1e-2)


def test_random_student_does_not_know_its_teacher(teacher):
    student = create_student("tiny", teacher, "random")
    shape = student.config
    assert (shape.num_hidden_layers, shape.hidden_size, shape.num_attention_heads) == (2, 128, 2)
    assert shape.intermediate_size == 512 and shape.vocab_size == teacher.config.vocab_size


def test_mini_and_tiny_have_the_published_sizes():
    """Parameters without the masked-LM and next-sentence heads of the published counts."""
    teacher = tiny_bert(hidden_size=64, vocab_size=30522)
    teacher.config.max_position_embeddings = 512
    heads = {"tiny": 128 * 128 + 3 * 128 + 30522 + 2 * 128 + 2, "mini": 256 * 256 + 3 * 256 + 30522 + 2 * 256 + 2}
    for (name, head), published in zip(heads.items(), (4_433_468, 11_267_900), strict=True):
        student = create_student(name, teacher, "random")
        size = student.config.hidden_size
        assert student.num_parameters() - (2 * size + 2) == published - head


def test_labels_and_head_are_the_teachers_and_the_student_saves_as_a_stock_model(tmp_path):
    names = dict(id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    student = create_student("1/32", tiny_bert(hidden_size=32, layers=2, **names), "truncated")
    student.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.id2label == names["id2label"] and weights_sha256(loaded) == weights_sha256(student)


@pytest.mark.parametrize("initialization", ["truncated", "embeddings", "random"])
def test_other_families(initialization):
    config = RobertaConfig(
        vocab_size=100, hidden_size=128, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64
    )
    shape = "2/64" if initialization == "embeddings" else "2/128"
    student = create_student(shape, RobertaForSequenceClassification(config), initialization)
    assert type(student) is RobertaForSequenceClassification
    assert student(input_ids=torch.randint(4, 100, (2, 5))).logits.shape == (2, 2)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "distilbert", "modernbert", "vit"])
@pytest.mark.parametrize(("layers", "kept"), [("bottom", [0, 1]), ("uniform", [0, 1]), ("top", [1, 2])])
def test_layers_come_from_where_they_are_asked_for(architecture, layers, kept):
    teacher = tiny_model(architecture)
    if (architecture, layers) == ("modernbert", "top"):
        with pytest.raises(ValueError, match=r"layer 1 has a parameter .*attn_norm.*'bottom' always fits"):
            create_student("2/16", teacher, layers=layers)
        return
    student = create_student("2/16", teacher, layers=layers)
    source = teacher.state_dict()
    copied = 0
    for name, weight in student.state_dict().items():
        index = re.search(r"\.layers?\.(\d+)\.", name)
        origin = name if index is None else name.replace(index[0], index[0].replace(index[1], str(kept[int(index[1])])))
        assert torch.equal(weight, source[origin]), name
        copied += index is not None
    assert copied > 10
    assert torch.isfinite(student(**tiny_batch(architecture)).logits).all()


def test_local_and_global_attention_go_with_their_layers():
    teacher = tiny_model("modernbert")
    assert teacher.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    assert create_student("1/16", teacher).config.layer_types == ["full_attention"]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "distilbert", "vit"])
@pytest.mark.parametrize("dimensions", ["leading", "largest"])
def test_a_narrower_student_starts_inside_its_teacher(architecture, dimensions):
    teacher = tiny_model(architecture, **({"embedding_size": 4} if architecture == "electra" else {}))
    student = create_student("2/8", teacher, "width", dimensions=dimensions)
    assert (student.config.hidden_size, student.config.num_attention_heads) == (8, 1)
    assert student.config.num_hidden_layers == 2
    values = {round(value, 6) for value in torch.cat([each.flatten() for each in teacher.parameters()]).tolist()}
    own = [round(value, 6) for value in torch.cat([each.flatten() for each in student.parameters()]).tolist()]
    assert sum(value in values for value in own) == len(own)
    assert torch.isfinite(student(**tiny_batch(architecture)).logits).all()


def test_the_largest_dimensions_stay():
    teacher = tiny_bert(hidden_size=16, layers=1)
    with torch.no_grad():
        teacher.bert.embeddings.word_embeddings.weight[:, [3, 4, 5, 7, 9, 11, 13, 15]] *= 100
    student = create_student("1/8", teacher, "width", dimensions="largest")
    kept = teacher.bert.embeddings.word_embeddings.weight[:, [3, 4, 5, 7, 9, 11, 13, 15]]
    assert torch.equal(student.bert.embeddings.word_embeddings.weight, kept)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("sequence_classification", "BertForSequenceClassification"),
        ("token_classification", "BertForTokenClassification"),
        ("question_answering", "BertForQuestionAnswering"),
        ("masked_lm", "BertForMaskedLM"),
    ],
)
def test_any_head_with_and_without_a_teacher(task, name):
    alone = create_student("2/128", task=task, vocab_size=50)
    taught = create_student("1/16", tiny_model("bert", "MaskedLM"), task=task)
    assert type(alone).__name__ == type(taught).__name__ == name
    words = tiny_model("bert", "MaskedLM").get_input_embeddings().weight
    assert torch.equal(taught.get_input_embeddings().weight, words)


def test_a_published_checkpoint_or_one_of_ones_own(tmp_path, monkeypatch):
    own = create_student("2/128", task="masked_lm", vocab_size=50)
    own.save_pretrained(tmp_path)
    names = dict(id2label={0: "bad", 1: "good", 2: "so so"}, label2id={"bad": 0, "good": 1, "so so": 2})
    teacher = tiny_bert(hidden_size=32, **names)
    options = dict(pretrained_model_name_or_path=str(tmp_path))
    student = create_student("tiny", teacher, "pretrained", **options)
    assert torch.equal(student.get_input_embeddings().weight, own.get_input_embeddings().weight)
    assert type(student).__name__ == "BertForSequenceClassification" and student.config.id2label == names["id2label"]
    with pytest.raises(ValueError, match=r"is of size 2/128, not 4/256"):
        create_student("mini", teacher, "pretrained", **options)
    with pytest.raises(ValueError, match=r"no checkpoint of size 3/128 is published"):
        create_student("3/128", teacher, "pretrained")
    asked, nothing = [], dict.fromkeys(("missing_keys", "unexpected_keys", "mismatched_keys"), ())
    monkeypatch.setattr(create, "config_of", lambda name: asked.append(name) or own.config)
    monkeypatch.setattr(type(student), "from_pretrained", lambda name, **_: asked.append(name) or (own, nothing))
    create_student("tiny", teacher, "pretrained")
    assert asked == ["google/bert_uncased_L-2_H-128_A-2"] * 2


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("2/128",), {}, r"without a teacher a student needs a task, one of \['sequence_classification'.* got None"),
        (("2/128", None, "truncated"), {"task": "masked_lm"}, r"'truncated' needs the weights of a teacher, got None"),
        (("2/128",), {"task": "translation"}, r"task must be one of \['sequence_.*got 'translation'"),
        (
            ("2/128",),
            {"task": "masked_lm", "pretrained_model_name_or_path": "x"},
            r"is for 'pretrained', got 'random'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        create_student(*arguments, **options)


@pytest.mark.parametrize(
    ("shape", "teacher", "expected", "reason"),
    [
        ("1/16", ("bert", 16), "truncated", "it has the same width and no more layers"),
        ("1/8", ("bert", 16), "width", "narrower by whole heads"),
        ("3/16", ("bert", 16), "embeddings", "the embeddings do"),
        ("3/64", ("bert", 128), "embeddings", "the embeddings do"),
        ("1/64", ("bert", 16), "random", "none of the weights fit it"),
        ("3/64", ("vit", None), "random", "none of the weights fit it"),
    ],
)
def test_without_an_initialization_the_student_starts_from_what_fits(shape, teacher, expected, reason, monkeypatch):
    said = []
    monkeypatch.setattr(create.logger, "warning", said.append)
    family, width = teacher
    student = create_student(shape, tiny_bert(width, 2) if family == "bert" else tiny_model(family))
    assert initialization_of(student) == expected
    assert len(said) == 1 and f"): {expected}, because" in said[0] and reason in said[0]


def test_electra_is_not_narrowed_to_the_width_of_its_embeddings():
    config = ElectraConfig(
        vocab_size=50, hidden_size=128, embedding_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    student = create_student("1/64", ElectraForSequenceClassification(config))
    assert initialization_of(student) == "embeddings"


@pytest.mark.parametrize("architecture", ["deberta-v2", "nomic_bert", "llama", "modernbert", "mpnet"])
def test_everything_that_depends_on_the_width_follows_it(architecture):
    """DeBERTa's pooler has a width of its own, NomicBert's and Llama's heads a size."""
    teacher = tiny_model(architecture, "SequenceClassification", pad_token_id=0)
    student = create_student("1/64", teacher, "random").eval()
    sizes = {
        name: getattr(student.config, name)
        for name in ("pooler_hidden_size", "head_dim")
        if name in vars(student.config)
    }
    assert set(sizes.values()) <= {64}
    assert torch.isfinite(student(**tiny_batch(architecture)).logits).all()


def test_a_teacher_by_name_is_loaded_with_the_head_it_has(tmp_path):
    teacher = tiny_model("bert", "TokenClassification").eval()
    teacher.save_pretrained(tmp_path)
    for place in (tmp_path, str(tmp_path)):
        student = create_student("1/16", place, "truncated")
        assert type(student) is type(teacher)
        expected = create_student("1/16", teacher, "truncated").state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in student.state_dict().items())
    with pytest.raises(OSError, match=r"nowhere is no folder with a model"):
        create_student("1/16", "nowhere")
    with pytest.raises(ValueError, match=r"teacher must be a model of transformers, a Hub id or a folder, got a int"):
        create_student("1/16", 3)
    teacher.bert.save_pretrained(tmp_path / "body")
    (tmp_path / "body" / "config.json").write_text('{"model_type": "bert", "hidden_size": 16}')
    with pytest.raises(ValueError, match=r"names no model of transformers, got \[\]"):
        create_student("1/16", tmp_path / "body")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"initialization": "widht"},
            r"initialization must be one of \['random', .*got 'widht'. Did you mean 'width'\?",
        ),
        ({"layers": "uniformly"}, r"layers must be one of \['bottom', 'top', 'uniform'\], .*Did you mean 'uniform'\?"),
        ({"dimensions": "larges"}, r"dimensions must be one of .* Did you mean 'largest'\?"),
        ({"task": "mask_lm"}, r"task must be one of .* Did you mean 'masked_lm'\?"),
    ],
)
def test_a_misspelt_choice_is_refused_with_what_was_meant(options, message):
    with pytest.raises(ValueError, match=message):
        create_student("1/16", tiny_bert(), **options)


def test_widths_that_do_not_fit_are_refused():
    teacher = tiny_bert(hidden_size=16)
    with pytest.raises(ValueError, match=r"16 wide with heads of 8, a student can keep \[8, 16\] dimensions, got 12"):
        create_student("1/12", teacher, "width")
    with pytest.raises(ValueError, match=r"ViTForImageClassification has no token embeddings"):
        create_student("1/64", tiny_model("vit"), "embeddings")


@pytest.mark.parametrize(
    ("shape", "config", "message"),
    [
        (3, {}, r"a shape is one of .*, got 3"),
        ("1/32", dict(num_lables=3), r"a BertConfig has no field num_lables\. Did you mean 'num_labels'\?"),
        ("1/32", dict(num_labels=0), r"num_labels must be at least 1, got 0"),
        ("1/32", dict(vocab_size=50), r"vocab_size is 50, the teacher's 100, so its embeddings cannot be copied"),
        ("1/32", dict(vocab_size=50, initialization="embeddings"), r"vocab_size is 50, the teacher's 100"),
    ],
)
def test_what_no_student_can_be_made_of(teacher, shape, config, message):
    with pytest.raises(ValueError, match=message):
        create_student(shape, teacher, **config)
    with pytest.raises(ValueError, match=r"teacher must be a model of transformers, a Hub id or a folder, got a int"):
        create_student("1/32", 5)


def test_a_checkpoint_in_half_precision_becomes_a_student_in_single_precision(teacher, tmp_path, caplog):
    teacher.half().save_pretrained(tmp_path / "half")
    student = create_student("2/32", None, "pretrained", task="sequence_classification",
                             pretrained_model_name_or_path=str(tmp_path / "half"))  # fmt: skip
    assert student.dtype == torch.float32 and "is saved in float16" in caplog.text
