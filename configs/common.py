"""What the configs share: every setting, with its default."""

from collections.abc import Callable
import dataclasses
from typing import Any

from ml_collections import ConfigDict

from deblur_jax import models
from deblur_jax.blur.synthesis import MIXED
from deblur_jax.evaluation import protocols


def base() -> ConfigDict:
  """Every setting there is; each config changes what its paper changes."""
  config = ConfigDict()
  config.seed = 0
  config.trainer = 'supervised'
  config.steps = 1000
  config.start = ''  # initial weights: a run's folder, a file or a name; '' for random ones
  config.first = ''  # weights that `refine` or `instructir` is built on, by the same names
  config.batch_size = 16  # over all devices
  config.fsdp = 1  # devices that share one copy of the parameters and the optimizer's state
  config.accumulate = 1  # parts of a batch, one after another: less memory, the same step
  config.dtype = 'float32'  # of the computation; parameters, norms and losses stay float32
  config.quantize = ''  # int8: layers round as an INT8 file will, see deblur_jax/nn/int8.py
  config.data = {
    'source': 'builtin',  # builtin, pairs, sharp, gopro/blur or gopro/blur_gamma
    'directory': '',  # for pairs and sharp; for prepared data sets if not the default
    'split': 'train',  # or a part of it, such as train[:80%]
    'validation': 0.0,  # share held out to choose the best weights; 0: use the last ones
    'mixture': {},  # instead of source: name -> {source, directory, share}
    'ops': 'crop(64) | dihedral',
    'phases': (),  # instead of ops and batch_size: (steps, ops, batch_size), in order
  }
  config.blur = MIXED
  config.bgan = ''  # weights of a BGAN that blurs sharp pictures, before config.blur does
  config.before = ConfigDict()  # a run to do first, of the BGAN that this one then uses
  config.mixup = 0.0  # blends pairs by a share from Beta(mixup, mixup); 0 for none
  config.mixup_probability = 1.0  # that a batch is blended
  config.loss = {
    'l1': 0.0,
    'mse': 0.0,
    'charbonnier': 0.0,
    'edge': 0.0,
    'fft': 0.0,
    'psnr': 0.0,
    'psnr_to_40': 0.0,
  }
  config.more_loss = ''  # WEIGHT*NAME + ..., also external: 0.1*my_package.my_module:fft
  config.perceptual = {
    'weight': 0.0,
    'weights': '',  # VGG-19, a file made by deblur-jax convert
    'layer': 'conv3_3',  # before its ReLU; relu3_3 after it
    'colors': 'imagenet',  # as VGG-19 was trained; signed: [-1, 1]
  }
  config.teacher = {
    'weight': 0.0,  # of the losses against the result of a larger network
    'weights': '',  # of that network: a name, a run's folder or a file
  }
  config.head = {  # predicts how far results may be off, see docs/uncertainty.md
    'kind': '',  # quantiles or variance; '' for no head
    'features': 16,
    'outside': 0.1,  # share of the values outside the interval between two quantiles
    'beta': 0.5,  # of the loss of a variance; 0 is the plain likelihood
    'weight': 1.0,  # of the head's loss next to the others, unless the network is frozen
    'frozen': True,  # trains the head alone, on the network and weights of config.start
  }
  config.optim = optimizer()
  config.ema = 0.0  # decay of the moving average of the parameters; 0 for none
  config.evaluate = {'builtin': evaluation('builtin', draws=4)}
  config.writer = ''  # external, in addition to the files: my_package.my_module:Writer
  config.log_every = 10
  config.evaluate_every = 1000
  config.save_every = 100
  return config


def optimizer() -> dict[str, Any]:
  """Settings for `deblur_jax.optim.make`."""
  return {
    'name': 'adam',  # adam, adamw, or external: optax:sgd(momentum=0.9)
    'b1': 0.9,
    'b2': 0.999,
    'weight_decay': 0.0,
    'clip': 0.0,  # global norm; 0 for none
    'learning_rate': 1e-3,
    'schedule': 'cosine',  # cosine, polynomial, exponential, step, plateau or constant
    'warmup': 0,
    'hold': 0,  # steps before the rate begins to decay to `final`
    'final': 1e-6,
    'power': 1.0,  # of polynomial
    'boundaries': (),
    'factor': 0.5,  # of step and plateau
    'patience': 5,  # of plateau
    'stair': 1,  # steps per update of the rate: those of an epoch in some papers
  }


