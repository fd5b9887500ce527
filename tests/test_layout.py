"""The shape of the project: imports point one way, and nothing happens at import."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["compute", "tables", "agents", "app"]
"""Each may import those before it, and itself."""

COMPUTE_MAY_NOT = {"faust", "aiokafka", "time", "os", "socket", "asyncio", "pathlib", "random", "subprocess"}


FIND_IMPORTS = """
import ast, json, sys
from pathlib import Path

def imported(path):
    for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]

json.dump({path: sorted(set(imported(path))) for path in json.load(sys.stdin)}, sys.stdout)
"""


def modules(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


@cache
def imports() -> dict[Path, set[str]]:
    """Return what each module imports, wherever in it.

    A process of its own parses them: where an earlier parse failed, or the recursion limit was changed as
    hypothesis does, `ast.parse` of CPython 3.11 may fail (https://github.com/python/cpython/issues/106905).
    """
    paths = [str(path) for layer in LAYERS for path in modules(layer)]
    done = subprocess.run(
        [sys.executable, "-c", FIND_IMPORTS],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return {Path(path): set(names) for path, names in json.loads(done.stdout).items()}


def imported(path: Path) -> set[str]:
    return imports()[path]


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_one_way(layer: str) -> None:
    later = set(LAYERS[LAYERS.index(layer) + 1 :])
    assert modules(layer)
    wrong = {str(path): found for path in modules(layer) if (found := imported(path) & later)}
    assert not wrong


def test_pure_computation_has_no_clock_and_no_input_or_output() -> None:
    wrong = {path.name: found for path in modules("compute") if (found := imported(path) & COMPUTE_MAY_NOT)}
    assert not wrong


def test_importing_reads_no_setting_and_opens_no_connection() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for layer in LAYERS
        for path in modules(layer)
        if path.name not in ("main.py", "__main__.py")  # the one that makes the instance, and programs
    ]
    code = f"""
import importlib, os, socket, sys
# Read before: libraries read their own variables at import, and that is theirs to do.
class Environment(type(os.environ)):
    def __getitem__(self, name):
        assert not name.startswith("NOWCAST_"), name
        return super().__getitem__(name)
os.environ.__class__ = Environment
def audit(event, arguments):
    assert event not in ("socket.connect", "socket.bind", "subprocess.Popen"), (event, arguments)
for name in ("faust.stores.memory", "faust.web.drivers.aiohttp", "pandas", "sklearn", "onnxruntime", "river"):
    try:
        importlib.import_module(name)
    except ImportError:
        pass
sys.addaudithook(audit)
for name in {names!r}:
    importlib.import_module(name)
import asyncio
try:
    asyncio.get_running_loop()
except RuntimeError:
    pass
print("quiet")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip().endswith("quiet"), done.stderr
