# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot say: with the command staged beside it (scripts/wheel.sh), the package
is one of a platform, for any Python 3, and has a script; from the tree it is pure."""
import pathlib

import setuptools
from setuptools.command.bdist_wheel import bdist_wheel

IS_NATIVE = (pathlib.Path(__file__).parent / "cohort_ray/bin/cohort").exists()


class Distribution(setuptools.Distribution):
    """Goes to platlib where it has binaries."""

    def has_ext_modules(self):
        return IS_NATIVE


class Wheel(bdist_wheel):
    """No extension module is in it: nothing of it depends on the Python's version."""

    def get_tag(self):
        python, abi, platform = super().get_tag()
        return ("py3", "none", platform) if IS_NATIVE else (python, abi, platform)


setuptools.setup(
    distclass=Distribution,
    cmdclass={"bdist_wheel": Wheel},
    entry_points={"console_scripts": ["cohort=cohort_ray.command:main"]} if IS_NATIVE else {},
)
