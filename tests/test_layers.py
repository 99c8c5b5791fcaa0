"""Who may import whom, walked over the source: the layers of CONTRIBUTING.md."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {"avsr": {"avsr"}, "talking3d": {"talking3d", "avsr"}, "benchmarks": {"benchmarks", "talking3d", "avsr"}}
ONLY_DOOR = {
    "espnet": "avsr/models/espnet.py",
    "espnet2": "avsr/models/espnet.py",
    "dlib": "avsr/media/landmarks.py",
    "face_recognition_models": "avsr/media/landmarks.py",
    "mediapipe": "avsr/media/mediapipe_landmarks.py",
    "espeakng_loader": "talking3d/corpus/tts_worker.py",
    "pytorch3d": "talking3d/render/pytorch3d.py",
    "jinja2": "benchmarks/page.py",
    "markdown": "benchmarks/page.py",
    "gsplat": "talking3d/avatar/gsplat.py",
}
SOURCES = sorted(p for package in MAY_IMPORT for p in (ROOT / package).rglob("*.py"))


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """(dotted module, whether the import runs when the module is imported) for each import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for scope in ast.walk(tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(scope)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full module"
            found.append((node.module, id(node) not in inside))
    return found


def test_there_is_something_to_walk():
    assert {p.relative_to(ROOT).parts[0] for p in SOURCES} == set(MAY_IMPORT)
    assert ("torch", True) in imports_of(ROOT / "avsr/media/audio.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_layers(path):
    here = str(path.relative_to(ROOT))
    package = here.split("/")[0]
    for module, _ in imports_of(path):
        top = module.split(".")[0]
        if top in MAY_IMPORT:
            assert top in MAY_IMPORT[package], f"{here} imports {module}: {package} stands below {top}"
        if top in ONLY_DOOR:
            assert here == ONLY_DOOR[top], f"{here} imports {module}; only {ONLY_DOOR[top]} may"


def test_no_import_cycles():
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in SOURCES if p.name != "__init__.py"}
    graph = {name: {m for m, at_import in imports_of(path) if m in names and at_import} for name, path in names.items()}
    done, trail = set(), []

    def visit(name):
        assert name not in trail, f"import cycle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name not in done:
            trail.append(name)
            for other in sorted(graph[name]):
                visit(other)
            trail.pop()
            done.add(name)

    for name in sorted(graph):
        visit(name)


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name == "__init__.py"], ids=lambda p: p.parent.name)
def test_package_files_hold_no_code(path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no docstring"
    for node in body[1:]:
        assert isinstance(node, ast.Assign) and node.targets[0].id == "__version__", f"{path} holds code"
