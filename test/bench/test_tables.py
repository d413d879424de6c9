import pytest
from cells import cell, ends

from il_robot.bench import measures, tables
from il_robot.bench.tables import Table


def made(**more):
    cells = [*ends('a'), *ends('b')]
    for seed in range(3):
        for method, score in more.items():
            cells.append(cell('b', method, seed, score, score))
        cells += [
            cell('a', 'good', seed, 0.5, 0.95, jerk=90.0, robustness={
                'shoves': [[1, [0.5, 0.5]], [4, [0.25, 0.25]]]}),
            cell('a', 'bad', seed, 0.1, 0.1 * seed, latency_ms=[0.01, 0.02]),
            cell('b', 'good', seed, 0.95, 1.0)]
    return measures.curves(cells)


@pytest.fixture(scope='module')
def curves():
    return made()


def rows(table):
    return {row[0]: row[1:] for row in table.rows}


def test_the_ranking_says_where_a_method_was_not_tried(curves):
    found = rows(tables.ranking(curves))
    assert list(found) == ['good', 'bad']
    assert found['good'][2] == '2 of 2' and found['good'][-1] == ''
    assert found['bad'][2:5] == ['0 of 1', '0', '3 of 6'] and found['bad'][-1] == 'not on b'


def test_the_ranking_says_where_seeds_are_missing(curves):
    fewer = [c for c in curves if (c.environment, c.seed) != ('a', 2)]
    assert rows(tables.ranking(fewer))['good'][4] == '5 of 6'
    assert rows(tables.ranking(fewer))['good'][-1] == 'seeds missing on a'
    assert 'a, b' in rows(tables.ranking(curves, 5))['good'][-1]


def test_each_question_has_its_own_order():
    found = rows(tables.questions(made(bad=0.2)))
    assert found['best at the end (mean score)'][0].startswith('good')
    assert found['quickest answer [ms]'][0] == 'bad (0.06)'
    assert found['fewest labels to 90'] == ['good (15)', '', '']  # bad never was
    assert found['under the strongest disturbances'][0] == 'good (25)'
    assert found['smoothest commands [rad/s^3]'][0].startswith('good')
    assert found['best worst seed'][1] == 'bad (0)'


def test_who_was_not_tried_everywhere_has_no_place(curves):
    assert all('bad' not in ' '.join(row) for row in tables.questions(curves).rows)


def test_a_method_that_always_fails_is_not_the_steadiest():
    found = rows(tables.questions(made(bad=0.2)))
    assert not any('bad' in text for text in found[
        'least spread over seeds, of those above 50 on average'])


def test_pairs_say_better_only_where_the_interval_does(curves):
    assert rows(tables.comparisons(curves))['bad against good'][-1] == 'worse'


def test_the_heat_map_leaves_out_what_is_not_there(curves):
    table, shade = tables.heat(curves)
    assert rows(table)['bad'][1] == '-' and (0, 2) not in shade and (0, 1) in shade


@pytest.mark.parametrize(('value', 'text'), [
    (float('inf'), '-'), (0, '0'), (9999, '9999'), (10_000, '10k'), (3.2e7, '32M')])
def test_amounts_are_short(value, text):
    assert tables.amount(value) == text


def test_text_cannot_break_the_page():
    assert '&lt;b&gt;' in Table(['<b>'], [['<i>']]).html()
    assert '<i>' not in Table(['<b>'], [['<i>']]).html()


def test_a_small_p_is_not_called_nothing():
    found = measures.curves([*ends('a'), *(
        cell('a', method, seed, *[score + 0.001 * seed] * 2) for seed in range(3)
        for method, score in (('good', 0.9), ('bad', 0.1)))])
    ((*_, p, verdict),) = tables.comparisons(found).rows
    assert p == '< 0.001' and verdict == 'worse'


def test_failing_on_one_of_five_environments_costs_a_fifth_of_the_ranking():
    """The interquartile mean alone would not see it."""
    def runs(environment):
        fails = environment == 'e'
        scores = {'even': 0.85, 'uneven': 0.0 if fails else 1.0}
        return [*ends(environment), *(cell(environment, method, seed, score) for seed in range(3)
                                      for method, score in scores.items())]
    found = rows(tables.ranking(measures.curves([c for e in 'abcde' for c in runs(e)])))
    assert [*found] == ['even', 'uneven']
    assert found['uneven'][0].startswith('80 ') and found['uneven'][1].startswith('100 ')


def test_labels_without_which_it_was_never_tried_win_no_question():
    cells = [*ends('a'), *(cell('a', 'tuned', seed, 0.95, 0.95) for seed in range(3)),
             *(cell('a', 'learned', seed, 0.5, 0.95) for seed in range(3))]
    found = rows(tables.questions(measures.curves(cells)))
    assert found['fewest labels to 90'] == ['learned (20)', '', '']


def test_pairs_at_equal_labels_say_where():
    def runs(method, environment, labels):
        for seed in range(3):
            one = cell(environment, method, seed, 0.1, 0.5 if method == 'a' else 0.4)
            for point, took in zip(one['points'], labels, strict=True):
                point |= {'labels': took, 'steps': took, 'switches': 0}
            yield one
    cells = [*ends('x'), *ends('y'), *runs('a', 'x', (10, 20)), *runs('b', 'x', (20, 40)),
             *runs('a', 'y', (10, 20)), *runs('b', 'y', (30, 90))]
    (row,) = tables.comparisons(measures.curves(cells), equal_labels=True).rows
    assert row[1] == 'x 20' and row[-1].endswith(' there')
