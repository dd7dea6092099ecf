"""What deploying reports to a terminal."""
from dataclasses import replace

from repvgg_seg.deploy.artifacts import Artifact
from repvgg_seg.deploy.deploying import DeployReport

PLAIN = DeployReport('pixels', 3, False, 2.5e-7, 0.0001, 0, None, None, 9_000_000, 8_500_000, 36_000_000, None, 12.34, 6.17,
                     (1.9, 2.0, 2.1), 3, (360, 480), 'cpu', {}, [])
LINES = [
    'agreement on 3 random image(s): logits differ by 2.5e-07 of the largest, 0.0100% of the pixels change class',
    'parameters       9,000,000 ->      8,500,000',
    'time (ms)             12.3 ->            6.2   (2.00x faster, 1.90x to 2.10x in half of the turns; 1x3x360x480, fp32, '
    'cpu)']


def test_lines_of_a_fused_model():
    assert PLAIN.lines() == LINES
    evaluated = replace(PLAIN, real_images=True, evaluated_images=100, miou_before=61.5, miou_after=61.49,
                        bytes_after=34_000_000)
    assert evaluated.lines() == [
        LINES[0].replace('random', 'real'), 'mIoU                 61.50 ->          61.49   (100 images)', LINES[1],
        'file (MB)             36.0 ->           34.0', LINES[2]]


def test_lines_of_exported_files():
    artifact = Artifact('onnx', 'int8', None, 'labels', 0.02, 0.003, 60.12, False, ['stem', 'head'], 9_100_000, '',
                        changed_on_test_set=0.004)
    other = replace(artifact, miou=None, changed_on_test_set=None, higher_precision=[])
    report = replace(PLAIN, artefacts={'model.int8.onnx': artifact, 'model.onnx': other}, steps_left_out=['Resize', 'Pad'])
    first, second, steps, speed = report.lines()[3:]
    assert first == ('model.int8.onnx    logits differ by 2.0e-02, 0.3000% of the pixels change class; 9.1 MB; mIoU 60.12, '
                     '0.4000% of the pixels of the test set changed; in higher precision: stem, head')
    assert second == 'model.onnx         logits differ by 2.0e-02, 0.3000% of the pixels change class; 9.1 MB'
    assert steps == 'not in the exported files: Resize, Pad of the test pipeline; give them images after that'
    assert speed.startswith('how fast the exported files are: ') and speed.endswith('benchmark artefacts')
