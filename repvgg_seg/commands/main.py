"""``repvgg-seg VERB`` and ``python -m repvgg_seg VERB``: find the command and run it."""
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple

from .. import __version__
from . import cli

RESUME = 'continue with --resume'


class Verb(NamedTuple):
    """A command, implemented by the module with its name in this folder.

    Args:
        what: description of the command.
        needs: import names of the OpenMMLab packages without which it cannot start.
        go_on: how the user continues after the command was stopped.
    """
    what: str
    needs: tuple[str, ...] = ('mmengine', 'mmcv')
    go_on: str = 'give the command again'


VERBS = {
    'init': Verb('write a config for a folder of your own images and labels'),
    'train': Verb('train a segmentor', go_on=RESUME),
    'test': Verb('evaluate a segmentor'),
    'predict': Verb('segment images with a trained or exported model'),
    'deploy': Verb('fuse a trained model, export it, and compare every file with the trained model'),
    'prune': Verb('remove channels of a trained segmentor, for fine-tuning'),
    'push': Verb('push a deployed folder to the Hugging Face hub'),
    'serve': Verb('serve an exported model over HTTP, with a page to try it', needs=()),
    'classify-train': Verb('train a classifier, such as a backbone for segmentation', go_on=RESUME),
    'classify-test': Verb('evaluate a classifier'),
    'train-ablations': Verb("train the variants of the paper's Tables 6 and 7", go_on='give the command again to continue'),
    'make-labels': Verb('make label files from the polygons of LabelMe or COCO'),
    'check-data': Verb('check the images and labels of the datasets of a config'),
    'convert-weights': Verb('convert RepVGG weights between layouts'),
    'plot-curves': Verb('plot losses and metrics of training runs'),
    'benchmark': Verb('measure speed, memory and complexity'),
    'doctor': Verb('check the installation and suggest fixes', needs=()),
    'configs': Verb('list the configs that come with the package, or copy one', needs=()),
    'demo': Verb('train, evaluate, fuse and predict on drawn streets; --quick shows a trained model at once'),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        arguments: verb and arguments of the command; by default those of the process.
    """
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or ['--help']
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
        verb: key of :data:`VERBS`.
        arguments: arguments of the command; by default those of the process, as for ``tools/VERB.py``.
    """
    module = import_module(f'.{verb.replace("-", "_")}', __package__)
    cli.run(lambda: module.main(arguments), VERBS[verb].needs, VERBS[verb].go_on)


def usage() -> str:
    """Text of ``--help``, which lists the commands."""
    width = max(map(len, VERBS))
    lines = [f'  {name:<{width}}  {verb.what}' for name, verb in VERBS.items()]
    return '\n'.join([
        'usage: repvgg-seg VERB [ARGUMENTS]', '', 'RepVGG for semantic segmentation. Commands:', '', *lines, '',
        'repvgg-seg VERB --help explains a command; a CONFIG is a path, or a name from repvgg-seg configs.'])
