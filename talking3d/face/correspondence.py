"""Which point of one face is which of another, and displacements carried along: expression cloning.

After Noh and Neumann, "Expression cloning", SIGGRAPH 2001: the source at rest is laid over the target by a radial basis
spline through landmarks, and each target vertex takes the displacement of the nearest point of the source's surface,
turned as the source was and scaled: across by how far the two points lie from the middle of their faces. It is not the
transfer of deformation gradients by Sumner and Popovic (SIGGRAPH 2004): no system is solved for the target's surface.
Vertices of the upper lip ask the source's upper lip only and those of the lower its lower; teeth, tongue and eyes ask
their like; lips that move across slide along the target's own arch; and the gap between the lips is made to follow the
source's.

Letters: T frames, V and W vertices of source and target, F faces, N points, C columns of the lips.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from talking3d.face.align import Similarity, common_landmarks, similarity, warp_by_landmarks
from talking3d.face.head_surface import smoothstep
from talking3d.face.mesh_graph import edge_graph, path_through, unique_edges, vertex_normals
from talking3d.face.template import FaceTemplate

UPPER_INNER, LOWER_INNER = (60, 61, 62, 63, 64), (60, 67, 66, 65, 64)
GAP_PAIRS = ((61, 67), (62, 66), (63, 65))  # iBUG: upper and lower inner lip
KINDS = ("teeth_upper", "teeth_lower", "tongue", "mouth_interior", "eyes", "hair", "shirt")  # earlier ones win
_FADE_M = 0.012  # how fast motion fades where the target reaches beyond the source's surface
_SIDE_REACH_M = 0.06
_TURNED_M = 0.004  # what a right angle between the surfaces counts as distance
_N_NEAR = 16  # triangles whose nearest points are compared
_SMOOTH_M = 0.002  # carried displacements are averaged about this far along the surface
_SOFT_FROM_TO_M, _SOFT_PASSES = (0.002, 0.010), 8
_LIP_FALL_M = 0.009  # how far from the contact line a correction of the gap reaches
_MIDDLE_M = 0.004  # nearer to the middle than this, distances from it say little about scale
_BEND_FALL_M = 0.015
CONTACT_GAP_M = -2e-4  # lips that touch overlap this much, so that no light comes through


@dataclass(frozen=True)
class Correspondence:
    """How the target's vertices move with the source's.

    A displacement is scale * laid.rotation @ (weights @ source displacements), with weights (W, V) and scale (W, 3); to
    it come the slide along the arch, bend * ((x + dx)^2 - x^2) forward, with bend (W,) per metre, and the correction of
    the lips' gap: each of correctors (C, W, 3) opens one column by one metre.
    """

    source: FaceTemplate
    target: FaceTemplate
    laid: Similarity
    scale: np.ndarray
    weights: csr_matrix
    bend: np.ndarray
    correctors: np.ndarray

    def carry(self, offsets: np.ndarray, gaps: np.ndarray | None = None) -> np.ndarray:
        """Displacements (T, V, 3) of the source as such of the target, (T, W, 3); the lips' gaps become gaps (T, C).

        gaps: in metres; None: those of the source, in the target's size.
        """
        flat = np.moveaxis(offsets, 0, 1).reshape(len(self.source.verts), -1).astype(np.float64)
        moved = np.moveaxis((self.weights @ flat).reshape(len(self.target.verts), -1, 3), 1, 0)
        moved = (moved @ self.laid.rotation.T) * self.scale
        x = _across(self.target)
        moved[..., 2] += self.bend * (2 * x + moved[..., 0]) * moved[..., 0]
        wanted = self.gaps(offsets) if gaps is None else gaps
        missing = wanted - lip_gaps(self.target, moved)
        moved += np.tensordot(missing, self.correctors, axes=1)
        return moved.astype(np.float32)

    def gaps(self, offsets: np.ndarray) -> np.ndarray:
        """The gaps (T, C) metres that the target's lips should have: the source's in the target's size."""
        return wanted_gaps(self.source, offsets, self.laid.scale)

    def clone_basis(self) -> np.ndarray:
        """The source's articulation basis on the target, (K, W, 3); gaps change by as much as the source's do."""
        basis = self.source.articulation_basis
        rest = lip_gaps(self.target, np.zeros((1, len(self.target.verts), 3)))
        still = lip_gaps(self.source, np.zeros((1, len(self.source.verts), 3)))
        return self.carry(basis, rest + self.laid.scale * (lip_gaps(self.source, basis) - still))


