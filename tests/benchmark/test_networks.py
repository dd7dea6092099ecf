"""Networks that are timed against each other compute the same; what is called deployed is."""
import weakref
from pathlib import Path

import pytest
import torch
from exports import skip_without
from helpers import assert_relatively_close, norms_of, randomize
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny import write_segmentor_config
from torch import nn

from repvgg_seg.benchmark import networks
from repvgg_seg.benchmark.complexity import complexity
from repvgg_seg.benchmark.networks import (
    OPERATIONS,
    Run,
    Setting,
    build,
    deployed,
    inference,
    make,
    norms_without_convolution,
    split_name,
    stock_config,
    training_step,
)
from repvgg_seg.benchmark.runtimes import RUNTIMES
from repvgg_seg.benchmark.suites import DILATED_PEERS, REALTIME_PEERS, stock
from repvgg_seg.core.errors import UserError
from repvgg_seg.models.layouts import LAYOUTS

ROOT = Path(__file__).parents[2]
A0 = str(ROOT / 'configs/pspnet_repvgg_a0_cityscapes.py')
WIDE = {'model.decode_head.pool_channels': 512}


@pytest.mark.parametrize('name', (*REALTIME_PEERS, *DILATED_PEERS))
def test_peers_in_deployed_form_compute_the_same(name):
    model, x = randomize(build(stock(name), False, {})).eval(), torch.randn(1, 3, 64, 128)
    fused, kept = deployed(model), norms_without_convolution(model)
    assert len(norms_of(fused)) == len(kept) < len(norms_of(model)) / 2
    assert_relatively_close(fused(x), model(x).detach(), 1e-3)


@pytest.fixture
def pair() -> tuple[nn.Module, nn.Module]:
    """Ours and the peer in float64, with the same weights."""
    ours, peer = (randomize(build(A0, stock, WIDE)).eval().double() for stock in (False, True))
    layout = LAYOUTS['MMPretrain']
    state = {'backbone.' + layout.from_own(key.removeprefix('backbone.')) if key.startswith('backbone.') else key: value
             for key, value in ours.state_dict().items()}
    peer.load_state_dict(state, strict=True)
    return ours, peer


def test_the_peer_is_the_same_network(pair):
    ours, peer = pair
    assert type(peer.backbone).__module__.startswith('mmpretrain') and type(peer.decode_head).__name__ == 'PSPHead'
    x = torch.randn(1, 3, 41, 57, dtype=torch.float64)
    expected = ours(x)
    assert_relatively_close(peer(x), expected, 1e-9)
    for model in (ours, peer):
        fused = deployed(model)
        assert not norms_of(fused)
        assert_relatively_close(fused(x), expected, 1e-9)


def test_a_resnet_is_fused_as_well():
    model = randomize(build(str(ROOT / 'configs/pspnet_r50_cityscapes.py'), True, {})).eval().double()
    fused = deployed(model)
    assert not norms_of(fused) and type(fused.decode_head).__name__ == 'PSPHead'
    x = torch.randn(1, 3, 41, 57, dtype=torch.float64)
    assert_relatively_close(fused(x), model(x), 1e-9)


@pytest.mark.parametrize(('change', 'message'), [
    (dict(backbone=dict(dilation='fast')), "cannot express dilation='fast'; leave stock: out"),
    (dict(backbone=dict(block=dict(type='PlainConv'))), "has the paper's block only, not PlainConv; leave stock: out"),
    (dict(decode_head=dict(pool_channels=320)), r'has 512 channels .* use --cfg-options model.decode_head.pool_channels=512')])
def test_what_the_peer_cannot_be(change, message):
    config = Config.fromfile(A0)
    config.merge_from_dict(dict(model=change))
    with pytest.raises(UserError, match=message):
        stock_config(config.model)


