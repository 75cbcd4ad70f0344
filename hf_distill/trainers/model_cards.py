"""A trainer whose model card is rendered from its run record."""

from __future__ import annotations

from pathlib import Path

from transformers.utils import logging

from hf_distill.publishing.card_values import faults
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import RUN_RECORD_NAME, RunRecord
from hf_distill.trainers.callbacks import RunRecordCallback
from hf_distill.trainers.pushing import Pushing

logger = logging.get_logger(__name__)


class ModelCards(Pushing):
    """The part of `DistillationTrainer` that writes model cards."""

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
        """Trainer's, which `push_to_hub` calls too; the card is rendered from the run record in the output folder.

        Args:
            language: Codes of the texts' languages.
            license: Of the student.
            tags: Further tags.
            model_name: Title of the card. None: the name of the output folder.
            finetuned_from: Hub id of the model the student derives from. None: what it was loaded from, or its teacher,
                where that is known to be on the Hub.
            tasks: The pipeline it is for. None: that of its head.
            dataset_tags: Hub ids of the datasets.
            dataset: Their names.
            dataset_args: Which parts of them.
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
        folder = self.args.output_dir
        record = next(
            (each.record for each in self.callback_handler.callbacks if isinstance(each, RunRecordCallback)), None
        )
        is_recorded = record is not None or Path(folder, RUN_RECORD_NAME).exists()
        if self._is_trainer() or not is_recorded:  # nothing was trained: no more to say
            said = language, license, tags, model_name, finetuned_from, tasks, dataset_tags, dataset, dataset_args
            super().create_model_card(*said)
            return
        record = record or RunRecord.load(folder)
        record.card |= {name: value for name, value in given.items() if value}
        record.save(folder)
        write_model_card(folder)
