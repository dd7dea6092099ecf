"""``repvgg-seg VERB``, and ``python -m repvgg_seg VERB``: finds the command and runs it."""
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from .. import __version__
from . import cli

# What each command does. Its module in this folder has the same name, with underscores.
VERBS = {
    'train': 'train a segmentor',
    'test': 'evaluate a segmentor',
    'predict': 'segment images with a trained or exported model',
    'deploy': 'fuse a trained model, export it, and check every file against the trained model',
    'classify-train': 'train a classifier, such as a backbone for segmentation',
    'classify-test': 'evaluate a classifier',
    'train-ablations': "train the variants of the paper's Tables 6 and 7",
    'check-data': 'check the images and labels of the datasets of a config',
    'convert-weights': 'convert RepVGG weights between layouts',
    'plot-curves': 'plot losses and metrics of training runs',
    'benchmark': 'measure speed, memory and complexity, side by side',
    'doctor': 'check the installation and suggest fixes',
    'configs': 'list the configs that come with the package, or copy one',
    'demo': 'train, evaluate, fuse and predict on drawn streets; --quick shows a trained model at once',
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        arguments: the verb and its own arguments; by default those of the process.
    """
    verb, *rest = sys.argv[1:] if arguments is None else arguments or ['--help']
    if verb in VERBS:
        run(verb, rest)
    elif verb in ('-h', '--help'):
        sys.stdout.write(f'{usage()}\n')
    elif verb == '--version':
        sys.stdout.write(f'repvgg_seg {__version__}\n')
    else:
        nearest = get_close_matches(verb, VERBS, n=1)
        cli.stop(f'unknown command {verb}; expected one of {", ".join(VERBS)}'
                 + (f'; did you mean {nearest[0]}?' if nearest else ''))


def run(verb: str, arguments: Sequence[str] | None = None) -> None:
    """Run the command of a verb.

    Args:
        verb: one of :data:`VERBS`.
        arguments: of the command; by default those of the process, as for ``tools/VERB.py``.
    """
    module = import_module(f'.{verb.replace("-", "_")}', __package__)
    cli.run(lambda: module.main(arguments), module.NEEDS)


def usage() -> str:
    """The commands, as ``--help`` lists them."""
    width = max(map(len, VERBS))
    lines = [f'  {verb:<{width}}  {what}' for verb, what in VERBS.items()]
    return '\n'.join([
        'usage: repvgg-seg VERB [ARGUMENTS]', '', 'RepVGG for semantic segmentation. Commands:', '', *lines, '',
        'repvgg-seg VERB --help explains a command; a CONFIG is a path, or a name from repvgg-seg configs.'])
