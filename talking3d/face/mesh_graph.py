"""A mesh as a graph of edges: its parts, its holes and paths along it; and its normals.

Letters: V vertices, F faces, E edges.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra

from avsr.errors import InputError


def unique_edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edges (E, 2) of triangles (F, 3), lower vertex first, and by how many triangles each is used (E,)."""
    a, b = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64).T
    n_verts = int(faces.max()) + 1
    numbers, count = np.unique(np.minimum(a, b) * n_verts + np.maximum(a, b), return_counts=True)
    return np.stack([numbers // n_verts, numbers % n_verts], axis=1), count


def edge_graph(verts: np.ndarray, faces: np.ndarray) -> csr_matrix:
    """The (V, V) symmetric graph whose edges weigh what they are long, in the unit of verts (V, 3)."""
    edges, _ = unique_edges(faces)
    lengths = np.linalg.norm(verts[edges[:, 0]] - verts[edges[:, 1]], axis=1)
    lengths = np.maximum(lengths, 1e-12)  # a weight of 0 would be no edge
    half = coo_matrix((lengths, edges.T), shape=(len(verts), len(verts)))
    return (half + half.T).tocsr()


def parts_of(faces: np.ndarray, n_verts: int) -> np.ndarray:
    """(V,) number of the connected part that each vertex belongs to."""
    edges, _ = unique_edges(faces)
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(n_verts, n_verts))
    return connected_components(graph, directed=False)[1]


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """The holes and outer borders of a mesh: each a loop of vertices in order, the one with most vertices first.

    The surface lies to the left of a loop's direction as seen from outside. Vertices at which two loops touch end a
    loop there.
    """
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    n_verts = int(faces.max()) + 1
    there, back = directed @ [n_verts, 1], directed @ [1, n_verts]
    border = directed[~np.isin(there, back)]
    following = dict(border.tolist())
    loops = []
    while following:
        start, here = following.popitem()
        loop = [start]
        while here != start and here in following:
            loop.append(here)
            here = following.pop(here)
        if here == start and len(loop) > 2:
            loops.append(np.array(loop))
    return sorted(loops, key=len, reverse=True)


def path_through(graph: csr_matrix, stops: Sequence[int], closed: bool = False) -> np.ndarray:
    """The vertices of the shortest way along edges from stop to stop; a closed one returns to the first.

    Raises InputError where no way leads from one stop to the next.
    """
    stops = [int(stop) for stop in stops]
    way = [stops[0]]
    for start, goal in zip(stops, stops[1:] + stops[:1] if closed else stops[1:], strict=False):
        _, before = dijkstra(graph, indices=start, return_predecessors=True, limit=np.inf)
        leg = [goal]
        while leg[-1] != start:
            if before[leg[-1]] < 0:
                raise InputError(f"no edges lead from vertex {start} to vertex {goal}: they lie on separate parts")
            leg.append(int(before[leg[-1]]))
        way += leg[-2::-1]
    return np.array(way[:-1] if closed else way)


def vertex_normals(verts: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3): the mean of the triangles around each vertex, weighted by area; 0 without triangles."""
    a, b, c = (verts[faces[:, k]] for k in range(3))
    facing = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    normals = np.stack([np.bincount(faces.ravel(), weights=facing[:, k], minlength=len(verts)) for k in range(3)], 1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