def wanted_gaps(source: FaceTemplate, offsets: np.ndarray, scale: float) -> np.ndarray:
    """The gaps (T, C) metres of the source's lips in the size of another face; lips that touch stay in touch."""
    gaps = lip_gaps(source, offsets)
    return np.where(gaps < 0, np.minimum(scale * gaps, CONTACT_GAP_M), scale * gaps)


def lip_gaps(face: FaceTemplate, offsets: np.ndarray) -> np.ndarray:
    """Signed height (T, C) in metres between the inner lips at the pairs `GAP_PAIRS`; offsets (T, V, 3)."""
    upper, lower = (face.landmarks[[pair[k] for pair in GAP_PAIRS]] for k in (0, 1))
    rest = face.verts[upper, 1] - face.verts[lower, 1]
    return rest + offsets[:, upper, 1] - offsets[:, lower, 1]


def mouth_width(face: FaceTemplate) -> float:
    """Distance in metres between the outer corners of the mouth at rest."""
    return float(np.linalg.norm(face.verts[face.landmarks[54]] - face.verts[face.landmarks[48]]))


def correspond(source: FaceTemplate, target: FaceTemplate) -> Correspondence:
    """Find for each vertex of the target the point of the source that it moves with.

    InputError where a template lacks the mouth's landmarks.
    """
    numbers = common_landmarks(source, target)
    laid = similarity(source.verts[source.landmarks[numbers]], target.verts[target.landmarks[numbers]])
    over = warp_by_landmarks(source, target, source.verts)
    weights = _nearest_points(source, over, target)
    wide = mouth_width(target) / mouth_width(source)
    scale = np.full((len(target.verts), 3), laid.scale)
    here, there = np.abs(_across(target)), np.abs(weights @ _across(source))
    scale[:, 0] = np.clip((here + wide * _MIDDLE_M) / (there + _MIDDLE_M), 0.6 * wide, 1.5 * wide)
    bend = _bend(source, target, (wide, laid.scale))
    return Correspondence(source, target, laid, scale, weights, bend, _gap_correctors(target))


def lip_sides(face: FaceTemplate) -> np.ndarray:
    """(V,) int8: +1 what hangs on the upper lip, -1 what hangs on the lower, 0 beyond the corners of the mouth.

    By the shorter way along the surface to the contact line's upper or lower half; where the way leads through a
    corner, both are as long.
    """
    graph = edge_graph(face.verts, face.faces)
    ways = [path_through(graph, face.landmarks[list(numbers)]) for numbers in (UPPER_INNER, LOWER_INNER)]
    up, low = (dijkstra(graph, indices=way, min_only=True, limit=_SIDE_REACH_M) for way in ways)
    with np.errstate(invalid="ignore"):
        apart = np.nan_to_num(low - up, nan=0.0, posinf=1.0, neginf=-1.0)
    return np.where(apart > 1e-6, 1, np.where(apart < -1e-6, -1, 0)).astype(np.int8)


def _bend(source, target, scale) -> np.ndarray:
    """(W,) 1/m: how much more the target's lips curve back from the middle than the source's would in its place."""
    curves = []
    for face in (source, target):
        x, _, z = face.verts[face.landmarks[48:68]].astype(np.float64).T
        x = x - (x[0] + x[6]) / 2
        curves.append(np.polyfit(x**2, z, 1)[0])
    away, _ = cKDTree(target.verts[target.landmarks[48:68]]).query(target.verts)
    fall = np.exp(-((away / _BEND_FALL_M) ** 2)) * (_kinds(target) < 0)
    return (curves[1] - curves[0] * scale[1] / scale[0] ** 2) * fall


def _across(face) -> np.ndarray:
    """(V,) metres to the viewer's right of the middle of the mouth."""
    return face.verts[:, 0].astype(np.float64) - face.verts[face.landmarks[[48, 54]], 0].mean()


