import re
from html.parser import HTMLParser

import pytest
from cells import cell, ends

from il_robot.bench import measures
from il_robot.bench.report import together, write_report

SUITE = {'name': 'mine', 'about': 'Is <this> & that so?', 'seeds': [0, 1, 2]}
VOID = {'meta', 'br', 'hr', 'img', 'link', 'input'}


class Page(HTMLParser):
    """Notes what a page loads, and whether its elements close."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.links += [v for k, v in attributes if k in ('src', 'href', 'xlink:href')]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('report')
    cells = [*ends('a'), *ends('b'), cell('c', 'bc', 0, 0.5, code='abc'), cell(
        'a', 'expert', 0, 1.0, robustness={'shoves': [[0, [1.0]], [1, [0.9]], [2, [0.7]]]})]
    for seed in range(3):
        for method, last in (('bc', 0.5), ('dagger', 0.9)):
            for environment in 'ab':
                under = {'shoves': [[0, [last]], [1, [0.5]], [2, [0.2]]]}
                cells.append(cell(environment, method, seed, 0.1, last,
                                  robustness=under if environment == 'a' else {}))
    assert write_report(cells, SUITE, path, 'il_robot bench --suite mine',
                        {'b, gail, seed 1': 'it broke'}) == path / 'report.html'
    return path


def test_the_page_is_whole_and_loads_nothing(folder):
    page, text = Page(), (folder / 'report.html').read_text()
    page.feed(text)
    assert page.open == []
    assert all(link.startswith('#') for link in page.links)
    assert '<script' not in text and 'http-equiv' not in text
    assert not re.search(r'url\((?!#)', text)


def test_it_says_what_where_and_how(folder):
    page = Page()
    page.feed((folder / 'report.html').read_text())
    text = ' '.join(page.text)
    assert '2 states of its sources: abc, of unknown sources' in text
    for words in ('Is <this> & that so?', 'Ranking', 'no difference is shown', 'a machine',
                  'torch 2', 'il_robot bench --suite mine', 'a under shoves', 'dagger', 'it broke',
                  'no result of expert and random'):
        assert words in text


def test_nobody_is_first_where_nobody_was_everywhere(folder, tmp_path):
    cells = [*ends('a'), *ends('b'), cell('a', 'bc', 0, 0.5), cell('b', 'dagger', 0, 0.5)]
    write_report(cells, SUITE, tmp_path, 'il_robot bench')
    assert 'Who is first' not in (tmp_path / 'report.md').read_text()
    assert 'Who is first' in (folder / 'report.md').read_text()


def test_markdown_and_pictures_are_beside_it(folder):
    text = (folder / 'report.md').read_text()
    named = re.findall(r'!\[.*?\]\((.*?)\)', text)
    assert set(named) == {'labels.png', 'steps.png', 'seconds.png', 'robustness.png'}
    assert all((folder / name).stat().st_size > 5000 for name in named)
    assert '| dagger |' in text


def test_a_curve_whose_costs_do_not_ascend_is_read_in_the_order_of_what_was_taken():
    made = cell('x', 'bc', 0, 0.2, 0.4, 0.9)
    for point, seconds in zip(made['points'], (5.0, 3.0, 9.0)):
        point['seconds'] = seconds
    curve, = measures.curves([*ends('x'), made])
    grid, mean = together([curve], 'seconds')
    assert grid.tolist() == [3, 5, 9] and mean.tolist() == pytest.approx([40, 20, 90])


def test_a_mean_of_curves_of_different_lengths_ends_with_the_last_of_each():
    curves = measures.curves([*ends('x'), cell('x', 'bc', 0, 0.0, 0.2, 0.4, 0.9),
                              cell('x', 'bc', 1, 0.1, 0.5)])
    grid, mean = together(curves, 'labels')
    assert grid.tolist() == [10, 20, 30, 40]
    assert mean.tolist() == pytest.approx([5, 35, 45, 70])
