"""The table of situations in docs/reliability.md is the one that the tests' markers give."""

import pytest
from situations import GROUPS, TESTS, situations, table

DOCUMENT = TESTS.parent / 'docs' / 'reliability.md'


def test_document_has_the_table_of_the_tests():
    assert table() in DOCUMENT.read_text(encoding='utf-8')


@pytest.mark.parametrize('group', GROUPS)
def test_rows_of_a_group_say_everything_once(group):
    rows = [row for row in situations() if row.group == group]
    assert len({row.what for row in rows}) == len(rows) > 0
    assert all(row.before and row.now and '|' not in row.what + row.before + row.now for row in rows)


def test_every_group_is_known():
    assert {row.group for row in situations()} == set(GROUPS)
