"""From any video or sound file to text: the face found, long recordings cut at pauses, each piece decoded.

Letters: S samples, T video frames.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from avsr.data.arrays import MISMATCH_FRAMES
from avsr.data.augment import CROP, centre_crop
from avsr.data.dataset import UNLABELLED, collate
from avsr.data.prepare import MIN_FOUND, VIDEO_SUFFIXES
from avsr.decode import DecodeConfig, Hypothesis, decode_batch
from avsr.errors import InputError
from avsr.media.audio import SILENT_PEAK, check_waveform, read_audio
from avsr.media.landmarks import Landmarks, NoFaceError, detect_landmarks
from avsr.media.lips import crop_lips
from avsr.media.timing import FPS, SAMPLES_PER_FRAME, frames_of, samples_of
from avsr.media.video import has_audio, has_video, stream_frames
from avsr.models.recognizer import Recognizer

logger = logging.getLogger(__name__)

MEDIA_SUFFIXES = (*VIDEO_SUFFIXES, ".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac")
MAX_PIECE_S = 30.0  # of recognisers that were trained on long utterances, or on what is not known
PAUSE_FRAMES = 8  # over which the level is averaged where a pause is looked for
SHORTEST_LOSS_FRAMES = 5  # a face that is away for less is interpolated and not worth a word


@dataclass(frozen=True)
class Transcript(Hypothesis):
    """What was understood of a file; its utt_id is the file's name without suffix.

    face_share: frames that show a face, of all; None where none was looked for.
    no_face: from and to where no face is seen for 0.2 s or more, in seconds.
    warnings: what the file lacks, in words.
    """

    face_share: float | None = None
    no_face: list[tuple[float, float]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict:
        """Everything but the name, as plain lists and dicts for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "utt_id"}


