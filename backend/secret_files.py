"""Settings that stand in a file: the variable with ``_FILE`` behind its name names the file.

So a secret need not be in the environment of a process, where whoever may look at the process can
read it. Docker and Kubernetes mount their secrets as such files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from backend.errors import SettingsError

SUFFIX = "_FILE"
LARGEST_FILE = 65_536
"""Bytes; no secret is longer, and a wrong path may name anything."""


class SecretFiles(PydanticBaseSettingsSource):
    """The settings of ``fields`` (field name → variable) whose ``…_FILE`` variable is set.

    Raises :class:`SettingsError` when such a file cannot be read, or when the variable itself is
    set as well.
    """

    def __init__(self, settings_class: type[BaseSettings], fields: dict[str, str]) -> None:
        super().__init__(settings_class)
        self._fields = fields

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Text of the file of one setting; None when it has none."""
        variable = self._fields.get(field_name)
        value = text_of_file(variable) if variable else None
        return value, str(field.validation_alias or field_name), False

    def __call__(self) -> dict[str, Any]:
        """Every setting that stands in a file."""
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                found[key] = value
        return found


def text_of_file(variable: str) -> str | None:
    """What stands in the file that ``variable`` with ``_FILE`` names; None where that is not set.

    Raises :class:`SettingsError` as :class:`SecretFiles` does.
    """
    file_variable = f"{variable}{SUFFIX}"
    path = os.environ.get(file_variable)
    if not path:
        return None
    if os.environ.get(variable):
        raise SettingsError(
            f"{variable} and {file_variable} are both set.", mend="Leave one of them out."
        )
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        text = content.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(
            f"{file_variable}={path}: the file cannot be read ({reason}).",
            mend="Name a file that holds the value alone, and that this user may read.",
        ) from None
    if not text.strip() or len(content) > LARGEST_FILE:
        raise SettingsError(
            f"{file_variable}={path}: the file is empty or longer than {LARGEST_FILE} bytes.",
            mend="Name a file that holds the value alone.",
        )
    return text
