"""tools/predict.py on videos, cameras, URLs and standard input: what is written, and what is refused."""
import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mistakes import assert_error_line
from mmengine.config import Config
from PIL import Image
from torch import nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.core.visualization import legend
from repvgg_seg.datasets.toy import CLASSES
from repvgg_seg.deploy.comparison import as_batch, logits_of
from repvgg_seg.engine.exported import ExportedSegmentor
from repvgg_seg.engine.prediction.capturing import Capture
from repvgg_seg.engine.prediction.network import Segmenter, Tiling, confidence_of
from repvgg_seg.engine.prediction.predicting import Options, Run
from repvgg_seg.engine.prediction.sources import Frame
from repvgg_seg.engine.prediction.writing import VideoFile
from repvgg_seg.runtime.predictor import Predictor

NAMES, PALETTE = [name for name, _, _ in CLASSES], [color for _, _, color in CLASSES]
FRAMES, FPS = 7, 12.5


@pytest.fixture(scope='module')
def pictures(tmp_path_factory) -> Path:
    """Images of smooth noise, 47x63: sides that no codec takes."""
    folder = tmp_path_factory.mktemp('pictures') / 'images'
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(FRAMES):
        noise = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (63, 47), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(noise).save(folder / f'{number}.png')
    return folder


@pytest.fixture(scope='module')
def video(pictures) -> Path:
    """A video of these."""
    path = pictures.parent / 'street.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), FPS, (64, 48))
    for picture in sorted(pictures.iterdir()):
        writer.write(cv2.copyMakeBorder(cv2.imread(str(picture)), 0, 1, 0, 1, cv2.BORDER_REPLICATE))
    writer.release()
    return path


@pytest.fixture
def predict(run_tool, config, random_checkpoint):
    """Run the tool on a source with options."""
    return lambda source, *options: run_tool('predict', config, random_checkpoint, source, *options)


@pytest.fixture(scope='module')
def segmenter(config, random_checkpoint):
    """Build a segmenter with arguments."""
    return partial(Segmenter.of, Config.fromfile(config), str(random_checkpoint))


