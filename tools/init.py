"""The same as repvgg-seg init."""
from repvgg_seg.commands.main import run

if __name__ == '__main__':
    run('init')
