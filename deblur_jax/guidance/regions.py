"""Masks of regions that words name: sides, corners, boxes, the subject, faces, text.

Sides and boxes are exact. The subject is a rough estimate from sharpness, color and place, without
a trained network: docs/guidance.md says how rough. Faces are found by scikit-image's cascade, which
sees faces from the front; text by the density of short strokes.
"""

import functools
import re

import cv2
import numpy as np
import scipy.ndimage

SIDE = 512
"""Longer side in pixels of the picture that a region is searched in."""

LEAST_SIDE = 16
"""Nothing is searched for in a smaller picture."""

FEATHER = 0.02
"""Width of a region's soft border, as a share of the longer side."""

SURELY, SURELY_NOT = 0.9, 0.1
"""Saliencies, as shares of the largest, from which pixels start as subject or as background."""

NEIGHBORS, SMALLER = 5, 0.6
"""How often the cascade must see a face at slightly different places and sizes, and how large it
must be, compared with the largest one; most false alarms are small."""


def mask(name: str, image: np.ndarray, shape: tuple[int, int] | None = None) -> np.ndarray:
  """The mask of a region, uint8 `[h w]`: 255 inside, 0 outside, with a soft border.

  `name` is one of `words.Request.region`, `image` the picture uint8 `[h w 3]`, perhaps reduced from
  the `shape` (height, width) that the mask has. Raises ValueError if there is no such region.
  """
  shape = image.shape[:2] if shape is None else shape
  if name.startswith('not '):
    return 255 - mask(name[4:], image, shape)
  if name == 'background':
    return 255 - mask('subject', image, shape)
  if name in FOUND:
    small = reduced(image)
    inside = FOUND[name](small) if min(small.shape[:2]) >= LEAST_SIDE else np.zeros(1, bool)
    if not inside.any():
      raise ValueError(f'no {name} found in the picture: use --mask or --scribble')
    return enlarged(_feathered(inside), shape)
  return _exact(name, *shape)


