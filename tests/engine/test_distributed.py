"""Two gloo processes on the CPU, as torchrun starts them: equal weights, every validation image counted once."""
import json
from pathlib import Path

import pytest
from processes import start_ranks

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
CHECK = """
import hashlib, json, sys
import torch, torch.distributed as dist
from pathlib import Path
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric
from repvgg_seg.engine.segmentation import train_segmentor

pixels = []
compute = IoUMetric.compute_metrics
def counted(self, results):
    pixels.append([len(results), float(sum(result[3].sum() for result in results))])
    return compute(self, results)
IoUMetric.compute_metrics = counted
runners = []
build = Runner.from_cfg.__func__
Runner.from_cfg = classmethod(lambda cls, config: runners.append(build(cls, config)) or runners[-1])

config = Config.fromfile(sys.argv[1])
config.launcher, config.work_dir = 'pytorch', sys.argv[2]
train_segmentor(config)
weights = torch.cat([value.double().flatten() for value in runners[0].model.module.state_dict().values()])
norms = sorted({type(module).__name__ for module in runners[0].model.modules() if 'Norm' in type(module).__name__})
Path(sys.argv[2], f'rank{dist.get_rank()}.json').write_text(json.dumps(dict(
    digest=hashlib.sha256(weights.numpy().tobytes()).hexdigest(), pixels=pixels, norms=norms,
    parameters=hashlib.sha256(b''.join(p.detach().numpy().tobytes() for p in runners[0].model.parameters())).hexdigest())))
"""


@pytest.fixture(scope='module')
def ranks(tmp_path_factory) -> list[dict]:
    """What each of two processes saw when they trained together on 4 images and validated on 3."""
    from repvgg_seg.datasets.toy import write_toy_streets
    folder = tmp_path_factory.mktemp('distributed')
    write_toy_streets(folder / 'streets', dict(train=4, val=3), 48, 64)
    (folder / 'check.py').write_text(CHECK)
    (folder / 'config.py').write_text(f"""
_base_ = '{ROOT}/configs/pspnet_repvgg_a0_toystreets.py'
loss = dict(class_weight=None)  # MMSegmentation 1.2.2 cannot have them beside ignored pixels.
model = dict(data_preprocessor=dict(size=(48, 64)),
             backbone=dict(arch=dict(_delete_=True, num_blocks=(1, 1, 1, 1), width_factors=(0.125, 0.125, 0.125, 0.125))),
             decode_head=dict(in_channels=64, channels=16, loss_decode=loss),
             auxiliary_head=dict(in_channels=32, channels=16, loss_decode=loss))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root='{folder}/streets'))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{folder}/streets'))
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(checkpoint=dict(save_best=None))
""")
    processes = start_ranks(folder / 'check.py', folder / 'config.py', folder)
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output[-3000:]
    return [json.loads((folder / f'rank{rank}.json').read_text()) for rank in range(2)]


def test_parameters_and_statistics_are_equal_on_both_ranks(ranks):
    assert ranks[0]['parameters'] == ranks[1]['parameters']
    assert ranks[0]['digest'] == ranks[1]['digest']


def test_every_validation_image_counts_once(ranks):
    # The metric is computed on rank 0 over the results of both.
    (images, pixels), = ranks[0]['pixels']
    assert images == 3 and 0 < pixels <= 3 * 48 * 64


def test_batch_norm_is_plain_on_a_cpu(ranks):
    assert ranks[0]['norms'] == ['BatchNorm2d']
