"""Between two codes. Let a and b be the unit vectors of start and end, and w the angle between them.

The arc stays in the plane of a and b, so it is p a + q b. At t it is t w away from a and (1 - t) w away from b. Take
the part perpendicular to b: of a it is sin w, of b nothing, of the arc sin((1 - t) w). Do the same for a:

    p sin w = sin((1 - t) w)        q sin w = sin(t w)

Divide by sin w. For small w, sin(t w) / sin w goes to t: the arc becomes the straight line.
"""

import numpy as np


def lerp(start, end, t):
    """The straight line from start (t = 0) to end (t = 1): arrays of one shape, t a number -> the same shape."""
    return (1 - t) * start + t * end


def angle_between(start, end):
    """The angle between two codes: start, end (N, Z) -> (N,) radians, from 0 to pi."""
    lengths = np.linalg.norm(start, axis=1) * np.linalg.norm(end, axis=1)
    cosine = np.sum(start * end, axis=1) / lengths
    return np.arccos(np.clip(cosine, -1, 1))  # rounding may leave it at 1.0000000000000002


def slerp(start, end, t):
    """The arc from start (t = 0) to end (t = 1): start, end (N, Z), t a number -> (N, Z).

    The direction turns at constant speed, the norm goes from one's to the other's in a straight line. Where the sine
    of the angle is below 1e-4, the straight line.
    """
    start_norm, end_norm = (np.linalg.norm(code, axis=1, keepdims=True) for code in (start, end))  # (N, 1)
    angle = angle_between(start, end)[:, None]
    sine = np.sin(angle)
    straight = sine < 1e-4
    turned = np.sin((1 - t) * angle) * start / start_norm + np.sin(t * angle) * end / end_norm
    arc = lerp(start_norm, end_norm, t) * turned / np.where(straight, 1, sine)
    return np.where(straight, lerp(start, end, t), arc)
