"""Who is measured: the command line's motions, made into manifests of the reference's utterances.

--motion NAME=MANIFEST    motion and drawn lips of this kit, or lips of any kind
--motion NAME=FOLDER      vertex sequences of another system, see `benchmarks.sequences`
"""

import argparse
import json
from dataclasses import fields
from pathlib import Path

from avsr.data.manifest import read_manifest, write_manifest
from avsr.errors import InputError
from avsr.media.timing import FPS
from benchmarks.sequences import Layout, import_sequences, load_face
from talking3d.face.from_mesh import UNITS_M
from talking3d.render.lip_clips import draw_lip_clips


def named(text: str) -> tuple[str, str]:
    """NAME=PATH of a command line."""
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=PATH")
    return name, path


def by_name(option: str, pairs: list[tuple[str, str]], taken: tuple[str, ...] = ("reference",)) -> dict[str, str]:
    """An option's (name, path) pairs as {name: path}. Raises InputError: a name twice, or one that is taken."""
    names = [name for name, _ in pairs]
    for name in names:
        if name in taken or names.count(name) > 1:
            others = " or ".join(map(repr, taken))
            raise InputError(f"{option} {name}: give each a name of its own, other than {others}")
    return dict(pairs)


def add_entrant_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `gather` reads, but for --out."""
    parser.add_argument("reference")
    parser.add_argument("--motion", type=named, action="append", required=True, metavar="NAME=MANIFEST|FOLDER")
    group = parser.add_argument_group("sequences of other systems (folders)")
    group.add_argument("--fps", type=float, default=FPS, help="their rate; resampled to 25 where it is another")
    group.add_argument("--unit", choices=tuple(UNITS_M), help="default: m, or what a mesh as template has")
    group.add_argument("--template", metavar="FILE", help="the face of all of them: .npz of the kit, .ply or .obj")
    group.add_argument("--lips", metavar="FILE", help="the template's lip vertices, as an index list (lve.txt)")
    group.add_argument("--upper_face", metavar="FILE", help="its upper face's (fdd.txt)")
    group.add_argument("--landmarks", metavar="FILE", help="JSON: a mesh's vertices of the iBUG-68 points")
    group.add_argument("--truth", metavar="FOLDER", help="the true sequences, where REFERENCE's rows have no motion")


def gather(args: argparse.Namespace, taken: tuple[str, ...] = ("reference",), lips: bool = True) -> tuple[str, dict]:
    """The reference's manifest and {name: manifest} of a command line; lips: draw those of sequences.

    A reference whose template or truth the command line gives is written anew below args.out.
    """
    motions = by_name("--motion", args.motion, taken)
    layout = Layout(**{field.name: getattr(args, field.name) for field in fields(Layout)})
    folders = {name: path for name, path in motions.items() if Path(path).is_dir()}
    face = None if layout.template is None else load_face(layout, args.out)
    reference, rows = args.reference, []
    if folders or face is not None or args.truth is not None:
        rows = read_manifest(args.reference, use=("motion", "template", "lips"))
    if args.truth is not None:
        known = [row["utt_id"] for row in rows if row["motion"] is not None]
        if known:
            raise InputError(f"--truth {args.truth}: {args.reference} has motion of {known[0]!r} already: leave it out")
        reference = import_sequences(args.truth, "reference", rows, args.out, layout, face, truth=True)
        reference = drawn(reference, "reference") if lips else reference
        rows = read_manifest(reference, use=("motion", "template"))
    elif face is not None:
        reference = args.out / "reference.jsonl"
        rows = [row | {"template": str(face.path)} for row in rows]
        write_manifest(reference, rows)
    for name, folder in folders.items():
        manifest = import_sequences(folder, name, rows, args.out, layout, face)
        motions[name] = drawn(manifest, name) if lips else manifest
    return str(reference), motions


def drawn(manifest: Path, name: str) -> Path:
    """A manifest whose rows have lips: itself, or where none of its rows has any, one with the motion drawn.

    Drawn as `talking3d draw` does, beside the manifest.
    """
    rows = read_manifest(manifest, use=("motion", "template"))
    if any(row["lips"] is not None for row in rows):
        return manifest
    return draw_lip_clips(rows, manifest.parent / "drawn", generator=name)


def imported(manifests: dict[str, str | Path]) -> dict[str, dict]:
    """Of the motions that were sequences, how they were read: {name: what sequences.json says}."""
    found = {}
    for name, manifest in manifests.items():
        homes = (Path(manifest).parent, Path(manifest).parent.parent)  # drawn lips lie one further down
        told = next((home / "sequences.json" for home in homes if (home / "sequences.json").is_file()), None)
        if told is not None:
            found[name] = json.loads(told.read_text(encoding="utf-8"))
    return found
