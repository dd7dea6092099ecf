"""The objects in a toy street. Each function draws one object at ``x``, ``z`` (meters) on a canvas.

The classes share pools of colors, so they can be distinguished by shape, texture and context, but not by color alone.
"""
from collections.abc import Sequence

import cv2
import numpy as np

from . import canvas as pools
from .canvas import LABEL_IDS, SCALE, Canvas, Color, pick_color


def paint_building(canvas: Canvas, x: float, z: float, length: float, side: int) -> None:
    rng, height, deep = canvas.rng, canvas.rng.uniform(3.5, 9), 9
    color, roof, glass = pick_color(rng, pools.WALLS), pick_color(rng, pools.WALLS), pick_color(rng, pools.METALS + pools.SKIES)
    canvas.box((min(x, x + side * deep), max(x, x + side * deep)), (0, height), (z, z + length), color, 'building')
    if rng.random() < 0.6:
        ridge = (x + side * deep / 2, height + rng.uniform(1, 2.5))
        slope = ((x, height, z), (*ridge, z), (*ridge, z + length), (x, height, z + length))
        canvas.fill([canvas.project(*corner) for corner in slope], roof, 'building', z)
        canvas.outline(x, z, ((0, height), (side * deep / 2, ridge[1]), (side * deep, height)), color, 'building')
    if z < 35:
        pitch, story = rng.uniform(1.8, 3), rng.uniform(2.4, 3.2)
        courses = np.arange(0.5, height, 0.5).tolist() if z < 20 and rng.random() < 0.4 else []
        sills = np.arange(0.9, height - 1.4, story).tolist()
        shade = canvas.light[-side]
        _paint_facade(canvas, (x, z), (side, 0), deep, pitch, courses, sills, (color, glass, roof))
        _paint_facade(canvas, (x, z), (0, 1), length, pitch, courses, sills,
                      (color * shade, glass * shade, roof * shade))


def _paint_facade(canvas: Canvas, corner: tuple[float, float], step: tuple[int, int], extent: float, pitch: float,
                  courses: Sequence[float], sills: Sequence[float], colors: tuple[np.ndarray, ...]) -> None:
    """Draw brick courses, windows and a door on the wall that starts at ``corner`` (x, z) in the direction ``step``."""
    color, glass, door = colors
    frame, pane = np.minimum(color * 1.3, 240), pitch * canvas.rng.uniform(0.4, 0.65)
    door_number = canvas.rng.integers(3)

    def panel(start: float, end: float, bottom: float, top: float, paint: Color) -> None:
        first, last = ((corner[0] + step[0] * a, corner[1] + step[1] * a) for a in (start, end))
        canvas.wall(first, last, bottom, top, paint)

    for y in courses:
        panel(0, extent, y, y + 0.1, color * 0.82)
    for number, start in enumerate(np.arange(0.6, extent - pane, pitch).tolist()):
        for y in sills:
            panel(start - 0.1, start + pane + 0.1, y - 0.1, y + 1.5, frame)
            panel(start, start + pane, y, y + 1.4, glass)
        if number == door_number:
            panel(start, start + 1.1, 0, 2.1, door)


def paint_fence(canvas: Canvas, x: float, z: float, length: float, side: int) -> None:
    rng, height = canvas.rng, canvas.rng.uniform(1.6, 2.4)
    color, gap_share = pick_color(rng, pools.FENCES), rng.uniform(0.15, 0.5)
    gap_color = color * rng.uniform(0.35, 0.7)
    pitch = rng.uniform(0.35, 0.7)
    across = rng.random() < 0.4
    end = (x + side * length, z) if across else (x, z + length)
    canvas.wall((x, z), end, 0, height, color, 'fence')
    for a in np.arange(0, 1, pitch / length):
        start, stop = ((x + (end[0] - x) * b, z + (end[1] - z) * b) for b in (a, min(1, a + gap_share * pitch / length)))
        canvas.wall(start, stop, 0.12, height - 0.15, gap_color)
    for y in (0.35, height - 0.4):
        canvas.wall((x, z), end, y, y + 0.12, color * 0.9)


def _paint_foliage(canvas: Canvas, x: float, y: float, z: float, spread: float, color: Color) -> None:
    rng = canvas.rng
    for light in np.linspace(0.65, 1.15, 8 if z < 25 else 5):
        dx, dy = rng.uniform(-0.6, 0.6, 2) * spread
        radii = spread * rng.uniform(0.4, 0.75, 2)
        canvas.ball(x + dx, y + dy, z, tuple(radii), np.multiply(color, light), 'vegetation')


