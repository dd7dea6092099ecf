"""The pinhole camera with which toy scenes are drawn, and the tables of their classes and colors.

Positions are in meters: ``x`` to the right of the road's center line, ``y`` above the ground, ``z`` in front of the camera.
"""
from collections.abc import Sequence

import cv2
import numpy as np

Color = Sequence[float] | np.ndarray

# Name, Cityscapes labelId and Cityscapes palette color (RGB) of every class that is drawn.
CLASSES: tuple[tuple[str, int, tuple[int, int, int]], ...] = (
    ('road', 7, (128, 64, 128)), ('sidewalk', 8, (244, 35, 232)), ('building', 11, (70, 70, 70)),
    ('fence', 13, (190, 153, 153)), ('pole', 17, (153, 153, 153)), ('traffic sign', 20, (220, 220, 0)),
    ('vegetation', 21, (107, 142, 35)), ('terrain', 22, (152, 251, 152)), ('sky', 23, (70, 130, 180)),
    ('person', 24, (220, 20, 60)), ('car', 26, (0, 0, 142)), ('bicycle', 33, (119, 11, 32)),
)

# Not evaluated: objects without a class, and the hood of the recording car.
LABEL_IDS = {'unlabeled': 0, 'ego vehicle': 1} | {name: label_id for name, label_id, _ in CLASSES}

MATERIALS = ((70, 72, 76), (105, 105, 108), (140, 138, 134), (185, 183, 178), (40, 42, 48), (215, 212, 205),
             (125, 92, 66), (150, 72, 58), (196, 172, 128), (92, 108, 72), (72, 120, 66), (84, 110, 140),
             (120, 155, 190), (60, 80, 140), (190, 160, 60), (160, 40, 45))
WALLS = ((185, 183, 178), (215, 212, 205), (150, 72, 58), (196, 172, 128), (140, 138, 134))
CLOTHES = ((160, 40, 45), (190, 160, 60), (60, 80, 140), (215, 212, 205), (200, 105, 50), (40, 42, 48), (150, 60, 120))
METALS = ((140, 138, 134), (170, 168, 163))
FENCES = ((125, 92, 66), (150, 120, 84))
ROADS = ((75, 76, 80), (92, 92, 95))
WALKS = ((158, 154, 148), (150, 146, 140))
PLANTS = ((62, 96, 48), (84, 118, 58), (52, 80, 46))
GROUNDS = ((96, 128, 58), (118, 126, 60))
SKIES = ((120, 160, 205), (160, 185, 210), (190, 192, 196), (150, 154, 162), (215, 205, 195), (205, 165, 140),
         (95, 115, 150))
SIGNS = ((175, 30, 35), (30, 75, 160), (205, 165, 40), (45, 110, 70), (205, 205, 205))
SKINS = ((225, 185, 155), (190, 140, 105), (130, 90, 65), (85, 60, 45))

SCALE = 2  # Scenes are drawn twice as large and then averaged, for smooth edges without platform-dependent antialiasing.
NEAREST = 1.5  # Depth (m) at which shapes that extend behind the camera are cut off.
_BEND_DEPTHS = (2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 50, 70, 100)  # Where the edges of a curved street are sampled (m).


def pick_color(rng: np.random.Generator, pool: Sequence[Color], spread: float = 16) -> np.ndarray:
    """Return a random color near one of the pool, float64 of shape (3,)."""
    return np.clip(np.asarray(pool[int(rng.integers(len(pool)))]) + rng.uniform(-spread, spread, 3), 5, 235)


