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
    assert found['good'][1] == '2 of 2' and found['good'][-1] == ''
    assert found['bad'][1:4] == ['0 of 1', '0', '3 of 6'] and found['bad'][-1] == 'not on b'


def test_the_ranking_says_where_seeds_are_missing(curves):
    fewer = [c for c in curves if (c.environment, c.seed) != ('a', 2)]
    assert rows(tables.ranking(fewer))['good'][3] == '5 of 6'
    assert rows(tables.ranking(fewer))['good'][-1] == 'seeds missing on a'
    assert 'a, b' in rows(tables.ranking(curves, 5))['good'][-1]


def test_each_question_has_its_own_order():
    found = rows(tables.questions(made(bad=0.2)))
    assert found['best at the end (mean score)'][0] == 'good (98)'
    assert found['quickest answer [ms]'][0] == 'bad (0.06)'
    assert found['fewest labels to 90'] == ['good (15)', '', '']  # bad never was
    assert found['under the strongest disturbances'][0] == 'good (25)'
    assert found['smoothest commands [rad/s^3]'][0].startswith('good')
    assert found['best worst seed'][1] == 'bad (0)'


def test_who_was_not_tried_everywhere_has_no_place(curves):
    assert all('bad' not in ' '.join(row) for row in tables.questions(curves).rows)


def test_one_environment_in_detail(curves):
    good, bad = (rows(tables.quality(curves, 'a'))[m] for m in ('good', 'bad'))
    assert good[0] == '3' and good[1] == '0.95' and good[4] == '95' and good[5] == '90'
    assert bad[3] == '10' and bad[4] == '0' and bad[5] == '-'
    cost = rows(tables.costs(curves, 'a'))
    assert cost['good'][:3] == ['20', '40', '2'] and cost['bad'][:3] == ['-', '-', '-']
    assert rows(tables.costs(curves, 'b')).keys() == {'good'}


def test_what_a_disturbance_costs(curves):
    table, shade = tables.robustness(curves, 'a', 'shoves')
    assert list(table.head) == ['shoves', '1', '4']
    assert [cell.split()[0] for cell in rows(table)['good']] == ['50', '25']
    assert len({shade[0, k] for k in (1, 2)}) == 2


def test_where_seeds_agree_by_chance_a_share_of_few_episodes_is_still_uncertain():
    found = measures.curves([*ends('a'), *(cell('a', 'bc', seed, 0.5, robustness={
        'shoves': [[1, [1.0] * 20]]}) for seed in range(3))])
    text = rows(tables.robustness(found, 'a', 'shoves')[0])['bc'][0]
    low, high = text.removeprefix('100 [').rstrip(']').split(', ')
    assert float(low) < 90 and float(high) > 110


def test_a_method_that_always_fails_is_not_the_steadiest():
    found = rows(tables.questions(made(bad=0.2)))
    assert not any('bad' in text for text in found[
        'least spread over seeds, of those above 50 on average'])


def test_what_single_points_took_until_they_were_good_is_at_most_that():
    found = measures.curves([*ends('a'), *(
        cell('a', method, seed, score) for method, score in (('good', 0.95), ('bad', 0.5))
        for seed in range(3))])
    cost = rows(tables.costs(found, 'a'))
    assert cost['good'][:3] == ['<= 10', '<= 20', '<= 1'] and cost['bad'][:3] == ['-'] * 3


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