def paint_tree(canvas: Canvas, x: float, z: float, size: float) -> None:
    rng, crown = canvas.rng, canvas.rng.uniform(3, 4.5) * size
    trunk = 0.2 * size
    canvas.outline(x, z, ((-trunk, 0), (-trunk * 0.7, crown), (trunk * 0.7, crown), (trunk, 0)),
                   pick_color(rng, pools.PLANTS) * 0.6, 'vegetation')
    _paint_foliage(canvas, x, crown, z, rng.uniform(1.4, 2.2) * size, pick_color(rng, pools.PLANTS))


def paint_bush(canvas: Canvas, x: float, z: float) -> None:
    _paint_foliage(canvas, x, 0.6, z, canvas.rng.uniform(0.7, 1.1), pick_color(canvas.rng, pools.PLANTS))


def paint_pole(canvas: Canvas, x: float, z: float, height: float | None = None) -> None:
    rng, color = canvas.rng, pick_color(canvas.rng, pools.METALS)
    half = max(rng.uniform(0.16, 0.22), 4 * SCALE * z / canvas.focal)
    top = height or rng.uniform(4, 7)
    canvas.wall((x - half, z), (x + half, z), 0, top, color, 'pole')
    canvas.wall((x - half, z), (x - half / 3, z), 0, top, np.minimum(color * 1.35, 240))
    if height is None and rng.random() < 0.6:
        arm = -np.sign(x) * rng.uniform(1, 2)
        canvas.wall((x, z), (x + arm, z), top - half * 2, top, color, 'pole')
        canvas.wall((x + arm, z), (x + arm * 0.6, z), top - half * 3, top - half, color * 0.7, 'pole')


def paint_sign(canvas: Canvas, x: float, z: float) -> None:
    rng, size, height = canvas.rng, canvas.rng.uniform(0.6, 0.85), canvas.rng.uniform(2, 2.6)
    paint_pole(canvas, x, z, height)
    border, inside = pick_color(rng, pools.SIGNS), pick_color(rng, pools.SIGNS + pools.MATERIALS[3:6])
    symbol = pick_color(rng, pools.MATERIALS)
    triangle, diamond = ((-1, -0.8), (0, 1), (1, -0.8)), ((-1, 0), (0, 1), (1, 0), (0, -1))
    board = ((-0.8, -1), (-0.8, 1), (0.8, 1), (0.8, -1))
    shape = (None, triangle, diamond, board)[rng.integers(4)]
    for share, color in ((1, border), (0.72, inside), (0.3, symbol)):
        if shape is None:
            canvas.ball(x, height, z, (size * share, size * share), color, 'traffic sign')
        else:
            offsets = [(a * size * share, height + b * size * share) for a, b in shape]
            canvas.outline(x, z, offsets, color, 'traffic sign')


def paint_person(canvas: Canvas, x: float, z: float) -> None:
    rng, tall = canvas.rng, canvas.rng.uniform(1.45, 2)
    coat, trousers = pick_color(rng, pools.CLOTHES), pick_color(rng, pools.CLOTHES)
    hair = pick_color(rng, pools.MATERIALS) * 0.6
    skin, stride, swing = pick_color(rng, pools.SKINS, 8), rng.uniform(0.05, 0.3), rng.uniform(0.1, 0.25)
    for foot in (-stride, stride):
        legs = ((foot - 0.1, 0), (-0.18, 0.5), (0.18, 0.5), (foot + 0.12, 0))
        canvas.outline(x, z, [(dx, y * tall) for dx, y in legs], trousers, 'person')
    arms = ((-0.3 - swing, 0.48), (-0.27, 0.82), (0.27, 0.82), (0.3 + swing, 0.48), (0.2 + swing, 0.46), (0.2, 0.6),
            (-0.2, 0.6), (-0.2 - swing, 0.46))
    canvas.outline(x, z, [(dx, y * tall) for dx, y in arms], coat * 0.8, 'person')
    torso = ((-0.22, 0.45), (-0.25, 0.83), (0.25, 0.83), (0.22, 0.45))
    canvas.outline(x, z, [(dx, y * tall) for dx, y in torso], coat, 'person')
    canvas.ball(x, tall * 0.93, z, (0.14, 0.17), hair, 'person')
    canvas.ball(x + rng.uniform(-0.04, 0.04), tall * 0.91, z - 0.01, (0.11, 0.13), skin, 'person')