class Canvas:
    """Image and label map of a pinhole camera, on which shapes given in meters are drawn."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng = rng
        self.image = np.zeros((height, width, 3), np.uint8)
        self.label_ids = np.full((height, width), LABEL_IDS['sky'], np.uint8)
        self.focal = width * rng.uniform(0.68, 0.85)
        self.horizon = round(height * rng.uniform(0.38, 0.5))
        self.vanish = width * rng.uniform(0.36, 0.64)
        self.bend = rng.uniform(-0.003, 0.003)
        self.camera_x, self.camera_y = rng.uniform(-1.8, 1.8), rng.uniform(1.4, 2.2)
        self.fog_color = pick_color(rng, SKIES).tolist()
        self.fog_depth = rng.uniform(25, 60) if rng.random() < 0.1 else rng.uniform(150, 600)
        self.light = {-1: rng.uniform(0.65, 1), 1: rng.uniform(0.65, 1)}

    def project(self, x: float, y: float, z: float) -> tuple[int, int]:
        """Return the pixel (column, row) of a point."""
        x, y, z = float(x), float(y), max(float(z), NEAREST)  # NumPy scalars would be several times slower.
        column = self.vanish + self.focal * ((x - self.camera_x) / z + self.bend * z)
        return round(column), round(self.horizon + self.focal * (self.camera_y - y) / z)

    def fill(self, points: Sequence[tuple[int, int]], color: Color, name: str | None, depth: float = 0) -> None:
        """Fill a polygon given in pixels; without a name, the labels do not change."""
        corners = [np.array(points, np.int32)]
        cv2.fillPoly(self.image, corners, self._haze(color, depth))
        if name is not None:
            cv2.fillPoly(self.label_ids, corners, LABEL_IDS[name])

    def blob(self, center: tuple[int, int], axes: tuple[int, int], color: Color, name: str | None,
             depth: float = 0) -> None:
        """Fill an ellipse given in pixels."""
        cv2.ellipse(self.image, center, axes, 0, 0, 360, self._haze(color, depth), cv2.FILLED)
        if name is not None:
            cv2.ellipse(self.label_ids, center, axes, 0, 0, 360, LABEL_IDS[name], cv2.FILLED)

    def ball(self, x: float, y: float, z: float, radii: tuple[float, float], color: Color, name: str | None) -> None:
        """Fill an upright ellipse with radii (horizontal, vertical) in meters."""
        horizontal, vertical = (max(1, round(self.focal * radius / max(z, NEAREST))) for radius in radii)
        self.blob(self.project(x, y, z), (horizontal, vertical), color, name, z)

    def wall(self, start: tuple[float, float], end: tuple[float, float], bottom: float, top: float, color: Color,
             name: str | None = None) -> None:
        """Fill an upright rectangle between two points (x, z) on the ground."""
        points = [self.project(x, y, z) for (x, z), y in ((start, bottom), (start, top), (end, top), (end, bottom))]
        self.fill(points, color, name, min(start[1], end[1]))

    def outline(self, x: float, z: float, offsets: Sequence[tuple[float, float]], color: Color,
                name: str | None) -> None:
        """Fill an upright polygon that faces the camera, given by (x, y) offsets from its base."""
        self.fill([self.project(x + dx, y, z) for dx, y in offsets], color, name, z)

    def ribbon(self, left: float, right: float, near: float, far: float, color: Color, name: str | None) -> None:
        """Fill a strip of ground that follows the street; fog is added to the whole ground later."""
        depths = [near, *(z for z in _BEND_DEPTHS if near < z < far), far]
        edge = [self.project(left, 0, z) for z in depths] + [self.project(right, 0, z) for z in reversed(depths)]
        self.fill(edge, color, name)

    def box(self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], color: Color,
            name: str) -> None:
        """Fill the visible faces of a box given by its (low, high) ranges."""
        for place, side in ((x[0], -1), (x[1], 1)):
            near, far = self.project(place, 0, z[0])[0], self.project(place, 0, z[1])[0]
            if (far - near) * side > 0:
                self.wall((place, z[0]), (place, z[1]), *y, np.multiply(color, self.light[side]), name)
        if y[1] < self.camera_y:
            corners = ((x[0], z[0]), (x[0], z[1]), (x[1], z[1]), (x[1], z[0]))
            self.fill([self.project(px, y[1], pz) for px, pz in corners], np.multiply(color, 1.1), name, z[0])
        self.wall((x[0], z[0]), (x[1], z[0]), *y, color, name)

    def _haze(self, color: Color, depth: float) -> tuple[int, ...]:
        share = float(depth) / (float(depth) + self.fog_depth)
        pairs = zip(np.asarray(color).tolist(), self.fog_color)
        return tuple(min(255, round(c + (f - c) * share)) for c, f in pairs)
