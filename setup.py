"""Builds the kernel and the fast reader; all else stands in pyproject.toml.

Without a C compiler the package installs all the same and runs the kernel's source interpreted. Set
GROOMING_FLAG_REQUIRE_KERNEL=1 to make a failed build an error.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

modules = ("grooming_flag._kernel", "grooming_flag._tally", "grooming_flag._answers", "grooming_flag.io._messages")
# without the first, numbers could differ from those of Python in the last bit; with debug information, wheels by folder
flags = [] if os.name == "nt" else ["-ffp-contract=off", "-g0"]
extensions = cythonize(
    [Extension(name, [name.replace(".", "/") + ".py"], extra_compile_args=flags) for name in modules], build_dir="build"
)
for extension in extensions:  # cythonize drops the argument of this name
    extension.optional = os.environ.get("GROOMING_FLAG_REQUIRE_KERNEL") != "1"
setup(ext_modules=extensions)
