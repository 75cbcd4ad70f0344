"""The arguments of scripts: transformers' parser, whose refusals are one line."""

from __future__ import annotations

import re
from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from collections.abc import Iterable
from typing import Any, NoReturn

from transformers.hf_argparser import HfArgumentParser

from hf_distill.files import read_json
from hf_distill.scripts.user_errors import WrongUsage
from hf_distill.text.suggestions import suggestion


class _Help(RawDescriptionHelpFormatter, ArgumentDefaultsHelpFormatter):
    """The description as it is written, and the defaults of options."""


class ScriptParser(HfArgumentParser):
    """Arguments of dataclasses; what it refuses it names, with what may have been meant, and without the whole usage.

    Its help begins with the description, then come the script's own options, and the training's last.

    Args:
        groups: The dataclasses.
        also_known: Options, without dashes, that something else has read already; only what they may be mistaken for.
        options: Of argparse's parser.

    Raises:
        WrongUsage: An option does not exist, lacks, or has a value that is not allowed.
    """

    def __init__(self, groups: Iterable[type] | type | None = None, also_known: Iterable[str] = (), **options: Any):
        super().__init__(groups, **{"formatter_class": _Help, "usage": "%(prog)s [options]"} | options)
        self._also_known = list(also_known)

    def error(self, message: str) -> NoReturn:
        """Refuse a value or the lack of an option; argparse calls it."""
        refused = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        meant = suggestion(refused[1], re.findall(r"[\w.-]+", refused[2])) if refused else ""
        raise WrongUsage(message + meant)

    def parse_args(self, args: list[str] | None = None, namespace: Any = None) -> Any:
        """As argparse does, for those who add arguments of their own."""
        parsed, unknown = self.parse_known_args(args, namespace)
        self._refuse(unknown)
        return parsed

    def parse_args_into_dataclasses(self, args: list[str] | None = None, **options: Any) -> tuple[Any, ...]:
        """As transformers' does."""
        if options.get("return_remaining_strings"):
            return super().parse_args_into_dataclasses(args, **options)
        *groups, unknown = super().parse_args_into_dataclasses(args, return_remaining_strings=True, **options)
        self._refuse(unknown)
        return tuple(groups)

    def parse_json_file(self, json_file: str, allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """As transformers' does."""
        given = read_json(json_file, finite=False)
        known = {action.dest for action in self._actions}
        for key in given.keys() - known if not allow_extra_keys else ():
            raise WrongUsage(f"{json_file} has the argument {key!r}, which there is not{suggestion(key, known)}")
        return self.parse_dict(given, allow_extra_keys)

    def _refuse(self, unknown: list[str]) -> None:
        """Refuse what is left of a command line."""
        flags = [word.partition("=")[0] for word in unknown if word.startswith("--")]
        known = [*self._also_known, *(option.lstrip("-") for option in self._option_string_actions)]
        for flag in flags:
            raise WrongUsage(f"there is no option {flag}{suggestion(flag.lstrip('-'), known, '--{}')}")
        if unknown:
            raise WrongUsage(f"there is nothing to be done with {' '.join(unknown)}: it follows no option")
