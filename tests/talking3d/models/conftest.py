"""What the tests of several models learn from."""

import pytest

from talking3d.corpus.motion_dataset import MotionDataset, fit_motion_basis


@pytest.fixture
def dataset(spoken_rows) -> MotionDataset:
    """The corpus of the tiny face, in eight components of its motion."""
    return MotionDataset(spoken_rows, fit_motion_basis(spoken_rows, 8), speakers=["ann", "bob"])
