"""The fixture ``graph``: nodes in processes of their own, in a ROS domain of their own."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def graph(tmp_path):
    """See :mod:`ros_graph`."""
    from ros_graph import open_graph

    with open_graph(tmp_path) as opened:
        yield opened
