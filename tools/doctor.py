"""The same as repvgg-seg doctor."""
from repvgg_seg.commands.main import run

if __name__ == '__main__':
    run('doctor')
