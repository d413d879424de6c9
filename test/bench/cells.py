"""Results of cells made up for the tests of tables and report; importable."""

from il_robot.bench import measures


def cell(environment, method, seed, *scores, **more):
    points = [{'labels': 10 * k, 'steps': 20 * k, 'seconds': 1.0 * k, 'switches': k,
               'scores': [s, s]} for k, s in enumerate(scores, 1)]
    return {'environment': environment, 'method': method, 'seed': seed, 'points': points,
            'robustness': {}, 'jerk': 0.0, 'latency_ms': [0.1, 0.2], 'parameters': 9,
            'machine': 'a machine', 'packages': {'torch': '2'}, 'version': '1', **more}


def ends(environment, low=0.0, high=1.0):
    return [cell(environment, 'random', 0, low), cell(environment, 'expert', 0, high)]


def made(method, by_environment):
    """Curves of one point each."""
    cells = [cell(e, method, s, v) for e, values in by_environment.items()
             for s, v in enumerate(values)]
    return measures.curves([c for e in by_environment for c in ends(e)] + cells)
