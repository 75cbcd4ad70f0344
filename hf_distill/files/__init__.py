"""Reading of untrusted files, atomic writing, and folders locked for one writer at a time."""

from hf_distill.files.folders import is_own_file, named_file, regular_files_below, require_sound_table
from hf_distill.files.locking import LOCK_FILES, FolderInUseError, folder_lock
from hf_distill.files.reading import FileFormatError, as_dataclass, checked, parse_json, read_json
from hf_distill.files.writing import atomic_write, json_bytes, remove_partial_files, replacing, share_weights

__all__ = [
    "LOCK_FILES",
    "FileFormatError",
    "FolderInUseError",
    "as_dataclass",
    "atomic_write",
    "checked",
    "folder_lock",
    "is_own_file",
    "json_bytes",
    "named_file",
    "parse_json",
    "read_json",
    "regular_files_below",
    "remove_partial_files",
    "replacing",
    "require_sound_table",
    "share_weights",
]
