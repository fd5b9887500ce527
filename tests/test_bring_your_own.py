"""The examples of "Bring your own" in docs/models.md, run as they stand if their framework is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from app.commands.models import gather_metadata
from compute.artefact import ArtefactError, load_artefact
from compute.scoring import Model
from tables.artefact_records import pack_metadata
from tests.artefacts import MAX_BYTES

DOCUMENT = (Path(__file__).parent.parent / "docs/models.md").read_text()
SECTION = DOCUMENT.split("\n## Bring your own\n")[1].split("\n## ")[0]
EXAMPLES = {
    part.splitlines()[0]: re.findall(r"^```python\n(.*?)^```", part, re.S | re.M)
    for part in SECTION.split("\n### ")[1:]
    if "```python" in part
}
NEEDS = {
    "scikit-learn": ["sklearn", "skl2onnx"],
    "XGBoost": ["xgboost", "onnxmltools"],
    "PyTorch": ["torch", "onnxscript"],
}
FRAMEWORKS = sorted(NEEDS)

# In a Python of its own: frameworks bring their own OpenMP, and two of them in one process can hang.
DRIVER = """
import runpy, sys
import numpy as np
if sys.argv[2] == "PyTorch":
    import torch
    torch.manual_seed(1)
example = runpy.run_path(sys.argv[1])
rows = np.load(sys.argv[3])
if sys.argv[2] == "PyTorch":
    probabilities = example["net"](torch.from_numpy(rows)).detach().numpy()
else:
    probabilities = example["model"].predict_proba(rows)
np.savez(sys.argv[4], z=example["z"], faulty=example["faulty"], probabilities=probabilities)
"""


def run(framework: str, code: str, tmp_path: Path, rows: np.ndarray) -> tuple[Path, dict[str, np.ndarray]]:
    """Return the folder in which an example was run, and what its own model says of the rows."""
    missing = [name for name in NEEDS[framework] if find_spec(name) is None]
    if missing:
        pytest.skip(f"the example for {framework} needs {' and '.join(missing)}: see docs/models.md")
    folder = tmp_path / "example"
    folder.mkdir()
    (tmp_path / "code.py").write_text(code)
    np.save(tmp_path / "rows.npy", rows)
    files = [str(tmp_path / "code.py"), framework, str(tmp_path / "rows.npy"), str(tmp_path / "answers.npz")]
    command = [sys.executable, "-c", DRIVER, *files]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "answers.npz") as answers:
        return folder, dict(answers)


def load(folder: Path) -> Model:
    """Do as `models publish pump.onnx` does, short of sending."""
    onnx_bytes = (folder / "pump.onnx").read_bytes()
    fields = gather_metadata(folder / "pump.onnx", onnx_bytes, None, {})
    return load_artefact(onnx_bytes, pack_metadata(onnx_bytes, fields), max_bytes=MAX_BYTES)


def rows_of(n_rows: int) -> np.ndarray:
    """Return rows that both sides read alike: PyTorch and XGBoost compute in float32."""
    return np.random.default_rng(2).normal(1.0, 2.0, size=(n_rows, 2)).astype(np.float32)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_framework_has_one_example_of_ten_lines_at_most(framework: str) -> None:
    (code,) = EXAMPLES[framework]
    assert 0 < len([line for line in code.splitlines() if line.strip()]) <= 10


def test_each_example_is_run_by_a_test() -> None:
    assert sorted(EXAMPLES) == FRAMEWORKS


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_example_learns_and_is_served_as_its_framework_predicts(framework: str, tmp_path: Path) -> None:
    rows = rows_of(2_000)
    folder, example = run(framework, EXAMPLES[framework][0], tmp_path, rows)
    assert sorted(path.name for path in folder.iterdir()) == ["pump.json", "pump.onnx"]
    model = load(folder)
    assert (model.name, model.features, model.classes) == ("pump", ("heat", "flow"), ("ok", "faulty"))

    learned, _ = model.predict(example["z"].astype(np.float64))
    assert np.mean((learned.scores > 0.5) == example["faulty"].ravel()) > 0.95

    expected = example["probabilities"]
    if expected.shape[1] == 1:
        expected = np.hstack([1 - expected, expected])
    scores, errors = model.predict(rows.astype(np.float64))
    assert errors == {}
    np.testing.assert_allclose(scores.probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(scores.scores, expected[:, 1], atol=1e-5)
    likeliest = [model.classes[column] for column in expected.argmax(axis=1)]
    assert set(likeliest) == {"ok", "faulty"}
    assert scores.predictions == likeliest


def test_a_feature_that_is_missing_goes_the_way_that_xgboost_learned(tmp_path: Path) -> None:
    rows = rows_of(200)
    rows[::2, 0] = rows[::3, 1] = np.nan
    folder, example = run("XGBoost", EXAMPLES["XGBoost"][0], tmp_path, rows)
    scores, errors = load(folder).predict(rows.astype(np.float64))
    assert errors == {}
    np.testing.assert_allclose(scores.probabilities, example["probabilities"], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({', dynamic_shapes=[{0: "n"}]': ""}, "export it with a dynamic batch axis"),
        ({", external_data=False": "", "16": "512"}, "external data: .* 'pump.onnx.data'"),
        (
            {", torch.nn.Sigmoid())": ")", "binary_cross_entropy(": "binary_cross_entropy_with_logits("},
            "probabilities that sum to 1 needed",
        ),
    ],
    ids=["batch of fixed size", "weights in a second file", "logits"],
)
def test_an_export_from_pytorch_is_refused_as_documented(
    changes: dict[str, str], reason: str, tmp_path: Path
) -> None:
    (code,) = EXAMPLES["PyTorch"]
    for old, new in changes.items():
        assert old in code
        code = code.replace(old, new)
    folder, _ = run("PyTorch", code, tmp_path, rows_of(2))
    with pytest.raises(ArtefactError, match=reason):
        load(folder)
