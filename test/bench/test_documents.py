import pytest
from cells import cell, ends

from il_robot.bench.documents import fill
from il_robot.bench.measures import curves
from il_robot.errors import ConfigError

CURVES = curves([*ends('a'), cell('a', 'bc', 0, 0.5), cell('a', 'dagger', 0, 0.9)])
TEXT = """# Title
<!-- bench: mine -->
old
<!-- end of bench -->
between
<!-- bench: mine dagger -->
<!-- end of bench -->
<!-- bench: other -->
stays
<!-- end of bench -->
"""


@pytest.fixture
def document(tmp_path):
    path = tmp_path / 'README.md'
    path.write_text(TEXT)
    return path


def test_only_what_is_of_the_suite_is_replaced(document):
    assert fill(document, 'mine', CURVES) == 2
    text = document.read_text()
    assert 'old' not in text and 'between' in text and 'stays' in text
    whole, one = text.split('between')
    assert 'bc' in whole and 'IQM' in whole
    assert 'dagger' in one and 'bc' not in one.replace('bench', '')
    assert fill(document, 'mine', CURVES) == 2 and document.read_text() == text


def test_costs_are_of_the_methods_asked_for(document):
    document.write_text(TEXT.replace('mine dagger', 'mine dagger costs'))
    assert fill(document, 'mine', CURVES) == 2
    one = document.read_text().split('between')[1]
    rows = [[text.strip() for text in line.split('|')[1:-1]] for line in one.splitlines()
            if line.startswith('|')]
    (own,) = (c for c in CURVES if c.method == 'dagger')
    assert rows[3] == ['labels / steps / seconds', 'a']
    assert rows[5] == ['dagger', ' / '.join(f'{taken[own.best]:.0f}' for taken in (
        own.labels, own.steps, own.seconds))]
    assert 'bc' not in one.replace('bench', '')


def test_a_document_without_such_a_place_stays_as_it_is(document):
    assert fill(document, 'third', CURVES) == 0 and document.read_text() == TEXT


def test_mistakes_are_said(document, tmp_path):
    document.write_text(TEXT.replace('dagger', 'daggre'))
    with pytest.raises(ConfigError, match="did you mean 'dagger'"):
        fill(document, 'mine', CURVES)
    document.write_text(TEXT.replace('<!-- end of bench -->', '', 1))
    with pytest.raises(ConfigError, match='has no <!-- end of bench -->'):
        fill(document, 'mine', CURVES)
    with pytest.raises(ConfigError, match='cannot read'):
        fill(tmp_path / 'nowhere.md', 'mine', CURVES)
