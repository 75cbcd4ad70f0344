"""Tests that need an extra, which `make test-core` leaves out: it runs where nothing but the core is installed."""

from __future__ import annotations

from tests.slow_tests import is_in

# Paths from the repository's root: folders, files, and tests in files.
WITH_EXTRAS = (
    "tests/benchmarks",
    "tests/cli",
    "tests/compression",
    "tests/evaluation/test_cascade.py",
    "tests/evaluation/test_class_scores.py",
    "tests/evaluation/test_comparison.py",
    "tests/evaluation/test_embeddings.py",
    "tests/evaluation/test_fitted_table.py",
    "tests/evaluation/test_label_placement.py",
    "tests/evaluation/test_metrics.py",
    "tests/evaluation/test_modules.py",
    "tests/evaluation/test_ranking.py",
    "tests/evaluation/test_rows_by_format.py",
    "tests/evaluation/test_single_texts.py",
    "tests/evaluation/test_statistics.py",
    "tests/evaluation/test_text_pairs.py",
    "tests/examples",
    "tests/exporting",
    "tests/files/test_writing.py",
    "tests/graphs",
    "tests/hub",
    "tests/pretrained/test_files.py::test_an_image_processor_is_there_or_not_or_broken",
    "tests/publishing/test_derived_record.py::test_a_trimmed_student_is_recorded_and_published",
    "tests/publishing/test_labeled_folder.py",
    "tests/publishing/test_model_card.py::test_card_of_a_distilled_student",
    "tests/publishing/test_poison.py::test_a_plot_of_odd_rows_is_drawn",
    "tests/publishing/test_usage.py::test_the_code_of_a_card_runs_and_prints_an_answer[gray images]",
    "tests/publishing/test_usage.py::test_the_code_of_a_card_runs_and_prints_an_answer[images]",
    "tests/resources/test_encoders.py",
    "tests/scripts/test_interruption.py::test_a_distillation_says_how_to_resume",
    "tests/test_dependencies.py",
    "tests/test_documentation_site.py",
    "tests/test_model_cards.py::test_a_card_is_made_of_its_record",
    "tests/test_sentence_prompts.py::test_a_comparison_reads_pairs_as_queries_and_documents",
    "tests/trainers/test_rerankers.py::test_an_evaluation_compares_all_candidates_of_a_query_and_ranks_them",
    "tests/trainers/test_training_log.py",
)


def needs_extra(nodeid: str) -> bool:
    """Whether a test, by its id or the path of its file, is in one of `WITH_EXTRAS`."""
    return is_in(nodeid, WITH_EXTRAS)
