"""Command-line arguments of scripts: transformers' parser with one-line error messages."""

from __future__ import annotations

import os
import re
from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Iterable
from typing import Any, NoReturn, cast

from transformers.hf_argparser import HfArgumentParser

from hf_distill.files import read_json
from hf_distill.scripts.user_errors import WrongUsage
from hf_distill.text.suggestions import suggestion


class _Help(RawDescriptionHelpFormatter, ArgumentDefaultsHelpFormatter):
    """Help that keeps the line breaks of the description and shows the defaults of options."""


class ScriptParser(HfArgumentParser):
    """Parser of argument dataclasses whose errors are one line, without the usage, and suggest what may have been meant.

    Its help begins with the description, followed by the script's own options and then the training arguments.

    Args:
        groups: The argument dataclasses.
        also_known: Names of options, without dashes, that another parser has read already; they are only suggested in place
            of unknown options.
        **options: Keyword arguments of `argparse.ArgumentParser`.

    Raises:
        WrongUsage: An option does not exist, is missing, or has a value that is not allowed.
    """

    def __init__(self, groups: Iterable[type] | type | None = None, also_known: Iterable[str] = (), **options: Any):
        options = {"formatter_class": _Help, "usage": "%(prog)s [options]"} | options
        super().__init__(cast(Any, groups), **options)
        for action in self._actions:
            if action.option_strings and action.option_strings[0].startswith("--no_") and action.const is False:
                action.help = f"Set --{action.dest} to false."  # transformers repeats the help of the option itself
        self._also_known = list(also_known)

    def error(self, message: str) -> NoReturn:
        """Raise argparse's error message as `WrongUsage`, with a suggestion where a choice was misspelt."""
        refused = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        meant = suggestion(refused[1], re.findall(r"[\w.-]+", refused[2])) if refused else ""
        raise WrongUsage(message + meant)

    def parse_args(self, args: list[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]  # argparse has overloads
        """Like `ArgumentParser.parse_args`, for scripts that add arguments of their own."""
        parsed, unknown = self.parse_known_args(args, namespace)
        self._refuse(unknown)
        return parsed

    def parse_args_into_dataclasses(
        self, args: list[str] | None = None, return_remaining_strings: bool = False, *more: Any, **options: Any
    ) -> tuple[Any, ...]:
        """Like `HfArgumentParser.parse_args_into_dataclasses`."""
        *groups, unknown = super().parse_args_into_dataclasses(args, True, *more, **options)
        if return_remaining_strings:
            return *groups, unknown
        self._refuse(unknown)
        return tuple(groups)

    def parse_json_file(self, json_file: str | os.PathLike, allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """Like `HfArgumentParser.parse_json_file`."""
        given = read_json(json_file, finite=False)
        known = {action.dest for action in self._actions}
        for key in given.keys() - known if not allow_extra_keys else ():
            raise WrongUsage(f"{json_file} has the unknown argument {key!r}{suggestion(key, known)}")
        return self.parse_dict(given, allow_extra_keys)

    def _refuse(self, unknown: list[str]) -> None:
        """Raise an error that names the first of the unknown arguments of a command line."""
        flags = [word.partition("=")[0] for word in unknown if word.startswith("--")]
        known = [*self._also_known, *(option.lstrip("-") for option in self._option_string_actions)]
        for flag in flags:
            raise WrongUsage(f"there is no option {flag}{suggestion(flag.lstrip('-'), known, '--{}')}")
        if unknown:
            raise WrongUsage(f"unexpected value that follows no option: {' '.join(unknown)}")
