"""What pyproject.toml cannot say: configs/ is installed as `deblur_jax.configs`."""

from setuptools import find_packages, setup

setup(
  packages=[*find_packages(include=['deblur_jax', 'deblur_jax.*']), 'deblur_jax.configs'],
  package_dir={'deblur_jax.configs': 'configs'},
)