def _kinds(face: FaceTemplate) -> np.ndarray:
    """(V,) what each vertex is: a number by `KINDS`, -1 for skin and lips."""
    kind = np.full(len(face.verts), -1)
    for number in reversed(range(len(KINDS))):
        kind[face.regions.get(KINDS[number], [])] = number
    return kind


def _nearest_points(source, over, target) -> csr_matrix:
    """(W, V) barycentric weights of the source's points that the target's vertices move with.

    over (V, 3): the source's vertices laid over the target.
    """
    kinds, target_kinds = _kinds(source), _kinds(target)
    sides, target_sides = lip_sides(source), lip_sides(target)
    face_kind = kinds[source.faces].max(axis=1)
    face_side = sides[source.faces].astype(int).sum(axis=1)
    facing = vertex_normals(target.verts.astype(np.float64), target.faces)
    rows, columns, values = [], [], []
    for kind in np.unique(target_kinds):
        of_kind = face_kind == kind
        if not of_kind.any() and kind in (KINDS.index("tongue"), KINDS.index("mouth_interior")):
            of_kind = np.isin(face_kind, [KINDS.index("tongue"), KINDS.index("mouth_interior")])
        for side in (-1, 0, 1) if kind < 0 else (None,):
            asks = (target_kinds == kind) & (side is None or target_sides == side)
            answers = np.flatnonzero(of_kind & (side is None or side == 0 or face_side * side >= 0))
            if not asks.any() or len(answers) == 0:
                continue
            points = target.verts[asks].astype(np.float64)
            normals = facing[asks] if kind < 0 else None
            corners, weights, distance = nearest_on_surface(points, over, source.faces[answers], normals)
            weights = weights * np.exp(-((distance / _FADE_M) ** 2))[:, None]
            rows.append(np.repeat(np.flatnonzero(asks), 3))
            columns.append(corners.ravel())
            values.append(weights.ravel())
    if not rows:
        return csr_matrix((len(target.verts), len(source.verts)))
    shape = (len(target.verts), len(source.verts))
    weights = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape).tocsr()
    blur = _averaging(target, target_kinds)
    for _ in range(_passes(target)):
        weights = blur @ weights
    weights = weights @ _soft_skin(source)
    weights.data[np.abs(weights.data) < 1e-6] = 0
    weights.eliminate_zeros()
    return weights


def _passes(face) -> int:
    """How often neighbours are averaged for `_SMOOTH_M`; a pass spreads by half the variance of an edge's length."""
    edges, _ = unique_edges(face.faces)
    edges = edges[np.isin(edges, face.regions.get("lips", face.landmarks[48:68])).all(axis=1)]
    if len(edges) == 0:
        return 1
    length = np.median(np.linalg.norm(face.verts[edges[:, 0]] - face.verts[edges[:, 1]], axis=1))
    return int(np.clip(round(2 * (_SMOOTH_M / length) ** 2), 1, 16))


def _soft_skin(face) -> csr_matrix:
    """(V, V): averages displacements over the skin, the more the further from the lips' red.

    A rig's creases sit where its own folds are; on another face they would be creases beside the folds.
    """
    red = face.verts[face.regions.get("lips", face.landmarks[48:60])]
    away, _ = cKDTree(red).query(face.verts)
    blur = _averaging(face, _kinds(face), 0.5 * smoothstep(away, *_SOFT_FROM_TO_M))
    out = blur
    for _ in range(_SOFT_PASSES - 1):
        out = blur @ out
    return out


def _averaging(face, kinds, share=0.5) -> csr_matrix:
    """(W, W): a share of the mean of a vertex's neighbours within skin and lips, the rest of its own value."""
    edges, _ = unique_edges(face.faces)
    edges = edges[(kinds[edges] < 0).all(axis=1)]
    both = np.concatenate([edges, edges[:, ::-1]])
    degree = np.bincount(both[:, 0], minlength=len(kinds))
    share = np.where(degree > 0, share, 0.0)
    around = coo_matrix((share[both[:, 0]] / degree[both[:, 0]], both.T), shape=(len(kinds),) * 2)
    own = coo_matrix((1 - share, (np.arange(len(kinds)),) * 2), shape=(len(kinds),) * 2)
    return (around + own).tocsr()


