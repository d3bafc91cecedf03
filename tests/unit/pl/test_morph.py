from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from matplotlib.animation import PillowWriter
from PIL import Image

import isost


@dataclass
class Sliding:
    """Forty cells that slide to the right with depth; between the sections, noise is added to where they are."""

    asked: list[tuple[float, int]] = field(default_factory=list)
    stack: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(depths=np.array([10.0, 70.0]), unit="um", use_rep="X_pca")
    )

    def section(self, z: float, *, rng: int) -> AnnData:
        self.asked.append((z, rng))
        noise = torch.randn(40, 2, generator=torch.Generator().manual_seed(rng)).numpy()
        xy = np.column_stack([np.arange(40.0) * 10 + z, np.arange(40.0) % 7 * 10]) + noise
        return AnnData(
            np.full((40, 1), z, dtype=np.float32),
            obs=pd.DataFrame(
                {"section_of_origin": pd.Categorical(np.where(np.arange(40) < z / 2, "B", "A"))},
                index=pd.RangeIndex(40).astype(str),
            ),
            var=pd.DataFrame(index=["depth_gene"]),
            obsm={"spatial": np.column_stack([xy, np.full(40, z)]), "X_pca": np.ones((40, 2))},
        )


def positions(ax: plt.Axes) -> np.ndarray:
    return np.concatenate([points.get_offsets() for points in ax.collections])


def test_frames_at_equally_spaced_depths() -> None:
    fitted = Sliding()
    axes = isost.pl.morph(fitted, n_frames=4, rng=0)
    assert [z for z, _ in fitted.asked] == [10, 30, 50, 70]
    titles = ["measured\nz = 10 µm", "z = 30 µm", "z = 50 µm", "measured\nz = 70 µm"]
    assert [ax.get_title() for ax in axes] == titles
    for ax, (z, seed) in zip(axes, fitted.asked, strict=True):
        np.testing.assert_array_equal(positions(ax), Sliding().section(z, rng=seed).obsm["spatial"][:, :2])
        assert ax.get_aspect() == 1
        assert ax.get_xlim() == axes[0].get_xlim()


def test_all_frames_share_one_noise_and_a_seed_repeats_it() -> None:
    runs = [Sliding() for _ in range(4)]
    for fitted, rng in zip(runs, (0, 0, 1, None), strict=True):
        isost.pl.morph(fitted, n_frames=3, rng=rng)
    seeds = [{seed for _, seed in fitted.asked} for fitted in runs]
    assert [len(used) for used in seeds] == [1, 1, 1, 1]
    assert seeds[0] == seeds[1] != seeds[2]


def test_asked_depths_and_rows() -> None:
    axes = isost.pl.morph(Sliding(), depths=[60, 20, 25], ncols=2)
    assert [ax.get_title() for ax in axes] == ["z = 60 µm", "z = 20 µm", "z = 25 µm"]
    assert len({round(ax.get_position().y0, 3) for ax in axes}) == 2


def test_one_colour_scale_for_all_frames() -> None:
    axes = isost.pl.morph(Sliding(), n_frames=3, color="depth_gene", vmax=None)
    assert {(ax.collections[0].norm.vmin, ax.collections[0].norm.vmax) for ax in axes} == {(10, 70)}
    assert [set(np.asarray(ax.collections[0].get_array())) for ax in axes] == [{10}, {40}, {70}]


def test_categories_of_all_frames_are_united() -> None:
    axes = isost.pl.morph(Sliding(), depths=[0, 40, 80], color="section_of_origin")
    assert [text.get_text() for text in axes[0].figure.legends[0].get_texts()] == ["A", "B"]
    assert [set(np.asarray(ax.collections[0].get_array())) for ax in axes] == [{0}, {0, 1}, {1}]


def test_animation_has_a_frame_a_depth(tmp_path: Path) -> None:
    path = tmp_path / "morph.gif"
    isost.pl.morph(Sliding(), n_frames=5, path=path, fps=10, color="depth_gene")
    with Image.open(path) as film:
        assert film.n_frames == 5
        assert film.info["duration"] == 100
        frames = []
        for number in range(5):
            film.seek(number)
            frames.append(np.asarray(film.convert("L"), dtype=float))
    ink = [np.average(np.arange(frame.shape[1]), weights=(255 - frame).sum(axis=0)) for frame in frames]
    assert (np.diff(ink) > 1).all(), "the cells move to the right"
    assert plt.get_fignums() == [1], "the film leaves no figure of its own"
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "morph.gif"
    path.write_bytes(b"mine")
    fitted = Sliding()
    with pytest.raises(FileExistsError, match=r"morph\.gif"):
        isost.pl.morph(fitted, path=path)
    assert path.read_bytes() == b"mine"
    assert not fitted.asked, "nothing is computed first"
    isost.pl.morph(fitted, n_frames=2, path=path, overwrite=True)
    assert path.read_bytes().startswith(b"GIF8")


def test_a_film_that_cannot_be_finished_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: PillowWriter) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PillowWriter, "finish", fails)
    with pytest.raises(OSError, match="disk full"):
        isost.pl.morph(Sliding(), n_frames=2, path=tmp_path / "morph.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"n_frames": 1}, ValueError, "two depths or more"),
        ({"depths": [20.0]}, ValueError, "two depths or more"),
        ({"color": "depth_gen"}, KeyError, "'depth_gene'"),
        ({"path": "morph.mp4"}, ValueError, r"\.gif"),
        ({"path": "nowhere/morph.gif"}, FileNotFoundError, "nowhere"),
    ],
)
def test_bad_requests(options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        isost.pl.morph(Sliding(), **options)
    assert "Next: " in str(caught.value)


def test_another_type() -> None:
    with pytest.raises(TypeError, match=r"found AnnData.*isost\.tl\.fit"):
        isost.pl.morph(AnnData(np.ones((2, 2))))


def test_stages_are_drawn_at_their_own_size_and_titled_by_age() -> None:
    class Growing(Sliding):
        def section(self, z: float, *, rng: int) -> AnnData:
            cells = super().section(z, rng=rng)
            cells.obsm["spatial_grown"] = cells.obsm["spatial"][:, :2] * z
            return cells

    fitted = Growing()
    axes = isost.pl.morph(fitted, n_frames=3, rng=0)
    assert [ax.get_title() for ax in axes] == ["measured\n10", "40", "measured\n70"]
    for ax, (z, seed) in zip(axes, fitted.asked, strict=True):
        np.testing.assert_array_equal(positions(ax), Sliding().section(z, rng=seed).obsm["spatial"][:, :2] * z)
