"""The command line `talking3d`: from speech to motion, pictures and lips, and the training of what makes them."""

import argparse
import logging
import sys

from avsr.errors import InputError, exit_status

BACKENDS = ("auto", "torch", "cpu", "pytorch3d")  # of the rasteriser; named here, as importing it takes seconds


def _animate(args: argparse.Namespace) -> None:
    from talking3d.animate import animate, find_checkpoint

    checkpoint = find_checkpoint(args.checkpoint)
    print(f"student: {checkpoint}", file=sys.stderr)
    animate(
        args.speech,
        args.out,
        checkpoint,
        template=args.template,
        style=args.style,
        style_clips=args.style_clip,
        style_sounds=args.style_audio,
        idle=not args.no_idle,
        head=args.head,
        seed=args.seed,
        size=args.size,
    )
    print(args.out)


def _render(args: argparse.Namespace) -> None:
    from talking3d.animate import render_motion

    render_motion(
        args.motion,
        args.out,
        template=args.template,
        view=args.view,
        audio=args.audio,
        size=args.size,
        backend=args.backend,
    )
    print(args.out)


def _sheet(args: argparse.Namespace) -> None:
    from talking3d.render.compare import contact_sheet

    contact_sheet(
        args.motion,
        args.out,
        template=args.template,
        times_s=args.times,
        n_frames=args.frames,
        columns=args.columns,
        size=args.size,
        view=args.view,
    )
    print(args.out)


def _compare(args: argparse.Namespace) -> None:
    from talking3d.render.compare import compare

    compare(
        args.motions,
        args.out,
        labels=args.labels,
        audio=args.audio,
        template=args.template,
        size=args.size,
        view=args.view,
    )
    print(args.out)


def _template(args: argparse.Namespace) -> None:
    from talking3d.face.interior import with_interior

    if args.kind == "ict":
        from talking3d.face.ict import load_ict

        face = load_ict(args.source)
    elif args.kind == "flame":
        from talking3d.face.flame import load_flame

        face = load_flame(args.source, masks=args.masks, landmarks=args.landmarks)
    else:
        from talking3d.face.from_mesh import template_from_mesh

        files = {name: getattr(args, name) for name in ("lips", "upper_face", "landmarks")}
        face = template_from_mesh(args.source, unit=args.unit, **files)
    if getattr(args, "interior", False):
        face = with_interior(face)
    face.save(args.out)
    print(args.out)


def _transfer(args: argparse.Namespace) -> None:
    from talking3d.face.motion import Motion
    from talking3d.face.procedural import procedural_face
    from talking3d.face.template import FaceTemplate
    from talking3d.face.transfer import transfer

    source = procedural_face() if args.source is None else FaceTemplate.load(args.source)
    motion, error = transfer(Motion.load(args.motion), source, FaceTemplate.load(args.target), args.method)
    motion.save(args.out)
    print(error, file=sys.stderr)
    print(args.out)


def _train(args: argparse.Namespace) -> None:
    from talking3d.train import train

    print(train(args.config, args.overrides, preset=args.preset))


def _corpus(args: argparse.Namespace) -> None:
    from talking3d.corpus.mini import make_mini

    make_mini(args.out, preset=args.preset, seed=args.seed, n_jobs=args.nj)
    print(args.out)


def _fit(args: argparse.Namespace) -> None:
    from talking3d.corpus.from_tracks import track_manifest
    from talking3d.corpus.from_video import filmed_rows, fit_manifest

    if args.fits is None and args.fps is not None:
        raise InputError("--fps is the rate of --fits; a video states its own")
    if args.fits is not None and (args.landmarks is not None or args.speakers is not None):
        raise InputError("--landmarks and --speakers are of fits to landmarks: leave them out with --fits")
    tracker = {"detector": args.detector, "landmark_model": args.landmark_model}
    rows = filmed_rows(args.source, args.out, n_jobs=args.nj, **tracker)
    if args.fits is None:
        how = {"n_jobs": args.nj, "landmarks": args.landmarks, "speakers": args.speakers}
        manifest = fit_manifest(rows, args.out, args.template, **how)
    else:
        rate = {} if args.fps is None else {"fps": args.fps}
        manifest = track_manifest(rows, args.fits, args.out, args.template, **rate)
    print(f"how well it fits: {manifest.parent / 'quality.md'}, {manifest.parent / 'pictures'}", file=sys.stderr)
    print(manifest)


