"""The session with the real graph: every seed once, whatever dies meanwhile."""

import json

from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import String

from il_robot.data.dataset import open_dataset
from il_robot.nodes import convert, topics


def results(folder):
    path = folder / 'session.json'
    return json.loads(path.read_text()) if path.exists() else {'results': []}


def values(messages):
    return convert.status_values(messages[-1]) if messages else {}


def test_a_simulator_that_dies_costs_no_seed(graph, tmp_path):
    folder = tmp_path / 'session'
    world = {'lockstep': True, 'seed': 10_000}
    sim = graph.start('sim', **world)
    graph.start('arbiter', lockstep=True, resume=True, use_sim_time=True)
    graph.start('expert', use_sim_time=True)
    graph.start('recorder', output=str(folder), use_sim_time=True)
    recorder = graph.collect(DiagnosticArray, topics.RECORDING, topics.LATCHED_QOS)
    seeds = list(range(10_000, 10_006))
    session = graph.start('session', episodes=len(seeds), driver='human', record=True,
                          seed=seeds[0], output=str(folder), use_sim_time=True)
    graph.processes.remove(session)  # it may end
    graph.until(lambda: results(folder)['results'], 'the first episode')
    sim.kill()
    assert len(results(folder)['results']) < len(seeds), 'killed too late'
    graph.start('sim', **world)
    graph.until(lambda: len(results(folder)['results']) == len(seeds), 'all episodes')
    said = results(folder)
    assert [r['seed'] for r in said['results']] == seeds
    assert said['successes'] == len(seeds) and said['task'] == ''
    graph.until(lambda: values(recorder)['state'] == 'idle', 'the recorder is done')
    assert session.popen.wait(60) == 0
    dataset = open_dataset(folder / 'dataset')
    kept = {e.seed: e.outcome.value for e in dataset.episodes}
    assert kept.keys() <= {*seeds} and {*kept.values()} <= {'success', 'unknown'}


def test_somebody_else_stops_the_arms(graph, tmp_path):
    """A program never clears a stop; when a person has, the episode is done again."""
    graph.start('sim', lockstep=True)
    graph.start('arbiter', lockstep=True, use_sim_time=True)
    graph.start('expert', use_sim_time=True)
    modes = graph.collect(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
    graph.start('session', episodes=0, driver='human', output=str(tmp_path), use_sim_time=True)
    requests = graph.publisher(String, topics.REQUEST, topics.REQUEST_QOS)
    graph.until(lambda: results(tmp_path)['results'], 'the first episode')
    requests.publish(String(data='stop'))
    graph.until(lambda: values(modes).get('mode') == 'STOPPED', 'the stop')
    done = len(results(tmp_path)['results'])
    before = len(modes)
    graph.until(lambda: len(modes) > before + 3, 'a while')
    assert values(modes)['mode'] == 'STOPPED' and len(results(tmp_path)['results']) == done
    requests.publish(String(data='reset'))
    graph.until(lambda: len(results(tmp_path)['results']) > done, 'the next episode')
    seeds = [r['seed'] for r in results(tmp_path)['results']]
    assert seeds == list(range(len(seeds)))
