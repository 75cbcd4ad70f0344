"""A student learns from recorded answers what it learns from the live teacher, and from nobody else's."""

import copy

import datasets
import pytest
import torch
from transformers import (
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForTokenClassification,
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    ViTConfig,
    ViTForImageClassification,
    default_data_collator,
)

from hf_distill import (
    DistillationTrainer,
    FrozenTeacher,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    PruningDistillTrainer,
    PruningDistillTrainingArguments,
    label_transfer_set,
    label_with_trajectory,
)
from tests.precomputed.test_label import masking_tokenizer, tiny
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer

ROWS = 29
TOLERANCE = {"float32": dict(rtol=1e-5, atol=1e-5), "float16": dict(rtol=0, atol=1e-3)}


def small(head, **config):
    model = tiny(head, **config)
    config = copy.deepcopy(model.config)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 16, 32, 1
    torch.manual_seed(3)
    return head(config)


def images(**sizes):
    torch.manual_seed(sizes["num_hidden_layers"])
    return ViTForImageClassification(
        ViTConfig(num_attention_heads=2, intermediate_size=32, image_size=4, patch_size=2, num_channels=1, num_labels=3,
                  initializer_range=0.3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **sizes)
    )  # fmt: skip


def case(name):
    """Teacher, student, rows, collator for labeling, collator for training."""
    rows, tokenizer = encoded_sentences(ROWS), masking_tokenizer()
    unlabeled, pad = rows.remove_columns("labels"), DataCollatorWithPadding(tokenizer)
    if name == "sequences":
        return tiny_bert(32, 2, seed=1), tiny_bert(), rows, pad, None
    if name in ("tokens", "tokens padded to 8, left"):
        tags = rows.map(lambda row: {"labels": [token % 3 for token in row["input_ids"]]}, remove_columns="labels")
        if name != "tokens":
            tokenizer.padding_side = "left"
        collator = DataCollatorForTokenClassification(tokenizer, pad_to_multiple_of=None if name == "tokens" else 8)
        models = [make(BertForTokenClassification, num_labels=3) for make in (tiny, small)]
        for model in models if name != "tokens" else ():  # BERT counts padding to the left as positions
            model.bert.embeddings.position_embeddings.weight.data.zero_()
        return *models, tags, collator, collator
    if name == "answers":
        spans = unlabeled.map(lambda row: {"start_positions": 0, "end_positions": len(row["input_ids"]) - 1})
        return tiny(BertForQuestionAnswering), small(BertForQuestionAnswering), spans, pad, None
    if name == "masked words":
        masking = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.4)
        collator = DataCollatorForTokenClassification(tokenizer)
        return tiny(BertForMaskedLM), small(BertForMaskedLM), unlabeled, masking, collator
    pixels = torch.rand(ROWS, 1, 4, 4).tolist()
    rows = datasets.Dataset.from_dict({"pixel_values": pixels, "labels": [index % 3 for index in range(ROWS)]})
    models = (images(hidden_size=size, num_hidden_layers=layers) for size, layers in ((32, 2), (16, 1)))
    return *models, rows, default_data_collator, default_data_collator


CASES = ["sequences", "tokens", "tokens padded to 8, left", "answers", "masked words", "images"]


def loss_and_gradient(trainer):
    """Of the first two batches of an epoch."""
    trainer.model.train()
    losses, batches = [], iter(trainer.get_train_dataloader())
    for _ in range(2):
        batch = trainer._prepare_inputs(next(batches))
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses), torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


