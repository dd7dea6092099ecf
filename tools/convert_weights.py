"""The same as repvgg-seg convert-weights."""
from repvgg_seg.commands.main import run

if __name__ == '__main__':
    run('convert-weights')