class Transcriber:
    """A recogniser that takes files: a video is cropped to its lips first, a sound file is heard only.

    transcriber = Transcriber.from_pretrained("checkpoint")
    print(transcriber("clip.mp4").text)

    A recording longer than `max_piece_s` is cut in pauses of its sound, or of its mouth where it is not heard. None is
    the longest utterance of the recogniser's training, as it reads longer ones badly, and 30 s at most. Memory holds
    the recording's sound, its landmarks and the pictures of one piece.
    """

    def __init__(self, model: Recognizer, max_piece_s: float | None = None):
        if max_piece_s is None:
            longest_s = model.config.longest_s
            max_piece_s = MAX_PIECE_S if longest_s is None else min(MAX_PIECE_S, max(1.0, longest_s))
        if not max_piece_s >= 1.0:
            raise InputError(f"max_piece_s must be 1 second or more, got {max_piece_s}")
        self.model = model
        self.max_frames = int(max_piece_s * FPS)

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path, max_piece_s: float | None = None) -> Transcriber:
        """Load a recogniser's checkpoint folder."""
        return cls(Recognizer.from_pretrained(folder_or_hub_id), max_piece_s)

    def __call__(self, path: str | Path, config: DecodeConfig | None = None) -> Transcript:
        """Transcribe a video or sound file.

        Where a video shows no face, or its sound is silent, the other stream is read alone, which is a warning. So is a
        face that is lost for a while; a piece of which half shows no face is read without its lips.

        Raises InputError: a file that can't be read, one without a stream that `config.modality` or the recogniser
        needs, a video without a face or a silent sound where nothing else can be read.
        """
        path, config = Path(path), config or DecodeConfig()
        modality = self.model.usable(config.modality)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        warnings: list[str] = []
        waveform = read_audio(path) if "a" in modality and has_audio(path) else None
        faces = None
        looked_for = "v" in modality and has_video(path)
        if looked_for:
            try:
                faces = detect_landmarks(stream_frames(path, gray=True), where=path)
            except NoFaceError:
                if waveform is None:
                    raise
                warnings.append("no face found; transcribed from the sound alone")
        if waveform is None and faces is None:
            raise InputError(f"{path}: neither sound nor lips to transcribe")
        n_frames = _common_length(waveform, faces, warnings)
        face_share, no_face = (0.0, [(0.0, n_frames / FPS)]) if looked_for else (None, [])
        if faces is not None:
            face_share, no_face = float(faces.found.mean()), spans_without(faces.found)
        if faces is not None and no_face:
            warnings.append(f"no face in {1 - face_share:.0%} of the frames, {_in_words(no_face)}")
        pieces = self._decode_pieces(path, waveform, faces, n_frames, config, warnings)
        for warning in warnings:
            logger.warning("%s: %s", path, warning)
        nbest = join_nbest([piece.nbest or [(piece.text, piece.score)] for piece in pieces], config.n_best)
        return Transcript(
            utt_id=path.stem,
            text=nbest[0][0],
            score=nbest[0][1],
            words=[word for piece in pieces for word in piece.words],
            nbest=nbest,
            face_share=face_share,
            no_face=no_face,
            warnings=warnings,
        )

    def transcribe(
        self,
        waveform: np.ndarray | None,
        lips: np.ndarray | None,
        config: DecodeConfig | None = None,
        utt_id: str = "utterance",
    ) -> Hypothesis:
        """Transcribe a waveform (S,) at 16 kHz, lips (T, 96, 96) uint8 at 25 fps, or both, in one piece."""
        config = config or DecodeConfig()
        return decode_batch(self.model, _single_batch(utt_id, waveform, lips), config)[0]

    def _decode_pieces(
        self,
        path: Path,
        waveform: np.ndarray | None,
        faces: Landmarks | None,
        n_frames: int,
        config: DecodeConfig,
        warnings: list[str],
    ) -> list[Hypothesis]:
        """Hypotheses of the file's pieces that can be read, their words' times those of the file."""
        level = _loudness(waveform, n_frames) if waveform is not None else _mouth_motion(faces.points)
        pictures = None if faces is None else stream_frames(path, gray=True)
        mouth_width = self.model.config.mouth_width
        found, unread = [], []
        for start, stop in cut_at_pauses(level, self.max_frames):
            sound = lips = None
            if waveform is not None:
                sound = waveform[samples_of(start) : samples_of(stop)]
                sound = sound if np.abs(sound).max() >= SILENT_PEAK else None
            if faces is not None:
                lips = crop_lips(itertools.islice(pictures, stop - start), faces.points[start:stop], mouth_width)
                lips = lips if faces.found[start:stop].mean() >= MIN_FOUND else None
            if sound is None and lips is None:
                unread.append((start / FPS, stop / FPS))
                continue
            piece = self.transcribe(sound, lips, config, path.stem)
            words = [
                replace(word, start_s=start / FPS + word.start_s, end_s=start / FPS + word.end_s)
                for word in piece.words
            ]
            found.append(replace(piece, words=words))
        if not found:
            lacks = "the sound is silent" if faces is None else "a face in too few frames"
            raise InputError(f"{path}: {lacks}, nothing can be read; it must be audible or show a face")
        if unread:
            warnings.append(f"neither heard nor seen, and left out, {_in_words(unread)}")
        return found


