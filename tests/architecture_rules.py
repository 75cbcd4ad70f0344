"""The rules of the house, read off the source: who may import whom, what is written where, how long it may get.

Each rule takes the modules of a package and says what breaks it, one line per breach.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

LAYERS = {
    **dict.fromkeys(["objectives", "files", "text", "extras", "hardware", "quantization", "recipes"], 0),
    **dict.fromkeys(["tasks", "sentence_encoder", "distributed"], 1),
    **dict.fromkeys(["fingerprints", "features", "data", "pretrained"], 2),
    "resources": 3,
    **dict.fromkeys(["compute", "graphs"], 4),
    **dict.fromkeys(["students", "pruning", "teachers"], 5),
    "precomputed": 6,
    **dict.fromkeys(["evaluation", "publishing"], 7),
    **dict.fromkeys(["preflight", "exporting"], 8),
    "trainers": 9,
    **dict.fromkeys(["scripts", "compression"], 10),
    "cli": 11,
}
MAX_FILE_LINES = 300
MAX_TRAINER_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_ROOT_MODULES = 7
MAX_TRAINER_METHODS = 25
# Attributes of transformers.Trainer that our trainers assign too.
OF_TRAINER = {
    *("args", "model", "model_wrapped", "optimizer", "lr_scheduler", "data_collator", "deepspeed", "push_in_progress"),
    *("is_deepspeed_enabled", "is_fsdp_enabled", "state", "control"),
}  # fmt: skip
_TYPE_CHECKING = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


@dataclass(frozen=True)
class Module:
    """A source file: dotted name, path inside the package, text and syntax tree."""

    name: str
    path: str
    text: str
    tree: ast.Module

    @property
    def part(self) -> str:
        """The room it is in, "" for the package's own `__init__`."""
        return f"{self.name}..".split(".")[1]

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def imports(self) -> list[str]:
        """Dotted names imported at run time, in functions too: "torch.nn" for both `import` and `from torch import`."""
        found = []
        for node in _walk_run_time(self.tree):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                package = self.name.split(".") if self.path.endswith("__init__.py") else self.name.split(".")[:-1]
                above = package[: len(package) + 1 - node.level] if node.level else []
                found += [".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names]
        return found


def _walk_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Like `ast.walk`, without what stands under `if TYPE_CHECKING`."""
    yield node
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.If) and name == "body" and ast.unparse(node.test) in _TYPE_CHECKING:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk_run_time(child)


def modules_of(package: Path) -> list[Module]:
    modules = []
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package)
        name = ".".join([package.name, *inside.with_suffix("").parts]).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        modules.append(Module(name, inside.as_posix(), text, ast.parse(text)))
    return modules


def edges_of(modules: list[Module]) -> dict[str, set[str]]:
    """The package's own modules that each of its modules imports."""
    names = {module.name for module in modules}
    edges = {}
    for module in modules:
        imported = (_module_named(dotted, names) for dotted in module.imports())
        edges[module.name] = {name for name in imported if name is not None}
    return edges


def _module_named(dotted: str, names: set[str]) -> str | None:
    while dotted and dotted not in names:
        dotted = dotted.rpartition(".")[0]
    return dotted or None


def every_part_has_a_layer(modules: list[Module]) -> list[str]:
    parts = {module.part for module in modules} - {""}
    return [f"{part}: not in the table of layers, add it to LAYERS" for part in sorted(parts - LAYERS.keys())]


def imports_point_down(modules: list[Module]) -> list[str]:
    parts = {module.name: module.part for module in modules}
    return [
        f"{importer} imports {imported}, which lies above it"
        for importer, imports in edges_of(modules).items()
        for imported in sorted(imports)
        if LAYERS.get(parts[importer], 99) < LAYERS.get(parts[imported], -1)
    ]


def nothing_imports_the_command_line(modules: list[Module]) -> list[str]:
    parts = {module.name: module.part for module in modules}
    return [
        f"{importer} imports {imported}"
        for importer, imports in edges_of(modules).items()
        for imported in sorted(imports)
        if parts[imported] == "cli" and parts[importer] != "cli"
    ]


def no_cycle_among_modules(modules: list[Module]) -> list[str]:
    return _cycle(edges_of(modules))


def no_cycle_among_parts(modules: list[Module]) -> list[str]:
    parts = {module.name: module.part for module in modules}
    edges = {part: set() for part in parts.values()}
    for importer, imports in edges_of(modules).items():
        edges[parts[importer]] |= {parts[imported] for imported in imports} - {parts[importer]}
    return _cycle(edges)


def _cycle(edges: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return [" is imported by ".join(error.args[1])]
    return []


def the_package_itself_imports_nothing(modules: list[Module]) -> list[str]:
    """Its names load on first use; for modules inside only the version is taken from it, else arrows would hide there."""
    root = modules[0].name.split(".")[0]
    names = {module.name for module in modules}
    return [
        f"{module.name} imports {dotted}"
        for module in modules
        for dotted in module.imports()
        if (module.name == root and dotted.split(".")[0] not in sys.stdlib_module_names)
        or (_module_named(dotted, names) == root and dotted != f"{root}.__version__")
    ]


def objectives_import_torch_only(modules: list[Module]) -> list[str]:
    inside = [module for module in modules if module.part == "objectives"]
    names = {module.name for module in inside}
    return [
        f"{module.name} imports {dotted}"
        for module in inside
        for dotted in module.imports()
        if dotted.split(".")[0] not in {"torch", *sys.stdlib_module_names} and _module_named(dotted, names) is None
    ]


def only_trainers_import_trainer(modules: list[Module]) -> list[str]:
    return [
        f"{module.path} imports {dotted}"
        for module in modules
        for dotted in [*module.imports(), *(ast.unparse(node) for node in module.nodes(ast.Attribute))]
        if module.part != "trainers" and re.fullmatch(r"transformers\..*\bTrainer", dotted)
    ]


def divergences_are_written_in_objectives(modules: list[Module]) -> list[str]:
    names = {"log_softmax", "kl_div"}
    return [
        f"{module.path}:{node.lineno}: a divergence outside objectives"
        for module in modules
        if module.part != "objectives"
        for node in module.nodes(ast.Name, ast.Attribute, ast.alias)
        if names & {getattr(node, field, None) for field in ("id", "attr", "name")}
    ]


def the_ignore_index_has_one_owner(modules: list[Module]) -> list[str]:
    return [
        f"{module.path}:{node.lineno}: -100 as a literal, use objectives.reduction.IGNORE_INDEX"
        for module in modules
        if module.path != "objectives/reduction.py"
        for node in module.nodes(ast.UnaryOp)
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant) and node.operand.value == 100
    ]


def no_item_in_compute_loss(modules: list[Module]) -> list[str]:
    return [
        f"{module.path}:{call.lineno}: .item() waits for the device in every step"
        for module in modules
        for function in _functions(module)
        if function.name == "compute_loss" or module.part == "objectives"
        for call in ast.walk(function)
        if isinstance(call, ast.Attribute) and call.attr == "item"
    ]


def the_training_loop_is_transformers(modules: list[Module]) -> list[str]:
    return [
        f"{module.path}:{function.lineno}: overrides {function.name}"
        for module in modules
        for function in _functions(module)
        if function.name in {"training_step", "_inner_training_loop"}
    ]


def the_root_is_small(modules: list[Module]) -> list[str]:
    root = [module.path for module in modules if "/" not in module.path and module.path != "__init__.py"]
    return [f"{len(root)} modules beside the packages: {root}"] if len(root) > MAX_ROOT_MODULES else []


def trainers_are_a_chain(modules: list[Module]) -> list[str]:
    """Every class named ...Trainer derives from one other, so that what a method means does not depend on an order of bases."""
    return [
        f"{module.path}:{node.lineno}: {node.name} has the bases {[ast.unparse(base) for base in node.bases]}"
        for module, node in _trainers(modules)
        if len(node.bases) != 1
    ]


def trainers_have_few_methods(modules: list[Module]) -> list[str]:
    counts = {
        f"{module.path}:{node.lineno}: {node.name}": sum(isinstance(each, ast.FunctionDef) for each in node.body)
        for module, node in _trainers(modules)
    }
    return [f"{name} has {count} methods" for name, count in counts.items() if count > MAX_TRAINER_METHODS]


def attributes_are_introduced_in_init(modules: list[Module]) -> list[str]:
    """What a trainer's methods assign is known from its own `__init__`, from one above it in the chain, or is Trainer's."""
    classes = {node.name: node for _, node in _trainers(modules)}
    breaches = []
    for module, node in _trainers(modules):
        known, above = set(OF_TRAINER), node
        while above is not None:
            known |= {name for name, _ in _assigned(above, inside_init=True)}
            known |= {each.target.id for each in above.body if isinstance(each, ast.AnnAssign)}
            above = classes.get(ast.unparse(above.bases[0])) if above.bases else None
        breaches += [
            f"{module.path}:{line}: {node.name} introduces self.{name}"
            for name, line in _assigned(node, inside_init=False)
            if name not in known
        ]
    return breaches


def nobody_asks_what_a_teacher_is(modules: list[Module]) -> list[str]:
    """Trainers use the methods of `Teacher`, whose defaults serve every kind."""
    asked = re.compile(r"(isinstance|hasattr|getattr|type)\(((self|trainer|self\._trainer)\._?)?teacher\b.*")
    return [
        f"{module.path}:{call.lineno}: {ast.unparse(call)}"
        for module in modules
        if module.part == "trainers"
        for call in module.nodes(ast.Call)
        if asked.fullmatch(ast.unparse(call))
    ]


def docstring_entries_are_phrases(modules: list[Module]) -> list[str]:
    """An entry says what the thing is: "The student's configuration.", not "Of the student."."""
    fragment = re.compile(r"^ *\w+: ((?:Of|Its|Their|By|Whose|That|For) .*)$", re.MULTILINE)
    return [
        f"{module.path}:{node.lineno}: {node.name}: {entry}"
        for module in modules
        for node in module.nodes(ast.FunctionDef, ast.ClassDef)
        for entry in fragment.findall((ast.get_docstring(node) or "").partition("\nArgs:")[2] + _attributes_of(node))
    ]


def nothing_is_left_to_do(modules: list[Module]) -> list[str]:
    return [
        f"{module.path}:{number}: {line.strip()}"
        for module in modules
        for number, line in enumerate(module.text.splitlines(), start=1)
        if re.search(r"\b(TODO|FIXME)\b", line)
    ]


def files_are_short(modules: list[Module]) -> list[str]:
    lengths = {module.path: len(module.text.splitlines()) for module in modules}
    return [
        f"{path}: {lines} lines"
        for path, lines in lengths.items()
        if lines > (MAX_TRAINER_LINES if path.endswith("_trainer.py") else MAX_FILE_LINES)
    ]


def functions_are_short(modules: list[Module]) -> list[str]:
    return [
        f"{module.path}:{function.lineno}: {function.name} has {function.end_lineno - function.lineno + 1} lines"
        for module in modules
        for function in _functions(module)
        if function.end_lineno - function.lineno >= MAX_FUNCTION_LINES
    ]


def no_mutable_defaults(modules: list[Module]) -> list[str]:
    displays = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    calls = r"(list|dict|set|bytearray|(collections\.)?(defaultdict|deque|Counter|OrderedDict))\(.*"
    return [
        f"{module.path}:{default.lineno}: default {ast.unparse(default)} is shared between calls"
        for module in modules
        for function in module.nodes(ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        for default in [*function.args.defaults, *filter(None, function.args.kw_defaults)]
        if isinstance(default, displays) or re.fullmatch(calls, ast.unparse(default), re.DOTALL)
    ]


def _functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return module.nodes(ast.FunctionDef, ast.AsyncFunctionDef)


def _trainers(modules: list[Module]) -> list[tuple[Module, ast.ClassDef]]:
    return [
        (module, node)
        for module in modules
        if module.part == "trainers"
        for node in module.nodes(ast.ClassDef)
        if node.name.endswith("Trainer")
    ]


def _assigned(node: ast.ClassDef, inside_init: bool) -> list[tuple[str, int]]:
    """Attributes of self that methods assign, with their lines: those of `__init__`, or those of all others."""
    return [
        (target.attr, target.lineno)
        for method in node.body
        if isinstance(method, ast.FunctionDef) and (method.name == "__init__") is inside_init
        for target in ast.walk(method)
        if isinstance(target, ast.Attribute)
        and isinstance(target.ctx, ast.Store)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    ]


def _attributes_of(node: ast.AST) -> str:
    return (ast.get_docstring(node) or "").partition("\nAttributes:")[2]
