from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)


@pytest.fixture(scope='module', autouse=True)
def wheel_importable():
    """The environments of wheel.py by name, here and in the processes of cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        patch.setenv('PYTHONPATH', HERE)
        yield
