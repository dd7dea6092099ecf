"""Serve an exported segmentor over HTTP: repvgg-seg serve EXPORTED"""
import sys
from collections.abc import Sequence

from ..core.command_names import command
from ..serving.limits import DEFAULT_LIMITS, Limits
from ..serving.running import serve
from . import cli, numeric


def parser() -> cli.Parser:
    parser = cli.plain_parser('serve', 'Serve an exported segmentor over HTTP: a page to try it with pictures or a webcam, and '
                              'an interface for programs, described at /docs')
    parser.add_argument('exported', metavar='EXPORTED', help=f'folder that {command("deploy")} wrote, or a file in it')
    parser.add_argument('--host', default='127.0.0.1', help='address to bind; 0.0.0.0 lets other machines connect (default: '
                        '127.0.0.1, only this machine)')
    parser.add_argument('--port', type=numeric.port, default=8000, help='0 for any free one (default: 8000)')
    parser.add_argument('--threads', type=numeric.positive, help='of the CPU for the network (default: the backend decides)')
    parser.add_argument('--batch', type=numeric.positive, default=4,
                        help='pictures of one size that are segmented at once, if as many wait (default: 4)')
    parser.add_argument('--callers', type=numeric.positive, default=1, metavar='N',
                        help='runs of the network at the same time, for many clients; OpenVINO then divides the threads '
                        'between them (default: 1)')
    parser.add_argument('--tile', nargs=2, type=numeric.positive, metavar=('H', 'W'),
                        help='split larger pictures into windows of this size')
    parser.add_argument('--max-bytes', type=numeric.positive, default=DEFAULT_LIMITS.bytes, metavar='N',
                        help=f'largest file (default: {DEFAULT_LIMITS.bytes})')
    parser.add_argument('--max-pixels', type=numeric.positive, default=DEFAULT_LIMITS.pixels, metavar='N',
                        help=f'largest height times width of a picture (default: {DEFAULT_LIMITS.pixels})')
    parser.add_argument('--queue', type=numeric.positive, default=DEFAULT_LIMITS.queue, metavar='N',
                        help=f'requests in progress, further ones get the status 503 (default: {DEFAULT_LIMITS.queue})')
    parser.add_argument('--timeout', type=numeric.positive, default=DEFAULT_LIMITS.seconds, metavar='SECONDS',
                        help=f'to receive a picture, and to answer it (default: {DEFAULT_LIMITS.seconds})')
    cli.add_trust(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    limits = Limits(args.max_bytes, args.max_pixels, args.queue, args.timeout)

    def ready(url: str) -> None:
        cli.write(f'Serving {args.exported} at {url}, described at {url}/docs; stop with Ctrl-C')
        sys.stdout.flush()

    serve(args.exported, args.host, args.port, limits, args.batch, args.tile and tuple(args.tile), args.threads,
          args.callers, args.trust_checkpoint, ready)
    cli.write('Stopped')
