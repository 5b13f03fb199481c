"""The floors of cnnspec as data, and the checker that holds its imports to them.

A module imports lower floors, and on its own floor only what stands left of it. To move or add a module,
edit the tables; nothing else here names one. Standard library only: `core_smoke.py` reads the table in a
bare environment.
"""

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "cnnspec"
NO_FLOOR = ("", "_version")  # cnnspec/__init__.py, which no module imports, and the version, which all may

# A name that ends in a slash is a package with everything in it; inside, imports are free.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "nested",
        "window",
        "scalars",
        "derivatives",
        "symbols",
        "rounding",
        "op",
        "spec",
        "laws",
    ),
    (
        "ops.large",
        "ops.corr",
        "ops.conv_laws",
        "ops.conv",
        "ops.pooling",
        "ops.pool_laws",
        "ops.pool",
        "ops.adaptive_pool",
        "ops.global_pool",
        "ops.fractional_pool",
        "ops.lp_pool",
        "ops.unpool",
        "ops.pad",
        "ops.conv_transpose",
        "ops.unfold",
        "ops.fold",
        "ops.rearrange",
        "ops.resampling",
        "ops.upsample_laws",
        "ops.upsample",
        "ops.norm_bounds",
        "ops.norm",
        "ops.running_stats",
        "ops.batch_norm",
        "ops.instance_norm",
        "ops.group_norm",
        "ops.layer_norm",
        "ops.lrn",
        "ops.dropout",
        "ops.linear",
        "ops.flatten",
        "ops.pointwise",
        "ops.relu6",
        "ops.leaky_relu",
        "ops.prelu",
        "ops.hardswish",
        "ops.elu",
        "ops.gelu",
        "ops.silu",
        "ops.softplus",
        "ops.softmax",
        "ops.losses",
        "ops.nll_loss",
        "ops.cross_entropy",
        "ops.combine",
        "ops",
        "probability",
        "initialisers",
    ),
    (
        "cases",
        "borderline",
        "expressions",
        "where",
        "expectations",
        "features",
        "corners/",
        "coverage",
        "spelling",
        "blocks",
        "filling",
        "graph",
        "pairs",
        "nets/",
        "fields",
        "costs",
        "tables",
        "casebook/",
    ),
    ("bounds", "models", "presets", "winograd", "data", "exact/", "elements", "screen", "compare"),
    ("backends/", "strategies", "frames"),
    (
        "distributions",
        "memory",
        "calls",
        "fingerprints",
        "outputs",
        "vacuity",
        "judge",
        "plan",
        "alone",
        "hypotheses",
        "impulses",
        "dependence",
        "phrases",
        "evidence",
        "circumstances",
        "localise",
        "reproduce",
        "shrink",
        "rows",
        "conformance",
        "folder",
        "worker",
        "record",
        "chain",
        "nodes",
        "layerwise",
        "networks",
        "mutants/",
        "bench/",
    ),
    (
        "report/",
        "identify",
        "resume",
        "run",
        "passes",
        "entries",
        "pytest_plugin",
        "commands/",
        "cli",
        "__main__",
    ),
)
DEPENDENCY_FREE = 3  # so many floors import the standard library only

THIRD_PARTY: Mapping[str, Collection[str]] = {
    "bounds": ("flint", "numpy"),
    "data": ("flint", "numpy"),
    "exact/": ("flint", "numpy"),
    "compare": ("flint", "numpy"),
    "elements": ("flint", "numpy"),
    "screen": ("flint", "numpy"),
    "winograd": ("numpy",),
    "backends.torch": ("numpy", "torch"),
    "backends.torch_paths": ("torch",),
    "backends.torch_graph": ("torch",),
    "backends.torch_modules": ("torch",),
    "backends.torch_trace": ("torch",),
    "strategies": ("hypothesis",),
    "distributions": ("numpy", "scipy"),
    "fingerprints": ("numpy",),
    "mutants/": ("torch",),
    "judge": ("numpy",),
    "chain": ("numpy",),
    "nodes": ("numpy", "torch"),
    "layerwise": ("torch",),
    "networks": ("numpy", "torch"),
    "backends.torch_records": ("torch",),
    "backends.torch_runs": ("torch",),
    "backends.torch_compiled": ("torch",),
    "backends.torch_values": ("torch",),
    "backends.torch_weights": ("torch",),
    "hypotheses": ("numpy",),
    "impulses": ("numpy",),
    "dependence": ("numpy",),
    "phrases": ("numpy",),
    "evidence": ("numpy",),
    "circumstances": ("numpy",),
    "localise": ("numpy",),
    "outputs": ("numpy",),
    "vacuity": ("numpy",),
    "reproduce": ("numpy",),
    "shrink": ("hypothesis",),
    "entries": ("numpy", "pytest"),
    "bench/": ("numpy", "pandas", "pytest_benchmark", "scipy", "torch"),
    "frames": ("pandas",),
    "report/": ("jinja2", "matplotlib", "numpy", "pandas", "scipy"),
    "pytest_plugin": ("pytest",),
    "commands/": ("pandas", "rich"),
}

