"""Fine-tunes weights on a folder of sharp pictures, for one particular blur.

  python examples/fine_tune.py [FOLDER] [--blur 'motion(15, 30) | noise(0.01)'] [--steps 200]

The same as `python -m deblur_jax.main --config=nafnet:sharp ...`, from Python. The default folder
holds photographs of scikit-image. The run is written to runs/fine_tuned, and can be used with
`deblur-jax restore --weights runs/fine_tuned`. Writes fine_tune.webp: blurred, restored before and
after fine-tuning, sharp.
"""

import argparse
import pathlib
import shutil

import numpy as np
import PIL.Image
import skimage

import deblur_jax
from deblur_jax import methods, train, weights
from deblur_jax.configs import nafnet
from deblur_jax.evaluation import blurred_set

PHOTOGRAPHS = {
  'train': ('brick.png', 'chelsea.png', 'coins.png', 'grass.png', 'gravel.png', 'rocket.jpg'),
  'test': ('astronaut.png', 'coffee.png'),
}


def photographs(folder):
  """Copies photographs of scikit-image to `folder`/train and `folder`/test."""
  for part, names in PHOTOGRAPHS.items():
    (folder / part).mkdir(parents=True, exist_ok=True)
    for name in names:
      shutil.copy(pathlib.Path(skimage.__file__).parent / 'data' / name, folder / part)
  return folder


def recipe(arguments, folder):
  """The recipe `sharp` of configs/nafnet.py, with weights to start from and one blur."""
  config = nafnet.get_config('sharp')
  config.start = arguments.weights
  manifest = weights.read(methods.find(arguments.weights))[1]
  config.model = {'name': manifest['network'], **manifest['arguments']}
  config.data.directory = str(folder)
  config.data.ops = f'crop({arguments.crop}) | dihedral'
  config.data.validation = 0.0
  config.blur = config.evaluate.sharp.blur = arguments.blur
  config.steps = config.evaluate_every = arguments.steps
  config.optim.learning_rate = 5e-4  # a sixth of what the network was trained with
  config.optim.warmup = min(20, arguments.steps // 2)
  config.log_every = max(1, arguments.steps // 10)
  return config


def middle(image, side):
  """At most `side` by `side` pixels around the middle of `image` `[h w 3]`."""
  top, left = (max(0, (size - side) // 2) for size in image.shape[:2])
  return image[top : top + side, left : left + side]


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('folder', nargs='?', help='sharp pictures, in train/ and test/ or not')
  parser.add_argument('--weights', default='mobile', help='what to start from')
  parser.add_argument('--blur', default='motion(15, 30) | noise(0.01)')
  parser.add_argument('--steps', type=int, default=200)
  parser.add_argument('--crop', type=int, default=64, help='side of the pictures trained on')
  parser.add_argument('--workdir', default='runs/fine_tuned')
  parser.add_argument('--output', default='fine_tune.webp')
  arguments = parser.parse_args()

  folder = arguments.folder or photographs(pathlib.Path('photographs'))
  config, workdir = recipe(arguments, folder), pathlib.Path(arguments.workdir)
  train.train(config, workdir)  # the same command again resumes

  test = blurred_set.open_set(**config.evaluate.sharp)
  pictures = [test[index] for index in range(len(test))]
  shown = [pictures[0]['blurred']]
  for name, place in (('before', arguments.weights), ('fine-tuned', workdir)):
    restore = deblur_jax.load(place)
    results = [restore(one['blurred']) for one in pictures]
    scores = [test.score(*pair)['psnr'] for pair in zip(results, pictures, strict=True)]
    print(f'{name:12} {np.mean(scores):.2f} dB')
    shown.append(results[0])
  shown = [middle(picture, 200) for picture in (*shown, pictures[0]['sharp'])]
  PIL.Image.fromarray(np.concatenate(shown, axis=1)).save(arguments.output, quality=85)


if __name__ == '__main__':
  main()
