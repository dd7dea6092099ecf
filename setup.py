"""Packaging. PyTorch, OpenCV and the OpenMMLab packages are an extra, so that an environment keeps those it has."""
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
LEFT_TO_THE_USER = ('torch', 'opencv', 'onedl-')


def requirements() -> tuple[list[str], list[str]]:
    """requirements.txt, split into what every installation gets and what it may have in another version or build."""
    lines = [line.split('#')[0].strip() for line in (HERE / 'requirements.txt').read_text().splitlines()]
    lines = [line for line in lines if line]
    return ([line for line in lines if not line.startswith(LEFT_TO_THE_USER)],
            [line for line in lines if line.startswith(LEFT_TO_THE_USER)])


def data_packages() -> list[str]:
    """Folders of files that are not imported, which setuptools takes for packages nevertheless."""
    configs = sorted({path.parent.relative_to(HERE) for path in (HERE / 'configs').rglob('*.py')})
    return [*(f'repvgg_seg.{".".join(folder.parts)}' for folder in configs), 'repvgg_seg.deploy.quick_demo_model']


BASE, MM_PACKAGES = requirements()
FORMATS = {
    'onnx': ['onnx', 'onnxscript', 'onnxruntime'],
    'openvino': ['onnx', 'onnxscript', 'openvino', 'nncf'],
    'ncnn': ['ncnn', 'pnnx'],
}
setup(
    packages=[*find_packages(include=['repvgg_seg', 'repvgg_seg.*']), *data_packages()],
    package_dir={'repvgg_seg.configs': 'configs'},
    package_data={'': ['*.py'], 'repvgg_seg': ['py.typed'], 'repvgg_seg.core': ['page/*'], 'repvgg_seg.deploy': ['page/*'],
                  'repvgg_seg.deploy.quick_demo_model': ['*'], 'repvgg_seg.engine.report': ['page.*'],
                  'repvgg_seg.serving': ['page/*']},
    entry_points={'console_scripts': ['repvgg-seg = repvgg_seg.commands.main:main']},
    install_requires=BASE,
    extras_require={
        'mm': MM_PACKAGES,
        **FORMATS,
        'litert': ['litert-torch', 'ai-edge-litert'],
        'executorch': ['executorch'],
        'coreml': ['coremltools'],
        'export': sorted({package for packages in FORMATS.values() for package in packages}),
        'hub': ['huggingface_hub>=1', 'safetensors'],
        'labels': ['pycocotools'],
        'logging': ['tensorboard', 'wandb', 'mlflow'],
        'tiff': ['tifffile', 'imagecodecs'],
        'serve': ['fastapi', 'uvicorn'],
        'test': ['coremltools', 'fastapi', 'uvicorn', 'httpx', 'huggingface_hub>=1', 'safetensors', 'pycocotools', 'pytest>=9',
                 'pytest-xdist', 'hypothesis', 'onnxslim', 'tensorboard', 'tifffile', 'timm', 'ruff', 'mypy'],
    })
