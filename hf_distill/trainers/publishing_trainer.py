"""A trainer whose output goes to disk and to the Hub with a model card from its run record, without tokens and pickles."""

from __future__ import annotations

import copy
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import get_token
from torch import Tensor
from transformers import TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, SaveStrategy
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME, GENERATION_CONFIG_NAME, PushInProgress, logging
from transformers.utils.hub import hf_api

from hf_distill.publishing.card_values import faults
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.output_folder import files_to_push
from hf_distill.publishing.run_record import RUN_RECORD_NAME, RunRecord
from hf_distill.publishing.student_folder import is_weights
from hf_distill.text.credentials import cleaned
from hf_distill.trainers.budget_trainer import BudgetTrainer
from hf_distill.trainers.callbacks import RunRecordCallback
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments

logger = logging.get_logger(__name__)
_CONFIGURATIONS = {CONFIG_NAME, GENERATION_CONFIG_NAME, ADAPTER_CONFIG_NAME}
_IGNORED = ["_*", f"{PREFIX_CHECKPOINT_DIR}-*"]


class PublishingTrainer(BudgetTrainer):
    """`BudgetTrainer` that publishes what Trainer publishes, but for pickles, files with tokens, and links out of the folder.

    Its model card is rendered from the run record in the output folder, where there is one.
    """

    @property
    def _folder(self) -> str:
        """The output folder."""
        return str(self.args.output_dir)

    def create_model_card(
        self,
        language: str | list[str] | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Trainer's, which `push_to_hub` calls too.

        Args:
            language: Language codes of the texts.
            license: The model's license, as the Hub spells it.
            tags: Further tags.
            model_name: Title of the card. None: the name of the output folder.
            finetuned_from: Hub id of the model this one derives from. None: what it was loaded from, or its teacher,
                where that is known to be on the Hub.
            tasks: The pipeline the model serves. None: that of its head.
            dataset_tags: Hub ids of the data sets.
            dataset: Names of the data sets.
            dataset_args: Which parts of the data sets were used.
        """
        if not self.is_world_process_zero():
            return
        given = {
            "language": language,
            "license": license,
            "tags": [tags] if isinstance(tags, str) else tags,
            "model_name": model_name,
            "base_model": finetuned_from,
            "pipeline_tag": tasks if isinstance(tasks, str) or not tasks else tasks[0],
            "datasets": dataset_tags,
            "dataset_names": dataset,
            "dataset_args": dataset_args,
        }
        for fault in faults(license, language):
            logger.warning(f"In the model card {fault}")
        record = None if self.is_plain else self.run_record()
        if record is None:
            given_language: Any = language  # Trainer takes lists too, though declared as one
            super().create_model_card(
                given_language, license, tags, model_name, finetuned_from, tasks, dataset_tags, dataset, dataset_args
            )
            return
        record.card |= {name: value for name, value in given.items() if value}
        record.save(self._folder)
        write_model_card(self._folder)

    def run_record(self) -> RunRecord | None:
        """The record of the last training, or the one in the output folder. None: there is none."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, RunRecordCallback) and callback.record is not None:
                return callback.record
        is_recorded = Path(self._folder, RUN_RECORD_NAME).exists()
        return RunRecord.load(self._folder) if is_recorded else None

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Trainer's, without pickles (`training_args.bin`), files that contain a token, and links out of the folder.

        Args:
            commit_message: Title of the commit.
            blocking: Return when it is done.
            token: A token with write permission. None: `hub_token`, else that of HF_TOKEN or of `hf auth login`.
            revision: The branch to commit to. None: `hub_revision`.
            private: Whether a new repository is private. None: `hub_private_repo`.
            kwargs: Further arguments of `create_model_card`.

        Returns:
            The commit, a Future of it unless `blocking`, or None on processes that do not send.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        place = self.args.hub_model_id or Path(self._folder).name
        name = kwargs.pop("model_name", None) or (place.split("/")[-1] if self.args.should_save else None)
        token = token if token is not None else self.args.hub_token
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        given = kwargs.pop("tags", None) or []
        tags = [given] if isinstance(given, str) else list(given)
        tags += [tag for tag in getattr(self.model, "model_tags", None) or [] if tag not in tags]
        self.create_model_card(model_name=name, tags=tags or None, **kwargs)
        self._finish_current_push()
        return self._send(self._folder, commit_message, token, revision, run_as_future=not blocking)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Trainer's, without pickles and tokens: checkpoints on the Hub have weights, but no state of the optimizer."""
        args = self.args
        if not self.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
            return
        running: Any = self.push_in_progress
        is_busy = running is not None and not running.is_done()
        if is_busy and not args.hub_always_push:
            return
        self.callback_handler.on_push_begin(args, self.state, self.control)
        for path in Path(checkpoint_folder).iterdir():
            if path.name in _CONFIGURATIONS or is_weights(path.name):
                shutil.copy(path, Path(self._folder, path.name))
        if self.processing_class is not None:
            self.processing_class.save_pretrained(self._folder)
        torch.save(_to_be_saved(args), Path(self._folder, TRAINING_ARGS_NAME))
        is_by_step = args.save_strategy == SaveStrategy.STEPS
        reached = f"step {self.state.global_step}" if is_by_step else f"epoch {int(self.state.epoch)}"
        message = f"Training in progress, {reached}"
        jobs: list[Any] = [self._send(self._folder, message, run_as_future=True)]
        if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            is_last = args.hub_strategy == HubStrategy.CHECKPOINT
            place = "last-checkpoint" if is_last else Path(checkpoint_folder).name
            message += ", checkpoint"
            jobs.append(self._send(checkpoint_folder, message, run_as_future=True, path_in_repo=place))
        if is_busy:
            running.jobs.extend(jobs)
        else:
            started: Any = PushInProgress(cast(Any, jobs))  # declared to take a single one
            self.push_in_progress = started

    def _send(
        self, folder: str, message: str | None, token: str | None = None, revision: str | None = None, **options: Any
    ) -> Any:
        """Send those files of a folder that may go; who trains is told once which may not."""
        token = token if token is not None else self.args.hub_token
        sent, kept = files_to_push(folder, token or get_token(), [] if "path_in_repo" in options else _IGNORED)
        for what in sorted(set(kept.values())):
            names = ", ".join(sorted({os.path.basename(name) for name in kept if kept[name] == what}))
            logger.warning_once(f"Not sent to the Hub, for each is or contains {what}: {names}")
        upload: Any = hf_api().upload_folder
        return upload(
            repo_id=str(self.hub_model_id),
            folder_path=folder,
            commit_message=message,
            token=token,
            revision=revision if revision is not None else self.args.hub_revision,
            allow_patterns=[glob.escape(name) for name in sent],
            **options,
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        folder = output_dir or self._folder
        with self._arguments_without_tokens():
            super()._save(folder, state_dict)

    @contextmanager
    def _arguments_without_tokens(self) -> Iterator[None]:
        """Within it the trainer's arguments are as they may be saved."""
        running = self.args
        self.args = _to_be_saved(running)
        try:
            yield
        finally:
            self.args = running


def _to_be_saved(args: TrainingArguments) -> TrainingArguments:
    """A copy of arguments without tokens, passwords and keys; plain ones also without the fields that are ours."""
    saved = copy.copy(args)
    names = {field.name for field in fields(args)}
    ours = {field.name for field in fields(DistillationTrainingArguments)} - names
    for name, value in vars(args).items():
        if name in ours:
            delattr(saved, name)
        elif name.endswith("_token") and isinstance(value, str):
            setattr(saved, name, None)
        elif type(value) in (str, dict, list):
            setattr(saved, name, cleaned(value))
    engine = getattr(saved, "hf_deepspeed_config", None)
    if engine is not None and cleaned(engine.config) != engine.config:
        saved.hf_deepspeed_config = saved.deepspeed_plugin = cast(Any, None)  # they are made again from `deepspeed`
    return saved