def _look(args: argparse.Namespace) -> None:
    from avsr.data.manifest import read_manifest
    from talking3d.corpus.speaker_looks import find_looks

    print(find_looks(read_manifest(args.manifest, need=("lips", "motion", "template")), args.out))


def _predict(args: argparse.Namespace) -> None:
    from avsr.data.manifest import read_manifest
    from talking3d.animate import find_checkpoint
    from talking3d.generators import load_generator
    from talking3d.predict import predict_manifest, with_faces

    rows = read_manifest(args.manifest, use=("template",) if args.template is None else ())
    rows = rows if args.template is None else with_faces(rows, args.template)
    checkpoint = find_checkpoint(args.checkpoint)
    print(f"student: {checkpoint}", file=sys.stderr)
    print(predict_manifest(rows, load_generator(checkpoint), args.out, args.motion, args.seed))


def _articulate(args: argparse.Namespace) -> None:
    from avsr.data.manifest import read_manifest
    from avsr.data.pronunciations import read_pronunciations
    from talking3d.corpus.articulation import STYLES
    from talking3d.corpus.from_alignment import articulate_manifest
    from talking3d.face.procedural import procedural_face
    from talking3d.face.template import FaceTemplate

    rows = read_manifest(args.manifest, need=("audio", "alignment"))
    face = procedural_face() if args.template is None else FaceTemplate.load(args.template)
    pronunciations = None if args.lexicon is None else read_pronunciations(args.lexicon)
    how = {"pronunciations": pronunciations, "style": STYLES[args.style], "seed": args.seed}
    print(articulate_manifest(rows, face, args.out, **how))


def _sync(args: argparse.Namespace) -> None:
    from talking3d.sync import score_file

    score = score_file(args.checkpoint, args.speech, args.motion, args.template)
    print(f"offset {score.offset_frames:+d} frames ({score.offset_ms:+.0f} ms; + is motion after sound)")
    print(f"LSE-D {score.lse_d:.3f}  LSE-C {score.lse_c:.3f}")


def _draw(args: argparse.Namespace) -> None:
    from avsr.data.manifest import read_manifest
    from talking3d.render.lip_clips import draw_lip_clips

    rows = read_manifest(args.manifest, need=("motion", "template"))
    generators = sorted({row["generator"] or "corpus" for row in rows})
    if len(generators) > 1:
        raise InputError(f"{args.manifest} mixes motion of {', '.join(generators)}: draw them one at a time")
    how = {name: getattr(args, name) for name in ("seed", "look", "faces", "backend", "motion_noise")}
    print(draw_lip_clips(rows, args.out, generator=generators[0], n_jobs=args.nj, **how))


def _teach(args: argparse.Namespace) -> None:
    from avsr.data.manifest import read_manifest
    from talking3d.models.teacher2d import Teacher2D
    from talking3d.teach import teach_manifest

    rows = read_manifest(args.manifest, use=("lips",))
    others = [row for path in args.stills for row in read_manifest(path, need=("lips",))]
    model = Teacher2D.from_pretrained(args.checkpoint)
    print(teach_manifest(rows, model, args.out, others=others, still=args.still, shuffle_seed=args.shuffle_seed))


