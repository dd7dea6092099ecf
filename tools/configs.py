"""The same as repvgg-seg configs."""
from repvgg_seg.commands.main import run

if __name__ == '__main__':
    run('configs')