def nearest_on_surface(
    points: np.ndarray, verts: np.ndarray, faces: np.ndarray, normals: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest point of triangles to each of points (N, 3): its corners (N, 3), barycentrics (N, 3), distance (N,).

    Among the triangles whose middles are nearest, which finds the nearest point of all on evenly meshed surfaces. With
    the points' unit normals (N, 3), a surface that looks elsewhere counts as further away: a lip's front is not its
    back, though they be near.
    """
    a, b, c = (verts[faces[:, k]] for k in range(3))
    _, near = cKDTree((a + b + c) / 3).query(points, k=min(_N_NEAR, len(faces)))
    near = near.reshape(len(points), -1)  # (N, k)
    weights = _closest_barycentrics(points[:, None], a[near], b[near], c[near])
    at = np.einsum("nkc,nkcx->nkx", weights, verts[faces[near]])
    distance = np.linalg.norm(at - points[:, None], axis=-1)
    cost = distance
    if normals is not None:
        across = np.cross(b - a, c - a)
        across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-20)
        cost = distance + _TURNED_M * (1 - np.einsum("nkx,nx->nk", across[near], normals))
    best = cost.argmin(axis=1)
    row = np.arange(len(points))
    return faces[near[row, best]], weights[row, best], distance[row, best]


def _closest_barycentrics(p, a, b, c):
    """Barycentrics (..., 3) of the point of triangle abc nearest to p: of the plane, else of the nearest edge."""
    ab, ac, ap = b - a, c - a, p - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = np.maximum(d00 * d11 - d01**2, 1e-30)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    inside = np.stack([1 - v - w, v, w], axis=-1)
    options = [inside]
    for start, end, (i, j) in ((a, b, (0, 1)), (b, c, (1, 2)), (c, a, (2, 0))):
        along = end - start
        t = np.clip(((p - start) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-30), 0, 1)
        option = np.zeros((*t.shape, 3))
        option[..., i], option[..., j] = 1 - t, t
        options.append(option)
    options = np.stack(options)  # (4, ..., 3)
    at = options[..., :1] * a + options[..., 1:2] * b + options[..., 2:] * c
    distance = np.linalg.norm(at - p, axis=-1)
    distance[0][(inside < -1e-9).any(axis=-1)] = np.inf
    best = distance.argmin(axis=0)
    return np.take_along_axis(options, best[None, ..., None], axis=0)[0]


def _gap_correctors(face: FaceTemplate) -> np.ndarray:
    """(C, W, 3): vertical displacements that open one column of `GAP_PAIRS` by one unit and leave the others alone."""
    graph = edge_graph(face.verts, face.faces)
    kinds = _kinds(face)
    fields = np.zeros((2, len(GAP_PAIRS), len(face.verts)))
    for lip, (numbers, sign) in enumerate(((UPPER_INNER, 0.5), (LOWER_INNER, -0.5))):
        way = path_through(graph, face.landmarks[list(numbers)])
        away, nearest = dijkstra(graph, indices=way, min_only=True, limit=4 * _LIP_FALL_M, return_predecessors=True)[:2]
        nearest = cKDTree(face.verts[way]).query(face.verts)[1]
        knots = face.verts[face.landmarks[list(numbers)], 0].astype(np.float64)
        x = face.verts[way][nearest, 0]
        fall = np.where(np.isfinite(away), np.exp(-((away / _LIP_FALL_M) ** 2)), 0.0)
        for column in range(len(GAP_PAIRS)):
            hat = np.interp(x, knots, np.eye(5)[1 + column])
            fields[lip, column] = sign * hat * fall
    sides = lip_sides(face)
    total = np.where(sides > 0, fields[0], np.where(sides < 0, fields[1], 0.0)) * (kinds < 0)
    out = np.zeros((len(GAP_PAIRS), len(face.verts), 3))
    out[..., 1] = total
    opened = lip_gaps(face, out) - lip_gaps(face, np.zeros((1, len(face.verts), 3)))  # (C, C)
    return np.tensordot(np.linalg.inv(opened), out, axes=1)
