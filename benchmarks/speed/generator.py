"""Seconds and memory from speech to motion: the student against FaceFormer, on one core.

    python -m benchmarks.speed generator [--seconds 1 10 60] [--repeats 3] [--json OUT]

Both have the same speech encoder and answer in the same basis; their weights are random, which time does not depend on.
FaceFormer runs frame by frame over the whole utterance, each frame attending to all before it: as published, where for
each frame the whole past is decoded again, and as the kit has it, where only the newest frame is. For longer speech it
also runs in the kit's windows of 20 s, in which the student predicts too. Streamed, a student that looks half a second
ahead is fed a second at a time. Times are medians of processor time after a warm-up of 1 s of speech; memory is how far
the peak of a fresh process rises above what it held before.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avsr.errors import InputError
from avsr.media.timing import SAMPLE_RATE
from avsr.models.espnet import padding_mask
from avsr.parallel import worker_pool
from benchmarks.report import hardware
from talking3d.face.procedural import procedural_face
from talking3d.models.audio2mesh import Audio2Mesh, Audio2MeshConfig
from talking3d.models.faceformer import FaceFormer, FaceFormerConfig
from talking3d.models.motion_model import MotionModel, MotionModelConfig
from talking3d.models.speech_encoder import SpeechEncoderConfig
from talking3d.streaming import MotionStream

WARM_UP_S = 1.0
WINDOW_S = MotionModelConfig().window_s
WHOLE_S = 3600.0  # a window that no speech here fills


def student() -> MotionModel:
    """The student, all frames at once."""
    return _model(Audio2Mesh, Audio2MeshConfig())


def faceformer() -> MotionModel:
    """FaceFormer over the whole utterance."""
    return _model(FaceFormer, FaceFormerConfig(window_s=WHOLE_S))


def faceformer_in_windows() -> MotionModel:
    """FaceFormer in the kit's windows."""
    return _model(FaceFormer, FaceFormerConfig())


class PublishedFaceFormer(FaceFormer):
    """FaceFormer with the loop of its authors' code: the motion so far goes through the decoder for each new frame."""

    def coefficients(self, waveform: Tensor, lengths: Tensor, speakers: Tensor) -> Tensor:
        sound = self.encoder(waveform, lengths)
        motion = sound.new_zeros(len(sound), 0, len(self.mean))  # less the mean
        for t in range(sound.shape[1]):
            past = functional.pad(motion, (0, 0, 0, 1))
            frames = self.head(self.decoder.follow(sound[:, : t + 1], speakers, past))
            motion = torch.cat([motion, frames[:, -1:]], dim=1)
        return (self.mean + motion).masked_fill(padding_mask(lengths, sound.shape[1])[:, :, None], 0.0)


def published_faceformer() -> MotionModel:
    """FaceFormer over the whole utterance, its past decoded again for each frame."""
    return _model(PublishedFaceFormer, FaceFormerConfig(window_s=WHOLE_S))


class Streamed:
    """A model that is fed a second of speech at a time."""

    def __init__(self, model: MotionModel):
        self.model = model
        self.parameters = model.parameters

    def predict(self, waveform: np.ndarray) -> None:
        stream = MotionStream(self.model)
        for start in range(0, len(waveform), SAMPLE_RATE):
            stream.feed(waveform[start : start + SAMPLE_RATE])
        stream.finish()


def streamed_student() -> Streamed:
    """A student of a bounded view, streamed."""
    view = {"attention_past": 50, "attention_future": 5, "statistics_past_s": 3.0, "statistics_future_s": 0.16}
    return Streamed(_model(Audio2Mesh, Audio2MeshConfig(encoder=SpeechEncoderConfig(kernel=7, **view))))


def _model(kind: type[MotionModel], config: MotionModelConfig) -> MotionModel:
    torch.manual_seed(0)
    face = procedural_face()
    basis = face.articulation_basis
    return kind(config, basis, np.zeros(len(basis)), face, ["somebody"]).eval()


