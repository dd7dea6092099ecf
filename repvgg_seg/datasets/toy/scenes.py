"""Procedural street scenes with Cityscapes labels, for tests and demonstrations that need no download.

A scene is drawn from far to near: the sky, the ground, then the objects on it.
"""
from collections.abc import Callable

import cv2
import numpy as np

from . import objects
from .canvas import GROUNDS, LABEL_IDS, MATERIALS, NEAREST, ROADS, SCALE, SKIES, WALKS, Canvas, pick_color

# Strength of the fine and the coarse noise on the surface of each class, in gray levels.
_TEXTURE = {'road': (9, 3), 'sidewalk': (4, 5), 'building': (4, 4), 'fence': (3, 2), 'vegetation': (14, 26),
            'terrain': (17, 9), 'person': (2, 4)}


def draw_scene(seed: int, height: int = 128, width: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street scene; the same arguments always give the same scene.

    Args:
        seed: random seed of the scene, not negative.
        height: image height in pixels, at least 16.
        width: image width in pixels, at least 16.

    Returns:
        RGB image, uint8 of shape (H, W, 3), and its Cityscapes labelIds, uint8 of shape (H, W): those of ``CLASSES``, and 0 or
        1 for ignored pixels.

    Raises:
        ValueError: the image would be too small.
    """
    if min(height, width) < 16:
        raise ValueError(f'expected height and width of at least 16 pixels, got {height} and {width}')
    rng = np.random.default_rng(seed)
    canvas = Canvas(rng, height * SCALE, width * SCALE)
    _paint_sky(canvas)
    things = _lay_out_street(canvas)
    for _, paint in sorted(things, key=lambda item: -item[0]):
        paint()
    if rng.random() < 0.4:
        center, axes = (width, height * SCALE), (round(width * 0.9), round(height * rng.uniform(0.08, 0.14)))
        canvas.blob(center, axes, pick_color(rng, MATERIALS), 'ego vehicle')
    image = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA)
    label_ids = np.ascontiguousarray(canvas.label_ids[::SCALE, ::SCALE])
    return _photograph(rng, image, label_ids), label_ids


def _paint_sky(canvas: Canvas) -> None:
    rng, rows, columns = canvas.rng, canvas.horizon // SCALE, canvas.image.shape[1] // SCALE
    clouds = cv2.resize(rng.random((5, 9), np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)[..., None]
    fade = np.linspace(0, rng.uniform(0.2, 0.9), rows, dtype=np.float32)[:, None, None]
    sky = pick_color(rng, SKIES).astype(np.float32) + np.maximum(clouds - 0.55, 0) * rng.uniform(0, 180)
    sky = np.minimum(sky + (np.float32(canvas.fog_color) - sky) * fade, 245).astype(np.uint8)
    canvas.image[:canvas.horizon] = cv2.resize(sky, (canvas.image.shape[1], canvas.horizon))


def _lay_out_street(canvas: Canvas) -> list[tuple[float, Callable[[], None]]]:
    """Draw the ground, and return the depth and the drawing function of every object on it."""
    rng = canvas.rng
    half_road, road_color = rng.uniform(3, 4.6), pick_color(rng, ROADS)
    things: list[tuple[float, Callable[[], None]]] = []

    def add(painter: Callable[..., None], x: float, z: float, *arguments: object) -> None:
        things.append((z, lambda: painter(canvas, x, z, *arguments)))

    canvas.image[canvas.horizon:], canvas.label_ids[canvas.horizon:] = road_color, LABEL_IDS['road']
    walks = []
    for side in (-1, 1):
        edge, walk = _paint_verge(canvas, side, half_road)
        walks.append(walk)
        _line_street(rng, side, edge, add)
        for z in np.arange(rng.uniform(4, 12), 30, 6.5):
            if rng.random() < 0.3:
                add(objects.paint_car, side * (half_road - 1.1), z, road_color, False)
    _paint_road_marks(canvas, half_road)
    _lay_haze(canvas)

    def place(near: float, far: float, walk_share: float = 1) -> tuple[float, float]:
        for _ in range(4):  # Several tries, because small classes would be rare if many objects were outside the image.
            x = rng.uniform(*walks[rng.integers(2)]) if rng.random() < walk_share else rng.uniform(-3, 3)
            z = rng.uniform(near, far)
            if 0.05 < canvas.project(x, 0, z)[0] / canvas.image.shape[1] < 0.95:
                break
        return x, z

    for _ in range(rng.integers(0, 3)):
        add(objects.paint_car, half_road * rng.choice([-0.4, 0.4]), rng.uniform(9, 30), road_color, rng.random() < 0.35)
    for _ in range(rng.integers(1, 4)):
        add(objects.paint_pole, *place(5, 11))
    for _ in range(rng.integers(1, 4)):
        add(objects.paint_sign, *place(5, 10))
    for _ in range(rng.integers(2, 5)):
        add(objects.paint_person, *place(3.5, 7, 0.75))
    for _ in range(rng.integers(1, 3)):
        add(objects.paint_bicycle, *place(3, 6, 0.65))
    for _ in range(rng.integers(0, 3)):
        add(objects.paint_bin, *place(6, 15))
    for x in rng.uniform(-60, 60, 9):
        add(*((objects.paint_tree, x, 75., 3.) if rng.random() < 0.5 else (objects.paint_building, x, 74., 10., 1)))
    return things


def _paint_verge(canvas: Canvas, side: int, half_road: float) -> tuple[float, tuple[float, float]]:
    """Draw the ground on one side, and return the x of the house fronts and the x range of the sidewalk."""
    rng = canvas.rng
    strips = [('sidewalk', rng.uniform(1.8, 3)), ('terrain', rng.uniform(1.5, 4.5))]
    order = [strips, strips[::-1], strips[:1]][rng.choice(3, p=[0.45, 0.4, 0.15])]
    colors = {'sidewalk': pick_color(rng, WALKS), 'terrain': pick_color(rng, GROUNDS)}
    edge = half_road
    canvas.ribbon(side * edge, side * 300, NEAREST, 200, colors['terrain'], 'terrain')
    for name, breadth in order:
        canvas.ribbon(side * edge, side * (edge + breadth), NEAREST, 200, colors[name], name)
        if name == 'sidewalk':
            borders = side * (edge + 0.4), side * (edge + breadth - 0.3)
            walk = min(borders), max(borders)
            for z in np.arange(3, 16, rng.uniform(1, 2)):
                canvas.ribbon(side * edge, side * (edge + breadth), z, z + 0.08, colors[name] * 0.8, name)
        edge += breadth
    curb = colors['sidewalk'] * rng.uniform(0.6, 1.4)
    canvas.ribbon(side * half_road, side * (half_road + 0.25), NEAREST, 100, np.minimum(curb, 230), 'sidewalk')
    return side * (edge + rng.uniform(0, 1.5)), walk


def _paint_road_marks(canvas: Canvas, half_road: float) -> None:
    rng = canvas.rng
    paint = pick_color(rng, ((210, 210, 205), (205, 180, 90), (150, 150, 150)))
    if rng.random() < 0.7:
        for z in np.arange(rng.uniform(2, 5), 60, 6):
            canvas.ribbon(-0.09, 0.09, z, z + rng.uniform(2, 6), paint, None)
    if rng.random() < 0.3:
        z = rng.uniform(6, 14)
        for x in np.arange(0.3 - half_road, half_road - 0.4, 1):
            canvas.ribbon(x, x + 0.5, z, z + 2.5, paint, None)


def _lay_haze(canvas: Canvas) -> None:
    """Darken the ground under cast shadows, then blend it with the fog."""
    rng, ground = canvas.rng, canvas.image[canvas.horizon:]
    shadow = np.zeros(canvas.label_ids.shape, np.uint8)
    for _ in range(rng.integers(0, 5)):
        x, z = rng.uniform(-9, 6), rng.uniform(3, 25)
        corners = ((x, z), (x + rng.uniform(2, 9), z + rng.uniform(-1, 1)), (x + 5, z + 4), (x - 1, z + 3))
        cv2.fillPoly(shadow, [np.array([canvas.project(px, 0, pz) for px, pz in corners], np.int32)], 1)
    shaded = ground * (1 - rng.uniform(0.2, 0.5) * shadow[canvas.horizon:, :, None].astype(np.float32))
    depth = canvas.focal * canvas.camera_y / np.arange(1, len(ground) + 1, dtype=np.float32)
    share = (depth / (depth + canvas.fog_depth))[:, None, None].astype(np.float32)
    ground[:] = shaded + (np.float32(canvas.fog_color) - shaded) * share


def _line_street(rng: np.random.Generator, side: int, edge: float, add: Callable[..., None]) -> None:
    """Add houses, gardens, hedges and fences along one side of the street."""
    z = rng.uniform(1.5, 6)
    while z < 60:
        length = rng.uniform(5, 11)
        if rng.random() < 0.6:
            add(objects.paint_building, edge, z, length, side)
        else:
            for _ in range(rng.integers(1, 4)):
                add(objects.paint_tree, edge + side * rng.uniform(1, 5), z + rng.uniform(0, length),
                    rng.uniform(0.8, 1.2))
        if z < 30 and rng.random() < 0.6:
            add(objects.paint_fence, edge - side * 0.2, max(z, 3), length, side)
        elif rng.random() < 0.25:
            add(objects.paint_bush, edge - side * 0.5, max(z, 5) - 0.1)
        z += length + rng.choice([0, 0, 2.5])
    if rng.random() < 0.5:
        add(objects.paint_tree, edge - side * rng.uniform(0, 1), rng.uniform(7, 16), 0.9)


def _photograph(rng: np.random.Generator, image: np.ndarray, label_ids: np.ndarray) -> np.ndarray:
    """Add surface textures, daylight, and the blur and noise of the camera; uint8 of shape (H, W, 3)."""
    height, width = label_ids.shape
    table = np.zeros((256, 2), np.float32)
    for name, strengths in _TEXTURE.items():
        table[LABEL_IDS[name]] = np.multiply(strengths, rng.uniform(0.5, 1.2))
    blotches = cv2.resize(rng.random((height // 3, width // 3), np.float32), (width, height),
                          interpolation=cv2.INTER_LINEAR)
    grain = rng.random((2, height, width), np.float32).sum(axis=0) - 1
    strengths = table[label_ids]
    texture = strengths[..., 0] * grain * 1.5 + strengths[..., 1] * (blotches - 0.5) * 3
    picture = image + texture[..., None]
    if rng.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (3, 3), rng.uniform(0.3, 0.7))
    is_dusk = rng.random() < 0.05
    gain = rng.uniform(0.6, 0.75) if is_dusk else rng.uniform(0.85, 1.12)
    warmth = rng.uniform(-0.08, 0.08)
    balance = gain * np.array((1 + warmth, 1, 1 - warmth), np.float32)
    middle, contrast = rng.uniform(100, 140), rng.uniform(0.85, 1.15)
    noise = rng.random((height, width, 3), np.float32) - np.float32(0.5)
    picture = ((picture - middle) * contrast + middle) * balance + noise * rng.uniform(3, 10)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
