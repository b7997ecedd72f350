"""Methods on real pairs, whole frames: `python tools/real_pairs.py maxim general --pairs FOLDER`.

Scores every pair of a folder in GoPro's layout twice: as it is, and after the best shift within
three pixels (protocol gopro_shifted), because the sharp frame is not always the middle of the blur.
`--frames FOLDER` adds strong blur that is aligned by construction: averages of 15 to 31
neighboring frames in linear light against their middle frame. maxim:1 is maxim up to its first
stage. Prints a Markdown table, with seconds a frame; `--json FILE` keeps every score.
"""

import argparse
import json
import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from deblur_jax import color, tiling, zoo
from deblur_jax.data import sources
from deblur_jax.datasets import files
from deblur_jax.evaluation import costs, protocols

AVERAGES = 10


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('methods', nargs='+', help='weights by name, runs, files; NAME:STAGES')
  parser.add_argument('--pairs', required=True, help='folder in the layout of GoPro')
  parser.add_argument('--frames', type=pathlib.Path, help='folder of consecutive sharp frames')
  parser.add_argument('--json', type=pathlib.Path, metavar='FILE', help='write every score there')
  arguments = parser.parse_args()
  pairs = {
    split: sources.open('pairs', split, directory=arguments.pairs) for split in ('test', 'train')
  }
  sets = {name: [pair[i] for i in range(len(pair))] for name, pair in pairs.items()}
  if arguments.frames:
    sets['averages'] = list(averages(arguments.frames))
  print(f'On {costs.device_name()}.\n')
  print('| method | set | frames | PSNR | shifted | SSIM, shifted | lost | seconds |')
  print('|---|---|---|---|---|---|---|---|')
  kept = {}
  for name in ('blurred', *arguments.methods):
    restore = load(name) if name != 'blurred' else lambda image: image
    for which, examples in sets.items():
      rows = [score(restore, example) for example in examples]
      kept[f'{name}/{which}'] = rows
      before = kept[f'blurred/{which}']
      lost = sum(a['shifted'] < b['shifted'] for a, b in zip(rows, before, strict=True))
      mean = {key: np.mean([row[key] for row in rows]) for key in rows[0] if key != 'name'}
      print(
        f'| {name} | {which} | {len(rows)} | {mean["psnr"]:.2f} | {mean["shifted"]:.2f} '
        f'| {mean["ssim"]:.3f} | {lost} | {np.median([row["seconds"] for row in rows]):.1f} |',
        flush=True,
      )
    if arguments.json:
      arguments.json.write_text(json.dumps(kept, indent=2) + '\n')


def averages(folder: pathlib.Path):
  """Ten stretches of 15 to 31 frames of a film, averaged in linear light, with their middles."""
  frames = sorted(path for path in folder.iterdir() if path.suffix in ('.png', '.jpg', '.webp'))
  if not frames:
    raise SystemExit(f'{folder}: no PNG, JPEG or WebP frames')
  for i in range(AVERAGES):
    count = 15 + 2 * round(8 * i / (AVERAGES - 1))
    middle = round((i + 0.5) * len(frames) / AVERAGES)
    total = 0.0
    for path in frames[middle - count // 2 : middle + count // 2 + 1]:
      total = total + np.asarray(color.SRGB.to_linear(files.read(path).astype(np.float32) / 255))
    blurred = np.asarray(color.SRGB.from_linear(np.float32(total / count)))
    yield {
      'name': f'{frames[middle].stem}, {count} frames',
      'blurred': protocols.as_uint8(blurred),
      'sharp': files.read(frames[middle]),
    }


def load(name: str):
  """image `[h w 3]` uint8 -> the same restored, float."""
  name, _, stages = name.partition(':')
  method = zoo.load(name, settings={'stages': int(stages)} if stages else None)

  def restore(image):
    return tiling.tiled(
      lambda x: np.asarray(method.restore(x)), image / np.float32(255), method.needs
    )

  return restore


def score(restore, example) -> dict:
  begin = time.perf_counter()
  restored = protocols.as_uint8(restore(example['blurred']))
  seconds = time.perf_counter() - begin
  plain = protocols.score(restored, example['sharp'], protocols.find('gopro'))
  best = protocols.score(restored, example['sharp'], protocols.find('gopro_shifted'))
  return {
    'name': example['name'],
    'psnr': plain['psnr'],
    'shifted': best['psnr'],
    'ssim': best['ssim'],
    'seconds': seconds,
  }


if __name__ == '__main__':
  main()