@pytest.fixture
def trainer_of(arguments):
    def make(name, student, rows, teacher=None, **more):
        options = dict(soft_label_top_k=6) if name == "masked words" else {}
        processing = {} if name == "images" else {"processing_class": masking_tokenizer()}
        return DistillationTrainer(
            copy.deepcopy(student), arguments(**options | more), train_dataset=rows, teacher_model=teacher,
            data_collator=case(name)[4], **processing,
        )  # fmt: skip

    return make


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_the_live_teachers(name, dtype, trainer_of, tmp_path):
    teacher, student, rows, collator, _ = case(name)
    labeled = label_transfer_set(rows, teacher, collator, tmp_path / "labeled", dtype=dtype, top_k=6, disable_tqdm=True)
    bare = labeled.remove_columns([column for column in labeled.column_names if column.startswith("teacher")])
    recorded, live = trainer_of(name, student, labeled), trainer_of(name, student, bare, teacher)
    for trainer in (recorded, live):
        trainer.args.train_sampling_strategy, trainer.args.length_bucketing = "sequential", False
    found, expected = loss_and_gradient(recorded), loss_and_gradient(live)
    assert expected[0].min() > 1e-3
    torch.testing.assert_close(found[0], expected[0], **TOLERANCE[dtype])
    torch.testing.assert_close(found[1], expected[1], **TOLERANCE[dtype])
    metrics, exact = recorded.evaluate(labeled), live.evaluate(bare)
    for metric in ("eval_loss", "eval_soft_label_loss", "eval_teacher_agreement"):
        assert metrics[metric] == pytest.approx(exact[metric], abs=1e-3), metric
    assert len(recorded.predict(labeled).predictions) == ROWS or name == "answers"


@pytest.mark.parametrize(
    "way",
    [
        dict(remove_unused_columns=False),
        dict(length_bucketing=True),
        dict(train_sampling_strategy="group_by_length"),
        dict(dataloader_num_workers=1),
        dict(gradient_accumulation_steps=2),
        dict(max_steps=8),
        dict(max_steps=9),
    ],
    ids=lambda way: "-".join(map(str, *way.items())),
)
@pytest.mark.parametrize("name", ["sequences", "tokens"])
def test_every_way_to_read_rows(name, way, trainer_of):
    teacher, student, rows, collator, _ = case(name)
    labeled = label_transfer_set(rows, teacher, collator, disable_tqdm=True)
    given = dict(optim="sgd", learning_rate=0.1) | way
    if way.get("max_steps") == 8:
        labeled, rows = labeled.to_iterable_dataset(), rows.to_iterable_dataset()
    elif "max_steps" in way:  # columns that are not known
        rows = rows.to_iterable_dataset().map(lambda row: row)
        labeled = labeled.to_iterable_dataset().map(lambda row: row)
    if way.get("remove_unused_columns") is False:
        labeled = labeled.remove_columns("teacher_provenance") if name == "tokens" else labeled
    recorded, live = trainer_of(name, student, labeled, **given), trainer_of(name, student, rows, teacher, **given)
    for trainer in (recorded, live):
        torch.manual_seed(0)
        trainer.train()
    assert recorded.state.global_step > 3
    torch.testing.assert_close(parameters_of(recorded.model), parameters_of(live.model), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("positions", ["all", "first"])
def test_recorded_hidden_states_are_imitated(positions, trainer_of):
    teacher, student, rows, collator, _ = case("sequences")
    kept = dict(hidden_states=[0, 2]) if positions == "all" else dict(cls_states=[2])
    labeled = label_transfer_set(rows, teacher, collator, disable_tqdm=True, **kept)
    given = dict(hidden_state_weight=1.0, hidden_state_positions=positions, embedding_weight=float(positions == "all"))
    recorded, live = (
        trainer_of("sequences", student, dataset, source, train_sampling_strategy="sequential", length_bucketing=False, **given)
        for dataset, source in ((labeled, None), (rows, teacher))
    )  # fmt: skip
    found, expected = loss_and_gradient(recorded), loss_and_gradient(live)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match=r"hidden states \[2\], of which \[2\] are not recorded; .* has none"):
        trainer_of("sequences", student, label_transfer_set(rows, teacher, collator), hidden_state_weight=1.0)
    with pytest.raises(ValueError, match=r"compared between two live transformers models"):
        trainer_of("sequences", student, labeled, relation_weight=1.0)


