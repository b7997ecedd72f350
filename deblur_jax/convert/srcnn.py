"""SRCNN from github.com/yjn870/SRCNN-pytorch."""

LICENSE = 'none stated'
SIGNATURE = ('conv1.weight', 'conv2.weight', 'conv3.weight')


def arguments(shapes):
  """The constructor arguments, from the shapes of the tensors."""
  layers = [shapes[name] for name in SIGNATURE]
  return {
    'kernel_sizes': tuple(layer[-1] for layer in layers),
    'features': (layers[0][0], layers[1][0]),
    'channels': layers[0][1],
  }
