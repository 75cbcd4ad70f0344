"""What of a labeled transfer set is published: its own files, with its pictures in them and no path."""

import os

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, default_data_collator

from hf_distill import label_transfer_set, load_teacher_outputs
from hf_distill.precomputed import shards
from hf_distill.publishing.labeled_folder import labeled_files
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer


def label_pictures(folder):
    """Four pictures from files of somebody's home, and what a tiny teacher says of them."""
    pictures = folder / "home_of_alice"
    pictures.mkdir()
    for index in range(4):
        Image.fromarray(np.full((8, 8, 3), 60 * index, np.uint8)).save(pictures / f"{index}.png")
    rows = datasets.Dataset.from_dict({"image": [str(pictures / f"{index}.png") for index in range(4)]})

    def pixels(batch):
        arrays = [np.asarray(image, np.float32).transpose(2, 0, 1) / 255 for image in batch["image"]]
        return {"pixel_values": list(map(torch.from_numpy, arrays))}

    size = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    teacher = ViTForImageClassification(ViTConfig(**size, image_size=8, patch_size=4))
    rows = rows.cast_column("image", datasets.Image()).with_transform(pixels)
    label_transfer_set(rows, teacher, default_data_collator, folder / "labeled", disable_tqdm=True)
    return folder / "labeled"


def test_pictures_are_embedded_and_their_paths_stay_here(tmp_path):
    folder = label_pictures(tmp_path)
    content = b"".join(file.path.read_bytes() for file in labeled_files(folder))
    assert str(tmp_path).encode() not in content and b"home_of_alice" not in content and content.count(b"PNG") >= 4
    (tmp_path / "home_of_alice").rename(tmp_path / "moved")
    rows = load_teacher_outputs(folder).with_format(None)
    assert [np.asarray(row["image"])[0, 0, 0] for row in rows] == [0, 60, 120, 180]


def test_paths_in_place_of_pictures_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "embed_table_storage", lambda table: table)
    folder = label_pictures(tmp_path)
    with pytest.raises(ValueError, match=r"shard-00000\.arrow has paths of this machine in its column 'image'"):
        labeled_files(folder)


@pytest.fixture
def labeled(tmp_path):
    label_transfer_set(encoded_sentences(5), tiny_bert(), tiny_tokenizer(), tmp_path / "labeled", disable_tqdm=True)
    return tmp_path / "labeled"


@pytest.mark.parametrize("name", ["README.md", "cost.json", "shard-00000.arrow"])
def test_links_out_and_pipes_are_refused(labeled, tmp_path, name):
    (labeled / name).rename(tmp_path / "private")
    (labeled / name).symlink_to(tmp_path / "private")
    with pytest.raises(ValueError, match=rf"only regular files of the folder itself are published; {name} of"):
        labeled_files(labeled)
    (labeled / name).unlink()
    os.mkfifo(labeled / name)
    with pytest.raises(ValueError, match=rf"{name} of .* is no regular file"):
        labeled_files(labeled)


@pytest.mark.parametrize("place", ["../private.arrow", "/private.arrow", "rows.arrow"])
def test_names_in_a_manifest_are_those_of_shards(labeled, place):
    manifest = shards.Manifest.load(labeled)
    (shard,) = manifest.shards
    changed = shards.Shard(place, shard.rows, shard.sha256, shard.inputs_sha256)
    shards.Manifest(manifest.provenance, (changed,)).save(labeled)
    with pytest.raises(ValueError, match=r"shard 0 of .*manifest\.json must be 'shard-00000\.arrow', got"):
        labeled_files(labeled)
