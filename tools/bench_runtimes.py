"""The same network in JAX, ONNX Runtime and OpenVINO, in float and INT8: size, time, PSNR.

  python tools/bench_runtimes.py mobile mobile.onnx mobile8.onnx --pictures KODAK

Weights run in JAX; .onnx files run in ONNX Runtime and, if it is installed, in OpenVINO. All take
turns in every round, so that they share whatever else the machine does, and the table has medians
and quartiles. PSNR is over the central squares of the pictures. `--figure FILE` draws the table.
"""

import argparse
from collections.abc import Callable
import pathlib
import time
from typing import NamedTuple

import jax
import numpy as np

from deblur_jax import exported, methods, zoo
from deblur_jax.blur.synthesis import MIXED
from deblur_jax.evaluation import blurred_set, costs


class Runner(NamedTuple):
  """A file in a runtime."""

  name: str
  runtime: str
  megabytes: float
  restore: Callable[[np.ndarray], np.ndarray]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('files', nargs='+', help='weights by name, runs, .safetensors or .onnx files')
  parser.add_argument('--pictures', required=True, help='folder of sharp pictures')
  parser.add_argument('--blur', default=MIXED, help='how to blur them')
  parser.add_argument('--side', type=int, default=256, help='of the squares (default: 256)')
  parser.add_argument('--rounds', type=int, default=15)
  parser.add_argument('--figure', type=pathlib.Path)
  arguments = parser.parse_args()
  pictures = blurred_set.open_set(
    'sharp', 'all', directory=arguments.pictures, blur=arguments.blur, crop=arguments.side
  )
  examples = [pictures[i] for i in range(len(pictures))]
  runners = [runner for name in arguments.files for runner in opened(name)]
  given = [(one['blurred'][None] / 255).astype(np.float32) for one in examples]
  quality = [
    np.mean(
      [
        pictures.score(runner.restore(one)[0], example)['psnr']
        for one, example in zip(given, examples, strict=True)
      ]
    )
    for runner in runners
  ]
  seconds = interleaved(runners, given[0], arguments.rounds)
  blurred = np.mean([pictures.score(one['blurred'], one)['psnr'] for one in examples])
  print(
    f'{len(examples)} squares of {arguments.side} pixels, blurred {blurred:.2f} dB, on ', end=''
  )
  print(f'{costs.device_name()}; milliseconds: median (quartiles) of {arguments.rounds} rounds\n')
  print('| file | runtime | MB | ms | PSNR |\n|---|---|---|---|---|')
  for runner, times, psnr in zip(runners, seconds, quality, strict=True):
    low, middle, high = 1000 * np.percentile(times, (25, 50, 75))
    row = f'{runner.megabytes:.1f} | {middle:.0f} ({low:.0f} to {high:.0f}) | {psnr:.2f}'
    print(f'| {runner.name} | {runner.runtime} | {row} |')
  if arguments.figure:
    draw(arguments.figure, runners, [np.median(times) for times in seconds], quality)


def opened(name: str) -> list[Runner]:
  """The runtimes that take a file."""
  path = methods.find(name)
  size, short = path.stat().st_size / 1e6, pathlib.Path(name).name
  if path.suffix != '.onnx':
    restore = zoo.load(name).restore
    return [Runner(short, 'JAX', size, lambda x: np.asarray(restore(jax.device_put(x))))]
  found = [Runner(short, 'ONNX Runtime', size, exported.open_onnx(path).restore)]
  try:
    import openvino
  except ImportError:
    return found
  compiled = openvino.Core().compile_model(
    path, 'CPU', {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'}
  )
  return [*found, Runner(short, 'OpenVINO', size, lambda x: compiled(x)[0])]


def interleaved(runners: list[Runner], image: np.ndarray, rounds: int) -> list[list[float]]:
  """Seconds of every runner in every round, after one that is not counted."""
  seconds: list[list[float]] = [[] for _ in runners]
  for turn in range(rounds + 1):
    for i, runner in enumerate(runners):
      begin = time.perf_counter()
      runner.restore(image)
      if turn:
        seconds[i].append(time.perf_counter() - begin)
  return seconds


def draw(path: pathlib.Path, runners, seconds, quality) -> None:
  """Milliseconds against PSNR; the area of a circle is the size of the file."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(7, 4), layout='constrained')
  axes = figure.subplots()
  colors = {'JAX': 'C0', 'ONNX Runtime': 'C1', 'OpenVINO': 'C2'}
  for runtime, color in colors.items():
    rows = [i for i, runner in enumerate(runners) if runner.runtime == runtime]
    if rows:
      x, y = [1000 * seconds[i] for i in rows], [quality[i] for i in rows]
      area = [60 * runners[i].megabytes for i in rows]
      axes.scatter(x, y, area, color=color, alpha=0.5, label=runtime)
  for i, runner in enumerate(runners):
    place = 1000 * seconds[i], quality[i]
    above = {'xytext': (0, 14 if i % 2 else -20), 'textcoords': 'offset points', 'ha': 'center'}
    axes.annotate(runner.name, place, fontsize=7, **above)
  axes.set(xlabel='milliseconds', ylabel='PSNR in dB')
  axes.margins(0.15)
  axes.legend(markerscale=0.5)
  figure.savefig(path, dpi=150)


if __name__ == '__main__':
  main()
