"""The same as repvgg-seg plot-curves."""
from repvgg_seg.commands.main import run

if __name__ == '__main__':
    run('plot-curves')
