"""Fixtures of the embedded corpus's tests."""

import pytest

from avsr.errors import InputError
from talking3d.corpus.tts import Synthesizer


@pytest.fixture(scope="session")
def synthesizer():
    """A running speech worker; tests that need it skip where espeak-ng isn't installed."""
    try:
        engine = Synthesizer()
    except InputError as error:
        pytest.skip(str(error))
    with engine:
        yield engine
