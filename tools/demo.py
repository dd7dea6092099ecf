"""The same as repvgg-seg demo."""
from repvgg_seg.commands.main import run

if __name__ == '__main__':
    run('demo')
