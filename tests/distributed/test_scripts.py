"""Every example script under the launch files of examples/launch that a CPU can do, on two processes as on one."""

import json
import sys

import pytest
import transformers
from accelerate.commands import launch as starting
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from safetensors.torch import load_file

from hf_distill.publishing.run_record import RunRecord
from tests.distributed.scripts_worker import EXAMPLES, OF_ENGINES, run_script
from tests.distributed.test_launch import LAUNCH, LAUNCHED, launch
from tests.examples import test_run_mlm as mlm
from tests.examples import test_run_ner as ner
from tests.examples import test_run_qa as qa
from tests.examples.test_run_glue import QUIET, REVIEWS, save_bert, write_csv
from tests.tiny_architectures import tiny_model

pytest.importorskip("deepspeed")

LABELS = ["negative", "positive"]
# Of the other files one is DDP, one takes a compiler, and ZeRO-1 is between ZeRO-2 and DDP (test_parity.py has it).
ENGINES = ("zero3", "zero2", "fsdp2", "ddp")
CANNOT_SHRINK = ("zero3", "fsdp2")
MASKED = {"masked_words": ("soft_label", "hard_label", "hidden_state"), "relations": ("relation",)}  # with their terms
SEVERAL = ("pipeline", "grid", "trajectories", "budget")  # trainings
BATCH = 4


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Models without dropout, whose training two processes can share, and files."""
    folder = tmp_path_factory.mktemp("given")
    for index, step in enumerate((3, 6)):
        save_bert(folder / "teacher" / f"checkpoint-{step}", hidden_size=64, layers=2, seed=index, labels=LABELS)
    save_bert(folder / "student", hidden_size=64, layers=1, seed=9, labels=LABELS)
    for path in folder.rglob("config.json"):
        own = json.loads(path.read_text())
        own |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        path.write_text(json.dumps(own))
    ner.save_bert(folder / "ner_teacher", ner.NAMES)
    ner.save_bert(folder / "ner_student", ner.NAMES, layers=1)
    ner.write_jsonl(folder / "words.json", ner.rows_of()[:35])
    qa.save_bert(folder / "qa_teacher", hidden_size=32, layers=2)
    qa.save_bert(folder / "qa_student", hidden_size=16, layers=1)
    qa.write(folder / "questions.jsonl", qa.rows_of("who", "where", "when")[1][:13])
    mlm.save_bert(folder / "mlm_teacher")
    (folder / "lines.txt").write_text("\n".join(mlm.LINES))
    for seed, role in enumerate(("student", "teacher")):
        vit = tiny_model("vit", seed=seed, num_channels=1, id2label=dict(enumerate("0123456789")))
        vit.save_pretrained(folder / f"digits_{role}")
    write_csv(folder / "train.csv", ["text", "label"], REVIEWS)
    write_csv(folder / "held_out.csv", ["text", "label"], [(f"{text} film", label) for text, label in REVIEWS])
    return folder


def commands(given, output, processes):
    """By name; whole batches are equally large."""
    batch = ["--per_device_train_batch_size", str(BATCH // processes), "--per_device_eval_batch_size", "2", *QUIET]
    teacher = ["--teacher_model_name_or_path", f"{given}/teacher/checkpoint-6"]
    files = ["--train_file", f"{given}/train.csv", "--validation_file", f"{given}/held_out.csv"]
    texts = ["--corpus", f"{given}/train.csv", "--transfer_set", f"{given}/train.csv", "--max_seq_length", "12"]
    steps = ["--pretraining_steps", "2", "--distillation_steps", "3", "--fine_tuning_steps", "3"]
    stages = [*teacher, *files, *texts, *steps, *batch]
    own = ["--initialization", "pretrained", "--pretrained_model_name_or_path", f"{given}/student"]
    question = ["--question", "arms", "--students", "1/64", "--arms", "PD", "PD-F", "--seeds", "0"]
    arms = ["--arms", "vanilla_kd", "pro_kd", "--students", "1/64", "--steps", "5", "--learning_rates", "1e-3",
            "--seeds", "0"]  # fmt: skip
    budget = ["--stage", "classification", "--regimes", "limited", "--limited_fraction", "1", "--max_flops", "2e8",
              "--arms", "no_kd", "vanilla_kd", "--student", "1/64", "--learning_rates", "1e-3", "--seeds", "0",
              "--points", "2", "--fine_tuning_steps", "2", "--max_seq_length", "12"]  # fmt: skip
    judged = ["--do_eval", "--do_predict", *batch]

    def of_task(task, file):
        models = ["--model_name_or_path", f"{given}/{task}_student", "--teacher_model_name_or_path"]
        return [*models, f"{given}/{task}_teacher", "--validation_file", file, "--test_file", file, *judged]

    # Without dropout and labels a student that equals its teacher has no gradients to judge its units by.
    smaller = ["--target_hidden_size", "32", "--pruning_events", "2", "--vocabulary_min_count", "1", "--max_steps", "4",
               "--hard_label_weight", "1"]  # fmt: skip
    three_steps = ["--do_train", "--do_eval", "--max_steps", "3", *batch]
    trained = [*three_steps, "--optim", "sgd", "--learning_rate", "0.1"]
    words = ["run_mlm.py", "--model_type", "bert", "--config_overrides", mlm.SMALL, "--line_by_line",
             "--teacher_model_name_or_path", f"{given}/mlm_teacher", "--train_file", f"{given}/lines.txt",
             "--validation_file", f"{given}/lines.txt", *three_steps]  # fmt: skip
    trajectory = ["train_teacher.py", "--model_name_or_path", f"{given}/student", *files, "--checkpoints", "2",
                  "--save_only_model", *trained]  # fmt: skip
    found = {
        "reviews": ["run_glue.py", "--model_name_or_path", f"{given}/student", *teacher, *files, *trained],
        "masked_words": [*words, "--recipe", "distilbert", "--save_steps", "2"],
        "resumed": [*words, "--recipe", "distilbert", "--resume_from_checkpoint", f"{output}/masked_words/checkpoint-2"],
        "relations": [*words, "--recipe", "minilmv2"],  # the loss knows nothing that the student or a layer puts out
        "images": ["run_image_classification.py", "--dataset_name", "digits", "--max_eval_samples", "21",
                   "--model_name_or_path", f"{given}/digits_student", "--teacher_model_name_or_path", f"{given}/digits_teacher", *trained],
        "teacher": trajectory,
        "adapted_teacher": [*trajectory, "--lora_rank", "2"],
        "pipeline": ["pretrained_distillation.py", "--student", "1/64", *own, "--test_file", f"{given}/held_out.csv", *stages],
        "grid": ["ablations.py", *question, *stages],
        "trajectories": ["compare_trajectories.py", "--teacher_checkpoints", f"{given}/teacher", *files, *arms, *batch],
        "budget": ["compare_under_budget.py", *teacher, *files, *budget, *batch],
        "words": ["run_ner.py", *of_task("ner", f"{given}/words.json")],
        "answers": ["run_qa.py", *of_task("qa", f"{given}/questions.jsonl"), "--version_2_with_negative", *qa.WINDOWS],
        "pruned": ["prune_classifier.py", "--model_name_or_path", f"{given}/teacher/checkpoint-6", *files, *smaller,
                   "--do_train", "--do_eval", *batch],
    }  # fmt: skip
    return {name: [*command, "--output_dir", f"{output}/{name}"] for name, command in found.items()}


@pytest.fixture(scope="module")
def alone(given, tmp_path_factory):
    """What one process leaves."""
    output, verbosity = tmp_path_factory.mktemp("alone"), transformers.logging.get_verbosity()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        patch.setattr(sys, "argv", sys.argv)
        for name, command in commands(given, output, 1).items():
            if name not in ("grid", "pruned", "resumed", *MASKED):
                run_script(*command)
    transformers.logging.set_verbosity(verbosity)
    return output


@pytest.fixture(scope="module")
def launched(given, tmp_path_factory):
    """A folder with what two processes leave under each engine; a second start of a script finds all trainings done."""
    folder = tmp_path_factory.mktemp("launched")
    plan = {}
    for engine in ENGINES:
        found = commands(given, folder / engine, 2)
        if engine in CANNOT_SHRINK:
            del found["pruned"]
        again = [found[name] for name in SEVERAL]
        plan[engine] = {"environment": environment_of(engine), "first": list(found.values()), "again": again}
    (folder / "commands.json").write_text(json.dumps(plan))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        worker = "tests/distributed/scripts_worker.py"
        launch("accelerate", "launch", "--config_file", LAUNCH / "cpu/zero3.yaml", LAUNCHED, worker, folder)
    return folder


def environment_of(engine):
    """What accelerate launch puts into the environment for a file of examples/launch, here without bfloat16."""
    found = {}
    options = ["--config_file", str(LAUNCH / f"{engine}.yaml"), "--num_processes", "2", "--mixed_precision", "no"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starting, "multi_gpu_launcher", lambda args: found.update(prepare_multi_gpu_env(args)))
        patch.setattr(starting, "deepspeed_launcher", lambda args: found.update(prepare_deepspeed_cmd_env(args)[1]))
        starting.launch_command(starting.launch_command_parser().parse_args([*options, "script.py"]))
    return {name: value for name, value in found.items() if name.startswith(OF_ENGINES)}


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_trained_without_its_engine_or_twice(launched, engine):
    trained = json.loads((launched / "trained.json").read_text())[engine]
    wrapper = {"ddp": "DistributedDataParallel", "fsdp2": "FSDP"}.get(engine, "DeepSpeedEngine")
    assert all(name.startswith(wrapper) for name in trained["first"]) and len(trained["first"]) >= 3
    assert trained["again"] == []


def require_the_same_weights(ours, theirs):
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (ours, theirs))
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        # The gradient of a key's bias is zero but for rounding, of which AdamW makes a whole step.
        assert name.endswith("key.bias") or (ours[name] - weight).abs().mean() < 1e-5, name


@pytest.mark.parametrize("script", ["reviews", "images", "teacher", "adapted_teacher"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_training_ends_as_on_one_process(launched, alone, engine, script):
    ours, theirs = launched / engine / script, alone / script
    other_start = (engine, script) == ("zero3", "adapted_teacher")  # random weights are other ones under ZeRO-3
    if not other_start:
        require_the_same_weights(ours, theirs)
    assert load_file(ours / "model.safetensors").keys() == load_file(theirs / "model.safetensors").keys()
    record, other = RunRecord.load(ours), RunRecord.load(theirs)
    assert (record.training["processes"], record.training["steps"], other.training["processes"]) == (2, 3, 1)
    assert record.student | {"weights_sha256": ""} == other.student | {"weights_sha256": ""}
    expected = pytest.approx(other.metrics["eval_loss"], rel=0.01 if other_start else 1e-5)
    assert record.metrics["eval_loss"] == expected
    if "teacher" in script:
        assert sorted(path.name for path in ours.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-3"]


@pytest.mark.parametrize("script", MASKED)
@pytest.mark.parametrize("engine", ENGINES)
def test_masked_words_are_learned_under_every_engine_alike(launched, engine, script):
    # One process would mask other words than two, and under ZeRO-3 random weights are other ones.
    ours, theirs = (launched / name / script for name in (engine, "ddp"))
    if engine != "zero3":
        require_the_same_weights(ours, theirs)
    assert load_file(ours / "model.safetensors").keys() == load_file(theirs / "model.safetensors").keys()
    record, other = RunRecord.load(ours), RunRecord.load(theirs)
    assert (record.training["processes"], record.training["steps"]) == (2, 3)
    assert record.training["spent"]["flops"] == other.training["spent"]["flops"]
    for term in MASKED[script]:
        expected = pytest.approx(other.metrics[f"eval_{term}_loss"], rel=0.2 if engine == "zero3" else 1e-5)
        assert record.metrics[f"eval_{term}_loss"] == expected, term


@pytest.mark.parametrize("engine", ENGINES)
def test_masked_words_go_on_from_a_checkpoint(launched, engine):
    folders = [launched / engine / name for name in ("resumed", "masked_words")]
    ours, theirs = (load_file(folder / "model.safetensors") for folder in folders)
    training = RunRecord.load(folders[0]).training
    assert ours.keys() == theirs.keys() and training["steps"] == 3
    # The last step masks other words, but moves no weight further than its learning rate.
    rate = training["settings"]["learning_rate"]
    assert all((ours[name] - weight).abs().max() < rate for name, weight in theirs.items())


@pytest.mark.parametrize("engine", ENGINES)
def test_stages_follow_each_other_as_on_one_process(launched, alone, engine):
    together = launched / engine
    record, other = (RunRecord.load(folder / "pipeline") for folder in (together, alone))
    assert [(stage["name"], stage["training"]["steps"], stage["training"]["processes"]) for stage in record.stages] == [
        ("distillation", 3, 2), ("fine_tuning", 3, 2),
    ]  # fmt: skip
    require_the_same_weights(together / "pipeline", alone / "pipeline")
    for name in ("test_loss", "test_accuracy", "test_teacher_kl"):
        assert record.metrics[name] == pytest.approx(other.metrics[name], rel=1e-5), name
    assert record.teacher == other.teacher and (together / "pipeline" / "README.md").exists()
    assert not list((together / "pipeline").rglob("checkpoint-*"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_grid_has_all_its_cells(launched, engine):
    grid = launched / engine / "grid"
    found = json.loads((grid / "arms.json").read_text())
    assert [(cell["row"], cell["column"]) for cell in found["cells"]] == [("1/64", "PD"), ("1/64", "PD-F")]
    assert found["conditions"]["processes"] == 2
    stages = sorted(path.parent.name for path in grid.rglob("finished.json"))
    assert stages == ["pretraining", "pretraining+distillation", "pretraining+distillation+fine_tuning"]
    for cell, arm in zip(found["cells"], ("PD", "PD-F"), strict=True):
        (result,) = (grid / "students").glob(f"{arm}_*/result.json")
        assert cell["accuracies"] == [json.loads(result.read_text())["eval_accuracy"]]


@pytest.mark.parametrize("engine", ENGINES)
def test_arms_come_out_as_on_one_process(launched, alone, engine):
    together = launched / engine
    ours, theirs = (json.loads((folder / "trajectories" / "results.json").read_text()) for folder in (together, alone))
    assert ours["arms"] == theirs["arms"] and len(ours["arms"]) == 2
    one_process = {"processes": 1, "batch_size": BATCH}
    assert ours["conditions"] | one_process == theirs["conditions"] and ours["conditions"]["processes"] == 2
    for folder in theirs_runs(alone):
        require_the_same_weights(together / "trajectories" / folder, alone / "trajectories" / folder)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_budget_is_that_of_all_processes(launched, alone, engine):
    folders = (launched / engine, alone)
    ours, theirs = (json.loads((folder / "budget" / "results.json").read_text()) for folder in folders)
    assert ours["conditions"]["processes"] == 2 and len(ours["arms"]) == 2
    for own, other in zip(ours["arms"], theirs["arms"], strict=True):
        (spent,), (expected,) = own["spent"], other["spent"]
        assert spent["flops"] >= 2e8 and spent["flops"] == pytest.approx(expected["flops"], rel=0.1)
        read, other_read = (
            each["tokens"] + each["padding_tokens"] for each in (spent, expected)
        )  # halves are padded less
        assert read == pytest.approx(other_read, rel=0.1) and len(own["curve"]) == 2
    assert not list((launched / engine / "budget").rglob("stage"))


def theirs_runs(output):
    names = sorted(path.parent.name for path in (output / "trajectories").glob("*/result.json"))
    assert len(names) == 2
    return names


@pytest.mark.parametrize("script", ["words", "answers"])
@pytest.mark.parametrize("engine", ENGINES)
def test_uneven_evaluation_sets_are_counted_once(launched, alone, engine, script):
    ours, theirs = (launched / engine / script, alone / script)
    found, expected = (json.loads((folder / "all_results.json").read_text()) for folder in (ours, theirs))
    assert found.keys() == expected.keys() and {"eval_loss", "eval_f1"} <= found.keys()
    of_time = ("runtime", "per_second", "preparation_time")
    for name in (name for name in expected if not name.endswith(of_time)):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    written = "predictions.txt" if script == "words" else "predict_predictions.json"
    assert (ours / written).read_text() == (theirs / written).read_text()


@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in CANNOT_SHRINK])
def test_a_classifier_is_pruned(launched, engine):
    record = RunRecord.load(launched / engine / "pruned")
    assert (record.student["hidden_size"], record.training["processes"], record.training["steps"]) == (32, 2, 4)
    assert (launched / engine / "pruned" / "README.md").exists()