def critic() -> dict[str, Any]:
  """Settings of the critic, for `config.trainer = 'adversarial'`."""
  return {
    'loss': 'wasserstein',  # see deblur_jax/losses/adversarial.py
    'weight': 1.0,  # of the adversarial loss, next to config.loss and config.perceptual
    'steps': 1,  # per step of the network
    'penalty': 0.0,  # weight of the gradient penalty
    'penalty_per_pixel': False,  # as in the code of DeblurGAN's authors
    'ndf': 64,
    'n_layers': 3,
    'optim': optimizer(),
  }


def network(name: str, variant: str = 'default') -> dict[str, Any]:
  """`config.model`: every argument of the network, so that each can be changed."""
  model = models.make(name, variant)
  hidden = ('parent', 'name', 'dtype')
  fields = [field.name for field in dataclasses.fields(model) if field.name not in hidden]
  return {'name': name, **{field: getattr(model, field) for field in fields}}


def evaluation(
  source: str,
  *,
  split: str = 'test',
  directory: Any = '',
  blur: str = MIXED,
  limit: int = 0,
  draws: int = 1,
  protocol: str = '',
) -> dict[str, Any]:
  """One set of `config.evaluate`: the pictures of a split, `limit` of them (0 for all).

  Sharp ones are blurred by `draws` different draws from the mix `blur`, the same in every run. The
  default protocol (`evaluation.protocols`) is the one that papers on this set follow.
  """
  return {
    'source': source,
    'split': split,
    'directory': directory,
    'blur': blur,
    'limit': limit,
    'draws': draws,
    'protocol': protocol or protocols.for_source(source),
    'metrics': '',  # to add, also external: ssim_matlab_3d | my_package.my_module:metric
    'lpips': '',  # weights file, see metrics/perceptual.py; '' leaves the metric out
    'dists': '',
  }


def on(config: ConfigDict, source: str, **settings: Any) -> ConfigDict:
  """`config` with other data, for training and for evaluation.

  With the user's own pictures, a share is held out to choose the best weights; on published sets
  the weights of the last step are used, and the whole training set is trained on.
  """
  config.data.source = source
  config.data.validation = 0.05 if source in ('pairs', 'sharp') else 0.0
  directory = config.data.get_ref('directory')
  config.evaluate = {source.partition('/')[0]: evaluation(source, directory=directory, **settings)}
  return config


def smoke(config: ConfigDict) -> ConfigDict:
  """`config` reduced to seconds, for tests."""
  config.steps = 4
  config.batch_size = 4
  config.data.ops = 'crop(32)'
  config.blur = 'gaussian(1..2)'  # compiles in half the time of the default mix
  config.evaluate = {'builtin': evaluation('builtin', blur=config.blur, limit=1)}
  config.log_every = 2
  config.evaluate_every = 4
  config.save_every = 2
  return config


def pick(recipe: str | None, recipes: dict[str, Callable[[], ConfigDict]]) -> ConfigDict:
  """The recipe with that name, by default 'builtin'.

  Besides a config's own recipes there are 'pairs', 'sharp' and 'laptop_gopro': the network and the
  steps of 'builtin' on a folder (--config.data.directory=DIR) or on the prepared GoPro data.
  """
  builtin = recipes['builtin']
  recipes = {
    **recipes,
    'pairs': lambda: on(builtin(), 'pairs'),
    'sharp': lambda: on(builtin(), 'sharp'),
    'laptop_gopro': lambda: on(builtin(), 'gopro/blur'),
  }
  recipe = recipe or 'builtin'
  if recipe not in recipes:
    raise ValueError(f'no recipe {recipe!r} in this config (known: {", ".join(recipes)})')
  return recipes[recipe]()
