"""What holds for every block, dilation, label table and checkpoint, not only for those that the other tests name."""

import numpy as np
import pytest
import torch
from helpers import randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from repvgg_seg.core.errors import DataError
from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.datasets.loading import LoadLabels
from repvgg_seg.deploy import fuse
from repvgg_seg.models import RepVGG
from repvgg_seg.models.blocks import RepConv
from repvgg_seg.models.conversion import convert_checkpoint
from repvgg_seg.models.layouts import LAYOUTS, arch_of, to_own_layout

EXACT = dict(rtol=1e-9, atol=1e-9)
thorough = settings(deadline=None, derandomize=True, max_examples=60)
slow = settings(deadline=None, derandomize=True, max_examples=20)
seeds = st.integers(0, 2**31)
# Widths that groups divide and of which, as in the paper's, no two stages share one: else a stride of 1 adds an identity.
archs = st.fixed_dictionaries(dict(
    num_blocks=st.tuples(*[st.integers(1, 3)] * 4), groups=st.sampled_from((1, 2, 4)), use_se=st.booleans(),
    width_factors=st.tuples(*[st.sampled_from(factors) for factors in (
        (0.25, 0.5), (0.1875, 0.375), (0.15625, 0.25), (0.109375, 0.171875))])))


@thorough
@given(st.sampled_from((1, 2, 4)), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(1, 2), st.integers(1, 5),
       st.tuples(st.integers(1, 9), st.integers(1, 9)), seeds)
def test_a_fused_block_is_the_same_function(groups, into, out, square, stride, dilation, size, seed):
    torch.manual_seed(seed)
    in_channels, out_channels = groups * into, groups * (into if square else out)
    block = randomize(RepConv(in_channels, out_channels, stride, dilation, groups)).double().eval()
    x = torch.randn(2, in_channels, *size).double()
    with torch.no_grad():
        torch.testing.assert_close(block.fuse()(x), block(x), **EXACT)


@slow
@given(archs, st.data(), st.tuples(st.integers(9, 40), st.integers(9, 40)), seeds)
def test_any_dilation_takes_any_weights_keeps_the_size_and_fuses(arch, data, size, seed):
    torch.manual_seed(seed)
    strides = (2, *data.draw(st.tuples(*[st.integers(1, 2)] * 3)))
    dilations = tuple(data.draw(st.one_of(st.integers(1, 4), st.tuples(*[st.integers(1, 4)] * blocks)))
                      for blocks in arch['num_blocks'])
    plain = randomize(RepVGG(arch)).double().eval()
    model = RepVGG(arch, strides=strides, dilations=dilations).double().eval()
    model.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, *size).double()
    with torch.no_grad():
        y, = model(x)
        stride = 2 * int(np.prod(strides))
        assert y.shape == (1, plain.out_channels[0], *(-(-length // stride) for length in size))
        scale = max(1.0, y.abs().max().item())
        torch.testing.assert_close(fuse(model)(x)[0] / scale, y / scale, **EXACT)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('properties')


@thorough
@given(st.dictionaries(st.integers(0, 255), st.one_of(st.integers(0, 18), st.just(255)), min_size=1), st.data(), seeds)
def test_labels_are_mapped_pixel_by_pixel_or_refused(folder, label_map, data, seed):
    values = data.draw(st.lists(st.one_of(st.sampled_from(sorted(label_map)), st.integers(0, 255)), min_size=1, max_size=8))
    raw = np.random.default_rng(seed).choice(np.array(values, np.uint8), (5, 7))
    Image.fromarray(raw).save(folder / 'label.png')
    sample = dict(seg_map_path=str(folder / 'label.png'), label_map=label_map, ori_shape=(5, 7), seg_fields=[])
    strange = sorted({*raw.ravel().tolist()} - {*label_map})
    if strange:
        with pytest.raises(DataError, match=rf'has values outside the classes: {strange[0]}\b'):
            LoadLabels().transform(sample)
    else:
        read = LoadLabels().transform(sample)['gt_seg_map']
        assert read.tolist() == [[label_map[value] for value in row] for row in raw.tolist()]


@slow
@given(archs, st.booleans(), st.sampled_from(sorted(LAYOUTS)))
def test_every_name_goes_to_every_layout_and_back(arch, deploy, name):
    with torch.device('meta'):
        state = RepVGG(arch, deploy=deploy).state_dict()
    theirs = {LAYOUTS[name].from_own(key): value for key, value in state.items()}
    assert len(theirs) == len(state)
    ours, heads, layout = to_own_layout(theirs)
    assert list(ours) == list(state) and not heads and layout.is_fused(theirs) == deploy
    assert vars(arch_of(ours)) == vars(arch_of(state))
    assert (arch_of(ours).num_blocks, arch_of(ours).use_se) == (arch['num_blocks'], arch['use_se'])


@slow
@given(archs, st.booleans(), st.booleans(), seeds)
def test_a_checkpoint_is_converted_and_back_without_a_changed_byte(folder, arch, deploy, with_head, seed):
    torch.manual_seed(seed)
    model = randomize(RepVGG(arch, deploy=deploy))
    state = {f'backbone.{key}': value for key, value in model.state_dict().items()}
    if with_head:
        state |= {'head.fc.weight': torch.randn(5, model.out_channels[0]), 'head.fc.bias': torch.randn(5)}
    own, official, back = (folder / f'{name}.pth' for name in ('own', 'official', 'back'))
    torch.save(dict(state_dict=state), own)
    convert_checkpoint(str(own), official, 'official')
    convert_checkpoint(str(official), back)
    read = read_checkpoint(back)['state_dict']
    assert list(read) == list(state) and all(torch.equal(read[key], state[key]) for key in state)