class NormFirst(nn.Module):
    """Nothing in it can be fused."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3))


def test_what_is_not_fused_is_not_called_deployed():
    with pytest.raises(UserError, match='backbone.0 and 0 more are not fused, .* time it as training:NAME'):
        deployed(NormFirst())


@pytest.mark.parametrize(('text', 'message'), [
    ('speedy:RepVGG-A0', 'speedy:RepVGG-A0: unknown speedy; expected stock, training, body, head, step, undilated, onnx'),
    ('RepVGG-A9', 'RepVGG-A9 is neither a config nor one of RepVGG-A0'),
    ('body:conv3x3', 'body:conv3x3: these cannot be combined'),
    (f'body:head:{A0}', 'these cannot be combined'), (f'step:training:{A0}', 'these cannot be combined'),
    (f'ncnn:openvino:{A0}', 'these cannot be combined'), (f'step:ncnn:{A0}', 'these cannot be combined'),
    (f'training:undilated:{A0}', 'these cannot be combined'),
    ('step:RepVGG-A0', 'step:RepVGG-A0 is for segmentors; give a config instead of RepVGG-A0')])
def test_wrong_names(text, message):
    with pytest.raises(UserError, match=message):
        split_name(text)


@pytest.mark.parametrize(('runtime', 'change', 'native', 'able'), [
    ('ncnn', dict(precision='bf16'), ['fp32', 'int8'], 'fp32'),
    ('onnxruntime', dict(precision='bf16'), ['fp32', 'bf16', 'int8'], 'fp32 or int8'),
    ('opencv', dict(precision='int8'), ['fp32', 'int8'], 'fp32'),
    ('ncnn', dict(precision='fp16'), ['fp32', 'bf16', 'fp16'], 'fp32 or bf16'), ('ncnn', dict(compiled=True), ['fp32'], 'fp32'),
    ('ncnn', dict(device='cuda'), ['fp32'], 'fp32'), ('ncnn', dict(channels_last=True), ['fp32'], 'fp32')], ids=str)
def test_what_other_runtimes_are_not_timed_in(runtime, change, native, able, monkeypatch):
    monkeypatch.setattr(networks, 'native_precisions', lambda: native)
    with pytest.raises(UserError) as raised:
        make(f'{runtime}:plain-run', Setting(size=(4, 5), **change))
    assert str(raised.value) == (f'{runtime}:plain-run: other runtimes are timed on the CPU only, without --compile and '
                                 f'--channels-last, this one on this CPU in {able}')


@pytest.mark.parametrize(('text', 'change', 'message'), [
    ('plain-run', dict(precision='int8'),
     'plain-run: PyTorch is timed in fp32, tf32, bf16, fp16, not in int8; put onnxruntime: or openvino: in front'),
    ('VGG-16', {}, 'VGG-16 is for --size 224 224')])
def test_what_networks_in_pytorch_are_not_timed_in(text, change, message):
    with pytest.raises(UserError) as raised:
        make(text, Setting(size=(4, 5), **change))
    assert str(raised.value) == message


@pytest.mark.whole
@pytest.mark.parametrize(('runtime', 'precision'), [(name, each) for name, runtime in RUNTIMES.items()
                                                    for each in runtime.precisions])
@pytest.mark.parametrize('text', ['head:stock:{a0}', '{tiny}', 'body:undilated:{tiny}'])
def test_other_runtimes_compute_the_same(runtime, precision, text, monkeypatch, tmp_path):
    if precision not in networks.native_precisions():
        pytest.skip(f'this CPU does not compute in {precision}')
    skip_without(dict(opencv='cv2').get(runtime, runtime), 'onnx', 'onnxscript', 'pnnx')
    if runtime == 'opencv' and 'stock' in text:
        pytest.skip('OpenCV 5 cannot read the adaptive pooling of the stock head')
    text = text.format(a0=A0, tiny=write_segmentor_config(tmp_path / 'tiny.py', tmp_path))
    kept = {}
    monkeypatch.setitem(RUNTIMES, runtime, RUNTIMES[runtime]._replace(
        prepare=lambda network, x, threads, precision: kept.update(network=network, x=x) or (lambda: None)))
    make(f'{runtime}:{text}', Setting(size=(49, 66), precision=precision, options=WIDE if A0 in text else {}))
    monkeypatch.undo()
    run = RUNTIMES[runtime].prepare(kept['network'], kept['x'], 2, precision)
    with torch.no_grad():
        expected = kept['network'](kept['x'])
    found = torch.from_numpy(run()).reshape(expected.shape)
    assert_relatively_close(found, expected, dict(fp32=1e-4, bf16=0.05, int8=0.2)[precision])
    assert precision == 'fp32' or not torch.allclose(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_the_rewrite_in_pytorch():
    setting = Setting(size=(360, 480))
    plain, dilated = (make(f'body:{form}{A0}', setting).info['flops'] for form in ('undilated:', ''))
    assert dilated < plain < 1.2 * dilated, 'a mosaic has seams'


def test_names():
    assert split_name(f'step:stock:{A0}') == ({'step', 'stock'}, A0) and split_name('matmul') == (set(), 'matmul')


@pytest.mark.parametrize(('text', 'flops'), [('matmul', 2048 ** 3), ('conv1x1', 2048 ** 2 * 6)])
def test_single_operations(text, flops):
    assert make(text, Setting(size=(2, 3))).info == dict(flops=flops)


@pytest.mark.parametrize(('native', 'size'), [(['fp32', 'bf16'], 2048), (['fp32'], 256)])
def test_matrix_product_in_bf16(native, size, monkeypatch):
    """A CPU without bf16 would compute it for minutes."""
    monkeypatch.setattr(networks, 'native_precisions', lambda: native)
    assert networks.matrix_size(Setting(precision='bf16')) == size


@pytest.mark.parametrize('channels_last', [False, True])
def test_multiplications_of_a_run(channels_last):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    run = inference(model, (3, 20, 24), Setting(batch=2, channels_last=channels_last))
    assert run.info == dict(flops=2 * complexity(model, (20, 24)).flops)


def test_forms_of_a_classifier():
    """The body is less than the whole, and the training form more than the fused one."""
    setting = Setting(size=(64, 64))
    names = ('RepVGG-A0', 'body:RepVGG-A0', 'training:RepVGG-A0')
    whole, body, training = (make(name, setting).info['flops'] for name in names)
    assert whole - body == 1280 * 1000 and 1.05 * whole < training < 1.2 * whole


def test_variants_of_the_block():
    setting = Setting(size=(64, 64))
    names = [str(ROOT / f'configs/ablations/{name}_imagenet.py') for name in ('b0_plain', 'b0_identity_only', 'b0_1x1_only')]
    plain, identity_only, pointwise_only = (make(f'training:{name}', setting).info['flops'] for name in names)
    fused = make('RepVGG-B0', setting).info['flops']
    assert plain == identity_only == fused == make(names[2], setting).info['flops'] < pointwise_only
    resnet, with_blocks = (make(str(ROOT / f'configs/ablations/{name}_imagenet.py'), setting).info
                           for name in ('resnet50', 'resnet50_repvgg'))
    assert resnet == with_blocks


def test_a_variant_that_cannot_be_deployed():
    with pytest.raises(UserError, match='cannot fuse ReLUInBranches'):
        make(str(ROOT / 'configs/ablations/b0_relu_in_branches_imagenet.py'), Setting(size=(32, 32)))


def test_head_alone():
    setting = Setting(size=(65, 97), options=WIDE)
    whole, body, head = (make(f'{form}{A0}', setting).info['flops'] for form in ('', 'body:', 'head:'))
    assert whole == body + head


def test_the_peer_trains_with_the_same_loss(pair):
    curves = []
    for model in pair:
        torch.manual_seed(0)
        model.train()
        x = torch.randn(2, 3, 41, 57, dtype=torch.float64)
        samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(19, (1, 41, 57)))) for _ in range(2)]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        curves.append([])
        for _ in range(4):
            losses = model.loss(x, samples)
            loss = sum(value for name, value in losses.items() if 'loss' in name)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            curves[-1].append(float(loss))
    assert curves[0] == pytest.approx(curves[1], rel=1e-9) and abs(curves[0][3] - curves[0][0]) > 0.01


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_step_trains(precision):
    model = build(A0, False, {})
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    run = training_step(model, Setting(batch=2, size=(64, 64), precision=precision))
    run()
    assert isinstance(run, Run) and run.info == {}
    assert not [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(('name', 'expected'), [('plain-blocks', 2), ('residual-blocks', 3)])
def test_figure_3_shows_what_a_shortcut_keeps(name, expected):
    """Maps that are there at once, without the one that is held from outside."""
    make, channels = OPERATIONS[name]
    model, maps, counts = make().eval(), [], []

    def count(module: nn.Module, _, output: torch.Tensor) -> None:
        maps.append(weakref.ref(output))
        counts.append(len({tensor.data_ptr() for reference in maps if (tensor := reference()) is not None}))

    for module in model.modules():
        module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.randn(1, channels, 4, 4))
    assert max(counts) == expected


class Counted(nn.Module):
    """Networks of several widths that share the code of one forward()."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def test_all_of_many_networks_are_compiled(monkeypatch):
    """PyTorch stops after 8 networks of one class, and runs the others as they are."""
    compiled = []
    plain = torch.compile
    monkeypatch.setattr(torch, 'compile', lambda function: plain(
        function, backend=lambda graph, _: compiled.append(graph) or graph))
    names = 'recompile_limit', 'accumulated_recompile_limit', 'fail_on_recompile_limit_hit'
    # Not monkeypatch, which removes settings of a module whose attributes are computed instead of restoring them.
    with torch._dynamo.config.patch({name: getattr(torch._dynamo.config, name) for name in names}):
        for width in range(2, 14):
            networks.compile_each(Counted(width))(torch.ones(1, width))
    assert len(compiled) == 12
