import pytest
from cells import cell, ends
from test_tables import made, rows

from il_robot.bench import details, measures


@pytest.fixture(scope='module')
def curves():
    return made()


def test_one_environment_in_detail(curves):
    good, bad = (rows(details.quality(curves, 'a'))[m] for m in ('good', 'bad'))
    assert good[0] == '3' and good[1] == '0.95' and good[4] == '95' and good[5] == '90'
    assert bad[3] == '10' and bad[4] == '0' and bad[5] == '-'
    cost = rows(details.costs(curves, 'a'))
    assert cost['good'][:3] == ['20', '40', '2'] and cost['bad'][:3] == ['-', '-', '-']
    assert rows(details.costs(curves, 'b')).keys() == {'good'}


def test_what_a_disturbance_costs(curves):
    table, shade = details.robustness(curves, 'a', 'shoves')
    assert list(table.head) == ['shoves', '1', '4']
    assert [cell.split()[0] for cell in rows(table)['good']] == ['50', '25']
    assert len({shade[0, k] for k in (1, 2)}) == 2


def test_where_seeds_agree_by_chance_a_share_of_few_episodes_is_still_uncertain():
    found = measures.curves([*ends('a'), *(cell('a', 'bc', seed, 0.5, robustness={
        'shoves': [[1, [1.0] * 20]]}) for seed in range(3))])
    text = rows(details.robustness(found, 'a', 'shoves')[0])['bc'][0]
    low, high = text.removeprefix('100 [').rstrip(']').split(', ')
    assert float(low) < 92 and high == '100'  # more than all cannot succeed


def test_what_single_points_took_until_they_were_good_is_at_most_that():
    found = measures.curves([*ends('a'), *(
        cell('a', method, seed, score) for method, score in (('good', 0.95), ('bad', 0.5))
        for seed in range(3))])
    cost = rows(details.costs(found, 'a'))
    assert cost['good'][:3] == ['<= 10', '<= 20', '<= 1'] and cost['bad'][:3] == ['-'] * 3


def test_fewer_labels_than_those_begun_with_were_not_tried():
    found = measures.curves([*ends('a'), *(cell('a', 'tuned', s, 0.95, 0.95) for s in range(3))])
    assert rows(details.costs(found, 'a'))['tuned'][0] == '<= 10'


def test_the_two_ends_of_the_scale_are_last_and_one_seed_has_no_spread():
    cells = [*ends('a', -5.0, 20.0), cell('a', 'zzz', 0, 10.0)]
    found = details.quality(measures.curves(cells, lambda name: True), 'a')
    assert [row[0] for row in found.rows] == ['zzz', 'expert', 'random']
    assert [row[2:4] for row in found.rows[1:]] == [['20', '100'], ['-5', '0']]
    assert found.rows[0][4:6] == ['-', '-']