def _retrieve(args: argparse.Namespace) -> None:
    from avsr.data.manifest import read_manifest
    from talking3d.retrieve import retrieve_manifest

    rows = read_manifest(args.manifest, need=("motion", "template"))
    filmed = read_manifest(args.frames, need=("motion", "template"), use=("lips",))
    print(retrieve_manifest(rows, filmed, args.out, own=args.own, n_jobs=args.nj))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="talking3d", description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true", help="say more on the way")
    commands = parser.add_subparsers(dest="command", required=True)

    sub = commands.add_parser("animate", help="a clip with sound, or the motion, of a face that speaks a sound file")
    sub.add_argument("speech", help="sound or video file, of any length")
    sub.add_argument("--out", required=True, help="clip.mp4 or motion.npz")
    sub.add_argument("--checkpoint", help="folder or hub id of a student")
    sub.add_argument("--template", help="another face (.npz); of another topology: the motion is carried over")
    sub.add_argument("--style", help="a training speaker's way to speak; default: the average")
    sub.add_argument("--style_clip", nargs="+", default=(), metavar="MOTION", help="somebody else's way: motion.npz")
    sub.add_argument("--style_audio", nargs="+", default=(), metavar="SPEECH", help="the sound of each --style_clip")
    sub.add_argument(
        "--head", metavar="CHECKPOINT", help="of a head_pose model, which moves the head; default: it sways"
    )
    sub.add_argument("--no_idle", action="store_true", help="no blinks, and a head that stands still")
    sub.add_argument("--seed", type=int, default=0, help="of blinks and of the head's motion")
    sub.add_argument("--size", type=int, default=512, help="of the clip's pictures, pixels a side")
    sub.set_defaults(run=_animate)

    sub = commands.add_parser("render", help="a clip of a motion file")
    sub.add_argument("motion", help="motion.npz")
    sub.add_argument("--out", required=True, help="clip.mp4")
    sub.add_argument("--template", help="the face that moves; default: the procedural one")
    sub.add_argument("--view", choices=("face", "lips"), default="face")
    sub.add_argument("--audio", help="its sound")
    sub.add_argument("--size", type=int, default=512, help="of the head's pictures, pixels a side")
    sub.add_argument("--backend", choices=BACKENDS, default="auto", help="the rasteriser")
    sub.set_defaults(run=_render)

    sub = commands.add_parser("sheet", help="a contact sheet: frames of a motion file, each with its time")
    sub.add_argument("motion", help="motion.npz")
    sub.add_argument("--out", required=True, help="sheet.png")
    sub.add_argument("--times", type=float, nargs="+", metavar="S", help="seconds; default: --frames at even distances")
    sub.add_argument("--frames", type=int, default=12, help="how many")
    sub.add_argument("--columns", type=int, default=6)
    sub.add_argument("--template", help="the face that moves; default: the procedural one")
    sub.add_argument("--view", choices=("face", "lips"), default="face")
    sub.add_argument("--size", type=int, default=256, help="of the head's pictures, pixels a side")
    sub.set_defaults(run=_sheet)

    sub = commands.add_parser("compare", help="motion files side by side in one clip, with labels and one sound")
    sub.add_argument("motions", nargs="+", metavar="MOTION", help="motion.npz, all of one length and topology")
    sub.add_argument("--out", required=True, help="compare.mp4")
    sub.add_argument("--labels", nargs="+", metavar="LABEL", help="one for each motion; default: the files' names")
    sub.add_argument("--audio", help="their sound")
    sub.add_argument("--template", help="the face that moves; default: the procedural one")
    sub.add_argument("--view", choices=("face", "lips"), default="face")
    sub.add_argument("--size", type=int, default=384, help="of each head's pictures, pixels a side")
    sub.set_defaults(run=_compare)

    sub = commands.add_parser("template", help="a face to animate (.npz) out of a published or an own mesh")
    kinds = sub.add_subparsers(dest="kind", required=True)
    ict = kinds.add_parser("ict", help="ICT-FaceKit's head: SOURCE is its folder FaceXModel")
    flame = kinds.add_parser("flame", help="FLAME: SOURCE is your licensed model file, .pkl or .npz")
    flame.add_argument("--masks", help="FLAME_masks.pkl")
    flame.add_argument("--landmarks", help="a landmark embedding, .npy, .npz or .pkl, or JSON as for mesh")
    mesh = kinds.add_parser("mesh", help="any face mesh: SOURCE is an .obj or .ply")
    mesh.add_argument("--unit", choices=("m", "cm", "mm"), help="default: guessed by the distance of the eyes")
    mesh.add_argument("--lips", help="text file of the lips' vertex indices; default: found")
    mesh.add_argument("--upper_face", help="text file of the upper face's vertex indices; default: found")
    mesh.add_argument(
        "--landmarks", help="JSON, the vertex of each iBUG-68 point; default: found by mouth and eye holes"
    )
    for kind in (flame, mesh):
        kind.add_argument("--interior", action="store_true", help="put teeth, tongue and eyeballs in")
    for kind in (ict, flame, mesh):
        kind.add_argument("source", metavar="SOURCE")
        kind.add_argument("--out", required=True, help="face.npz")
    sub.set_defaults(run=_template)

    sub = commands.add_parser("transfer", help="motion made for one face, for another; prints the error")
    sub.add_argument("motion", help="motion.npz")
    sub.add_argument("--from", dest="source", metavar="FACE", help="the face that it was made for; default: procedural")
    sub.add_argument("--to", dest="target", metavar="FACE", required=True, help="the face that shall move")
    sub.add_argument("--out", required=True, help="motion.npz")
    sub.add_argument(
        "--method", choices=("auto", "fit", "clone"), default="auto", help="auto: fit where FACE has a rig"
    )
    sub.set_defaults(run=_transfer)

    sub = commands.add_parser("train", help="train the model that a config names; resumes where it stopped")
    sub.add_argument("config")
    sub.add_argument("overrides", nargs="*", metavar="key=value")
    sub.add_argument("--preset", help="one of the config's presets")
    sub.set_defaults(run=_train)

    sub = commands.add_parser("corpus", help="make a corpus")
    corpora = sub.add_subparsers(dest="corpus", required=True)
    sub = corpora.add_parser("mini", help="the embedded corpus: synthetic voices and faces, nothing to download")
    sub.add_argument("--out", required=True)
    sub.add_argument("--preset", choices=("smoke", "default", "full"), default="default")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--nj", type=int, default=2, help="processes")
    sub.set_defaults(run=_corpus)

    sub = commands.add_parser("fit", help="3D motion of filmed talkers: a corpus out of any video, or of many")
    sub.add_argument("source", help="a video, a folder of videos, or a manifest (.jsonl) with landmarks")
    sub.add_argument("--out", required=True, help="folder for motion/, templates/, quality.md and manifest.jsonl")
    sub.add_argument("--template", default="procedural", metavar="FACE", help="procedural, or a .npz that can be moved")
    sub.add_argument("--nj", type=int, default=1, help="processes")
    sub.add_argument("--detector", choices=("auto", "dlib", "mediapipe"), default="auto", help="of videos' landmarks")
    sub.add_argument("--landmark_model", metavar="FILE.task", help="MediaPipe's FaceLandmarker, for its detector")
    sub.add_argument("--landmarks", metavar="DIR", help="another tracker's, DIR/<utt_id>.npz; default: the manifest's")
    sub.add_argument(
        "--fits", metavar="DIR", help="what SMIRK or SPECTRE found, DIR/<utt_id>.npz, for FLAME's template"
    )
    sub.add_argument("--fps", type=float, help="of --fits; default: 25")
    sub.add_argument("--speakers", metavar="DIR", help="an earlier --out, whose speakers are taken over")
    sub.set_defaults(run=_fit)

    sub = commands.add_parser("look", help="the looks of filmed speakers, to draw lips in: light, skin, lens")
    sub.add_argument("manifest", help="of `talking3d fit`, with filmed lips")
    sub.add_argument("--out", required=True, help="folder for <speaker>.npz, pictures and agreement.json")
    sub.set_defaults(run=_look)

    sub = commands.add_parser("predict", help="motion for each utterance of a manifest")
    sub.add_argument("manifest")
    sub.add_argument("--checkpoint", help="folder or hub id of a student")
    sub.add_argument("--out", required=True, help="folder for motion/ and manifest.jsonl")
    sub.add_argument(
        "--motion", choices=("student", "mean", "shuffled", "static"), default="student", help="student or a control"
    )
    sub.add_argument("--template", metavar="FACE", help="a .npz, or a folder of <speaker>.npz; default: the rows' own")
    sub.add_argument("--seed", type=int, default=0)
    sub.set_defaults(run=_predict)

    sub = commands.add_parser("articulate", help="motion by rule, for sound of which the times of words are known")
    sub.add_argument("manifest", help="whose rows have alignments")
    sub.add_argument("--out", required=True, help="folder for motion/, template.npz and manifest.jsonl")
    sub.add_argument(
        "--lexicon", help="how words are said, where alignments lack phones: `word phone phone ...` a line"
    )
    sub.add_argument("--template", metavar="FACE", help="the face that moves, a .npz; default: procedural")
    sub.add_argument("--style", choices=("rule", "calm"), default="rule", help="how much the speaker's mouth moves")
    sub.add_argument("--seed", type=int, default=0)
    sub.set_defaults(run=_articulate)

    sub = commands.add_parser("sync", help="how far motion lies before or behind its sound, and how well it fits")
    sub.add_argument("speech", help="sound or video file")
    sub.add_argument("motion", help="motion.npz")
    sub.add_argument("--checkpoint", required=True, help="folder or hub id of a SyncNet3D")
    sub.add_argument("--template", help="the face that moves; default: the judge's own")
    sub.set_defaults(run=_sync)

    sub = commands.add_parser("draw", help="lip crops of a manifest's motion")
    sub.add_argument("manifest")
    sub.add_argument("--out", required=True, help="folder for lips/ and manifest.jsonl")
    sub.add_argument("--nj", type=int, default=1, help="processes")
    sub.add_argument("--seed", type=int, default=0, help="of the random looks")
    sub.add_argument("--look", default="random", help="random (each its own), plain (one), a .npz or folder of `look`")
    sub.add_argument("--faces", metavar="DIR", help="templates, of which each clip shows one; default: the rows' own")
    sub.add_argument("--motion_noise", type=float, metavar="SHARE", help="of each coefficient's standard deviation")
    sub.add_argument("--backend", choices=BACKENDS, default="auto", help="the rasteriser")
    sub.set_defaults(run=_draw)

    sub = commands.add_parser("teach", help="lip crops for a manifest's sound by a 2D teacher, from a still each")
    sub.add_argument("manifest")
    sub.add_argument("--checkpoint", required=True, help="folder or hub id of a Teacher2D")
    sub.add_argument("--out", required=True, help="folder for lips/ and manifest.jsonl")
    sub.add_argument(
        "--stills", nargs="+", default=[], metavar="MANIFEST", help="whose lips show speakers that MANIFEST's don't"
    )
    sub.add_argument("--still", help="the lip crop of every other speaker, picture or clip")
    sub.add_argument(
        "--shuffle_seed", type=int, help="a control: lips for another utterance's sound, drawn by this seed"
    )
    sub.set_defaults(run=_teach)

    sub = commands.add_parser("retrieve", help="lip crops for a manifest's motion out of filmed frames near to it")
    sub.add_argument("manifest")
    sub.add_argument("--frames", required=True, metavar="MANIFEST", help="the same speakers, filmed: of `fit`")
    sub.add_argument("--out", required=True, help="folder for lips/, statistics.json and manifest.jsonl")
    sub.add_argument("--own", action="store_true", help="an utterance may be given the frames that were filmed of it")
    sub.add_argument("--nj", type=int, default=1, help="threads")
    sub.set_defaults(run=_retrieve)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `talking3d` with `argv` (default: the process's own); 2 on bad input, after one line on stderr."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(message)s")
    return exit_status(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