def reduced(image: np.ndarray) -> np.ndarray:
  """`image` `[h w c]` with a longer side of at most `SIDE` pixels."""
  scale = SIDE / max(image.shape[:2])
  if scale >= 1:
    return image
  height, width = (max(1, round(side * scale)) for side in image.shape[:2])
  return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def enlarged(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """A plane in [0, 1] at the size `shape`, as uint8."""
  plane = cv2.resize(plane.astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)
  return np.rint(255 * np.clip(plane, 0, 1)).astype(np.uint8)


def _exact(name: str, height: int, width: int) -> np.ndarray:
  """The mask of a side, a corner, the center or a box X,Y,W,H; its border is hard."""
  found = np.zeros((height, width), np.uint8)
  if re.fullmatch(r'\d+(,\d+){3}', name):
    left, top, wide, high = map(int, name.split(','))
    if left >= width or top >= height or not wide or not high:
      raise ValueError(f'the box {name} is outside the picture of {width}x{height} pixels')
    found[top : top + high, left : left + wide] = 255
  elif name == 'center':
    found[height // 4 : height - height // 4, width // 4 : width - width // 4] = 255
  else:
    rows = {'top': slice(height // 2), 'bottom': slice(height // 2, None)}
    columns = {'left': slice(width // 2), 'right': slice(width // 2, None)}
    sides = [side for side in name.split() if side != 'half']
    if not sides or not set(sides) <= rows.keys() | columns.keys():
      raise ValueError(f'unknown region {name!r}')
    every = slice(None)
    vertical = next((rows[side] for side in sides if side in rows), every)
    horizontal = next((columns[side] for side in sides if side in columns), every)
    found[vertical, horizontal] = 255
  return found


def _feathered(inside: np.ndarray) -> np.ndarray:
  """A mask `[h w]` in [0, 1] with a border that falls to 0 outside, and is 1 inside."""
  width = max(FEATHER * max(inside.shape), 1)
  return np.clip(1 - scipy.ndimage.distance_transform_edt(~inside) / width, 0, 1)


def subject(image: np.ndarray) -> np.ndarray:
  """Where the main subject probably is, bool `[h w]`, of a picture uint8 `[h w 3]`."""
  found = saliency(image)
  marks = np.where(found > np.quantile(found, 0.6), cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
  marks[found >= SURELY] = cv2.GC_FGD
  marks[found <= SURELY_NOT] = cv2.GC_BGD
  if len(np.unique(marks)) == 1 or not (marks == cv2.GC_FGD).any():
    return np.zeros(image.shape[:2], bool)
  cv2.setRNGSeed(0)
  models = np.zeros((1, 65)), np.zeros((1, 65))
  bgr = np.ascontiguousarray(image[..., ::-1])
  cv2.grabCut(bgr, marks, (0, 0, 1, 1), *models, 4, cv2.GC_INIT_WITH_MASK)
  inside = (marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)
  inside = scipy.ndimage.binary_opening(inside, iterations=2)
  count, parts = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
  if count == 1:
    return inside
  sizes = np.bincount(parts.ravel())[1:]
  kept = 1 + np.flatnonzero(sizes >= 0.2 * sizes.max())
  return np.asarray(scipy.ndimage.binary_fill_holes(np.isin(parts, kept)))


def saliency(image: np.ndarray) -> np.ndarray:
  """How much each pixel stands out, `[h w]` in [0, 1].

  The product of local sharpness, of the color's distance to the four borders (of which a subject
  touches at most some), and of nearness to the center.
  """
  height, width = image.shape[:2]
  lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
  spread = 0.04 * max(height, width)
  luma = lab[..., 0]
  fine = np.abs(luma - cv2.GaussianBlur(luma, (0, 0), 1.5))
  sharp = cv2.GaussianBlur(fine, (0, 0), spread)
  smooth = cv2.GaussianBlur(lab, (0, 0), 2)
  strip = max(1, min(height, width) // 20)
  borders = smooth[:strip], smooth[-strip:], smooth[:, :strip], smooth[:, -strip:]
  distances = [_distance(smooth, border.reshape(-1, 3)) for border in borders]
  color = cv2.GaussianBlur(np.sort(distances, axis=0)[1].astype(np.float32), (0, 0), spread / 2)
  y, x = np.mgrid[-1 : 1 : 1j * height, -1 : 1 : 1j * width]
  center = np.exp(-(y**2 + x**2) / 0.8)
  found = (sharp / (sharp.max() + 1e-6)) ** 0.7 * (0.2 + color / (color.max() + 1e-6)) * center
  return found / max(found.max(), 1e-6)


def _distance(image: np.ndarray, colors: np.ndarray) -> np.ndarray:
  """The Mahalanobis distance of each pixel to a set of colors."""
  mean, spread = colors.mean(0), np.cov(colors.T) + 20 * np.eye(3)
  away = image - mean
  return np.sqrt(np.einsum('hwi,ij,hwj->hw', away, np.linalg.inv(spread), away))


@functools.cache
def _faces():
  from skimage import data, feature

  return feature.Cascade(data.lbp_frontal_face_cascade_filename())


def face(image: np.ndarray) -> np.ndarray:
  """Where faces are, bool `[h w]`: an ellipse around each that the cascade finds."""
  height, width = image.shape[:2]
  inside = np.zeros((height, width), np.uint8)
  least, most = max(24, min(height, width) // 16), min(height, width)
  if most < least:
    return inside > 0
  found = _faces().detect_multi_scale(
    image,
    scale_factor=1.1,
    step_ratio=1,
    min_size=(least, least),
    max_size=(most, most),
    min_neighbor_number=NEIGHBORS,
  )
  largest = max((one['width'] for one in found), default=0)
  for one in found:
    if one['width'] < SMALLER * largest:
      continue
    across, down = one['width'], one['height']
    middle = (one['c'] + across // 2, one['r'] + down // 2)
    cv2.ellipse(inside, middle, (round(0.6 * across), round(0.75 * down)), 0, 0, 360, 1, -1)
  return inside > 0


def text(image: np.ndarray) -> np.ndarray:
  """Where lines of text probably are, bool `[h w]`: dense short strokes in long, low boxes."""
  grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
  edges = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
  _, strokes = cv2.threshold(edges, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
  joined = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, np.ones((1, 11), np.uint8))
  count, parts, stats, _ = cv2.connectedComponentsWithStats(joined)
  inside = np.zeros(grey.shape, bool)
  for part in range(1, count):
    left, top, width, height, _ = stats[part]
    box = np.s_[top : top + height, left : left + width]
    filled = (parts[box] == part).mean()
    upright = np.abs(np.diff(grey[box].astype(np.int16), axis=1)).mean() if width > 1 else 0
    is_line = height >= 6 and 1.8 * height <= width <= 40 * height and height < grey.shape[0] / 4
    if is_line and filled > 0.5 and upright > 12:
      margin = 2 + height // 4
      rows = slice(max(top - margin, 0), top + height + margin)
      inside[rows, max(left - margin, 0) : left + width + margin] = True
  return inside


FOUND = {'subject': subject, 'face': face, 'text': text}
"""Regions that are searched for in a picture, and their functions."""
