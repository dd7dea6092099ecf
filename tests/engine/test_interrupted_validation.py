"""Where a run goes on from that is stopped while it validates."""
from pathlib import Path
from types import SimpleNamespace

from mmengine.fileio import LocalBackend

from repvgg_seg.engine.checkpointing import CheckpointHook


def stopped(folder: Path, held: dict[str, bytes]) -> str:
    """What a hook names to go on from that has written a checkpoint, or holds one that is not yet written."""
    hook = CheckpointHook()
    hook.out_dir, hook.file_backend, hook.last_ckpt = str(folder), LocalBackend(), 'epoch_3.pth'
    hook.validating, hook.held = True, held
    return hook.save_interrupted(SimpleNamespace(), 6)


def test_a_checkpoint_of_the_same_moment_is_used(tmp_path):
    assert stopped(tmp_path, {}) == 'epoch_3.pth' and not list(tmp_path.iterdir())


def test_a_held_checkpoint_is_written(tmp_path):
    assert stopped(tmp_path, {'any': b'state'}) == str(tmp_path / 'interrupted.pth')
    assert (tmp_path / 'interrupted.pth').read_bytes() == b'state'
