from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.online import OnlineLearner
from compute.online_codec import HEADER
from tests.compute.test_online import NAMES, TASKS, stream
from tests.fuzz.amount import amount
from tests.fuzz.mutations import mutated

EXTREMES = [0.0, -1.0, 1e-320, 3.0, 1e30, 1e308, -1e308, float("nan"), float("inf")]


def learnt(task, n):
    z, labels = stream(task)
    learner = OnlineLearner(task)
    learner.learn(NAMES, z[:n], labels[:n])
    return learner


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(TASKS), st.integers(0, 400), st.integers(0, 5))
def test_what_is_read_back_answers_and_learns_on_to_the_bit(task, n, seed):
    z, labels = stream(task, seed=seed, wild=0.03)
    learner = OnlineLearner(task)
    learner.learn(NAMES, z[:n], labels[:n])
    stored = learner.encode()
    back = OnlineLearner.decode(stored)
    assert back.encode() == stored
    assert (back.version, back.task, back.n_learnt) == (learner.version, task, learner.n_learnt)
    mine, its = (each.score_and_learn(NAMES, z[n:], labels[n:]) for each in (learner, back))
    np.testing.assert_array_equal(mine.scores, its.scores)
    assert mine.predictions == its.predictions
    assert back.encode() == learner.encode()


@pytest.mark.parametrize("task", TASKS)
def test_another_process_goes_on_where_this_one_stopped(task, tmp_path):
    z, labels = stream(task, unlabelled=0.0)
    learner = learnt(task, 300)
    (tmp_path / "learner").write_bytes(learner.encode())
    np.save(tmp_path / "z.npy", z[300:])
    code = f"""
from pathlib import Path
import numpy as np
from compute.online import OnlineLearner
folder = Path({str(tmp_path)!r})
learner = OnlineLearner.decode((folder / "learner").read_bytes())
learner.learn({NAMES!r}, np.load(folder / "z.npy"), {labels[300:]!r})
(folder / "later").write_bytes(learner.encode())
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=120)
    learner.learn(NAMES, z[300:], labels[300:])
    assert (tmp_path / "later").read_bytes() == learner.encode()


def test_the_size_is_bounded():
    random = np.random.default_rng(1)
    names = [f"{i:03}".rjust(1024, "x") for i in range(256)]
    learner = OnlineLearner("classification")
    z = random.normal(size=(2_500, 256))
    learner.learn(names, z, [f"{i % 64:02}".rjust(1000, "x") for i in range(len(z))])
    assert largest(learner, names, z) < 1_800_000


def largest(learner, names, z):
    """Return the size right before a block's end."""
    n_missing = learner._block_size - learner._waiting.n - 1
    learner.learn(names, z[:n_missing], [learner._kind.names[0]] * n_missing)
    return len(learner.encode())


def test_ten_features_and_two_classes_take_75_kilobytes():
    random = np.random.default_rng(1)
    learner = OnlineLearner("classification")
    z = random.normal(size=(5_000, 10))
    names = [f"feature-{i}" for i in range(10)]
    learner.learn(names, z, [str(i % 2) for i in range(len(z))])
    assert 70_000 < largest(learner, names, z) < 75_000


@pytest.mark.parametrize("task", TASKS)
def test_an_empty_learner_is_small(task):
    assert len(OnlineLearner(task).encode()) < 2_000
    assert OnlineLearner.decode(OnlineLearner(task).encode()).encode() == OnlineLearner(task).encode()


def replaced(stored, at, new):
    return stored[:at] + new + stored[at + len(new) :]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: b[:51], "must have 52 bytes or more, received 51"),
        (lambda b: b"NS" + b[2:], "must begin with"),
        (lambda b: b[:3] + b"\x02" + b[4:], "must begin with"),
        (lambda b: b[:4] + b"\x00" * 8 + b[12:], "must be of version .*, received 0000000000000000"),
        (lambda b: b[:-1], r"must have \d+ bytes, received"),
        (lambda b: b + b"\x00", r"must have \d+ bytes, received"),
        (lambda b: replaced(b, 12, b"\xff\xff"), "features: must be at most 256"),
        (lambda b: replaced(b, 16, b"\xff\xff"), "classes: must be at most 64"),
        (lambda b: replaced(b, 20, b"\xff\xff"), "waiting: must be fewer than a block"),
        (lambda b: replaced(b, len(b) - 8, struct.pack("<d", float("nan"))), "waiting_targets: must be"),
        (lambda b: replaced(b, len(b) - 8, struct.pack("<d", 1e300)), "waiting_targets: must be"),
    ],
)
def test_what_was_not_stored_is_refused(task, spoil, message):
    learner = learnt(task, 333)
    assert learner._waiting.n
    with pytest.raises(ValueError, match=message):
        OnlineLearner.decode(spoil(learner.encode()))


def test_a_waiting_label_must_be_a_class():
    stored = learnt("classification", 333).encode()
    with pytest.raises(ValueError, match="waiting_targets: must be numbers of 3 classes"):
        OnlineLearner.decode(replaced(stored, len(stored) - 8, struct.pack("<d", 3.0)))


@pytest.mark.parametrize("reach", [0.5, 1e61, float("nan")])
def test_a_reach_that_no_labels_lead_to_is_refused(reach):
    learner = learnt("regression", 333)
    n_waiting_bytes = learner._waiting.n * (4 * len(NAMES) + 8)
    stored = learner.encode()
    at = len(stored) - n_waiting_bytes - 8 * (len(learner._kind.pack()) - 1)
    assert struct.unpack_from("<d", stored, at) == (1.0,)
    with pytest.raises(ValueError, match=r"reach: must be between 1|offsets: must be finite"):
        OnlineLearner.decode(replaced(stored, at, struct.pack("<d", reach)))


def test_sums_of_nothing_are_refused():
    stored = learnt("classification", 333).encode()
    names_bytes, classes_bytes = struct.unpack_from("<2I", stored, 24)
    at = HEADER.size + names_bytes + classes_bytes + 2 * len(NAMES)
    with pytest.raises(ValueError, match="gram, moment: must be sums"):
        OnlineLearner.decode(replaced(stored, at, b"\x00" * 20_000))


STORED = [learnt(task, n).encode() for task in TASKS for n in (0, 7, 333)]


@st.composite
def wrong(draw):
    stored = draw(st.sampled_from(STORED))
    if draw(st.booleans()):
        return draw(mutated(stored))
    found = bytearray(stored)
    for _ in range(draw(st.integers(1, 3))):
        size, kind = draw(st.sampled_from([(4, "<f"), (8, "<d")]))
        at = draw(st.integers(HEADER.size, len(found) - size))
        value = draw(st.sampled_from(EXTREMES))
        found[at : at + size] = np.array(value, np.float64).astype(kind).tobytes()
    return bytes(found)


@amount(300)
@given(wrong())
@pytest.mark.filterwarnings("ignore:overflow")
def test_any_bytes_are_refused_or_make_a_learner_that_goes_on(stored):
    learner = None
    tracemalloc.start()
    try:
        learner = OnlineLearner.decode(stored)
    except ValueError as error:
        message = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000 + 20 * len(stored)
    if learner is None:
        assert message
        assert "\n" not in message
        return
    z, labels = stream(learner.task, n=300)
    for part in (slice(0, 100), slice(100, 300)):
        answers = learner.score_and_learn(NAMES, z[part], labels[part])
        assert np.isfinite(answers.scores).all()
        assert len(answers.predictions) == len(answers.scores)
    OnlineLearner.decode(learner.encode())
