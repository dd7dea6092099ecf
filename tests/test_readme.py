"""What README and docs name exists: configs, files and headings; and the config example builds."""
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / 'README.md', *sorted(ROOT.glob('[!R]*.md')), *sorted((ROOT / 'docs').glob('*.md'))]
README = DOCUMENTS[0].read_text()


@pytest.mark.parametrize('target', re.findall(r'^make (\w+)', README, re.MULTILINE))
def test_make_targets_exist(target):
    assert re.search(rf'^{target}:', (ROOT / 'Makefile').read_text(), re.MULTILINE)


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.stem)
def test_configs_files_and_links_exist(document):
    text = document.read_text()
    configs = re.findall(r'^\| `(\w+\.py)`', text, re.MULTILINE)
    paths = re.findall(r'`((?:configs|tools|tests|repvgg_seg)/[a-z0-9_/.]+\.\w+)', text)  # Not placeholders in capitals.
    links = [(document.parent / file if file else document, heading)
             for file, heading in re.findall(r'\]\((?!http)([^)\s#]*)#?([^)\s]*)\)', text)]
    wanted = [*(ROOT / 'configs' / name for name in configs), *(ROOT / path for path in paths), *(file for file, _ in links)]
    assert wanted and not [path for path in wanted if not path.exists()]
    assert not [f'{file.name}#{heading}' for file, heading in links if heading and heading not in anchors(file.read_text())]


def anchors(text: str) -> set[str]:
    """Of the headings of a document, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}


def test_example_builds():
    from mmseg.registry import MODELS
    scope: dict = {}
    exec(re.search(r'```python\n(model = .*?)```', README, re.DOTALL)[1], scope)
    model = ConfigDict(scope['model'])
    init_default_scope('mmseg')
    with torch.device('meta'):
        backbone, head = MODELS.build(model.backbone), MODELS.build(model.decode_head)
        assert head(backbone(torch.empty(2, 3, 65, 65))).shape == (2, 19, 9, 9)
