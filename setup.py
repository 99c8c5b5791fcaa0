"""LipLoop: speech to 3D faces to lips to text, in one loop."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "avsr" / "__init__.py").read_text()).group(1)

setup(
    name="liploop",
    version=VERSION,
    description="Speech in, a 3D face speaks it, its lips are rendered, an audio-visual recogniser reads them back.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=["avsr*", "talking3d*", "benchmarks*"]),
    package_data={"benchmarks": ["page.html"]},
    install_requires=[
        "torch==2.11.0",
        "torchaudio==2.11.0",
        "torchvision==0.26.0",
        "espnet==202511",
        "accelerate>=1.15",
        "av>=18",
        "datasets>=5",
        "huggingface_hub>=2",
        "jinja2>=3.1",
        "jiwer>=4",
        "markdown>=3.5",
        "matplotlib>=3.10",
        "numba>=0.68",
        "numpy>=2",
        "omegaconf>=2.3",
        "opencv-python-headless>=4.8,<5",
        "safetensors>=0.8",
        "scipy>=1.11",
        "sentencepiece>=0.2",
        "soundfile>=0.13",
        "tensorboard>=2.20",
        "tqdm>=4.67",
        "trimesh>=5",
    ],
    extras_require={
        "synth": ["espeakng-loader>=0.2.4"],
        "landmarks": ["dlib-bin>=20", "face_recognition_models>=0.3"],
        "mediapipe": ["mediapipe>=0.10.14"],
        "test": ["pytest>=9", "pytest-timeout>=2.4", "pytest-xdist>=3.8", "ruff>=0.17"],
    },
    entry_points={"console_scripts": ["avsr = avsr.cli:main", "talking3d = talking3d.cli:main"]},
)
