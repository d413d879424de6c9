"""Random takeovers in the simulator, as benchmarks/handover.py measures them, but fewer."""

import importlib.util
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / 'benchmarks' / 'handover.py'


def load():
    spec = importlib.util.spec_from_file_location('handover_benchmark', SCRIPT)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_takeovers_keep_the_limits_and_plain_switching_would_not():
    script = load()
    found = {plain: script.summary(script.takeovers(4, {}, plain=plain)[0])
             for plain in (False, True)}
    kept = found[False]
    assert kept['takeovers'] >= 4
    assert kept['largest_acceleration'] <= 1.002 and kept['largest_velocity'] <= 1.002
    assert kept['largest_beyond_position'] <= 0
    assert found[True]['largest_acceleration_at_change'] > 2