# Every way from speech to motion gets its rows: something with `predict`, and the speech from which on it is shown.
WAYS: dict[str, tuple[Callable[[], MotionModel | Streamed], float]] = {
    "student": (student, 0.0),
    "student, streamed": (streamed_student, 0.0),
    "FaceFormer": (faceformer, 0.0),
    "FaceFormer as published": (published_faceformer, 0.0),
    "FaceFormer in windows": (faceformer_in_windows, WINDOW_S),
}
BASELINE = "student"


def speech(seconds: float) -> np.ndarray:
    """(S,) noise at 16 kHz: time does not depend on what is said."""
    return np.random.default_rng(0).normal(size=round(seconds * SAMPLE_RATE)).astype(np.float32) * 0.1


def processor_s(model: MotionModel | Streamed, seconds: float, repeats: int) -> float:
    """Median seconds of processor time to predict `seconds` of speech."""
    waveform, times = speech(seconds), []
    for _ in range(repeats):
        began = time.process_time()
        model.predict(waveform)
        times.append(time.process_time() - began)
    return float(np.median(times))


def memory_growth_mb(way: str, seconds: float) -> float:
    """Megabytes by which the peak of this process, best a fresh one, rises while `seconds` of speech are predicted."""
    model = WAYS[way][0]()
    model.predict(speech(WARM_UP_S))
    waveform = speech(seconds)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status_kb("VmRSS")
    model.predict(waveform)
    return (_status_kb("VmHWM") - before) / 1024


def _status_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `measure`."""
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 10.0, 60.0], help="of speech")
    parser.add_argument("--repeats", type=int, default=3)


def measure(seconds: list[float] | tuple[float, ...] = (1.0, 10.0, 60.0), repeats: int = 3) -> dict:
    """Rows of way, speech_s, processor_s; the parameters and the peak memory growth of each way."""
    if min(seconds) <= 0 or repeats < 1:
        raise InputError(f"--seconds and --repeats must be above 0, got {seconds} and {repeats}")
    if max(seconds) > WHOLE_S:
        raise InputError(f"--seconds {max(seconds):g}: FaceFormer is measured without windows up to {WHOLE_S:g}")
    torch.set_num_threads(1)
    longest, load = max(seconds), os.getloadavg()[0]
    ways = [way for way, (_, above_s) in WAYS.items() if longest > above_s]
    rows, parameters, memory = [], {}, {}
    for way in ways:
        build, above_s = WAYS[way]
        model = build()
        parameters[way] = sum(parameter.numel() for parameter in model.parameters())
        model.predict(speech(WARM_UP_S))
        for length in seconds:
            if length > above_s:
                rows.append({"way": way, "speech_s": length, "processor_s": processor_s(model, length, repeats)})
        if sys.platform == "linux":  # where a process tells its own peak
            memory[way] = {}
            for length in seconds:
                if length > above_s:
                    with worker_pool(1) as pool:
                        memory[way][f"{length:g}"] = pool.submit(memory_growth_mb, way, length).result()
    return {
        "rows": rows,
        "parameters": parameters,
        "memory_mb": memory,
        "hardware": hardware(),
        "load_before": load,  # other work on the computer makes all of it slower
    }


def table(figures: dict) -> str:
    """The figures as two Markdown tables."""
    baseline = {row["speech_s"]: row["processor_s"] for row in figures["rows"] if row["way"] == BASELINE}
    lines = ["| speech | | seconds | x real time | times the student's |", "|---|---|---|---|---|"]
    for row in sorted(figures["rows"], key=lambda row: row["speech_s"]):
        length, took_s = row["speech_s"], row["processor_s"]
        lines.append(
            f"| {length:g} s | {row['way']} | {took_s:.3f} | {length / took_s:,.0f} | {took_s / baseline[length]:.1f} |"
        )
    lengths = [f"{length:g}" for length in sorted(baseline)]
    head = " | ".join(f"{length} s" for length in lengths)
    lines += ["", f"| peak memory growth, MB | parameters | {head} |", "|---|---|" + "---|" * len(lengths)]
    for way, count in figures["parameters"].items():
        grown = figures["memory_mb"].get(way, {})
        cells = " | ".join(f"{grown[length]:,.0f}" if length in grown else "" for length in lengths)
        lines.append(f"| {way} | {count / 1e6:.2f} M | {cells} |")
    lines.append(f"\nload before: {figures['load_before']:.1f}")
    return "\n".join(lines)
