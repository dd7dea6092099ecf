"""The same as repvgg-seg push."""
from repvgg_seg.commands.main import run

if __name__ == '__main__':
    run('push')
