"""Which shared library is a token's module, and whether there is anything to call it with."""

import sysconfig
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from signers.pkcs11.token_errors import ModuleMissing

MODULE_ENV: Final = "FORGEPOOL_PKCS11_MODULE"  # of keys whose URI names none: path or name

_LIBRARY_DIRS: Final = ("/usr/local/lib", "/usr/lib", "/usr/lib64")
_FOLDERS: Final = ("pkcs11", "", "softhsm")
_NAMES: Final = ("{}.so", "lib{}.so", "{}-pkcs11.so", "lib{}-pkcs11.so", "{}_pkcs11.so")


def check_installed() -> None:
    """Raise ModuleMissing unless python-pkcs11 is installed."""
    if find_spec("pkcs11") is None:
        raise ModuleMissing(
            "python-pkcs11, which calls PKCS#11 modules, is not installed: "
            "pip install 'forgepool[pkcs11]'"
        )


def module_file(path: str | None, name: str | None, environment: Mapping[str, str]) -> str:
    """Return the path of a module: by its path, its name, or the environment.

    Raises ModuleMissing.
    """
    if path is None and name is None:
        path = environment.get(MODULE_ENV)
        if not path:
            raise ModuleMissing(f"the URI has no module-path, and {MODULE_ENV} is not set")
        if "/" not in path:
            path, name = None, path
    if path is not None:
        if not Path(path).is_file():
            raise ModuleMissing(f"there is no module {path}")
        return path
    assert name is not None
    for candidate in _candidates(name):
        if candidate.is_file():
            return str(candidate)
    raise ModuleMissing(f"no module called {name[:64]!r} is where modules are: give module-path")


def _candidates(name: str) -> list[Path]:
    if "/" in name:
        raise ModuleMissing("module-name is no path: give module-path")
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    return [
        Path(directory, architecture, folder, pattern.format(name))
        for directory in _LIBRARY_DIRS
        for architecture in dict.fromkeys((multiarch, ""))
        for folder in _FOLDERS
        for pattern in _NAMES
    ]
