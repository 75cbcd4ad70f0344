"""Commands that name all of their required options that are missing, in one message."""

from __future__ import annotations

from typing import Any

import typer

from hf_distill.cli.json_output import WithJson
from hf_distill.text.suggestions import suggestion

_FROM_ELSEWHERE = "teacher_outputs"
_OF_A_TEACHER = ("teacher", "dataset")  # what a training without recorded outputs needs


class NamesAllMissing(WithJson):
    """A command, with `--json`, whose message about a missing option or argument names every one that is missing."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments."""
        try:
            return super().parse_args(ctx, list(args))
        except typer.BadParameter:
            self.require(ctx, args)
            raise

    def require(self, ctx: Any, args: list[str]) -> None:
        """Fail where required options or arguments are missing."""
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        missing = [each for each in self.get_params(ctx) if self.needs(each, given) and given.get(each.name) is None]
        if missing:
            missing.sort(key=lambda each: str(each.param_type_name))  # arguments first
            names = ", ".join(f"{each.param_type_name} '{each.opts[0]}'" for each in missing)
            ctx.fail(f"Missing {names}.{self.hint(args, missing)}")

    def needs(self, parameter: Any, given: dict[str, Any]) -> bool:
        """Whether a parameter is required, beside those given."""
        return bool(parameter.required)

    def hint(self, args: list[str], missing: list[Any]) -> str:
        """What else to say, after a space."""
        return ""


class WithTrainingArguments(NamesAllMissing):
    """A command that also takes training arguments, for which its own misspelt options would be mistaken."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command's own options; where a required one is missing, suggest it for a misspelt option."""
        rest = super().parse_args(ctx, args)
        first, outputs = ctx.params["teacher"], ctx.params.get(_FROM_ELSEWHERE)
        if outputs is not None and str(first).startswith("--"):
            # an argument of the training: there is no teacher to name
            ctx.params["teacher"], ctx.args = None, [first, *rest]
        elif str(first).startswith("--"):
            ctx.fail(f"The teacher comes before training arguments such as {first}.")
        self.require(ctx, args)
        return list(ctx.args)

    def needs(self, parameter: Any, given: dict[str, Any]) -> bool:
        """Whether a parameter is required, of which a teacher's recorded outputs take the place of two."""
        replaced = parameter.name in _OF_A_TEACHER and given.get(_FROM_ELSEWHERE) is None
        return replaced or super().needs(parameter, given)

    def hint(self, args: list[str], missing: list[Any]) -> str:
        """The missing options that misspelt ones may have meant, and what takes the place of a teacher."""
        options = [name for each in missing if each.param_type_name == "option" for name in each.opts]
        meant = [f" There is no option {word}{suggestion(word, options)}" for word in args if word.startswith("--")]
        no_teacher = any(each.name == "teacher" and not each.required for each in missing)
        replacement = " --teacher-outputs takes the place of a teacher and its dataset." if no_teacher else ""
        return "".join(text for text in meant if text.endswith("?")) + replacement
