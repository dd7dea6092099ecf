"""The same as repvgg-seg train-ablations."""
from repvgg_seg.commands.main import run

if __name__ == '__main__':
    run('train-ablations')
