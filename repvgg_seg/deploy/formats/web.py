"""ONNX files with a page that runs them in a browser, by onnxruntime-web."""
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, cast

from ...core.errors import InstallationError, UserError, some
from ...core.segmentation_page import PAGE, page_html
from ...core.tasks import SEGMENTATION
from ..quantization import quantize_onnx, through_onnx
from .format import Format
from .onnx import export

if TYPE_CHECKING:
    from ..plan import DeployPlan

PACKAGE = 'onnxruntime-web'
VERSION = '1.30.0'  # That the page is tested with.
OPTIONS = ('--loglevel=error', '--ignore-scripts', '--fetch-retries=1')  # Of npm pack.
DIST = 'dist'  # Folder of the package that has the following files.
SCRIPT = 'ort.wasm.min.js'
RUNTIME = (SCRIPT, 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm')
SOURCES = {'page.css': PAGE, 'page.js': PAGE, 'network.js': Path(__file__).parents[1] / 'page'}
INDEX = 'index.html'
# The page loads nothing from other hosts.
POLICY = ("default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:; media-src 'self' blob:; "
          "object-src 'none'; base-uri 'none'")


def site(plan: 'DeployPlan') -> dict[str, bytes]:
    """The page and what it needs besides the network, by file name.

    Raises:
        UserError: the page cannot show what the network takes or returns, or onnxruntime-web is not where it should be.
        InstallationError: npm is not installed.
    """
    if plan.request.logits:
        raise UserError('web shows classes, but --logits returns scores; leave one of them out')
    if plan.normalization.channels != 3:
        raise UserError(f'web is for images of 3 channels, this segmentor takes {plan.normalization.channels}; leave web out')
    folder = plan.request.onnxruntime_web
    runtime = downloaded() if folder is None else read_runtime(Path(folder))
    html = page_html('', [SCRIPT, 'network.js'], {}, 'They stay in this browser.', POLICY)
    return {INDEX: html.encode(), **{name: (place / name).read_bytes() for name, place in SOURCES.items()}, **runtime}


def read_runtime(folder: Path) -> dict[str, bytes]:
    """Read the files of onnxruntime-web from the folder of the package.

    Raises:
        UserError: one is missing.
    """
    if missing := [name for name in RUNTIME if not (folder / DIST / name).is_file()]:
        raise UserError(f'--onnxruntime-web {folder} has no {some(f"{DIST}/{name}" for name in missing)}; expected the folder '
                        f'of the package, such as node_modules/{PACKAGE} after: npm install {PACKAGE}@{VERSION}')
    return {name: (folder / DIST / name).read_bytes() for name in RUNTIME}


def downloaded() -> dict[str, bytes]:
    """Download the files of onnxruntime-web with npm, which checks their hash and runs no script of the package.

    Raises:
        UserError: npm cannot download the package.
        InstallationError: npm is not installed.
    """
    alternative = f'give the folder of the package {PACKAGE} with --onnxruntime-web FOLDER'
    npm = shutil.which('npm')
    if npm is None:
        raise InstallationError(f'web needs {PACKAGE}, which npm downloads, but npm is not installed; install it, or '
                                f'{alternative}')
    failure = f'npm cannot download {PACKAGE}@{VERSION} ({{}}); try again, or {alternative}'
    with TemporaryDirectory() as temporary:
        done = subprocess.run([npm, 'pack', *OPTIONS, f'{PACKAGE}@{VERSION}'], cwd=temporary, capture_output=True, text=True)
        if done.returncode:
            reasons = done.stderr.strip().splitlines()
            raise UserError(failure.format(reasons[0] if reasons else f'it ended with code {done.returncode}'))
        archive, = Path(temporary).glob('*.tgz')
        with tarfile.open(archive) as members:
            names = {member.name: member for member in members if member.isfile()}
            found = {}
            for name in RUNTIME:
                if (member := names.get(f'package/{DIST}/{name}')) is None:
                    raise UserError(failure.format(f'it has no {DIST}/{name}'))
                found[name] = cast(IO[bytes], members.extractfile(member)).read()
            return found


FORMAT = Format('.web.onnx', ('fp32', 'int8'), export, ('onnx', 'onnxscript', 'onnxruntime'), 'onnx',
                through_onnx(quantize_onnx), batches=False, dtypes=('uint8', ), tasks=(SEGMENTATION, ), abstains=True,
                beside=site, names_beside=(INDEX, *SOURCES, *RUNTIME))