def test_a_student_that_shrinks_reads_them(arguments, tmp_path):
    teacher, _, rows, collator, _ = case("sequences")
    labeled = label_transfer_set(rows, teacher, collator, hidden_states=[1, 2], disable_tqdm=True)
    options = dict(vars(arguments(max_steps=8, hidden_state_weight=0.5)))
    kept = (
        "output_dir",
        "use_cpu",
        "max_steps",
        "per_device_train_batch_size",
        "report_to",
        "disable_tqdm",
        "save_strategy",
    )
    weights = []
    for dataset, source in ((labeled, None), (rows, teacher)):
        args = PruningDistillTrainingArguments(
            **{name: options[name] for name in kept}, hidden_state_weight=0.5, target_hidden_size=16, pruning_events=3,
            optim="sgd", learning_rate=1e-3, bf16=False,
        )  # fmt: skip
        student, generator = copy.deepcopy(teacher).requires_grad_(True), torch.Generator().manual_seed(0)
        for parameter in student.parameters():  # of its teacher's copy the importances are rounding errors
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        trainer = PruningDistillTrainer(
            student, args, train_dataset=dataset, processing_class=masking_tokenizer(), teacher_model=source
        )
        trainer.train()
        assert trainer.model.config.hidden_size == 16
        weights.append(parameters_of(trainer.model))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-4)


def test_answers_of_other_checkpoints_are_refused(tmp_path, arguments):
    _, student, rows, collator, _ = case("sequences")
    for seed in (1, 2):
        tiny_bert(32, 2, seed=seed).save_pretrained(tmp_path / "teacher" / f"checkpoint-{seed}")
    args = ProgressiveTrainingArguments(
        output_dir=str(tmp_path / "output"), use_cpu=True, bf16=False, report_to="none", final_stage_epochs=0,
        teacher_checkpoints=[str(tmp_path / "teacher")], max_steps=4, disable_tqdm=True,
    )  # fmt: skip
    for seeds in ((1, 2), (1, 3)):
        teachers = (FrozenTeacher(tiny_bert(32, 2, seed=seed)) for seed in seeds)
        labeled = label_with_trajectory(rows, teachers, collator, tmp_path / f"labeled{seeds}", disable_tqdm=True)
        given = dict(train_dataset=labeled, processing_class=masking_tokenizer())
        if seeds == (1, 2):
            trainer = ProgressiveTrainer(student, args, **given)
            trainer.teacher.live.outputs = None  # no forward pass
            trainer.train()
            cut = labeled.map(lambda row: {name: row[name][:6] for name in ("input_ids", "attention_mask")})
            with pytest.raises(ValueError, match=r"rows have other input_ids"):
                ProgressiveTrainer(student, args, **given | {"train_dataset": cut})
            continue
        with pytest.raises(ValueError, match=r"answers are of BertForSequenceClassification .*; teacher_model is"):
            ProgressiveTrainer(student, args, **given)


def augmented(rows):
    return {**rows, "input_ids": [[int(torch.randint(4, 90, ())), *row[1:]] for row in rows["input_ids"]]}


class DropsWords(DataCollatorWithPadding):
    def __call__(self, rows):
        batch = super().__call__(rows)
        batch["attention_mask"] = batch["attention_mask"] * (torch.rand(batch["attention_mask"].shape) > 0.3)
        return batch


