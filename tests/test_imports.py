"""The shape of the package, read from its imports: down only, and each big library in its one place."""

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rcan_video"

# From the values that everybody knows up to the commands. A module imports from its own layer and those before it.
LAYERS = (
    ("version", "errors", "bounded_queue", "options", "frames", "video", "size", "cache", "durable"),
    ("color", "network", "metrics", "resize"),
    ("media", "engine", "pictures", "report", "progress", "repeats"),
    ("pipeline", "briefing", "train"),
    ("prepare", "evaluate", "compare", "preview"),
    ("segments", "one_go", "image_job"),
    ("distributed",),
    ("job",),
    ("batch", "dry_run"),
    ("commands",),
)
# Neighbours in a layer that must not know each other.
STRANGERS = (
    ("media", "engine"),
    ("progress", "report"),
    ("pipeline", "briefing"),
    ("pipeline", "train"),
    ("briefing", "train"),
    ("job", "evaluate"),
    ("prepare", "compare"),
    ("evaluate", "compare"),
    ("preview", "prepare"),
    ("preview", "evaluate"),
    ("preview", "compare"),
)

HOMES = {
    "av": ("media",),
    "click": ("commands",),
    "cv2": ("pictures", "report", "train"),
    "openvino": (
        "engine.openvino_compile",
        "engine.openvino_engine",
        "engine.openvino_graph",
        "engine.openvino_silent",
    ),
    "ray": ("distributed.ray_crew",),
    "rich": ("progress", "commands"),
    "safetensors": ("network.checkpoint", "network.files"),
}


def modules() -> dict[str, Path]:
    """Names without the package's own, such as ``media.decode``; a package is called by its folder."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name not in ("", "__main__"):
            found[name] = path
    return found


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """Every imported module by its full name, wherever in the file: lazily and for type checkers, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.removeprefix("rcan_video.") in MODULES else node.module


def ours(module: str) -> set[str]:
    return {name.removeprefix("rcan_video.") for name in imported(MODULES[module])} & MODULES.keys()


def inside(module: str, *places: str) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def layer(module: str) -> int:
    (found,) = [k for k, places in enumerate(LAYERS) if inside(module, *places)]
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down_only(module: str) -> None:
    above = {other for other in ours(module) if layer(other) > layer(module)}
    assert not above


@pytest.mark.parametrize("pair", STRANGERS)
def test_neighbours_do_not_know_each_other(pair: tuple[str, str]) -> None:
    for this, that in (pair, pair[::-1]):
        for module in (m for m in MODULES if inside(m, this)):
            assert not {other for other in ours(module) if inside(other, that)}, module


@pytest.mark.parametrize("module", sorted(MODULES))
def test_each_library_has_its_place(module: str) -> None:
    used = {name.partition(".")[0] for name in imported(MODULES[module])}
    lost = {library for library, places in HOMES.items() if library in used and not inside(module, *places)}
    assert not lost


def test_no_cycles() -> None:
    """Imports for type checkers count: a value that two modules need lives below both."""
    graphlib.TopologicalSorter({module: ours(module) for module in MODULES}).prepare()


def test_only_declared_libraries_are_used() -> None:
    declared = {"torch", "numpy", *HOMES}
    used = {name.partition(".")[0] for path in MODULES.values() for name in imported(path)}
    assert used - set(sys.stdlib_module_names) == {*declared, "rcan_video"}
