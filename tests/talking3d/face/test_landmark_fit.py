import dataclasses

import numpy as np
import pytest
from filmed import film, talk

from avsr.errors import InputError
from avsr.media.landmarks import Landmarks
from talking3d.face.blendshape_fit import bounds
from talking3d.face.landmark_fit import Talker, Tracked, fit_clip, fit_talker, line_darkness
from talking3d.face.procedural import procedural_face, random_identity
from talking3d.face.regions import lip_aperture_mm
from talking3d.metrics import CLOSED_MM


@pytest.fixture(scope="module")
def spoken_face():
    return procedural_face()


@pytest.fixture(scope="module")
def clips(spoken_face):
    rng = np.random.default_rng(0)
    motion = [talk(spoken_face, rng) for _ in range(4)]
    return motion, [Tracked(film(spoken_face, coefficients, rng)) for coefficients in motion]


@pytest.fixture(scope="module")
def talker(spoken_face, clips):
    return fit_talker(spoken_face, clips[1], "ann")


def test_the_known_motion_comes_back(spoken_face, clips, talker):
    for coefficients, clip in zip(*clips, strict=True):
        fit = fit_clip(talker, clip)
        names = spoken_face.articulation_names
        for name, tolerance in (("jaw_open", 0.1), ("lip_spread", 0.1), ("lip_round", 0.1)):
            k = names.index(name)
            assert np.sqrt(np.square(fit.coefficients[:, k] - coefficients[:, k]).mean()) < tolerance, name
        lips = spoken_face.region("lips")
        away = spoken_face.offsets(fit.coefficients)[:, lips] - spoken_face.offsets(coefficients)[:, lips]
        assert 1e3 * np.sqrt(np.square(away).sum(-1).mean()) < 1.2
        assert np.nanmedian(fit.lip_error) < 0.02 and fit.confidence.min() > 0.4
        low, high = bounds(spoken_face)
        assert (fit.coefficients >= low - 1e-6).all() and (fit.coefficients <= high + 1e-6).all()


def test_closed_lips_stay_in_contact_and_openings_keep_their_size(spoken_face, clips, talker):
    for coefficients, clip in zip(*clips, strict=True):
        truth = lip_aperture_mm(spoken_face, spoken_face.offsets(coefficients))
        found = lip_aperture_mm(talker.template, talker.template.offsets(fit_clip(talker, clip).coefficients))
        shut, wide = truth < 0.1, truth > 4
        assert shut.sum() > 20 and wide.sum() > 15
        assert (found[shut] <= CLOSED_MM).mean() > 0.95
        assert np.abs(found[wide] - truth[wide]).mean() < 0.6


def test_a_short_closure_is_not_smoothed_away(spoken_face, talker):
    coefficients = talk(spoken_face, np.random.default_rng(5))
    jaw = spoken_face.articulation_names.index("jaw_open")
    coefficients[40:70] = 0
    coefficients[40:70, jaw] = 0.4
    coefficients[54:56, jaw] = 0
    clip = Tracked(film(spoken_face, coefficients, np.random.default_rng(6)))
    found = lip_aperture_mm(talker.template, talker.template.offsets(fit_clip(talker, clip).coefficients))
    assert (found[54:56] <= CLOSED_MM).all() and found[44:52].min() > 4 and found[58:66].min() > 4


def test_missed_frames_are_bridged_with_no_confidence(clips, talker):
    clip = clips[1][0].landmarks
    found, points = clip.found.copy(), clip.points.copy()
    found[30:34], points[30:34] = False, np.nan
    whole, holed = fit_clip(talker, clips[1][0]), fit_clip(talker, Tracked(Landmarks(points, found, "dlib")))
    assert (holed.confidence[30:34] == 0).all() and np.isnan(holed.lip_error[30:34]).all()
    assert np.isfinite(holed.coefficients).all() and np.isfinite(holed.points).all()
    assert np.abs(holed.coefficients[:25] - whole.coefficients[:25]).max() < 0.1
    assert np.abs(np.diff(holed.coefficients[28:36], axis=0)).max() < 0.4


def test_place_size_and_turn_of_the_picture_change_nothing(clips, talker):
    clip = clips[1][1].landmarks
    turn = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    other = Landmarks((2.5 * clip.points @ turn.T + (40, 900)).astype(np.float32), clip.found, "dlib")
    one, two = fit_clip(talker, Tracked(clip)), fit_clip(talker, Tracked(other))
    np.testing.assert_allclose(one.coefficients, two.coefficients, atol=2e-3)
    np.testing.assert_allclose(one.head_pose, two.head_pose, atol=2e-3)
    np.testing.assert_allclose(2.5 * one.points @ turn.T + (40, 900), two.points, atol=0.1)
    np.testing.assert_allclose(turn @ one.camera[:, :2] * 2.5, two.camera[:, :2], atol=1e-4)