THROUGH = {
    "as it is": lambda rows: rows,
    "map": lambda rows: rows.map(lambda row: {"more": 1}),
    "batched map": lambda rows: rows.map(lambda batch: {"more": batch["input_ids"]}, batched=True),
    "shuffle": lambda rows: rows.shuffle(seed=1),
    "select": lambda rows: rows.select(range(3, 20)),
    "split": lambda rows: rows.train_test_split(0.3, seed=0)["train"],
    "concatenation": lambda rows: datasets.concatenate_datasets([rows, rows.shuffle(seed=3)]),
    "stream": lambda rows: rows.to_iterable_dataset().shuffle(seed=1),
    "disk": lambda rows: (rows.save_to_disk("labeled"), datasets.load_from_disk("labeled"))[1],
    "parquet": lambda rows: (
        rows.to_parquet("rows.parquet"),
        datasets.Dataset.from_parquet("rows.parquet", cache_dir="c"),
    )[1],
}


@pytest.mark.parametrize("through", THROUGH)
def test_answers_are_known_whatever_the_rows_went_through(through, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher, student, rows, collator, _ = case("sequences")
    labeled = THROUGH[through](label_transfer_set(rows, teacher, collator, tmp_path / "own", disable_tqdm=True))

    def make(dataset=labeled, processing_class=None, student=student, **more):
        given = dict(train_dataset=dataset, processing_class=processing_class or tiny_tokenizer())
        return DistillationTrainer(student, arguments(max_steps=1), **given | more)

    make(teacher_model=teacher).train()
    make(teacher_model=FrozenTeacher(teacher, dtype="bfloat16"))
    other = tiny_bert(32, 2, seed=2)
    with pytest.raises(ValueError, match=r"are of BertForSeq.* with sha256 .*; teacher_model is .* with sha256"):
        make(teacher_model=other)
    with pytest.raises(ValueError, match=r"teacher_model is a TeacherEnsemble"):
        make(teacher_model=[teacher, other])
    with pytest.raises(ValueError, match=r"made by TokenizersBackend \(sha256 .*; processing_class is .* \(sha256"):
        make(processing_class=tiny_tokenizer(prefix="v"))
    for names in (["a", "b", "c"], ["spam", "ham"]):
        named = tiny_bert(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
        if len(names) == 2:
            make(student=named)  # the recorded ones have no names
            continue
        with pytest.raises(
            ValueError, match=r"labels \['LABEL_0', 'LABEL_1'\]; the student's labels are \['a', 'b', 'c'\]"
        ):
            make(student=named)
    with pytest.raises(
        ValueError, match=r"to inputs without masks; data_collator is a DataCollatorForLanguageModeling"
    ):
        make(data_collator=DataCollatorForLanguageModeling(masking_tokenizer()))
    with pytest.raises(ValueError, match=r"other attention_mask when read again, at \(\d+, \d+\) first \d and then \d"):
        make(data_collator=DropsWords(tiny_tokenizer()))
    with pytest.raises(
        ValueError, match=r"for the task sequence_classification; the student's is token_classification"
    ):
        make(student=small(BertForTokenClassification, num_labels=2))
    cut = labeled.map(lambda row: {"input_ids": row["input_ids"][:6], "attention_mask": row["attention_mask"][:6]},
                       **({"features": labeled.features} if through == "stream" else {}))  # fmt: skip
    with pytest.raises(
        ValueError, match=r"at most 20 tokens, cut there; .* rows have other input_ids .* looked at 6 tokens"
    ):
        make(cut)
    if through != "stream":
        with pytest.raises(ValueError, match=r"gave other input_ids when read again"):
            make(labeled.with_transform(augmented))
        beside = labeled.remove_columns("input_ids").add_column("input_ids", labeled["input_ids"][::-1])
        with pytest.raises(ValueError, match=r"answers were put beside other rows"):
            make(beside)


def test_images_turned_at_random_are_refused(arguments):
    teacher, student, rows, collator, _ = case("images")
    labeled = label_transfer_set(rows, teacher, collator, disable_tqdm=True)

    def turned(batch):
        pixels = [torch.tensor(each) for each in batch["pixel_values"]]
        return batch | {"pixel_values": [each.flip(-1) if torch.rand(()) < 0.5 else each for each in pixels]}

    with pytest.raises(
        ValueError, match=r"gave other pixel_values when read again, at \(.*\) first 0\.\d+ and then 0\."
    ):
        DistillationTrainer(
            student, arguments(remove_unused_columns=False), collator, train_dataset=labeled.with_transform(turned)
        )


def looked_at(dtype=torch.float32, size=4, mean=0.5, flip=False):
    """A transform of stored levels into images, as an image processor's: resized, turned, normalized."""

    def made(batch):
        pixels = torch.tensor(batch["levels"]).view(-1, 1, 4, 4)
        pixels = torch.nn.functional.interpolate(pixels, size) if size != 4 else pixels
        pixels = pixels.flip(-1) if flip else pixels
        kept = {name: values for name, values in batch.items() if name != "levels"}
        return kept | {"pixel_values": list(((pixels - mean) / 0.5).to(dtype))}

    return made


def test_images_made_in_another_way_are_refused(arguments, tmp_path):
    teacher, student, rows, _, _ = case("images")
    rows = rows.map(lambda row: {"levels": torch.tensor(row["pixel_values"]).flatten()}, remove_columns="pixel_values")
    labeled = label_transfer_set(rows.with_transform(looked_at()), teacher, default_data_collator, tmp_path / "own")

    def make(dataset, collator=None, **more):
        given = dict(remove_unused_columns=False, max_steps=1) | more
        return DistillationTrainer(
            student, arguments(**given), collator or default_data_collator, train_dataset=dataset
        )

    part = labeled.shuffle(seed=1).select(range(5, 20))
    features = datasets.Features(labeled.features | {"pixel_values": datasets.Array3D((1, 4, 4), "float32")})
    stored = labeled.map(looked_at(), batched=True, remove_columns="levels")
    stream = part.to_iterable_dataset().shuffle(seed=2).map(looked_at(), batched=True, features=features)
    for dataset in (
        labeled.with_transform(looked_at()),
        labeled.with_transform(looked_at(torch.float16)),
        labeled.with_transform(looked_at(torch.bfloat16)),
        part.with_transform(looked_at(torch.float64)),
        datasets.concatenate_datasets([part, labeled]).with_transform(looked_at()),
        stored,
        stored.with_format("torch"),
        stream,
    ):
        make(dataset).train()
    for transform, message in (
        (
            looked_at(mean=0.4),
            r"pixel_values (-?[\d.]+) at (\(0, \d, \d\)) in row \d+; .* make them -?[\d.]+ there. Resize",
        ),
        (looked_at(size=8), r"pixel_values of shape \(1, 4, 4\) in row 0; .* make them of shape \(1, 8, 8\)"),
        (looked_at(flip=True), r"pixel_values .* label them again with this one"),
    ):
        for dataset in (labeled.with_transform(transform), part.with_transform(transform)):
            with pytest.raises(ValueError, match=message):
                make(dataset)
    with pytest.raises(ValueError, match=r"make them .* there"):
        make(part.to_iterable_dataset().map(looked_at(mean=0.4), batched=True, features=features))
    with pytest.raises(ValueError, match=r"make them .* there"):  # in the collator
        make(
            stored,
            lambda examples: (batch := default_data_collator(examples)) | {"pixel_values": -batch["pixel_values"]},
        )
    followed = label_with_trajectory(
        rows.with_transform(looked_at()), [FrozenTeacher(teacher)] * 2, default_data_collator
    )
    with pytest.raises(ValueError, match=r"pixel_values .* label them again"):
        make(followed.with_transform(looked_at(mean=0.4)))


def test_texts_encoded_on_the_fly_are_compared_as_the_collator_gives_them(arguments):
    teacher, student, pad = tiny_bert(32, 2, seed=1), tiny_bert(), DataCollatorWithPadding(masking_tokenizer())
    tokenizer = masking_tokenizer()
    texts = [" ".join(f"w{token}" for token in row["input_ids"]) for row in encoded_sentences(ROWS)] * 3
    rows = datasets.Dataset.from_dict({"text": texts, "labels": [0] * len(texts)})

    def encoded(length, padding=False):
        options = dict(truncation=True, max_length=length, padding=padding)
        return lambda batch: dict(batch) | dict(tokenizer(batch["text"], **options))

    def without_texts(collator):
        return lambda examples: collator([{k: v for k, v in row.items() if k != "text"} for row in examples])

    def make(dataset, collator=pad):
        args = arguments(remove_unused_columns=False, max_steps=1)
        given = dict(train_dataset=dataset, processing_class=masking_tokenizer())
        return DistillationTrainer(student, args, without_texts(collator), **given)

    labeled = label_transfer_set(rows.with_transform(encoded(8)), teacher, without_texts(pad))
    left = DataCollatorWithPadding(masking_tokenizer(padding_side="left"), pad_to_multiple_of=8)
    make(labeled.with_transform(encoded(8))).train()
    make(labeled.shuffle(seed=1).with_transform(encoded(8, "max_length")), left)
    make(labeled.map(encoded(8), batched=True))
    for dataset in (labeled.with_transform(encoded(6)), labeled.map(encoded(6), batched=True)):
        with pytest.raises(ValueError, match=r"rows have other input_ids than those, the longest of those looked at 6"):
            make(dataset)
    stored = rows.map(encoded(8, "max_length"), batched=True)  # padding is not what was answered
    padded = label_transfer_set(stored, teacher, pad, disable_tqdm=True)
    answers = padded.remove_columns(["input_ids", "attention_mask"])
    make(answers.map(encoded(8), batched=True))
    for cut in (answers.map(encoded(6), batched=True), padded.map(lambda row: {"input_ids": row["input_ids"][:6]})):
        with pytest.raises(ValueError, match=r"cut there; \d+ of 87 rows have other input_ids"):
            make(cut)

    turned = padded.map(
        lambda row, number: {"input_ids": row["input_ids"][:: -1 if number == 86 else 1]}, with_indices=True
    )
    with pytest.raises(ValueError, match=r" 1 of 87 rows have other input_ids"):
        make(turned)

    def cuts(examples):
        return pad(
            [{name: row[name][:6] if name.endswith(("ids", "mask")) else row[name] for name in row} for row in examples]
        )

    with pytest.raises(ValueError, match=r"longest of those looked at 6 tokens"):
        make(padded, cuts)
    make(label_transfer_set(stored, teacher, cuts, disable_tqdm=True), cuts)


def test_the_order_of_labels_is_the_recorded_ones(arguments):
    names = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    turned = {"id2label": {0: "Good", 1: "Bad"}, "label2id": {"Good": 0, "Bad": 1}}
    teacher, rows, tokenizer = tiny_bert(32, 2, seed=1, **names), encoded_sentences(ROWS), tiny_tokenizer()
    for permutation, own, others in ((None, names, turned), ([1, 0], turned, names)):
        frozen = FrozenTeacher(teacher, label_permutation=permutation)
        labeled = label_transfer_set(rows, frozen, tokenizer, disable_tqdm=True)
        given = dict(train_dataset=labeled, processing_class=tokenizer)
        DistillationTrainer(tiny_bert(**own), arguments(), **given)
        with pytest.raises(ValueError, match=r"in the order of the labels .*; the student's labels are"):
            DistillationTrainer(tiny_bert(**others), arguments(), **given)


@pytest.mark.parametrize(
    ("names", "others"), [(["it", "IT", "a"], ["IT", "it", "a"]), (["a", "b", "a"], ["a", "a", "b"])], ids=str
)
def test_recorded_labels_that_differ_by_case_alone_or_not_at_all_keep_their_order(arguments, names, others):
    teacher, student, other = (
        tiny_bert(seed=1, id2label=dict(enumerate(each)), label2id={name: i for i, name in enumerate(each)})
        for each in (names, names, others)
    )
    rows, tokenizer = encoded_sentences(ROWS), tiny_tokenizer()
    given = dict(
        train_dataset=label_transfer_set(rows, FrozenTeacher(teacher), tokenizer, disable_tqdm=True),
        processing_class=tokenizer,
    )
    DistillationTrainer(student, arguments(), **given)
    with pytest.raises(ValueError, match=r"in the order of the labels .*; the student's labels are"):
        DistillationTrainer(other, arguments(), **given)


def test_fixed_masks_keep_their_collator_and_temperature(trainer_of, arguments):
    teacher, student, rows, collator, _ = case("masked words")
    labeled = label_transfer_set(rows, teacher, collator, top_k=6, mask_epochs=2, disable_tqdm=True)
    with pytest.raises(ValueError, match=r"to fixed masks; data_collator is a DataCollatorForLanguageModeling"):
        DistillationTrainer(student, arguments(), collator, train_dataset=labeled, processing_class=masking_tokenizer())
    with pytest.raises(ValueError, match=r"softened by temperature 1.0; temperature is 2.0"):
        trainer_of("masked words", student, labeled, temperature=2.0)
    with pytest.raises(ValueError, match=r"of 6 words per masked one; soft_label_top_k is 3"):
        trainer_of("masked words", student, labeled, soft_label_top_k=3)
    sampled = label_transfer_set(rows, teacher, collator, top_k=6, sampled=True, disable_tqdm=True)
    trainer = trainer_of("masked words", student, sampled, num_train_epochs=2)
    trainer.train()
    assert trainer.evaluate(labeled)["eval_teacher_agreement"] >= 0


def test_answers_at_masked_positions_do_not_serve_all_positions(trainer_of):
    teacher, student, rows, collator, _ = case("masked words")
    labeled = label_transfer_set(rows, teacher, collator, top_k=6, disable_tqdm=True)
    everywhere = dict(soft_label_positions="attended", soft_label_top_k=None, max_steps=2)
    with pytest.raises(ValueError, match="were recorded at masked positions only: pass teacher_model"):
        trainer_of("masked words", student, labeled, **everywhere)
    bare = labeled.remove_columns([column for column in labeled.column_names if column.startswith("teacher")])
    weights = []
    for dataset in (labeled, bare):
        trainer = trainer_of("masked words", student, dataset, teacher, **everywhere)
        trainer.train()
        weights.append(parameters_of(trainer.model))
    assert torch.equal(*weights)


def test_the_loss_of_drawn_words_is_never_negative(trainer_of):
    teacher, _, rows, collator, _ = case("masked words")
    sharp = dict(temperature=0.05)  # most draws are the same word
    sampled = label_transfer_set(rows, teacher, collator, top_k=6, sampled=True, disable_tqdm=True, **sharp)
    still = dict(max_steps=2, logging_steps=1, learning_rate=0.0)
    trainer = trainer_of("masked words", teacher.requires_grad_(True), sampled, **still, **sharp)
    trainer.train()
    found = [entry["soft_label_loss"] for entry in trainer.state.log_history if "soft_label_loss" in entry]
    assert len(found) == 2 and min(found) >= 0 and trainer.evaluate(sampled)["eval_soft_label_loss"] >= 0


def test_a_column_of_ones_own_needs_no_provenance(arguments):
    rows = encoded_sentences(ROWS).add_column("teacher_logits", [[0.0, 3.0]] * ROWS)
    trainer = DistillationTrainer(
        tiny_bert(), arguments(num_train_epochs=8), train_dataset=rows, processing_class=tiny_tokenizer(),
        data_collator=DropsWords(tiny_tokenizer()),
    )  # fmt: skip
    trainer.train()
    assert (trainer.predict(rows).predictions.argmax(-1) == 1).all()
