"""Closed spline tracks, many at once: centreline queries and exact ray casting against the walls.

Positions are in track coordinates: `arc`, metres along the centreline, and `offset`, metres to the left of it. A wall
is the polyline through every WALL_STEP-th centreline sample, moved sideways by HALF_WIDTH.

Ray casting needs no search. A ray that starts between the walls of a track hits the part of the walls around the car
first. For every centreline sample this part is stored once, in the sample's frame. A query copies one row per car,
turns it into the car's frame (one small matrix product), and changes of sign show which segments a ray crosses. The
result is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.envs.vec_env import Float32

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

LENGTH = 600.0  #: m, the same for every track, so that one spacing fits all tables
SAMPLES = 600  #: centreline samples of a track, 1 m apart
SPACING = LENGTH / SAMPLES
HALF_WIDTH = 6.0  #: m from the centreline to either wall
WALL_STEP = 3  #: centreline samples for each wall segment; divides SAMPLES
RAY_RANGE = 50.0  #: m, the length of a ray that hits nothing
MIN_RADIUS = 13.0  #: m, of the sharpest bend; must be above HALF_WIDTH, or the inner wall would cross itself
WINDOW = int(np.ceil((RAY_RANGE + 8.0) / (SPACING * WALL_STEP)))  #: wall points stored ahead and behind

_CORNERS = 12  #: control points of a track
_HILLS = 4  #: sine waves of its height
_STEEPEST = 0.05  #: m of height per metre of arc; the steepest slope of each track


@dataclass(frozen=True, slots=True)
class Centreline:
    """The centreline at n queried positions; every field is an [n] array."""

    x: Float64  #: m
    y: Float64  #: m
    heading: Float64  #: rad, counter-clockwise from x
    curvature: Float64  #: 1/m, positive to the left
    slope: Float64  #: m of height per metre of arc, positive uphill
    bend: Float64  #: 1/m, change of slope per metre: positive in a dip, negative on a crest


class Tracks:
    """`count` different closed tracks from one seed, as tables with one row for each centreline sample."""

    def __init__(self, count: int, *, seed: int) -> None:
        if count < 1:
            raise ValueError(f"tracks is {count}, but must be at least 1")
        self.count = count
        centrelines = [_centreline(np.random.default_rng([seed, k])) for k in range(count)]
        # Half of the tracks run clockwise.
        centrelines = [(x, y if k % 2 == 0 else -y) for k, (x, y) in enumerate(centrelines)]
        hills = [_hills(np.random.default_rng([seed, k, 1])) for k in range(count)]
        self.x, self.y = np.concatenate([p[0] for p in centrelines]), np.concatenate([p[1] for p in centrelines])
        self.heading = np.concatenate([_headings(*p) for p in centrelines])
        self.curvature = np.concatenate([_per_metre(_headings(*p), turn=True) for p in centrelines])
        self.slope, self.bend = (np.concatenate(column) for column in zip(*hills, strict=True))
        self.walls = np.stack([self._wall(side * HALF_WIDTH) for side in (1.0, -1.0)])  # [2 sides, tracks, points, 2]
        self._walls_around = self._wall_table()

    def rows(self, track: Int64, arc: Float64) -> Int64:
        """Return the table rows [n] of the samples nearest to `arc` [n] on `track` [n]."""
        return track * SAMPLES + np.rint(arc / SPACING).astype(np.int64) % SAMPLES

    def at(self, track: Int64, arc: Float64) -> Centreline:
        """Return the centreline at `arc` [n], m, on `track` [n]: the nearest sample, extended as an arc of a circle."""
        row = self.rows(track, arc)
        ahead = _past_sample(arc)
        heading, curvature, slope, bend = self.heading[row], self.curvature[row], self.slope[row], self.bend[row]
        middle = heading + 0.5 * curvature * ahead
        return Centreline(
            x=self.x[row] + np.cos(middle) * ahead,
            y=self.y[row] + np.sin(middle) * ahead,
            heading=heading + curvature * ahead,
            curvature=curvature,
            slope=slope + bend * ahead,
            bend=bend,
        )

    def world_xy(self, track: Int64, arc: Float64, offset: Float64) -> Float64:
        """Return the world coordinates [n, 2], m, of positions in track coordinates [n]."""
        c = self.at(track, arc)
        return np.stack([c.x - np.sin(c.heading) * offset, c.y + np.cos(c.heading) * offset], axis=-1)

    def cast(self, track: Int64, arc: Float64, offset: Float64, heading: Float64) -> Float32:
        """Return the distances [5, n], m, to the walls: forward, left, right, 45 degrees left, 45 degrees right.

        They are at most RAY_RANGE. `heading` [n] is the car's, rad, relative to the centreline at `arc`.
        """
        row = self.rows(track, arc)
        past = _past_sample(arc)
        bent = 0.5 * self.curvature[row] * past  # the centreline turns by twice this between the sample and `arc`
        x = np.cos(bent) * past - np.sin(2.0 * bent) * offset
        y = np.sin(bent) * past + np.cos(2.0 * bent) * offset
        direction = 2.0 * bent + heading
        cos, sin = np.cos(direction), np.sin(direction)
        forward = np.stack([cos, sin, -x * cos - y * sin], axis=-1)  # times (x, y, 1): how far ahead of the car
        left = np.stack([-sin, cos, x * sin - y * cos], axis=-1)
        diagonals = (forward - left) * np.sqrt(0.5), (forward + left) * np.sqrt(0.5)
        frames = np.stack([left, forward, *diagonals], axis=1).astype(np.float32)  # [n, 4, 3]
        ahead, behind = _first_hits(frames @ self._walls_around.take(row, axis=0))
        return np.stack([ahead[:, 0], ahead[:, 1], behind[:, 1], ahead[:, 2], ahead[:, 3]])

    def _wall(self, offset: float) -> Float64:
        """Return the wall points [tracks, points, 2] of one side."""
        every = np.arange(0, SAMPLES, WALL_STEP)
        rows = np.arange(self.count)[:, None] * SAMPLES + every
        heading = self.heading[rows]
        return np.stack([self.x[rows] - np.sin(heading) * offset, self.y[rows] + np.cos(heading) * offset], axis=-1)

    def _wall_table(self) -> Float32:
        """Return the walls around each table row, in its own frame: [tracks * SAMPLES, (x, y, 1), 2 sides * points]."""
        points = self.walls.shape[2]
        nearest = np.arange(SAMPLES) // WALL_STEP
        near = (nearest[:, None] + np.arange(-WINDOW, WINDOW + 1)) % points  # [SAMPLES, 2 * WINDOW + 1]
        around = self.walls[:, :, near].transpose(1, 2, 0, 3, 4).reshape(self.count * SAMPLES, -1, 2)
        dx, dy = around[..., 0] - self.x[:, None], around[..., 1] - self.y[:, None]
        cos, sin = np.cos(self.heading)[:, None], np.sin(self.heading)[:, None]
        return np.stack([dx * cos + dy * sin, dy * cos - dx * sin, np.ones_like(dx)], axis=1).astype(np.float32)


def _past_sample(arc: Float64) -> Float64:
    """Return the metres [n] from the nearest sample to `arc`; negative if the sample is ahead."""
    return arc - np.rint(arc / SPACING) * SPACING


def _first_hits(beside: Float32) -> Float32:
    """Return the distances [2 directions, n, 4 lines] to the first walls ahead and behind, on 4 lines through each car.

    `beside` [n, 4, 2 * points] is the distance of each wall point from each line. Lines 0 and 1 are perpendicular, as
    are 2 and 3, so the distance from one line of a pair is the position along the other. A line crosses a wall segment
    if the ends are on different sides; the position of the crossing is linear between them.
    """
    n, lines, points = beside.shape
    sides = beside >= 0.0
    crossed = sides[..., 1:] != sides[..., :-1]
    crossed[..., points // 2 - 1] = False  # between the end of the left wall and the start of the right one
    line, start = np.divmod(np.flatnonzero(crossed), points - 1)
    start += line * points
    pair = start + ((line ^ 1) - line) * points
    flat = beside.ravel()
    b0, b1, a0, a1 = flat[start], flat[start + 1], flat[pair], flat[pair + 1]
    distance = a0 + (a1 - a0) * (b0 / (b0 - b1))
    hits = np.full((2, n, lines), RAY_RANGE, np.float32)
    np.minimum.at(hits.ravel(), line + (distance < 0.0) * (n * lines), np.abs(distance))
    return hits


def _centreline(rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Return x and y [SAMPLES], m, of a closed B-spline of LENGTH that does not bend or approach itself too much."""
    while True:
        angle = 2.0 * np.pi * (np.arange(_CORNERS) + rng.uniform(-0.25, 0.25, _CORNERS)) / _CORNERS
        radius = rng.uniform(0.35, 1.0, _CORNERS)
        x, y = _resample(_b_spline(radius * np.cos(angle)), _b_spline(radius * np.sin(angle)))
        sharpest = np.abs(_per_metre(_headings(x, y), turn=True)).max()
        if sharpest < 1.0 / MIN_RADIUS and _is_clear(x, y):
            return x, y


