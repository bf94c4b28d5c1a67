"""A bundle is its bytes: whatever differs from what was written is found and named."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clickmill.bundle import manifest as manifests
from clickmill.errors import BundleCorrupt, BundleError


def test_an_untouched_folder_verifies_and_gives_its_manifest_back(make_folder):
    manifest = manifests.verify(make_folder())
    assert manifest.name == "toy"
    assert manifest.files["model/1/saved_model.pb"].bytes == 256
    assert manifest.metrics == {"auc": 0.8, "gauc": None}


def test_the_digest_is_what_coreutils_say(make_folder):
    folder = make_folder()
    command = "find * -type f ! -path manifest.json | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum | cut -d' ' -f1"
    out = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    assert manifests.verify(folder).digest == out.stdout.strip()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_found_and_the_file_named(make_folder, data):
    folder = make_folder()
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    path = data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(BundleCorrupt) as caught:
        manifests.verify(folder)
    assert path.relative_to(folder).as_posix() in str(caught.value)
    assert "copy it again" in str(caught.value)


def test_a_grown_file_tells_both_lengths(make_folder):
    folder = make_folder()
    with (folder / "model/1/saved_model.pb").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleCorrupt, match=r"saved_model.pb: altered: 257 bytes, the manifest says 256"):
        manifests.verify(folder)


def test_every_missing_and_foreign_file_is_listed_at_once(make_folder):
    folder = make_folder()
    (folder / "card.md").unlink()
    (folder / "plots/roc.svg").unlink()
    (folder / "model/1/assets").mkdir()
    (folder / "model/1/assets/evil.txt").write_text("x")
    with pytest.raises(BundleCorrupt) as caught:
        manifests.verify(folder)
    words = str(caught.value)
    assert "3 of its files" in words
    assert "card.md: missing" in words
    assert "plots/roc.svg: missing" in words
    assert "model/1/assets/evil.txt: foreign" in words


def test_a_link_is_refused_even_when_it_leads_to_the_right_bytes(make_folder, tmp_path):
    folder = make_folder()
    (folder / "card.md").rename(tmp_path / "card.md")
    (folder / "card.md").symlink_to(tmp_path / "card.md")
    with pytest.raises(BundleCorrupt, match=r"card\.md: is a symbolic link"):
        manifests.verify(folder)


def test_a_linked_folder_and_a_linked_manifest_are_refused(make_folder, tmp_path):
    folder = make_folder("a")
    (folder / "plots").rename(tmp_path / "plots")
    (folder / "plots").symlink_to(tmp_path / "plots")
    with pytest.raises(BundleCorrupt, match=r"plots: is a symbolic link"):
        manifests.verify(folder)
    other = make_folder("b")
    (other / "manifest.json").rename(tmp_path / "manifest.json")
    (other / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(BundleCorrupt, match=r"manifest\.json: is a symbolic link"):
        manifests.verify(other)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../b", "a\\b", "", "./card.md", "manifest.json"]
)
def test_a_path_that_leaves_the_bundle_is_refused_before_it_is_opened(make_folder, name):
    folder = make_folder()
    manifest = manifests.read(folder)
    files = {**manifest.files, name: manifest.files["card.md"]}
    forged = manifest.model_copy(update={"files": files, "digest": manifests.digest_of(files)})
    (folder / "manifest.json").write_bytes(forged.to_bytes())
    with pytest.raises(BundleCorrupt, match="not a plain path inside the bundle"):
        manifests.verify(folder)


def test_a_manifest_edited_by_hand_breaks_its_seal(make_folder):
    folder = make_folder()
    body = json.loads((folder / "manifest.json").read_text())
    body["metrics"]["auc"] = 0.99
    (folder / "manifest.json").write_text(json.dumps(body, indent=2))
    with pytest.raises(BundleCorrupt, match=r"manifest\.json: was altered"):
        manifests.read(folder)


def test_a_newer_format_is_told_from_a_broken_one(make_folder):
    folder = make_folder()
    newer = manifests.read(folder).model_copy(update={"format_version": 2})
    (folder / "manifest.json").write_bytes(newer.to_bytes())
    with pytest.raises(BundleError, match="format version 2, this Clickmill reads version 1") as caught:
        manifests.verify(folder)
    assert not isinstance(caught.value, BundleCorrupt)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path):
    with pytest.raises(BundleError, match=r"holds no bundle: there is no manifest\.json"):
        manifests.verify(tmp_path)
    with pytest.raises(BundleError, match="holds no bundle"):
        manifests.verify(tmp_path / "absent")
