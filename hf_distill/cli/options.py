"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

DatasetName = Annotated[
    str,
    typer.Option(
        "--dataset",
        help="A built-in set (movie_reviews, wordnet, brown, digits, ...), a file, a saved folder, or a name on the Hub.",
    ),
]
TransferSet = Annotated[
    str,
    typer.Argument(
        help="A built-in set (movie_reviews, wordnet, ...), a .csv, .json, .txt or .parquet file, a folder of them, or a "
        "dataset's name on the Hub."
    ),
]
DatasetConfig = Annotated[str | None, typer.Option(help="The configuration of --dataset.")]
TextColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--text-column",
        help="The column of texts; given twice, of pairs of texts. Default: text, or the first of strings.",
    ),
]
LabelColumn = Annotated[str | None, typer.Option(help="The column of labels. Default: label.")]
MaxLength = Annotated[int, typer.Option(min=4, help="Tokens that longer inputs are cut to.")]