def paint_bicycle(canvas: Canvas, x: float, z: float) -> None:
    rng, color, radius, pixel = canvas.rng, pick_color(canvas.rng, pools.MATERIALS), 0.4, canvas.focal / z
    turn, tire = rng.uniform(0.6, 1) * rng.choice([-1, 1]), pick_color(rng, pools.MATERIALS[:5], 10) * 0.5
    hull = [(a * turn, y) for a, y in ((-0.55, 0.4), (-0.25, 1.05), (0.45, 1.15), (0.55, 0.4))]
    cv2.fillPoly(canvas.label_ids, [np.array([canvas.project(x + a, y, z) for a, y in hull], np.int32)], LABEL_IDS['bicycle'])
    for a in (-0.55, 0.55):
        center = canvas.project(x + a * turn, radius, z)
        axes = round(radius * abs(turn) * pixel), round(radius * pixel)
        cv2.ellipse(canvas.label_ids, center, axes, 0, 0, 360, LABEL_IDS['bicycle'], cv2.FILLED)
        cv2.ellipse(canvas.image, center, axes, 0, 0, 360, tire.tolist(), max(2, round(0.12 * pixel)))
    tubes = ((-0.55, 0.4, -0.25, 0.95), (-0.25, 0.95, 0.4, 0.9), (0.4, 0.9, -0.1, 0.4), (-0.1, 0.4, -0.25, 0.95),
             (-0.55, 0.4, -0.1, 0.4), (0.55, 0.4, 0.4, 1.12), (0.4, 1.12, 0.2, 1.15), (-0.42, 1.02, -0.12, 1.02))
    for a, bottom, b, top in tubes:
        ends = canvas.project(x + a * turn, bottom, z), canvas.project(x + b * turn, top, z)
        cv2.line(canvas.image, *ends, color.tolist(), max(2, round(0.1 * pixel)))


def paint_car(canvas: Canvas, x: float, z: float, road: Color, crossing: bool) -> None:
    rng = canvas.rng
    color, glass = pick_color(rng, pools.MATERIALS), pick_color(rng, pools.MATERIALS[:5] + pools.SKIES) * 0.7
    wide, deep = (2.1, 1.7) if crossing else (0.9, 4.)
    waist, top, tire = rng.uniform(0.85, 1), rng.uniform(1.4, 1.9), np.full(3, 22)
    left, right, behind = x - wide - 0.2, x + wide + 0.2, z + deep
    shadow = ((left, z - 0.2), (left, behind), (right, behind), (right, z - 0.2))
    canvas.fill([canvas.project(px, 0, pz) for px, pz in shadow], np.multiply(road, 0.35), None, z)
    for wheel in (0.8 - wide, wide - 0.8) if crossing else (0.2 - wide, wide - 0.2):
        canvas.wall((x + wheel - 0.15, z), (x + wheel + 0.15, z), 0, 0.4, tire, 'car')
    canvas.box((x - wide, x + wide), (0.25, waist), (z, z + deep), color, 'car')
    inset, back = (0.75, 0.1) if crossing else (0.14, rng.uniform(0.1, 0.9))
    cabin = (x - wide + inset, x + wide - inset)
    canvas.box(cabin, (waist, top), (z + back, z + deep * 0.75), color, 'car')
    panes = [(cabin[0] + 0.1, x - 0.05), (x + 0.05, cabin[1] - 0.1)] if crossing else [(cabin[0] + 0.1, cabin[1] - 0.1)]
    for start, end in panes:
        canvas.wall((start, z + back), (end, z + back), waist + 0.05, top - 0.12, glass)
    if crossing:
        for wheel in (0.8 - wide, wide - 0.8):
            canvas.ball(x + wheel, 0.34, z, (0.36, 0.36), tire, 'car')
            canvas.ball(x + wheel, 0.34, z, (0.17, 0.17), (150, 150, 150), 'car')
        return
    for flank in (-1, 1):
        near, far = (canvas.project(x + flank * wide, 0, place)[0] for place in (z, z + deep))
        if (far - near) * flank > 0:
            pane, tread = x + flank * (wide - inset), x + flank * wide
            canvas.wall((pane, z + back + 0.2), (pane, z + deep * 0.7), waist + 0.05, top - 0.12, glass * 0.8)
            for start in (0.5, deep - 1.1):
                canvas.wall((tread, z + start), (tread, z + start + 0.65), 0, 0.6, tire, 'car')
    lamp = pick_color(rng, ((200, 40, 35), (225, 220, 190)))
    for side in (-1, 1):
        canvas.wall((x + side * 0.85, z), (x + side * 0.55, z), waist - 0.3, waist - 0.1, lamp)
    canvas.wall((x - 0.25, z), (x + 0.25, z), 0.45, 0.6, (210, 208, 190))
    canvas.wall((x - wide, z), (x + wide, z), 0.25, 0.38, color * 0.5)


def paint_bin(canvas: Canvas, x: float, z: float) -> None:
    canvas.box((x - 0.3, x + 0.3), (0, 0.9), (z, z + 0.5), pick_color(canvas.rng, pools.MATERIALS), 'unlabeled')