def test_another_person_is_recognised_by_the_shape(spoken_face):
    rng = np.random.default_rng(3)
    person = random_identity(rng)
    coefficients = talk(person, rng)
    talker = fit_talker(spoken_face, [Tracked(film(person, coefficients, rng))])
    numbers = [0, 8, 16, 48, 54, 51, 57]

    def apart(face):
        points = 1e3 * face.verts[face.landmarks[numbers], :2]
        return np.linalg.norm(points[:, None] - points[None], axis=-1)

    before, after = (np.abs(apart(face) - apart(person)).mean() for face in (spoken_face, talker.template))
    assert after < 0.6 * before
    truth = lip_aperture_mm(person, person.offsets(coefficients))
    fit = fit_clip(talker, Tracked(film(person, coefficients, rng)))
    found = lip_aperture_mm(talker.template, talker.template.offsets(fit.coefficients))
    assert np.corrcoef(truth, found)[0, 1] > 0.97 and (found[truth < 0.1] <= CLOSED_MM).mean() > 0.95


def test_a_speakers_template_has_the_speakers_proportions(spoken_face):
    """A mouth that lies deeper in its face than any shape of the template puts it is found where it is."""
    verts = spoken_face.verts.copy()
    verts[:, 1] += 0.008 * np.clip(verts[:, 1] / 0.05, 0, 1)  # all above the mouth, by 8 mm from the eyes up
    person = dataclasses.replace(spoken_face, verts=verts)
    rng = np.random.default_rng(4)
    coefficients = talk(person, rng)
    clip = Tracked(film(person, coefficients, rng))
    talker = fit_talker(spoken_face, [clip])

    def share(face):
        """Where the mouth and the nose's root lie between chin and eyes."""
        height = face.verts[face.landmarks, 1]
        chin, mouth, nose, eyes = height[8], height[48:60].mean(), height[33], height[36:48].mean()
        return np.array([mouth - chin, nose - chin]) / (eyes - chin)

    before, after = (np.abs(share(face) - share(person)).max() for face in (spoken_face, talker.template))
    assert after < 0.3 * before
    truth = lip_aperture_mm(person, person.offsets(coefficients))
    fit = fit_clip(talker, clip)
    found = lip_aperture_mm(talker.template, talker.template.offsets(fit.coefficients))
    assert np.corrcoef(truth, found)[0, 1] > 0.97 and np.nanmedian(fit.lip_error) < 0.02


def test_a_template_without_shapes_is_fitted_too(spoken_face, clips, talker):
    plain = dataclasses.replace(spoken_face, shape_basis=None, shape_names=())
    own = fit_talker(plain, clips[1])
    assert 1e3 * np.abs(own.template.verts - plain.verts)[plain.landmarks].max() < 2
    one, two = fit_clip(own, clips[1][0]).coefficients, fit_clip(talker, clips[1][0]).coefficients
    assert np.abs(one - two).max() < 0.1


def test_a_dark_line_tells_parted_lips_from_closed_ones(spoken_face):
    def with_line(gray):
        lips = np.full((10, 96, 96), 150, np.uint8)
        lips[:, 46:50] = gray
        return line_darkness(lips)

    np.testing.assert_array_less(with_line(140), with_line(40))
    np.testing.assert_allclose(with_line(0), 1.0)
    coefficients = talk(spoken_face, np.random.default_rng(0))
    truth = lip_aperture_mm(spoken_face, spoken_face.offsets(coefficients))
    landmarks = film(spoken_face, coefficients, np.random.default_rng(1))
    dark = 0.3 + 0.05 * np.minimum(np.maximum(truth, 0), 6)
    lit = Tracked(landmarks, dark)
    talker = fit_talker(spoken_face, [lit])
    parted = dark.copy()
    parted[2:6] = 0.6
    shut, open_ = (
        lip_aperture_mm(talker.template, talker.template.offsets(fit_clip(talker, clip).coefficients))[2:6]
        for clip in (lit, Tracked(landmarks, parted))
    )
    assert (shut <= CLOSED_MM).all() and (open_ > CLOSED_MM).all()


