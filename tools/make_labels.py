"""The same as repvgg-seg make-labels."""
from repvgg_seg.commands.main import run

if __name__ == '__main__':
    run('make-labels')
