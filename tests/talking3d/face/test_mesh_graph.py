import numpy as np
import pytest

from avsr.errors import InputError
from talking3d.face.mesh_graph import boundary_loops, edge_graph, parts_of, path_through, unique_edges, vertex_normals


def sheet_with_hole():
    """A flat 5 x 5 sheet in the picture's plane without the four squares round its middle, and a triangle beside it."""
    y, x = np.mgrid[0:5, 0:5]
    verts = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1).astype(float)
    corner = [r * 5 + c for r in range(4) for c in range(4) if not (1 <= r <= 2 and 1 <= c <= 2)]
    faces = [t for i in corner for t in ([i, i + 1, i + 6], [i, i + 6, i + 5])]
    verts = np.concatenate([verts, [[9, 0, 0], [10, 0, 0], [9, 1, 0]]])
    return verts, np.array([*faces, [25, 26, 27]])


def test_borders_are_loops_in_order_with_the_surface_to_their_left():
    verts, faces = sheet_with_hole()
    outer, hole, triangle = boundary_loops(faces)
    assert (len(outer), len(hole), len(triangle)) == (16, 8, 3)
    for loop, sign in ((outer, 1), (hole, -1)):
        x, y = verts[loop, 0], verts[loop, 1]
        assert sign * (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0
        assert np.abs(verts[loop] - verts[np.roll(loop, 1)]).sum(axis=1).max() == 1


def test_parts_are_what_edges_connect():
    verts, faces = sheet_with_hole()
    part = parts_of(faces, len(verts))
    assert part[0] == part[24] != part[25] and part[25] == part[27]
    assert part[12] not in (part[0], part[25])  # no triangle uses the middle


def test_edges_know_how_many_triangles_use_them():
    edges, count = unique_edges(np.array([[0, 1, 2], [1, 3, 2]]))
    assert dict(zip(map(tuple, edges.tolist()), count.tolist(), strict=True))[(1, 2)] == 2
    assert len(edges) == 5 and count.sum() == 6


def test_a_path_goes_the_shortest_way_through_its_stops():
    verts, faces = sheet_with_hole()
    graph = edge_graph(verts, faces)
    way = path_through(graph, [10, 14])  # the hole is in between
    assert way[0] == 10 and way[-1] == 14
    length = np.linalg.norm(np.diff(verts[way], axis=0), axis=1).sum()
    assert length == pytest.approx(graph_distance(graph, 10, 14))
    around = path_through(graph, [0, 4, 24, 20], closed=True)
    assert len(around) == len(set(around.tolist())) == 16


def graph_distance(graph, start, goal):
    from scipy.sparse.csgraph import dijkstra

    return dijkstra(graph, indices=start)[goal]


def test_no_path_leads_to_another_part():
    with pytest.raises(InputError, match="no edges lead from vertex 0 to vertex 25"):
        path_through(edge_graph(*sheet_with_hole()), [0, 25])


def test_normals_are_weighted_by_area_and_zero_without_triangles():
    verts = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 1], [5, 5, 5]], float)
    normals = vertex_normals(verts, np.array([[0, 1, 2], [0, 3, 1]]))
    np.testing.assert_allclose(normals[0], np.array([0, 2, 4]) / np.sqrt(20))
    np.testing.assert_allclose(normals[[2, 4]], [[0, 0, 1], [0, 0, 0]])
