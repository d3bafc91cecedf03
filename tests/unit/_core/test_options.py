from __future__ import annotations

import pytest

from isost._core.options import PRESETS, FitOptions, resolve

DEFAULTS = {
    "epochs": 7, "learning_rate": 0.5, "dz": 0.2, "sigma_xy": None, "sigma_z": 0.3, "sigma_g": 0.4, "alpha": 2.0,
    "beta": 3.0, "gamma": 0.2, "max_cells": 9,
}  # fmt: skip

# The paper's table, the lower end where it gives a range:
# sigma_xy, sigma_z, sigma_g, dz, alpha, epochs per phase
TABLE = {
    "mouse_brain_merfish": (0.01, 0.1, 0.1, 0.01, 0.1, 100),
    "mouse_kidney_arrayseq": (0.01, 0.14, 0.1, 0.1, 1, 100),
    "human_embryo_cs7": (0.014, 0.1, 0.1, 0.1, 1, 100),
    "spinal_cord_visium": (0.01, 0.1, 0.1, 0.01, 0.02, 100),
    "mouse_embryo_time": (0.014, 0.1, 0.1, 0.1, 0.1, 2000),
}


@pytest.mark.parametrize("name", TABLE)
def test_presets_are_the_rows_of_the_table(name: str) -> None:
    settings = resolve(FitOptions(), name, DEFAULTS)
    asked = ("sigma_xy", "sigma_z", "sigma_g", "dz", "alpha", "epochs")
    assert tuple(settings[key] for key in asked) == TABLE[name]
    assert settings["learning_rate"] == 0.001  # the published code's
    # what neither says is the objective's
    assert settings["max_cells"] == 9


def test_there_are_no_other_presets() -> None:
    assert set(PRESETS) == set(TABLE)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="mouse_brain_merfish.*found 'mouse_brain'"):
        resolve(FitOptions(), "mouse_brain", DEFAULTS)


def test_what_is_asked_for_goes_before_preset_and_default() -> None:
    options = FitOptions(epochs=3, sigma_z=0.0, learning_rate=0.1)
    settings = resolve(options, "human_embryo_cs7", DEFAULTS)
    assert (settings["epochs"], settings["sigma_z"], settings["learning_rate"]) == (3, 0.0, 0.1)
    assert settings["sigma_xy"] == 0.014
    settings = resolve(options, None, DEFAULTS)
    assert (settings["epochs"], settings["sigma_z"], settings["sigma_g"]) == (3, 0.0, 0.4)
    assert settings["sigma_xy"] is None  # left to the stack
    assert (settings["width"], settings["n_neighbours"]) == (64, 5)


def test_every_impossible_option_is_named_at_once() -> None:
    options = FitOptions(
        epochs=0, learning_rate=-1.0, dz=float("nan"), sigma_xy=-0.1, sigma_g=float("inf"), alpha=-2, width=1.5,
        n_neighbours=True, unet_depth="two", n_candidates=-3, feature_weight=-1.0, max_cells=0,
    )  # type: ignore[arg-type]  # fmt: skip
    with pytest.raises(ValueError) as caught:
        options.check()
    lines = str(caught.value).splitlines()
    assert "other values" in lines[0]
    assert {line.split(":")[0] for line in lines[1:]} == {
        "epochs", "learning_rate", "dz", "sigma_xy", "sigma_g", "alpha", "width", "n_neighbours", "unet_depth",
        "n_candidates", "feature_weight", "max_cells",
    }  # fmt: skip
    assert "epochs: expected above 0, found 0" in lines
    assert "width: expected a whole number, found 1.5" in lines
    assert "sigma_xy: expected at least 0, found -0.1" in lines


def test_no_noise_and_no_weight_are_possible() -> None:
    FitOptions(
        sigma_xy=0, sigma_z=0.0, sigma_g=0, alpha=0, beta=0, gamma=0, feature_weight=0, learning_rate=1, epochs=1
    ).check()