def test_a_talker_is_saved_and_read(talker, clips, tmp_path):
    talker.save(tmp_path / "ann.npz")
    again = Talker.load(tmp_path / "ann.npz", talker.template)
    for field in dataclasses.fields(Talker):
        np.testing.assert_equal(getattr(again, field.name), getattr(talker, field.name))
    np.testing.assert_array_equal(fit_clip(again, clips[1][0]).coefficients, fit_clip(talker, clips[1][0]).coefficients)
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(InputError, match="not a speaker's rest"):
        Talker.load(tmp_path / "bad.npz", talker.template)


def test_what_cannot_be_fitted_is_said(spoken_face, clips):
    points, found = clips[1][0].landmarks.points, clips[1][0].landmarks.found
    with pytest.raises(InputError, match="'haar' know the face's box"):
        Tracked(Landmarks(points, found, "haar"))
    with pytest.raises(InputError, match="no frame's face was found"):
        Tracked(Landmarks(points, ~found, "dlib"))
    with pytest.raises(InputError, match="NaN or infinite"):
        Tracked(Landmarks(points * np.nan, found, "dlib"))
    with pytest.raises(InputError, match="3 pictures of lips but landmarks of 100 frames"):
        Tracked(Landmarks(points, found, "dlib"), np.ones(3))
    still = dataclasses.replace(spoken_face, articulation_basis=None, articulation_names=())
    with pytest.raises(InputError, match="no articulation to fit"):
        fit_talker(still, clips[1])
    eyeless = spoken_face.landmarks.copy()
    eyeless[27:48] = -1
    with pytest.raises(InputError, match="lacks the landmarks of nose and eyes"):
        fit_talker(dataclasses.replace(spoken_face, landmarks=eyeless), clips[1])


def test_lips_that_are_open_most_of_the_time_do_not_pass_for_closed(spoken_face):
    """As in a short clip of somebody who talks from its first frame to its last."""
    rng = np.random.default_rng(7)
    coefficients = talk(spoken_face, rng, 112)[12:]
    jaw = spoken_face.articulation_names.index("jaw_open")
    coefficients[:, jaw] = np.maximum(coefficients[:, jaw], 0.3)
    for start in (8, 40, 71):
        coefficients[start : start + 5, jaw] = 0.0
    clip = Tracked(film(spoken_face, coefficients, rng))
    talker = fit_talker(spoken_face, [clip], "ann")
    truth = lip_aperture_mm(spoken_face, spoken_face.offsets(coefficients))
    found = lip_aperture_mm(talker.template, talker.template.offsets(fit_clip(talker, clip).coefficients))
    assert np.corrcoef(truth, found)[0, 1] > 0.97
    assert np.abs(found - truth)[truth > 4].mean() < 0.8 and (found[truth < 0.1] <= CLOSED_MM).mean() > 0.9


def test_a_smile_that_shows_teeth_is_open(spoken_face, talker):
    """Thin lips far apart: their borders are no further from each other than at rest, their inner points are."""
    marks = film(spoken_face, np.zeros((50, len(spoken_face.articulation_names)), np.float32))
    points = marks.points.copy()
    points[20:, [61, 62, 63], 1] -= 3.0
    points[20:, [65, 66, 67], 1] += 3.0
    fit = fit_clip(talker, Tracked(Landmarks(points, marks.found, "dlib")))
    found = lip_aperture_mm(talker.template, talker.template.offsets(fit.coefficients))
    assert (found[:15] <= CLOSED_MM).all() and found[25:].min() > 3.0


def test_too_little_film_to_know_a_speaker_by(spoken_face):
    clip = Tracked(film(spoken_face, talk(spoken_face, np.random.default_rng(0), 24)))
    with pytest.raises(InputError, match=r"too short: a face in 0\.96 s of film .*; give 1 s or more"):
        fit_talker(spoken_face, [clip])


def test_a_talker_who_looks_aside_most_of_the_time_has_the_shape_seen_from_the_front(spoken_face):
    rng = np.random.default_rng(8)
    coefficients = talk(spoken_face, rng)
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    basis = spoken_face.articulation_basis @ turn.T
    turned = dataclasses.replace(spoken_face, verts=spoken_face.verts @ turn.T, articulation_basis=basis)
    front, side = film(spoken_face, coefficients, rng), film(turned, coefficients, rng)
    clips = [Tracked(marks) for marks in (side, side, front)]
    talker = fit_talker(spoken_face, clips, "ann")
    assert np.abs(np.degrees(talker.turn)).max() < 6
    poses = [np.degrees(fit_clip(talker, clip).head_pose[:, 1]) for clip in clips]
    assert abs(np.mean(poses[2])) < 6 and 22 < np.mean(poses[0]) < 38