# (module, what it imports when called or for its annotations only): why that may break the rule.
DEFERRED: Mapping[tuple[str, str], str] = {
    ("tables", "frames"): "to_frame",
    ("bench.exports", "report.performance"): "a run writes its page, which reads the run",
}


@dataclass(frozen=True)
class Rules:
    """What may import what."""

    floors: tuple[tuple[str, ...], ...] = FLOORS
    third_party: Mapping[str, Collection[str]] = field(default_factory=lambda: THIRD_PARTY)
    deferred: Mapping[tuple[str, str], str] = field(default_factory=lambda: DEFERRED)

    def place(self, module: str) -> tuple[int, int] | None:
        """Return the floor of a module and its position there; None if it is in no table."""
        places = (
            (floor, position)
            for floor, entries in enumerate(self.floors)
            for position, entry in enumerate(entries)
            if covers(entry, module)
        )
        return next(places, None)

    def may_use(self, module: str, library: str) -> bool:
        """Tell whether a module may import a third-party library."""
        return any(
            library in libraries for entry, libraries in self.third_party.items() if covers(entry, module)
        )


@dataclass(frozen=True)
class Import:
    """One import statement's claim: `target` is a module of ours without the package's name, or a library."""

    module: str
    target: str
    ours: bool
    deferred: bool
    line: int


def covers(entry: str, module: str) -> bool:
    """Tell whether a table's entry names a module."""
    return module == entry.removesuffix("/") or (
        entry.endswith("/") and module.startswith(entry.replace("/", "."))
    )


def modules_of(package: Path) -> dict[str, Path]:
    """Return the files of a package by module name, `""` for its own `__init__`."""
    paths = sorted(package.rglob("*.py"))
    dotted = (path.relative_to(package).with_suffix("").parts for path in paths)
    return {
        ".".join(part for part in parts if part != "__init__"): path
        for parts, path in zip(dotted, paths, strict=True)
    }


def statements(
    tree: ast.AST, *, deferred: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield the import statements below a node, and whether importing the file leaves them unexecuted."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, deferred
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from statements(ast.Module(body=node.body, type_ignores=[]), deferred=True)
            yield from statements(ast.Module(body=node.orelse, type_ignores=[]), deferred=deferred)
        else:
            called = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from statements(node, deferred=deferred or called)


def targets(node: ast.Import | ast.ImportFrom, package: str, known: Collection[str]) -> Iterator[str]:
    """Yield the full names that a statement in a package imports, modules rather than what is in them."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
    base = ".".join([*parents, *([node.module] if node.module else [])])
    for alias in node.names:
        inner = f"{base}.{alias.name}"
        yield inner if inner.removeprefix(f"{PACKAGE}.") in known else base


def imports_of(package: Path) -> Iterator[Import]:
    """Yield every import of every module of a package."""
    modules = modules_of(package)
    for module, path in modules.items():
        full = f"{PACKAGE}.{module}".rstrip(".")
        home = full if path.name == "__init__.py" else full.rpartition(".")[0]
        for node, deferred in statements(ast.parse(path.read_text(encoding="utf-8"))):
            for target in targets(node, home, modules):
                root, _, rest = target.partition(".")
                ours = root == PACKAGE
                yield Import(module, rest if ours else root, ours, deferred, node.lineno)


def objection(item: Import, rules: Rules) -> str | None:
    """Return what is wrong with an import, None if nothing is."""
    if item.deferred and (item.module, item.target) in rules.deferred:
        return None
    if not item.ours:
        standard = item.target in sys.stdlib_module_names
        return (
            None
            if standard or rules.may_use(item.module, item.target)
            else f"imports the library {item.target}"
        )
    here, there = rules.place(item.module), rules.place(item.target)
    if item.target == "_version" or here is None or (there is not None and there <= here):
        return None
    if there is None:
        return f"imports {item.target}, which no floor lists" if item.target else f"imports {PACKAGE} itself"
    direction = "upward" if there[0] > here[0] else "sideways"
    return f"imports {direction}: {item.target} on floor {there[0]} from floor {here[0]}"


def violations(package: Path, rules: Rules) -> list[str]:
    """Return one line for each module that no floor lists and each import that the rules forbid."""
    listed = ((module, rules.place(module)) for module in modules_of(package) if module not in NO_FLOOR)
    lines = [f"{module} stands on no floor" for module, place in listed if place is None]
    judged = ((item, objection(item, rules)) for item in imports_of(package))
    return lines + [f"{item.module or '__init__'}:{item.line} {wrong}" for item, wrong in judged if wrong]
