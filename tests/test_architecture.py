"""The limits that keep the architecture what it is: read from the source, so that no review has to."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

from hybridvit import components
from hybridvit.families import family_names, load_family
from hybridvit.spec import Spec

PACKAGE = Path(__file__).parent.parent / "hybridvit"

# Imports point one way: a module may import from its own layer and from those before it.
LAYERS = [
    {"limits"},
    {"spec", "zoo_path", "preprocess", "resolved", "training_kernels"},
    {"tokens", "meta", "kernels", "norm_kernels", "attention_kernels"},
    {"components"},
    {"encoder"},
    {"keys", "layouts", "trunks", "inspect"},
    {"families"},
    {"registry"},
    {"weights", "hub", "adapt"},
    {"transfer", "optimization"},
    {"benchmark", "demo", "recommendation"},
    {"columns"},
    {"cli"},
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The top-level part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """The top-level parts of the package that a file imports anywhere outside `if TYPE_CHECKING`."""
    package = ("hybridvit", *path.relative_to(PACKAGE).parent.parts)
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names = [module] if module.count(".") else [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("hybridvit.")}
    return found


@pytest.mark.parametrize("path", [p for p in sources() if p.parent != PACKAGE or p.stem != "__init__"], ids=part_of)
def test_imports_point_one_way(path: Path):
    part = part_of(path)
    assert part in LAYER_OF, f"{part} has no layer: give it one here and in docs/architecture.md"
    later = {name for name in imported_parts(path) if LAYER_OF.get(name, -1) > LAYER_OF[part]}
    assert not later, f"{path.relative_to(PACKAGE)} imports {sorted(later)}, which lie after {part}"


def test_the_encoder_never_asks_what_it_runs():
    tree = ast.parse((PACKAGE / "encoder.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            assert node.id not in {"isinstance", "issubclass", "type", "hasattr", "getattr"}, f"line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"kind", "__class__", "family"}, f"line {node.lineno}"
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            strings = [o for o in operands if isinstance(o, ast.Constant) and isinstance(o.value, str)]
            assert not strings, f"line {node.lineno} compares with a name"
    names = set(family_names())
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not names & words


def test_specs_stay_small():
    for family in family_names():
        load_family(family)
    for spec in list(Spec._kinds.values()):
        if spec.__module__.startswith("hybridvit"):
            fields = dataclasses.fields(spec)  # pyright: ignore[reportArgumentType]
            assert len(fields) <= 8, f"{spec.kind} has {len(fields)} fields"


def test_nothing_swallows_keywords():
    for path in sources():
        if part_of(path) not in {"components", "encoder", "families"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name in {"build", "forward", "__init__"}:
                assert node.args.kwarg is None, f"{path.name}:{node.lineno} {node.name} takes **{node.args.kwarg}"


def test_family_files_stay_short():
    lengths = {path.stem: len(path.read_text().splitlines()) for path in (PACKAGE / "families").glob("*.py")}
    assert all(length <= 150 for length in lengths.values()), lengths


def test_families_call_the_shared_parts_c():
    for path in (PACKAGE / "families").glob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        direct = {node.module for node in imports if node.level == 2 and node.module}
        assert not {module for module in direct if module.startswith(("components", "tokens"))}, path.name


def test_the_package_stays_small():
    """What an architecture is made of: the encoder, the components and the families."""
    files = [PACKAGE / "encoder.py", *(PACKAGE / "components").glob("*.py"), *(PACKAGE / "families").glob("*.py")]
    lines = [line for path in files for line in path.read_text().splitlines()]
    assert len(lines) < 7_500, (
        f"encoder, components and families have {len(lines)} lines, and fewer than 7,500 are allowed: use the "
        "components, `trunks`, `layouts` and `renames` instead of saying things again"
    )


def test_specs_and_index_hold_no_torch():
    for name in ("spec", "zoo_path", "preprocess", "resolved"):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text())
        imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imports |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {i for i in imports if i.split(".")[0] == "torch"}, name


def test_every_shared_part_can_be_imported_from_components():
    shared = {spec.__name__ for spec in Spec._kinds.values() if spec.__module__.startswith("hybridvit.components.")}
    assert not {name for name in shared if not hasattr(components, name)}