@pytest.fixture
def served(pictures) -> Iterator[str]:
    """The address of a server that serves the pictures and the video."""
    handler = type('Handler', (SimpleHTTPRequestHandler, ), dict(log_message=lambda *_: None))
    with ThreadingHTTPServer(('127.0.0.1', 0), partial(handler, directory=pictures.parent)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def play(path: Path) -> tuple[float, list[np.ndarray]]:
    """Frames per second and frames of a video."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    return capture.get(cv2.CAP_PROP_FPS), frames


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*'))


def test_video(predict, video, tmp_path):
    result = predict(video, '--out', tmp_path / 'out', '--json', tmp_path / 'shares.jsonl')
    assert result.code == 0, result.err
    assert result.out.splitlines()[-2].startswith(f'{FRAMES} frame(s), ') and 'the network alone: ' in result.out
    assert files(tmp_path) == ['out', 'out/street_overlay.mp4', 'shares.jsonl']
    fps, frames = play(tmp_path / 'out/street_overlay.mp4')
    assert fps == pytest.approx(FPS) and len(frames) == FRAMES
    assert {frame.shape for frame in frames} == {(48 + len(legend(NAMES, PALETTE, 64)), 64, 3)}
    lines = [json.loads(line) for line in (tmp_path / 'shares.jsonl').read_text().splitlines()]
    assert [line['frame'] for line in lines] == list(range(FRAMES))
    assert [line['seconds'] for line in lines] == pytest.approx([number / FPS for number in range(FRAMES)], abs=1e-3)
    assert all(list(line['shares']) == NAMES and sum(line['shares'].values()) == pytest.approx(1, abs=1e-4) and
               line['unknown'] == 0 for line in lines)


def test_images_as_a_video(predict, pictures, tmp_path):
    result = predict(pictures, '--out', tmp_path, '--as-video', '30', '--side-by-side', '--alpha', '0')
    assert result.code == 0, result.err
    assert files(tmp_path) == ['images_overlay.mp4']
    fps, frames = play(tmp_path / 'images_overlay.mp4')
    assert fps == 30 and len(frames) == FRAMES and frames[0].shape[1] == 126
    expected = np.array(Image.open(pictures / '0.png')).astype(int)
    for found in (frames[0][:47, :63], frames[0][:47, 63:]):
        assert abs(found - expected).mean() < 12


def test_labels_and_confidence_of_a_video(predict, segmenter, video, tmp_path):
    result = predict(video, '--out', tmp_path / 'out', '--labels-only', '--save-confidence', '--min-confidence', '0.6')
    assert result.code == 0, result.err
    assert files(tmp_path / 'out') == sorted([
        *(f'street_{kind}' for kind in ('labels', 'confidence')),
        *(f'street_{kind}/{number:06}.png' for kind in ('labels', 'confidence') for number in range(FRAMES))])
    frame = play(video)[1][3]
    expected = segmenter(confident=True).segment(segmenter().read(Frame('0', np.ascontiguousarray(frame[..., ::-1]))))
    labels, confidence = (np.array(Image.open(tmp_path / f'out/street_{kind}/000003.png')) for kind in ('labels', 'confidence'))
    assert 0.05 < (expected.confidence < 0.6).mean() < 0.95
    assert np.array_equal(labels, np.where(expected.confidence < 0.6, 255, expected.labels))
    assert np.array_equal(confidence, (expected.confidence * 255).round())
    assert_error_line(predict(video, '--out', tmp_path / 'out', '--labels-only'), (
        f'error: {tmp_path}/out/street_labels exists, but the maps of the frames of {video} would be written there; remove it, '
        'or choose another folder'))


def test_unknown_pixels_are_drawn_and_named(predict, pictures, tmp_path):
    result = predict(pictures / '1.png', '--out', tmp_path, '--min-confidence', '1', '--alpha', '1', '--json', tmp_path / 'j')
    assert result.code == 0, result.err
    drawn = np.array(Image.open(tmp_path / '1_overlay.png'))
    assert (drawn[:47] == 0).all() and np.array_equal(drawn[47:], legend(['unknown'], [(0, 0, 0)], 63))
    assert (np.array(Image.open(tmp_path / '1.png')) == 255).all()
    assert json.loads((tmp_path / 'j').read_text())['unknown'] == 1


def test_standard_input_and_urls(predict, pictures, video, served, tmp_path, monkeypatch):
    image = pictures / '2.png'
    monkeypatch.setattr('sys.stdin', SimpleNamespace(buffer=io.BytesIO(image.read_bytes())))
    for source in (image, '-', f'{served}/images/2.png?size=1', f'{served}/street.avi'):
        result = predict(source, '--out', tmp_path)
        assert result.code == 0, result.err
    names = ('2', 'standard_input')
    assert files(tmp_path) == sorted([*(f'{name}{kind}.png' for name in names for kind in ('', '_overlay')),
                                      'street_overlay.mp4'])
    assert len({(tmp_path / f'{name}_overlay.png').read_bytes() for name in names}) == 1
    assert len(play(tmp_path / 'street_overlay.mp4')[1]) == FRAMES


def test_images_and_videos_of_a_folder(predict, pictures, video, tmp_path):
    result = predict(pictures.parent, '--out', tmp_path, '--labels-only')
    assert result.code == 0, result.err
    assert {path.name for path in tmp_path.iterdir()} == {*(f'{number}.png' for number in range(FRAMES)), 'street_labels'}


class Camera:
    """In the place of a camera: frames at a pace of their own, each of one gray value."""

    def __init__(self, count: int, pause: float) -> None:
        self.count, self.pause, self.read = count, pause, 0
        self.fps, self.codec, self.length = 20.0, '', 0

    def frames(self):
        while self.read < self.count:
            self.read += 1
            yield np.full((48, 64, 3), self.read, np.uint8), 0.0
            time.sleep(self.pause)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize('max_fps', [None, 5])
def test_a_camera_drops_frames_and_the_video_keeps_its_time(predict, tmp_path, monkeypatch, max_fps):
    camera, segment = Camera(100, 0.01), Segmenter.segment
    monkeypatch.setattr(Capture, 'of_camera', lambda number: camera)
    monkeypatch.setattr(Segmenter, 'segment', lambda *arguments: (time.sleep(0.05), segment(*arguments))[1])
    start = time.monotonic()
    result = predict('0', '--out', tmp_path, '--json', tmp_path / 'j', *(['--max-fps', max_fps] if max_fps else []))
    seconds = time.monotonic() - start
    assert result.code == 0, result.err
    frames = len((tmp_path / 'j').read_text().splitlines())
    assert camera.read == 100 and 2 < frames < (1.2 + 5 * seconds if max_fps else 80)
    fps, shown = play(tmp_path / 'camera_0_overlay.mp4')
    last = json.loads((tmp_path / 'j').read_text().splitlines()[-1])['seconds']
    assert fps == (max_fps or 20) and abs(len(shown) - last * fps) <= 1


@pytest.mark.situation('Silently wrong', 'name and password in the address of a stream', before='in the log and in `--json`',
                       now='never shown or written')
@pytest.mark.parametrize('url', ['rtsp://me:secret@host:8554/street?key=secret', 'https://me:secret@host/street.mp4?key=secret'])
def test_passwords_are_not_told(predict, tmp_path, monkeypatch, url):
    opened = []
    monkeypatch.setattr(Capture, 'of_stream', lambda given: opened.append(given) or Camera(3, 0.2))
    result = predict(url, '--out', tmp_path / 'out', '--json', tmp_path / 'shares.jsonl')
    assert (result.code, opened) == (0, [url])
    written = (tmp_path / 'shares.jsonl').read_text()
    assert json.loads(written.splitlines()[0])['video'] == url.replace('me:secret@', '').replace('?key=secret', '')
    assert 'secret' not in ''.join([result.out, result.err, written, *map(str, tmp_path.rglob('*'))])


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C and SIGHUP interrupt, also if a shell ignores the first in the background, or nohup the second."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in zip((signal.SIGINT, signal.SIGHUP), before):
        signal.signal(number, handler)


@pytest.mark.usefixtures('ctrl_c')
@pytest.mark.situation('Data loss', 'SIGTERM while a video or a camera is predicted',
                       before='the file could not be played, and had a hidden name',
                       now='as with Ctrl-C: the part written so far can be played')
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('live', [False, True])
def test_interrupted(predict, pictures, tmp_path, monkeypatch, live, number):
    segment, draw, count, runs = Segmenter.segment, Run.draw, iter(range(1000)), []

    def interrupted(*arguments):
        if next(count) == 4:
            while not (runs and runs[0].frames):  # The interruption comes after the first frame, however slow drawing is.
                time.sleep(0.01)
            os.kill(os.getpid(), number)
            time.sleep(0.2)
        return segment(*arguments)

    monkeypatch.setattr(Run, 'draw', lambda run, *arguments: runs.append(run) or draw(run, *arguments))
    monkeypatch.setattr(Segmenter, 'segment', interrupted)
    monkeypatch.setattr(Capture, 'of_camera', lambda number: Camera(10000, 0.01))
    result = predict('0' if live else pictures, '--out', tmp_path, *([] if live else ['--as-video', '10']))
    assert result.code == (0 if live else 128 + number)
    video, = tmp_path.iterdir()
    frames = len(play(video)[1])
    assert frames >= 1 and (live or frames < FRAMES)
    if not live:
        assert result.err.splitlines()[-1:] == [] and result.out.splitlines()[-1] == (
            f'stopped by {number.name} after {frames} frame(s); their predictions were written')


@pytest.mark.usefixtures('ctrl_c')
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_while_a_frame_is_written(predict, pictures, tmp_path, monkeypatch, number):
    class Encoder:  # The signal comes when the frame is in the file, but not yet counted.
        def __init__(self, encoder):
            self.release, self.encoder = encoder.release, encoder

        def write(self, frame):
            self.encoder.write(frame)
            os.kill(os.getpid(), number)

    opened = VideoFile.open
    monkeypatch.setattr(VideoFile, 'open', lambda video: Encoder(opened(video)))
    result = predict(pictures, '--out', tmp_path, '--as-video', '10', '--json', tmp_path / 'shares.jsonl')
    assert (result.code, result.out.splitlines()[-1:]) == (
        128 + number, [f'stopped by {number.name} after 1 frame(s); their predictions were written'])
    assert len(play(tmp_path / 'images_overlay.mp4')[1]) == len((tmp_path / 'shares.jsonl').read_text().splitlines()) == 1


@pytest.mark.parametrize('options', [(), ('--as-video', '10')])
def test_an_error_in_the_middle(predict, pictures, tmp_path, options):
    folder = tmp_path / 'images'
    folder.mkdir()
    for number in range(FRAMES):
        (folder / f'{number}.png').write_bytes(b'broken' if number == 4 else (pictures / f'{number}.png').read_bytes())
    assert_error_line(predict(folder, '--out', tmp_path / 'out', *options),
                      f'error: image {folder}/4.png cannot be read (no image file); replace or remove it')
    assert not [path for path in (tmp_path / 'out').iterdir() if options or path.name.startswith('.')]


@pytest.mark.parametrize('kind', ['cut short', 'no video', 'pipe'])
def test_broken_videos(predict, video, tmp_path, kind):
    path = tmp_path / 'broken.avi'
    if kind == 'pipe':
        os.mkfifo(path)
        line = f'no image or video at {path}; '
    else:
        path.write_bytes(video.read_bytes()[:len(video.read_bytes()) * 2 // 3] if kind == 'cut short' else b'no video' * 100)
        line = f'video {path} cannot be read; it is damaged, or OpenCV does not know its format'
    result = predict(path, '--out', tmp_path / 'out')
    if kind == 'cut short':  # OpenCV plays what is there.
        assert result.code == 0 and 0 < len(play(tmp_path / 'out/broken_overlay.mp4')[1]) < FRAMES
    else:
        assert result.code == 2 and result.err.startswith(f'error: {line}') and len(result.err.splitlines()) == 1
        assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(('source', 'options', 'line'), [
    ('{images}', [], 'nothing would be written or shown; give --out DIR, --show or --json FILE'),
    ('{images}', ['--show'], '--show needs a screen, but neither DISPLAY nor WAYLAND_DISPLAY is set; use --out DIR'),
    ('{images}', ['--json', 'x', '--save-confidence'], '--save-confidence writes files; give --out DIR'),
    ('{images}', ['--json', 'x', '--alpha', '0.3'], '--alpha and --side-by-side are for overlays, but nothing is drawn for '
     '--json alone; leave them out, or add --out DIR or --show'),
    ('{images}', ['--out', 'x', '--labels-only', '--side-by-side'],
     '--labels-only writes no overlays, which --alpha and --side-by-side are for; leave them out'),
    ('{images}', ['--out', 'x', '--overlap', '8'], '--overlap is for tiles; add --tile HEIGHT WIDTH, or leave it out'),
    ('{images}', ['--out', 'x', '--tile', '16', '16', '--overlap', '16'],
     'overlap must be from 0 to 15 for windows of 16 pixels, got 16; give a smaller overlap or larger tiles'),
    ('{images}', ['--out', 'x', '--max-fps', '5'],
     '--max-fps is for cameras and streams, whose frames can be dropped; leave it out for {images}'),
    ('{video}', ['--out', 'x', '--as-video', '5'], '--as-video makes a video of image files; leave it out for {video}'),
    ('{images}', ['--out', 'x', '--alpha', '1.5'], 'argument --alpha: expected a number from 0 to 1, got 1.5; see --help'),
    ('-', ['--out', 'x'], 'standard input is empty; expected the bytes of an image'),
    ('77', ['--out', 'x'], 'camera 77 cannot be opened; expected one that is connected and that no other program uses'),
    ('rtsp://127.0.0.1:9/x', ['--out', 'x'], 'rtsp://127.0.0.1:9/x cannot be opened within 15 seconds; check the address, the '
     'network and, for RTSP, name and password (rtsp://NAME:PASSWORD@HOST/PATH)'),
    ('rtsp://me:secret@127.0.0.1:9/x?key=secret', ['--out', 'x'], 'rtsp://127.0.0.1:9/x cannot be opened within 15 seconds; '
     'check the address, the network and, for RTSP, name and password (rtsp://NAME:PASSWORD@HOST/PATH)'),
    ('http://me:secret@127.0.0.1:9/a.png?key=secret', ['--out', 'x'], 'http://127.0.0.1:9/a.png has a name and a password, '
     'which only streams and videos can have; download the image yourself and give the file'),
    ('http://127.0.0.1:9/a.png?key=secret', ['--out', 'x'], 'http://127.0.0.1:9/a.png cannot be downloaded (<urlopen error '
     '[Errno 111] Connection refused>); check the address, or give a file'),
    ('http://127.0.0.1:9/a.png', ['--out', 'x'], 'http://127.0.0.1:9/a.png cannot be downloaded (<urlopen error [Errno 111] '
     'Connection refused>); check the address, or give a file'),
    ('{images}/0.png', ['--out', 'x', '--json', '{images}/0.png'],
     '{images}/0.png is read, but {images}/0.png would be written over it; write to another place'),
])
def test_what_is_refused(predict, pictures, video, tmp_path, monkeypatch, source, options, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    monkeypatch.setattr('sys.stdin', SimpleNamespace(buffer=io.BytesIO()))
    source, line, *options = (text.format(images=pictures, video=video) for text in (source, line, *options))
    assert_error_line(predict(source, *options), f'error: {line}')
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def test_tiles(segmenter, pictures):
    """Each tile is segmented as an image of its own, and overlaps are divided in the middle."""
    path = pictures / '3.png'
    whole = np.array(Image.open(path))[..., ::-1]
    found = segmenter(tiling=Tiling((32, 40), 8)).segment(segmenter(tiling=Tiling((32, 40), 8)).read(Frame('', path))).labels
    alone = segmenter()
    for top, rows in ((0, slice(0, 23)), (15, slice(24, 47))):
        for left, columns in ((0, slice(0, 31)), (23, slice(32, 63))):
            tile = np.ascontiguousarray(whole[top:top + 32, left:left + 40])
            expected = alone.segment(alone.read(Frame('0', tile))).labels
            assert np.array_equal(found[rows, columns], expected[rows.start - top:rows.stop - top,
                                                                 columns.start - left:columns.stop - left])
    assert not np.array_equal(found, alone.segment(alone.read(Frame('', path))).labels)


def test_tiles_that_would_be_resized(config, random_checkpoint):
    loaded = Config.fromfile(config)
    load, *others = loaded.test_dataloader.dataset.pipeline
    loaded.test_dataloader.dataset.pipeline = [load, dict(type='Resize', scale=(64, 48)), *others]
    with pytest.raises(UserError, match='^the test pipeline has Resize, which would enlarge each tile; leave --tile out, or '
                                         'remove that step$'):
        Segmenter.of(loaded, str(random_checkpoint), tiling=Tiling((32, 32)))


def test_images_that_need_tiles(segmenter, pictures, monkeypatch):
    monkeypatch.setattr('repvgg_seg.engine.prediction.network.MAX_LOGITS', 4 * 47 * 63 * 12 - 1)
    path = pictures / '0.png'
    with pytest.raises(UserError, match=f'^image {path} has 47x63 pixels, for which the logits alone need 0 GiB; split it into '
                                         'tiles, e.g. --tile 1024 1024$'):
        segmenter().read(Frame('', path))
    assert segmenter(tiling=Tiling((32, 32))).read(Frame('', path))


def exported(model: nn.Module, output: str, **entry: object) -> Predictor:
    """A segmentor as if it were loaded from an exported file."""
    def run(images: np.ndarray) -> np.ndarray:
        logits = logits_of(model, as_batch(model, images[0]))
        return logits.numpy() if output == 'logits' else logits.argmax(1).byte().numpy()

    info = dict(classes=NAMES, palette=PALETTE, channels='BGR', min_size=1, align_corners=model.align_corners)
    return Predictor(run, info, dict(output=output, size=None, **entry))


@pytest.mark.parametrize('resized', [False, True])
def test_confidence_of_exported_files(config, random_segmentor, segmenter, pictures, resized):
    loaded = Config.fromfile(config)
    load, *others = loaded.test_dataloader.dataset.pipeline
    steps = [load, *([dict(type='Resize', scale=(126, 94))] if resized else []), *others]
    trained, found = (Segmenter(model, steps, 3, len(NAMES), confident=True) for model in (
        random_segmentor, ExportedSegmentor(exported(random_segmentor, 'logits'))))
    for path in pictures.iterdir():
        one, other = (each.segment(each.read(Frame('', path))) for each in (trained, found))
        assert (one.labels == other.labels).mean() > 0.99 and abs(one.confidence - other.confidence).max() < 0.02
    with pytest.raises(UserError) as raised:
        Segmenter(ExportedSegmentor(exported(random_segmentor, 'labels')), steps, 3, len(NAMES), min_confidence=0.5)
    assert str(raised.value) == (
        'this exported file gives labels without their probabilities, which --min-confidence and --save-confidence need; give '
        'one that was exported with --logits, or the trained model')


@pytest.mark.parametrize(('entry', 'settings', 'abstains'), [
    ({}, {}, False), (dict(abstention=None), {}, False), (dict(abstention=dict(risk=0.05)), {}, True),
    (dict(output='logits'), dict(min_confidence=0.5), True)])
def test_whether_pixels_can_be_unknown(config, random_segmentor, entry, settings, abstains):
    """The legend of a video then names unknown pixels in each frame, so that its height does not change."""
    model = ExportedSegmentor(exported(random_segmentor, **{'output': 'labels', **entry}))
    steps = Config.fromfile(config).test_dataloader.dataset.pipeline
    segmenter = Segmenter(model, steps, 3, len(NAMES), **settings)
    assert segmenter.abstains == abstains == (255 in Run(segmenter, None, Options(), NAMES, PALETTE).named)


def test_confidence_of_a_single_channel():
    probabilities = torch.tensor([[[0.2, 0.45, 0.7]]])  # As MMSegmentation hands them out, with a threshold of 0.4.
    assert confidence_of(probabilities, torch.tensor([[[0, 1, 1]]])).tolist() == [pytest.approx([0.8, 0.45, 0.7])]
