"""The same as repvgg-seg check-data."""
from repvgg_seg.commands.main import run

if __name__ == '__main__':
    run('check-data')
