"""The same as repvgg-seg classify-test."""
from repvgg_seg.commands.main import run

if __name__ == '__main__':
    run('classify-test')
