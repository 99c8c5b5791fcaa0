"""Learn2Talk: a student of 3D motion that also learns from what 2D talking faces know (arXiv 2404.12888).

    loss = vertex losses + sync of its motion with the sound + reading of its lips beside a teacher's

- *sync*: a frozen `SyncNet3D`, the expert: the sound's embeddings against those of the student's motion, and against
  the clip's shifted frames, from which it must be told apart;
- *lip reading*: the student's motion is drawn, differentiably, and a frozen visual front end looks at it and at the
  teacher's lips for the same sound; 1 - cosine of its frame-local features;
- *shape*: height and width of the mouth's opening beside the teacher's, so that lips don't over-open to be read;
- *dynamics*: how much the upper face moves in the course of an utterance, beside how much it truly moved: what sound
  tells of brows is little, and a mean over what they may do moves too little.

The authors found sync and lip reading "not harmonious": sync cost them 6-7 % of LVE. Here the terms are combined as
gradients at the student's output, where each is one array: a term's gradient is scaled to a stated share of the vertex
losses' gradient, whatever its unit, and the part of it that would undo these is taken out (as in PCGrad, Yu et al.,
NeurIPS 2020). Letters: B batch, T video frames, K basis size, V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from avsr.errors import InputError
from avsr.media.lips import SIZE
from avsr.models.espnet import padding_mask
from avsr.models.recognizer import Recognizer
from talking3d.face.template import FaceTemplate
from talking3d.models.audio2mesh import Audio2Mesh
from talking3d.models.syncnet3d import SyncNet3D
from talking3d.render.differentiable import Painter
from talking3d.render.look import Look
from talking3d.render.renderer import lip_shot

INPUT_SIZE = 88  # px: readers see the crop's middle
EDGE_FRAMES = 2  # whose features look beyond the drawn frames
MM = 1000.0


@dataclass
class Learn2TalkConfig:
    """The joint objective: who teaches, and how much each term says."""

    expert: str | None = None  # checkpoint of a SyncNet3D; None: no sync loss
    reader: str | None = None  # checkpoint of a recogniser with a visual front end; None: no lip-reading loss
    sync_share: float = 0.5  # size of a term's gradient against the vertex losses', at the student's output
    reading_share: float = 0.5
    shape_share: float = 0.1
    dynamics_share: float = 0.15
    harmonious: bool = True  # take out of a term what opposes the vertex losses
    drawn_frames: int = 24  # of one utterance of each batch: drawing is what takes time
    samples: int = 1  # a pixel and axis, of what is drawn for the reader

    def __post_init__(self):
        if min(self.sync_share, self.reading_share, self.shape_share, self.dynamics_share) < 0:
            raise InputError("learn2talk's shares must not be negative")
        if self.drawn_frames <= 2 * EDGE_FRAMES:
            raise InputError(f"learn2talk.drawn_frames is {self.drawn_frames}; it must be above {2 * EDGE_FRAMES}")


class Learn2Talk(nn.Module):
    """A student with its frozen teachers, to be trained; what is kept afterwards is `student`.

    Raises InputError where a teacher doesn't fit: an expert of another topology, a reader without a visual front end.
    """

    def __init__(self, config: Learn2TalkConfig, student: Audio2Mesh):
        super().__init__()
        self.config = config
        self.student = student
        teachers = {"expert": None, "reader": None}  # in a dict: not trained, not saved, not put into training mode
        if config.expert is not None:
            teachers["expert"] = SyncNet3D.from_pretrained(config.expert).requires_grad_(False)
            if teachers["expert"].template.topology_hash != student.template.topology_hash:
                raise InputError(
                    f"{config.expert} judges another topology than the student's {student.template.name!r}"
                )
        if config.reader is not None:
            reader = Recognizer.from_pretrained(config.reader)
            if reader.video is None:
                raise InputError(f"{config.reader} cannot read lips: it was made for {reader.config.modalities!r}")
            teachers["reader"] = reader.video.requires_grad_(False)
        self._teachers = teachers
        self._painters: dict[str, Painter] = {}

    def save_pretrained(self, folder: str | Path, state_dict: dict | None = None, facts: dict | None = None) -> None:
        """Write the student's checkpoint; state_dict: other weights of this module than its own."""
        state_dict = self.state_dict() if state_dict is None else state_dict
        student = {name.removeprefix("student."): value for name, value in state_dict.items()}
        self.student.save_pretrained(folder, student, {"objective": "Learn2Talk", **(facts or {})})

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """The terms of a batch. `loss` is the student's own as a number, and has the combined gradient in training."""
        output, terms = self.student.predict_with_losses(batch)
        if not self.training:
            return terms | self._extra(output, batch)
        leaf = output.detach().requires_grad_()
        extra = self._extra(leaf, batch)
        gradient = combine(
            torch.autograd.grad(terms["loss"], output, retain_graph=True)[0],
            [
                (getattr(self.config, f"{name}_share"), torch.autograd.grad(value, leaf, retain_graph=True)[0])
                for name, value in extra.items()
            ],
            self.config.harmonious,
        )
        added = (output * gradient).sum()
        return terms | extra | {"loss": terms["loss"] + added - added.detach()}

    def _extra(self, output: Tensor, batch: dict) -> dict[str, Tensor]:
        extra = {}
        if self._teachers["expert"] is not None:
            extra["sync"] = self._sync(output, batch)
        if self._teachers["reader"] is not None:
            extra["reading"] = self._reading(output, batch)
        if self.config.shape_share > 0:
            extra["shape"] = self._shape(output, batch)
        if self.config.dynamics_share > 0:
            extra["dynamics"] = self._dynamics(output, batch)
        return extra

    def _sync(self, output: Tensor, batch: dict) -> Tensor:
        """InfoNCE of each frame's sound over the student's motion and that motion shifted, by the expert."""
        expert, lengths = self._on(output.device, "expert"), batch["lengths"]
        motion = expert.embed_coefficients(output, lengths, self.student.basis[:, expert.lips])
        with torch.no_grad():
            audio = expert.embed_audio(batch["waveform"], lengths)
        scores, exists = expert.similarities(audio, motion, lengths)
        logits = (expert.log_scale.exp() * scores).masked_fill(~exists, -torch.inf)
        real = ~padding_mask(lengths, output.shape[1])
        target = torch.full((int(real.sum()),), expert.config.max_offset, device=output.device)
        return functional.cross_entropy(logits[real], target)

    def _reading(self, output: Tensor, batch: dict) -> Tensor:
        """1 - cosine between a reader's features of the student's drawn lips and of its teacher's, mean over frames.

        The teacher's lips are the batch's `lips`; without, the true motion's, drawn on the speaker's own face in the
        same light and cut alike.
        """
        reader = self._on(output.device, "reader")
        b, frames = self._drawn(batch["lengths"])
        painter = self._painter(batch["templates"][b], output.device)
        student, true = (self._offsets(motion[b, frames]) for motion in (output, batch["motion"]))
        shot = lip_shot(painter.template, true.detach().cpu().numpy(), None, painter.look)

        def features(lips: Tensor) -> Tensor:
            """Of lips (T, 96, 96) in 0..255 -> (T - 2 EDGE_FRAMES, D)."""
            margin = (SIZE - INPUT_SIZE) // 2
            seen = lips[None, :, margin : margin + INPUT_SIZE, margin : margin + INPUT_SIZE]
            return reader(seen, torch.tensor([len(lips)], device=lips.device))[0, EDGE_FRAMES:-EDGE_FRAMES]

        with torch.no_grad():
            taught = batch["lips"][b, frames].float() if "lips" in batch else 255 * painter.lips(true, None, shot)
            wanted = features(taught)
        drawn = features(255 * painter.lips(student, None, shot))
        return 1 - functional.cosine_similarity(drawn, wanted, dim=-1).mean()

    def _shape(self, output: Tensor, batch: dict) -> Tensor:
        """Squared error of the mouth opening's height and width, mm^2, mean over frames."""
        error = (output - batch["motion"]) @ self._opening(output.device)  # (B, T, 2)
        return error[~padding_mask(batch["lengths"], error.shape[1])].square().mean()

    def _dynamics(self, output: Tensor, batch: dict) -> Tensor:
        """Mean over utterances and upper-face vertices of |s - s_true|, mm^2, s the std over time of |offset|^2.

        FDD (`talking3d.metrics.fdd`) is made of the same differences.
        """
        upper_face = MM * self.student.basis[:, self.student.template.region("upper_face")]
        real = ~padding_mask(batch["lengths"], output.shape[1])
        moved, wanted = (
            _spread((motion @ upper_face.flatten(1)).unflatten(-1, (-1, 3)).square().sum(-1), real)
            for motion in (output, batch["motion"])
        )
        return (moved - wanted).abs().mean()

    def _opening(self, device: torch.device) -> Tensor:
        """(K, 2) mm: what each component of the basis adds to the inner lips' gap and to the mouth's width."""
        upper, lower, left, right = (int(v) for v in self.student.template.landmarks[[62, 66, 48, 54]])
        basis = self.student.basis
        return MM * torch.stack(
            [basis[:, upper, 1] - basis[:, lower, 1], basis[:, right, 0] - basis[:, left, 0]], dim=1
        )

    def _drawn(self, lengths: Tensor) -> tuple[int, slice]:
        """The utterance of a batch that is drawn, and which of its frames: at random, evenly over all frames."""
        b = int(torch.multinomial(lengths.float(), 1))
        n_frames = min(self.config.drawn_frames, int(lengths[b]))
        start = int(torch.randint(0, int(lengths[b]) - n_frames + 1, ()))
        return b, slice(start, start + n_frames)

    def _offsets(self, coefficients: Tensor) -> Tensor:
        return torch.einsum("tk,kvx->tvx", coefficients, self.student.basis)

    def _painter(self, template: str, device: torch.device) -> Painter:
        if template not in self._painters:
            face = FaceTemplate.load(template)
            self._painters[template] = Painter(face, Look(), samples=self.config.samples).to(device)
        return self._painters[template]

    def _on(self, device: torch.device, teacher: str) -> nn.Module:
        self._teachers[teacher] = self._teachers[teacher].to(device)
        return self._teachers[teacher]


def _spread(values: Tensor, real: Tensor) -> Tensor:
    """Standard deviation (B, V) over the real (B, T) frames of values (B, T, V)."""
    weight = (real / real.sum(1, keepdim=True))[:, :, None]
    mean = (weight * values).sum(1, keepdim=True)
    return (weight * (values - mean).square()).sum(1).clamp(min=1e-12).sqrt()


def combine(base: Tensor, terms: list[tuple[float, Tensor]], harmonious: bool) -> Tensor:
    """What the terms add to the gradient `base`: each scaled to (share, gradient)'s share of base's norm.

    harmonious: first take out of a term its component against `base`, so that to first order it never raises what
    `base` lowers. A term without gradient adds none.
    """
    added, size = torch.zeros_like(base), base.norm()
    for share, gradient in terms:
        if harmonious:
            against = (gradient * base).sum().clamp(max=0)
            gradient = gradient - against / size.square().clamp(min=1e-20) * base
        added = added + share * size / gradient.norm().clamp(min=1e-12) * gradient
    return added
