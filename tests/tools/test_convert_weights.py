"""tools/convert_weights.py on a trained classifier, and how mistakes end."""
import re

from mistakes import assert_mistake

from repvgg_seg.reading import read_checkpoint


def test_there_and_back_is_still_the_trained_classifier(run_tool, classifier_config, classifier_checkpoint, tmp_path):
    official, own = tmp_path / 'new/official.pth', tmp_path / 'own.pth'
    result = run_tool('convert_weights', classifier_checkpoint, official, '--to', 'official')
    lines = r'training form, 3 classes.* from the own to the official layout\nWrote \S+official.pth'
    assert result.code == 0 and re.search(lines, result.out)
    assert 'linear.weight' in read_checkpoint(official)
    assert run_tool('convert_weights', official, own).code == 0
    for name, weights in (('trained', classifier_checkpoint), ('converted', own)):
        assert run_tool('classify_test', classifier_config, weights, '--work-dir', tmp_path / name, '--out',
                        tmp_path / f'{name}.csv').code == 0
    assert (tmp_path / 'trained.csv').read_text() == (tmp_path / 'converted.csv').read_text()


def test_mistakes_end_in_one_line(run_tool, tmp_path):
    assert_mistake(run_tool('convert_weights', tmp_path / 'none.pth', tmp_path / 'own.pth'), r'none.pth does not exist')
    assert_mistake(run_tool('convert_weights', tmp_path, tmp_path / 'own.pth'), r'\S+ is a folder; expected a .pth file')
    assert_mistake(run_tool('convert_weights', tmp_path / 'none.pth', tmp_path), r'is a folder; expected the name of a file')
    (tmp_path / 'text.pth').write_text('hello')
    assert_mistake(run_tool('convert_weights', tmp_path / 'text.pth', tmp_path / 'own.pth'),
                   r'text.pth (is refused|cannot be read)')
    assert not (tmp_path / 'own.pth').exists()
