"""Classes are compared by their names and order."""
import pytest

from repvgg_seg.core.errors import UserError
from repvgg_seg.engine.classes import check_same_classes, difference_of_classes, trained_classes


@pytest.mark.parametrize('meta, classes', [
    (dict(dataset_meta=dict(classes=('road', 'car'), palette=[[0, 0, 0], [1, 1, 1]])), ('road', 'car')),
    (dict(dataset_meta=dict(classes=['road', 'car'])), ('road', 'car')),
    (dict(CLASSES=('road', 'car'), PALETTE=None), ('road', 'car')),
    ({}, ()), (dict(dataset_meta=None), ()), (dict(dataset_meta={}), ()), (dict(dataset_meta=['road']), ()),
    (dict(dataset_meta=dict(classes=None)), ()), (dict(dataset_meta=dict(classes='road')), ()),
    (dict(dataset_meta=dict(classes=[0, 1])), ()), (dict(dataset_meta=dict(classes={'road': 0})), ()),
], ids=str)
def test_trained_classes(meta, classes):
    assert trained_classes(meta) == classes


@pytest.mark.parametrize('first, second, difference', [
    ('ab', 'ab', ''), (('a', 'b'), ['a', 'b'], ''),
    ('abc', 'cba', "their classes in different orders: class 0 is 'a' in the first and 'c' in the second, class 2 is 'c' in "
     "the first and 'a' in the second"),
    ('abc', 'abd', "different classes: 'c' only in the first, 'd' only in the second"),
    ('abcd', 'ab', "different classes: 'c', 'd' only in the first"), ('a', 'ab', "different classes: 'b' only in the second"),
    (['car'], ['Car'], "different classes: 'car' only in the first, 'Car' only in the second"),
    (['car '], ['car'], "different classes: 'car ' only in the first, 'car' only in the second"),
    ('aab', 'abb', "their classes in different orders: class 1 is 'a' in the first and 'b' in the second"),
    ('aa', 'aaa', 'their classes in different orders: 2 and 3 of them'),
    ('abcdefg', 'hijklmn', "different classes: 'a', 'b', 'c', 'd', 'e' and 2 more only in the first, 'h', 'i', 'j', 'k', 'l' "
     'and 2 more only in the second'),
], ids=str)
def test_difference(first, second, difference):
    assert difference_of_classes(first, second) == difference


@pytest.mark.parametrize('trained, used', [((), 'ab'), ('ab', ()), ('ab', 'ab')], ids=str)
def test_unknown_and_same_classes_pass(trained, used):
    check_same_classes('the checkpoint', trained, 'the test set', used)


def test_message():
    with pytest.raises(UserError) as raised:
        check_same_classes('the checkpoint', 'ab', 'the test set', 'b')
    assert str(raised.value) == ("the checkpoint and the test set have different classes: 'a' only in the first; give the "
                                 'config that it was trained with')