def _b_spline(control: Float64, steps: int = 256) -> Float64:
    """Return the closed uniform cubic B-spline [points * steps] of control values; its curvature is continuous."""
    t = np.arange(steps) / steps
    weight = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6.0
    return np.concatenate([np.roll(control, -k)[:4] @ weight for k in range(len(control))])


def _resample(x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """Scale a closed curve to LENGTH and return it at SAMPLES points with equal spacing."""
    x, y = np.append(x, x[0]), np.append(y, y[0])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    positions = np.arange(SAMPLES) * arc[-1] / SAMPLES
    scale = LENGTH / arc[-1]
    return np.interp(positions, arc, x) * scale, np.interp(positions, arc, y) * scale


def _headings(x: Float64, y: Float64) -> Float64:
    """Return the direction [SAMPLES], rad, of a closed curve, by central differences."""
    return np.arctan2(np.roll(y, -1) - np.roll(y, 1), np.roll(x, -1) - np.roll(x, 1))


def _per_metre(values: Float64, *, turn: bool = False) -> Float64:
    """Return the change per metre [SAMPLES] along a closed curve; with `turn` the values are angles."""
    change = np.roll(values, -1) - np.roll(values, 1)
    if turn:
        change = (change + np.pi) % (2.0 * np.pi) - np.pi
    return change / (2.0 * SPACING)


def _is_clear(x: Float64, y: Float64) -> bool:
    """Return whether parts of the track that are not neighbours are more than its width apart."""
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    apart = np.abs(np.arange(SAMPLES)[:, None] - np.arange(SAMPLES)) * SPACING
    apart = np.minimum(apart, LENGTH - apart)
    return bool(distance[apart > 6.0 * HALF_WIDTH].min() > 2.2 * HALF_WIDTH)


def _hills(rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Return slope and bend, each [SAMPLES], of a few sine waves; the slope is at most _STEEPEST."""
    waves = 2.0 * np.pi * np.arange(1, _HILLS + 1)[:, None] / LENGTH
    phase = waves * np.arange(SAMPLES) * SPACING + rng.uniform(0.0, 2.0 * np.pi, (_HILLS, 1))
    steepness = rng.uniform(0.2, 1.0, (_HILLS, 1))
    slope = (steepness * np.cos(phase)).sum(0)
    bend = -(steepness * waves * np.sin(phase)).sum(0)
    scale = _STEEPEST / np.abs(slope).max()
    return slope * scale, bend * scale
