"""Pushing a deployed folder to the Hugging Face hub, with a model card made from its report."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.command_names import command
from ..core.errors import UserError
from ..core.hub import PREFIX, SOURCE, first_line, hub_and_failures, required
from ..core.tasks import SEGMENTATION
from ..runtime.backends import parts_of
from ..runtime.predictor import check_hash
from ..runtime.report import REPORT, read_report
from .formats import FORMATS
from .tasks import TASKS

CARD = 'README.md'
PIPELINES = {SEGMENTATION: 'image-segmentation'}  # The hub's name of a task; that of other tasks is image-classification.


def push(folder: Path, repository: str, private: bool = False) -> str:
    """Push a deployed folder as one commit that replaces an earlier deployment; the repository is created if necessary.

    Args:
        folder: folder that ``repvgg-seg deploy`` wrote.
        repository: ``OWNER/NAME``.
        private: whether a repository that is created is private.

    Returns:
        Address of the commit.

    Raises:
        UserError: the folder is not a deployed one, a file in it was changed, or the hub refuses the request.
        InstallationError: huggingface_hub is not installed.
    """
    match = SOURCE.fullmatch(PREFIX + repository)
    if not match or match['revision'] or match['file']:
        raise UserError(f'{repository} is no name of a repository; expected OWNER/NAME')
    report = read_report(folder)
    paths = deployed_files(folder, report)
    hub, failures = hub_and_failures()
    commits = required('huggingface_hub')
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        found = hub.repo_info(repository)
        if private and not found.private:
            raise UserError(f'{repository} exists and is public; leave --private out, or choose another name')
        written = {path.relative_to(folder).as_posix(): path for path in paths}
        stale = [name for name in (file.rfilename for file in found.siblings)
                 if name.startswith('model.') and name not in written]
        commit = hub.create_commit(repository, [
            commits.CommitOperationAdd(CARD, model_card(report, repository).encode()),
            *(commits.CommitOperationAdd(name, path) for name, path in written.items()),
            *(commits.CommitOperationDelete(name) for name in stale)], commit_message='Deploy with repvgg_seg')
    except UserError:
        raise
    except failures as error:
        raise UserError(f'{folder} cannot be pushed to {repository} ({first_line(error)}); if the hub does not know you, run: '
                        'hf auth login') from None
    return commit.commit_url


def deployed_files(folder: Path, report: Mapping) -> list[Path]:
    """The files of a deployed folder, of which none was changed since.

    Raises:
        UserError: a file is missing or was changed.
    """
    artifacts = report['artefacts']
    beside = [name for entry in artifacts.values() if entry.get('format') in FORMATS
              for name in FORMATS[entry['format']].names_beside]
    hashes = {**report.get('files', {}), **{name: entry.get('sha256') for name, entry in artifacts.items()},
              **dict.fromkeys(beside)}
    paths = [folder / REPORT]
    for name, expected in hashes.items():
        if not (folder / name).exists():
            raise UserError(f'{folder} has no {name}, which belongs to it; write it again with {command("deploy")}')
        check_hash(folder / name, expected)
        paths += parts_of(folder / name)
    return paths


def model_card(report: Mapping[str, Any], repository: str) -> str:
    """Write the model card of a deployed folder: what the model is, how it was checked, and how it is used."""
    task = report.get('task', SEGMENTATION)
    metric, unit = TASKS[task].metric, report['unit']
    heads = ('file', 'precision', 'image size', f'changed {unit}', metric.title, 'MB')
    rows = [f'| {" | ".join(heads)} |', '| --- ' * len(heads) + '|']
    if report.get('files'):
        rows.append(f'| fused weights | fp32 | any | {report["changed"]:.4%} | {_number(report.get(f"{metric.key}_after"))} | '
                    f'{report["bytes_after"] / 1e6:.1f} |')
    for name, entry in report['artefacts'].items():
        size = 'x'.join(map(str, entry['size'])) if entry['size'] else 'any'
        rows.append(f'| `{name}` | {entry["precision"]} | {size} | {entry["changed"]:.4%} | {_number(entry.get(metric.key))} | '
                    f'{entry["bytes"] / 1e6:.1f} |')
    before = report.get(f'{metric.key}_before')
    checked = f'{report["images"]} {"real" if report["real_images"] else "random"} image(s)'
    if before is not None:
        checked += f'; the trained model has {metric.title} {before:.2f} on {report["evaluated_images"]} images'
    classes = ', '.join(f'{index} {name}' for index, name in enumerate(report.get('classes', ())))
    order = report.get('channels') or f'{report.get("in_channels")} channels'
    load = f'''
```python
from huggingface_hub import snapshot_download
from repvgg_seg.deploy.runtime import load

predictor = load(snapshot_download({repository!r}))
labels = predictor(image)  # {order}, {report['dtype']} (H, W, {report['in_channels']})
```
''' if report['artefacts'] else ''
    return f'''---
library_name: repvgg_seg
pipeline_tag: {PIPELINES.get(task, 'image-classification')}
tags: [repvgg, {task}]
---

# {repository.partition('/')[2]}

A {task} model, fused and exported by repvgg_seg {report['repvgg_seg_version']}.

{chr(10).join(rows)}

Every file was compared with the trained model on {checked}. `{REPORT}` lists every check.

Classes: {classes or 'see the config'}.

## Use
{load}
With the config that it was trained with:

    repvgg-seg {'test' if task == SEGMENTATION else 'classify-test'} CONFIG hf://{repository}
'''


def _number(value: float | None) -> str:
    return '' if value is None else f'{value:.2f}'