def media_files(path: str | Path) -> list[Path]:
    """The file `path`, or all videos and sound files below that folder, sorted. InputError where there is none."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in MEDIA_SUFFIXES and file.is_file())
    if not files:
        raise InputError(f"{path}: no media files below it ({', '.join(MEDIA_SUFFIXES)})")
    return files


def cut_at_pauses(level: np.ndarray, max_frames: int) -> list[tuple[int, int]]:
    """Cut T frames into pieces [start, stop) of at most `max_frames`, by how loud or moving each is, (T,).

    A piece ends where a third of a second is calmest in the second half of what it may hold.
    """
    calm = np.convolve(level, np.ones(PAUSE_FRAMES), mode="same")[: len(level)]
    starts = [0]
    while len(level) - starts[-1] > max_frames:
        first = starts[-1] + max_frames // 2
        starts.append(first + int(calm[first : starts[-1] + max_frames + 1].argmin()))
    return list(itertools.pairwise([*starts, len(level)]))


def spans_without(found: np.ndarray) -> list[tuple[float, float]]:
    """From and to, in seconds, where (T,) bool is False for at least 0.2 s."""
    edges = np.flatnonzero(np.diff(np.pad(~found, 1))).reshape(-1, 2)
    return [(start / FPS, stop / FPS) for start, stop in edges.tolist() if stop - start >= SHORTEST_LOSS_FRAMES]


def join_nbest(pieces: Iterable[list[tuple[str, float]]], n_best: int) -> list[tuple[str, float]]:
    """The n best texts of a recording by its pieces' n best: scores of what follows one another add up."""
    best = [("", 0.0)]
    for options in pieces:
        joined = ((f"{text} {more}".strip(), score + added) for text, score in best for more, added in options)
        best = heapq.nlargest(n_best, joined, key=lambda scored: scored[1])
    return best


def _common_length(waveform: np.ndarray | None, faces: Landmarks | None, warnings: list[str]) -> int:
    """Frames that all streams have; one that is much longer is a warning."""
    lengths = {} if waveform is None else {"sound": frames_of(len(waveform))}
    lengths |= {} if faces is None else {"video": len(faces.found)}
    longer = max(lengths, key=lengths.get)
    n_frames = min(lengths.values())
    if lengths[longer] - n_frames > MISMATCH_FRAMES:
        warnings.append(f"the {longer} is {(lengths[longer] - n_frames) / FPS:.2f} s longer; cut to the shorter")
    return n_frames


def _loudness(waveform: np.ndarray, n_frames: int) -> np.ndarray:
    """Mean square of each frame: (S,) -> (n_frames,); a last frame in part is filled with zeros."""
    samples = np.pad(waveform[: samples_of(n_frames)], (0, max(0, samples_of(n_frames) - len(waveform))))
    return np.square(samples.reshape(n_frames, SAMPLES_PER_FRAME)).mean(axis=1)


def _mouth_motion(points: np.ndarray) -> np.ndarray:
    """How far the mouth's points move against its middle from frame to frame: (T, 68, 2) -> (T,)."""
    mouth = points[:, 48:68]
    mouth = mouth - mouth.mean(axis=1, keepdims=True)
    return np.abs(np.diff(mouth, axis=0, prepend=mouth[:1])).mean(axis=(1, 2))


def _in_words(spans: list[tuple[float, float]], limit: int = 5) -> str:
    more = f" and {len(spans) - limit} more" if len(spans) > limit else ""
    return ", ".join(f"{start_s:.2f} to {end_s:.2f} s" for start_s, end_s in spans[:limit]) + more


def _single_batch(utt_id: str, waveform: np.ndarray | None, lips: np.ndarray | None) -> dict:
    """A batch of one utterance; sound and lips of different length are both cut to the shorter."""
    if waveform is None and lips is None:
        raise InputError(f"{utt_id}: neither sound nor lips to transcribe")
    if waveform is not None:
        check_waveform(waveform, utt_id)
    lengths = [] if waveform is None else [frames_of(len(waveform))]
    lengths += [] if lips is None else [len(lips)]
    n_frames = min(lengths)
    if n_frames == 0:
        raise InputError(f"{utt_id}: the lips have no frames")
    if max(lengths) - n_frames > MISMATCH_FRAMES:
        logger.warning("%s: sound and lips differ by %d frames; the longer is cut", utt_id, max(lengths) - n_frames)
    item = {
        "utt_id": utt_id,
        "waveform": np.zeros(0, np.float32) if waveform is None else waveform[: samples_of(n_frames)],
        "lips": np.zeros((n_frames, CROP, CROP), np.uint8) if lips is None else centre_crop(lips[:n_frames]),
        "has_audio": waveform is not None,
        "has_video": lips is not None,
    }
    return collate([item | UNLABELLED])
